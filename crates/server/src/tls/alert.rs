//! Why a connection ends, as TLS says it (RFC 8446, section 6).

/// A rule that a peer has broken: the description of the alert that tells it.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) u8);

/// Levels.
pub(crate) const WARNING: u8 = 1;
pub(crate) const FATAL: u8 = 2;

/// Descriptions.
pub(crate) const CLOSE_NOTIFY: u8 = 0;
pub(crate) const UNEXPECTED_MESSAGE: u8 = 10;
pub(crate) const BAD_RECORD_MAC: u8 = 20;
pub(crate) const RECORD_OVERFLOW: u8 = 22;
pub(crate) const ILLEGAL_PARAMETER: u8 = 47;
pub(crate) const DECODE_ERROR: u8 = 50;
pub(crate) const INTERNAL_ERROR: u8 = 80;
pub(crate) const USER_CANCELED: u8 = 90;
pub(crate) const NO_RENEGOTIATION: u8 = 100;
