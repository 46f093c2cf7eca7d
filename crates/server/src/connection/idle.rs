//! Connections that wait for their peers, and their eviction.
//!
//! A client keeps a connection for its next request. Such connections must not shut out new ones: when too many wait,
//! or when a new connection finds no room, the connection that has waited longest is closed. The same holds for
//! connections that have sent a part of a request, which take more memory.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{sync::oneshot, task::unconstrained};

/// The connections that wait, each with its permit `T` to be open.
pub(crate) struct Idle<T> {
    max: usize,
    waiting: Mutex<Waiting<T>>,
}

struct Waiting<T> {
    /// The number of the next entry. Numbers grow with time, so the first entry has waited longest.
    next: u64,
    entries: BTreeMap<u64, Entry<T>>,
}

struct Entry<T> {
    permit: T,
    #[expect(dead_code, reason = "its drop tells the connection to close")]
    wait: oneshot::Sender<()>,
}

/// A connection's entry, which is removed when this is dropped.
pub(crate) struct Wait<T> {
    idle: Arc<Idle<T>>,
    number: u64,
    evicted: oneshot::Receiver<()>,
}

impl<T> Idle<T> {
    /// For at most `max` connections.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let waiting = Mutex::new(Waiting { next: 0, entries: BTreeMap::new() });
        Arc::new(Self { max, waiting })
    }

    /// Adds a connection. If too many wait, the connection that has waited longest is closed.
    pub(crate) fn enter(self: &Arc<Self>, permit: T) -> Wait<T> {
        let (wait, evicted) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.entries.insert(number, Entry { permit, wait });
        let is_full = waiting.entries.len() > self.max;
        let oldest = is_full.then(|| waiting.entries.pop_first()).flatten();
        drop(waiting);
        drop(oldest);
        Wait { idle: Arc::clone(self), number, evicted }
    }

    /// Closes the connection that has waited longest, and returns its permit. `None`: no connection waits.
    pub(crate) fn evict(&self) -> Option<T> {
        let oldest = self.lock().entries.pop_first();
        oldest.map(|(_, entry)| entry.permit)
    }

    fn remove(&self, number: u64) -> Option<T> {
        self.lock().entries.remove(&number).map(|entry| entry.permit)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Wait<T> {
    /// Returns when another connection has got the permit of this one, which must close.
    pub(crate) async fn evicted(&mut self) {
        poll_fn(|cx| self.poll_evicted(cx)).await;
    }

    /// Polls for what [`evicted`](Self::evicted) waits for.
    pub(crate) fn poll_evicted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A peer that goes on sending uses up what a task may do in one turn.
        Pin::new(&mut unconstrained(&mut self.evicted)).poll(cx).map(|_| ())
    }

    /// The permit. `None`: another connection has it.
    pub(crate) fn leave(self) -> Option<T> {
        self.idle.remove(self.number)
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        drop(self.idle.remove(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_that_has_waited_longest_is_evicted_first() {
        let idle = Idle::new(10);
        let (mut first, second) = (idle.enter(1), idle.enter(2));
        let mut third = idle.enter(3);
        assert_eq!(second.leave(), Some(2));
        assert_eq!(idle.evict(), Some(1));
        first.evicted().await;
        assert_eq!(first.leave(), None);
        // It has begun to wait again, and later than the third.
        let second = idle.enter(2);
        assert_eq!((idle.evict(), idle.evict(), idle.evict()), (Some(3), Some(2), None));
        third.evicted().await;
        drop(second);
    }

    #[tokio::test]
    async fn no_more_wait_than_may() {
        let idle = Idle::new(2);
        let mut waits: Vec<_> = (0..3).map(|number| idle.enter(number)).collect();
        waits[0].evicted().await;
        let permits: Vec<_> = waits.into_iter().map(Wait::leave).collect();
        assert_eq!(permits, [None, Some(1), Some(2)]);
        let mut alone = Idle::new(0).enter(1);
        alone.evicted().await;
    }

    #[test]
    fn a_dropped_wait_gives_its_permit_back() {
        let idle = Idle::new(10);
        let permit = Arc::new(());
        drop(idle.enter(Arc::clone(&permit)));
        assert_eq!(Arc::strong_count(&permit), 1);
        assert!(idle.evict().is_none());
    }
}
