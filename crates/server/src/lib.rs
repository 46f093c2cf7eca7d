//! The HTTP face of the petasos hub: HTTP/1.1 on sockets that the caller brings or that it listens on.
//!
//! Handlers translate and call once: every question of the protocol is answered by `petasos-protocol`, everything that
//! happens happens in `petasos-hub`. One file maps failures to answers ([`refusal`](self)).

mod body;
mod connection;
mod cors;
mod credentials;
mod keys;
mod listener;
mod publish;
mod refusal;
mod service;
mod subscribe;
mod subscriptions;

pub use body::Body;
pub use connection::{Admission, Connections};
pub use cors::Origins;
pub use keys::{Key, KeyError};
pub use listener::Listener;
pub use service::{Service, Settings};
