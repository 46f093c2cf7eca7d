//! Whether a shard whose ring is full waits for late members or evicts them.
//!
//! A member is late if entries that it has not taken have to be trimmed. If most members of the hub have unsent frames, the
//! publishers are faster than the subscribers can be. Then the shard waits and takes no more updates, and that slows the
//! publishers down. Otherwise the late members are the slow ones, and the shard does not wait for them.
//!
//! So these are the longest times for which one subscriber can stop another: [`REMAINDER_MAX`] where most members keep up,
//! and [`PATIENCE_MAX`] where most have unsent frames and take some of them meanwhile.

use std::time::{Duration, Instant};

/// The longest that a shard waits for late members. It is long beside the time that a peer takes that reads at all, and
/// short beside the time that publishers wait for an answer.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_secs(2);

/// The longest that it waits for the last ones, once most members have caught up.
pub(crate) const REMAINDER_MAX: Duration = Duration::from_millis(100);

/// A late member that has taken nothing for so long does not read, and the shard does not wait for it.
pub(crate) const STALLED_AFTER: Duration = Duration::from_millis(100);

/// The wait of one shard for its late members. Default: it does not wait.
#[derive(Default)]
pub(crate) struct Patience {
    until: Option<Instant>,
    /// When most members were seen to have unsent frames last.
    most_behind_at: Option<Instant>,
}

impl Patience {
    /// Whether the shard waits. `late`: whether a late member has taken something within [`STALLED_AFTER`].
    /// `are_most_behind`: whether most members of the hub have unsent frames.
    pub(crate) fn waits(&mut self, late: bool, are_most_behind: bool, now: Instant) -> bool {
        if are_most_behind {
            self.most_behind_at = Some(now);
            self.until.get_or_insert(now + PATIENCE_MAX);
        }
        let within = |start: Instant, max: Duration| now.saturating_duration_since(start) < max;
        let waits = late
            && self.until.is_some_and(|until| now < until)
            && self.most_behind_at.is_some_and(|at| within(at, REMAINDER_MAX));
        if !waits {
            *self = Self::default();
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn nobody_waits_for_a_few_late_members_or_for_those_that_do_not_read() {
        let now = Instant::now();
        assert!(!Patience::default().waits(true, false, now), "most keep up");
        assert!(!Patience::default().waits(false, true, now), "no late member reads");
    }

    #[test]
    fn a_crowd_that_reads_is_waited_for_until_the_patience_ends() {
        let (mut patience, began) = (Patience::default(), Instant::now());
        let mut now = began;
        while patience.waits(true, true, now) {
            now += 10 * MILLISECOND;
        }
        assert_eq!(now - began, PATIENCE_MAX);
        assert!(patience.waits(true, true, now), "the next time is a new one");
    }

    #[test]
    fn the_last_ones_get_a_moment_once_most_have_caught_up() {
        let (mut patience, began) = (Patience::default(), Instant::now());
        assert!(patience.waits(true, true, began));
        assert!(patience.waits(true, false, began + REMAINDER_MAX - MILLISECOND));
        assert!(!patience.waits(true, false, began + REMAINDER_MAX));
        assert!(!patience.waits(true, false, began + REMAINDER_MAX), "it does not begin again by itself");
    }

    #[test]
    fn it_ends_when_the_last_late_member_has_caught_up() {
        let (mut patience, now) = (Patience::default(), Instant::now());
        assert!(patience.waits(true, true, now));
        assert!(!patience.waits(false, true, now + MILLISECOND));
    }
}
