//! Where in the log a stream begins, and what answers its cursor.

use std::sync::Arc;

use petasos_protocol::request::Cursor;
use tokio::time::{Instant, sleep};

use crate::{
    TransportError,
    fanout::shard::Shard,
    log::transport::{Position, Trimmed},
    metrics::outcome::ReplayOutcome,
    node::Node,
    stream::{
        carrier::Carrier,
        history::{History, PAGE_ENTRIES, UNAVAILABLE_PAUSE},
    },
};

/// Where in the log a stream begins.
pub(crate) struct Beginning {
    pub(crate) history: History,
    /// What the log has trimmed, as far as that matters for this stream.
    pub(crate) trimmed: Trimmed,
    /// The id before the first event of the stream, or `earliest` (section "Reconciliation").
    pub(crate) cursor: Box<str>,
    /// What the stream gets of the history that it asked for. `None`: it did not ask.
    pub(crate) replay: Option<ReplayOutcome>,
}

impl Beginning {
    /// At the end of the log; while the log is unavailable, at the last entry that this node has delivered. It reads
    /// nothing. `receives_events`: whether the subscriber may receive subscription events.
    pub(crate) async fn at_end(node: &Node, receives_events: bool) -> Result<Self, TransportError> {
        let head = node.head().await?;
        let cursor = node.delivered().cursor(&head, receives_events).into();
        Ok(Self::caught_up(head.position, cursor))
    }

    fn caught_up(position: Position, cursor: Box<str>) -> Self {
        let trimmed = Trimmed { updates: position, events: position };
        Self { history: History::at_end(position), trimmed, cursor, replay: None }
    }

    /// After the cursor. What follows `recent` is in the ring of the shard: many subscribers that come back together after
    /// a moment read nothing of the log, which may be a store elsewhere.
    ///
    /// It waits for an unavailable log, as long as the settings say: a browser that is refused once never comes back.
    ///
    /// `reaches`: the stream has everything that the log holds now before it is live, so a ring that ends before is not enough.
    pub(crate) async fn find(
        node: &Node,
        cursor: &Cursor,
        receives_events: bool,
        reaches: bool,
        shard: &Shard<Carrier>,
    ) -> Result<Self, TransportError> {
        let deadline = Instant::now() + node.settings.log_wait_max;
        loop {
            match Self::look(node, cursor, receives_events, reaches, shard).await {
                Err(TransportError::Unavailable(_))
                    if Instant::now() + UNAVAILABLE_PAUSE <= deadline && node.health.is_alive() =>
                {
                    sleep(UNAVAILABLE_PAUSE).await;
                }
                found => return found,
            }
        }
    }

    async fn look(
        node: &Node,
        cursor: &Cursor,
        receives_events: bool,
        reaches: bool,
        shard: &Shard<Carrier>,
    ) -> Result<Self, TransportError> {
        let end = if reaches { node.transport.head().await?.position } else { Position::EARLIEST };
        let located = match cursor {
            Cursor::Blank => return Self::at_end(node, receives_events).await,
            Cursor::Earliest => None,
            Cursor::After(id) => Self::newest(node, std::slice::from_ref(id)).await?,
            Cursor::AfterNewest(ids) => Self::newest(node, ids).await?,
        };
        if let Some((after, id)) = located
            && after >= shard.recent()
            && end <= shard.through().max(after)
        {
            let replay = Some(ReplayOutcome::Complete);
            return Ok(Self { replay, ..Self::caught_up(after, id.into()) });
        }
        let after = located.map_or(Position::EARLIEST, |(position, _)| position);
        let page = node.transport.read(after, PAGE_ENTRIES).await?;
        // What was trimmed after the cursor, also since it was located, makes it a cursor of the past.
        let (cursor, replay) = match located {
            Some((_, id)) if page.trimmed.updates <= after => (id, ReplayOutcome::Complete),
            Some(_) => (Cursor::EARLIEST, ReplayOutcome::Gap),
            // It gets all that it asked for.
            None if *cursor == Cursor::Earliest => (Cursor::EARLIEST, ReplayOutcome::Complete),
            None => (Cursor::EARLIEST, ReplayOutcome::UnknownId),
        };
        Ok(Self {
            trimmed: page.trimmed,
            cursor: cursor.into(),
            history: History::from_page(page),
            replay: Some(replay),
        })
    }

    /// The newest event among these ids that the log still holds. Costs one lookup for each id; `Limits::cursors_max`
    /// bounds them.
    async fn newest<'a>(
        node: &Node,
        ids: &'a [Arc<str>],
    ) -> Result<Option<(Position, &'a str)>, TransportError> {
        let mut newest = None;
        for id in ids {
            let located = node.transport.locate(id).await?;
            newest = newest.max(located.map(|position| (position, &**id)));
        }
        Ok(newest)
    }
}
