//! The hub over real sockets: both dialects of the protocol, request by request. The hub writes its streams by itself.

mod bounds;
mod client;
mod connections;
mod legacy;
mod listing;
mod log;
mod proxied;
mod replay;
mod v1;

const DIRECT: bool = true;
