//! The HTTP face of the petasos hub: HTTP/1.1 on sockets that the caller brings or that it listens on.
//!
//! Handlers translate and call once: every question of the protocol is answered by `petasos-protocol`, everything that
//! happens happens in `petasos-hub`. One file maps failures to answers ([`refusal`](self)).

mod admission;
mod body;
mod connection;
mod cors;
mod credentials;
mod first;
mod idle;
mod issuers;
mod key_form;
mod key_set;
mod keys;
mod linger;
mod link;
mod listener;
mod listing;
mod metadata;
mod origin;
mod probe;
mod proxies;
mod publish;
mod refusal;
mod remote_keys;
mod service;
mod signer;
mod stream;
mod subscribe;
mod subscriptions;
mod weakness;

pub use admission::StreamLimits;
pub use body::{Body, RequestBody};
pub use connection::{Admission, Connections};
pub use cors::Origins;
pub use issuers::{Issuer, Issuers, Keys, Verified};
pub use key_form::KeyForm;
pub use keys::{Algorithm, Key, KeyError};
pub use listener::Listener;
pub use proxies::Proxies;
pub use remote_keys::{FetchError, RemoteKeys, RemoteKeysError};
pub use service::{Service, Settings};
pub use signer::Signer;
pub use weakness::Weakness;
