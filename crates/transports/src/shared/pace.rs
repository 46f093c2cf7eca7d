//! Publishers of this process wait for its own follower: whoever appends faster than the node can deliver would
//! otherwise fill the store with what has to be trimmed before it is seen.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use petasos_hub::transport::Position;
use slab::Slab;
use tokio::sync::Notify;

/// How far a follower may be behind the last append of this process.
pub(crate) const WINDOW_ENTRIES: u64 = 1_024;

/// Entries that a store keeps beyond its history for followers that are still on the way to them: those of other nodes,
/// whom no publisher waits for.
pub(crate) const MARGIN_ENTRIES: usize = 16_384;

/// The followers of one transport value.
#[derive(Default)]
pub(crate) struct Window {
    followers: Mutex<Slab<Position>>,
    moved: Notify,
}

/// One follower's place in the window. Dropping it lets go of all who wait for it.
pub(crate) struct Seat {
    window: Arc<Window>,
    key: usize,
}

impl Window {
    /// A follower that has seen everything up to `position`.
    pub(crate) fn enter(self: &Arc<Self>, position: Position) -> Seat {
        Seat { key: self.lock().insert(position), window: Arc::clone(self) }
    }

    /// Waits until no follower is a window behind the position of the newest append. A follower of another epoch is not
    /// waited for: it will find out that its log was lost.
    pub(crate) async fn room(&self, newest: Position) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            let is_near = |seen: &Position| {
                seen.epoch != newest.epoch || newest.sequence < seen.sequence.saturating_add(WINDOW_ENTRIES)
            };
            if self.lock().iter().all(|(_, seen)| is_near(seen)) {
                return;
            }
            moved.await;
        }
    }

    /// The least that any follower has seen. `None`: nobody follows.
    #[cfg(feature = "durable")]
    pub(crate) fn slowest(&self) -> Option<Position> {
        self.lock().iter().map(|(_, seen)| *seen).min()
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Position>> {
        // Nothing under the lock panics.
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Everything up to `position` has been taken.
    pub(crate) fn move_to(&self, position: Position) {
        self.window.lock()[self.key] = position;
        self.window.moved.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.window.lock().remove(self.key);
        self.window.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn appenders_wait_for_the_slowest_until_it_moves_or_leaves() {
        let at = |sequence| Position { epoch: 1, sequence };
        let window = Arc::new(Window::default());
        let (fast, slow) = (window.enter(at(0)), window.enter(at(0)));
        let is_ready =
            || pin!(window.room(at(WINDOW_ENTRIES))).poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(!is_ready());
        fast.move_to(at(1));
        assert!(!is_ready());
        slow.move_to(at(1));
        assert!(is_ready());
        slow.move_to(at(0));
        assert!(!is_ready());
        drop(slow);
        assert!(is_ready());
    }
}
