//! A sink for tests: it takes entries while it has room, and records their numbers.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Instant,
};

use mio::{Registry, event::Event};
use petasos_protocol::{Limits, matcher::Matcher, request, token::Grants, topic::HubUrl, update::Update};

use super::{
    census::Census,
    delivery::{Delivery, Share},
    key::MemberKey,
    ring::{EntryNumber, Newest, Ring},
    sink::{Eviction, Gone, Sink, Tick},
};
use crate::{
    Admission,
    interest::Interest,
    log::transport::{Entry, Position},
    metrics::node::Metrics,
};

pub(crate) fn at(sequence: u64) -> Position {
    Position { epoch: 1, sequence }
}

/// An update whose id is its sequence.
pub(crate) fn entry(sequence: u64, body: &str) -> Entry {
    let body = format!("{body}&id={sequence}");
    let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
    Entry::now(at(sequence), Arc::new(Update::publish(draft, || unreachable!("an id is given"))))
}

/// A member as its test sees it.
#[derive(Clone, Default)]
pub(crate) struct Peer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Entries that it still takes; `None`: all.
    room: Option<usize>,
    taken: Vec<u64>,
    unsent: Vec<EntryNumber>,
    key: Option<MemberKey>,
    last_sent: Option<Instant>,
    eviction: Option<Eviction>,
    has_left: bool,
    panics: bool,
}

impl Peer {
    pub(crate) fn with_room(room: usize) -> Self {
        let peer = Self::default();
        peer.state().room = Some(room);
        peer
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }

    /// The ids that it has taken since the last call.
    pub(crate) fn taken(&self) -> Vec<u64> {
        std::mem::take(&mut self.state().taken)
    }

    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.state().room = room;
    }

    /// The next frame finds that it has left.
    pub(crate) fn leave(&self) {
        self.state().has_left = true;
    }

    /// The next frame panics.
    pub(crate) fn panic(&self) {
        self.state().panics = true;
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn eviction(&self) -> Option<Eviction> {
        self.state().eviction
    }

    pub(crate) fn key(&self) -> MemberKey {
        self.state().key.expect("it is a member")
    }

    pub(crate) fn is_behind(&self) -> bool {
        !self.state().unsent.is_empty()
    }
}

/// The shard's side of a [`Peer`].
pub(crate) struct Fake {
    pub(crate) interest: Arc<Interest>,
    pub(crate) peer: Peer,
    pub(crate) is_on_socket: bool,
    pub(crate) admission: Option<Admission>,
}

impl Fake {
    /// A member that wants the updates of a selector.
    pub(crate) fn new(selector: &str, peer: &Peer) -> Self {
        let matchers = vec![Matcher::selector(selector, &Limits::default()).expect("valid")];
        let interest = Arc::new(Interest::new(matchers, Arc::new(Grants::default())));
        Self { interest, peer: peer.clone(), is_on_socket: true, admission: None }
    }
}

impl Sink for Fake {
    type Evicted = Peer;
    type Scratch<'ring> = ();

    fn interest(&self) -> &Arc<Interest> {
        &self.interest
    }

    fn admission(&self) -> Option<Admission> {
        self.admission
    }

    fn admit(&mut self, key: MemberKey, _: &Registry) -> io::Result<()> {
        self.peer.state().key = Some(key);
        Ok(())
    }

    fn withdraw(&mut self, _: &Registry) {}

    fn push(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        ring: &Ring,
        (): &mut (),
        now: Instant,
    ) -> Result<(), Gone> {
        assert!(!std::mem::take(&mut self.peer.state().panics), "as its test wants");
        self.peer.state().unsent.extend(entries);
        self.flush(ring, now)
    }

    fn caught_up(&mut self, _: &Ring, _: Position, _: Instant) -> Result<(), Gone> {
        Ok(())
    }

    fn flush(&mut self, ring: &Ring, now: Instant) -> Result<(), Gone> {
        let mut state = self.peer.state();
        if state.has_left {
            return Err(Gone);
        }
        let count = state.room.unwrap_or(usize::MAX).min(state.unsent.len());
        let sent: Vec<_> = state.unsent.drain(..count).collect();
        if let Some(room) = &mut state.room {
            *room -= count;
        }
        if count > 0 {
            state.last_sent = Some(now);
        }
        let id = |number| ring.update(number).id().as_str().parse::<u64>().expect("a number");
        state.taken.extend(sent.into_iter().map(id));
        Ok(())
    }

    fn ready(&mut self, _: &Event, ring: &Ring, now: Instant) -> Result<(), Gone> {
        self.flush(ring, now)
    }

    fn is_on_socket(&self) -> bool {
        self.is_on_socket
    }

    fn is_behind(&self) -> bool {
        self.peer.is_behind()
    }

    fn unsent_bytes(&self) -> usize {
        self.peer.state().unsent.len()
    }

    fn oldest(&self) -> Option<EntryNumber> {
        self.peer.state().unsent.first().copied()
    }

    fn last_sent(&self) -> Option<Instant> {
        self.peer.state().last_sent
    }

    fn first_due(&self) -> Option<Instant> {
        None
    }

    fn tick(&mut self, _: Newest<'_>, _: Instant) -> Result<Tick, Gone> {
        Ok(Tick::Next(None))
    }

    fn evict(self, _: &Ring, eviction: Eviction) -> Option<Peer> {
        self.peer.state().eviction = Some(eviction);
        Some(self.peer)
    }
}

/// As many shards with one census, without threads.
pub(crate) fn shards(count: usize) -> Vec<Delivery<Fake>> {
    let (census, metrics) = (Arc::new(Census::new(count)), Arc::new(Metrics::new(count, &[])));
    let shard = |number| {
        let registry = mio::Poll::new().and_then(|poll| poll.registry().try_clone()).expect("a poll");
        let share = Share { number, census: Arc::clone(&census), metrics: Arc::clone(&metrics) };
        Delivery::new(at(0), registry, Box::new(|_| ()), share)
    };
    (0..count).map(shard).collect()
}
