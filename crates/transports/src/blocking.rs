//! Work that blocks, on a thread that may wait.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::task::spawn_blocking;

/// Runs `work` on a thread of the runtime on which it may block. Dropping the future does not stop the work.
///
/// # Errors
/// If the system has no thread for it, or the work panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    // tokio panics if there is neither a thread nor room for one.
    let running = catch_unwind(AssertUnwindSafe(|| spawn_blocking(work)));
    let running = running.map_err(|_| io::Error::other("the system has no room for another thread"))?;
    running.await.map_err(io::Error::other)
}
