//! How long to wait before a backend that does not answer is asked again.

use std::time::Duration;

use uuid::Uuid;

/// The time between attempts: doubled each time, up to a bound, and each shortened by up to a half, so that nodes that
/// lost the same backend do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(2);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits; longer each time.
    pub(crate) async fn wait(&mut self) {
        let (_, random) = Uuid::new_v4().as_u64_pair();
        let fraction = f64::from(random as u32) / f64::from(u32::MAX);
        tokio::time::sleep(self.next.mul_f64(1.0 - fraction / 2.0)).await;
        self.next = (self.next * 2).min(LAST);
    }

    /// It has answered.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}
