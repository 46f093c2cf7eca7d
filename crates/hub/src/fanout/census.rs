//! How many members all shards of a hub have, and how many of them have unsent frames.
//!
//! Each shard writes its own numbers once a round and reads those of all when its ring is full. So they may be a round old.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The numbers of all shards.
pub(crate) struct Census(Box<[Count]>);

#[derive(Default)]
struct Count {
    members: AtomicUsize,
    behind: AtomicUsize,
}

impl Census {
    pub(crate) fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Count::default()).collect())
    }

    /// Sets the numbers of one shard.
    pub(crate) fn set(&self, shard: usize, members: usize, behind: usize) {
        self.0[shard].members.store(members, Ordering::Relaxed);
        self.0[shard].behind.store(behind, Ordering::Relaxed);
    }

    /// Whether more than half of all members have unsent frames.
    pub(crate) fn are_most_behind(&self) -> bool {
        let sum = |number: fn(&Count) -> &AtomicUsize| -> usize {
            self.0.iter().map(|count| number(count).load(Ordering::Relaxed)).sum()
        };
        sum(|count| &count.behind) * 2 > sum(|count| &count.members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_are_more_than_half_of_all_shards_together() {
        let census = Census::new(2);
        assert!(!census.are_most_behind());
        census.set(0, 1, 1);
        assert!(census.are_most_behind());
        census.set(1, 1, 0);
        assert!(!census.are_most_behind(), "one of two");
        census.set(1, 2, 1);
        assert!(census.are_most_behind(), "two of three");
    }
}
