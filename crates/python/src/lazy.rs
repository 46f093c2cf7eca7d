//! A value that starts at first use, belongs to one process, and is started anew once it has failed. Knows neither Python
//! nor the hub.
//!
//! The lock is only held for moments, and never while a start is waited for: Python may fork at any moment.

use std::{
    mem, process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::started::{Started, catch};

/// What is started.
pub(crate) trait Startable: Send + Sync {
    /// Why a start fails. Threads pass it to each other.
    type Failure: Clone + Send;

    /// The process that has started it.
    fn process(&self) -> u32;

    /// Whether it can be used no more, so that another one has to be started.
    fn has_failed(&self) -> bool;

    /// The failure after [`Lazy::stop`].
    fn stopped() -> Self::Failure;

    /// The failure of a start that has panicked.
    fn broke_down(reason: &str) -> Self::Failure;
}

/// How a thread waits.
pub(crate) trait Waits {
    /// Runs a function that may wait. Nothing that other threads need is held meanwhile.
    fn wait<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T;
}

pub(crate) struct Lazy<E: Startable> {
    state: Mutex<State<E>>,
}

enum State<E: Startable> {
    Idle,
    /// A thread of the process with this id starts it. Other threads wait for the outcome.
    Starting(u32, Arc<Started<E::Failure>>),
    Running(Arc<E>),
    Stopped,
}

impl<E: Startable> Default for Lazy<E> {
    fn default() -> Self {
        Self { state: Mutex::new(State::Idle) }
    }
}

impl<E: Startable> Lazy<E> {
    /// Returns the value of this process. `start` makes it if need be; it gets the former one if that has failed.
    ///
    /// # Errors
    /// [`Startable::stopped`] after [`Lazy::stop`], or the failure of `start`, which a later call tries again.
    pub(crate) fn get(
        &self,
        waits: &impl Waits,
        start: impl FnOnce(Option<Arc<E>>) -> Result<E, E::Failure> + Send,
    ) -> Result<Arc<E>, E::Failure> {
        let here = process::id();
        let (started, failed) = loop {
            let mut state = self.lock();
            let other = match &*state {
                State::Running(value) if value.process() == here && !value.has_failed() => {
                    return Ok(Arc::clone(value));
                }
                State::Stopped => return Err(E::stopped()),
                State::Starting(process, started) if *process == here => Arc::clone(started),
                State::Running(_) | State::Starting(..) | State::Idle => {
                    let started = Arc::default();
                    let starting = State::Starting(here, Arc::clone(&started));
                    break match mem::replace(&mut *state, starting) {
                        State::Running(failed) if failed.process() == here => (started, Some(failed)),
                        // The threads of the parent's value are not in this process: dropping it could wait for ever.
                        other => {
                            mem::forget(other);
                            (started, None)
                        }
                    };
                }
            };
            drop(state);
            // A thread that has waited for a start that fails does not start it again: the next call does.
            waits.wait(|| other.wait())?;
        };
        let value = waits.wait(|| catch(|| start(failed), E::broke_down)).map(Arc::new);
        let mut state = self.lock();
        let is_wanted = matches!(&*state, State::Starting(_, other) if Arc::ptr_eq(other, &started));
        if is_wanted {
            *state = match &value {
                Ok(value) => State::Running(Arc::clone(value)),
                Err(_) => State::Idle,
            };
        }
        drop(state);
        started.end(value.as_ref().map(drop).map_err(E::Failure::clone));
        match is_wanted {
            true => value,
            false => Err(E::stopped()),
        }
    }

    /// The value of this process, if it has started and can be used.
    pub(crate) fn running(&self) -> Option<Arc<E>> {
        match &*self.lock() {
            State::Running(value) if value.process() == process::id() && !value.has_failed() => {
                Some(Arc::clone(value))
            }
            _ => None,
        }
    }

    /// Starts nothing any more. Returns the value of this process, if there is one, to be ended.
    pub(crate) fn stop(&self) -> Option<Arc<E>> {
        match mem::replace(&mut *self.lock(), State::Stopped) {
            State::Running(value) if value.process() == process::id() => Some(value),
            other => {
                mem::forget(other);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
