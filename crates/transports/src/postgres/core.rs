//! What all parts of a log in PostgreSQL share: how it is reached, how far it is known, and whether it answers.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use petasos_hub::transport::events_max;
use petasos_hub::transport::{Entry, Position};
use petasos_protocol::{subscription::Subscription, topic::HubUrl};
use tokio::sync::{Notify, watch};

use super::{
    failure::Failure,
    link::Session,
    schema::{Greeting, Tables},
    settings::{Address, Wire},
    statements::Statements,
};
use crate::{Retention, codec, shared::capacity::Capacity, shared::pace::Window, shared::reported::Reported};

pub(super) struct Core {
    address: Address,
    tables: Tables,
    /// The log's URL, without secrets, for messages.
    shown: String,
    pub(super) hub: HubUrl,
    pub(super) bounds: Bounds,
    pub(super) lease: Duration,
    /// How long anything may take.
    pub(super) timeout: Duration,
    pub(super) window: Arc<Window>,
    /// The newest place that this process has seen.
    known: Mutex<Position>,
    wake: watch::Sender<Wake>,
    /// Which server the log is at.
    server: watch::Sender<String>,
    health: Mutex<Health>,
    is_ready: watch::Sender<bool>,
    /// Whether appends find room.
    pub(super) capacity: Capacity,
    /// Damaged updates.
    damaged: Reported<Position>,
    /// The numbers of damaged subscribers.
    damaged_records: Reported<i64>,
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
    /// The end of the log as far as it was heard of.
    pub(super) newest: Position,
    /// Grows whenever something may have been missed.
    pub(super) connected: u64,
}

struct Health {
    lanes_down: usize,
    has_been_up: bool,
    /// What was said about this absence.
    reasons: Vec<String>,
}

/// Different reasons that are logged while the server is away: the loss, and why it does not come back.
const REASONS_MAX: usize = 4;

/// Trimming costs a statement; until it is done, a little more is on disk than is promised to be there at least.
const TRIM_ENTRIES: u64 = 1_024;
const TRIM_INTERVAL: Duration = Duration::from_secs(10);

impl Core {
    pub(super) fn new(
        (address, tables, shown): (Address, Tables, String),
        hub: HubUrl,
        retention: &Retention,
        lease: Duration,
        lanes: usize,
    ) -> Self {
        Self {
            timeout: address.timeout,
            capacity: Capacity::new(shown.clone()),
            address,
            tables,
            shown,
            hub,
            bounds: Bounds::new(retention),
            lease,
            window: Arc::default(),
            known: Mutex::new(Position::EARLIEST),
            wake: watch::Sender::new(Wake { newest: Position::EARLIEST, connected: 0 }),
            server: watch::Sender::default(),
            health: Mutex::new(Health { lanes_down: lanes, has_been_up: false, reasons: Vec::new() }),
            is_ready: watch::Sender::new(false),
            damaged: Reported::default(),
            damaged_records: Reported::default(),
            appended: AtomicU64::new(0),
            trim: Notify::new(),
        }
    }

    /// A connection with its settings and statements, and the tables behind it.
    pub(super) async fn connect(&self, listens: bool) -> Result<(Session, Wire, Greeting), Failure> {
        let (client, mut wire) = self.address.connect().await?;
        let prepare = async {
            let greeting = self.tables.prepare(&client, self.timeout).await?;
            let statements = Statements::prepare(&client, &self.tables).await?;
            if listens {
                client.batch_execute(&format!("LISTEN \"{}\"", self.tables.channel)).await?;
            }
            Ok::<_, Failure>((statements, greeting))
        };
        let (statements, greeting) = tokio::select! {
            prepared = tokio::time::timeout(self.timeout, prepare) => {
                prepared.map_err(|_| Failure::silent(self.timeout))??
            }
            ended = &mut wire => return Err(match ended {
                Err(error) => error.into(),
                Ok(()) => Failure::new("the connection was closed"),
            }),
        };
        // The newest connection is to the server that the log is at: those to others end.
        self.server.send_if_modified(|server| {
            let is_other = *server != greeting.server;
            server.clone_from(&greeting.server);
            is_other
        });
        Ok((Session::new(client, statements), wire, greeting))
    }

    /// Returns when the log is at another server than this one.
    pub(super) async fn has_left(&self, server: &str) {
        // The sender is ours.
        let _ = self.server.subscribe().wait_for(|current| current != server).await;
    }

    pub(super) fn known(&self) -> Position {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn learn(&self, position: Position) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = position.max(*known);
    }

    /// The log goes up to there: wakes followers that do not.
    pub(super) fn tell(&self, newest: Position) {
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
            Some(position) => self.tell(position),
            // Somebody else's: looking costs little.
            None => self.look_again(),
        }
    }

    pub(super) fn look_again(&self) {
        self.wake.send_modify(|wake| wake.connected += 1);
    }

    pub(super) fn wake(&self) -> watch::Receiver<Wake> {
        self.wake.subscribe()
    }

    /// A stored update at its place. A damaged one is reported and left out.
    pub(super) fn restore(&self, position: Position, record: &[u8]) -> Option<Entry> {
        match codec::decode(record, &self.hub) {
            Ok(update) => Some(Entry { position, update: Arc::new(update) }),
            Err(damage) => {
                if self.damaged.is_news(position) {
                    let sequence = position.sequence;
                    tracing::error!(%damage, sequence, "an update in {} is left out", self.shown);
                }
                None
            }
        }
    }

    /// Subscriptions as they were recorded. Damaged ones are reported and left out.
    pub(super) fn restore_subscriber(&self, number: i64, record: &[u8]) -> Option<Arc<[Subscription]>> {
        let text = str::from_utf8(record).map_err(|_| codec::Damaged::Malformed);
        match text.and_then(codec::decode_subscriber) {
            Ok(subscriptions) => Some(subscriptions),
            Err(damage) => {
                if self.damaged_records.is_news(number) {
                    tracing::error!(%damage, number, "a subscriber in {} is left out", self.shown);
                }
                None
            }
        }
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

    pub(super) fn lane_is_up(&self, listens: bool) {
        if listens {
            self.look_again();
        }
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.lanes_down -= 1;
        if health.lanes_down == 0 {
            if health.has_been_up {
                tracing::info!("{} answers again", self.shown);
            }
            health.has_been_up = true;
            health.reasons.clear();
            self.is_ready.send_replace(true);
        }
    }

    /// A lane that was up is down, or one that was down stays so.
    pub(super) fn lane_is_down(&self, failure: &Failure, was_up: bool) {
        let mut health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if was_up {
            health.lanes_down += 1;
            self.is_ready.send_replace(false);
        }
        let reason = failure.to_string();
        if health.reasons.len() < REASONS_MAX && !health.reasons.contains(&reason) {
            tracing::warn!(reason, "{} cannot be used", self.shown);
            health.reasons.push(reason);
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    /// Returns when all connections stand.
    pub(super) async fn until_ready(&self) {
        // The sender is ours.
        let _ = self.is_ready.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// Returns when the server has not answered for as long as anything may take.
    pub(super) async fn is_away(&self) {
        let mut is_ready = self.is_ready.subscribe();
        loop {
            // The sender is ours.
            let _ = is_ready.wait_for(|is_ready| !is_ready).await;
            if tokio::time::timeout(self.timeout, is_ready.wait_for(|is_ready| *is_ready)).await.is_err() {
                return;
            }
        }
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
