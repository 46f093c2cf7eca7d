//! The connections that may be open: how many, which of them wait, and when all of them stop.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

use crate::connection::idle::Idle;

/// The permits of all connections of one service. Clones share them.
#[derive(Clone)]
pub(crate) struct Permits {
    max: Arc<AtomicUsize>,
    open: watch::Sender<usize>,
    /// Connections that wait for a request. Each lends its permit, which another connection may take.
    pub(crate) idle: Arc<Idle<ConnectionPermit>>,
    /// Connections on which a part of a head has come, or whose peers do not read their answers. They keep their permits.
    pub(crate) stalled: Arc<Idle<()>>,
    phase: watch::Sender<Phase>,
}

/// What a service does with its connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Open,
    /// No connection is accepted. Each open one ends with its next answer.
    Closing,
    /// Connections that wait for a request end, too.
    Stopping,
}

/// The permit of one open connection. Dropping it makes room for another.
pub struct ConnectionPermit(watch::Sender<usize>);

impl Permits {
    /// For at most `max` open connections. `idle_max` may wait for a request, and `stalled_max` may stall.
    pub(crate) fn new(max: usize, idle_max: usize, stalled_max: usize) -> Self {
        Self {
            max: Arc::new(AtomicUsize::new(max)),
            open: watch::Sender::new(0),
            idle: Idle::new(idle_max),
            stalled: Idle::new(stalled_max),
            phase: watch::Sender::new(Phase::Open),
        }
    }

    /// A permit for one more connection. If as many are open as may be, the connection that has waited longest for a
    /// request is closed. `None`: all are busy, or the service stops.
    pub(crate) fn admit(&self) -> Option<ConnectionPermit> {
        if *self.phase.borrow() == Phase::Stopping {
            return None;
        }
        let mut has_room = false;
        self.open.send_if_modified(|open| {
            has_room = *open < self.max.load(Ordering::Relaxed);
            *open += usize::from(has_room);
            // Tasks only wait for fewer connections.
            false
        });
        if has_room { Some(ConnectionPermit(self.open.clone())) } else { self.idle.evict() }
    }

    /// The connections that are open.
    pub(crate) fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// From now on so many connections may be open.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// From now on [`Permits::closing`] returns, so that no connection is accepted.
    pub(crate) fn close(&self) {
        self.advance(Phase::Closing);
    }

    /// From now on no connection is admitted, and [`Permits::stopping`] returns.
    pub(crate) fn stop(&self) {
        self.advance(Phase::Stopping);
    }

    fn advance(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let advances = *phase < next;
            *phase = next.max(*phase);
            advances
        });
    }

    /// Whether no connection is accepted any more.
    pub(crate) fn is_closing(&self) -> bool {
        *self.phase.borrow() >= Phase::Closing
    }

    /// Waits until no connection is accepted any more.
    pub(crate) async fn closing(&self) {
        self.reached(Phase::Closing).await;
    }

    /// Waits until the service stops.
    pub(crate) async fn stopping(&self) {
        self.reached(Phase::Stopping).await;
    }

    async fn reached(&self, wanted: Phase) {
        let mut phase = self.phase.subscribe();
        // An error would mean that the sender is gone, which lives as long as self.
        let _ = phase.wait_for(|phase| *phase >= wanted).await;
    }

    /// Waits until no connection is open.
    pub(crate) async fn drained(&self) {
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn as_many_connections_are_admitted_as_may_be_open() {
        let permits = Permits::new(2, 10, 10);
        let (first, second) = (permits.admit().expect("room"), permits.admit().expect("room"));
        assert!(permits.admit().is_none());
        drop(first);
        let third = permits.admit().expect("room again");
        assert!(permits.admit().is_none());
        drop((second, third));
        permits.drained().await;
        assert!(permits.admit().is_some());
    }

    #[tokio::test]
    async fn another_bound_holds_for_all_clones() {
        let permits = Permits::new(1, 10, 10);
        let clone = permits.clone();
        let _first = permits.admit().expect("room");
        assert!(clone.admit().is_none());
        permits.set_max(2);
        let _second = clone.admit().expect("room");
        assert!(clone.admit().is_none());
    }

    #[tokio::test]
    async fn a_connection_that_waits_gives_its_permit_to_a_new_one() {
        let permits = Permits::new(1, 10, 10);
        let mut waiting = permits.idle.enter(permits.admit().expect("room"));
        let new = permits.admit().expect("the permit of the one that waits");
        waiting.evicted().await;
        assert!(waiting.leave().is_none() && permits.admit().is_none());
        drop(new);
        permits.drained().await;
    }

    #[tokio::test]
    async fn no_connection_is_admitted_once_the_service_stops() {
        let permits = Permits::new(2, 10, 10);
        let open = permits.admit().expect("room");
        permits.stop();
        permits.stopping().await;
        assert!(permits.admit().is_none());
        drop(open);
        permits.drained().await;
    }
}
