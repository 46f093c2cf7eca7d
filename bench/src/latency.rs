//! Latencies in buckets: recording costs a few nanoseconds, and the memory does not grow.

use std::time::Duration;

/// Counts of durations, exact to one part in 64.
#[derive(Clone)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

/// Buckets for each power of two: what is read off is at most 1.6 % too high.
const STEPS: u64 = 64;

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; bucket(u64::MAX) + 1], count: 0, max: 0 }
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }

    /// What that share of all, between 0 and 1, does not exceed; zero if there are none.
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(highest(index).min(self.max));
            }
        }
        Duration::ZERO
    }
}

/// Up to `2 * STEPS` each value has a bucket; beyond, the bits after the seventh are dropped.
fn bucket(value: u64) -> usize {
    let dropped = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS.trailing_zeros() + 1);
    (u64::from(dropped) * STEPS + (value >> dropped)) as usize
}

/// The highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let dropped = (bucket / STEPS).saturating_sub(1);
    let kept = bucket - dropped * STEPS;
    (kept << dropped) | ((1 << dropped) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_values_that_are_near_each_other() {
        for value in (0..1_000).chain([1 << 20, (1 << 20) + 12_345, 3_600_000_000_000, u64::MAX]) {
            let highest = highest(bucket(value));
            assert!(highest >= value && highest - value <= value / STEPS, "{value}: {highest}");
        }
        assert!((1..100_000u64).all(|value| (0..=1).contains(&(bucket(value) - bucket(value - 1)))));
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), Duration::ZERO);
        for value in 1..=1_000 {
            latencies.record(value * 1_000);
        }
        for (share, expected) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1_000)] {
            let (got, expected) = (latencies.quantile(share), Duration::from_micros(expected));
            assert!(got >= expected && got <= expected.mul_f64(1.016), "{share}: {got:?}");
        }
        assert_eq!((latencies.count(), latencies.max()), (1_000, Duration::from_millis(1)));
    }
}
