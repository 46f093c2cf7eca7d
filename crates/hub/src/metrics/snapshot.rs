//! All numbers of a node at one moment, for whoever shows them.

use std::time::Duration;

use super::{
    histogram::Distribution,
    outcome::{EndReason, ReplayOutcome},
};
use crate::log::transport::Extent;

/// All numbers of a node at one moment. It costs the same however many streams are open. Numbers that change meanwhile may be
/// a moment apart.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Threads that fan out.
    pub shards: usize,
    /// Updates that publishers have appended.
    pub published: u64,
    /// Updates that the log did not take.
    pub failed: u64,
    /// Publishers that were held back because they were far ahead of the fan-out.
    pub held: u64,
    /// How long appends took.
    pub appends: Distribution,
    /// Streams that have begun.
    pub opened: u64,
    /// Open streams, by dialect and carrier.
    pub streams: Vec<StreamsSnapshot>,
    /// Streams that have ended, for each reason.
    pub closed: Vec<(EndReason, u64)>,
    /// Cursors that were answered, for each outcome.
    pub replays: Vec<(ReplayOutcome, u64)>,
    /// Updates that streams were given out of the history.
    pub replayed: u64,
    /// Updates that live streams were given, counted once for each stream.
    pub deliveries: u64,
    /// The bytes of their events.
    pub delivered_bytes: u64,
    /// How long entries took, from their acceptance until the last stream of a shard had got them: one value for each entry
    /// and shard that has a stream for it.
    pub delays: Distribution,
    /// Streams that do not take all of their bytes at once.
    pub waiting_streams: usize,
    /// Those bytes.
    pub waiting_bytes: usize,
    /// The groups of topics that the settings name.
    pub groups: Vec<GroupSnapshot>,
    /// The log.
    pub log: LogSnapshot,
}

/// The open streams of one dialect and carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamsSnapshot {
    /// `0.x` or `1.0`.
    pub dialect: &'static str,
    /// `socket` if the hub writes to the socket by itself, else `polled`.
    pub carrier: &'static str,
    /// The open streams.
    pub open: usize,
}

/// One group of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSnapshot {
    /// Its URI template.
    pub group: String,
    /// Updates published to it.
    pub updates: u64,
    /// Those updates as live streams got them, counted once for each stream.
    pub deliveries: u64,
}

/// What is known of the log.
#[derive(Debug, Clone)]
pub struct LogSnapshot {
    /// Whether it can be read.
    pub is_readable: bool,
    /// Whether it takes updates.
    pub is_ready: bool,
    /// By how much this node lags behind the log: the time from a look at its end until the node had delivered it. `None`: the
    /// first look has not ended yet.
    pub lag: Option<Duration>,
    /// What it holds, as far as it can tell.
    pub extent: Extent,
    /// How many entries were written to the store together. `None`: the log knows no batches.
    pub batches: Option<Distribution>,
}

impl Snapshot {
    /// All open streams.
    pub fn open(&self) -> usize {
        self.streams.iter().map(|streams| streams.open).sum()
    }
}

/// One condition that a hub has to meet to do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// A stable name.
    pub name: &'static str,
    /// Whether it is met.
    pub is_ok: bool,
    /// What was found, in words.
    pub found: String,
}
