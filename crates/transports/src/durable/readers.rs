//! Connections that read, each used by one blocking task at a time.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use petasos_hub::TransportError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::link::open_for_reading;
use crate::{blocking::blocking, forks};

/// A bounded pool of connections. Cloning shares it.
#[derive(Clone)]
pub(super) struct Readers(Arc<Pool>);

struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// Reading is bound by the cores and the disk; more connections would only take memory, 1 MiB each.
const CONNECTIONS_MAX: usize = 4;

/// Far above what a page takes on a disk that answers.
const READ_MAX: Duration = Duration::from_secs(10);

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self(Arc::new(Pool { path, idle: Mutex::default(), turns }))
    }

    /// Runs a read where it may block.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] if it fails or takes too long.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, TransportError> {
        let pool = Arc::clone(&self.0);
        let result = tokio::time::timeout(READ_MAX, async move {
            let turn = Arc::clone(&pool.turns).acquire_owned().await.map_err(|_| TransportError::Closed)?;
            let task = blocking(move || {
                // Held until it is done, even if nobody waits for it any more.
                let _turn = turn;
                let _work = forks::work();
                let idle = pool.idle().pop();
                let connection = idle.map_or_else(|| open_for_reading(&pool.path), Ok)?;
                let result = read(&connection)?;
                pool.idle().push(connection);
                Ok(result)
            });
            match task.await {
                Ok(result) => result.map_err(|error: rusqlite::Error| TransportError::unavailable(error)),
                Err(error) => Err(TransportError::unavailable(error)),
            }
        });
        result.await.unwrap_or_else(|_| {
            Err(TransportError::unavailable(format!("the disk did not answer within {READ_MAX:?}")))
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _work = forks::work_within();
        self.idle().clear();
    }
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        // Nothing under the lock panics.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
