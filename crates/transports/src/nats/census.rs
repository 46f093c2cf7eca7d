//! Which nodes may have left subscribers behind: found out from the leases alone, which are as many as there are nodes. The
//! subscribers, which may be thousands, are looked through only for nodes without a lease, and now and then for all.
//!
//! A node is seen while it has a lease, as that is longer than the time between two looks. A node that gives its lease up
//! leaves a sign that is there for as long as a lease.

use std::{
    collections::{BTreeSet, HashSet},
    time::{Duration, Instant},
};

use petasos_hub::registry::NodeId;

/// What this process knows of the nodes. See the module.
#[derive(Default)]
pub(super) struct Census {
    /// Nodes that had a lease at the last look.
    alive: HashSet<NodeId>,
    /// Nodes whose sign of a lease that was given up is known.
    resigned: HashSet<NodeId>,
    /// Nodes without a lease that may have subscribers.
    suspects: BTreeSet<NodeId>,
    /// When the subscribers of all nodes were looked through.
    counted_at: Option<Instant>,
}

/// After this time all subscribers are looked through once more: a node may have recorded one in the moment in which its
/// lease ended, after others had found that it has none.
const COUNT_INTERVAL: Duration = Duration::from_secs(600);

impl Census {
    /// Takes in which nodes have a lease and which have given theirs up. True: it is time to look through all subscribers.
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

    /// All subscribers have been looked through: these nodes without a lease have some.
    pub(super) fn counted(&mut self, dead: BTreeSet<NodeId>, now: Instant) {
        self.suspects = dead;
        self.counted_at = Some(now);
    }

    /// Nodes whose subscribers are to be looked for.
    pub(super) fn suspects(&self) -> Vec<NodeId> {
        self.suspects.iter().copied().collect()
    }

    /// A node without a lease has no subscribers.
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
        // One that nobody has seen alive.
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
