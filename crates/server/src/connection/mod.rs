//! A connection from its first byte to its last: accepted, read, answered, and closed.

pub(crate) mod connections;
pub(crate) mod first;
pub(crate) mod handover;
pub(crate) mod idle;
pub(crate) mod linger;
pub(crate) mod link;
pub(crate) mod listener;
