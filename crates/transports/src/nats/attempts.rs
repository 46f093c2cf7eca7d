//! The attempts to have one message stored. While nobody receives it, it is sent again until the time is over: the stream has no
//! leader then, and a cluster chooses one.
//!
//! A message that somebody may have received is never sent again: it could be stored twice.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;

/// See the module.
#[derive(Clone, Copy)]
pub(super) struct Attempts {
    deadline: Instant,
}

impl Attempts {
    /// Attempts that begin now, for so long.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout }
    }

    /// No attempt begins after this. The last one may still wait for its answer.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether the message is sent again after it has failed like this. [`super::link::Link::publish`] waits until the server
    /// is available, so attempts never follow each other at once.
    pub(super) fn go_on(&self, failure: &Failure) -> bool {
        failure.is_untaken() && Instant::now() < self.deadline
    }
}
