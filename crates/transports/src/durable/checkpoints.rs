//! Moves what is committed from the write-ahead log into the database, on a thread of its own, so that publishers wait
//! for the end of it only.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::{Connection, ErrorCode, wal::CheckpointMode};

use super::failure::Failure;
use crate::forks;

/// The thread.
pub(super) struct Checkpointer {
    orders: Option<SyncSender<()>>,
    state: Arc<(Mutex<State>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    /// The frames at which the writer tries again itself, after readers were in its way.
    retry_at: i32,
}

#[derive(Default)]
struct State {
    is_running: bool,
    fault: Option<Failure>,
}

/// From here on the write-ahead log is moved, which then begins anew: some times a second under the heaviest load.
const FRAMES_MAX: i32 = 1_024;

/// What the write-ahead log takes on disk from the start: frames of a page each, with their heads, and a fourth as many
/// that are committed while it is moved.
pub(super) const WAL_BYTES: u64 = FRAMES_MAX as u64 * 5 / 4 * (4_096 + 24) + 32;

/// What the writer moves itself, as the last part: a few milliseconds.
const FRAMES_LAST: i32 = 256;

/// From here on the writer moves all of it, whatever that takes, or the disk would fill up.
const FRAMES_LIMIT: i32 = 16_384;

impl Checkpointer {
    /// `connection` is that of the thread alone.
    ///
    /// # Errors
    /// If the system has no room for the thread.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (orders, received) = sync_channel::<()>(1);
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let thread = Some(thread::Builder::new().name("petasos-checkpoint".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || {
                while received.recv().is_ok() {
                    // The writer may wait for it.
                    let _work = forks::work_within();
                    let result = checkpoint(&connection, CheckpointMode::PASSIVE);
                    let mut now = lock(&state.0);
                    now.is_running = false;
                    now.fault = result.err();
                    state.1.notify_all();
                }
                let _work = forks::work_within();
                drop(connection);
            }
        })?);
        Ok(Self { orders: Some(orders), state, thread, retry_at: 0 })
    }

    /// After a commit of `writer`: sees to it that the write-ahead log begins anew before long.
    ///
    /// # Errors
    /// [`Failure::Fatal`]: what was moved may not be on disk. What is in the write-ahead log is, but must not be moved
    /// again: the system may have dropped what it could not write and call the next attempt a success.
    pub(super) fn tend(&mut self, writer: &Connection, is_idle: bool) -> Result<(), Failure> {
        let is_running = {
            let mut state = lock(&self.state.0);
            if let Some(fault) = state.fault.take() {
                return Err(fault);
            }
            state.is_running
        };
        let (frames, moved) = checkpoint(writer, CheckpointMode::NOOP)?;
        let rest = frames - moved;
        if frames < self.retry_at - FRAMES_LAST {
            self.retry_at = 0;
        }
        if rest <= 0
            || (frames < FRAMES_MAX && !is_idle)
            || frames < self.retry_at
            || is_running && frames < FRAMES_LIMIT
        {
            return Ok(());
        }
        if rest > FRAMES_LAST && frames < FRAMES_LIMIT {
            lock(&self.state.0).is_running = true;
            if let Some(orders) = &self.orders {
                // There is room for one order, and none is under way.
                let _ = orders.try_send(());
            }
            return Ok(());
        }
        let result = checkpoint(writer, CheckpointMode::PASSIVE);
        if let Err(Failure::Full(_)) = result {
            self.retry_at = frames + FRAMES_LAST;
        }
        let (frames, moved) = result?;
        if moved < frames {
            self.retry_at = frames + FRAMES_LAST;
        }
        Ok(())
    }

    /// Waits for what is under way.
    pub(super) fn wait(&self) -> Result<(), Failure> {
        let mut state = lock(&self.state.0);
        while state.is_running {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.fault.take().map_or(Ok(()), Err)
    }

    /// Waits for what is under way, and ends.
    pub(super) fn stop(&mut self) -> Result<(), Failure> {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(Failure::Fatal("checkpoints have ended".into()));
        }
        lock(&self.state.0).fault.take().map_or(Ok(()), Err)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing under the lock panics.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Frames in the write-ahead log, and how many of them have been moved. Another one that is under way is no error.
pub(super) fn checkpoint(connection: &Connection, mode: CheckpointMode) -> Result<(i32, i32), Failure> {
    match connection.wal_checkpoint_v2(Some(rusqlite::MAIN_DB), mode) {
        Ok(counts) => Ok(counts),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok((0, 0)),
        Err(error) => Err(error.into()),
    }
}
