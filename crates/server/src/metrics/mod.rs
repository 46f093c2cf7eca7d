//! The metrics of a hub: their names, their values, and the text in which a monitoring system reads them.
//!
//! The parts of a hub count; this folder only names and shows what they have counted.

pub(crate) mod exposition;
pub(crate) mod gather;
pub(crate) mod handshakes;
pub(crate) mod protocols;
pub(crate) mod requests;
pub(crate) mod samples;
pub mod table;

pub use self::{
    exposition::Format,
    samples::{Samples, Value},
    table::{FAMILIES, Family, Kind},
};
