//! One reader that goes with the log: asks for what follows when it has heard that there is something, and now and then
//! without.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    transport::{Entry, Follower, Position},
};
use tokio::{sync::watch, time::Instant};

use super::{
    core::Wake,
    log::{Found, Log, field, read_head},
};
use crate::{retry::Backoff, shared::pace::Seat};

pub(super) struct PostgresFollower {
    log: Log,
    position: Position,
    /// When the entry there was made. In a log that was replaced, another entry stands there.
    made_at: Option<SystemTime>,
    /// Events up to there were gone when it began.
    events_gone_at: u64,
    seat: Seat,
    wake: watch::Receiver<Wake>,
    connected: u64,
    is_due: bool,
    asked_at: Instant,
}

/// Entries of one batch.
const BATCH_ENTRIES: i64 = 512;

/// How often it looks without having heard anything: notifications are not lost while the connection stands.
const POLL: Duration = Duration::from_secs(5);

impl PostgresFollower {
    /// After `after`, which the log holds.
    pub(super) async fn start(log: Log, after: Position) -> Result<Self, TransportError> {
        let wake = log.core.wake();
        let page = log.read(after, 0).await?;
        if page.trimmed.updates > after || page.trimmed.updates.epoch != after.epoch {
            return Err(TransportError::Trimmed);
        }
        let seat = log.core.pace.enter(after);
        let events_gone_at = page.trimmed.events.sequence;
        let mut follower = Self {
            log,
            position: after,
            made_at: None,
            events_gone_at,
            seat,
            wake,
            connected: 0,
            is_due: true,
            asked_at: Instant::now(),
        };
        // What stands there now is what it will be compared with.
        follower.fetch(0).await?;
        Ok(follower)
    }

    async fn fetch(&mut self, limit: i64) -> Result<Vec<Entry>, TransportError> {
        let after = self.position.sequence.cast_signed();
        let rows = self.log.ask(|statements| &statements.fetch, &[&after, &limit]).await?;
        let (head, _) = read_head(&rows[0])?;
        let updates_gone_at = field::<i64>(&rows[0], 3)?.cast_unsigned();
        let events_gone_at = field::<i64>(&rows[0], 4)?.cast_unsigned();
        let made_at: Option<SystemTime> = field(&rows[0], 5)?;
        let mut why = None;
        if head.epoch != self.position.epoch {
            why = Some("it was lost and has begun anew");
        } else if self.made_at.is_some() && made_at.is_some() && self.made_at != made_at {
            // Other nodes may not notice, so the epoch has to change.
            self.log.begin_epoch(head.epoch).await?;
            why = Some("it was replaced by a copy");
        } else if updates_gone_at > self.position.sequence
            || events_gone_at > self.position.sequence.max(self.events_gone_at)
        {
            why = Some("this node has not read what was trimmed meanwhile");
        }
        if let Some(why) = why {
            tracing::warn!("{} cannot be followed further: {why}", self.log.core.shown());
            return Err(TransportError::Trimmed);
        }
        let found = Found::from_rows(&self.log.core, &rows, 6)?;
        self.made_at = match found.last {
            Some(_) => rows.last().map(|row| field(row, 9)).transpose()?.flatten(),
            None => made_at,
        };
        self.position = found.last.unwrap_or(self.position);
        self.is_due = found.has_more;
        self.asked_at = Instant::now();
        self.seat.move_to(self.position);
        Ok(found.entries)
    }
}

#[async_trait]
impl Follower for PostgresFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        let mut backoff = Backoff::new();
        loop {
            let wake = *self.wake.borrow_and_update();
            self.is_due |= wake.newest > self.position || wake.connected != self.connected;
            if self.is_due {
                match self.fetch(BATCH_ENTRIES).await {
                    Ok(entries) => {
                        self.connected = wake.connected;
                        if !entries.is_empty() {
                            return Ok(entries);
                        }
                    }
                    // The connection is being made anew.
                    Err(TransportError::Unavailable(_) | TransportError::Full(_)) => backoff.wait().await,
                    Err(error) => return Err(error),
                }
                if self.is_due {
                    continue;
                }
            }
            match tokio::time::timeout_at(self.asked_at + POLL, self.wake.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(TransportError::Closed),
                Err(_) => self.is_due = true,
            }
        }
    }
}
