//! One subscriber, however its bytes travel: what it wants, when it ends, and that it is counted and present.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use crate::{
    Closed,
    budget::{GrantsWeight, Weight},
    hub::Engine,
    interest::Interest,
    presence,
    shard::Shard,
    transport::{Page, Position, Trimmed},
};

/// A subscriber. Dropping it unsubscribes.
pub(crate) struct Subscriber {
    pub(crate) engine: Arc<Engine>,
    pub(crate) shard: Shard,
    pub(crate) interest: Arc<Interest>,
    /// What the log had let go of when it began. That is the hub's policy, and the answer to the cursor tells; what is
    /// let go of later and was still to be sent is a loss.
    pub(crate) forgiven: Trimmed,
    /// When its stream ends at the latest.
    pub(crate) close_at: Option<Instant>,
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) presence: Option<presence::Guard>,
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) counted: Option<Counted>,
    /// Its part of the budget, for its matchers and its grants.
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) weight: Option<(Arc<Weight>, Option<Arc<GrantsWeight>>)>,
}

impl Subscriber {
    /// Whether the log has let go of something after `after` that it was still to see.
    pub(crate) fn is_gap(&self, page: &Page, after: Position) -> bool {
        let lost_events =
            page.trimmed.events > after.max(self.forgiven.events) && self.interest.sees_private();
        page.trimmed.updates > after.max(self.forgiven.updates) || lost_events
    }

    /// Says why its stream ends.
    pub(crate) fn ends(&self, reason: Closed) {
        if reason == Closed::Lagged {
            self.engine.lagged.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(%reason, "a stream ends");
    }
}

/// One of the streams that are open.
pub(crate) struct Counted(Arc<Engine>);

impl Counted {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        engine.subscribers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(engine))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}
