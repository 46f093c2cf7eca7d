//! Requests, parsed.

pub mod cursor;
pub mod form;
