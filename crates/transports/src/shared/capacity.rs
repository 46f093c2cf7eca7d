//! Whether a store takes appends or refuses them, mostly for want of room. A change is logged once.
//!
//! A store that refuses appends is probed until it takes them again: a node that is not ready gets no updates to
//! append, so no append would find that out.

use std::{
    fmt::Display,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::sync::watch;

/// Whether a store has room, as far as is known without asking it.
pub(crate) struct Capacity {
    /// For the log: which store it is.
    shown: String,
    takes: AtomicBool,
    /// Bytes of the append that was refused last; `None`: the store takes appends.
    refused: watch::Sender<Option<usize>>,
}

/// How often a store that refuses appends is probed.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// The most bytes that a probe looks for: a store with less room refuses many updates, and a store that has no room for
/// one larger update may have room for others.
const LOOK_BYTES_MAX: usize = 64 * 1024;

impl Capacity {
    pub(crate) fn new(shown: impl Into<String>) -> Self {
        Self { shown: shown.into(), takes: AtomicBool::new(true), refused: watch::Sender::new(None) }
    }

    /// Whether the last append was not refused, or room was seen since.
    pub(crate) fn has_room(&self) -> bool {
        self.takes.load(Ordering::Relaxed)
    }

    /// An append was taken, or would be.
    pub(crate) fn took(&self) {
        // Read first: every append comes by here.
        if !self.has_room() && !self.takes.swap(true, Ordering::Relaxed) {
            self.refused.send_replace(None);
            tracing::info!("{} takes updates again", self.shown);
        }
    }

    /// An append of so many bytes was refused, and others will be until there is room.
    pub(crate) fn refused(&self, bytes: usize, reason: &dyn Display) {
        self.refused.send_replace(Some(bytes.min(LOOK_BYTES_MAX)));
        if self.takes.swap(false, Ordering::Relaxed) {
            tracing::warn!(%reason, "{} refuses updates until it has room: this node is not ready", self.shown);
        }
    }

    /// Waits until the next probe is due, [`LOOK`] after a refused append, and returns the bytes to look for.
    pub(crate) async fn is_due(&self) -> usize {
        let mut refused = self.refused.subscribe();
        loop {
            // The sender is ours.
            let _ = refused.wait_for(Option::is_some).await;
            tokio::time::sleep(LOOK).await;
            if let Some(bytes) = *refused.borrow() {
                return bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_is_looked_at_while_it_refuses_appends() {
        let capacity = Capacity::new("a store");
        assert!(capacity.has_room());
        capacity.refused(10, &"full");
        assert!(!capacity.has_room());
        assert_eq!(capacity.is_due().await, 10);
        capacity.refused(LOOK_BYTES_MAX + 1, &"full");
        assert_eq!(capacity.is_due().await, LOOK_BYTES_MAX);
        capacity.took();
        assert!(capacity.has_room());
        let mut is_due = std::pin::pin!(capacity.is_due());
        let is_ready = std::future::poll_fn(|cx| std::task::Poll::Ready(is_due.as_mut().poll(cx).is_ready()));
        assert!(!is_ready.await, "there is nothing to look for");
    }
}
