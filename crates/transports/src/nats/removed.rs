//! Records that this process has removed lately. A server that is killed may bring them back: it has written them to its
//! file at once, and that they are gone only later (NATS 2.9; with its files, every two minutes).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use petasos_hub::registry::NodeId;
use petasos_protocol::subscription::SubscriberId;

/// See the module.
#[derive(Default)]
pub(super) struct Removed(VecDeque<Removal>);

/// A record that is gone, and everything older of that subscriber.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Removal {
    pub(super) node: NodeId,
    pub(super) subscriber: SubscriberId,
    pub(super) revision: u64,
    at: Instant,
}

/// More than twice the interval at which a server synchronizes its files, unless it is configured otherwise.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// About a megabyte.
const KEPT_MAX: usize = 16_384;

impl Removed {
    pub(super) fn add(&mut self, node: NodeId, subscriber: SubscriberId, revision: u64, now: Instant) {
        while self.0.len() >= KEPT_MAX || self.0.front().is_some_and(|oldest| oldest.is_old(now)) {
            self.0.pop_front();
        }
        self.0.push_back(Removal { node, subscriber, revision, at: now });
    }

    pub(super) fn lately(&self, now: Instant) -> Vec<Removal> {
        self.0.iter().filter(|removal| !removal.is_old(now)).copied().collect()
    }
}

impl Removal {
    fn is_old(&self, now: Instant) -> bool {
        now.duration_since(self.at) > KEPT_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_removals_are_kept_and_not_for_long() {
        let (node, now) = (NodeId::new(1), Instant::now());
        let mut removed = Removed::default();
        for revision in 0..KEPT_MAX as u64 + 5 {
            removed.add(node, SubscriberId::from_uuid(1), revision, now);
        }
        let lately = removed.lately(now);
        assert_eq!((lately.len(), lately[0].revision), (KEPT_MAX, 5));
        let later = now + KEPT_FOR + Duration::from_secs(1);
        assert!(removed.lately(later).is_empty());
        removed.add(node, SubscriberId::from_uuid(1), 7, later);
        assert_eq!(removed.0.len(), 1);
    }
}
