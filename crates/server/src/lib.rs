//! The HTTP face of the petasos hub: HTTP/1.1 on sockets that the caller brings or that it listens on.
//!
//! Handlers translate and call once: every question of the protocol is answered by `petasos-protocol`, everything that
//! happens happens in `petasos-hub`. One file maps failures to answers ([`refusal`](self)).

mod connection;
mod http;

pub use self::http::{
    admission::StreamLimits,
    body::{Body, RequestBody},
    cors::Origins,
    proxies::Proxies,
    service::{Service, Settings},
};
pub use connection::{
    connections::{Admission, Connections},
    listener::Listener,
};
