//! Streams that are polled: the bytes wait in a bounded queue until the HTTP library asks for them.

pub(crate) mod outbox;
pub(crate) mod session;
