//! Exponential backoff: the time between attempts to reach a store.

use std::time::Duration;

use uuid::Uuid;

/// The time before the next attempt. It doubles from 50 ms to 2 s, and each wait is shortened by a random part of up to a
/// half, so that nodes which lost the same store do not come back together.
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

    /// Waits, longer each time.
    pub(crate) async fn wait(&mut self) {
        let (_, random) = Uuid::new_v4().as_u64_pair();
        let fraction = f64::from(random as u32) / f64::from(u32::MAX);
        tokio::time::sleep(self.next.mul_f64(1.0 - fraction / 2.0)).await;
        self.next = (self.next * 2).min(LAST);
    }

    /// The store has answered: the next wait is short again.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}
