//! A bound for the memory that subscribers bring: their matchers, and the grants and payloads of their tokens.
//!
//! The bound is one for all subscribers of a hub. Beyond it a new subscriber is refused; no open stream ends. A
//! subscriber that has left counts until its departure has been announced, because the announcement still holds its
//! matchers.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use petasos_protocol::{matcher::Matcher, token::Grants};

/// The bytes that all subscribers of a hub may take together, and the bytes that they take now.
pub(crate) struct Budget {
    bytes_max: AtomicUsize,
    used: AtomicUsize,
    /// Whether the log says already that there is no room. Reset when three quarters are free.
    is_full: AtomicBool,
    /// The weights of grants that streams share, by the address of the grants. A weight holds its grants, so no other
    /// grants get the address while the entry is here.
    grants: Mutex<HashMap<usize, Weak<GrantsWeight>>>,
}

/// A part of the budget; dropping it gives the part back.
pub(crate) struct Weight {
    budget: Arc<Budget>,
    bytes: usize,
}

/// The part of the budget that the grants of one token take, held by all streams that share the grants.
pub(crate) struct GrantsWeight {
    grants: Arc<Grants>,
    weight: Weight,
}

/// There is no room for another subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// Bytes that the hub keeps for one matcher beside the matcher itself: its entries in the index of a shard and in the
/// list of subscriptions. An estimate.
const MATCHER_BYTES: usize = 512;

/// A subscriber that brings no more than this is small: a dozen ordinary topics fit. Half of the budget is kept for
/// small subscribers, so that a few large ones do not keep all others out.
const SMALL_BYTES: usize = 8 * 1024;

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes_max: AtomicUsize::new(bytes_max),
            used: AtomicUsize::new(0),
            is_full: AtomicBool::new(false),
            grants: Mutex::default(),
        })
    }

    /// From now on so many bytes may be taken. No open stream ends.
    pub(crate) fn set_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    fn max(&self) -> usize {
        self.bytes_max.load(Ordering::Relaxed)
    }

    /// Takes the bytes of a subscriber's matchers.
    pub(crate) fn take_matchers(self: &Arc<Self>, matchers: &[Matcher]) -> Result<Arc<Weight>, NoRoom> {
        self.take(matchers.iter().map(|each| MATCHER_BYTES + each.bytes()).sum()).map(Arc::new)
    }

    /// Takes the bytes of grants, once for all streams that share them. `None`: the grants are empty.
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
        let max = if bytes > SMALL_BYTES { self.max() / 2 } else { self.max() };
        let used = self.used.fetch_add(bytes, Ordering::Relaxed);
        // Dropped below if it is too much, which gives the bytes back.
        let weight = Weight { budget: Arc::clone(self), bytes };
        if used.saturating_add(bytes) <= max {
            return Ok(weight);
        }
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                used,
                max = self.max(),
                "new subscribers are refused: the matchers and tokens of the open streams take all the bytes that they \
                 may take: raise max_subscribers_bytes (in Rust: Settings::subscribers_bytes_max)"
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
        if used < self.budget.max() / 4 && self.budget.is_full.load(Ordering::Relaxed) {
            self.budget.is_full.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for GrantsWeight {
    fn drop(&mut self) {
        // Another stream may have made a new weight for the same grants meanwhile: its entry stays.
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
    fn the_last_byte_is_given_and_no_more_and_half_is_for_small_subscribers() {
        let size = |length| MATCHER_BYTES + matchers(1, length)[0].bytes();
        let small = size(100);
        let budget = Budget::new(2 * small);
        let one = budget.take_matchers(&matchers(1, 100)).expect("room");
        let other = budget.take_matchers(&matchers(1, 100)).expect("the last byte");
        assert!(budget.take_matchers(&matchers(1, 1)).is_err());
        assert_eq!(used(&budget), 2 * small, "a refusal takes nothing");
        drop((one, other));

        // The largest small subscriber, and the smallest large one.
        let length = SMALL_BYTES - size(0).min(SMALL_BYTES);
        let (mut at, mut over) = (length, length);
        while size(at) > SMALL_BYTES {
            at -= 1;
        }
        while size(over) <= SMALL_BYTES {
            over += 1;
        }
        let budget = Budget::new(2 * size(over) - 1);
        assert!(budget.take_matchers(&matchers(1, over)).is_err(), "more than half");
        assert!(budget.take_matchers(&matchers(1, at)).is_ok());
        let budget = Budget::new(2 * size(over));
        assert!(budget.take_matchers(&matchers(1, over)).is_ok(), "half");
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
