//! A store that several nodes share, with its registry. It follows the contract of
//! [`Registry`](crate::log::registry::Registry); what goes wrong on the way to it and back is decided by [`Fate`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use petasos_protocol::subscription::{SubscriberId, Subscription};

use super::random::Random;
use crate::log::registry::{Abandoned, Lease, NodeId};

/// Subscribers of all nodes, their leases, and the log of their events.
pub(super) struct Store {
    lease: Duration,
    leases: BTreeMap<NodeId, Duration>,
    records: BTreeMap<SubscriberId, (NodeId, Arc<[Subscription]>)>,
    /// The events of this log; a store that is wiped begins a new log.
    pub(super) log: Vec<Event>,
    /// Subscribers whose arrival was an event in this log or an earlier one.
    pub(super) announced: BTreeSet<SubscriberId>,
    /// Subscribers that were expired, or lost with a log: their arrival may be an event again.
    pub(super) disturbed: BTreeSet<SubscriberId>,
}

/// A subscriber has come or has gone, in the order of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) subscriber: SubscriberId,
    pub(super) active: bool,
}

/// A fact that a node records.
#[derive(Clone)]
pub(super) struct Change {
    pub(super) subscriptions: Arc<[Subscription]>,
    pub(super) active: bool,
}

impl Change {
    pub(super) fn subscriber(&self) -> SubscriberId {
        self.subscriptions[0].subscriber
    }
}

impl Store {
    pub(super) fn new(lease: Duration) -> Self {
        Self {
            lease,
            leases: BTreeMap::new(),
            records: BTreeMap::new(),
            log: Vec::new(),
            announced: BTreeSet::new(),
            disturbed: BTreeSet::new(),
        }
    }

    fn has_lease(&self, node: NodeId, now: Duration) -> bool {
        self.leases.get(&node).is_some_and(|end| now < *end)
    }

    pub(super) fn renew(&mut self, node: NodeId, now: Duration) -> Lease {
        let had_one = self.has_lease(node, now);
        self.leases.insert(node, now + self.lease);
        if had_one { Lease::Kept } else { Lease::Ended }
    }

    pub(super) fn record(&mut self, node: NodeId, changes: &[Change], now: Duration) -> Lease {
        if !self.has_lease(node, now) {
            return Lease::Ended;
        }
        for change in changes {
            self.apply(node, change);
        }
        Lease::Kept
    }

    pub(super) fn expire(&mut self, node: NodeId, departures: &[Arc<[Subscription]>], now: Duration) {
        if self.has_lease(node, now) {
            return;
        }
        for subscriptions in departures {
            let change = Change { subscriptions: Arc::clone(subscriptions), active: false };
            if self.apply(node, &change) {
                self.disturbed.insert(change.subscriber());
            }
        }
    }

    /// True: the fact is new.
    fn apply(&mut self, node: NodeId, change: &Change) -> bool {
        let subscriber = change.subscriber();
        let owner = self.records.get(&subscriber).map(|(owner, _)| *owner);
        match (owner, change.active) {
            (None, true) => {
                self.records.insert(subscriber, (node, Arc::clone(&change.subscriptions)));
                self.announced.insert(subscriber);
            }
            (Some(owner), false) if owner == node => {
                self.records.remove(&subscriber);
            }
            _ => return false,
        }
        self.log.push(Event { subscriber, active: change.active });
        true
    }

    pub(super) fn abandoned(&self, limit: usize, now: Duration) -> Vec<Abandoned> {
        let dead = self.records.values().filter(|(node, _)| !self.has_lease(*node, now));
        let abandoned = |(node, all): &(NodeId, Arc<[Subscription]>)| Abandoned {
            node: *node,
            subscriptions: Arc::clone(all),
        };
        dead.map(abandoned).take(limit).collect()
    }

    /// The node's lease ends now.
    pub(super) fn end_lease(&mut self, node: NodeId) {
        self.leases.remove(&node);
    }

    /// Everything is gone, and a new log begins.
    pub(super) fn wipe(&mut self) {
        self.disturbed.extend(self.records.keys());
        self.leases.clear();
        self.records.clear();
        self.log.clear();
    }

    pub(super) fn is_listed(&self, subscriber: SubscriberId) -> bool {
        self.records.contains_key(&subscriber)
    }

    /// The subscribers that are listed.
    pub(super) fn listed(&self) -> BTreeSet<SubscriberId> {
        self.records.keys().copied().collect()
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It takes effect and is answered.
    Answered,
    /// It takes no effect, and an error is answered.
    Refused,
    /// It takes effect, and an error is answered.
    AnswerLost,
    /// A first part of it takes effect, and an error is answered.
    BrokenOff,
    /// An error is answered, and it takes effect later, but before any later request of the same node.
    Late,
}

impl Fate {
    /// Of a hundred requests, so many fail.
    pub(super) fn draw(random: &mut Random, failing_percent: usize) -> Self {
        if !random.percent(failing_percent) {
            return Self::Answered;
        }
        [Self::Refused, Self::AnswerLost, Self::BrokenOff, Self::Late][random.below(4)]
    }
}
