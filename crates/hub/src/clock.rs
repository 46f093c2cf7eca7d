//! Keep-alive and end of life of a stream that is polled.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::ids;

/// One timer for both, which is moved when it fires and not for each frame.
pub(crate) struct Clock {
    keep_alive: Option<Duration>,
    close_at: Option<Instant>,
    last_sent: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the time has come for.
pub(crate) enum Tick {
    KeepAlive,
    Over,
}

impl Clock {
    pub(crate) fn new(keep_alive: Option<Duration>, close_at: Option<Instant>) -> Self {
        let now = Instant::now();
        let deadline = keep_alive.map(|interval| now + first(interval)).into_iter().chain(close_at).min();
        let timer = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { keep_alive, close_at, last_sent: now, timer }
    }

    pub(crate) fn sent(&mut self) {
        self.last_sent = Instant::now();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.close_at.is_some_and(|close_at| Instant::now() >= close_at)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Tick> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.close_at.is_some_and(|close_at| now >= close_at) {
                return Poll::Ready(Tick::Over);
            }
            let due = self.keep_alive.is_some_and(|interval| is_due(interval, now - self.last_sent));
            if due {
                self.last_sent = now;
            }
            let next = self.keep_alive.map(|interval| self.last_sent + interval);
            if let Some(deadline) = next.into_iter().chain(self.close_at).min() {
                timer.as_mut().reset(deadline);
            }
            if due {
                return Poll::Ready(Tick::KeepAlive);
            }
        }
    }
}

/// The time until a stream's first comment: connections that began together, after a restart, do not stay together.
pub(crate) fn first(interval: Duration) -> Duration {
    interval.mul_f64(0.5 + ids::fraction() / 2.0)
}

/// Whether a comment is due after so much silence. Half an interval is enough, so that the first comment's jitter
/// survives.
pub(crate) fn is_due(interval: Duration, silence: Duration) -> bool {
    silence >= interval / 2
}
