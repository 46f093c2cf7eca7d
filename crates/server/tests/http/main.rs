//! The hub over real sockets: both dialects of the protocol, request by request.

mod client;
mod legacy;
mod v1;
