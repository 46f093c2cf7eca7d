//! What is counted by version of HTTP.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Version;

/// The numbers of one service.
#[derive(Default)]
pub(crate) struct Protocols {
    http1_requests: AtomicU64,
    http2_requests: AtomicU64,
    http2_connections: AtomicU64,
    http2_streams: AtomicU64,
}

/// The values of the label, in the order of the pairs below.
pub(crate) const NAMES: [&str; 2] = ["http/1.1", "http/2"];

impl Protocols {
    /// A request has come.
    pub(crate) fn requested(&self, version: Version) {
        let requests = if version == Version::HTTP_2 { &self.http2_requests } else { &self.http1_requests };
        requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection that speaks HTTP/2 has begun.
    pub(crate) fn http2_opened(&self) {
        self.http2_connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn http2_closed(&self) {
        self.http2_connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A stream of events has begun on such a connection.
    pub(crate) fn http2_stream_opened(&self) {
        self.http2_streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn http2_stream_closed(&self) {
        self.http2_streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests.
    pub(crate) fn requests(&self) -> [u64; 2] {
        [&self.http1_requests, &self.http2_requests].map(|count| count.load(Ordering::Relaxed))
    }

    /// Open connections, of which there are `all`.
    pub(crate) fn connections(&self, all: u64) -> [u64; 2] {
        split(all, &self.http2_connections)
    }

    /// Open streams, of which there are `all`.
    pub(crate) fn streams(&self, all: u64) -> [u64; 2] {
        split(all, &self.http2_streams)
    }
}

/// The two numbers are not read at the same moment.
fn split(all: u64, http2: &AtomicU64) -> [u64; 2] {
    let http2 = http2.load(Ordering::Relaxed);
    [all.saturating_sub(http2), http2]
}
