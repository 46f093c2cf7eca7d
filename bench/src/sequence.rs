//! Whether each subscriber gets each publisher's updates once and in order.

use std::{collections::HashMap, ops::Range};

/// What every subscriber has seen of every publisher.
#[derive(Debug)]
pub struct Sequences {
    publishers: usize,
    /// The number that follows the highest one seen, by subscriber and publisher.
    next: Vec<usize>,
    /// What was skipped, by the same index: empty as long as all is well.
    missing: HashMap<usize, Vec<Range<usize>>>,
    duplicated: u64,
    reordered: u64,
}

/// What an arrival says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The next one, or one further on: then those before it are missing until they arrive.
    InOrder,
    /// One that was missing.
    Late,
    /// One that has been here.
    Again,
}

impl Sequences {
    /// For subscribers that are there before anything is published.
    pub fn new(subscribers: usize, publishers: usize) -> Self {
        let (next, missing) = (vec![0; subscribers * publishers], HashMap::new());
        Self { publishers, next, missing, duplicated: 0, reordered: 0 }
    }

    /// Notes an arrival.
    ///
    /// # Panics
    /// If there is no such subscriber or publisher.
    pub fn arrive(&mut self, subscriber: usize, publisher: usize, sequence: usize) -> Arrival {
        assert!(publisher < self.publishers, "publisher {publisher} is not of this run");
        let index = subscriber * self.publishers + publisher;
        let next = &mut self.next[index];
        if sequence >= *next {
            if sequence > *next && *next != JOINING {
                self.missing.entry(index).or_default().push(*next..sequence);
            }
            *next = sequence + 1;
            return Arrival::InOrder;
        }
        if *next == JOINING {
            *next = sequence + 1;
            return Arrival::InOrder;
        }
        if self.missing.get_mut(&index).is_some_and(|gaps| take(gaps, sequence)) {
            self.reordered += 1;
            return Arrival::Late;
        }
        self.duplicated += 1;
        Arrival::Again
    }

    /// A subscriber that begins with whatever it sees first.
    pub fn join(&mut self, subscriber: usize) {
        let indexes = subscriber * self.publishers..(subscriber + 1) * self.publishers;
        for index in indexes {
            self.next[index] = JOINING;
        }
    }

    /// Updates that arrived a second time.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// Updates that arrived after later ones of the same publisher.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// What was skipped and did not come later.
    pub fn skipped(&self) -> u64 {
        self.missing.values().flatten().map(|gap| gap.len() as u64).sum()
    }

    /// What these subscribers should have and have not, when each publisher has published that many.
    pub fn lost(&self, subscribers: Range<usize>, published: &[usize]) -> u64 {
        let mut lost = 0;
        for index in subscribers.start * self.publishers..subscribers.end * self.publishers {
            let gaps = self.missing.get(&index).into_iter().flatten();
            let tail = published[index % self.publishers].saturating_sub(self.next[index]);
            lost += gaps.map(Range::len).sum::<usize>() + tail;
        }
        lost as u64
    }
}

/// No sequence comes that far.
const JOINING: usize = usize::MAX;

/// Takes a number out of the gap that it lies in.
fn take(gaps: &mut Vec<Range<usize>>, sequence: usize) -> bool {
    let Some(at) = gaps.iter().position(|gap| gap.contains(&sequence)) else { return false };
    let gap = gaps.swap_remove(at);
    gaps.extend([gap.start..sequence, sequence + 1..gap.end].into_iter().filter(|part| !part.is_empty()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One subscriber, one publisher that has published ten.
    fn of(arrivals: &[usize]) -> (u64, u64, u64) {
        let mut sequences = Sequences::new(1, 1);
        for sequence in arrivals {
            sequences.arrive(0, 0, *sequence);
        }
        (sequences.lost(0..1, &[10]), sequences.duplicated(), sequences.reordered())
    }

    #[test]
    fn lost_duplicated_and_reordered_are_told_apart() {
        assert_eq!(of(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), (0, 0, 0));
        assert_eq!(of(&[]), (10, 0, 0));
        assert_eq!(of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), (1, 0, 0), "the last one");
        assert_eq!(of(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), (1, 0, 0), "the first one");
        assert_eq!(of(&[0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9]), (0, 1, 0));
        assert_eq!(of(&[0, 1, 3, 2, 4, 5, 6, 7, 8, 9]), (0, 0, 1));
        assert_eq!(of(&[0, 1, 6, 3, 3, 2, 9]), (4, 1, 2), "4, 5, 7 and 8; 3 twice; 3 and 2 late");
    }

    #[test]
    fn subscribers_and_publishers_are_counted_apart() {
        let mut sequences = Sequences::new(2, 2);
        sequences.arrive(0, 1, 0);
        sequences.arrive(1, 0, 0);
        assert_eq!(sequences.arrive(0, 0, 0), Arrival::InOrder);
        assert_eq!(sequences.arrive(0, 1, 0), Arrival::Again);
        assert_eq!(sequences.lost(0..1, &[1, 1]), 0);
        assert_eq!(sequences.lost(0..2, &[1, 1]), 1);
        assert_eq!(sequences.lost(1..2, &[1, 1]), 1);
    }

    #[test]
    fn who_joins_misses_nothing_of_before_but_all_that_it_skips() {
        let mut sequences = Sequences::new(1, 1);
        sequences.join(0);
        assert_eq!(sequences.arrive(0, 0, 70), Arrival::InOrder);
        assert_eq!(sequences.skipped(), 0);
        assert_eq!(sequences.arrive(0, 0, 72), Arrival::InOrder);
        assert_eq!(sequences.skipped(), 1);
        assert_eq!(sequences.arrive(0, 0, 71), Arrival::Late);
        assert_eq!(sequences.skipped(), 0);
        assert_eq!(sequences.arrive(0, 0, 69), Arrival::Again);
    }
}
