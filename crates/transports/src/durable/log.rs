//! Reading the log: its newest entries from memory, older ones from the database. Everything here is published by the
//! writer when it is on disk.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use petasos_hub::{
    TransportError,
    metrics::{ENTRIES, Histogram},
    transport::{Entry, Extent, Head, Page, Position, Trimmed},
};
use petasos_protocol::{event::EventId, update::Origin};
use rusqlite::Connection;
use tokio::sync::Notify;

use super::{
    failure::Failure,
    readers::Readers,
    records::{Buckets, Found, PAGE_BYTES, Records, Span},
    settings::Users,
};
use crate::shared::{
    capacity::Capacity,
    health::Health,
    pace::{MARGIN_ENTRIES, Pace, Seat},
};

/// What reads the log, as all its parts share it.
pub(super) struct Log {
    published: Mutex<Published>,
    /// Wakes followers.
    pub(super) appended: Notify,
    pub(super) pace: Arc<Pace>,
    pub(super) readers: Readers,
    pub(super) records: Arc<Records>,
    /// Whether the disk answers in time.
    pub(super) health: Health,
    /// Whether the disk has room.
    pub(super) capacity: Capacity,
    /// The entries of each commit.
    pub(super) batches: Histogram,
    /// Why the log takes nothing any more.
    failed: OnceLock<(Arc<str>, Remedy)>,
    /// Notified when `failed` is set.
    failing: Notify,
    pub(super) users: Users,
}

/// What lets a log that has failed take updates again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// A restart, as soon as the disk works: all that was acknowledged is in the files.
    Restart,
    /// An operator. A restart would meet the same damage again, or lose what only this process has open.
    Operator,
}

/// All of it is on disk.
pub(super) struct Published {
    pub(super) head: u64,
    pub(super) head_id: Option<EventId>,
    /// What readers do not see any more, by origin. Published before the rows are deleted.
    pub(super) trimmed: [u64; 2],
    /// The same by the book in the file: rows before it may be deleted. One that was deleted while the book still counts
    /// it would be taken for damage after a crash, and other rows would be trimmed in its place.
    pub(super) stored: [u64; 2],
    /// Up to where rows may have been deleted, by origin.
    pub(super) deleted: [u64; 2],
    /// The bytes of a kept entry, about.
    pub(super) entry_bytes: u64,
    pub(super) buckets: [Buckets; 2],
    /// When the oldest update gets too old, in milliseconds since 1970.
    pub(super) expires: Option<i64>,
    /// What there is of publishers' updates.
    pub(super) extent: Extent,
    recent: Recent,
    is_closed: bool,
}

/// The newest entries, for followers and for readers near the end.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// A follower may lag by 1,024 entries before publishers wait for it, and a burst of publishers comes on top. A follower that
/// lags further reads the database.
const RECENT_ENTRIES_MAX: usize = 2_048;
const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a host's log keeps beyond its history for followers that lag, in bytes.
const MARGIN_BYTES: u64 = 16 * 1024 * 1024;

impl Log {
    /// `shown` names the log in log lines.
    pub(super) fn new(
        shown: &str,
        readers: Readers,
        records: Arc<Records>,
        published: Published,
        users: Users,
    ) -> Self {
        Self {
            health: Health::new(shown),
            capacity: Capacity::new(shown),
            batches: Histogram::new(&ENTRIES),
            failed: OnceLock::new(),
            failing: Notify::new(),
            users,
            published: Mutex::new(published),
            appended: Notify::new(),
            pace: Arc::default(),
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
        match self.failure() {
            Some(reason) => Err(TransportError::Failed((&**reason).into())),
            None => self.is_open(),
        }
    }

    /// Whether there is still something to read from.
    pub(super) fn is_open(&self) -> Result<(), TransportError> {
        if self.lock().is_closed { Err(TransportError::Closed) } else { Ok(()) }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.takes_appends().is_ok() && self.health.is_available() && self.capacity.has_room()
    }

    /// Why the log takes nothing any more, if that is so.
    pub(super) fn failure(&self) -> Option<&Arc<str>> {
        self.failed.get().map(|(reason, _)| reason)
    }

    /// Whether the log takes nothing any more, and a restart mends that.
    pub(super) fn needs_restart(&self) -> bool {
        self.failed.get().is_some_and(|(_, remedy)| *remedy == Remedy::Restart)
    }

    /// The disk has taken a commit, or would take one.
    pub(super) fn take_appends(&self) {
        self.capacity.took();
        self.health.set_available();
    }

    /// From now on the log takes nothing: what the disk holds is no longer known.
    pub(super) fn fail(&self, reason: &str, remedy: Remedy) {
        if self.failed.set((reason.into(), remedy)).is_ok() {
            match self.users {
                Users::Process => tracing::error!(
                    reason,
                    "the log has failed and takes no more updates: see to the disk, then start the hub again"
                ),
                Users::Host => tracing::warn!(reason, "this process leads the host's log no more"),
            }
            self.failing.notify_waiters();
        }
    }

    /// Waits until the log takes nothing any more.
    #[cfg(feature = "host")]
    pub(super) async fn until_failed(&self) {
        let failing = self.failing.notified();
        tokio::pin!(failing);
        failing.as_mut().enable();
        if self.failure().is_none() {
            failing.await;
        }
    }

    /// Keeps what a fault of the writer leaves behind. `remedy`: that of a fatal one.
    pub(super) fn suffer(&self, fault: &Failure, remedy: Remedy) {
        match fault {
            Failure::Full(reason) => self.capacity.refused(0, reason),
            Failure::Passing(_) => {}
            Failure::Damaged(reason) | Failure::Index(reason) => self.fail(reason, Remedy::Operator),
            Failure::Fatal(reason) => self.fail(reason, remedy),
        }
    }

    /// Nothing follows any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.appended.notify_waiters();
    }

    /// The position of the newest entry.
    pub(super) fn end(&self) -> Position {
        self.records.position(self.lock().head)
    }

    pub(super) fn head(&self) -> Head {
        let published = self.lock();
        Head { position: self.records.position(published.head), id: published.head_id.clone() }
    }

    /// The position of the earliest kept update with that id.
    pub(super) async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let (trimmed, buckets) = {
            let published = self.lock();
            (published.trimmed, published.buckets)
        };
        let (records, id) = (Arc::clone(&self.records), id.to_owned());
        let read = move |connection: &Connection| records.locate(connection, &id, trimmed, buckets);
        let found = self.readers.run(read).await?;
        Ok(found.map(|sequence| self.records.position(sequence)))
    }

    /// At most `limit` entries after `after`, in order.
    pub(super) async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.is_open()?;
        let after = self.records.sequence(after);
        let is_kept = |entry: &Entry, trimmed: &[u64; 2]| {
            entry.position.sequence > trimmed[index(entry.update.origin())]
        };
        let (head, trimmed, recent) = {
            let published = self.lock();
            let trimmed = published.trimmed;
            let recent = published.recent(after, limit, |entry| is_kept(entry, &trimmed));
            (published.head, trimmed, recent)
        };
        let found = match recent {
            Some(found) => found,
            None => {
                let after = trimmed.map(|trimmed| trimmed.max(after));
                let dense_after = after[0].max(after[1]);
                let span = Span { after, dense_after, through: head, entries: limit };
                self.read_rows(span).await?
            }
        };
        // What has been trimmed meanwhile may be missing, so it is left out and said to be.
        let trimmed = self.trimmed();
        let bounds = [trimmed.updates.sequence, trimmed.events.sequence];
        let through = self.records.position(found.through.max(after));
        let entries = found.entries.into_iter().filter(|entry| is_kept(entry, &bounds)).collect();
        Ok(Page { entries, through, at_end: found.through >= head, trimmed })
    }

    /// Whether updates have become too old since the writer trimmed last.
    pub(super) fn has_old(&self) -> bool {
        self.lock().expires.is_some_and(|expires| now() >= expires)
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
        let follows_former_log = after.epoch != self.records.epoch && after != Position::EARLIEST;
        if follows_former_log || sequence < published.trimmed[0] {
            return Err(TransportError::Trimmed);
        }
        Ok((sequence, self.pace.enter(self.records.position(sequence))))
    }

    /// The place of a follower that has followed before, up to a position: it has missed only what is no longer there.
    #[cfg(feature = "host")]
    pub(super) fn enter_again(&self, after: Position) -> Result<(u64, Seat), TransportError> {
        let sequence = self.records.sequence(after);
        let published = self.lock();
        let follows_former_log = after.epoch != self.records.epoch;
        if follows_former_log || sequence > published.head || published.has_lost(sequence, sequence) {
            return Err(TransportError::Trimmed);
        }
        Ok((sequence, self.pace.enter(self.records.position(sequence))))
    }

    /// Up to where rows may be deleted now: what is trimmed and no follower is still to see. Nobody can begin to follow
    /// before that.
    pub(super) fn deletable(&self) -> [u64; 2] {
        let published = self.lock();
        let mut seen = self.pace.slowest().map_or(u64::MAX, |slowest| slowest.sequence);
        if self.users == Users::Host {
            let margin = (MARGIN_ENTRIES as u64).min(MARGIN_BYTES / published.entry_bytes.max(1));
            // Where there is no room, followers that lag have none either.
            let margin = if self.capacity.has_room() { margin } else { 0 };
            seen = seen.max(published.head.saturating_sub(margin));
        }
        published.stored.map(|trimmed| trimmed.min(seen))
    }

    /// The entries of a span from the database, and what has vanished from it.
    pub(super) async fn read_rows(&self, span: Span) -> Result<Found, TransportError> {
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
        (stored, deleted): ([u64; 2], [u64; 2]),
        head_id: Option<EventId>,
        (expires, oldest): (Option<i64>, Option<i64>),
    ) -> Self {
        Self {
            stored,
            deleted,
            entry_bytes: book.entry_bytes(),
            head: book.head,
            head_id,
            trimmed: book.trimmed(),
            buckets: book.buckets(),
            expires,
            extent: book.extent(oldest),
            recent: Recent::default(),
            is_closed: false,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether entries after the sequence may be gone. `forgiven`: up to where subscription events were gone when the
    /// follower began, which it has not missed.
    pub(super) fn has_lost(&self, after: u64, forgiven: u64) -> bool {
        let [updates, events] = self.deleted;
        after < updates || events > forgiven && after < events
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
