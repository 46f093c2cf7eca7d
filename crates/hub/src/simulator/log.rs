//! A log that several nodes share and that fails in every way that [`Transport`] allows: it is unavailable, loses answers,
//! commits late, trims, and is wiped.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use petasos_protocol::update::Update;
use tokio::{sync::watch, time::sleep};

use super::random::Random;
use crate::{
    TransportError,
    log::transport::{Entry, Follower, Head, Page, Position, Transport, Trimmed},
};

/// The log that all nodes share. Clones are the same log.
#[derive(Clone)]
pub(super) struct SimulatedLog(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Changes with every append, and with every change of the weather.
    changed: watch::Sender<u64>,
}

struct State {
    random: Random,
    weather: Weather,
    epoch: u64,
    /// The entries that are kept.
    kept: VecDeque<Entry>,
    kept_max: usize,
    trimmed: Position,
    head: Head,
    /// Everything that was ever committed, in order.
    committed: Vec<Entry>,
}

/// How the log fails at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) is_unavailable: bool,
    /// Of a hundred appends, so many fail.
    pub(super) failing_percent: usize,
}

/// The longest that a request takes.
const LATENCY_MAX: Duration = Duration::from_millis(20);

/// The longest that an update is committed after its answer was lost.
pub(super) const LATE_MAX: Duration = Duration::from_millis(500);

impl SimulatedLog {
    /// Keeps the last `kept_max` entries.
    pub(super) fn new(random: Random, kept_max: usize) -> Self {
        let start = Position { epoch: 1, sequence: 0 };
        let state = State {
            random,
            weather: Weather::default(),
            epoch: 1,
            kept: VecDeque::new(),
            kept_max,
            trimmed: start,
            head: Head { position: start, id: None },
            committed: Vec::new(),
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: watch::Sender::new(0) }))
    }

    pub(super) fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
        self.0.changed.send_modify(|changes| *changes += 1);
    }

    /// Everything is gone, and a new log begins.
    pub(super) fn wipe(&self) {
        {
            let mut state = self.lock();
            state.epoch += 1;
            state.kept.clear();
            state.trimmed = Position { epoch: state.epoch, sequence: 0 };
            state.head = Head { position: state.trimmed, id: None };
        }
        self.0.changed.send_modify(|changes| *changes += 1);
    }

    /// Everything that was ever committed, in order.
    pub(super) fn committed(&self) -> Vec<Entry> {
        self.lock().committed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic under the lock")
    }

    /// The time that a request takes, and an error while the log is unavailable.
    async fn request(&self) -> Result<(), TransportError> {
        let latency = self.lock().random.duration(LATENCY_MAX);
        sleep(latency).await;
        match self.lock().weather.is_unavailable {
            true => Err(TransportError::unavailable("it is simulated")),
            false => Ok(()),
        }
    }

    fn commit(&self, update: Update) -> Position {
        let position = {
            let mut state = self.lock();
            let sequence = state.head.position.sequence + 1 + state.random.below(3) as u64;
            let position = Position { epoch: state.epoch, sequence };
            let entry = Entry::now(position, Arc::new(update));
            state.head = Head { position, id: Some(entry.update.id().clone()) };
            state.kept.push_back(entry.clone());
            state.committed.push(entry);
            while state.kept.len() > state.kept_max {
                let oldest = state.kept.pop_front().expect("more than none");
                state.trimmed = oldest.position;
            }
            position
        };
        self.0.changed.send_modify(|changes| *changes += 1);
        position
    }
}

#[async_trait]
impl Transport for SimulatedLog {
    async fn head(&self) -> Result<Head, TransportError> {
        self.request().await?;
        Ok(self.lock().head.clone())
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.request().await?;
        let (fails, kind, late) = {
            let mut state = self.lock();
            let percent = state.weather.failing_percent;
            (state.random.percent(percent), state.random.below(3), state.random.duration(LATE_MAX))
        };
        if !fails {
            return Ok(self.commit(update));
        }
        match kind {
            0 => {}
            1 => drop(self.commit(update)),
            _ => {
                let log = self.clone();
                tokio::spawn(async move {
                    sleep(late).await;
                    log.commit(update);
                });
            }
        }
        Err(TransportError::unavailable("its answer is lost"))
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.request().await?;
        let state = self.lock();
        Ok(state.kept.iter().find(|entry| entry.update.id().as_str() == id).map(|entry| entry.position))
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.request().await?;
        let mut state = self.lock();
        let limit = 1 + state.random.below(limit);
        let entries: Vec<_> =
            state.kept.iter().filter(|entry| entry.position > after).take(limit).cloned().collect();
        let at_end = entries.len() < limit;
        let through = match entries.last() {
            Some(last) if !at_end => last.position,
            _ => state.head.position,
        };
        let trimmed = Trimmed { updates: state.trimmed, events: state.trimmed };
        Ok(Page { entries, through, at_end, trimmed })
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.request().await?;
        let state = self.lock();
        if after < state.trimmed {
            return Err(TransportError::Trimmed);
        }
        drop(state);
        Ok(Box::new(SimulatedFollower { log: self.clone(), after }))
    }

    fn is_ready(&self) -> bool {
        !self.lock().weather.is_unavailable
    }

    fn outlives_process(&self) -> bool {
        true
    }
}

/// A reader that reconnects inside: it waits while the log is unavailable.
struct SimulatedFollower {
    log: SimulatedLog,
    after: Position,
}

#[async_trait]
impl Follower for SimulatedFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        let mut changed = self.log.0.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let found = {
                let mut state = self.log.lock();
                if self.after < state.trimmed {
                    return Err(TransportError::Trimmed);
                }
                let limit = 1 + state.random.below(40);
                let latency = state.random.duration(LATENCY_MAX);
                let new = state.kept.iter().filter(|entry| entry.position > self.after);
                let entries: Vec<_> = new.take(limit).cloned().collect();
                (!state.weather.is_unavailable && !entries.is_empty()).then_some((entries, latency))
            };
            if let Some((entries, latency)) = found {
                sleep(latency).await;
                self.after = entries.last().expect("at least one").position;
                return Ok(entries);
            }
            // An error means that the log is gone, and this with it.
            let _ = changed.changed().await;
        }
    }
}
