//! The same tests with streams that stay in the HTTP library.

mod bounds;
mod client;
mod connections;
mod legacy;
mod listing;
mod log;
mod proxied;
mod replay;
mod v1;

const DIRECT: bool = false;
