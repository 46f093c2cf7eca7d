//! A histogram with fixed buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the buckets of one kind of values. The last bucket, beyond all bounds, is not listed.
#[derive(Debug)]
pub struct Buckets {
    bounds: &'static [u64],
    /// How many of the values that are recorded make one of the unit that is shown.
    scale: f64,
}

/// Durations, from a tenth of a millisecond to ten seconds. They are recorded in nanoseconds and shown in seconds.
pub static SECONDS: Buckets = Buckets {
    bounds: &[
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
        5_000_000_000,
        10_000_000_000,
    ],
    scale: 1e9,
};

/// Numbers of entries, in powers of two.
pub static ENTRIES: Buckets = Buckets { bounds: &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024], scale: 1.0 };

/// The most buckets of a histogram, with the one beyond all bounds.
const BUCKETS_MAX: usize = 17;

/// Counts values by size. All of it is in place, so that the histograms of two shards never share a cache line.
#[derive(Debug)]
pub struct Histogram {
    buckets: &'static Buckets,
    counts: [AtomicU64; BUCKETS_MAX],
    sum: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// The upper bounds of all buckets but the last.
    pub bounds: Vec<f64>,
    /// The values in each bucket alone.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Histogram {
    /// Without values.
    pub const fn new(buckets: &'static Buckets) -> Self {
        assert!(buckets.bounds.len() < BUCKETS_MAX);
        Self { buckets, counts: [const { AtomicU64::new(0) }; BUCKETS_MAX], sum: AtomicU64::new(0) }
    }

    /// Records a number of entries.
    pub fn record(&self, value: u64) {
        self.bucket(value).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Records a duration.
    pub fn record_duration(&self, duration: Duration) {
        self.record(nanoseconds(duration));
    }

    /// Records a duration. Only the one thread that writes to this histogram may call it: no other write is seen.
    pub(crate) fn record_alone(&self, duration: Duration) {
        let value = nanoseconds(duration);
        add_alone(self.bucket(value), 1);
        add_alone(&self.sum, value);
    }

    /// What has been recorded. A value that is recorded meanwhile may be missing in the sum.
    pub fn snapshot(&self) -> Distribution {
        let Buckets { bounds, scale } = self.buckets;
        let counts = self.counts[..=bounds.len()].iter().map(|count| count.load(Ordering::Relaxed));
        Distribution {
            bounds: bounds.iter().map(|bound| *bound as f64 / scale).collect(),
            counts: counts.collect(),
            sum: self.sum.load(Ordering::Relaxed) as f64 / scale,
        }
    }

    fn bucket(&self, value: u64) -> &AtomicU64 {
        &self.counts[self.buckets.bounds.partition_point(|bound| *bound < value)]
    }
}

impl Distribution {
    /// Adds the values of another one, which has the same buckets.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Adds to a number to which only the calling thread writes. It costs no more than for a plain number.
pub(crate) fn add_alone(number: &AtomicU64, value: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_counted_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::new(&ENTRIES);
        for value in [0, 1, 2, 3, 1_024, 1_025, 1_000_000] {
            histogram.record(value);
        }
        let Distribution { bounds, counts, sum } = histogram.snapshot();
        assert_eq!((bounds.len(), counts.len()), (11, 12));
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(sum, 1_002_055.0);
    }

    #[test]
    fn durations_are_shown_in_seconds_whoever_records_them() {
        let histogram = Histogram::new(&SECONDS);
        histogram.record_duration(Duration::from_millis(1));
        histogram.record_alone(Duration::from_millis(1_500));
        histogram.record_alone(Duration::from_secs(3_600));
        let mut seen = histogram.snapshot();
        let at = |bound: f64| seen.bounds.iter().position(|each| *each == bound).expect("a bound");
        assert_eq!((seen.counts[at(0.001)], seen.counts[at(2.5)]), (1, 1));
        assert_eq!((seen.counts.last(), seen.sum), (Some(&1), 3_601.501));
        let other = histogram.snapshot();
        seen.add(&other);
        assert_eq!((seen.count(), seen.sum), (6, 7_203.002));
    }
}
