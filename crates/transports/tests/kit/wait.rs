//! Waiting for a fact that nobody announces.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::PATIENCE;

/// Waits until something is so that a server or a task does by itself.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut wait = Wait::new(what);
    while !is_so() {
        wait.goes_on().await;
    }
}

/// The same where looking takes an await: `while !is_so().await { wait.goes_on().await }`.
pub struct Wait<'a> {
    what: &'a str,
    deadline: Instant,
    looks: Interval,
}

impl<'a> Wait<'a> {
    pub fn new(what: &'a str) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { what, deadline: Instant::now() + PATIENCE, looks }
    }

    /// # Panics
    ///
    /// When it has taken too long.
    pub async fn goes_on(&mut self) {
        assert!(Instant::now() < self.deadline, "waited in vain: {}", self.what);
        self.looks.tick().await;
    }
}

/// How often is looked. No result depends on it: it leaves the processor to what is waited for.
const LOOK: Duration = Duration::from_millis(10);
