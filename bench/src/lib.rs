//! A load tool for Mercure hubs and other servers of event streams.
//!
//! Each scenario opens subscribers on an event loop ([`crowd`]), publishes from another thread ([`publishers`]), checks
//! every single arrival ([`ledger`]) and asks the operating system what it cost the server ([`process`]). [`bare`] is
//! the floor to compare with, [`compare`] runs scenarios against several servers in turn. Both speak HTTP/1.1, or HTTP/2
//! ([`http2`]), with TLS or without ([`wire`]).
//!
//! The tool decides nothing about a protocol: it recognises its own updates by what it wrote into their data
//! ([`stamp`]), so that any server can be driven that streams lines of `data`.

pub mod bare;
pub mod compare;
pub mod crowd;
pub mod http2;
pub mod latency;
pub mod ledger;
mod pool;
pub mod process;
pub mod publishers;
pub mod report;
pub mod request;
pub mod response;
pub mod scenario;
pub mod sequence;
pub mod stamp;
pub mod target;
pub mod tls;
pub mod wire;

/// Why a run cannot go on, for whoever started it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A number that no other run has.
pub fn unique() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}
