//! What one shard counts. Only its thread writes here; everybody may read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::histogram::{Histogram, SECONDS, add_alone};

/// The numbers of one shard. They begin on cache lines of their own, also where the processor fetches lines in pairs.
#[repr(align(128))]
pub(crate) struct ShardMetrics {
    /// Updates that were given to streams, counted once for each stream.
    deliveries: AtomicU64,
    /// The bytes of their events.
    bytes: AtomicU64,
    /// From the acceptance of an entry to the end of the round that gave it to the last stream of this shard.
    pub(crate) delays: Histogram,
    /// Streams with bytes that their sockets have not taken, or that their queues have no room for.
    waiting_streams: AtomicUsize,
    /// Those bytes.
    waiting_bytes: AtomicUsize,
    /// The deliveries of each group of topics.
    groups: Box<[AtomicU64]>,
}

impl ShardMetrics {
    pub(crate) fn new(groups: usize) -> Self {
        Self {
            deliveries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            delays: Histogram::new(&SECONDS),
            waiting_streams: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            groups: (0..groups).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// So many streams got an entry, whose event has so many bytes.
    pub(crate) fn delivered(&self, streams: usize, event_bytes: usize) {
        add_alone(&self.deliveries, streams as u64);
        add_alone(&self.bytes, (streams * event_bytes) as u64);
    }

    /// So many streams got an entry of the group.
    pub(crate) fn delivered_in_group(&self, group: usize, streams: usize) {
        add_alone(&self.groups[group], streams as u64);
    }

    /// What waits for the streams of this shard now.
    pub(crate) fn set_waiting(&self, streams: usize, bytes: usize) {
        self.waiting_streams.store(streams, Ordering::Relaxed);
        self.waiting_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Streams that wait, and their bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting_streams.load(Ordering::Relaxed), self.waiting_bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn group(&self, group: usize) -> u64 {
        self.groups[group].load(Ordering::Relaxed)
    }
}
