//! Who may publish and subscribe: keys, issuers, and tokens that are verified or signed.
//!
//! This crate turns the text of a token into what its bearer may do ([`Issuers::verify`]). It knows no request and no
//! hub; the only HTTP in it fetches the keys of an issuer ([`RemoteKeys`]).

mod issuers;
mod key;
mod key_form;
mod key_set;
mod remote;
mod signer;
mod weakness;

pub use issuers::{Issuer, Issuers, Keys, Verified};
pub use key::{Algorithm, Key, KeyError};
pub use key_form::KeyForm;
pub use remote::{FetchError, RemoteKeys, RemoteKeysError};
pub use signer::Signer;
pub use weakness::Weakness;
