//! Forks of a process that has a log in SQLite open.
//!
//! A forked process has none of its parent's threads, and a lock that one of them held at the fork stays held in it for
//! ever. SQLite has such locks for the whole process: a child whose parent was at work in SQLite could open no log. So a
//! process that may fork, which a hub alone never does, calls [`pause`] before and [`resume`] after it, in both processes:
//! then no thread is inside SQLite at the fork.
//!
//! A child still must not use a log that its parent has opened: it opens its own.
//!
//! ```
//! use petasos_transports::forks;
//! forks::pause();
//! // The process forks here.
//! forks::resume();
//! ```

use std::{
    cell::RefCell,
    process,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

#[derive(Default)]
struct Gate {
    /// Pieces of work that are under way.
    works: usize,
    /// Threads in [`pause`] that wait until there is none.
    forks: usize,
    /// The process that is about to fork.
    process: u32,
}

static GATE: Mutex<Gate> = Mutex::new(Gate { works: 0, forks: 0, process: 0 });

/// Notified when no work is under way.
static IDLE: Condvar = Condvar::new();

/// Notified when no fork waits.
static RESUMED: Condvar = Condvar::new();

thread_local! {
    /// The gate, while this thread forks. Whoever wants to begin work waits for it.
    static PAUSED: RefCell<Option<MutexGuard<'static, Gate>>> = const { RefCell::new(None) };
}

fn lock() -> MutexGuard<'static, Gate> {
    // Nothing under the lock panics.
    GATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until no thread is inside SQLite, and lets none begin before this thread calls [`resume`]. It waits as long as what
/// is under way takes: the time of a commit. No effect if this thread has paused already.
pub fn pause() {
    PAUSED.with_borrow_mut(|paused| {
        if paused.is_some() {
            return;
        }
        let mut gate = lock();
        gate.forks += 1;
        while gate.works > 0 {
            gate = IDLE.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.forks -= 1;
        gate.process = process::id();
        *paused = Some(gate);
    });
}

/// Ends what [`pause`] began on this thread: to be called after the fork in both processes, and also if it failed.
pub fn resume() {
    let Some(mut gate) = PAUSED.take() else { return };
    if gate.process != process::id() {
        // Other threads of the parent that were about to fork are not here.
        *gate = Gate { works: 0, forks: 0, process: 0 };
    }
    drop(gate);
    RESUMED.notify_all();
}

/// Work inside SQLite, until this is dropped.
pub(crate) struct Work(());

/// Begins work, after a fork that waits. For a thread that has no [`Work`] and for which none waits that has: the fork would
/// wait for it.
pub(crate) fn work() -> Work {
    let mut gate = lock();
    while gate.forks > 0 {
        gate = RESUMED.wait(gate).unwrap_or_else(PoisonError::into_inner);
    }
    gate.works += 1;
    Work(())
}

/// Begins work that other work waits for, or is a part of: before a fork that only waits.
pub(crate) fn work_within() -> Work {
    lock().works += 1;
    Work(())
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut gate = lock();
        gate.works -= 1;
        if gate.works == 0 {
            IDLE.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// The gate belongs to the process, so one test has all of it.
    #[test]
    fn nobody_works_while_a_thread_forks() {
        let (forking, forks) = mpsc::sync_channel(1);
        let (told, tell) = mpsc::sync_channel::<()>(1);
        let first = work();
        let fork = thread::spawn(move || {
            pause();
            forking.send(lockless_works()).expect("somebody listens");
            tell.recv().expect("told");
            pause();
            resume();
            resume();
        });
        while lock().forks == 0 {
            thread::yield_now();
        }
        // What is a part of other work does not wait for the fork, which waits for it.
        let part = work_within();
        drop(first);
        assert!(forks.try_recv().is_err());
        drop(part);
        assert_eq!(forks.recv(), Ok(0));
        let (began, begun) = mpsc::sync_channel(1);
        let late = thread::spawn(move || {
            let _work = work();
            began.send(()).expect("somebody listens");
        });
        assert!(begun.try_recv().is_err());
        told.send(()).expect("it waits");
        assert_eq!(begun.recv(), Ok(()));
        fork.join().expect("no panic");
        late.join().expect("no panic");
        drop(work());
        let gate = lock();
        assert_eq!((gate.works, gate.forks), (0, 0));
    }

    /// Pieces of work, as the thread sees it that has the gate.
    fn lockless_works() -> usize {
        PAUSED.with_borrow(|paused| paused.as_ref().expect("it has paused").works)
    }
}
