//! The share of the processors that handshakes get.
//!
//! A client makes the hub sign with its private key, for a millisecond with RSA, and pays nothing for it. So many clients at
//! once would leave no processor to requests on connections that are open. Handshakes take turns, and one processor stays free
//! of them. Streams are written by threads of their own.

use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit};

/// The turns of one hub. Default: as many as there are processors but one, and one at least.
pub(super) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self(Semaphore::new((processors - 1).max(1)))
    }
}

impl Turns {
    /// Waits for a turn, in the order of the calls. It is to be held without waiting for anything.
    pub(super) async fn next(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.0.acquire().await.ok()
    }

    #[cfg(test)]
    pub(super) fn available(&self) -> usize {
        self.0.available_permits()
    }
}
