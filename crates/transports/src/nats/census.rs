//! Which nodes may have left subscribers behind, derived from the leases alone: there is one for each node. Subscribers
//! may be thousands; they are read only for a node without a lease, and for all nodes every [`COUNT_INTERVAL`].
//!
//! No node is missed while it lives: a lease is longer than the time between two looks. A node that resigns its lease
//! leaves a mark that lasts as long as a lease.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use petasos_hub::registry::NodeId;

/// The knowledge of this process about the nodes.
#[derive(Default)]
pub(super) struct Census {
    /// Nodes that had a lease at the last look.
    alive: HashSet<NodeId>,
    /// Nodes whose mark of a resigned lease has been seen.
    resigned: HashSet<NodeId>,
    /// Nodes without a lease that may have subscribers.
    suspects: BTreeSet<NodeId>,
    /// When the subscribers of all nodes were read last.
    counted_at: Option<Instant>,
}

/// After this time all subscribers are read again: a node may have recorded a subscriber at the moment when its lease
/// ended, after other nodes had found none of it.
const COUNT_INTERVAL: Duration = Duration::from_secs(600);

impl Census {
    /// Takes the nodes that have a lease and the nodes that have resigned theirs. True: it is time to read all
    /// subscribers.
    pub(super) fn look(&mut self, alive: HashSet<NodeId>, resigned: HashSet<NodeId>, now: Instant) -> bool {
        self.suspects.extend(self.alive.difference(&alive));
        self.suspects.extend(resigned.difference(&self.resigned));
        self.suspects.retain(|node| !alive.contains(node));
        (self.alive, self.resigned) = (alive, resigned);
        self.counted_at.is_none_or(|counted_at| now.duration_since(counted_at) >= COUNT_INTERVAL)
    }

    /// Whether the node had a lease at the last look.
    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        self.alive.contains(&node)
    }

    /// All subscribers have been read: these nodes without a lease have some.
    pub(super) fn counted(&mut self, dead: BTreeSet<NodeId>, now: Instant) {
        self.suspects = dead;
        self.counted_at = Some(now);
    }

    /// Nodes whose subscribers have to be read.
    pub(super) fn suspects(&self) -> Vec<NodeId> {
        self.suspects.iter().copied().collect()
    }

    /// This node without a lease has no subscribers.
    pub(super) fn has_none(&mut self, node: NodeId) {
        self.suspects.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscribers_are_looked_for_when_a_lease_has_ended() {
        let nodes = |all: &[u128]| all.iter().map(|node| NodeId::new(*node)).collect::<HashSet<_>>();
        let (mut census, now) = (Census::default(), Instant::now());
        assert!(census.look(nodes(&[1, 2]), nodes(&[]), now), "nothing is known at first");
        census.counted(BTreeSet::new(), now);
        assert!(!census.look(nodes(&[1, 2, 3]), nodes(&[]), now) && census.suspects().is_empty());
        assert!(!census.look(nodes(&[1, 3]), nodes(&[]), now));
        assert_eq!(census.suspects(), [NodeId::new(2)]);
        census.has_none(NodeId::new(2));
        // A node that was never seen alive.
        assert!(!census.look(nodes(&[1, 3]), nodes(&[4]), now));
        assert_eq!(census.suspects(), [NodeId::new(4)]);
        census.has_none(NodeId::new(4));
        assert!(!census.look(nodes(&[1]), nodes(&[4]), now));
        assert_eq!(census.suspects(), [NodeId::new(3)], "a sign counts once");
        census.look(nodes(&[1, 3]), nodes(&[]), now);
        assert!(census.suspects().is_empty(), "it has come back");
        assert!(census.look(nodes(&[1, 3]), nodes(&[]), now + COUNT_INTERVAL));
    }
}
