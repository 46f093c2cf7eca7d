//! HTTP/2 (RFC 9113) on one connection.
//!
//! The library h2 reads and writes frames. A [`connection`] is one task: it owns its requests, each an [`exchange`] that
//! takes its [`content`] and sends its answer, and it owns the bounds in time. What the peer has begun and not ended is
//! seen in its [`heads`], and what it does not take in what is [`watched`]. Streams do not leave the library here.

mod connection;
mod content;
mod exchange;
pub(crate) mod heads;
mod preface;
mod watched;

pub(crate) use self::{
    connection::{Http2, builder},
    preface::{Begin, Preface},
};
