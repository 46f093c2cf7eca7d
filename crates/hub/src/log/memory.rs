//! The log in memory: the last updates of this process, gone with it.
//!
//! It has three bounds. Publishers' updates and subscription events are bounded by number, each apart, so that many short
//! subscriptions never trim a message. Both are bounded by bytes. What a follower has not seen is kept for it, and an
//! append waits once the slowest follower is a window behind.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

use async_trait::async_trait;
use petasos_protocol::{
    event::EventId,
    update::{Origin, Update},
};
use slab::Slab;
use tokio::sync::Notify;

use crate::{
    TransportError,
    log::transport::{Entry, Extent, Follower, Head, Page, Position, Transport, Trimmed, events_max},
};

/// A log in memory. See the module.
pub struct MemoryTransport(Arc<Shared>);

struct Shared {
    log: Mutex<Log>,
    /// Wakes followers.
    appended: Notify,
    /// Wakes appenders that wait for a follower.
    followed: Notify,
}

struct Log {
    updates: Kept,
    events: Kept,
    /// The sequences of each kept id.
    by_id: HashMap<EventId, Places>,
    head: u64,
    head_id: Option<EventId>,
    followers: Slab<Progress>,
    closed: bool,
}

/// The entries of one origin, oldest first.
struct Kept {
    entries: VecDeque<Stored>,
    entries_max: usize,
    bytes: usize,
    /// The newest sequence that has been trimmed.
    trimmed: u64,
}

/// The sequences of the updates with one id. Nearly every id is used once, and there are as many ids as entries.
#[expect(clippy::box_collection, reason = "a rare case must not make the usual one larger")]
enum Places {
    Once(u64),
    /// Earliest first, at least one.
    Often(Box<VecDeque<u64>>),
}

impl Places {
    fn earliest(&self) -> Option<u64> {
        match self {
            Self::Once(sequence) => Some(*sequence),
            Self::Often(sequences) => sequences.front().copied(),
        }
    }

    fn add(&mut self, sequence: u64) {
        match self {
            Self::Once(first) => *self = Self::Often(Box::new(VecDeque::from([*first, sequence]))),
            Self::Often(sequences) => sequences.push_back(sequence),
        }
    }

    /// True: nothing is left.
    fn remove(&mut self, sequence: u64) -> bool {
        match self {
            Self::Once(only) => *only == sequence,
            Self::Often(sequences) => {
                if let Ok(at) = sequences.binary_search(&sequence) {
                    sequences.remove(at);
                }
                sequences.is_empty()
            }
        }
    }
}

struct Stored {
    sequence: u64,
    update: Arc<Update>,
    appended: Instant,
}

impl Stored {
    fn entry(&self) -> Entry {
        Entry { position: position(self.sequence), update: Arc::clone(&self.update), accepted: self.appended }
    }
}

/// How far a follower has come.
#[derive(Clone, Copy)]
struct Progress {
    sequence: u64,
    /// What has been appended since it began to follow and it has not taken yet.
    pending_bytes: usize,
}

/// Publishers' updates and subscription events each keep at most this many bytes.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How far a follower may be behind before appending waits: a burst, not a memory problem.
const WINDOW_ENTRIES: u64 = 1_024;
const WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// The bytes of one page or batch: a reader that holds one keeps no more than this in memory.
const PAGE_BYTES: usize = 256 * 1024;

/// Entries of one batch for a follower.
const BATCH_ENTRIES: usize = 512;

/// There is one log per process, and it never begins again.
const EPOCH: u64 = 1;

impl MemoryTransport {
    /// Keeps the last `history_max` updates of publishers. 0 keeps nothing for reconnections.
    pub fn new(history_max: usize) -> Self {
        let events_max = events_max(history_max);
        let kept = |entries_max| Kept { entries: VecDeque::new(), entries_max, bytes: 0, trimmed: 0 };
        let log = Log {
            updates: kept(history_max),
            events: kept(events_max),
            by_id: HashMap::new(),
            head: 0,
            head_id: None,
            followers: Slab::new(),
            closed: false,
        };
        Self(Arc::new(Shared { log: Mutex::new(log), appended: Notify::new(), followed: Notify::new() }))
    }

    /// Ends all followers and refuses what follows.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.appended.notify_waiters();
        self.0.followed.notify_waiters();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        // Nothing under the lock can panic half-way through a change.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room, and appends as many of the updates as there is room for, at least one. Returns the sequence of the
    /// last.
    async fn append(
        &self,
        updates: &mut (impl Iterator<Item = Arc<Update>> + Send),
    ) -> Result<u64, TransportError> {
        loop {
            let followed = self.followed.notified();
            tokio::pin!(followed);
            followed.as_mut().enable();
            {
                let mut log = self.lock();
                if log.closed {
                    return Err(TransportError::Closed);
                }
                if log.has_room() {
                    while log.has_room()
                        && let Some(update) = updates.next()
                    {
                        log.append(update);
                    }
                    let head = log.head;
                    drop(log);
                    self.appended.notify_waiters();
                    return Ok(head);
                }
            }
            followed.await;
        }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        let log = self.0.lock();
        Ok(Head { position: position(log.head), id: log.head_id.clone() })
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        let mut updates = [Arc::new(update)].into_iter();
        self.0.append(&mut updates).await.map(position)
    }

    async fn append_all(&self, updates: Vec<Update>) -> Result<(), TransportError> {
        let mut updates = updates.into_iter().map(Arc::new);
        while updates.len() > 0 {
            self.0.append(&mut updates).await?;
        }
        Ok(())
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let log = self.0.lock();
        Ok(log.by_id.get(id).and_then(Places::earliest).map(position))
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let log = self.0.lock();
        if log.closed {
            return Err(TransportError::Closed);
        }
        let entries = log.after(sequence(after), limit);
        let at_end = entries.last().is_none_or(|last| last.position.sequence == log.head);
        let through = match entries.last() {
            Some(last) if !at_end => last.position,
            _ => position(log.head.max(sequence(after))),
        };
        let trimmed =
            Trimmed { updates: position(log.updates.trimmed), events: position(log.events.trimmed) };
        Ok(Page { entries, through, at_end, trimmed })
    }

    async fn extent(&self) -> Result<Extent, TransportError> {
        let log = self.0.lock();
        let Kept { entries, bytes, .. } = &log.updates;
        let age = entries.front().map(|oldest| oldest.appended.elapsed());
        let oldest = age.and_then(|age| SystemTime::now().checked_sub(age));
        Ok(Extent { updates: Some(entries.len() as u64), bytes: Some(*bytes as u64), oldest })
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let mut log = self.0.lock();
        let sequence = sequence(after);
        if sequence < log.updates.trimmed {
            return Err(TransportError::Trimmed);
        }
        let key = log.followers.insert(Progress { sequence, pending_bytes: 0 });
        drop(log);
        Ok(Box::new(MemoryFollower { shared: Arc::clone(&self.0), key, sequence }))
    }
}

impl Log {
    fn append(&mut self, update: Arc<Update>) -> u64 {
        self.head += 1;
        self.head_id = Some(update.id().clone());
        let places = self.by_id.entry(update.id().clone());
        places.and_modify(|places| places.add(self.head)).or_insert(Places::Once(self.head));
        for (_, progress) in &mut self.followers {
            progress.pending_bytes += update.size();
        }
        let kept = match update.origin() {
            Origin::Publisher => &mut self.updates,
            Origin::Hub => &mut self.events,
        };
        kept.bytes += update.size();
        kept.entries.push_back(Stored { sequence: self.head, update, appended: Instant::now() });
        self.trim();
        self.head
    }

    /// Lets go of what is over a bound and no follower still needs.
    fn trim(&mut self) {
        let seen_by_all = self.followers.iter().map(|(_, p)| p.sequence).min().unwrap_or(u64::MAX);
        for kept in [&mut self.updates, &mut self.events] {
            while kept.entries.len() > kept.entries_max || kept.bytes > BYTES_MAX {
                let Some(oldest) = kept.entries.front().filter(|oldest| oldest.sequence <= seen_by_all)
                else {
                    break;
                };
                kept.bytes -= oldest.update.size();
                kept.trimmed = oldest.sequence;
                // Entries of one id may lie in both queues: the trimmed one need not be the earliest.
                if self.by_id.get_mut(oldest.update.id()).is_some_and(|places| places.remove(oldest.sequence))
                {
                    self.by_id.remove(oldest.update.id());
                }
                kept.entries.pop_front();
            }
        }
    }

    fn has_room(&self) -> bool {
        self.followers.iter().all(|(_, progress)| {
            self.head.saturating_sub(progress.sequence) < WINDOW_ENTRIES
                && progress.pending_bytes < WINDOW_BYTES
        })
    }

    /// Both origins merged in order.
    fn after(&self, after: u64, limit: usize) -> Vec<Entry> {
        let mut updates = self.updates.after(after).peekable();
        let mut events = self.events.after(after).peekable();
        let mut entries = Vec::new();
        let mut bytes = 0;
        while entries.len() < limit && bytes < PAGE_BYTES {
            let next = match (updates.peek(), events.peek()) {
                (Some(update), Some(event)) if event.sequence < update.sequence => events.next(),
                (Some(_), _) => updates.next(),
                (None, _) => events.next(),
            };
            let Some(stored) = next else { break };
            bytes += stored.update.size();
            entries.push(stored.entry());
        }
        entries
    }
}

impl Kept {
    fn after(&self, after: u64) -> impl Iterator<Item = &Stored> {
        self.entries.range(self.entries.partition_point(|stored| stored.sequence <= after)..)
    }
}

/// A position of another epoch counts as before everything.
fn sequence(position: Position) -> u64 {
    if position.epoch == EPOCH { position.sequence } else { 0 }
}

fn position(sequence: u64) -> Position {
    Position { epoch: EPOCH, sequence }
}

struct MemoryFollower {
    shared: Arc<Shared>,
    key: usize,
    sequence: u64,
}

#[async_trait]
impl Follower for MemoryFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        loop {
            let appended = self.shared.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            {
                let mut log = self.shared.lock();
                if log.closed {
                    return Err(TransportError::Closed);
                }
                let entries = log.after(self.sequence, BATCH_ENTRIES);
                if let Some(last) = entries.last() {
                    self.sequence = last.position.sequence;
                    let taken: usize = entries.iter().map(|entry| entry.update.size()).sum();
                    let caught_up = self.sequence == log.head;
                    let progress = &mut log.followers[self.key];
                    progress.sequence = self.sequence;
                    progress.pending_bytes =
                        if caught_up { 0 } else { progress.pending_bytes.saturating_sub(taken) };
                    log.trim();
                    drop(log);
                    self.shared.followed.notify_waiters();
                    return Ok(entries);
                }
            }
            appended.await;
        }
    }
}

impl Drop for MemoryFollower {
    fn drop(&mut self) {
        let mut log = self.shared.lock();
        log.followers.remove(self.key);
        log.trim();
        drop(log);
        self.shared.followed.notify_waiters();
    }
}
