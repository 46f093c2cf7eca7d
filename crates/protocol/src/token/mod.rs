//! Tokens: taken apart, checked, and what they allow.

pub mod details;
pub mod grants;
pub mod jws;

pub use jws::{Claims, Role, Shown, TokenError, Unverified};
