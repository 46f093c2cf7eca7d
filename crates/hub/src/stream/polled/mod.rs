//! Streams that are polled: the bytes wait in a bounded queue until the HTTP library asks for them. What has no room there
//! waits in the ring of the shard.

pub(crate) mod member;
pub(crate) mod outbox;
pub(crate) mod session;
mod waiting;

#[cfg(test)]
mod tests;
