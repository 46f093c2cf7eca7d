//! A start that one thread makes and for which others wait. Knows neither Python nor the engine.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, PoisonError},
};

/// The outcome of a start, once there is one.
pub(crate) struct Started<E> {
    outcome: Mutex<Option<Result<(), E>>>,
    ended: Condvar,
}

impl<E> Default for Started<E> {
    fn default() -> Self {
        Self { outcome: Mutex::new(None), ended: Condvar::new() }
    }
}

impl<E: Clone> Started<E> {
    /// Gives the outcome to all threads that wait, now or later.
    pub(crate) fn end(&self, outcome: Result<(), E>) {
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.ended.notify_all();
    }

    /// Waits until the start has ended.
    pub(crate) fn wait(&self) -> Result<(), E> {
        let outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = self.ended.wait_while(outcome, |outcome| outcome.is_none());
        let outcome = ended.unwrap_or_else(PoisonError::into_inner).clone();
        outcome.expect("the wait ends with an outcome")
    }
}

/// Runs a start and turns a panic into a failure: a thread that unwinds past [`Started::end`] would leave the others
/// waiting for ever.
pub(crate) fn catch<T, E>(
    start: impl FnOnce() -> Result<T, E>,
    broke_down: impl FnOnce(&str) -> E,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|panic| Err(broke_down(reason(&*panic))))
}

fn reason(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("the reason is not known")
}
