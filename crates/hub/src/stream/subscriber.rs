//! One subscriber, whatever carries its stream: what it wants, when it ends, and that it is counted and present.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use crate::{
    Closed,
    budget::{GrantsWeight, Weight},
    interest::Interest,
    log::transport::{Page, Position, Trimmed},
    node::{Counted, Node},
    presence,
    stream::pulse::Pulse,
};

/// A subscriber. Dropping it unsubscribes.
pub(crate) struct Subscriber {
    pub(crate) node: Arc<Node>,
    pub(crate) interest: Arc<Interest>,
    pub(crate) naming: Naming,
    /// What the log had trimmed when the stream began. That is the hub's policy, and the answer to the cursor says so.
    /// What is trimmed later and was still to be sent is a loss.
    pub(crate) forgiven: Trimmed,
    /// When its stream ends at the latest.
    pub(crate) close_at: Option<Instant>,
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) presence: Option<presence::Guard>,
    /// `None`: the program that runs the hub watches subscriptions, which is no subscription itself.
    pub(crate) counted: Option<Counted>,
    /// Its part of the budget, for its matchers and its grants.
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) weight: Option<(Arc<Weight>, Option<Arc<GrantsWeight>>)>,
}

/// Whether a stream names cursors while it is silent, and which: a client that has received nothing, or nothing for long,
/// then comes back without a loss, and without a search through all of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It sends comments instead.
    None,
    /// The newest update of a publisher: the subscriber receives no subscription events.
    Updates,
    /// The newest entry.
    Entries,
}

impl Subscriber {
    /// From now on its stream names cursors.
    pub(crate) fn name_cursors(&mut self) {
        let receives_events = self.interest.receives_events(&self.node.settings.url);
        self.naming = if receives_events { Naming::Entries } else { Naming::Updates };
    }

    /// Whether the log has trimmed something after `after` that it was still to see.
    pub(crate) fn is_gap(&self, page: &Page, after: Position) -> bool {
        let lost_events =
            page.trimmed.events > after.max(self.forgiven.events) && self.interest.sees_private();
        page.trimmed.updates > after.max(self.forgiven.updates) || lost_events
    }

    /// Its keep-alive and its lifetime.
    pub(crate) fn pulse(&self) -> Pulse {
        let keep_alive = self.counted.as_ref().and(self.node.settings.keep_alive);
        Pulse { keep_alive, close_at: self.close_at.map(Instant::into_std) }
    }

    /// Counts and logs the end of its stream.
    pub(crate) fn ends(&self, reason: Closed) {
        if reason == Closed::Lagged {
            self.node.counters.lagged.fetch_add(1, Ordering::Relaxed);
        }
        tracing::debug!(%reason, "a stream ends");
    }
}
