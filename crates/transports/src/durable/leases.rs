//! The leases of the hubs that use the log. They are in memory. Where one process uses the log, no hub outlives it, and the
//! subscribers of a former process are abandoned at once. Where several do, the process that opens the log next takes the
//! hubs of all recorded subscribers for alive and gives them a lease.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use petasos_hub::registry::{Lease, NodeId};

pub(super) struct Leases {
    length: Duration,
    /// The end of each lease. Leases that have ended are dropped when another one begins.
    ends: Mutex<HashMap<NodeId, Instant>>,
}

/// Nodes come back to another process within this time, at most.
const ADOPTED_MIN: Duration = Duration::from_secs(6);

impl Leases {
    pub(super) fn new(length: Duration) -> Self {
        Self { length, ends: Mutex::default() }
    }

    pub(super) fn length(&self) -> Duration {
        self.length
    }

    pub(super) fn renew(&self, node: NodeId) -> Lease {
        let now = Instant::now();
        let mut ends = self.lock();
        ends.retain(|_, end| now < *end);
        match ends.insert(node, now + self.length) {
            Some(_) => Lease::Kept,
            None => Lease::Ended,
        }
    }

    /// Gives a node that another process may have known a lease from now on.
    pub(super) fn adopt(&self, node: NodeId) {
        self.lock().insert(node, Instant::now() + self.length.max(ADOPTED_MIN));
    }

    pub(super) fn is_live(&self, node: NodeId) -> bool {
        self.lock().get(&node).is_some_and(|end| Instant::now() < *end)
    }

    pub(super) fn resign(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Instant>> {
        // Nothing under the lock panics.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
