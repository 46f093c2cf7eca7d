//! When members are to be visited though nothing has been published: for a comment, or for the end of a stream.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// The slots of members with the time of their next visit, each at most once.
pub(crate) struct Due {
    began: Instant,
    order: BTreeSet<(Tick, u32)>,
    ticks: Vec<Tick>,
}

/// Sixteenths of a second since the shard began: four bytes a member, good for eight years. A visit comes up to one tick
/// late.
type Tick = u32;

const TICKS: u32 = 16;

/// The tick of a member without a visit.
const NEVER: Tick = Tick::MAX;

impl Default for Due {
    fn default() -> Self {
        Self { began: Instant::now(), order: BTreeSet::new(), ticks: Vec::new() }
    }
}

impl Due {
    /// Sets the time of a member's next visit, which must have none; `None`: no visit.
    pub(crate) fn insert(&mut self, slot: u32, due: Option<Instant>) {
        let Some(due) = due else { return };
        let index = slot as usize;
        if self.ticks.len() <= index {
            self.ticks.resize(index + 1, NEVER);
        }
        let tick = self.tick(due) + 1;
        self.ticks[index] = tick;
        self.order.insert((tick, slot));
    }

    /// Forgets a member.
    pub(crate) fn remove(&mut self, slot: u32) {
        if let Some(tick) = self.ticks.get_mut(slot as usize) {
            self.order.remove(&(std::mem::replace(tick, NEVER), slot));
        }
    }

    /// The time of the next visit.
    pub(crate) fn first(&self) -> Option<Instant> {
        let (tick, _) = self.order.first()?;
        Some(self.began + Duration::from_secs(1) * *tick / TICKS)
    }

    /// Takes the next member whose visit is due at `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<u32> {
        let (tick, slot) = *self.order.first()?;
        if tick > self.tick(now) {
            return None;
        }
        self.order.pop_first();
        self.ticks[slot as usize] = NEVER;
        Some(slot)
    }

    /// Whole ticks until a time.
    fn tick(&self, time: Instant) -> Tick {
        let since = time.saturating_duration_since(self.began);
        // Exact: a visit is due at the very time that `first` says, or a shard would not wait for it.
        let ticks =
            since.as_secs() * u64::from(TICKS) + u64::from(since.subsec_nanos() / (1_000_000_000 / TICKS));
        Tick::try_from(ticks).unwrap_or(NEVER).min(NEVER - 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for millis in 0..200 {
            due.insert(1, Some(due.began + Duration::from_millis(millis)));
            let first = due.first().expect("one");
            assert_eq!(
                (due.pop(first - Duration::from_nanos(1)), due.pop(first)),
                (None, Some(1)),
                "{millis}"
            );
        }
    }
}
