//! The contract between the engine and a log: five methods that a transport has to have. A transport passes every check
//! of `petasos_hub::conformance`, which the feature `conformance` adds.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use petasos_protocol::{event::EventId, update::Update};

use crate::{
    TransportError,
    log::{documents::Documents, registry::Registry},
    metrics::histogram::Distribution,
};

/// A position in the log. Positions are ordered; only the transport that gave one knows more of it.
///
/// The epoch grows when a log is lost and begins again, so that no position of the old log is mistaken for one of the new.
/// A log that can be lost while the hub runs counts everything before its epoch as trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which log.
    pub epoch: u64,
    /// Where in it; grows with every entry, not always by one.
    pub sequence: u64,
}

impl Position {
    /// Before everything that any log holds.
    pub const EARLIEST: Self = Self { epoch: 0, sequence: 0 };
}

/// An update at its position.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its position in the log.
    pub position: Position,
    /// The update, shared by history, the ring of every shard and all queues.
    pub update: Arc<Update>,
    /// Since when this process has the entry: since it was appended to a log in memory, or came from a store.
    pub accepted: Instant,
}

impl Entry {
    /// An entry that this process has since now.
    pub fn now(position: Position, update: Arc<Update>) -> Self {
        Self { position, update, accepted: Instant::now() }
    }
}

/// What a log holds of publishers' updates, as far as it can tell; subscription events may count, too, where a store does not
/// tell them apart.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Extent {
    /// How many.
    pub updates: Option<u64>,
    /// Their bytes, as the log keeps them.
    pub bytes: Option<u64>,
    /// When the oldest one was appended.
    pub oldest: Option<SystemTime>,
}

/// The end of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The position of the last entry; of an empty log, a position before the first one to come.
    pub position: Position,
    /// The last entry's id; `None` when nothing has been appended yet.
    pub id: Option<EventId>,
}

/// A stretch of the log.
#[derive(Debug)]
pub struct Page {
    /// In order; empty at the end of the log.
    pub entries: Vec<Entry>,
    /// Everything kept after the position that was asked for, up to and including this one, is in the page: the last
    /// entry's position, or the head when the page reached the end.
    pub through: Position,
    /// Whether the page reached the end of the log, as it was then.
    pub at_end: bool,
    /// What the log no longer holds, as of this page.
    pub trimmed: Trimmed,
}

/// The newest entries that a log has trimmed, by origin. A transport that cannot tell the two apart gives the same
/// position twice. [`Position::EARLIEST`]: nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// Of publishers' updates.
    pub updates: Position,
    /// Of subscription events.
    pub events: Position,
}

/// Subscription events that are kept at least, when anything is. A subscriber's cursor is often one.
pub const HUB_EVENTS_MIN: usize = 1_024;

/// How many subscription events a log keeps that keeps so many updates.
pub fn events_max(updates_max: usize) -> usize {
    if updates_max == 0 { 0 } else { updates_max.max(HUB_EVENTS_MIN) }
}

/// An ordered log of updates.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// The end of the log as it is now: everything whose append has returned lies at or before it.
    async fn head(&self) -> Result<Head, TransportError>;

    /// Adds an update after all others. Returns when it is as durable as this transport promises. Waits while followers
    /// are too far behind. A dropped future adds the update whole or not at all.
    ///
    /// A publisher that gets an error may publish the same update again. So one rule holds in every transport: **an
    /// update that still waits in this process when its publisher gets an error, or when its future is dropped, is never
    /// added later**, however long the store takes to come back. Only an update that had left for the store may still be
    /// added. A transport sends nothing to a store that is known not to answer.
    ///
    /// # Errors
    /// - [`TransportError::Full`]: it was not added. The store refused it for want of room, or it is too large.
    /// - [`TransportError::Closed`]: it was not added.
    /// - [`TransportError::Unavailable`]: it was not added if it still waited in this process; otherwise it may or may not
    ///   have been added.
    /// - [`TransportError::Failed`]: the log takes nothing any more. An update that was being written just then may or may
    ///   not be there when the log is opened again; later ones were not added.
    async fn append(&self, update: Update) -> Result<Position, TransportError>;

    /// Adds updates in their order, each as with [`Transport::append`]; others may come between them. A transport that can
    /// adds them together, so that its followers wake once. At the first error the updates before it have been added, and
    /// those behind it have not. A dropped future adds a first part of them.
    ///
    /// # Errors
    /// Those of [`Transport::append`], which then hold for the first update that was not added.
    async fn append_all(&self, updates: Vec<Update>) -> Result<(), TransportError> {
        for update in updates {
            self.append(update).await?;
        }
        Ok(())
    }

    /// The position of the earliest kept update with that id. It costs a lookup in an index, never a scan.
    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError>;

    /// At most `limit` entries after `after`, in order; at least one if there is any. A transport may stop a page
    /// early to bound its bytes. A position of another epoch counts as before everything.
    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError>;

    /// A stream of everything after `after`, in the order of [`Transport::read`], live once it has caught up.
    ///
    /// # Errors
    /// [`TransportError::Trimmed`] if updates after `after` are no longer kept.
    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError>;

    /// Whether it takes appends, as far as it knows without asking its backend: false while the backend does not
    /// answer, and while the backend refuses appends because it is full. A transport that is not ready checks by
    /// itself, every few seconds, whether it is ready again, because no publisher is sent to a node that is not ready.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether it can be read, as far as it knows without asking its backend. A full log can be read.
    fn is_readable(&self) -> bool {
        self.is_ready()
    }

    /// Whether it takes no appends until it is opened anew in another process, and nothing that it has taken is lost by that.
    /// Then `/healthz` asks for a restart. False for a failure that ends by itself, for one that a restart does not mend, and for
    /// one where the end of the process would lose what an operator can still save.
    fn needs_restart(&self) -> bool {
        false
    }

    /// What it holds, as far as that is cheap to tell: for metrics, some times a minute.
    ///
    /// # Errors
    /// If its backend does not answer.
    async fn extent(&self) -> Result<Extent, TransportError> {
        Ok(Extent::default())
    }

    /// How many entries were written to its backend together. `None`: it knows no batches.
    fn batches(&self) -> Option<Distribution> {
        None
    }

    /// Whether the log is still there when this process has ended, so that an update that was appended is not lost with
    /// this node's streams.
    fn outlives_process(&self) -> bool {
        self.registry().is_some()
    }

    /// Who is subscribed on all nodes that share the log, and on those that did before it was closed. `None`: the log is
    /// this process's alone and ends with it.
    fn registry(&self) -> Option<&dyn Registry> {
        None
    }

    /// Small documents that all nodes of the log share; they can be asked for as long as this value lives. `None`: the log is of one
    /// host alone.
    fn documents(&self) -> Option<Arc<dyn Documents>> {
        None
    }
}

/// One reader that sees every entry exactly once. Dropping it frees whatever waits for it.
#[async_trait]
pub trait Follower: Send {
    /// The next entries, at least one: waits for them. Cancel-safe: entries of a dropped future come again.
    ///
    /// # Errors
    /// Reconnecting happens inside; an error is final for this follower. [`TransportError::Trimmed`]: the log was lost, or
    /// has trimmed entries that were still to come; it can be followed again from its head.
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError>;
}
