//! Where in the log a stream begins, and what answers its cursor.

use std::sync::Arc;

use petasos_protocol::{event::EventId, request::Cursor};
use tokio::time::{Instant, sleep};

use crate::{
    TransportError,
    log::transport::{Head, Position, Trimmed},
    node::Node,
    stream::history::{History, PAGE_ENTRIES, UNAVAILABLE_PAUSE},
};

/// Where in the log a stream begins.
pub(crate) struct Beginning {
    pub(crate) history: History,
    /// What the log has trimmed, as far as that matters for this stream.
    pub(crate) trimmed: Trimmed,
    /// The answer to the cursor (section "Reconciliation").
    pub(crate) answer: Box<str>,
}

impl Beginning {
    /// At the end of the log; while the log is unavailable, at the last entry that this node has delivered. It reads
    /// nothing.
    pub(crate) async fn at_end(node: &Node) -> Result<Self, TransportError> {
        let Head { position, id } = node.head().await?;
        let answer = id.as_ref().map_or(Cursor::EARLIEST, EventId::as_str).into();
        Ok(Self::caught_up(position, answer))
    }

    fn caught_up(position: Position, answer: Box<str>) -> Self {
        let trimmed = Trimmed { updates: position, events: position };
        Self { history: History::at_end(position), trimmed, answer }
    }

    /// After the cursor. What follows `recent` is in the ring of the shard: many subscribers that come back together after
    /// a moment read nothing of the log, which may be a store elsewhere.
    ///
    /// It waits for an unavailable log, as long as the settings say: a browser that is refused once never comes back.
    pub(crate) async fn find(
        node: &Node,
        cursor: &Cursor,
        recent: impl Fn() -> Position,
    ) -> Result<Self, TransportError> {
        let deadline = Instant::now() + node.settings.log_wait_max;
        loop {
            match Self::look(node, cursor, recent()).await {
                Err(TransportError::Unavailable(_))
                    if Instant::now() + UNAVAILABLE_PAUSE <= deadline && node.health.is_alive() =>
                {
                    sleep(UNAVAILABLE_PAUSE).await;
                }
                found => return found,
            }
        }
    }

    async fn look(node: &Node, cursor: &Cursor, recent: Position) -> Result<Self, TransportError> {
        let located = match cursor {
            Cursor::Blank => return Self::at_end(node).await,
            Cursor::Earliest => None,
            Cursor::After(id) => Self::newest(node, std::slice::from_ref(id)).await?,
            Cursor::AfterNewest(ids) => Self::newest(node, ids).await?,
        };
        if let Some((after, id)) = located
            && after >= recent
        {
            return Ok(Self::caught_up(after, id.into()));
        }
        let after = located.map_or(Position::EARLIEST, |(position, _)| position);
        let page = node.transport.read(after, PAGE_ENTRIES).await?;
        // What was trimmed after the cursor, also since it was located, makes it a cursor of the past.
        let answer = match located {
            Some((_, id)) if page.trimmed.updates <= after => id,
            _ => Cursor::EARLIEST,
        };
        Ok(Self { trimmed: page.trimmed, answer: answer.into(), history: History::from_page(page) })
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
