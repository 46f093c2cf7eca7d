//! What a crowd has seen: how much, how late, and whether it was once and in order.

use crate::{
    latency::Latencies,
    sequence::{Arrival, Sequences},
    stamp::Stamp,
};

/// The arrivals of one run.
pub struct Ledger {
    /// Who has seen what.
    pub sequences: Sequences,
    /// From the start of publishing to each arrival.
    pub each: Latencies,
    /// The same for the last subscriber of each update.
    pub last: Latencies,
    /// Arrivals, without those of a second time.
    pub delivered: u64,
    /// When the latest arrival was, on the run's clock.
    pub latest_nanoseconds: u64,
    /// How many are to see each update.
    audience: u32,
    /// How many have seen each update, by publisher and sequence.
    seen: Vec<Vec<u32>>,
}

impl Ledger {
    /// For so many subscribers and publishers, when so many are to see each update.
    pub fn new(subscribers: usize, publishers: usize, audience: usize) -> Self {
        Self {
            sequences: Sequences::new(subscribers, publishers),
            each: Latencies::default(),
            last: Latencies::default(),
            delivered: 0,
            latest_nanoseconds: 0,
            audience: u32::try_from(audience).unwrap_or(u32::MAX),
            seen: vec![Vec::new(); publishers],
        }
    }

    /// Notes an arrival at that time.
    pub fn record(&mut self, subscriber: usize, stamp: Stamp, now: u64) {
        let Stamp { publisher, sequence, nanoseconds } = stamp;
        if self.sequences.arrive(subscriber, publisher, sequence) == Arrival::Again {
            return;
        }
        let latency = now.saturating_sub(nanoseconds);
        self.each.record(latency);
        self.delivered += 1;
        self.latest_nanoseconds = now;
        let seen = &mut self.seen[publisher];
        if seen.len() <= sequence {
            seen.resize(sequence + 1, 0);
        }
        seen[sequence] += 1;
        if seen[sequence] == self.audience {
            self.last.record(latency);
        }
    }

    /// Forgets latencies and counts, but not who has seen what.
    pub fn begin_phase(&mut self) {
        self.each = Latencies::default();
        self.last = Latencies::default();
        self.delivered = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_update_is_complete_with_its_last_subscriber() {
        let mut ledger = Ledger::new(2, 1, 2);
        let stamp = Stamp { publisher: 0, sequence: 0, nanoseconds: 1_000 };
        ledger.record(1, stamp, 2_000);
        ledger.record(1, stamp, 5_000);
        assert_eq!((ledger.delivered, ledger.last.count(), ledger.sequences.duplicated()), (1, 0, 1));
        ledger.record(0, stamp, 4_000);
        assert_eq!((ledger.delivered, ledger.last.count(), ledger.latest_nanoseconds), (2, 1, 4_000));
        assert_eq!(ledger.last.max(), Duration::from_nanos(3_000));
    }
}
