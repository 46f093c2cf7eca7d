//! Memory for what subscribers bring: matchers, and the grants and payloads of their tokens. It is bounded for all
//! together; who exceeds it is refused, and nobody's stream ends.
//!
//! What is counted is what its owner holds, until the last who uses it has let it go: a subscriber that has left is
//! counted until its departure has been announced.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use petasos_protocol::{grants::Grants, matcher::Matcher};

/// What all subscribers of a hub may take together, and what they take.
pub(crate) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    /// Whether it has been said that there is no room, since there last was.
    is_full: AtomicBool,
    /// What the grants of tokens take that streams have in common, by their address. Each entry is that of somebody who
    /// holds these grants.
    grants: Mutex<HashMap<usize, Weak<GrantsWeight>>>,
}

/// A part of the budget, given back when it is dropped.
pub(crate) struct Weight {
    budget: Arc<Budget>,
    bytes: usize,
}

/// What the grants of one token take, held by all streams that share them.
pub(crate) struct GrantsWeight {
    grants: Arc<Grants>,
    weight: Weight,
}

/// There is no room for another subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// What the hub keeps about one matcher beside the matcher: its places in the index of a shard and in the list of
/// subscriptions.
const MATCHER_BYTES: usize = 512;

/// A subscriber with no more than a page of ordinary topics. Half of the budget is for these alone: few subscribers that
/// bring as much as they may must not keep everybody else out.
const SMALL_BYTES: usize = 8 * 1024;

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max,
            used: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            grants: Mutex::default(),
        })
    }

    /// Takes what a subscriber's matchers take.
    pub(crate) fn take_matchers(self: &Arc<Self>, matchers: &[Matcher]) -> Result<Arc<Weight>, NoRoom> {
        self.take(matchers.iter().map(|each| MATCHER_BYTES + each.bytes()).sum()).map(Arc::new)
    }

    /// Takes what grants take, once for all streams that share them. `None`: they take nothing.
    pub(crate) fn take_grants(
        self: &Arc<Self>,
        grants: &Arc<Grants>,
    ) -> Result<Option<Arc<GrantsWeight>>, NoRoom> {
        let bytes = grants.bytes();
        if bytes == 0 {
            return Ok(None);
        }
        let mut shared = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.entry(address(grants)).or_default();
        if let Some(weight) = known.upgrade() {
            return Ok(Some(weight));
        }
        match self.take(bytes) {
            Ok(weight) => {
                let weight = Arc::new(GrantsWeight { grants: Arc::clone(grants), weight });
                *known = Arc::downgrade(&weight);
                Ok(Some(weight))
            }
            Err(no_room) => {
                shared.remove(&address(grants));
                Err(no_room)
            }
        }
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Result<Weight, NoRoom> {
        let max = if bytes > SMALL_BYTES { self.bytes_max / 2 } else { self.bytes_max };
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        // Given back at once if it is too much.
        let weight = Weight { budget: Arc::clone(self), bytes };
        if used.saturating_add(bytes) <= max {
            return Ok(weight);
        }
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                used,
                max = self.bytes_max,
                "subscribers are refused: the matchers and tokens of the others take as many bytes as they may: raise \
                 subscribers_bytes_max (max_subscribers_bytes)"
            );
        }
        Err(NoRoom)
    }
}

fn address(grants: &Arc<Grants>) -> usize {
    Arc::as_ptr(grants).addr()
}

impl Weight {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        let used = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        if used < self.budget.bytes_max / 4 && self.budget.is_full.load(Ordering::Relaxed) {
            self.budget.is_full.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for GrantsWeight {
    fn drop(&mut self) {
        // Its grants are still here, so the address is no others'.
        let mut shared = self.weight.budget.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(&address(&self.grants))
            && known.strong_count() == 0
        {
            shared.remove(&address(&self.grants));
        }
    }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::Limits;

    use super::*;

    fn matchers(count: usize, length: usize) -> Vec<Matcher> {
        (0..count).map(|number| Matcher::Exact(format!("{number:0length$}").into())).collect()
    }

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[test]
    fn large_subscribers_leave_half_to_small_ones_and_everybody_gives_back() {
        let budget = Budget::new(1024 * 1024);
        let large = matchers(10, 4_000);
        let mut held = Vec::new();
        while let Ok(weight) = budget.take_matchers(&large) {
            held.push(weight);
        }
        assert!((10..=13).contains(&held.len()), "{}", held.len());
        assert!(used(&budget) <= 512 * 1024);
        let small = matchers(1, 20);
        let mut small_ones = Vec::new();
        while let Ok(weight) = budget.take_matchers(&small) {
            small_ones.push(weight);
        }
        assert!(small_ones.len() > 700, "{}", small_ones.len());
        assert!(used(&budget) <= 1024 * 1024);
        drop(small_ones);
        drop(held);
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn grants_that_are_shared_are_counted_once_until_the_last_has_left() {
        let budget = Budget::new(1024 * 1024);
        let parse = |text| Matcher::selector(text, &Limits::default()).expect("valid");
        let grants = || Arc::new(Grants { subscribe: vec![parse("/a/{b}")], ..Grants::default() });
        let (one, other) = (grants(), grants());
        let first = budget.take_grants(&one).expect("room");
        let bytes = used(&budget);
        assert_eq!(bytes, one.bytes());
        let second = budget.take_grants(&one).expect("room");
        assert_eq!(used(&budget), bytes);
        let third = budget.take_grants(&other).expect("room");
        assert_eq!(used(&budget), 2 * bytes);
        drop(first);
        assert_eq!(used(&budget), 2 * bytes);
        drop((second, third));
        assert_eq!((used(&budget), budget.grants.lock().expect("no panic").len()), (0, 0));
        assert!(budget.take_grants(&Arc::default()).expect("room").is_none());
        let full = Budget::new(1);
        assert!(full.take_grants(&one).is_err());
        assert!(full.grants.lock().expect("no panic").is_empty() && used(&full) == 0);
    }
}
