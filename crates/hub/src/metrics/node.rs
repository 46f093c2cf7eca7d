//! What one node counts: streams that begin and end, updates that are published, and the numbers of its shards.

use std::{
    array,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use petasos_protocol::{Dialect, matcher::Matcher};

use super::{
    groups::Groups,
    histogram::{Histogram, SECONDS},
    outcome::{EndReason, ReplayOutcome, StreamCarrier},
    shard::ShardMetrics,
    snapshot::{GroupSnapshot, StreamsSnapshot},
};

/// The numbers of one node since its start, and of the streams that are open.
pub(crate) struct Metrics {
    pub(crate) published: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Publishers that were held back.
    pub(crate) held: AtomicU64,
    /// What the log took for one append.
    pub(crate) appends: Histogram,
    /// Updates that were read from the history for streams.
    pub(crate) replayed: AtomicU64,
    pub(crate) groups: Groups,
    pub(crate) shards: Box<[ShardMetrics]>,
    opened: AtomicU64,
    /// By dialect and carrier. A stream that changes its carrier is for a moment in both, so the sum is never too small.
    open: [[AtomicI64; StreamCarrier::ALL.len()]; DIALECTS.len()],
    closed: [AtomicU64; EndReason::ALL.len()],
    replays: [AtomicU64; ReplayOutcome::ALL.len()],
}

/// All dialects, with the values of their label.
const DIALECTS: [(Dialect, &str); 2] = [(Dialect::Legacy, "0.x"), (Dialect::V1, "1.0")];

impl Metrics {
    /// For that many shards.
    pub(crate) fn new(shards: usize, groups: &[Matcher]) -> Self {
        let zero = |_| AtomicU64::new(0);
        Self {
            published: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            held: AtomicU64::new(0),
            appends: Histogram::new(&SECONDS),
            replayed: AtomicU64::new(0),
            groups: Groups::new(groups),
            shards: (0..shards).map(|_| ShardMetrics::new(groups.len())).collect(),
            opened: AtomicU64::new(0),
            open: array::from_fn(|_| array::from_fn(|_| AtomicI64::new(0))),
            closed: array::from_fn(zero),
            replays: array::from_fn(zero),
        }
    }

    /// A stream begins.
    pub(crate) fn stream_opened(&self, dialect: Dialect, carrier: StreamCarrier) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.open(dialect, carrier).fetch_add(1, Ordering::SeqCst);
    }

    /// Another one carries the stream from now on.
    pub(crate) fn stream_moved(&self, dialect: Dialect, from: StreamCarrier, to: StreamCarrier) {
        self.open(dialect, to).fetch_add(1, Ordering::SeqCst);
        self.open(dialect, from).fetch_sub(1, Ordering::SeqCst);
    }

    /// A stream has ended.
    pub(crate) fn stream_closed(&self, dialect: Dialect, carrier: StreamCarrier, reason: EndReason) {
        self.open(dialect, carrier).fetch_sub(1, Ordering::SeqCst);
        self.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A cursor was answered.
    pub(crate) fn replay(&self, outcome: ReplayOutcome) {
        self.replays[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many streams are open. Of two that end together, at least one sees that.
    pub(crate) fn open_streams(&self) -> usize {
        let open: i64 = self.open.iter().flatten().map(|open| open.load(Ordering::SeqCst)).sum();
        usize::try_from(open).unwrap_or_default()
    }

    /// The open streams.
    pub(crate) fn streams(&self) -> Vec<StreamsSnapshot> {
        let mut streams = Vec::new();
        for (dialect, name) in DIALECTS {
            for carrier in StreamCarrier::ALL {
                let open = self.open(dialect, carrier).load(Ordering::SeqCst);
                let open = usize::try_from(open).unwrap_or_default();
                streams.push(StreamsSnapshot { dialect: name, carrier: carrier.name(), open });
            }
        }
        streams
    }

    /// The streams that have ended, for each reason.
    pub(crate) fn closed(&self) -> Vec<(EndReason, u64)> {
        let count = |reason| (reason, self.closed[reason as usize].load(Ordering::Relaxed));
        EndReason::ALL.map(count).to_vec()
    }

    /// The cursors that were answered, for each outcome.
    pub(crate) fn replays(&self) -> Vec<(ReplayOutcome, u64)> {
        let count = |outcome| (outcome, self.replays[outcome as usize].load(Ordering::Relaxed));
        ReplayOutcome::ALL.map(count).to_vec()
    }

    /// The groups of topics.
    pub(crate) fn groups(&self) -> Vec<GroupSnapshot> {
        let deliveries = |group| self.shards.iter().map(|shard| shard.group(group)).sum();
        let groups = self.groups.snapshot().enumerate();
        groups
            .map(|(number, (group, updates))| GroupSnapshot {
                group: group.to_owned(),
                updates,
                deliveries: deliveries(number),
            })
            .collect()
    }

    fn open(&self, dialect: Dialect, carrier: StreamCarrier) -> &AtomicI64 {
        let dialect = match dialect {
            Dialect::Legacy => 0,
            Dialect::V1 => 1,
        };
        &self.open[dialect][carrier as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_open_with_one_carrier_and_ends_for_one_reason() {
        let metrics = Metrics::new(1, &[]);
        let (polled, socket) = (StreamCarrier::Polled, StreamCarrier::Socket);
        metrics.stream_opened(Dialect::V1, polled);
        metrics.stream_opened(Dialect::Legacy, polled);
        metrics.stream_moved(Dialect::V1, polled, socket);
        let open = |metrics: &Metrics| metrics.streams().iter().map(|each| each.open).collect::<Vec<_>>();
        assert_eq!(open(&metrics), [1, 0, 0, 1]);
        metrics.stream_closed(Dialect::V1, socket, EndReason::Lagged);
        assert_eq!(open(&metrics), [1, 0, 0, 0]);
        let closed: Vec<_> = metrics.closed().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!((metrics.opened(), closed), (2, vec![(EndReason::Lagged, 1)]));
    }
}
