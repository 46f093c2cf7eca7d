//! Who is live on a shard, who wants which frame, and the frames handed out: one visit to each member for all that is new.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Interest as Readiness, Registry, Token, event::Event};
use slab::Slab;
use tokio::runtime::Handle;

use crate::{
    Closed,
    index::{Index, RegistrationKey},
    interest::Interest,
    outbox::Outbox,
    replay::SLICE_COST,
    ring::{Place, Ring},
    transport::{Entry, Position},
    wire::{Batch, Gone, Parked},
};

/// The members of one shard. Only its thread touches them.
pub(crate) struct Members {
    /// Members without a grant, which no private update concerns: subscription events of a crowd are not even looked up
    /// among the crowd's own matchers.
    public: Index,
    granted: Index,
    members: Slab<Member>,
    /// Members ever admitted. It wraps around, long after whoever had the number has left.
    admitted: u32,
    ring: Ring,
    marks: Marks,
    /// Members for whom something waits, and some for whom something did.
    behind: Vec<u32>,
    /// How long most members may still be waited for, once they are.
    patient_until: Option<Instant>,
    /// How many entries and bytes the ring has when it is looked at again.
    trim_at: (usize, usize),
    due: Due,
    registry: Registry,
    runtime: Handle,
}

/// A slot may be used again; the number of its member is not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberKey {
    slot: u32,
    number: u32,
}

struct Member {
    number: u32,
    /// Frames up to here it has already, or did not ask for.
    has: Position,
    registrations: Registrations,
    marked: Marked,
    sink: Sink,
}

/// What a member has in the index, in the order of its matchers. Most have one.
enum Registrations {
    One(RegistrationKey),
    Several(Box<[RegistrationKey]>),
}

impl Registrations {
    fn as_slice(&self) -> &[RegistrationKey] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Several(several) => several,
        }
    }
}

/// Where a member's frames go.
pub(crate) enum Sink {
    /// To a session, which somebody polls.
    Outbox(Arc<Interest>, Arc<Outbox>),
    /// To a socket.
    Socket(Parked),
}

/// How long a shard waits for most of its members. Long beside the time that a peer takes that reads at all, short beside
/// what publishers wait for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Entries that are compared for a new member even if that is costly. Without them, a member with costly patterns might
/// never attach while updates are published.
const MISSED_AT_LEAST: usize = 4;

/// How much the ring grows before it is trimmed again: all who wait are looked at then.
const TRIM_ENTRIES: usize = 256;
const TRIM_BYTES: usize = 1024 * 1024;

impl Sink {
    fn interest(&self) -> &Arc<Interest> {
        match self {
            Self::Outbox(interest, _) => interest,
            Self::Socket(parked) => parked.interest(),
        }
    }
}

impl Members {
    /// Nobody; the first frame will be the one after `head`.
    pub(crate) fn new(head: Position, registry: Registry, runtime: Handle) -> Self {
        Self {
            public: Index::default(),
            granted: Index::default(),
            members: Slab::new(),
            admitted: 0,
            ring: Ring::new(head),
            marks: Marks::default(),
            behind: Vec::new(),
            patient_until: None,
            trim_at: (TRIM_ENTRIES, TRIM_BYTES),
            due: Due::default(),
            registry,
            runtime,
        }
    }

    /// Admits a member whose frames go into an outbox, from `after` on. `None`: that lies before the ring, more is missed
    /// than a queue holds, or finding it takes too long.
    pub(crate) fn attach(
        &mut self,
        interest: Arc<Interest>,
        after: Position,
    ) -> Option<(Arc<Outbox>, MemberKey)> {
        if after < self.ring.start() {
            return None;
        }
        let outbox = Arc::<Outbox>::default();
        let missed = self.missed(&interest, after)?.into_iter();
        let frame = |place| (self.ring.before(place), self.ring.update(place).frame().event());
        if !outbox.push(missed.map(frame)) {
            return None;
        }
        let key = self.admit(Sink::Outbox(interest, Arc::clone(&outbox)), after);
        Some((outbox, key))
    }

    /// Admits a member whose frames go to its socket. One that has to read the history first goes back to a task.
    pub(crate) fn park(&mut self, mut parked: Parked, after: Position, now: Instant) {
        let interest = Arc::clone(parked.interest());
        let missed = if after < self.ring.start() { None } else { self.missed(&interest, after) };
        let Some(missed) = missed else {
            self.runtime.spawn(parked.unpark(&self.ring).run(after));
            return;
        };
        let pushed = parked.push(missed.into_iter(), &self.ring, &mut Batch::default(), now);
        let token = Token(self.members.vacant_key());
        // Edges: what a socket takes is always tried first.
        let both = Readiness::READABLE | Readiness::WRITABLE;
        let is_there = pushed.is_ok() && parked.flush(&self.ring, now).is_ok();
        // A socket that cannot be registered is closed: its peer comes back.
        if is_there && self.registry.register(&mut parked.socket, token, both).is_ok() {
            let due = parked.first_due();
            let slot = self.admit(Sink::Socket(parked), after).slot;
            self.due.insert(slot, due);
            self.list(slot);
        }
    }

    /// The frames of the ring after a position that a new member wants. `None`: comparing them would delay the other
    /// members for too long. The new member reads on in the log instead, and asks again nearer to its end.
    fn missed(&self, interest: &Interest, after: Position) -> Option<Vec<Place>> {
        let mut cost = 0_usize;
        let mut missed = Vec::new();
        for (number, (place, update)) in self.ring.after(after).enumerate() {
            cost = cost.saturating_add(interest.cost(update));
            if cost > SLICE_COST && number >= MISSED_AT_LEAST {
                return None;
            }
            if interest.wants(update) {
                missed.push(place);
            }
        }
        Some(missed)
    }

    fn admit(&mut self, sink: Sink, after: Position) -> MemberKey {
        if self.members.len() == self.members.capacity() {
            // Not twice as many: half of the table would be empty on average.
            self.members.reserve_exact(self.members.len() / 8 + 64);
        }
        let entry = self.members.vacant_entry();
        let slot = entry.key() as u32;
        self.admitted = self.admitted.wrapping_add(1);
        let number = self.admitted;
        let interest = sink.interest();
        let index = if interest.sees_private() { &mut self.granted } else { &mut self.public };
        let registrations = match &*interest.matchers {
            [only] => Registrations::One(index.insert(only, slot)),
            several => Registrations::Several(several.iter().map(|each| index.insert(each, slot)).collect()),
        };
        let has = after.max(self.ring.end());
        entry.insert(Member { number, has, registrations, marked: Marked::default(), sink });
        MemberKey { slot, number }
    }

    /// How many have ever been admitted; it wraps around.
    pub(crate) fn admitted(&self) -> u32 {
        self.admitted
    }

    /// Everything after the first position, and up to the second, is in the ring and has been marked.
    pub(crate) fn reach(&self) -> (Position, Position) {
        (self.ring.start(), self.ring.end())
    }

    /// Finds the members of each frame.
    pub(crate) fn mark(&mut self, batch: &[Entry]) {
        for entry in batch {
            let place = self.ring.push(entry.clone());
            let (members, marks) = (&mut self.members, &mut self.marks);
            let mut mark = |slot: u32| {
                let member = &mut members[slot as usize];
                if member.has < entry.position && member.sink.interest().may_have(&entry.update) {
                    member.has = entry.position;
                    marks.push(slot, &mut member.marked, place);
                }
            };
            // Not even the topics of what only they may have are looked at while there are none: they would be written.
            if !self.granted.is_empty() {
                self.granted.lookup(entry.update.topics(), &mut mark);
            }
            if !entry.update.is_private() {
                self.public.lookup(entry.update.topics(), &mut mark);
            }
            if self.marks.are_many() {
                self.hand_out(Instant::now());
            }
        }
    }

    /// Gives each marked member all of its frames.
    pub(crate) fn hand_out(&mut self, now: Instant) {
        let (members, ring, marks) = (&mut self.members, &self.ring, &mut self.marks);
        let mut batch = Batch::default();
        let (mut leaving, mut newly_behind) = (Vec::new(), Vec::new());
        for slot in marks.members.drain(..) {
            let member = &mut members[slot as usize];
            let places = Places { marks: &marks.marks, next: std::mem::take(&mut member.marked).first };
            let stays = match &mut member.sink {
                Sink::Outbox(_, outbox) => {
                    outbox.push(places.map(|place| (ring.before(place), ring.update(place).frame().event())))
                }
                Sink::Socket(parked) => {
                    let pushed = parked.push(places, ring, &mut batch, now);
                    if parked.is_behind() && !parked.is_listed {
                        newly_behind.push(slot);
                    }
                    pushed.is_ok()
                }
            };
            if !stays {
                leaving.push(MemberKey { slot, number: member.number });
            }
        }
        drop(batch);
        marks.marks.clear();
        for slot in newly_behind {
            self.list(slot);
        }
        for key in leaving {
            self.remove(key);
        }
    }

    /// Puts a member for whom something waits on the list of those who are looked at before the ring is trimmed.
    fn list(&mut self, slot: u32) {
        if self.behind.len() > 2 * self.members.len() {
            // Many have left since.
            let members = &mut self.members;
            self.behind
                .retain(|slot| matches!(socket(members, *slot), Some((_, parked)) if parked.is_listed));
        }
        if let Some((_, parked)) = socket(&mut self.members, slot)
            && parked.is_behind()
            && !parked.is_listed
        {
            parked.is_listed = true;
            self.behind.push(slot);
        }
    }

    /// Lets go of what nobody waits for, and of what is over the ring's bounds. Who still waits for some of that goes back
    /// to the history.
    ///
    /// Where most members have something waiting, it is not they who are slow, but the publishers who are fast: false, and
    /// nothing is let go of until those who would be too late have caught up or the patience has an end. The caller takes
    /// no more updates meanwhile, so that publishers are slowed down to what the crowd can take. Fewer slow members cost
    /// the others nothing.
    pub(crate) fn trim(&mut self, now: Instant) -> bool {
        let (length, bytes) = self.ring.size();
        if length < self.trim_at.0 && bytes < self.trim_at.1 {
            return true;
        }
        let excess = self.ring.excess();
        // The entries before the first that somebody waits for.
        let mut unneeded = length;
        let (mut waiting, mut late) = (0, 0);
        for slot in &self.behind {
            let Some((_, parked)) = socket(&mut self.members, *slot) else { continue };
            waiting += usize::from(parked.is_behind());
            if let Some(oldest) = parked.oldest() {
                unneeded = unneeded.min(self.ring.older_than(oldest));
                late += usize::from(self.ring.older_than(oldest) < excess);
            }
        }
        // It lasts until the last has caught up, though most have by then.
        if excess > 0 && self.patient_until.is_none() && waiting * 2 > self.members.len() {
            self.patient_until = Some(now + PATIENCE);
        }
        if late > 0 && self.patient_until.is_some_and(|end| now < end) {
            return false;
        }
        self.patient_until = None;
        for slot in std::mem::take(&mut self.behind) {
            let Some((key, parked)) = socket(&mut self.members, slot) else { continue };
            parked.is_listed = false;
            if parked.oldest().is_none_or(|oldest| self.ring.older_than(oldest) >= excess) {
                self.list(slot);
            } else if let Some(parked) = self.take(key)
                && let Some((unparked, position)) = parked.fall_behind(&self.ring)
            {
                self.runtime.spawn(unparked.run(position));
            }
        }
        self.ring.trim(excess.max(unneeded.min(self.ring.spare())));
        let (length, bytes) = self.ring.size();
        self.trim_at = (length + TRIM_ENTRIES, bytes + TRIM_BYTES);
        true
    }

    /// Does what the readiness of a member's socket allows.
    pub(crate) fn ready(&mut self, event: &Event, now: Instant) {
        let slot = event.token().0;
        // An event may be about a socket that was here before.
        let Some((key, parked)) = socket(&mut self.members, slot as u32) else { return };
        if parked.ready(event, &self.ring, now).is_err() {
            self.remove(key);
        }
    }

    /// When something is to be done at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.first()
    }

    /// Sends comments to those that have been silent, and ends those whose time is over.
    pub(crate) fn tick(&mut self, now: Instant) {
        while let Some(slot) = self.due.pop(now) {
            let Some((key, parked)) = socket(&mut self.members, slot) else { continue };
            match parked.tick(now) {
                Ok(true) => {
                    let due = parked.due();
                    self.due.insert(slot, due);
                }
                Ok(false) => {
                    if let Some(parked) = self.take(key) {
                        self.runtime.spawn(parked.unpark(&self.ring).end(Closed::Lifetime));
                    }
                }
                Err(Gone) => drop(self.remove(key)),
            }
        }
    }

    /// Takes out a member whose stream goes on elsewhere.
    fn take(&mut self, key: MemberKey) -> Option<Parked> {
        let Some(Sink::Socket(mut parked)) = self.remove(key) else { return None };
        // It fails for a socket that is not registered, which this one is.
        let _ = self.registry.deregister(&mut parked.socket);
        Some(parked)
    }

    /// Takes a member out, unless it has left already. Its socket is still registered: a socket that is closed, as most
    /// are then, the system forgets by itself.
    pub(crate) fn remove(&mut self, key: MemberKey) -> Option<Sink> {
        let slot = key.slot as usize;
        if self.members.get(slot).is_none_or(|member| member.number != key.number) {
            return None;
        }
        let Member { registrations, sink, .. } = self.members.remove(slot);
        let interest = sink.interest();
        let index = if interest.sees_private() { &mut self.granted } else { &mut self.public };
        for (matcher, registration) in interest.matchers.iter().zip(registrations.as_slice()) {
            index.remove(matcher, *registration);
        }
        if let Sink::Socket(_) = sink {
            self.due.remove(key.slot);
        }
        if self.members.is_empty() {
            self.clear();
        }
        Some(sink)
    }

    /// The tables of a crowd are given back when it has left.
    fn clear(&mut self) {
        (self.members, self.public, self.granted) = (Slab::new(), Index::default(), Index::default());
        (self.behind, self.due, self.marks) = (Vec::new(), Due::default(), Marks::default());
    }

    /// Ends all streams and begins anew: the next frame will be the one after `head`, perhaps of another log.
    pub(crate) fn restart(&mut self, head: Position, reason: Closed) {
        self.close(reason);
        self.ring = Ring::new(head);
        (self.patient_until, self.trim_at) = (None, (TRIM_ENTRIES, TRIM_BYTES));
    }

    /// Ends all streams.
    pub(crate) fn close(&mut self, reason: Closed) {
        self.hand_out(Instant::now());
        for member in std::mem::take(&mut self.members).into_iter().map(|(_, member)| member) {
            match member.sink {
                Sink::Outbox(_, outbox) => outbox.close(reason),
                Sink::Socket(mut parked) => {
                    let _ = self.registry.deregister(&mut parked.socket);
                    self.runtime.spawn(parked.unpark(&self.ring).end(reason));
                }
            }
        }
        self.clear();
    }
}

/// A member whose frames go to its socket.
fn socket(members: &mut Slab<Member>, slot: u32) -> Option<(MemberKey, &mut Parked)> {
    match members.get_mut(slot as usize)? {
        Member { number, sink: Sink::Socket(parked), .. } => {
            Some((MemberKey { slot, number: *number }, parked))
        }
        Member { sink: Sink::Outbox(..), .. } => None,
    }
}

/// However a shard ends, its members' streams do, too.
impl Drop for Members {
    fn drop(&mut self) {
        for (_, member) in &self.members {
            if let Sink::Outbox(_, outbox) = &member.sink {
                outbox.close(Closed::LogLost);
            }
        }
    }
}

/// Which member gets which frames: a list for each member, in the order of the log, all lists in one vector.
#[derive(Default)]
struct Marks {
    marks: Vec<Mark>,
    /// Those that have a list, each once.
    members: Vec<u32>,
}

struct Mark {
    place: Place,
    next: Option<MarkNumber>,
}

/// A mark's place in the vector, plus one.
type MarkNumber = std::num::NonZeroU32;

/// A member's list.
#[derive(Default)]
struct Marked {
    first: Option<MarkNumber>,
    last: Option<MarkNumber>,
}

/// Marks that are collected before they are handed out: 2 MB.
const MARKS_MAX: usize = 256 * 1024;

impl Marks {
    fn push(&mut self, slot: u32, marked: &mut Marked, place: Place) {
        self.marks.push(Mark { place, next: None });
        let number = MarkNumber::new(self.marks.len() as u32);
        match marked.last {
            Some(last) => self.marks[last.get() as usize - 1].next = number,
            None => {
                marked.first = number;
                self.members.push(slot);
            }
        }
        marked.last = number;
    }

    fn are_many(&self) -> bool {
        self.marks.len() > MARKS_MAX
    }
}

/// The places in a member's list.
struct Places<'a> {
    marks: &'a [Mark],
    next: Option<MarkNumber>,
}

impl Iterator for Places<'_> {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let mark = &self.marks[self.next?.get() as usize - 1];
        self.next = mark.next;
        Some(mark.place)
    }
}

/// When members are to be visited though nothing happens: each at most once in the table.
struct Due {
    began: Instant,
    order: BTreeSet<(Tick, u32)>,
    of_slot: Vec<Tick>,
}

/// Sixteenths of a second since the shard began: small, since there are as many as members, and good for eight years. What
/// is due comes up to one late.
type Tick = u32;

const TICKS: u32 = 16;

/// Nothing is due.
const NEVER: Tick = Tick::MAX;

impl Default for Due {
    fn default() -> Self {
        Self { began: Instant::now(), order: BTreeSet::new(), of_slot: Vec::new() }
    }
}

impl Due {
    fn insert(&mut self, slot: u32, due: Option<Instant>) {
        let Some(due) = due else { return };
        let place = slot as usize;
        if self.of_slot.len() <= place {
            self.of_slot.resize(place + 1, NEVER);
        }
        let tick = self.ticks(due) + 1;
        self.of_slot[place] = tick;
        self.order.insert((tick, slot));
    }

    fn remove(&mut self, slot: u32) {
        if let Some(tick) = self.of_slot.get_mut(slot as usize) {
            self.order.remove(&(std::mem::replace(tick, NEVER), slot));
        }
    }

    fn first(&self) -> Option<Instant> {
        let (tick, _) = self.order.first()?;
        Some(self.began + Duration::from_secs(1) * *tick / TICKS)
    }

    /// The next that is due by `now`.
    fn pop(&mut self, now: Instant) -> Option<u32> {
        let (tick, slot) = *self.order.first()?;
        if tick > self.ticks(now) {
            return None;
        }
        self.order.pop_first();
        self.of_slot[slot as usize] = NEVER;
        Some(slot)
    }

    /// Whole ticks until a time.
    fn ticks(&self, time: Instant) -> Tick {
        let since = time.saturating_duration_since(self.began);
        let ticks = since.as_millis() * u128::from(TICKS) / 1000;
        Tick::try_from(ticks).unwrap_or(NEVER).min(NEVER - 2)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use petasos_protocol::{Limits, form, grants::Grants, matcher::Matcher, topic::HubUrl, update::Update};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::outbox::{End, Next};

    fn at(sequence: u64) -> Position {
        Position { epoch: 1, sequence }
    }

    fn entry(sequence: u64, body: &str) -> Entry {
        let body = format!("{body}&id={sequence}");
        let draft = form::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
        Entry {
            position: at(sequence),
            update: Arc::new(Update::publish(draft, || unreachable!("an id is given"))),
        }
    }

    fn interest(selector: &str) -> Arc<Interest> {
        let matchers = vec![Matcher::selector(selector, &Limits::default()).expect("valid")];
        Arc::new(Interest::new(matchers, Arc::new(Grants::default())))
    }

    /// Members that nothing waits for, and the runtime that they send streams back to.
    fn members() -> (Members, Runtime) {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let registry = mio::Poll::new().and_then(|poll| poll.registry().try_clone()).expect("a poll");
        (Members::new(at(0), registry, runtime.handle().clone()), runtime)
    }

    fn deliver(members: &mut Members, sequences: impl IntoIterator<Item = u64>) {
        let batch: Vec<_> = sequences.into_iter().map(|sequence| entry(sequence, "topic=a")).collect();
        members.mark(&batch);
        members.hand_out(Instant::now());
        assert!(members.trim(Instant::now()));
    }

    type Member = (Arc<Outbox>, MemberKey);

    /// The ids in an outbox, and its end.
    fn drain(member: &Member) -> (Vec<u64>, Option<End>) {
        let mut ids = Vec::new();
        loop {
            match member.0.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Next::Frame(frame)) => {
                    let text = std::str::from_utf8(&frame).expect("UTF-8");
                    let id =
                        text.strip_prefix("id: ").and_then(|rest| rest.split('\n').next()).expect("an id");
                    ids.push(id.parse().expect("a number"));
                }
                Poll::Ready(Next::End(end)) => return (ids, Some(end)),
                Poll::Pending => return (ids, None),
            }
        }
    }

    fn live(members: &mut Members, after: u64) -> Member {
        members.attach(interest("a"), at(after)).expect("it lies in the ring or ahead of it")
    }

    #[test]
    fn attaching_continues_at_the_exact_position_behind_at_and_ahead_of_the_shard() {
        let (mut members, _runtime) = members();
        deliver(&mut members, 1..=10);
        let all = [0, 4, 9, 10, 12].map(|after| (after, live(&mut members, after)));
        deliver(&mut members, 11..=15);
        for (after, member) in &all {
            assert_eq!(drain(member), ((after + 1..=15).collect(), None), "after {after}");
        }
    }

    #[test]
    fn a_position_before_the_ring_is_behind_and_its_start_is_not() {
        let (mut members, _runtime) = members();
        deliver(&mut members, 1..=10_000);
        let start = members.ring.start().sequence;
        assert!(start > 0);
        assert!(members.attach(interest("a"), at(start - 1)).is_none());
        // All of the ring is more than a queue holds: nobody is attached half-way.
        assert!(members.attach(interest("a"), at(start)).is_none());
        assert!(members.members.is_empty());
        assert!(members.attach(interest("other"), at(start)).is_some());
        assert_eq!(drain(&live(&mut members, 9_995)).0, (9_996..=10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_full_member_is_told_where_to_go_on_and_removed() {
        let (mut members, _runtime) = members();
        let slow = live(&mut members, 0);
        deliver(&mut members, 1..=300);
        assert!(members.members.is_empty());
        let (ids, end) = drain(&slow);
        let received = ids.len() as u64;
        assert_eq!((ids, end), ((1..=received).collect(), Some(End::Behind(at(received)))));
    }

    #[test]
    fn a_slot_that_is_used_again_is_not_freed_by_its_former_member() {
        let (mut members, _runtime) = members();
        let former = live(&mut members, 0);
        members.remove(former.1);
        let next = live(&mut members, 0);
        assert_eq!(former.1.slot, next.1.slot);
        members.remove(former.1);
        deliver(&mut members, [1]);
        assert_eq!(drain(&next).0, [1]);
        members.remove(next.1);
        assert!(members.members.is_empty());
    }

    #[test]
    fn members_without_a_grant_are_not_looked_up_for_private_updates() {
        let (mut members, _runtime) = members();
        let public = live(&mut members, 0);
        members.mark(&[entry(1, "topic=a&private=on"), entry(2, "topic=a")]);
        members.hand_out(Instant::now());
        assert_eq!(drain(&public).0, [2]);
    }

    #[test]
    fn a_shard_that_ends_ends_its_streams() {
        let (mut members, _runtime) = members();
        let member = live(&mut members, 0);
        drop(members);
        assert_eq!(drain(&member), (Vec::new(), Some(End::Closed(Closed::LogLost))));
    }

    #[test]
    fn what_is_due_comes_once_in_its_order_and_not_before_its_time() {
        let mut due = Due::default();
        let at = |millis| due.began + Duration::from_millis(millis);
        let (early, late) = (at(1_000), at(2_000));
        let (before, after) = (at(990), at(2_100));
        for (slot, time) in [(7, late), (3, early), (5, late)] {
            due.insert(slot, Some(time));
        }
        due.insert(9, None);
        due.remove(5);
        assert_eq!(due.pop(before), None);
        assert!(due.first().is_some_and(|first| first > early && first < late));
        assert_eq!([due.pop(after), due.pop(after), due.pop(after)], [Some(3), Some(7), None]);
        assert_eq!(due.first(), None);
    }
}
