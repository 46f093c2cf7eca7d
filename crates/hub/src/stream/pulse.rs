//! Keep-alive and lifetime of a stream: when the next comment or the end is due, and which of the two.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::time::{Sleep, sleep_until};

use crate::{ids, timing::Timing};

/// The two bounds of a stream in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pulse {
    /// The time of silence after which a comment is sent; `None`: never.
    pub(crate) keep_alive: Option<Duration>,
    /// When the stream ends at the latest.
    pub(crate) close_at: Option<Instant>,
}

/// What the pulse of a live stream comes from: the keep-alive may change while the hub runs.
pub(crate) struct Rhythm {
    /// `None`: a stream of the program that runs the hub, which needs no sign of life.
    pub(crate) timing: Option<Arc<Timing>>,
    /// When the stream ends at the latest.
    pub(crate) close_at: Option<Instant>,
}

impl Rhythm {
    pub(crate) fn pulse(&self) -> Pulse {
        let keep_alive = self.timing.as_ref().and_then(|timing| timing.keep_alive());
        Pulse { keep_alive, close_at: self.close_at }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    None,
    Comment,
    /// The lifetime of the stream is over.
    Over,
}

impl Pulse {
    /// Whether the lifetime of the stream is over.
    pub(crate) fn is_over(self) -> bool {
        self.close_at.is_some_and(|close_at| now() >= close_at)
    }

    /// When something is due for a stream that begins. Streams that begin together, as after a restart, are due at
    /// different times between half a keep-alive interval and a whole one.
    pub(crate) fn first_due(self, began: Instant) -> Option<Instant> {
        let first = self.keep_alive.map(|interval| began + interval.mul_f64(0.5 + ids::fraction() / 2.0));
        first.into_iter().chain(self.close_at).min()
    }

    /// When to look again after a look that had this result. A stream that was not silent is looked at after half an interval:
    /// after a whole one since it has sent something, all that have received the same update would be due together.
    pub(crate) fn next_look(self, beat: Beat, now: Instant) -> Option<Instant> {
        let next = self.keep_alive.map(|interval| match beat {
            Beat::None => now + interval / 2,
            Beat::Comment | Beat::Over => now + interval,
        });
        next.into_iter().chain(self.close_at).min()
    }

    /// What is due now for a stream that is silent since then. A comment is due after half an interval, so that streams
    /// keep the different times of their first comments.
    pub(crate) fn beat(self, silent_since: Instant, now: Instant) -> Beat {
        if self.close_at.is_some_and(|close_at| now >= close_at) {
            return Beat::Over;
        }
        let silence = now.saturating_duration_since(silent_since);
        match self.keep_alive {
            Some(interval) if silence >= interval / 2 => Beat::Comment,
            _ => Beat::None,
        }
    }
}

/// A pulse with a timer, for a stream that no shard feeds. The timer moves when it fires, and not for each frame.
pub(crate) struct Clock {
    silent_since: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    /// Begins now.
    pub(crate) fn start(pulse: Pulse) -> Self {
        let now = now();
        let timer = pulse.first_due(now).map(|due| Box::pin(sleep_until(due.into())));
        Self { silent_since: now, timer }
    }

    /// Since when nothing was sent.
    pub(crate) fn silent_since(&self) -> Instant {
        self.silent_since
    }

    /// Something was sent.
    pub(crate) fn sent(&mut self) {
        self.silent_since = now();
    }

    /// Ready when something is due, never with [`Beat::None`].
    pub(crate) fn poll(&mut self, pulse: Pulse, cx: &mut Context<'_>) -> Poll<Beat> {
        loop {
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(cx));
            let now = now();
            let beat = pulse.beat(self.silent_since, now);
            if beat == Beat::Comment {
                self.silent_since = now;
            }
            match pulse.next_look(beat, now) {
                Some(next) => timer.as_mut().reset(next.into()),
                // A timer that has fired would be ready for ever.
                None => self.timer = None,
            }
            if beat != Beat::None {
                return Poll::Ready(beat);
            }
        }
    }
}

/// The time of the runtime, which tests may pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_comment_is_due_after_half_an_interval_and_the_end_at_its_time() {
        let began = Instant::now();
        let pulse = Pulse { keep_alive: Some(10 * SECOND), close_at: Some(began + 20 * SECOND) };
        let millisecond = Duration::from_millis(1);
        for (after, beat) in [
            (5 * SECOND - millisecond, Beat::None),
            (5 * SECOND, Beat::Comment),
            (20 * SECOND - millisecond, Beat::Comment),
            (20 * SECOND, Beat::Over),
        ] {
            assert_eq!(pulse.beat(began, began + after), beat, "{after:?}");
        }
        let quiet = Pulse { keep_alive: None, close_at: None };
        assert_eq!(quiet.beat(began, began + 1_000 * SECOND), Beat::None);
        assert_eq!((quiet.first_due(began), quiet.next_look(Beat::None, began)), (None, None));
    }

    #[test]
    fn what_is_due_first_comes_first_and_first_comments_are_spread() {
        let began = Instant::now();
        let pulse = Pulse { keep_alive: Some(10 * SECOND), close_at: Some(began + 12 * SECOND) };
        assert_eq!(pulse.next_look(Beat::Comment, began), Some(began + 10 * SECOND));
        assert_eq!(pulse.next_look(Beat::None, began), Some(began + 5 * SECOND));
        assert_eq!(pulse.next_look(Beat::Comment, began + 5 * SECOND), pulse.close_at);
        let firsts: Vec<_> = (0..20).filter_map(|_| pulse.first_due(began)).map(|due| due - began).collect();
        assert!(firsts.iter().all(|first| (5 * SECOND..=10 * SECOND).contains(first)), "{firsts:?}");
        assert!(firsts.iter().any(|first| first != &firsts[0]), "{firsts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_due_again_and_again_and_one_that_sends_is_not() {
        let pulse = Pulse { keep_alive: Some(10 * SECOND), close_at: None };
        let mut clock = Clock::start(pulse);
        let began = now();
        for _ in 0..3 {
            let beat = std::future::poll_fn(|cx| clock.poll(pulse, cx)).await;
            assert_eq!(beat, Beat::Comment);
        }
        assert!((25 * SECOND..=31 * SECOND).contains(&(now() - began)));
        for _ in 0..10 {
            tokio::time::advance(4 * SECOND).await;
            clock.sent();
            let beat = std::future::poll_fn(|cx| Poll::Ready(clock.poll(pulse, cx))).await;
            assert!(beat.is_pending());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_whose_keep_alive_is_taken_away_is_silent() {
        let mut clock = Clock::start(Pulse { keep_alive: Some(SECOND), close_at: None });
        let quiet = Pulse { keep_alive: None, close_at: None };
        tokio::time::sleep(2 * SECOND).await;
        let beat = std::future::poll_fn(|cx| clock.poll(quiet, cx));
        assert!(tokio::time::timeout(3_600 * SECOND, beat).await.is_err());
    }

    #[test]
    fn streams_that_received_an_update_together_keep_their_times() {
        let (began, interval) = (Instant::now(), 16 * SECOND);
        let pulse = Pulse { keep_alive: Some(interval), close_at: None };
        // They are looked at after so many seconds for the first time, and receive an update after ten.
        let received = began + 10 * SECOND;
        let signs = (8..16).map(|first| {
            let (mut sent, mut look) = (began, began + first * SECOND);
            loop {
                sent = if look >= received { sent.max(received) } else { sent };
                let beat = pulse.beat(sent, look);
                if beat == Beat::Comment && look > received {
                    assert!(look - sent <= interval);
                    return look;
                }
                sent = if beat == Beat::Comment { look } else { sent };
                look = pulse.next_look(beat, look).expect("a time");
            }
        });
        let signs: std::collections::BTreeSet<_> = signs.collect();
        assert!(signs.len() >= 6, "{signs:?}");
    }
}
