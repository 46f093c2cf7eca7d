//! The drain of a shard: which member it closes next, and when.
//!
//! A shard closes its members one after the other, evenly in time, so that their subscribers come back to other nodes evenly,
//! too. Idle members go first; members with unsent frames and members that attach during the drain go last. Each step closes
//! a few members, so the drain stops nobody. All steps together cost as much as there are members.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::key::MemberKey;
use crate::Closed;

/// What a shard is asked to drain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainOrder {
    pub(crate) reason: Closed,
    /// When the last member is closed.
    pub(crate) ends: Instant,
    /// Whether polled members are closed, too, beside those on sockets.
    pub(crate) with_polled: bool,
}

/// The state of a drain.
pub(crate) struct Drain {
    order: DrainOrder,
    idle: VecDeque<MemberKey>,
    last: VecDeque<MemberKey>,
    /// Members that should have been closed by `counted_at` and have not been. Below 1 after each step.
    owed: f64,
    counted_at: Instant,
    /// The time of the next step.
    next: Instant,
}

/// The shortest time between two steps: each wakes the thread of the shard.
const STEP: Duration = Duration::from_millis(20);

/// Members that one step closes at most. The frames of the others wait meanwhile, for about a millisecond.
const CLOSES_MAX: usize = 256;

impl Drain {
    /// Begins at `now`. Without members: see [`Drain::add_idle`], [`Drain::add_last`] and [`Drain::add_later`].
    pub(crate) fn new(order: DrainOrder, now: Instant) -> Self {
        let (idle, last) = (VecDeque::new(), VecDeque::new());
        Self { order, idle, last, owed: 0.0, counted_at: now, next: now }
    }

    pub(crate) fn order(&self) -> DrainOrder {
        self.order
    }

    pub(crate) fn add_idle(&mut self, key: MemberKey) {
        self.idle.push_back(key);
    }

    pub(crate) fn add_last(&mut self, key: MemberKey) {
        self.last.push_back(key);
    }

    /// A member attaches at `now`, in a shard that has so many others. It is closed among the last ones, and only for the
    /// time that is left.
    pub(crate) fn add_later(&mut self, key: MemberKey, others: usize, now: Instant) {
        self.last.push_back(key);
        self.count(others, now);
        // With more members, the next one is to be closed sooner.
        self.next = self.next.min(now + STEP);
    }

    /// When [`Drain::begin_step`] is to be called; `None`: no member is left.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.is_empty()).then_some(self.next)
    }

    fn is_empty(&self) -> bool {
        self.idle.is_empty() && self.last.is_empty()
    }

    /// The number of members to close now. `members`: those that are left in the shard.
    pub(crate) fn begin_step(&mut self, members: usize, now: Instant) -> usize {
        if self.is_empty() || now < self.next {
            return 0;
        }
        if members == 0 {
            // All have left by themselves.
            self.idle.clear();
            self.last.clear();
            return 0;
        }
        self.count(members, now);
        // Converting saturates.
        let count = (self.owed as usize).min(CLOSES_MAX);
        self.owed -= count as f64;
        let left = self.order.ends.saturating_duration_since(now);
        let pause = left.mul_f64(((1.0 - self.owed) / members as f64).clamp(0.0, 1.0));
        // Many that are owed are closed by steps that follow each other at once, between which the shard does its other work.
        self.next = if self.owed >= 1.0 { now } else { now + pause.max(STEP) };
        count
    }

    /// Counts the members that should have been closed by `now`. `members`: those that were in the shard since the last time.
    fn count(&mut self, members: usize, now: Instant) {
        let left = self.order.ends.saturating_duration_since(self.counted_at);
        let elapsed = now.saturating_duration_since(self.counted_at);
        self.counted_at = now;
        if left <= elapsed {
            self.owed = members as f64;
        } else {
            self.owed += members as f64 * elapsed.as_secs_f64() / left.as_secs_f64();
        }
    }

    /// The next member to close, which may have left already. `is_behind`: whether a member has unsent frames; then it goes
    /// to the end, once.
    pub(crate) fn pop(&mut self, is_behind: impl Fn(MemberKey) -> bool) -> Option<MemberKey> {
        while let Some(key) = self.idle.pop_front() {
            if !is_behind(key) {
                return Some(key);
            }
            self.last.push_back(key);
        }
        self.last.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> MemberKey {
        MemberKey { slot: number, number }
    }

    /// A drain of members that are closed as soon as a step says so: the number of closes in each tenth of the time, and of
    /// the steps.
    fn run(members: u32, over: Duration, late: Duration) -> (Vec<usize>, usize) {
        let began = Instant::now();
        let order = DrainOrder { reason: Closed::Drained, ends: began + over, with_polled: true };
        let mut drain = Drain::new(order, began);
        (0..members).for_each(|number| drain.add_idle(key(number)));
        let (mut left, mut steps, mut tenths) = (members as usize, 0, vec![0; 11]);
        let mut now = began;
        while let Some(due) = drain.due() {
            now = due.max(now) + late;
            steps += 1;
            for _ in 0..drain.begin_step(left, now) {
                assert!(drain.pop(|_| false).is_some());
                left -= 1;
                let tenth = (now - began).as_secs_f64() / over.as_secs_f64() * 10.0;
                tenths[(tenth as usize).min(10)] += 1;
            }
        }
        assert_eq!(left, 0);
        (tenths, steps)
    }

    #[test]
    fn members_are_closed_evenly_however_late_a_step_comes() {
        for late in [0, 1, 7, 50] {
            let (tenths, steps) = run(5_000, Duration::from_secs(20), Duration::from_millis(late));
            assert!(
                tenths[..9].iter().all(|closes| (480..=520).contains(closes)),
                "{late} ms late: {tenths:?}"
            );
            assert!(steps <= 1_100, "{steps} steps");
        }
    }

    #[test]
    fn few_members_cost_few_steps_and_many_are_closed_in_several() {
        let (tenths, steps) = run(3, Duration::from_secs(30), Duration::ZERO);
        assert!(steps < 100, "{steps}");
        assert_eq!(tenths.iter().sum::<usize>(), 3);
        let (_, steps) = run(10_000, Duration::ZERO, Duration::ZERO);
        assert_eq!(steps, 10_000_usize.div_ceil(CLOSES_MAX));
    }

    #[test]
    fn members_that_attach_to_an_empty_shard_are_closed_evenly_in_the_time_that_is_left() {
        for early in [0, 1] {
            let (began, second) = (Instant::now(), Duration::from_secs(1));
            let order = DrainOrder { reason: Closed::Drained, ends: began + 30 * second, with_polled: true };
            let mut drain = Drain::new(order, began);
            (0..early).for_each(|number| drain.add_idle(key(number)));
            assert_eq!(drain.begin_step(early as usize, began), 0, "none is due at the beginning");
            // A thousand come back together after a third of the time.
            let mut now = began + 10 * second;
            let mut left = early as usize;
            for number in 0..1_000 {
                drain.add_later(key(early + number), left, now);
                left += 1;
            }
            let mut tenths = [0; 11];
            while let Some(due) = drain.due() {
                now = due.max(now);
                for _ in 0..drain.begin_step(left, now) {
                    assert!(drain.pop(|_| false).is_some());
                    left -= 1;
                    let tenth = (now - began - 10 * second).as_secs_f64() / 2.0;
                    tenths[(tenth as usize).min(10)] += 1;
                }
            }
            assert_eq!(left, 0);
            assert!(tenths[..9].iter().all(|closes| (95..=105).contains(closes)), "{early}: {tenths:?}");
        }
    }

    #[test]
    fn a_drain_is_over_when_all_members_have_left_by_themselves() {
        let now = Instant::now();
        let order = DrainOrder { reason: Closed::Drained, ends: now, with_polled: true };
        let mut drain = Drain::new(order, now);
        (1..=3).for_each(|number| drain.add_idle(key(number)));
        drain.add_last(key(4));
        assert_eq!((drain.begin_step(0, now), drain.due()), (0, None));
    }

    #[test]
    fn idle_members_go_first_and_those_that_are_behind_or_came_later_last() {
        let now = Instant::now();
        let order = DrainOrder { reason: Closed::Drained, ends: now, with_polled: true };
        let mut drain = Drain::new(order, now);
        drain.add_last(key(4));
        (1..=3).for_each(|number| drain.add_idle(key(number)));
        let popped: Vec<_> =
            std::iter::from_fn(|| drain.pop(|key| key.number == 2)).map(|key| key.number).collect();
        assert_eq!(popped, [1, 3, 4, 2]);
    }
}
