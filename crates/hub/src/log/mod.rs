//! The log: the contract that every transport fulfils, and the log in memory.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod documents;
pub mod memory;
pub mod registry;
pub mod transport;
