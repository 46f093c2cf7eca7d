//! A connection from its first byte to its last: accepted, read, answered, and closed.

pub(crate) mod connections;
pub(crate) mod first;
mod handover;
pub(crate) mod http2;
mod hyper;
mod idle;
mod linger;
mod link;
pub(crate) mod listener;
mod options;
pub(crate) mod passing;
pub(crate) mod permits;
