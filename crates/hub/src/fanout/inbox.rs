//! What is handed in to a shard, and how far the shard has come.

use std::{sync::Arc, time::Duration};

use super::drain::DrainOrder;
use crate::{
    Closed,
    admission::Accepted,
    log::transport::{Entry, Position},
};

/// What the tail gives to every shard, in order.
pub(crate) enum Batch {
    Entries(Arc<[Entry]>),
    /// The log was lost, or a part of it: all streams end, and what follows comes after this position.
    Restart(Position),
}

/// What streams and the hub ask of a shard.
pub(crate) enum Command<S> {
    /// Feed a stream from the position on.
    Attach { sink: S, after: Position },
    /// Close members one after the other.
    Drain(DrainOrder),
    /// End the streams that are not accepted any more, evenly over that time. `None`: all are accepted.
    Revoke { accepted: Option<Accepted>, within: Duration },
    /// End all streams, and the shard.
    Close(Closed),
}

/// How far a shard has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything after it is in the ring.
    pub(crate) recent: Position,
    /// What has been handed out.
    pub(crate) through: Position,
}

impl Progress {
    /// Whether all but the last `ahead` entries before the position have been handed out.
    pub(crate) fn is_near(&self, position: Position, ahead: u64) -> bool {
        let through = self.through;
        through.epoch != position.epoch || position.sequence <= through.sequence.saturating_add(ahead)
    }
}

/// Batches that may wait for a shard. Beyond it the tail waits, and so do the appenders. The log itself makes larger
/// batches of the entries that wait there.
pub(crate) const INBOX_BATCHES: usize = 2;

/// Commands that may wait for a shard. Beyond it new streams wait.
pub(crate) const INBOX_COMMANDS: usize = 256;
