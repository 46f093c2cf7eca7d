//! Shared by the tests of all stores: servers, disks that fail, updates, and the stories that every store has to survive.

#![allow(dead_code, unreachable_pub, unused_imports, unused_macros, reason = "each test uses what it needs")]

pub mod certificate;
pub mod disk;
pub mod lines;
mod port;
pub mod random;
mod server;
pub mod store;
pub mod stories;
pub mod updates;
mod wait;

use std::time::Duration;

pub use port::Port;
pub use server::{Server, output, skip};
pub use wait::{Wait, until};

/// The longest wait for one thing. It is far above what anything needs, also on a busy machine: a test that reaches it has
/// failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
