//! Virtual time: what happens next, in the order of its time. What happens at one time happens in the order in which it
//! was planned.

use std::{collections::BTreeMap, time::Duration};

/// What is planned, and what time it is.
pub(super) struct Clock<T> {
    now: Duration,
    planned: BTreeMap<(Duration, u64), T>,
    count: u64,
}

impl<T> Clock<T> {
    pub(super) fn new() -> Self {
        Self { now: Duration::ZERO, planned: BTreeMap::new(), count: 0 }
    }

    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Plans something; a time that has passed means now.
    pub(super) fn plan(&mut self, at: Duration, happening: T) {
        self.count += 1;
        self.planned.insert((at.max(self.now), self.count), happening);
    }

    /// The next that happens, if it happens before `end`. The time is then that of the happening, or else `end`.
    pub(super) fn next(&mut self, end: Duration) -> Option<T> {
        let at = self.planned.first_key_value().map(|((at, _), _)| *at);
        match at.filter(|at| *at < end) {
            Some(at) => {
                self.now = at;
                self.planned.pop_first().map(|(_, happening)| happening)
            }
            None => {
                self.now = end;
                None
            }
        }
    }
}
