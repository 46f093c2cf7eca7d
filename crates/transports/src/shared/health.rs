//! Whether a store answers, and the log lines about it: one when it stops answering and one when it answers again.

use std::{
    fmt::Display,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

/// The availability of one store, as far as it is known without asking.
pub(crate) struct Health {
    /// Names the store in log lines, without secrets.
    store: String,
    is_available: watch::Sender<bool>,
    /// The reasons that were logged since the store stopped answering.
    reasons: Mutex<Vec<String>>,
}

/// Different reasons that are logged for one outage: why it began, and why it does not end.
const REASONS_MAX: usize = 4;

impl Health {
    /// The health of a store that answers.
    pub(crate) fn new(store: impl Into<String>) -> Self {
        Self { store: store.into(), is_available: watch::Sender::new(true), reasons: Mutex::default() }
    }

    pub(crate) fn is_available(&self) -> bool {
        *self.is_available.borrow()
    }

    /// Waits until the store answers.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) async fn until_available(&self) {
        // The sender is in this value.
        let _ = self.is_available.subscribe().wait_for(|is_available| *is_available).await;
    }

    /// The store does not answer. Logs each reason of an outage once.
    pub(crate) fn set_unavailable(&self, reason: &dyn Display) {
        let reason = reason.to_string();
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let was_available = self.is_available.send_replace(false);
        if reasons.len() < REASONS_MAX && !reasons.contains(&reason) {
            match was_available {
                true => tracing::warn!(reason, "{} is unavailable: this node is not ready", self.store),
                false => tracing::warn!(reason, "{} is still unavailable", self.store),
            }
            reasons.push(reason);
        }
    }

    /// The store has answered.
    pub(crate) fn set_available(&self) {
        // Read first: many answers come by here.
        if self.is_available() {
            return;
        }
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_available.send_replace(true) {
            reasons.clear();
            tracing::info!("{} is available again", self.store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_an_outage_is_logged_once() {
        let health = Health::new("a store");
        let logged = || health.reasons.lock().expect("no panic").len();
        for (reason, count) in [("closed", 1), ("closed", 1), ("refused", 2)] {
            health.set_unavailable(&reason);
            assert!(!health.is_available());
            assert_eq!(logged(), count);
        }
        for number in 0..10 {
            health.set_unavailable(&number);
        }
        assert_eq!(logged(), REASONS_MAX);
        health.set_available();
        assert!(health.is_available());
        assert_eq!(logged(), 0, "the next outage is another one");
    }
}
