//! Who may publish and subscribe: keys, issuers, and tokens that are verified or signed.
//!
//! A [`Verifier`] turns the text of a token into what its bearer may do. This crate sees no request and no hub. The only
//! HTTP in it fetches the keys of an issuer ([`RemoteKeys`]).
//!
//! What a token may say, and what that means, is decided in `petasos-protocol`. This crate adds keys, time and memory.

mod algorithm;
mod basis;
mod der;
mod encoding;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod issuers;
mod jwk;
mod key;
mod key_form;
mod key_set;
mod memory;
mod pem;
mod public_key;
mod remote;
mod signer;
mod verified;
mod verifier;
mod weakness;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use basis::Basis;
pub use issuers::{Issuer, Issuers, Keys};
pub use key::{Key, KeyError};
pub use key_form::KeyForm;
pub use remote::{FetchError, RemoteKeys, RemoteKeysError};
pub use signer::Signer;
pub use verified::Verified;
pub use verifier::Verifier;
pub use weakness::Weakness;
