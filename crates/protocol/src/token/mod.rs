//! Access tokens: taken apart, checked and turned into what their bearer may do.
//!
//! [`Unverified`] becomes [`Claims`] once the signature has been verified, and claims become [`Grants`]: by
//! [`details::grants`] in protocol 1.0, by [`legacy::grants`](crate::legacy::grants) in 0.x. There is no crypto library
//! and no clock here: the caller brings the verification and the time.

mod claims;
pub mod details;
mod error;
mod grants;
mod jws;

use std::fmt;

pub use self::{
    claims::Claims,
    error::{Shown, TokenError},
    grants::Grants,
    jws::Unverified,
};

/// What a token is presented for. The two roles have separate keys, so that nobody who can make tokens of one role can
/// make tokens of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// To publish.
    Publisher,
    /// To subscribe, and to read the list of active subscriptions.
    Subscriber,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
        })
    }
}
