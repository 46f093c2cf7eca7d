//! Reading the log: two streams, which are merged into one order.

use std::sync::Arc;

use ::redis::Value;
use petasos_hub::{
    TransportError,
    transport::{Entry, Extent, Head, Page, Position},
};

use super::{
    failure::Failure,
    link::Link,
    script::{Answer, EXTENT, HEAD, LOCATE, NONE, READ, State, number, unexpected},
};
use crate::shared::decoder::Decoder;

/// What reads the log.
pub(super) struct Log {
    pub(super) link: Arc<Link>,
    pub(super) decoder: Arc<Decoder>,
}

/// What one call has found.
pub(super) struct Found {
    pub(super) state: State,
    /// Without those whose records are damaged.
    pub(super) entries: Vec<Entry>,
    /// All entries up to this position have been found.
    pub(super) through: Position,
    pub(super) at_end: bool,
}

/// The bytes of one page or batch, so that a task which holds one pins little.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

impl Log {
    pub(super) async fn head(&self) -> Result<Head, TransportError> {
        Ok(self.link.call(&HEAD, NONE).await?.state.head())
    }

    /// Redis says neither bytes nor times without a search.
    pub(super) async fn extent(&self) -> Result<Extent, TransportError> {
        let updates = self.link.call(&EXTENT, NONE).await?.next_number()?;
        Ok(Extent { updates, ..Extent::default() })
    }

    pub(super) async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let mut answer = self.link.call(&LOCATE, id).await?;
        let sequence = answer.next_number()?;
        Ok(sequence.map(|sequence| answer.state.at(sequence)))
    }

    pub(super) async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let mut from = after;
        loop {
            let arguments = (from.epoch, from.sequence, limit, PAGE_BYTES, "history");
            let answer = self.link.call(&READ, arguments).await?;
            let found = self.found(answer, from, limit)?;
            // A page of nothing but damaged records is not the end.
            if found.entries.is_empty() && !found.at_end && limit > 0 {
                from = found.through;
                continue;
            }
            let (entries, through, at_end) = (found.entries, found.through, found.at_end);
            return Ok(Page { entries, through, at_end, trimmed: found.state.trimmed });
        }
    }

    /// What `read.lua` has found after a position, at most `limit` entries.
    pub(super) fn found(&self, mut answer: Answer, after: Position, limit: usize) -> Result<Found, Failure> {
        let mut merged = Vec::new();
        let mut known_until = u64::MAX;
        for _ in 0..2 {
            let records = answer.next_pairs()?;
            let is_all = answer.next_flag()?;
            let records = records.into_iter().map(|(sequence, record)| match record {
                Value::BulkString(record) => Ok((number(&sequence).ok_or_else(unexpected)?, record)),
                _ => Err(unexpected()),
            });
            let records = records.collect::<Result<Vec<_>, _>>()?;
            if !is_all {
                // What follows in this stream may come before what has been found in the other.
                known_until = known_until.min(records.last().map_or(0, |(sequence, _)| *sequence));
            }
            merged.extend(records);
        }
        let found = merged.len();
        merged.retain(|(sequence, _)| *sequence <= known_until);
        merged.sort_unstable_by_key(|(sequence, _)| *sequence);
        merged.truncate(limit);
        let state = answer.state;
        let at_end = known_until == u64::MAX && merged.len() == found;
        let through = match merged.last() {
            _ if at_end => state.position,
            Some((sequence, _)) => state.at(*sequence),
            None => after,
        };
        let entries = merged.iter();
        let entries =
            entries.filter_map(|(sequence, record)| self.decoder.entry(state.at(*sequence), record));
        Ok(Found { entries: entries.collect(), state, through, at_end })
    }
}
