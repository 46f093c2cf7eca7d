//! What all parts of a log in PostgreSQL share: its settings, how far the log is known, and whether the server answers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use petasos_hub::transport::{Position, events_max};
use petasos_protocol::topic::HubUrl;
use tokio::sync::{Notify, watch};

use super::{failure::Failure, settings::Settings};
use crate::{
    Retention,
    shared::{capacity::Capacity, decoder::Decoder, health::Health, pace::Pace},
};

/// The state of one log in this process.
pub(super) struct Core {
    /// Names the log in log lines, without secrets.
    shown: String,
    pub(super) decoder: Decoder,
    pub(super) bounds: Bounds,
    pub(super) lease: Duration,
    /// How long the server has for anything.
    pub(super) timeout: Duration,
    pub(super) pace: Arc<Pace>,
    /// The newest position that this process has seen, of any node's entry.
    known: Mutex<Position>,
    wake: watch::Sender<Wake>,
    pub(super) health: Health,
    /// Links without a connection.
    links_down: Mutex<usize>,
    pub(super) capacity: Capacity,
    /// Entries of this process since it trimmed the log last.
    appended: AtomicU64,
    trim: Notify,
}

/// Retention as the statements take it.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) entries: i64,
    pub(super) bytes: Option<i64>,
    /// Microseconds.
    pub(super) age: Option<i64>,
    pub(super) events: i64,
}

/// What followers wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wake {
    /// The newest position that a notification or an append of this process has named.
    pub(super) newest: Position,
    /// Grows whenever a notification may have been missed.
    pub(super) connected: u64,
}

/// Trimming costs a statement; until it is done, a little more is on disk than the bounds say.
const TRIM_ENTRIES: u64 = 1_024;
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

impl Core {
    /// The state of a log whose links, so many, are not connected yet.
    pub(super) fn new(
        settings: &Settings,
        shown: String,
        hub: HubUrl,
        retention: &Retention,
        links: usize,
    ) -> Self {
        Self {
            decoder: Decoder::new(shown.clone(), hub),
            health: Health::new(shown.clone()),
            capacity: Capacity::new(shown.clone()),
            shown,
            bounds: Bounds::new(retention),
            lease: settings.lease,
            timeout: settings.timeout,
            pace: Arc::default(),
            known: Mutex::new(Position::EARLIEST),
            wake: watch::Sender::new(Wake { newest: Position::EARLIEST, connected: 0 }),
            links_down: Mutex::new(links),
            appended: AtomicU64::new(0),
            trim: Notify::new(),
        }
    }

    /// The newest position that this process has seen.
    pub(super) fn known(&self) -> Position {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log has reached `position`.
    pub(super) fn learn(&self, position: Position) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = position.max(*known);
    }

    /// The log ends at `newest` or later: wakes followers that have not read so far.
    pub(super) fn announce(&self, newest: Position) {
        self.wake.send_if_modified(|wake| {
            let is_news = newest > wake.newest;
            wake.newest = newest.max(wake.newest);
            is_news
        });
    }

    /// A notification: epoch and head.
    pub(super) fn hear(&self, payload: &str) {
        let position = payload.split_once(' ').and_then(|(epoch, sequence)| {
            Some(Position { epoch: epoch.parse().ok()?, sequence: sequence.parse().ok()? })
        });
        match position {
            Some(position) => self.announce(position),
            // Another program's: looking costs little.
            None => self.look_again(),
        }
    }

    /// Has followers read, whether or not they heard of anything.
    pub(super) fn look_again(&self) {
        self.wake.send_modify(|wake| wake.connected += 1);
    }

    pub(super) fn wake(&self) -> watch::Receiver<Wake> {
        self.wake.subscribe()
    }

    /// Entries were added: now and then that is a reason to trim.
    pub(super) fn has_appended(&self, count: usize) {
        let count = count as u64;
        if self.appended.fetch_add(count, Ordering::Relaxed) + count >= TRIM_ENTRIES {
            self.appended.store(0, Ordering::Relaxed);
            self.trim.notify_one();
        }
    }

    /// Returns when the log should be trimmed.
    pub(super) async fn should_trim(&self) {
        // An error means that time has passed.
        let _ = tokio::time::timeout(TRIM_INTERVAL, self.trim.notified()).await;
    }

    /// A link has a connection.
    pub(super) fn link_is_up(&self, listens: bool) {
        if listens {
            self.look_again();
        }
        let mut down = self.links_down.lock().unwrap_or_else(PoisonError::into_inner);
        *down -= 1;
        if *down == 0 {
            self.health.set_available();
        }
    }

    /// A link has lost its connection (`was_up`), or could not connect.
    pub(super) fn link_is_down(&self, failure: &Failure, was_up: bool) {
        // Locked until the health is set, as another link may be up at the same time.
        let mut down = self.links_down.lock().unwrap_or_else(PoisonError::into_inner);
        *down += usize::from(was_up);
        self.health.set_unavailable(failure);
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }
}

impl Bounds {
    fn new(retention: &Retention) -> Self {
        let entries = i64::try_from(retention.entries_max).unwrap_or(i64::MAX);
        let events = i64::try_from(events_max(retention.entries_max)).unwrap_or(i64::MAX);
        Self {
            entries,
            bytes: retention.bytes_max.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            age: retention.age_max.map(micros),
            events,
        }
    }
}

/// At most three hundred years, which intervals hold.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(10_000_000_000_000_000)
}

/// As the statements give it.
pub(super) fn position(epoch: i64, sequence: i64) -> Position {
    Position { epoch: epoch.cast_unsigned(), sequence: sequence.cast_unsigned() }
}
