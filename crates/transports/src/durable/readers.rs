//! Connections that read, each used by one blocking task at a time.
//!
//! All are opened with the log and stay open, whatever reads end with. Opened later, a connection would take whatever files
//! have the names by then, and SQLite would make a write-ahead log that was removed again.

use std::{
    path::Path,
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
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// A connection that goes back to the pool, also if the read panics.
struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

/// Reading is bound by the cores and the disk; more connections would only take memory, up to 1 MiB each.
const CONNECTIONS: usize = 4;

/// Far above what a page takes on a disk that answers.
const READ_MAX: Duration = Duration::from_secs(10);

impl Readers {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let idle = (0..CONNECTIONS).map(|_| open_for_reading(path)).collect::<rusqlite::Result<_>>()?;
        let turns = Arc::new(Semaphore::new(CONNECTIONS));
        Ok(Self(Arc::new(Pool { idle: Mutex::new(idle), turns })))
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
                let lent = Lent { pool: &pool, connection: pool.idle().pop() };
                lent.connection.as_ref().map(read)
            });
            match task.await {
                Ok(Some(result)) => result.map_err(TransportError::unavailable),
                Ok(None) => unreachable!("there are as many connections as turns"),
                Err(error) => Err(TransportError::unavailable(error)),
            }
        });
        result.await.unwrap_or_else(|_| {
            Err(TransportError::unavailable(format!("the disk did not answer within {READ_MAX:?}")))
        })
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.pool.idle().extend(self.connection.take());
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
