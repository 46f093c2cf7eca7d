//! The entries that a shard has delivered last. Frames that a slow socket has not taken stand here, once for all members. A
//! stream that comes out of the history is attached at the exact position that it has reached, if that lies in the ring.

use std::{cell::OnceCell, collections::VecDeque};

use petasos_protocol::{
    event::EventId,
    sse::{self, Frame},
    topic::Topic,
    update::{Origin, Update},
};

use crate::log::transport::{Entry, Position};

/// The newest entries of the log, as far as a shard has come.
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    /// What [`Ring::named`] gives for each entry, once a member needs it. It is not counted, and takes no more than the entries:
    /// a copy of short events, and a topic, which [`Update::size`] counts twice.
    named: VecDeque<OnceCell<Box<Frame>>>,
    bytes: usize,
    /// The number of the first entry.
    first: EntryNumber,
    /// The position before the first entry.
    start: Position,
    /// The position of the last entry.
    end: Position,
    /// The id of the newest update of a publisher that has been in it.
    newest_update: Option<EventId>,
    /// The id of the newest entry that has been in it: a large one may be trimmed before it is named.
    newest_entry: Option<EventId>,
}

/// The ids that the log ends with, as far as a shard has come; absent ones are not known.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Newest<'ring> {
    /// Of the newest update of a publisher.
    pub(crate) update: Option<&'ring EventId>,
    /// Of the newest entry.
    pub(crate) entry: Option<&'ring EventId>,
}

/// An event with the names of its topics.
pub(crate) enum Named<'ring> {
    /// A short event with the lines before it: it is sent as one piece.
    Whole(&'ring Frame),
    /// The lines alone. They are followed by the event, whose bytes are shared with the members that ask for no topics.
    Lines(&'ring Frame),
}

/// An entry's running number. It wraps around; the distance of two entries in the ring does not.
pub(crate) type EntryNumber = u32;

/// Entries that are kept though no member has them unsent: they cover the way from the last page of history to here. Fewer
/// in the tests of this crate, so that simulated streams often begin before the ring.
const ENTRIES_KEPT: usize = if cfg!(test) { 64 } else { 1_024 };

/// Entries that are kept for members that have them unsent: a second of the fastest publishing, which a socket may take to drain.
/// Fewer in the tests of this crate, so that simulated streams often fall behind the ring.
pub(crate) const ENTRIES_MAX: usize = if cfg!(test) { 256 } else { 8_192 };
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest event that is copied behind its topics: writing a second piece costs about as much as copying so many bytes
/// does once for all members.
const WHOLE_BYTES_MAX: usize = 4 * 1024;

impl Ring {
    /// Empty; the first entry will be the one after `head`.
    pub(crate) fn new(head: Position) -> Self {
        Self {
            entries: VecDeque::new(),
            named: VecDeque::new(),
            bytes: 0,
            first: 0,
            start: head,
            end: head,
            newest_update: None,
            newest_entry: None,
        }
    }

    /// The position before the first entry.
    pub(crate) fn start(&self) -> Position {
        self.start
    }

    /// The position of the last entry.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: Entry) -> EntryNumber {
        self.end = entry.position;
        self.bytes += entry.update.size();
        if entry.update.origin() == Origin::Publisher {
            self.newest_update = Some(entry.update.id().clone());
        }
        self.newest_entry = Some(entry.update.id().clone());
        self.entries.push_back(entry);
        self.named.push_back(OnceCell::new());
        self.first.wrapping_add(self.entries.len() as u32 - 1)
    }

    /// The ids that it ends with.
    pub(crate) fn newest(&self) -> Newest<'_> {
        Newest { update: self.newest_update.as_ref(), entry: self.newest_entry.as_ref() }
    }

    /// The ids of the newest entries behind a position that the ring has reached.
    pub(crate) fn newest_after(&self, after: Position) -> Newest<'_> {
        let later = || self.entries.iter().rev().take_while(|entry| entry.position > after);
        let updates = |entry: &&Entry| entry.update.origin() == Origin::Publisher;
        Newest {
            update: later().find(updates).map(|entry| entry.update.id()),
            entry: later().next().map(|entry| entry.update.id()),
        }
    }

    /// The event of an entry with the names of all its topics, written when it is first needed.
    pub(crate) fn named(&self, entry: EntryNumber) -> Named<'_> {
        let at = self.index(entry);
        let update = &self.entries[at].update;
        let is_short = update.frame().event_bytes().len() <= WHOLE_BYTES_MAX;
        let named = self.named[at].get_or_init(|| {
            let lines = sse::topic_lines(update.topics().iter().map(Topic::as_str));
            Box::new(if is_short { sse::with_topics(&lines, update.frame()) } else { lines })
        });
        if is_short { Named::Whole(named) } else { Named::Lines(named) }
    }

    /// An update that the ring holds.
    pub(crate) fn update(&self, entry: EntryNumber) -> &Update {
        &self.entries[self.index(entry)].update
    }

    /// The position before an entry that the ring holds.
    pub(crate) fn before(&self, entry: EntryNumber) -> Position {
        self.index(entry).checked_sub(1).map_or(self.start, |before| self.entries[before].position)
    }

    fn index(&self, entry: EntryNumber) -> usize {
        entry.wrapping_sub(self.first) as usize
    }

    /// What lies after a position.
    pub(crate) fn after(&self, after: Position) -> impl Iterator<Item = (EntryNumber, &Update)> {
        let first = self.entries.partition_point(|entry| entry.position <= after);
        let numbers = (first..).map(|index| self.first.wrapping_add(index as u32));
        numbers.zip(self.entries.range(first..).map(|entry| &*entry.update))
    }

    /// How many of the oldest entries may be trimmed, unless a member has one of them unsent.
    pub(crate) fn spare(&self) -> usize {
        self.entries.len().saturating_sub(ENTRIES_KEPT)
    }

    /// How many of the oldest entries have to be trimmed, even if members have them unsent.
    pub(crate) fn excess(&self) -> usize {
        let (mut length, mut bytes) = (self.entries.len(), self.bytes);
        for entry in &self.entries {
            if length <= ENTRIES_MAX && bytes <= BYTES_MAX {
                break;
            }
            length -= 1;
            bytes -= entry.update.size();
        }
        self.entries.len() - length
    }

    /// How many entries are older than that one.
    pub(crate) fn older_than(&self, entry: EntryNumber) -> usize {
        self.index(entry)
    }

    /// How many there are, and their size in bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// Trims the `count` oldest entries.
    pub(crate) fn trim(&mut self, count: usize) {
        for oldest in self.entries.drain(..count) {
            self.bytes -= oldest.update.size();
            self.start = oldest.position;
        }
        self.named.drain(..count);
        self.first = self.first.wrapping_add(count as u32);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use petasos_protocol::{Limits, request, topic::HubUrl};

    use super::*;

    fn at(sequence: u64) -> Position {
        Position { epoch: 1, sequence }
    }

    fn push(ring: &mut Ring, sequence: u64, data: &str) {
        let body = format!("topic=a&id={sequence}&data={data}");
        let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
        let update = Arc::new(Update::publish(draft, || unreachable!("an id is given")));
        ring.push(Entry::now(at(sequence), update));
        ring.trim(ring.excess());
    }

    #[test]
    fn it_is_bounded_by_number_and_numbers_wrap_around() {
        let mut ring = Ring { first: u32::MAX - 5, ..Ring::new(at(0)) };
        let last = 3 * ENTRIES_MAX as u64;
        for sequence in 1..=last {
            push(&mut ring, sequence, "x");
            assert!(ring.entries.len() <= ENTRIES_MAX);
        }
        assert_eq!(ring.end(), at(last));
        let (entry, update) = ring.after(at(last - 2)).next().expect("the last but one");
        assert_eq!(update.id().as_str(), (last - 1).to_string());
        assert_eq!(ring.update(entry).id(), update.id());
        assert_eq!(ring.before(entry), at(last - 2));
        let (oldest, _) = ring.after(at(0)).next().expect("the first");
        assert_eq!(ring.before(oldest), ring.start());
        assert_eq!((ring.older_than(oldest), ring.older_than(entry)), (0, ENTRIES_MAX - 2));
        assert_eq!(ring.spare(), ENTRIES_MAX - ENTRIES_KEPT);
    }

    #[test]
    fn topics_are_written_once_for_the_entry_that_has_them_and_go_with_it() {
        let mut ring = Ring::new(at(0));
        let long = "x".repeat(2 * WHOLE_BYTES_MAX);
        for sequence in 1..=20 {
            push(
                &mut ring,
                sequence,
                &format!("{}&topic=b{sequence}", if sequence % 2 == 0 { &long } else { "x" }),
            );
            let (entry, _) = ring.after(at(sequence - 1)).next().expect("the last");
            ring.named(entry);
        }
        ring.trim(15);
        for (sequence, (entry, update)) in (16..=20).zip(ring.after(at(0))) {
            let lines = format!("topic: a\ntopic: b{sequence}\n").into_bytes();
            match ring.named(entry) {
                Named::Lines(found) if sequence % 2 == 0 => assert_eq!(found.event_bytes(), lines),
                Named::Whole(found) if sequence % 2 == 1 => {
                    assert_eq!(found.event_bytes(), [&lines, update.frame().event_bytes()].concat());
                }
                Named::Lines(found) | Named::Whole(found) => panic!("{:?}", found.event()),
            }
        }
    }

    #[test]
    fn the_newest_ids_behind_a_position_are_of_entries_behind_it() {
        let mut ring = Ring::new(at(0));
        for sequence in 1..=3 {
            push(&mut ring, sequence, "x");
        }
        let newest = |after| ring.newest_after(at(after)).update.map(EventId::as_str);
        assert_eq!([0, 2, 3, 9].map(newest), [Some("3"), Some("3"), None, None]);
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let mut ring = Ring::new(at(0));
        let large = "x".repeat(1_000_000);
        for sequence in 1..=60 {
            push(&mut ring, sequence, &large);
            assert!(ring.bytes <= BYTES_MAX);
        }
        assert_eq!((ring.entries.len(), ring.spare()), (16, 0));
    }
}
