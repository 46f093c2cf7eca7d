//! What one node counts, and how all of it is read at once.
//!
//! Guards one rule: nothing on the way of an update to its subscribers writes where another thread writes. Each shard has
//! numbers of its own (`shard`), which are added up when somebody reads them. What happens once for a stream or for an
//! update that is published is counted by the node (`node`).

pub(crate) mod groups;
pub(crate) mod histogram;
pub(crate) mod node;
pub(crate) mod outcome;
pub(crate) mod shard;
pub(crate) mod snapshot;
pub(crate) mod survey;

pub use self::{
    histogram::{Buckets, Distribution, ENTRIES, Histogram, SECONDS},
    outcome::{EndReason, ReplayOutcome, StreamCarrier},
    snapshot::{Check, GroupSnapshot, LogSnapshot, Snapshot, StreamsSnapshot},
};
