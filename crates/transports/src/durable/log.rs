//! What the writer has published and everybody else reads: how far the log has come, its newest entries, its health.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use petasos_hub::{
    TransportError,
    transport::{Entry, Head, Position, Trimmed},
};
use petasos_protocol::update::{EventId, Origin};
use tokio::sync::Notify;

use super::{
    link::Fault,
    readers::Readers,
    records::{Buckets, Found, PAGE_BYTES, Records, Span},
};
use crate::shared::pace::{Seat, Window};

/// One log, as all parts of it share it.
pub(super) struct Shared {
    published: Mutex<Published>,
    /// Wakes followers.
    pub(super) appended: Notify,
    pub(super) window: Arc<Window>,
    pub(super) readers: Readers,
    pub(super) records: Arc<Records>,
}

/// All of it is on disk.
pub(super) struct Published {
    pub(super) head: u64,
    pub(super) head_id: Option<EventId>,
    /// What readers do not see any more, by origin. Published before the rows are deleted.
    pub(super) trimmed: [u64; 2],
    /// The same by the book in the file: rows before it may be deleted. One that was deleted while the book still counts
    /// it would be taken for damage after a crash, and others would be let go of in its place.
    pub(super) stored: [u64; 2],
    pub(super) buckets: [Buckets; 2],
    /// When the oldest update gets too old, in milliseconds since 1970.
    pub(super) expires: Option<i64>,
    recent: Recent,
    health: Health,
    is_closed: bool,
}

/// The newest entries, for followers and for readers who are nearly there.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// A follower may be a window behind, and a burst of publishers beyond that; what is further behind reads the database.
const RECENT_ENTRIES_MAX: usize = 2_048;
const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether appends can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    Good,
    /// The disk has no room.
    Full,
    /// The disk does not answer in time.
    Stalled,
    /// What the disk holds is no longer known: final.
    Failed(Arc<str>),
}

impl Shared {
    pub(super) fn new(readers: Readers, records: Arc<Records>, published: Published) -> Self {
        Self {
            published: Mutex::new(published),
            appended: Notify::new(),
            window: Arc::default(),
            readers,
            records,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Published> {
        // Nothing under the lock panics half-way through a change.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an append has a chance.
    pub(super) fn takes_appends(&self) -> Result<(), TransportError> {
        let published = self.lock();
        match &published.health {
            Health::Failed(reason) => Err(TransportError::Failed((&**reason).into())),
            _ if published.is_closed => Err(TransportError::Closed),
            _ => Ok(()),
        }
    }

    /// Whether there is still something to read from.
    pub(super) fn is_open(&self) -> Result<(), TransportError> {
        if self.lock().is_closed { Err(TransportError::Closed) } else { Ok(()) }
    }

    pub(super) fn is_ready(&self) -> bool {
        let published = self.lock();
        !published.is_closed && published.health == Health::Good
    }

    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// Keeps how it is, and tells the operator when that has changed.
    pub(super) fn set_health(&self, health: Health) {
        let mut published = self.lock();
        if published.health == health || matches!(published.health, Health::Failed(_)) {
            return;
        }
        published.health = health.clone();
        drop(published);
        match health {
            Health::Good => tracing::info!("the log takes updates again"),
            Health::Full => {
                tracing::warn!("the disk of the log is full: updates are refused until there is room")
            }
            Health::Stalled => {
                tracing::warn!("the disk of the log does not answer in time: updates are refused")
            }
            Health::Failed(reason) => tracing::error!(
                %reason,
                "the log has failed and takes no more updates: see to the disk, then start the hub again"
            ),
        }
    }

    /// Sets the health that a fault of the writer leaves behind.
    pub(super) fn suffer(&self, fault: &Fault) {
        match fault {
            Fault::Full(_) => self.set_health(Health::Full),
            Fault::Passing(_) => {}
            Fault::Damaged(reason) | Fault::Index(reason) | Fault::Fatal(reason) => {
                self.set_health(Health::Failed(Arc::clone(reason)))
            }
        }
    }

    /// Nothing follows any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.appended.notify_waiters();
    }

    pub(super) fn head(&self) -> Head {
        let published = self.lock();
        Head { position: self.records.position(published.head), id: published.head_id.clone() }
    }

    pub(super) fn trimmed(&self) -> Trimmed {
        let [updates, events] = self.lock().trimmed.map(|sequence| self.records.position(sequence));
        Trimmed { updates, events }
    }

    /// A follower's place, from which nothing is deleted any more.
    pub(super) fn enter(&self, after: Position) -> Result<(u64, Seat), TransportError> {
        let sequence = self.records.sequence(after);
        let published = self.lock();
        // A former log's updates are gone, even if this one's are all kept.
        let is_of_former = after.epoch != self.records.epoch && after != Position::EARLIEST;
        if is_of_former || sequence < published.trimmed[0] {
            return Err(TransportError::Trimmed);
        }
        Ok((sequence, self.window.enter(self.records.position(sequence))))
    }

    /// Up to where rows may be deleted now: what is trimmed and no follower is still to see. Nobody can begin to follow
    /// before that.
    pub(super) fn deletable(&self) -> [u64; 2] {
        let published = self.lock();
        let seen = self.window.slowest().map_or(u64::MAX, |slowest| slowest.sequence);
        published.stored.map(|trimmed| trimmed.min(seen))
    }

    /// The entries of a span from the database, and what has vanished from it.
    pub(super) async fn read_rows(self: &Arc<Self>, span: Span) -> Result<Found, TransportError> {
        let records = Arc::clone(&self.records);
        let found = self.readers.run(move |connection| records.page(connection, span)).await?;
        let [updates, events] = self.lock().trimmed;
        let after = span.dense_after.max(updates).max(events);
        if after < found.through {
            let present = found.entries.iter().map(|entry| entry.position.sequence);
            let present = present.filter(|sequence| *sequence > after);
            self.records.damage.report_missing((after, found.through), present);
        }
        Ok(found)
    }
}

impl Published {
    pub(super) fn new(
        book: &super::book::Book,
        stored: [u64; 2],
        head_id: Option<EventId>,
        expires: Option<i64>,
    ) -> Self {
        Self {
            stored,
            head: book.head,
            head_id,
            trimmed: book.trimmed(),
            buckets: book.buckets(),
            expires,
            recent: Recent::default(),
            health: Health::Good,
            is_closed: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Takes in what has just been committed.
    pub(super) fn extend(&mut self, entries: Vec<Entry>) {
        if let Some(last) = entries.last() {
            self.head = last.position.sequence;
            self.head_id = Some(last.update.id().clone());
        }
        for entry in entries {
            self.recent.bytes += entry.update.size();
            self.recent.entries.push_back(entry);
        }
        while self.recent.entries.len() > RECENT_ENTRIES_MAX || self.recent.bytes > RECENT_BYTES_MAX {
            let Some(oldest) = self.recent.entries.pop_front() else { break };
            self.recent.bytes -= oldest.update.size();
        }
    }

    /// What follows `after`, if all of it is in memory, as much as a page may have. `None`: it is not.
    pub(super) fn recent(
        &self,
        after: u64,
        limit: usize,
        is_wanted: impl Fn(&Entry) -> bool,
    ) -> Option<Found> {
        let entries = &self.recent.entries;
        let is_covered = after >= self.head
            || entries.front().is_some_and(|first| first.position.sequence <= after.saturating_add(1));
        if !is_covered {
            return None;
        }
        let start = entries.partition_point(|entry| entry.position.sequence <= after);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in entries.range(start..).filter(|entry| is_wanted(entry)) {
            if found.len() == limit || bytes >= PAGE_BYTES {
                let through = found.last().map_or(after, |last: &Entry| last.position.sequence);
                return Some(Found { entries: found, through });
            }
            bytes += entry.update.size();
            found.push(entry.clone());
        }
        Some(Found { entries: found, through: self.head.max(after) })
    }
}

/// Which of the two an origin is, where things are kept by origin.
pub(super) fn index(origin: Origin) -> usize {
    match origin {
        Origin::Publisher => 0,
        Origin::Hub => 1,
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
