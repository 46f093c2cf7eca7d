//! Streams that the hub writes to sockets by itself, without an HTTP library in between. Where their bytes are encrypted, a
//! [`line`] has the [`seal`] that does it.
//!
//! A library's connection costs 14–21 KB a stream, an entry in a shard's table some hundred bytes. While a stream reads
//! history, a task carries it ([`carried`]). Once it has caught up, its shard owns the socket ([`parked`]) and writes all
//! unsent frames at once: it tries the socket first and keeps only what did not fit. A stream that lags goes back to a
//! task, and to the history.

pub(crate) mod carried;
pub(crate) mod connection;
pub(crate) mod framing;
pub(crate) mod line;
pub(crate) mod parked;
pub(crate) mod seal;
pub(crate) mod unsent;
pub(crate) mod waiting;
pub(crate) mod write;
