//! Whether a store takes appends or refuses them, mostly for want of room. Each change is logged once.
//!
//! A store that refuses appends is probed until it takes them again. A node that is not ready gets no updates, so no
//! append would find that out.

use std::{
    fmt::Display,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

/// Whether a store has room, as far as it is known without asking.
pub(crate) struct Capacity {
    /// Names the store in log lines, without secrets.
    store: String,
    takes: AtomicBool,
    /// Bytes of the append that was refused last; `None`: the store takes appends.
    refused: watch::Sender<Option<usize>>,
}

/// How often a store that refuses appends is probed.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) const PROBE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// Bytes that a probe looks for at most. A store with less room refuses many updates; a store that refuses one larger
/// update may have room for others.
const PROBE_BYTES_MAX: usize = 64 * 1024;

impl Capacity {
    pub(crate) fn new(store: impl Into<String>) -> Self {
        Self { store: store.into(), takes: AtomicBool::new(true), refused: watch::Sender::new(None) }
    }

    /// False from a refused append until an append or a probe finds room.
    pub(crate) fn has_room(&self) -> bool {
        self.takes.load(Ordering::Relaxed)
    }

    /// The store has taken an append, or would take one.
    pub(crate) fn took(&self) {
        // Read first: every append comes by here.
        if !self.has_room() && !self.takes.swap(true, Ordering::Relaxed) {
            self.refused.send_replace(None);
            tracing::info!("{} takes updates again", self.store);
        }
    }

    /// The store has refused an append of so many bytes, and refuses others until it has room.
    pub(crate) fn refused(&self, bytes: usize, reason: &dyn Display) {
        self.refused.send_replace(Some(bytes.min(PROBE_BYTES_MAX)));
        if self.takes.swap(false, Ordering::Relaxed) {
            tracing::warn!(%reason, "{} refuses updates until it has room: this node is not ready", self.store);
        }
    }

    /// Waits until the next probe is due, [`PROBE_INTERVAL`] after a refused append, and returns the bytes to look for.
    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(crate) async fn is_due(&self) -> usize {
        let mut refused = self.refused.subscribe();
        loop {
            // The sender is in this value.
            let _ = refused.wait_for(Option::is_some).await;
            tokio::time::sleep(PROBE_INTERVAL).await;
            if let Some(bytes) = *refused.borrow() {
                return bytes;
            }
        }
    }
}

#[cfg(all(test, any(feature = "nats", feature = "postgres")))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_is_looked_at_while_it_refuses_appends() {
        let capacity = Capacity::new("a store");
        assert!(capacity.has_room());
        capacity.refused(10, &"full");
        assert!(!capacity.has_room());
        assert_eq!(capacity.is_due().await, 10);
        capacity.refused(PROBE_BYTES_MAX + 1, &"full");
        assert_eq!(capacity.is_due().await, PROBE_BYTES_MAX);
        capacity.took();
        assert!(capacity.has_room());
        let mut is_due = std::pin::pin!(capacity.is_due());
        let is_ready = std::future::poll_fn(|cx| std::task::Poll::Ready(is_due.as_mut().poll(cx).is_ready()));
        assert!(!is_ready.await, "there is nothing to look for");
    }
}
