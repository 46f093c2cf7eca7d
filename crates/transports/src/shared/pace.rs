//! Publishers wait for the followers of their own process. Without that, a process that appends faster than it delivers
//! would fill its store with entries that are trimmed before its followers read them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use petasos_hub::{TransportError, transport::Position};
use slab::Slab;
use tokio::sync::Notify;

/// Entries by which a follower may lag behind the newest append before publishers wait for it.
pub(crate) const LAG_ENTRIES_MAX: u64 = 1_024;

/// Entries that a store keeps beyond its history, for followers that lag: those of other nodes, which no publisher of
/// this process waits for.
pub(crate) const MARGIN_ENTRIES: usize = 16_384;

/// The followers of one log in this process, and the newest append.
#[derive(Default)]
pub(crate) struct Pace {
    /// The last position that each follower has taken.
    followers: Mutex<Slab<Position>>,
    #[cfg(any(feature = "host", feature = "nats", feature = "postgres", feature = "redis"))]
    newest: Mutex<Option<Position>>,
    moved: Notify,
}

/// One follower in the pace of its log. When it is dropped, publishers stop waiting for that follower.
pub(crate) struct Seat {
    pace: Arc<Pace>,
    key: usize,
}

impl Pace {
    /// Adds a follower that has taken everything up to `position`.
    pub(crate) fn enter(self: &Arc<Self>, position: Position) -> Seat {
        Seat { key: self.lock().insert(position), pace: Arc::clone(self) }
    }

    /// Records an append of this process. Appends may be recorded in any order.
    #[cfg(any(feature = "host", feature = "nats", feature = "postgres", feature = "redis"))]
    pub(crate) fn appended(&self, position: Position) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = (*newest).max(Some(position));
    }

    /// The newest append of this process; before the first one, [`Position::EARLIEST`].
    #[cfg(any(feature = "host", feature = "nats", feature = "postgres", feature = "redis"))]
    pub(crate) fn newest(&self) -> Position {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.unwrap_or(Position::EARLIEST)
    }

    /// Waits until every follower is near `newest`. A follower of another epoch is not waited for: it will find out that
    /// its log was lost.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] after `patience`: the followers wait for the store, or the process is too slow.
    pub(crate) async fn turn(&self, newest: Position, patience: Duration) -> Result<(), TransportError> {
        if self.is_near(newest) {
            return Ok(());
        }
        let near = async {
            loop {
                let moved = self.moved.notified();
                tokio::pin!(moved);
                moved.as_mut().enable();
                if self.is_near(newest) {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(patience, near).await.map_err(|_| {
            TransportError::unavailable("this node has not delivered yet what was published before")
        })
    }

    fn is_near(&self, newest: Position) -> bool {
        let is_near = |seen: &Position| {
            seen.epoch != newest.epoch || newest.sequence < seen.sequence.saturating_add(LAG_ENTRIES_MAX)
        };
        self.lock().iter().all(|(_, seen)| is_near(seen))
    }

    /// The position of the follower that lags most. `None`: nobody follows.
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
    /// Records that the follower has taken everything up to `position`.
    pub(crate) fn move_to(&self, position: Position) {
        self.pace.lock()[self.key] = position;
        self.pace.moved.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pace.lock().remove(self.key);
        self.pace.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn at(sequence: u64) -> Position {
        Position { epoch: 1, sequence }
    }

    #[tokio::test]
    async fn publishers_wait_for_the_slowest_follower_until_it_moves_or_leaves() {
        let pace = Arc::new(Pace::default());
        let (fast, slow) = (pace.enter(at(0)), pace.enter(at(0)));
        let is_ready = || {
            let turn = pin!(pace.turn(at(LAG_ENTRIES_MAX), Duration::MAX));
            turn.poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
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

    #[tokio::test]
    async fn a_publisher_waits_no_longer_than_its_patience() {
        let pace = Arc::new(Pace::default());
        let _stuck = pace.enter(at(0));
        pace.turn(at(LAG_ENTRIES_MAX - 1), Duration::ZERO).await.expect("near enough");
        let late = pace.turn(at(LAG_ENTRIES_MAX), Duration::from_millis(1)).await;
        assert!(matches!(late, Err(TransportError::Unavailable(_))), "{late:?}");
    }
}
