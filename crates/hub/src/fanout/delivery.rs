//! What one shard does: marks the members that want an entry, hands the entries out, and evicts members that are too late.
//!
//! Everything here is synchronous, and the caller gives the time. Nothing waits.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Registry, event::Event};
use petasos_protocol::update::Update;

use super::{
    census::Census,
    drain::{Drain, DrainOrder},
    due::Due,
    key::MemberKey,
    marks::Marks,
    members::Members,
    patience::{Patience, STALLED_AFTER},
    ring::{EntryNumber, Newest, Ring},
    sink::{Eviction, Gone, Sink, Tick},
};
use crate::{
    Closed,
    admission::Accepted,
    interest::{Interest, SLICE_COST},
    log::transport::{Entry, Position},
    metrics::{node::Metrics, shard::ShardMetrics},
};

/// The members of one shard and the entries that it delivered last.
pub(crate) struct Delivery<S: Sink> {
    members: Members<S>,
    ring: Ring,
    marks: Marks,
    patience: Patience,
    /// The entries and bytes that the ring has when it is looked at again.
    trim_at: (usize, usize),
    due: Due,
    /// The last order to close members.
    drain: Option<Drain>,
    /// The admissions of members; `None`: all.
    admissions: Option<Accepted>,
    /// When members end that are not accepted any more, in the order of the times.
    revoked: VecDeque<(Instant, MemberKey)>,
    readiness: Registry,
    evicted: Evict<S>,
    share: Share,
    /// The entries of this round.
    round: Vec<Handed>,
}

/// An entry that is handed out in a round.
struct Handed {
    number: EntryNumber,
    /// Since when this process has it.
    accepted: Instant,
    /// Whether a member gets it.
    is_wanted: bool,
}

/// What a shard shares with the others of its hub.
pub(crate) struct Share {
    /// The number of this shard in both.
    pub(crate) number: usize,
    pub(crate) census: Arc<Census>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Share {
    fn metrics(&self) -> &ShardMetrics {
        &self.metrics.shards[self.number]
    }
}

/// Takes the streams that leave a shard though their peers are there. It must not block.
pub(crate) type Evict<S> = Box<dyn FnMut(<S as Sink>::Evicted) + Send>;

/// Entries that are compared for a new member even if that is costly. Without them, a member with costly patterns might
/// never attach while updates are published.
const MISSED_AT_LEAST: usize = 4;

/// How much the ring grows before it is trimmed again: all members that are behind are looked at then. Less in the tests of
/// this crate, so that simulated rings are trimmed often.
const TRIM_ENTRIES: usize = if cfg!(test) { 16 } else { 256 };
const TRIM_BYTES: usize = 1024 * 1024;

impl<S: Sink> Delivery<S> {
    /// Without members; the first entry will be the one after `head`.
    pub(crate) fn new(head: Position, readiness: Registry, evicted: Evict<S>, share: Share) -> Self {
        Self {
            members: Members::default(),
            ring: Ring::new(head),
            marks: Marks::default(),
            patience: Patience::default(),
            trim_at: (TRIM_ENTRIES, TRIM_BYTES),
            due: Due::default(),
            drain: None,
            admissions: None,
            revoked: VecDeque::new(),
            readiness,
            evicted,
            share,
            round: Vec::new(),
        }
    }

    /// Attaches a stream, which gets all entries after `after` that it wants. If `after` lies before the ring, or finding
    /// them takes too long, the stream leaves as [`Eviction::Behind`]. A stream that has been revoked on its way ends.
    pub(crate) fn attach(&mut self, mut sink: S, after: Position, now: Instant) {
        if self.admissions.as_ref().is_some_and(|accepted| !accepted.accepts(sink.admission())) {
            return self.evict(sink, Eviction::Ended(Closed::Revoked));
        }
        let interest = Arc::clone(sink.interest());
        let missed = if after < self.ring.start() { None } else { self.missed(&interest, after) };
        let Some(missed) = missed else { return self.evict(sink, Eviction::Behind(after)) };
        self.count_missed(&missed);
        let key = self.members.next_key();
        let pushed = sink.push(missed.into_iter(), &self.ring, &mut S::Scratch::default(), now);
        let is_open = pushed.is_ok()
            && sink.caught_up(&self.ring, after, now).is_ok()
            && sink.flush(&self.ring, now).is_ok();
        if !is_open {
            return;
        }
        // A socket that cannot be registered is closed: its peer comes back.
        if sink.admit(key, &self.readiness).is_ok() {
            self.due.insert(key.slot, sink.first_due());
            if let Some(drain) = self.drain.as_mut().filter(|drain| is_drained(drain.order(), &sink)) {
                drain.add_later(key, self.members.len(), now);
            }
            self.members.insert(sink, after.max(self.ring.end()));
        }
    }

    /// The entries of the ring after a position that a new member wants. `None`: comparing them would delay the other
    /// members for too long. The new member reads on in the log instead, and attaches nearer to its end.
    fn missed(&self, interest: &Interest, after: Position) -> Option<Vec<EntryNumber>> {
        let costs = interest.costs();
        let mut cost = 0_usize;
        let mut missed = Vec::new();
        for (compared, (number, update)) in self.ring.after(after).enumerate() {
            cost = cost.saturating_add(costs.update(update));
            if cost > SLICE_COST && compared >= MISSED_AT_LEAST {
                return None;
            }
            if interest.wants(update) {
                missed.push(number);
            }
        }
        Some(missed)
    }

    /// How many members have ever been admitted; it wraps around.
    pub(crate) fn admitted(&self) -> u32 {
        self.members.admitted()
    }

    /// The position before the ring, and the position up to which everything is in it and has been marked.
    pub(crate) fn reach(&self) -> (Position, Position) {
        (self.ring.start(), self.ring.end())
    }

    /// Finds the members of each entry.
    pub(crate) fn mark(&mut self, batch: &[Entry], now: Instant) {
        for entry in batch {
            let number = self.ring.push(entry.clone());
            let before = self.marks.len();
            self.members.mark(entry, number, &mut self.marks);
            let members = self.marks.len() - before;
            if members > 0 {
                self.count(&entry.update, members);
            }
            let (accepted, is_wanted) = (entry.accepted, members > 0);
            self.round.push(Handed { number, accepted, is_wanted });
            if self.marks.is_full() {
                self.hand_out(now);
            }
        }
    }

    /// Counts an update that so many members get.
    fn count(&self, update: &Update, members: usize) {
        let (groups, metrics) = (&self.share.metrics.groups, self.share.metrics());
        metrics.delivered(members, update.frame().event_bytes().len());
        if !groups.is_empty() {
            for group in groups.select(update) {
                metrics.delivered_in_group(group, members);
            }
        }
    }

    /// Counts what a new member gets out of the ring. Only what came in this round is as new as a delay supposes.
    fn count_missed(&mut self, missed: &[EntryNumber]) {
        let first = self.round.first().map(|handed| handed.number);
        for number in missed {
            self.count(self.ring.update(*number), 1);
            let index = first.map(|first| number.wrapping_sub(first) as usize);
            if let Some(handed) = index.and_then(|index| self.round.get_mut(index)) {
                handed.is_wanted = true;
            }
        }
    }

    /// Counts how long the entries of a round took that has handed them out at `done`.
    pub(crate) fn count_delays(&mut self, done: Instant) {
        let delays = &self.share.metrics.shards[self.share.number].delays;
        for Handed { accepted, .. } in self.round.drain(..).filter(|handed| handed.is_wanted) {
            delays.record_alone(done.saturating_duration_since(accepted));
        }
    }

    /// Shows what waits for the members.
    pub(crate) fn show_waiting(&self) {
        self.share.metrics().set_waiting(self.members.behind().len(), self.members.unsent_bytes());
    }

    /// Gives each marked member all of its entries.
    pub(crate) fn hand_out(&mut self, now: Instant) {
        let mut leaving = Vec::new();
        let slots = self.marks.take_slots();
        {
            let mut scratch = S::Scratch::default();
            for slot in &slots {
                let entries = self.marks.entries(&self.members.take_marked(*slot));
                let ring = &self.ring;
                let pushed = self.members.visit(*slot, |sink| sink.push(entries, ring, &mut scratch, now));
                if let Some((key, Err(Gone))) = pushed {
                    leaving.push(key);
                }
            }
        }
        self.marks.clear(slots);
        for key in leaving {
            self.remove(key);
        }
    }

    /// Trims what no member has unsent, and what is over the ring's bounds: members that have some of that unsent go back
    /// to the history. False: the shard waits for late members, see [`Patience`]. Nothing is trimmed then, and the caller
    /// takes no more updates.
    pub(crate) fn trim(&mut self, now: Instant) -> bool {
        let (length, bytes) = self.ring.size();
        self.share.census.set(self.share.number, self.members.len(), self.members.behind().len());
        if length < self.trim_at.0 && bytes < self.trim_at.1 {
            return true;
        }
        let excess = self.ring.excess();
        // The entries before the first one that a member has unsent.
        let mut unneeded = length;
        let mut is_late_one_reading = false;
        let mut late = Vec::new();
        for slot in self.members.behind() {
            let Some(sink) = self.members.sink(*slot) else { continue };
            let Some(oldest) = sink.oldest() else { continue };
            let older = self.ring.older_than(oldest);
            unneeded = unneeded.min(older);
            if older < excess {
                late.push(*slot);
                let silence = sink.last_sent().map(|sent| now.saturating_duration_since(sent));
                is_late_one_reading |= silence.is_some_and(|silence| silence < STALLED_AFTER);
            }
        }
        let are_most_behind = excess > 0 && self.share.census.are_most_behind();
        if self.patience.waits(is_late_one_reading, are_most_behind, now) {
            return false;
        }
        for slot in late {
            self.fall_behind(slot);
        }
        self.ring.trim(excess.max(unneeded.min(self.ring.spare())));
        let (length, bytes) = self.ring.size();
        self.trim_at = (length + TRIM_ENTRIES, bytes + TRIM_BYTES);
        true
    }

    /// Evicts a member that is too late: it goes on in the log before its oldest unsent entry.
    fn fall_behind(&mut self, slot: u32) {
        let found = self.members.visit(slot, |sink| sink.oldest());
        if let Some((key, Some(oldest))) = found {
            let position = self.ring.before(oldest);
            let _ = self.withdraw(key, Eviction::Behind(position));
        }
    }

    /// Does what the readiness of a member's socket allows.
    pub(crate) fn ready(&mut self, event: &Event, now: Instant) {
        let ring = &self.ring;
        // The event may be about a socket that had the slot before: it does no harm.
        let done = self.members.visit(event.token().0 as u32, |sink| sink.ready(event, ring, now));
        if let Some((key, Err(Gone))) = done {
            self.remove(key);
        }
    }

    /// Gives a member that has room again what is unsent.
    pub(crate) fn refill(&mut self, key: MemberKey, now: Instant) {
        let ring = &self.ring;
        // The slot may have another member since: it does no harm.
        let done = self.members.visit(key.slot, |sink| sink.flush(ring, now));
        if let Some((key, Err(Gone))) = done {
            self.remove(key);
        }
    }

    /// When [`Delivery::tick`] is to be called at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        let close = self.drain.as_ref().and_then(Drain::due);
        let revoked = self.revoked.front().map(|(due, _)| *due);
        self.due.first().into_iter().chain(close).chain(revoked).min()
    }

    /// Keeps silent streams alive, evicts those whose lifetime is over or which are revoked, and closes those whose turn it is
    /// in a drain.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.close_due(now);
        while let Some((_, key)) = self.revoked.pop_front_if(|(due, _)| *due <= now) {
            self.withdraw(key, Eviction::Ended(Closed::Revoked));
        }
        while let Some(slot) = self.due.pop(now) {
            // A member that attached ahead of the ring has more than what the ring ends with.
            let newest = match self.members.has(slot) {
                Some(has) if has <= self.ring.end() => self.ring.newest(),
                _ => Newest::default(),
            };
            match self.members.visit(slot, |sink| sink.tick(newest, now)) {
                Some((_, Ok(Tick::Next(next)))) => self.due.insert(slot, next),
                Some((key, Ok(Tick::Over))) => drop(self.withdraw(key, Eviction::Ended(Closed::Lifetime))),
                Some((key, Err(Gone))) => self.remove(key),
                None => {}
            }
        }
    }

    /// Removes a member whose peer has left, unless it has been removed already. The system forgets a closed socket by
    /// itself.
    pub(crate) fn remove(&mut self, key: MemberKey) {
        if self.take(key).is_some() {
            tracing::debug!("a stream ends: its subscriber has left");
        }
    }

    fn take(&mut self, key: MemberKey) -> Option<S> {
        let sink = self.members.remove(key)?;
        match self.members.len() {
            // Its table is given back when the last member has left.
            0 => self.due = Due::default(),
            _ => self.due.remove(key.slot),
        }
        Some(sink)
    }

    /// False: the member has left already.
    fn withdraw(&mut self, key: MemberKey, eviction: Eviction) -> bool {
        let Some(mut sink) = self.take(key) else { return false };
        sink.withdraw(&self.readiness);
        self.evict(sink, eviction);
        true
    }

    fn evict(&mut self, sink: S, eviction: Eviction) {
        if let Some(evicted) = sink.evict(&self.ring, eviction) {
            (self.evicted)(evicted);
        }
    }

    /// Ends all streams and begins again: the next entry will be the one after `head`, perhaps of another log.
    pub(crate) fn restart(&mut self, head: Position, reason: Closed, now: Instant) {
        self.close(reason, now);
        self.ring = Ring::new(head);
        self.patience = Patience::default();
        self.trim_at = (TRIM_ENTRIES, TRIM_BYTES);
    }

    /// Starts a drain; [`Delivery::tick`] closes the members. A later order replaces this one.
    pub(crate) fn drain(&mut self, order: DrainOrder, now: Instant) {
        let mut drain = Drain::new(order, now);
        for (key, sink) in self.members.iter().filter(|(_, sink)| is_drained(order, *sink)) {
            match sink.is_behind() {
                true => drain.add_last(key),
                false => drain.add_idle(key),
            }
        }
        self.drain = Some(drain);
    }

    fn close_due(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        let (mut count, eviction) =
            (drain.begin_step(self.members.len(), now), Eviction::Ended(drain.order().reason));
        while count > 0
            && let Some(drain) = &mut self.drain
            && let Some(key) = drain.pop(|key| self.members.is_behind(key))
        {
            // A member that has already left does not count as closed.
            count -= usize::from(self.withdraw(key, eviction));
        }
    }

    /// Ends the streams that are not accepted any more, evenly over that time. Replaces the previous
    /// revocation: a stream that is accepted again stays, and one that was to end already ends no later than then.
    pub(crate) fn revoke(&mut self, accepted: Option<Accepted>, within: Duration, now: Instant) {
        self.revoked = match &accepted {
            None => VecDeque::new(),
            Some(accepted) => {
                let is_revoked = |sink: &S| !accepted.accepts(sink.admission());
                let leaving: Vec<_> =
                    self.members.iter().filter(|(_, sink)| is_revoked(sink)).map(|(key, _)| key).collect();
                let mut former: HashMap<_, _> = self.revoked.drain(..).map(|(due, key)| (key, due)).collect();
                former.retain(|_, due| *due <= now + within);
                let (known, new): (Vec<_>, Vec<_>) =
                    leaving.into_iter().partition(|key| former.contains_key(key));
                let pause = within / u32::try_from(new.len().max(1)).unwrap_or(u32::MAX);
                let mut revoked: Vec<_> = (0..).map(|number| now + pause * number).zip(new).collect();
                revoked.extend(known.into_iter().map(|key| (former[&key], key)));
                revoked.sort_by_key(|(due, _)| *due);
                revoked.into()
            }
        };
        self.admissions = accepted;
    }

    /// Ends all streams, after what has been marked.
    pub(crate) fn close(&mut self, reason: Closed, now: Instant) {
        self.hand_out(now);
        for mut sink in self.members.drain() {
            sink.withdraw(&self.readiness);
            self.evict(sink, Eviction::Ended(reason));
        }
        self.due = Due::default();
        self.revoked = VecDeque::new();
    }
}

impl<S: Sink> Drop for Delivery<S> {
    /// Also after a panic: nothing waits any more.
    fn drop(&mut self) {
        self.share.metrics().set_waiting(0, 0);
    }
}

/// Whether an order concerns a member.
fn is_drained(order: DrainOrder, sink: &impl Sink) -> bool {
    order.with_polled || sink.is_on_socket()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fanout::{
        fake::{Fake, Peer, at, entry, shards},
        patience::REMAINDER_MAX,
        ring::ENTRIES_MAX,
    };

    fn shard() -> Delivery<Fake> {
        shards(1).remove(0)
    }

    fn attach(shard: &mut Delivery<Fake>, selector: &str, peer: &Peer, after: u64) {
        shard.attach(Fake::new(selector, peer), at(after), Instant::now());
    }

    /// A round in which these updates were handed in. False: the shard waits.
    fn round(shard: &mut Delivery<Fake>, sequences: std::ops::RangeInclusive<u64>, now: Instant) -> bool {
        let batch: Vec<_> = sequences.map(|sequence| entry(sequence, "topic=a")).collect();
        if !shard.trim(now) {
            return false;
        }
        shard.mark(&batch, now);
        shard.hand_out(now);
        true
    }

    fn live(shard: &mut Delivery<Fake>, after: u64) -> Peer {
        let peer = Peer::default();
        attach(shard, "a", &peer, after);
        assert_eq!(peer.eviction(), None, "it lies in the ring or ahead of it");
        peer
    }

    #[test]
    fn attaching_continues_at_the_exact_position_behind_at_and_ahead_of_the_shard() {
        let mut shard = shard();
        round(&mut shard, 1..=10, Instant::now());
        let all = [0, 4, 9, 10, 12].map(|after| (after, live(&mut shard, after)));
        round(&mut shard, 11..=15, Instant::now());
        for (after, peer) in &all {
            assert_eq!(peer.taken(), (after + 1..=15).collect::<Vec<_>>(), "after {after}");
        }
    }

    #[test]
    fn a_position_before_the_ring_is_behind_and_its_start_is_not() {
        let mut shard = shard();
        for first in (1..10_000).step_by(100) {
            round(&mut shard, first..=first + 99, Instant::now());
        }
        shard.trim(Instant::now());
        let start = shard.ring.start().sequence;
        assert!(start > 0);
        let peer = Peer::default();
        attach(&mut shard, "a", &peer, start - 1);
        assert_eq!(peer.eviction(), Some(Eviction::Behind(at(start - 1))));
        assert_eq!(shard.members.len(), 0);
        assert_eq!(live(&mut shard, start).taken(), (start + 1..=10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_slot_that_is_used_again_is_not_freed_by_its_former_member() {
        let mut shard = shard();
        let former = live(&mut shard, 0);
        shard.remove(former.key());
        let next = live(&mut shard, 0);
        assert_eq!(former.key().slot, next.key().slot);
        shard.remove(former.key());
        round(&mut shard, 1..=1, Instant::now());
        assert_eq!(next.taken(), [1]);
        shard.remove(next.key());
        assert_eq!(shard.members.len(), 0);
    }

    #[test]
    fn members_without_a_grant_are_not_looked_up_for_private_updates() {
        let mut shard = shard();
        let public = live(&mut shard, 0);
        shard.mark(&[entry(1, "topic=a&private=on"), entry(2, "topic=a")], Instant::now());
        shard.hand_out(Instant::now());
        assert_eq!(public.taken(), [2]);
    }

    #[test]
    fn a_member_that_has_left_is_removed_with_its_next_frame() {
        let mut shard = shard();
        let (leaves, stays) = (live(&mut shard, 0), live(&mut shard, 0));
        leaves.leave();
        round(&mut shard, 1..=1, Instant::now());
        assert_eq!((shard.members.len(), stays.taken()), (1, vec![1]));
    }

    #[test]
    fn a_shard_that_ends_or_begins_anew_hands_out_what_it_has_and_ends_its_streams() {
        let mut shard = shard();
        let peer = live(&mut shard, 0);
        shard.mark(&[entry(1, "topic=a")], Instant::now());
        shard.restart(at(100), Closed::LogLost, Instant::now());
        assert_eq!((peer.taken(), peer.eviction()), (vec![1], Some(Eviction::Ended(Closed::LogLost))));
        let next = live(&mut shard, 100);
        round(&mut shard, 101..=101, Instant::now());
        assert_eq!(next.taken(), [101]);
    }

    #[test]
    fn the_streams_on_sockets_end_after_what_there_is_and_the_others_go_on() {
        let mut shard = shard();
        let (on_socket, polled) = (live(&mut shard, 0), Peer::default());
        let sink = Fake { is_on_socket: false, ..Fake::new("a", &polled) };
        shard.attach(sink, at(0), Instant::now());
        round(&mut shard, 1..=1, Instant::now());
        let now = Instant::now();
        shard.drain(DrainOrder { reason: Closed::Stopping, ends: now, with_polled: false }, now);
        shard.tick(now);
        let ended = Some(Eviction::Ended(Closed::Stopping));
        assert_eq!((on_socket.taken(), on_socket.eviction()), (vec![1], ended));
        let next = live(&mut shard, 1);
        let due = shard.due().expect("a step");
        shard.tick(due);
        assert_eq!(next.eviction(), ended, "one that attaches later is closed as well");
        round(&mut shard, 2..=2, Instant::now());
        assert_eq!((polled.taken(), polled.eviction()), (vec![1, 2], None));
    }

    #[test]
    fn what_a_member_gets_when_it_attaches_counts_as_delivered() {
        let mut shard = shard();
        round(&mut shard, 1..=3, Instant::now());
        let late = live(&mut shard, 1);
        assert_eq!((late.taken(), shard.share.metrics().deliveries()), (vec![2, 3], 2));
        round(&mut shard, 4..=4, Instant::now());
        assert_eq!(shard.share.metrics().deliveries(), 3);
    }

    #[test]
    fn a_drain_closes_members_evenly_idle_ones_first_and_later_ones_last() {
        let mut shard = shard();
        let behind = Peer::with_room(0);
        attach(&mut shard, "a", &behind, 0);
        let idle: Vec<_> = (0..98).map(|_| live(&mut shard, 0)).collect();
        round(&mut shard, 1..=1, Instant::now());
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let order = DrainOrder { reason: Closed::Drained, ends: began + 10 * second, with_polled: true };
        shard.drain(order, began);
        let later = live(&mut shard, 1);
        let closed = |peer: &Peer| peer.eviction() == Some(Eviction::Ended(Closed::Drained));
        let mut now = began;
        while idle.iter().filter(|peer| closed(peer)).count() < 49 {
            now = shard.due().expect("a step");
            shard.tick(now);
        }
        assert!((now - began).abs_diff(5 * second) < second / 5, "{:?}", now - began);
        round(&mut shard, 2..=2, now);
        assert_eq!(idle[97].taken(), [1, 2], "the others go on");
        while !idle.iter().all(closed) {
            assert!(!closed(&behind) && !closed(&later));
            now = shard.due().expect("a step");
            shard.tick(now);
        }
        while let Some(due) = shard.due() {
            now = due;
            shard.tick(now);
        }
        assert!(closed(&behind) && closed(&later) && now <= began + 10 * second + second / 10);
    }

    #[test]
    fn members_that_are_not_accepted_any_more_end_evenly_and_others_stay() {
        let mut shard = shard();
        let admitted = |shard: &mut Delivery<Fake>, admission: Option<u64>| {
            let peer = Peer::default();
            let sink = Fake { admission: admission.map(Into::into), ..Fake::new("a", &peer) };
            shard.attach(sink, at(0), Instant::now());
            peer
        };
        let kept = [Some(7), None].map(|admission| admitted(&mut shard, admission));
        let revoked = [(); 4].map(|()| admitted(&mut shard, Some(8)));
        let accepted =
            |numbers: &[u64]| Some(Accepted::new(numbers.iter().map(|number| (*number).into()).collect()));
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let ended = || revoked.iter().filter(|peer| peer.eviction().is_some()).count();
        shard.revoke(accepted(&[7]), 8 * second, began);
        for number in 0..4 {
            assert_eq!(shard.due(), Some(began + 2 * second * number));
            assert_eq!(ended(), number as usize);
            shard.tick(began + 2 * second * number);
            shard.tick(began + 2 * second * (number + 1) - Duration::from_millis(1));
            assert_eq!(ended(), number as usize + 1);
        }
        assert_eq!((ended(), shard.due()), (4, None));
        assert_eq!(revoked[0].eviction(), Some(Eviction::Ended(Closed::Revoked)));
        // One that was on its way.
        assert_eq!(admitted(&mut shard, Some(8)).eviction(), Some(Eviction::Ended(Closed::Revoked)));
        // A second thought: those that have not ended yet stay.
        let late = admitted(&mut shard, Some(7));
        shard.revoke(accepted(&[8]), 8 * second, began);
        shard.revoke(accepted(&[7, 8]), 8 * second, began);
        shard.tick(began + 100 * second);
        round(&mut shard, 1..=1, began);
        for peer in kept.iter().chain([&late]) {
            assert_eq!((peer.taken(), peer.eviction()), (vec![1], None));
        }
        shard.revoke(None, second, began);
        assert_eq!(admitted(&mut shard, Some(9)).eviction(), None);
    }

    #[test]
    fn a_further_revocation_puts_off_no_stream_that_is_to_end() {
        let mut shard = shard();
        let admitted = |shard: &mut Delivery<Fake>, admission: u64| {
            let peer = Peer::default();
            shard.attach(
                Fake { admission: Some(admission.into()), ..Fake::new("a", &peer) },
                at(0),
                Instant::now(),
            );
            peer
        };
        let none = || Some(Accepted::new(std::iter::empty().collect()));
        let first = [(); 50].map(|()| admitted(&mut shard, 8));
        let (began, second) = (Instant::now(), Duration::from_secs(1));
        let ended = |peers: &[Peer]| peers.iter().filter(|peer| peer.eviction().is_some()).count();
        shard.revoke(Some(Accepted::new([9.into()].into())), 50 * second, began);
        // Every five seconds a reload changes something.
        let later = admitted(&mut shard, 9);
        for number in 0..10 {
            let now = began + 5 * second * number;
            shard.revoke(none(), 50 * second, now);
            shard.tick(now);
        }
        assert_eq!(ended(&first), 46, "one each second, as at first");
        assert!(later.eviction().is_some(), "the one that the second order revoked");
        // A shorter time counts for all.
        shard.revoke(None, second, began);
        let hurried = [(); 3].map(|()| admitted(&mut shard, 8));
        shard.revoke(none(), 50 * second, began);
        shard.revoke(none(), Duration::ZERO, began);
        shard.tick(began);
        assert_eq!(ended(&hurried), 3);
    }

    #[test]
    fn nothing_waits_in_a_shard_that_has_ended() {
        let mut shard = shard();
        attach(&mut shard, "a", &Peer::with_room(0), 0);
        round(&mut shard, 1..=1, Instant::now());
        shard.show_waiting();
        let metrics = Arc::clone(&shard.share.metrics);
        assert_eq!(metrics.shards[0].waiting().0, 1);
        drop(shard);
        assert_eq!(metrics.shards[0].waiting(), (0, 0));
    }

    /// Publishes to all shards until the slow member has been evicted, and returns how long a shard waited.
    fn wait_for_slow(shards: &mut [Delivery<Fake>], slow: &[&Peer]) -> Duration {
        // The ring of these tests is full after two of them.
        let step = STALLED_AFTER;
        let (mut now, mut waited, mut sequence) = (Instant::now(), Duration::ZERO, 0);
        while slow.iter().any(|peer| peer.eviction().is_none()) {
            assert!(sequence < 50_000, "a member that does not read is evicted");
            now += step;
            let batch = sequence + 1..=sequence + 128;
            let mut is_taken = true;
            for shard in &mut *shards {
                is_taken &= shard.trim(now);
            }
            match is_taken {
                true => {
                    for shard in &mut *shards {
                        assert!(round(shard, batch.clone(), now));
                    }
                    sequence += 128;
                }
                false => waited += step,
            }
        }
        waited
    }

    #[test]
    fn one_member_that_does_not_read_stops_nobody_even_if_its_shard_has_no_other() {
        let mut shards = shards(2);
        let (sleeping, reading) = (Peer::with_room(0), Peer::default());
        attach(&mut shards[0], "a", &sleeping, 0);
        attach(&mut shards[1], "a", &reading, 0);
        assert_eq!(wait_for_slow(&mut shards, &[&sleeping]), Duration::ZERO);
        let taken = reading.taken();
        assert!(taken.len() > ENTRIES_MAX && taken.iter().copied().eq(1..=taken.len() as u64));
        assert_eq!(sleeping.eviction(), Some(Eviction::Behind(at(0))), "it misses nothing in the log");
    }

    #[test]
    fn many_members_that_do_not_read_stop_the_others_for_no_time() {
        let mut shards = shards(2);
        let sleeping = [(); 5].map(|()| Peer::with_room(3));
        for (number, peer) in sleeping.iter().enumerate() {
            attach(&mut shards[number % 2], "a", peer, 0);
        }
        let reading = live(&mut shards[0], 0);
        assert_eq!(wait_for_slow(&mut shards, &sleeping.each_ref()), Duration::ZERO);
        assert!(!reading.taken().is_empty());
        assert_eq!(sleeping[0].eviction(), Some(Eviction::Behind(at(3))));
    }

    #[test]
    fn a_crowd_that_reads_slowly_is_waited_for_and_loses_nothing() {
        let mut shard = shard();
        let crowd = [(); 4].map(|()| Peer::with_room(0));
        for peer in &crowd {
            attach(&mut shard, "a", peer, 0);
        }
        let (mut now, mut sequence, mut rounds) = (Instant::now(), 0, 0);
        for _ in 0..1_000 {
            now += REMAINDER_MAX / 10;
            for peer in &crowd {
                peer.set_room(Some(100));
                let slot = peer.key().slot;
                let (_, flushed) =
                    shard.members.visit(slot, |sink| sink.flush(&shard.ring, now)).expect("a member");
                assert!(flushed.is_ok());
            }
            if round(&mut shard, sequence + 1..=sequence + 128, now) {
                (sequence, rounds) = (sequence + 128, rounds + 1);
            }
        }
        assert!(rounds < 1_000, "publishers are slowed down");
        for peer in &crowd {
            assert_eq!(peer.eviction(), None);
            let taken = peer.taken();
            assert!(taken.len() > 90_000 && taken.iter().copied().eq(1..=taken.len() as u64));
        }
    }

    #[test]
    fn the_list_of_members_that_are_behind_is_exact_whatever_happens() {
        let mut random = 1_u64;
        let mut below = |bound: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % bound
        };
        let mut shard = shard();
        let mut peers = Vec::<Peer>::new();
        let (mut sequence, mut now) = (0_u64, Instant::now());
        for _ in 0..3_000 {
            match below(8) {
                0 => {
                    let peer = Peer::with_room(below(4) as usize);
                    attach(&mut shard, "a", &peer, sequence.saturating_sub(below(20)));
                    peers.push(peer);
                }
                1 if !peers.is_empty() => {
                    let peer = peers.swap_remove(below(peers.len() as u64) as usize);
                    shard.remove(peer.key());
                }
                2 if !peers.is_empty() => peers[below(peers.len() as u64) as usize].leave(),
                3 => {
                    for peer in &peers {
                        peer.set_room(Some(below(50) as usize));
                        shard.members.visit(peer.key().slot, |sink| sink.flush(&shard.ring, now));
                    }
                }
                _ => {
                    let count = below(40);
                    if round(&mut shard, sequence + 1..=sequence + count, now) {
                        sequence += count;
                    }
                    now += Duration::from_millis(below(300));
                }
            }
            peers.retain(|peer| {
                shard.members.sink(peer.key().slot).is_some_and(|sink| Peer::is_same(&sink.peer, peer))
            });
            let mut listed = shard.members.behind().to_vec();
            let mut behind: Vec<_> =
                peers.iter().filter(|peer| peer.is_behind()).map(|peer| peer.key().slot).collect();
            listed.sort_unstable();
            behind.sort_unstable();
            assert_eq!(listed, behind);
        }
        assert!(sequence > 10_000);
    }
}
