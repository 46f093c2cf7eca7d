//! The follower: a task that reads the log on a connection of its own, in step with the reader of its batches.

use std::{sync::Arc, time::Duration};

use ::redis::{Value, aio::MultiplexedConnection, cmd};
use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    transport::{Entry, Follower, Position},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{self, Instant},
};

use super::{
    failure::Failure,
    link::{Lines, within},
    log::{Found, Log, PAGE_BYTES},
    script::{READ, State},
};
use crate::{
    retry::Backoff,
    shared::pace::{MARGIN_ENTRIES, Seat},
};

/// The end of a task's queue that is read, and the task.
pub(super) struct RedisFollower {
    batches: mpsc::Receiver<Result<Vec<Entry>, TransportError>>,
    seat: Seat,
    task: JoinHandle<()>,
}

/// The task.
struct Tail {
    log: Arc<Log>,
    /// Everything up to here has been handed on.
    position: Position,
    /// The newest event that was gone when it began: not missed by it.
    forgiven: u64,
    batches: mpsc::Sender<Result<Vec<Entry>, TransportError>>,
}

/// Entries of one batch.
const BATCH_ENTRIES: usize = 512;

/// How long the server is asked to wait for entries. A log that was lost is noticed after this time at the latest.
const BLOCK: Duration = Duration::from_secs(1);

/// How long to wait where waiting for entries returns at once and there are none, as something else has written to a
/// stream: subscribers hardly notice it, and the server is asked some thirty times a second.
const PAUSE: Duration = Duration::from_millis(100);

impl RedisFollower {
    /// Follows what comes after a position of the log, of which `state` is the state.
    pub(super) fn start(log: Arc<Log>, position: Position, state: &State, seat: Seat) -> Self {
        // One that waits, one that is taken: more would be what the window counts as delivered.
        let (sender, batches) = mpsc::channel(1);
        let tail = Tail { log, position, forgiven: gone(state, state.trimmed.events), batches: sender };
        Self { batches, seat, task: tokio::spawn(tail.run()) }
    }
}

#[async_trait]
impl Follower for RedisFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        let entries = self.batches.recv().await.unwrap_or(Err(TransportError::Trimmed))?;
        if let Some(last) = entries.last() {
            self.seat.move_to(last.position);
        }
        Ok(entries)
    }
}

impl Drop for RedisFollower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether this connection can go on.
enum End {
    /// Another one is needed.
    Connection(Failure),
    /// Nothing more is to come.
    Follower,
}

impl Tail {
    async fn run(mut self) {
        let mut lines = self.log.link.watch();
        let mut backoff = Backoff::new();
        loop {
            // Fails when the link is gone, which this task holds.
            if lines.wait_for(Option::is_some).await.is_err() {
                return;
            }
            let failure = match self.log.link.endpoint.connect().await {
                Ok(connection) => match self.follow(connection, &mut lines, &mut backoff).await {
                    End::Connection(failure) => failure,
                    End::Follower => return,
                },
                Err(failure) => failure,
            };
            tracing::debug!(reason = %failure, "following the log in Redis is interrupted");
            self.log.link.doubt(&failure);
            backoff.wait().await;
        }
    }

    /// Hands batches on as long as the connection lasts.
    async fn follow(
        &mut self,
        mut connection: MultiplexedConnection,
        lines: &mut watch::Receiver<Option<Lines>>,
        backoff: &mut Backoff,
    ) -> End {
        let mut is_first = true;
        let mut is_woken = false;
        loop {
            let found = match self.read(&mut connection, is_first).await {
                Ok(found) => found,
                Err(failure) => return End::Connection(failure),
            };
            is_first = false;
            backoff.reset();
            if let Some(reason) = self.missed(&found.state) {
                tracing::warn!(position = ?self.position, head = ?found.state.position, "{reason}");
                // An error means that the follower was dropped.
                let _ = self.batches.send(Err(TransportError::Trimmed)).await;
                return End::Follower;
            }
            let has_moved = found.through != self.position;
            self.position = found.through;
            if !found.entries.is_empty() && self.batches.send(Ok(found.entries)).await.is_err() {
                return End::Follower;
            }
            if found.at_end || !has_moved {
                let wait = async {
                    // What it was woken for is not the log's, and would wake it again at once.
                    if is_woken && !has_moved {
                        time::sleep(PAUSE).await;
                        return Ok(false);
                    }
                    self.wait(&mut connection).await
                };
                tokio::select! {
                    waited = wait => match waited {
                        Ok(is_there) => is_woken = is_there,
                        Err(failure) => return End::Connection(failure),
                    },
                    // The server may be another one now, and this one may not know yet.
                    _ = lines.changed() => {
                        return End::Connection(Failure::Other("the connection was given up".to_owned()));
                    }
                }
            }
        }
    }

    async fn read(&self, connection: &mut MultiplexedConnection, is_first: bool) -> Result<Found, Failure> {
        let Position { epoch, sequence } = self.position;
        let arguments = (epoch, sequence, BATCH_ENTRIES, PAGE_BYTES, "all");
        let deadline = Instant::now() + self.log.link.settings.timeout;
        let answer = match is_first {
            true => within(deadline, self.log.link.scripts.call_first(connection, &READ, arguments)).await?,
            false => within(deadline, self.log.link.scripts.call(connection, &READ, arguments)).await?,
        };
        self.log.found(answer, self.position, BATCH_ENTRIES)
    }

    /// Waits for entries, or some time, and returns whether there are any. What comes is read by script, together with
    /// the state of the log.
    async fn wait(&self, connection: &mut MultiplexedConnection) -> Result<bool, Failure> {
        let mut read = cmd("XREAD");
        let after = self.position.sequence;
        read.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        read.arg("STREAMS").arg(&self.log.link.scripts.streams()).arg(after).arg(after);
        let wait = read.query_async::<Value>(connection);
        let found = time::timeout(BLOCK + self.log.link.settings.timeout, wait).await;
        Ok(found.map_err(|_| Failure::Silence)?? != Value::Nil)
    }

    /// Why entries that were still to come will not come.
    fn missed(&self, state: &State) -> Option<&'static str> {
        if state.position.epoch != self.position.epoch {
            return Some(
                "the log that was followed was lost: streams end, and begin anew from what there is",
            );
        }
        let events_gone = gone(state, state.trimmed.events);
        let lost_events = events_gone > self.forgiven && self.position.sequence < events_gone;
        let lost_updates = self.position.sequence < gone(state, state.trimmed.updates);
        (lost_events || lost_updates)
            .then_some("this node lagged too far: the log has trimmed entries that this node had not seen")
    }
}

/// The newest entry that may be gone, not only out of readers' sight.
fn gone(state: &State, trimmed: Position) -> u64 {
    trimmed.sequence.min(state.position.sequence.saturating_sub(MARGIN_ENTRIES as u64))
}
