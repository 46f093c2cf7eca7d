//! One subscriber's stream, from its cursor to its end.
//!
//! [`life`] is the one state machine. Two carriers bring its bytes to the peer: [`polled`], for an HTTP library that asks
//! for them, and [`socket`], which writes them to a plain socket by itself.

pub(crate) mod beginning;
pub(crate) mod carrier;
pub(crate) mod history;
pub(crate) mod life;
pub(crate) mod opening;
pub(crate) mod polled;
pub(crate) mod pulse;
pub(crate) mod replay;
pub(crate) mod socket;
pub(crate) mod subscriber;
pub(crate) mod topics;
