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
mod service;
mod stream;
mod subscribe;
mod subscriptions;

pub use admission::StreamLimits;
pub use body::{Body, RequestBody};
pub use connection::{Admission, Connections};
pub use cors::Origins;
pub use listener::Listener;
pub use proxies::Proxies;
pub use service::{Service, Settings};
