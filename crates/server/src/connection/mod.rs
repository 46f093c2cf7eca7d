//! A connection from its first byte to its last: accepted, read, answered, and closed.

pub(crate) mod connections;
mod first;
mod handover;
mod hyper;
mod idle;
mod linger;
mod link;
pub(crate) mod listener;
pub(crate) mod permits;
