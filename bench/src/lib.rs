//! A load tool for Mercure hubs and other servers of event streams.
//!
//! It checks every single arrival ([`ledger`]) and asks the operating system what it cost the server ([`process`]).
//!
//! The tool decides nothing about a protocol: it recognises its own updates by what it wrote into their data
//! ([`stamp`]), so that any server can be driven that streams lines of `data`.

pub mod latency;
pub mod ledger;
pub mod process;
pub mod report;
pub mod response;
pub mod sequence;
pub mod stamp;
pub mod target;

/// Why a run cannot go on, for whoever started it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A number that no other run has.
pub fn unique() -> u128 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_nanos()
}
