//! Shared by the tests against real servers: ports, servers, and waiting for facts without an event.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses what it needs")]

mod port;
mod server;
pub mod told;
mod wait;

use std::time::Duration;

pub use port::Port;
pub use server::{Server, output, skip};
pub use wait::{Wait, until};

/// No wait for one thing is longer. It is far above what any thing needs, also on a busy machine: a test that reaches it
/// has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
