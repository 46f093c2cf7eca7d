//! Fan-out: a shard owns a part of the subscribers and gives each of them its frames.
//!
//! A shard is a task with a bounded inbox; it alone touches its members. It keeps a ring of the frames that it has
//! delivered, so that a subscriber who comes out of the history can be attached at the exact position it has reached.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use petasos_protocol::update::Update;
use slab::Slab;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    Closed,
    index::{Index, RegistrationKey},
    interest::Interest,
    outbox::Outbox,
    transport::{Entry, Position},
};

/// The way to a shard's task.
#[derive(Clone)]
pub(crate) struct Shard {
    inbox: mpsc::Sender<Command>,
}

enum Command {
    Deliver(Arc<[Entry]>),
    Attach { interest: Arc<Interest>, after: Position, reply: oneshot::Sender<Attached> },
    Close(Closed),
}

/// The answer to an attempt to attach.
pub(crate) enum Attached {
    /// From here on the outbox receives everything after the position, exactly once.
    Live(Membership),
    /// The position lies before the ring: the log must be read further first.
    Behind,
}

/// Batches and attachments that may wait for a shard; a full inbox makes the tail wait, and so the appenders.
const INBOX_COMMANDS: usize = 256;

/// The ring: long enough to cover the way from the last page of history to here, small beside the history itself.
const RING_FRAMES: usize = 1_024;
const RING_BYTES: usize = 8 * 1024 * 1024;

/// Marks that are collected before they are handed out: 2 MB.
const MARKS_MAX: usize = 256 * 1024;

impl Shard {
    /// Starts a shard whose first frame will be the one after `head`.
    pub(crate) fn start(head: Position) -> Self {
        let (inbox, commands) = mpsc::channel(INBOX_COMMANDS);
        let members = Members {
            public: Index::default(),
            granted: Index::default(),
            members: Slab::new(),
            admitted: 0,
            ring: Ring { frames: VecDeque::new(), bytes: 0, start: head, end: head },
            departures: Arc::default(),
        };
        tokio::spawn(members.run(commands));
        Self { inbox }
    }

    /// Hands over a batch of the log; waits while the shard is busy. False: the shard has ended.
    pub(crate) async fn deliver(&self, batch: Arc<[Entry]>) -> bool {
        self.inbox.send(Command::Deliver(batch)).await.is_ok()
    }

    /// Asks for everything after `after`. `None`: the shard has ended.
    pub(crate) async fn attach(&self, interest: Arc<Interest>, after: Position) -> Option<Attached> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Command::Attach { interest, after, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Ends all members' streams and the shard.
    pub(crate) async fn close(&self, reason: Closed) {
        // An error means that it has ended already.
        let _ = self.inbox.send(Command::Close(reason)).await;
    }
}

/// A place among a shard's members. Dropping it leaves.
pub(crate) struct Membership {
    pub(crate) outbox: Arc<Outbox>,
    key: MemberKey,
    departures: Arc<Departures>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.departures.keys.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        self.departures.inform.notify_one();
    }
}

/// A slot may be used again; the number of its member is not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct MemberKey {
    slot: u32,
    number: u64,
}

/// Members that have left and that the shard has not removed yet: each key once, so bounded by the members.
#[derive(Default)]
struct Departures {
    keys: Mutex<Vec<MemberKey>>,
    inform: Notify,
}

/// What the task owns.
struct Members {
    /// Members without a grant, which no private update concerns: subscription events of a crowd are not even looked up
    /// among the crowd's own matchers.
    public: Index,
    granted: Index,
    members: Slab<Member>,
    /// Members ever admitted.
    admitted: u64,
    ring: Ring,
    departures: Arc<Departures>,
}

struct Member {
    number: u64,
    interest: Arc<Interest>,
    registrations: Box<[RegistrationKey]>,
    outbox: Arc<Outbox>,
    /// Frames up to here it has already, or did not ask for.
    has: Position,
}

impl Members {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let departures = Arc::clone(&self.departures);
        let mut marks = Vec::new();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Deliver(batch)) => self.deliver(&batch, &mut marks),
                    Some(Command::Attach { interest, after, reply }) => {
                        // A receiver that is gone drops the membership, which departs like any other.
                        let _ = reply.send(self.attach(interest, after));
                    }
                    Some(Command::Close(reason)) => return self.close(reason),
                    None => return self.close(Closed::Stopping),
                },
                () = departures.inform.notified() => {}
            }
            let departed =
                std::mem::take(&mut *departures.keys.lock().unwrap_or_else(PoisonError::into_inner));
            for key in departed {
                self.remove(key);
            }
        }
    }

    fn attach(&mut self, interest: Arc<Interest>, after: Position) -> Attached {
        if after < self.ring.start {
            return Attached::Behind;
        }
        let outbox = Arc::<Outbox>::default();
        let missed = self.ring.after(after).filter(|(_, update)| interest.wants(update));
        if !outbox.push(missed.map(|(before, update)| (before, update.frame().event()))) {
            return Attached::Behind;
        }
        let entry = self.members.vacant_entry();
        let slot = entry.key() as u32;
        self.admitted += 1;
        let number = self.admitted;
        let index = if interest.sees_private() { &mut self.granted } else { &mut self.public };
        let registrations = interest.matchers.iter().map(|matcher| index.insert(matcher, slot)).collect();
        let has = after.max(self.ring.end);
        entry.insert(Member { number, interest, registrations, outbox: Arc::clone(&outbox), has });
        Attached::Live(Membership {
            outbox,
            key: MemberKey { slot, number },
            departures: Arc::clone(&self.departures),
        })
    }

    /// Finds the members of each frame, then visits each member once with all of its frames.
    fn deliver(&mut self, batch: &[Entry], marks: &mut Vec<u64>) {
        for entry in batch {
            let frame = self.ring.push(entry.clone());
            let mut mark = |slot: u32| {
                let member = &mut self.members[slot as usize];
                if member.has < entry.position && member.interest.may_have(&entry.update) {
                    member.has = entry.position;
                    marks.push(u64::from(slot) << 32 | frame);
                }
            };
            self.granted.lookup(entry.update.topics(), &mut mark);
            if !entry.update.is_private() {
                self.public.lookup(entry.update.topics(), &mut mark);
            }
            if marks.len() > MARKS_MAX {
                self.hand_out(marks);
            }
        }
        self.hand_out(marks);
        self.ring.trim();
    }

    fn hand_out(&mut self, marks: &mut Vec<u64>) {
        // By member, then in the order of the log.
        marks.sort_unstable();
        let mut full = Vec::new();
        for of_member in marks.chunk_by(|a, b| a >> 32 == b >> 32) {
            let slot = (of_member[0] >> 32) as u32;
            let member = &self.members[slot as usize];
            let frames = of_member.iter().map(|mark| self.ring.frame(mark & u64::from(u32::MAX)));
            if !member.outbox.push(frames.map(|(before, update)| (before, update.frame().event()))) {
                full.push(MemberKey { slot, number: member.number });
            }
        }
        marks.clear();
        for key in full {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: MemberKey) {
        let slot = key.slot as usize;
        if self.members.get(slot).is_some_and(|member| member.number == key.number) {
            let member = self.members.remove(slot);
            let index = if member.interest.sees_private() { &mut self.granted } else { &mut self.public };
            for (matcher, registration) in member.interest.matchers.iter().zip(&member.registrations) {
                index.remove(matcher, *registration);
            }
        }
    }

    fn close(&self, reason: Closed) {
        for (_, member) in &self.members {
            member.outbox.close(reason);
        }
    }
}

/// However a shard ends, its members' streams do, too.
impl Drop for Members {
    fn drop(&mut self) {
        self.close(Closed::LogLost);
    }
}

/// The frames delivered last.
struct Ring {
    frames: VecDeque<Entry>,
    bytes: usize,
    /// The position before the first frame.
    start: Position,
    /// The position of the last frame.
    end: Position,
}

impl Ring {
    /// Adds a frame and returns its place, which stays valid until the next trim.
    fn push(&mut self, entry: Entry) -> u64 {
        self.end = entry.position;
        self.bytes += entry.update.size();
        self.frames.push_back(entry);
        self.frames.len() as u64 - 1
    }

    /// A frame with the position before it.
    fn frame(&self, place: u64) -> (Position, &Update) {
        let place = place as usize;
        let before = place.checked_sub(1).map_or(self.start, |before| self.frames[before].position);
        (before, &self.frames[place].update)
    }

    fn after(&self, after: Position) -> impl Iterator<Item = (Position, &Update)> {
        let first = self.frames.partition_point(|entry| entry.position <= after);
        (first..self.frames.len()).map(|place| self.frame(place as u64))
    }

    fn trim(&mut self) {
        while self.frames.len() > RING_FRAMES || self.bytes > RING_BYTES {
            let Some(oldest) = self.frames.pop_front() else { return };
            self.bytes -= oldest.update.size();
            self.start = oldest.position;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use petasos_protocol::{Limits, form, grants::Grants, matcher::Matcher, topic::HubUrl};

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
        Arc::new(Interest { matchers, grants: Arc::new(Grants::default()) })
    }

    fn members() -> Members {
        Members {
            public: Index::default(),
            granted: Index::default(),
            members: Slab::new(),
            admitted: 0,
            ring: Ring { frames: VecDeque::new(), bytes: 0, start: at(0), end: at(0) },
            departures: Arc::default(),
        }
    }

    fn deliver(members: &mut Members, sequences: impl IntoIterator<Item = u64>) {
        let batch: Vec<_> = sequences.into_iter().map(|sequence| entry(sequence, "topic=a")).collect();
        members.deliver(&batch, &mut Vec::new());
    }

    /// The ids in an outbox, and its end.
    fn drain(membership: &Membership) -> (Vec<u64>, Option<End>) {
        let mut ids = Vec::new();
        loop {
            match membership.outbox.poll_next(&mut Context::from_waker(Waker::noop())) {
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

    fn live(members: &mut Members, after: u64) -> Membership {
        match members.attach(interest("a"), at(after)) {
            Attached::Live(membership) => membership,
            Attached::Behind => panic!("{after} lies in the ring or ahead of it"),
        }
    }

    #[test]
    fn attaching_continues_at_the_exact_position_behind_at_and_ahead_of_the_shard() {
        let mut members = members();
        deliver(&mut members, 1..=10);
        let memberships = [0, 4, 9, 10, 12].map(|after| (after, live(&mut members, after)));
        deliver(&mut members, 11..=15);
        for (after, membership) in &memberships {
            assert_eq!(drain(membership), ((after + 1..=15).collect(), None), "after {after}");
        }
    }

    #[test]
    fn a_position_before_the_ring_is_behind_and_its_start_is_not() {
        let mut members = members();
        let last = RING_FRAMES as u64 + 10;
        deliver(&mut members, 1..=last);
        assert_eq!(members.ring.frames.len(), RING_FRAMES);
        assert!(matches!(members.attach(interest("a"), at(9)), Attached::Behind));
        // All of the ring is more than a queue holds: nobody is attached half-way.
        assert!(matches!(members.attach(interest("a"), at(10)), Attached::Behind));
        assert!(members.members.is_empty());
        assert!(matches!(members.attach(interest("other"), at(10)), Attached::Live(_)));
        assert_eq!(drain(&live(&mut members, last - 5)).0, (last - 4..=last).collect::<Vec<_>>());
    }

    #[test]
    fn the_ring_is_bounded_by_bytes() {
        let mut members = members();
        let large = format!("topic=a&data={}", "x".repeat(1_000_000));
        for sequence in 1..=20 {
            members.deliver(&[entry(sequence, &large)], &mut Vec::new());
        }
        assert!(members.ring.bytes <= RING_BYTES && members.ring.frames.len() == 8);
        assert_eq!(members.ring.start, at(12));
    }

    #[test]
    fn a_full_member_is_told_where_to_go_on_and_removed() {
        let mut members = members();
        let slow = live(&mut members, 0);
        deliver(&mut members, 1..=300);
        assert!(members.members.is_empty());
        let (ids, end) = drain(&slow);
        let received = ids.len() as u64;
        assert_eq!((ids, end), ((1..=received).collect(), Some(End::Behind(at(received)))));
    }

    #[test]
    fn a_slot_that_is_used_again_is_not_freed_by_its_former_member() {
        let mut members = members();
        let former = live(&mut members, 0);
        members.remove(former.key);
        let next = live(&mut members, 0);
        assert_eq!(former.key.slot, next.key.slot);
        members.remove(former.key);
        deliver(&mut members, [1]);
        assert_eq!(drain(&next).0, [1]);
        members.remove(next.key);
        assert!(members.members.is_empty());
    }

    #[test]
    fn members_without_a_grant_are_not_looked_up_for_private_updates() {
        let mut members = members();
        let public = live(&mut members, 0);
        members.deliver(&[entry(1, "topic=a&private=on"), entry(2, "topic=a")], &mut Vec::new());
        assert_eq!(drain(&public).0, [2]);
    }

    #[test]
    fn a_shard_that_ends_ends_its_streams() {
        let mut members = members();
        let membership = live(&mut members, 0);
        drop(members);
        assert_eq!(drain(&membership), (Vec::new(), Some(End::Closed(Closed::LogLost))));
    }
}
