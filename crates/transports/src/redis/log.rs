//! Entries as the server gives them: two streams, merged into one order.

use std::sync::Arc;

use ::redis::Value;
use petasos_hub::transport::{Entry, Position};
use petasos_protocol::topic::HubUrl;

use super::{
    failure::Failure,
    script::{Answer, State, number, unexpected},
};
use crate::{codec, shared::reported::Reported};

/// Makes entries of records.
pub(super) struct Reader {
    hub: HubUrl,
    /// Places of damaged records.
    damaged: Reported<Position>,
}

/// What one call has found.
pub(super) struct Found {
    pub(super) state: State,
    /// Without those whose records are damaged.
    pub(super) entries: Vec<Entry>,
    /// Everything up to this one has been found.
    pub(super) through: Position,
    pub(super) at_end: bool,
}

impl Reader {
    pub(super) fn new(hub: HubUrl) -> Arc<Self> {
        Arc::new(Self { hub, damaged: Reported::default() })
    }

    /// What `read.lua` has found after a place, at most `limit` entries.
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
        let entries = merged.iter().filter_map(|(sequence, record)| self.entry(state.at(*sequence), record));
        Ok(Found { entries: entries.collect(), state, through, at_end })
    }

    fn entry(&self, position: Position, record: &[u8]) -> Option<Entry> {
        match codec::decode(record, &self.hub) {
            Ok(update) => Some(Entry { position, update: Arc::new(update) }),
            Err(damage) => {
                if self.damaged.is_news(position) {
                    tracing::error!(?position, reason = %damage, "a record in Redis cannot be read: it is left out");
                }
                None
            }
        }
    }
}
