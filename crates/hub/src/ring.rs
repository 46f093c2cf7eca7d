//! The frames that a shard has delivered last, so that a subscriber who comes out of the history can be attached at the
//! exact position it has reached.

use std::collections::VecDeque;

use petasos_protocol::update::Update;

use crate::transport::{Entry, Position};

/// The newest entries of the log, as far as a shard has come.
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The position before the first entry.
    start: Position,
    /// The position of the last entry.
    end: Position,
}

/// Long enough to cover the way from the last page of history to here, small beside the history itself.
const ENTRIES_MAX: usize = 1_024;
const BYTES_MAX: usize = 8 * 1024 * 1024;

impl Ring {
    /// Empty; the first entry will be the one after `head`.
    pub(crate) fn new(head: Position) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, start: head, end: head }
    }

    /// The position before the first entry.
    pub(crate) fn start(&self) -> Position {
        self.start
    }

    /// The position of the last entry.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Adds an entry and returns its place, which stays valid until the next trim.
    pub(crate) fn push(&mut self, entry: Entry) -> u32 {
        self.end = entry.position;
        self.bytes += entry.update.size();
        self.entries.push_back(entry);
        self.entries.len() as u32 - 1
    }

    /// The update at a place, with the position before it.
    pub(crate) fn at(&self, place: u32) -> (Position, &Update) {
        let place = place as usize;
        let before = place.checked_sub(1).map_or(self.start, |before| self.entries[before].position);
        (before, &self.entries[place].update)
    }

    /// What lies after a position, each with the position before it.
    pub(crate) fn after(&self, after: Position) -> impl Iterator<Item = (Position, &Update)> {
        let first = self.entries.partition_point(|entry| entry.position <= after);
        (first..self.entries.len()).map(|place| self.at(place as u32))
    }

    /// Lets go of what is over the bounds.
    pub(crate) fn trim(&mut self) {
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.entries.pop_front() else { return };
            self.bytes -= oldest.update.size();
            self.start = oldest.position;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use petasos_protocol::{Limits, form, topic::HubUrl};

    use super::*;

    fn at(sequence: u64) -> Position {
        Position { epoch: 1, sequence }
    }

    fn push(ring: &mut Ring, sequence: u64, data: &str) {
        let body = format!("topic=a&id={sequence}&data={data}");
        let draft = form::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
        let update = Arc::new(Update::publish(draft, || unreachable!("an id is given")));
        ring.push(Entry { position: at(sequence), update });
        ring.trim();
    }

    #[test]
    fn it_is_bounded_by_number() {
        let mut ring = Ring::new(at(0));
        for sequence in 1..=ENTRIES_MAX as u64 + 10 {
            push(&mut ring, sequence, "x");
        }
        assert_eq!((ring.start(), ring.end()), (at(10), at(ENTRIES_MAX as u64 + 10)));
        let (before, update) = ring.after(at(10)).next().expect("the first");
        assert_eq!((before, update.id().as_str()), (at(10), "11"));
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let mut ring = Ring::new(at(0));
        let large = "x".repeat(1_000_000);
        for sequence in 1..=20 {
            push(&mut ring, sequence, &large);
        }
        assert!(ring.bytes <= BYTES_MAX);
        assert_eq!((ring.start(), ring.entries.len()), (at(12), 8));
    }
}
