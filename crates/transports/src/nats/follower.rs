//! One consumer of the log that sees every entry once.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    transport::{Entry, Follower, Position},
};

use super::{
    consumer::{Consumer, End, Raw, Start},
    log::Log,
};
use crate::{retry::Backoff, shared::pace::Seat};

/// A follower of the log. See the module.
pub(super) struct NatsFollower {
    log: Arc<Log>,
    consumer: Consumer,
    epoch: u64,
    /// The last sequence that has been looked at.
    through: u64,
    /// Read and not looked at yet.
    waiting: VecDeque<Raw>,
    backoff: Backoff,
    /// Every sequence up to here was read or is removed, and nothing behind it was read at that time.
    end: u64,
    /// Dropped at the end, so that publishers do not wait for a follower that has ended.
    seat: Option<Seat>,
}

impl NatsFollower {
    pub(super) fn new(log: Arc<Log>, after: Position) -> Self {
        let Position { epoch, sequence } = after;
        let consumer = Consumer::new(Arc::clone(&log.link), &log.streams.log, false, epoch, sequence);
        let seat = Some(log.pace.enter(after));
        let (waiting, backoff) = (VecDeque::new(), Backoff::new());
        Self { log, consumer, epoch, through: sequence, waiting, backoff, end: 0, seat }
    }

    /// What has been read, up to the first gap that has to be asked about. Cancel-safe.
    async fn look(&mut self) -> Result<Vec<Entry>, TransportError> {
        let mut entries = Vec::new();
        while let Some(raw) = self.waiting.front() {
            if raw.seq > self.through + 1 {
                if !entries.is_empty() {
                    break;
                }
                self.cross(raw.seq).await?;
            }
            let Some(raw) = self.waiting.pop_front() else { break };
            self.through = raw.seq;
            let position = Position { epoch: self.epoch, sequence: raw.seq };
            entries.extend(self.log.decoder.entry(position, &raw.payload));
        }
        if entries.is_empty() && self.waiting.is_empty() && self.end > self.through {
            self.cross(self.end + 1).await?;
            self.through = self.end;
        }
        if let Some(seat) = &self.seat {
            seat.move_to(Position { epoch: self.epoch, sequence: self.through });
        }
        Ok(entries)
    }

    /// Whether nothing but subscription events is missing before `next`: they are trimmed apart.
    async fn cross(&self, next: u64) -> Result<(), TransportError> {
        let mut backoff = Backoff::new();
        let (epoch, lost) = loop {
            match self.log.ask(|index| (index.epoch, index.updates_lost())).await {
                Ok(answer) => break answer,
                Err(_) => backoff.wait().await,
            }
        };
        if epoch != self.epoch || lost > self.through {
            let (stream, after) = (&self.log.streams.log, self.through);
            tracing::warn!(
                stream,
                after,
                next,
                "a follower lagged too far: the log has trimmed entries that it had not seen"
            );
            return Err(TransportError::Trimmed);
        }
        Ok(())
    }

    async fn read_on(&mut self) -> Result<Vec<Entry>, TransportError> {
        loop {
            let entries = self.look().await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
            let batch = tokio::select! {
                batch = read(&mut self.consumer) => batch,
                () = stalled(&self.log, self.epoch, self.through) => {
                    // A new consumer shows whether messages are left: they may have been removed.
                    self.consumer.detach();
                    continue;
                }
            };
            match batch {
                Ok(Next::Nothing { through }) => self.end = through,
                Ok(Next::Batch(batch)) => {
                    self.backoff.reset();
                    self.waiting.extend(batch);
                }
                Err(End::Unavailable(reason)) => {
                    self.log.link.health.set_unavailable(&reason);
                    self.backoff.wait().await;
                }
                Err(End::Lost(reason)) => {
                    let stream = &self.log.streams.log;
                    tracing::warn!(stream, reason, "what was followed is lost");
                    self.log.doubt();
                    return Err(TransportError::Trimmed);
                }
            }
        }
    }
}

/// The result of a read.
enum Next {
    Batch(Vec<Raw>),
    /// No unread message is left up to here.
    Nothing {
        through: u64,
    },
}

async fn read(consumer: &mut Consumer) -> Result<Next, End> {
    match consumer.attach().await? {
        Some(Start { last, pending: 0 }) => Ok(Next::Nothing { through: last }),
        _ => Ok(Next::Batch(consumer.next().await?)),
    }
}

/// A consumer that says that it is there may still be stuck: the index has been further for a while.
const STALLED: Duration = Duration::from_secs(5);

async fn stalled(log: &Log, epoch: u64, through: u64) {
    let is_behind = |head: &Position| head.epoch != epoch || head.sequence > through;
    if log.reached().wait_for(is_behind).await.is_err() {
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(STALLED).await;
}

#[async_trait]
impl Follower for NatsFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        if self.seat.is_none() {
            return Err(TransportError::Trimmed);
        }
        let result = self.read_on().await;
        if result.is_err() {
            self.seat = None;
        }
        result
    }
}
