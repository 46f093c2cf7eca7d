//! How many streams may be open: in all, for one address, for one token (section "Subscription").
//!
//! A stream counts from its opening to its end. The connection it runs on is counted elsewhere.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Bounds on open streams; 0 stands for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Open streams in all. Default 100,000.
    pub total: usize,
    /// Open streams of one address. Default none: behind a proxy that the hub does not know, all clients have one address.
    pub per_address: usize,
    /// Open streams that were begun with one token. Default none.
    pub per_token: usize,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { total: 100_000, per_address: 0, per_token: 0 }
    }
}

/// The streams that are open, counted.
pub(crate) struct Streams {
    total_max: AtomicUsize,
    per_address: AtomicUsize,
    per_token: AtomicUsize,
    open: Mutex<Open>,
    /// Tokens are counted by a keyed hash and not kept.
    hasher: RandomState,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_holder: HashMap<Holder, usize>,
}

/// An address or a token, whose streams are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    Address(IpAddr),
    Token(u64),
}

/// The permit of one open stream. Dropping it makes room for another.
pub(crate) struct StreamPermit {
    streams: Arc<Streams>,
    /// `None` in most hubs, which count neither addresses nor tokens: a box would cost memory for each stream.
    holders: Option<Box<[Holder]>>,
}

/// The limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Total,
    Address,
    Token,
}

impl Streams {
    pub(crate) fn new(limits: StreamLimits) -> Arc<Self> {
        let StreamLimits { total, per_address, per_token } = limits;
        Arc::new(Self {
            total_max: total.into(),
            per_address: per_address.into(),
            per_token: per_token.into(),
            open: Mutex::default(),
            hasher: RandomState::new(),
        })
    }

    /// How many streams may be open; 0: any number.
    pub(crate) fn total_max(&self) -> usize {
        self.total_max.load(Ordering::Relaxed)
    }

    /// From now on so many streams may be open; 0: any number.
    pub(crate) fn set_total_max(&self, max: usize) {
        self.total_max.store(max, Ordering::Relaxed);
    }

    /// From now on these bounds hold. Streams that began while addresses or tokens were not counted do not count there.
    pub(crate) fn set_limits(&self, limits: StreamLimits) {
        self.set_total_max(limits.total);
        self.per_address.store(limits.per_address, Ordering::Relaxed);
        self.per_token.store(limits.per_token, Ordering::Relaxed);
    }

    /// The holder of a token, if tokens are counted.
    pub(crate) fn token(&self, token: &str) -> Option<Holder> {
        (self.per_token.load(Ordering::Relaxed) > 0).then(|| Holder::Token(self.hasher.hash_one(token)))
    }

    /// A permit for a stream to that address, begun with that token.
    ///
    /// # Errors
    /// [`Full`]: as many streams are open as may be.
    pub(crate) fn enter(
        self: &Arc<Self>,
        address: Option<IpAddr>,
        token: Option<Holder>,
    ) -> Result<StreamPermit, Full> {
        let (per_address, per_token) =
            (self.per_address.load(Ordering::Relaxed), self.per_token.load(Ordering::Relaxed));
        let total = self.total_max();
        let address = address.filter(|_| per_address > 0).map(Holder::Address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if total > 0 && open.total >= total {
            return Err(Full::Total);
        }
        for (holder, max, full) in [(address, per_address, Full::Address), (token, per_token, Full::Token)] {
            if max > 0
                && holder.is_some_and(|holder| open.by_holder.get(&holder).is_some_and(|held| *held >= max))
            {
                return Err(full);
            }
        }
        open.total += 1;
        let holders: Vec<_> = [address, token].into_iter().flatten().collect();
        for holder in &holders {
            *open.by_holder.entry(*holder).or_default() += 1;
        }
        Ok(StreamPermit { streams: Arc::clone(self), holders: (!holders.is_empty()).then(|| holders.into()) })
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        for holder in self.holders.iter().flatten() {
            if let Some(held) = open.by_holder.get_mut(holder) {
                *held -= 1;
                if *held == 0 {
                    open.by_holder.remove(holder);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_in_all_by_address_and_by_token_until_they_end() {
        let streams = Streams::new(StreamLimits { total: 4, per_address: 2, per_token: 1 });
        let address = |last| Some(IpAddr::from([127, 0, 0, last]));
        let first = streams.enter(address(1), streams.token("a")).expect("room");
        assert_eq!(streams.enter(address(2), streams.token("a")).err(), Some(Full::Token));
        let _second = streams.enter(address(1), None).expect("room");
        assert_eq!(streams.enter(address(1), None).err(), Some(Full::Address));
        drop(first);
        let _third = streams.enter(address(1), streams.token("a")).expect("room again");
        let _others = [
            streams.enter(None, None).expect("room"),
            streams.enter(address(2), streams.token("b")).expect("room"),
        ];
        assert_eq!(streams.enter(None, None).err(), Some(Full::Total));
    }

    #[test]
    fn another_bound_holds_for_streams_that_follow() {
        let streams = Streams::new(StreamLimits { total: 1, ..StreamLimits::default() });
        let _first = streams.enter(None, None).expect("room");
        assert_eq!(streams.enter(None, None).err(), Some(Full::Total));
        streams.set_total_max(2);
        let _second = streams.enter(None, None).expect("room");
        assert_eq!(streams.enter(None, None).err(), Some(Full::Total));
    }

    #[test]
    fn nothing_is_kept_of_streams_that_have_ended() {
        let streams = Streams::new(StreamLimits { total: 0, per_address: 1, per_token: 1 });
        drop(streams.enter(Some(IpAddr::from([127, 0, 0, 1])), streams.token("a")).expect("room"));
        let open = streams.open.lock().expect("no panic");
        assert!(open.total == 0 && open.by_holder.is_empty());
    }
}
