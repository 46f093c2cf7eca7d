//! The thread of a shard.
//!
//! The thread waits for readiness: of the sockets of its members, and of its bell, which everything that is handed in
//! rings. In one round it takes everything that has been handed in and then visits each marked member once, so that all
//! entries that have come meanwhile leave in one write.
//!
//! After a round the shard rests for as long as the round took. A shard that has much to do then does it in fewer and
//! larger writes, and leaves half of the time to publishers and readers. A shard that has little to do has rested long
//! before the next update comes.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Poll};
use tokio::sync::{mpsc, watch};

use super::{
    bell::{BELL, Bell, Notes},
    delivery::Delivery,
    inbox::{Batch, Command, INBOX_BATCHES, INBOX_COMMANDS, Progress},
    sink::Sink,
};
use crate::Closed;

/// Rounds that take less than this are not followed by a rest: the system does not wait for less than a millisecond.
const REST_MIN: Duration = Duration::from_millis(1);

/// The longest rest after a round, in which frames are late.
const REST_MAX: Duration = Duration::from_millis(10);

/// Events of readiness that are looked at in one round.
const EVENTS_MAX: usize = 1_024;

/// What the thread of a shard owns.
pub(crate) struct Worker<S: Sink> {
    pub(crate) bell: Arc<Bell>,
    pub(crate) batches: mpsc::Receiver<Batch>,
    pub(crate) commands: mpsc::Receiver<Command<S>>,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) delivery: Delivery<S>,
    /// The clock, which a simulation replaces.
    pub(crate) now: fn() -> Instant,
}

impl<S: Sink> Worker<S> {
    /// Works until it is told to close, or until the last handle of the shard is dropped.
    ///
    /// # Errors
    /// If readiness cannot be waited for.
    pub(crate) fn run(mut self, mut poll: Poll) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut rested = (self.now)();
        loop {
            let patience = self.patience(rested);
            if let Err(error) = poll.poll(&mut events, patience)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            self.bell.silence();
            if let Err(reason) = self.step(&mut rested, &events) {
                self.close(reason);
                return Ok(());
            }
        }
    }

    /// Runs as a task, in the time of its runtime. `rung` is notified by the bell.
    #[cfg(test)]
    pub(crate) async fn simulate(mut self, rung: Arc<tokio::sync::Notify>) {
        let events = Events::with_capacity(1);
        let mut rested = (self.now)();
        loop {
            match self.patience(rested) {
                None => rung.notified().await,
                Some(patience) => {
                    let _ = tokio::time::timeout(patience, rung.notified()).await;
                }
            }
            self.bell.silence();
            if let Err(reason) = self.step(&mut rested, &events) {
                return self.close(reason);
            }
            tokio::task::yield_now().await;
        }
    }

    /// A round if the last one has rested, and whatever else is due. An error is the reason to close.
    fn step(&mut self, rested: &mut Instant, events: &Events) -> Result<(), Closed> {
        let now = (self.now)();
        if now >= *rested {
            *rested = self.round(now)?;
        }
        for event in events.iter().filter(|event| event.token() != BELL) {
            self.delivery.ready(event, now);
        }
        self.delivery.tick(now);
        let Notes { departed, asking } = self.bell.take_notes();
        for key in departed {
            self.delivery.remove(key);
        }
        for key in asking {
            self.delivery.refill(key, now);
        }
        self.delivery.show_waiting();
        Ok(())
    }

    /// Takes what has been handed in and hands it out. Returns the end of the rest after it; an error is the reason to
    /// close.
    fn round(&mut self, now: Instant) -> Result<Instant, Closed> {
        let admitted = self.delivery.admitted();
        if !self.delivery.trim(now) {
            return Ok(now + REST_MAX);
        }
        self.take_handed_in(now)?;
        self.delivery.hand_out(now);
        let done = (self.now)();
        self.delivery.count_delays(done);
        let (recent, through) = self.delivery.reach();
        self.progress.send_if_modified(|progress| {
            let now = Progress { recent, through };
            std::mem::replace(progress, now) != now
        });
        Ok(match done - now {
            short if short < REST_MIN && self.delivery.admitted() != admitted => now + REST_MIN,
            short if short < REST_MIN => done,
            long => done + long.min(REST_MAX),
        })
    }

    /// Delivers what was handed in before the inbox closed, and ends all streams.
    fn close(mut self, reason: Closed) {
        self.batches.close();
        self.commands.close();
        while self.take_handed_in((self.now)()).is_ok() && !self.commands.is_empty() {}
        self.delivery.close(reason, (self.now)());
    }

    /// How long there is nothing to do; `None`: until the bell rings.
    fn patience(&self, rested: Instant) -> Option<Duration> {
        let rest = rested.saturating_duration_since((self.now)());
        if !rest.is_zero() {
            return Some(rest);
        }
        // Looked for after the bell has been set: what is handed in later rings it.
        self.bell.expect();
        let is_waiting = !self.batches.is_empty()
            || !self.commands.is_empty()
            || self.bell.is_abandoned()
            || self.bell.has_notes();
        match is_waiting {
            true => Some(Duration::ZERO),
            false => self.delivery.due().map(|due| due.saturating_duration_since((self.now)())),
        }
    }

    /// Takes what has been handed in: as much as may wait and no more, so that the next round takes what comes meanwhile. An
    /// error is the reason to close.
    fn take_handed_in(&mut self, now: Instant) -> Result<(), Closed> {
        for _ in 0..INBOX_BATCHES {
            match self.batches.try_recv() {
                Ok(Batch::Entries(entries)) => self.delivery.mark(&entries, now),
                Ok(Batch::Restart(head)) => self.delivery.restart(head, Closed::LogLost, now),
                Err(_) => break,
            }
        }
        for _ in 0..INBOX_COMMANDS {
            match self.commands.try_recv() {
                Ok(Command::Attach { sink, after }) => self.delivery.attach(sink, after, now),
                Ok(Command::Drain(order)) => self.delivery.drain(order, now),
                Ok(Command::Revoke { accepted, within }) => self.delivery.revoke(accepted, within, now),
                Ok(Command::Close(reason)) => return Err(reason),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(Closed::Stopping),
            }
        }
        // A member may hold the last handle, so the channel itself does not always tell.
        match self.bell.is_abandoned() && self.commands.is_empty() {
            true => Err(Closed::Stopping),
            false => Ok(()),
        }
    }
}
