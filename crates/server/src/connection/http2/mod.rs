//! HTTP/2 (RFC 9113) on one connection.
//!
//! An [`endpoint`] knows the protocol, and neither a socket nor a time. It takes whole frames ([`inbound`], [`frame`]), follows
//! the [`streams`], their [`window`]s and [`turns`], and the [`content`] of requests; it turns a [`field_block`] into a
//! [`request`] and an answer into another one ([`response`], [`hpack`]); it bounds the [`faults`] of its peer, and keeps what the
//! socket has not taken ([`outbound`]). A [`connection`] is one task: it owns the bounds in time and the requests, each an
//! [`exchange`] on an [`open_stream`].
//!
//! A request: `Serving::poll` reads, `Endpoint::receive` takes frames and opens a stream, `Serving::poll_requests` begins an
//! `Exchange`, which asks `Service::answer`.
//!
//! An event: the shard puts it into the queue of its session and wakes the exchange, which sends it (`Endpoint::send`: window
//! and turn), and the task writes what all its streams have sent at once. Where a stream is alone on its connection, the shard
//! writes it without the task ([`direct`]).

mod connection;
mod content;
mod direct;
mod endpoint;
mod exchange;
mod faults;
mod field_block;
mod frame;
mod hpack;
mod inbound;
mod open_stream;
mod outbound;
mod preface;
mod request;
mod request_body;
mod response;
mod shared;
mod streams;
#[cfg(test)]
mod tests;
mod turns;
mod window;

pub(crate) use self::{
    connection::Http2,
    preface::{Begin, Preface},
};
#[cfg(any(test, fuzzing))]
pub(crate) use endpoint::fuzzed;
