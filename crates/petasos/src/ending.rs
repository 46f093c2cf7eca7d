//! How a hub ends: the steps after the first signal, and whether the system grants the time for them.
//!
//! 1. For `delay`, `/readyz` answers 503 and everything goes on: load balancers notice that late.
//! 2. Over `drain`, no connection is accepted, and streams are closed one after the other. Publishers are answered.
//! 3. What is left ends.
//!
//! A process that is asked to hurry goes to the last step at once.

use std::{
    env,
    time::{Duration, Instant},
};

use petasos::{
    Warning,
    deadline::{AFTER_DRAIN, HURRY_MAX, STOP_MAX, end_process_after},
    notify,
};
use petasos_server::Connections;
use tokio::{
    sync::watch,
    time::{Instant as Timer, sleep, timeout, timeout_at},
};

use crate::stop::Stop;

/// The times of an end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending {
    pub(crate) delay: Duration,
    pub(crate) drain: Duration,
    /// When the system kills the process; `None`: it is guessed. Zero: never.
    pub(crate) stop_timeout: Option<Duration>,
}

impl Default for Ending {
    fn default() -> Self {
        Self { delay: Duration::from_secs(5), drain: Duration::from_secs(30), stop_timeout: None }
    }
}

/// What a process needs after its drain, as in [`petasos::deadline`].
const RESERVE: Duration = Duration::from_secs(2);

/// How long the last bytes of streams may take that end when the hub stops.
const LAST_BYTES_MAX: Duration = Duration::from_millis(100);

/// How long connections without streams may wait for their next request, once the streams have ended.
const NEXT_REQUEST_MAX: Duration = Duration::from_secs(2);

/// The shortest drain that a default is shortened to.
const DRAIN_MIN: Duration = Duration::from_secs(1);

impl Ending {
    /// The same, with defaults that are shortened to the time that the system grants.
    pub(crate) fn fitted(self, is_delay_given: bool, is_drain_given: bool) -> Self {
        let Some((granted, _)) = self.granted().filter(|_| !is_drain_given) else { return self };
        let room = granted.saturating_sub(RESERVE);
        let drain = self.drain.min(room.saturating_sub(self.delay).max(DRAIN_MIN));
        let delay = if is_delay_given { self.delay } else { self.delay.min(room.saturating_sub(drain)) };
        Self { delay, drain, ..self }
    }

    /// The time until the hub is told to stop.
    pub(crate) fn total(&self) -> Duration {
        self.delay.saturating_add(self.drain)
    }

    /// A warning if the system kills the process before it has ended.
    pub(crate) fn warning(&self) -> Option<Warning> {
        let (granted, remedy) = self.granted()?;
        let needed = self.total().saturating_add(RESERVE);
        (granted < needed).then(|| Warning {
            setting: "drain",
            problem: format!(
                "drain_delay and drain take {} with the 2 seconds that the hub needs after them, and the process is killed \
                 after {}: {remedy}, or lower one of them",
                humantime::format_duration(needed),
                humantime::format_duration(granted),
            ),
        })
    }

    /// The time that the system grants, as far as it is known, and how to have more.
    fn granted(&self) -> Option<(Duration, &'static str)> {
        match self.stop_timeout {
            Some(Duration::ZERO) => None,
            Some(given) => Some((given, "raise what stop_timeout stands for")),
            // The two limits are not in the environment, so these are their defaults.
            None if env::var_os("KUBERNETES_SERVICE_HOST").is_some() => Some((
                Duration::from_secs(30),
                "raise terminationGracePeriodSeconds and give the same as stop_timeout (STOP_TIMEOUT)",
            )),
            None if env::var_os("NOTIFY_SOCKET").is_some() => Some((
                Duration::from_secs(90),
                "raise TimeoutStopSec= and give the same as stop_timeout (STOP_TIMEOUT)",
            )),
            None if std::process::id() == 1 => Some((
                Duration::from_secs(10),
                "raise the time-out of docker stop (stop_grace_period in a compose file) and give the same as stop_timeout \
                 (STOP_TIMEOUT)",
            )),
            None => None,
        }
    }

    /// Ends the hub once it is asked to, another one has taken over, or it has failed, with the times that are `current` then.
    pub(crate) async fn run(
        current: watch::Receiver<Self>,
        mut stop: Stop,
        connections: Connections,
        taken: impl Future<Output = ()>,
    ) {
        let hub = connections.service().hub().clone();
        let delay = tokio::select! {
            () = stop.asked() => Some(current.borrow().delay),
            // The new hub accepts connections on the same socket: there is nothing for a load balancer to notice.
            () = taken => {
                // Before the log line: its reader may send a signal at once.
                stop.ends_already();
                tracing::info!("a new hub has taken over: this one closes its streams one after the other, and ends");
                let _ = end_process_after(current.borrow().drain.saturating_add(AFTER_DRAIN), 1);
                Some(Duration::ZERO)
            }
            () = hub.failed() => None,
        };
        notify::stopping();
        if let Some(delay) = delay {
            let ending = *current.borrow();
            tokio::select! {
                () = ending.drain(delay, &connections) => {}
                () = stop.hurried() => {}
                () = hub.failed() => {}
            }
        }
        let began = Timer::now();
        if timeout(STOP_MAX, connections.stop()).await.is_err() {
            tracing::warn!("the hub did not stop in time: what it had left to do is left undone");
        }
        let answers = (began + HURRY_MAX).max(Timer::now() + LAST_BYTES_MAX);
        let _ = timeout_at(answers, connections.drained()).await;
    }

    async fn drain(self, delay: Duration, connections: &Connections) {
        let hub = connections.service().hub();
        hub.leave();
        sleep(delay).await;
        connections.close();
        if self.drain.is_zero() {
            // A hub that stops delivers before it ends its streams.
            return;
        }
        let (began, streams) = (Instant::now(), hub.stats().subscribers);
        tracing::info!(
            streams,
            "no connection is accepted any more, and streams are closed over the time of drain"
        );
        let deadline = Timer::now() + self.drain;
        hub.drain(self.drain).await;
        tracing::info!(
            left = hub.stats().subscribers,
            seconds = began.elapsed().as_secs(),
            "streams are closed"
        );
        // To end a connection that waits for a request would cut off a request that is on its way. Each one ends with its next
        // answer.
        let _ = timeout_at(deadline.min(Timer::now() + NEXT_REQUEST_MAX), connections.drained()).await;
        connections.finish();
        let _ = timeout_at(deadline, connections.drained()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_shortened_to_the_time_that_the_system_grants_and_what_is_given_is_not() {
        let fitted = |granted, is_delay_given, is_drain_given| {
            let ending = Ending { stop_timeout: Some(Duration::from_secs(granted)), ..Ending::default() };
            let Ending { delay, drain, .. } = ending.fitted(is_delay_given, is_drain_given);
            (delay.as_secs(), drain.as_secs())
        };
        for (granted, times) in [
            (0, (5, 30)),
            (90, (5, 30)),
            (37, (5, 30)),
            (30, (5, 23)),
            (10, (5, 3)),
            (7, (4, 1)),
            (1, (0, 1)),
        ] {
            assert_eq!(fitted(granted, false, false), times, "{granted} s");
        }
        assert_eq!(fitted(7, true, false), (5, 1));
        assert_eq!(fitted(10, false, true), (5, 30));
        // --dev ends without a drain.
        let none = Ending {
            delay: Duration::ZERO,
            drain: Duration::ZERO,
            stop_timeout: Some(Duration::from_secs(10)),
        };
        assert_eq!(none.fitted(false, false).total(), Duration::ZERO);
    }

    #[test]
    fn a_drain_that_does_not_fit_is_warned_of() {
        let ending = |drain, granted| Ending {
            drain: Duration::from_secs(drain),
            stop_timeout: Some(Duration::from_secs(granted)),
            ..Ending::default()
        };
        assert!(ending(23, 30).warning().is_none() && ending(24, 0).warning().is_none());
        let text = ending(24, 30).warning().expect("a warning").to_string();
        assert!(text.starts_with("drain: ") && text.contains("31s") && text.contains("30s"), "{text}");
    }
}
