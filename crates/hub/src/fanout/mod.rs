//! Fan-out: which member of a shard gets which frames of the log.
//!
//! A shard is a thread that owns a part of the subscribers. Nothing here knows streams, sockets' framing or a runtime: a
//! member is a [`sink::Sink`], and an evicted member leaves through a callback.

pub(crate) mod bell;
pub(crate) mod census;
pub(crate) mod delivery;
pub(crate) mod drain;
pub(crate) mod due;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod inbox;
pub(crate) mod index;
pub(crate) mod key;
pub(crate) mod marks;
pub(crate) mod members;
pub(crate) mod memo;
pub(crate) mod patience;
pub(crate) mod patterns;
pub(crate) mod registration;
pub(crate) mod ring;
pub(crate) mod shard;
pub(crate) mod sink;
pub(crate) mod worker;
