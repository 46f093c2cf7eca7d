//! Which member gets which entries of the ring, collected before they are handed out.

use std::num::NonZeroU32;

use super::ring::EntryNumber;

/// The marks of one round: a linked list for each marked member, in the order of the log. All lists stand in one vector.
#[derive(Default)]
pub(crate) struct Marks {
    marks: Vec<Mark>,
    /// The slots of marked members, each once.
    slots: Vec<u32>,
}

struct Mark {
    entry: EntryNumber,
    next: Option<MarkNumber>,
}

/// The index of a mark in the vector, plus one.
type MarkNumber = NonZeroU32;

/// The list of one member, kept with the member.
#[derive(Default)]
pub(crate) struct Marked {
    first: Option<MarkNumber>,
    last: Option<MarkNumber>,
}

/// Marks that are collected before they are handed out: 2 MB.
const MARKS_MAX: usize = 256 * 1024;

impl Marks {
    /// Marks an entry for the member in `slot`, whose list is `marked`.
    pub(crate) fn push(&mut self, slot: u32, marked: &mut Marked, entry: EntryNumber) {
        self.marks.push(Mark { entry, next: None });
        let number = MarkNumber::new(self.marks.len() as u32);
        match marked.last {
            Some(last) => self.marks[last.get() as usize - 1].next = number,
            None => {
                marked.first = number;
                self.slots.push(slot);
            }
        }
        marked.last = number;
    }

    /// How many are collected.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether so many are collected that they have to be handed out before more are marked.
    pub(crate) fn is_full(&self) -> bool {
        self.marks.len() > MARKS_MAX
    }

    /// Takes the slots of all marked members. Their lists stay until [`Marks::clear`].
    pub(crate) fn take_slots(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.slots)
    }

    /// The entries of a member's list, in the order of the log.
    pub(crate) fn entries(&self, marked: &Marked) -> Entries<'_> {
        Entries { marks: &self.marks, next: marked.first }
    }

    /// Forgets all lists. `slots` is the vector that [`Marks::take_slots`] gave, whose memory is used again.
    pub(crate) fn clear(&mut self, mut slots: Vec<u32>) {
        self.marks.clear();
        slots.clear();
        self.slots = slots;
    }
}

/// The entries of one member's list.
pub(crate) struct Entries<'a> {
    marks: &'a [Mark],
    next: Option<MarkNumber>,
}

impl Iterator for Entries<'_> {
    type Item = EntryNumber;

    fn next(&mut self) -> Option<EntryNumber> {
        let mark = &self.marks[self.next?.get() as usize - 1];
        self.next = mark.next;
        Some(mark.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_has_its_entries_in_order_and_is_listed_once() {
        let mut marks = Marks::default();
        let (mut one, mut other) = (Marked::default(), Marked::default());
        for entry in 0..6 {
            marks.push(3, &mut one, entry);
            if entry % 2 == 1 {
                marks.push(8, &mut other, entry);
            }
        }
        let slots = marks.take_slots();
        assert_eq!(slots, [3, 8]);
        assert_eq!(marks.entries(&one).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(marks.entries(&other).collect::<Vec<_>>(), [1, 3, 5]);
        marks.clear(slots);
        assert_eq!(marks.entries(&Marked::default()).count(), 0);
        assert!(marks.take_slots().is_empty());
    }

    #[test]
    fn it_is_full_beyond_its_bound() {
        let mut marks = Marks::default();
        let mut marked = Marked::default();
        for entry in 0..MARKS_MAX as u32 {
            marks.push(0, &mut marked, entry);
        }
        assert!(!marks.is_full());
        marks.push(0, &mut marked, 0);
        assert!(marks.is_full());
    }
}
