//! An engine with its runtime. It starts at first use and belongs to the process that has started it.

use std::{
    io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use petasos::{Checked, telemetry};
use petasos_server::Connections;
use pyo3::prelude::*;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    failure::Failure,
    has_stream,
    started::{Started, catch},
};

/// A running hub, with the threads of its runtime.
pub(crate) struct Engine {
    /// Taken by `drop` only.
    runtime: Option<Runtime>,
    pub(crate) connections: Connections,
    process: u32,
    /// The bytes of updates that may still begin to wait for the log's store. `None`: the log is in memory.
    unsent: Option<Arc<Semaphore>>,
}

/// The settings of a hub, and its engine once it has started.
pub(crate) struct Lazy {
    settings: Checked,
    has_store: bool,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// A thread of the process with this id starts the engine. Other threads wait for the outcome.
    Starting(u32, Arc<Started<Failure>>),
    Running(Arc<Engine>),
    Stopped,
}

/// Threads of the runtime. Publishing takes microseconds, and the shards have threads of their own: two threads serve the
/// requests to an embedded hub, and the application keeps the rest of the machine.
const THREADS: usize = 2;

/// How long an application waits for its hub to stop. A hub takes as long if the store of its log does not answer.
const HUB_STOP_MAX: Duration = Duration::from_secs(5);

/// What a hub inside a Flask application logs by default: warnings, and the reason of each refused token.
const LOGGED: &str = "warn,petasos_server::http::credentials=info";

/// The bytes of all updates that threads of the application publish and that wait for the store: as much as the stores
/// that bound their own queues let wait. Redis and NATS bound the number only.
const UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an update takes in memory beside its topics and its data, rounded up.
const UPDATE_BYTES: usize = 512;

impl Lazy {
    /// `has_store`: whether the log is elsewhere than in memory.
    pub(crate) fn new(settings: Checked, has_store: bool) -> Self {
        Self { settings, has_store, state: Mutex::new(State::Idle) }
    }

    /// Returns the engine of this process, and starts it if need be. The interpreter is released meanwhile, because the
    /// store of the log may be slow.
    ///
    /// The lock is only taken with the interpreter attached and released before the interpreter is, so no other thread
    /// can hold it while Python forks.
    ///
    /// # Errors
    /// `HubStopped` after [`Lazy::stop`]; the failure of the start, which a later call tries again.
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        log(py);
        let started = loop {
            let mut state = self.lock();
            let other = match &*state {
                State::Running(engine) if engine.process == std::process::id() => {
                    return Ok(Arc::clone(engine));
                }
                State::Stopped => return Err(Failure::stopped().into()),
                State::Starting(process, started) if *process == std::process::id() => Arc::clone(started),
                State::Running(_) | State::Starting(..) | State::Idle => {
                    let started = Arc::<Started<Failure>>::default();
                    let starting = State::Starting(std::process::id(), Arc::clone(&started));
                    // The threads of the parent's runtime are not in this process: dropping it would wait for ever.
                    mem::forget(mem::replace(&mut *state, starting));
                    break started;
                }
            };
            drop(state);
            // A thread that has waited for a start that fails does not start the engine again: the next call does.
            py.detach(|| other.wait())?;
        };
        let engine =
            py.detach(|| catch(|| Engine::start(self.settings.clone(), self.has_store), Failure::broke_down));
        let mut state = self.lock();
        let is_wanted = matches!(&*state, State::Starting(_, other) if Arc::ptr_eq(other, &started));
        let engine = engine.map(Arc::new);
        if is_wanted {
            *state = match &engine {
                Ok(engine) => State::Running(Arc::clone(engine)),
                Err(_) => State::Idle,
            };
        }
        drop(state);
        started.end(engine.as_ref().map(drop).map_err(Failure::clone));
        match is_wanted {
            true => Ok(engine?),
            false => Err(Failure::stopped().into()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the engine if it runs in this process, and waits for that, at most [`HUB_STOP_MAX`].
    pub(crate) fn stop(&self, py: Python<'_>) {
        let old = mem::replace(&mut *self.lock(), State::Stopped);
        if let State::Running(engine) = old {
            if engine.process == std::process::id() {
                let connections = engine.connections.clone();
                py.detach(|| engine.run_for(HUB_STOP_MAX, async move { connections.stop().await }));
            } else {
                mem::forget(engine);
            }
        }
    }
}

/// Begins to log to standard error, if this process has it.
fn log(py: Python<'_>) {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if ONCE.load(Ordering::Relaxed) || ONCE.swap(true, Ordering::Relaxed) {
        return;
    }
    telemetry::log_panics();
    if has_stream(py, "__stderr__") {
        telemetry::init(LOGGED);
        // The thread that writes the lines ends with the process, so the process waits at its end for the last lines.
        let flush = wrap_pyfunction!(crate::flush_lines, py);
        let atexit = py.import("atexit");
        let _ = atexit.and_then(|atexit| atexit.call_method1("register", (flush?,)));
    }
}

impl Engine {
    fn start(settings: Checked, has_store: bool) -> Result<Self, Failure> {
        room_for_threads()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("petasos")
            .enable_all()
            .build()?;
        let connections = runtime.block_on(settings.start())?;
        let unsent = has_store.then(|| Arc::new(Semaphore::new(UNSENT_BYTES_MAX)));
        Ok(Self { runtime: Some(runtime), connections, process: std::process::id(), unsent })
    }

    /// Reserves room for an update until the permit is dropped. `None`: the log is in memory and takes it at once.
    ///
    /// # Errors
    /// `NoRoom` if [`UNSENT_BYTES_MAX`] bytes wait for the store already.
    pub(crate) fn reserve(
        &self,
        topics: &[String],
        data: &str,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let Some(unsent) = &self.unsent else { return Ok(None) };
        let bytes = UPDATE_BYTES + data.len() + topics.iter().map(String::len).sum::<usize>();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match Arc::clone(unsent).try_acquire_many_owned(bytes) {
            Ok(permit) => Ok(Some(permit)),
            Err(_) => Err(Failure::no_room(format!(
                "{} MiB of updates wait for the store of its log already, so this one was not published: publish it \
                 later, and fewer at once",
                UNSENT_BYTES_MAX / (1024 * 1024)
            ))),
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("only drop takes the runtime")
    }

    /// Runs a future on the runtime and waits for it, at most `time_max` even if the runtime hangs. The calling thread
    /// must have released the interpreter.
    pub(crate) fn run_for(&self, time_max: Duration, future: impl Future<Output = ()> + Send + 'static) {
        let (tell, ended) = mpsc::sync_channel(1);
        self.runtime().spawn(async move {
            future.await;
            let _ = tell.send(());
        });
        let _ = ended.recv_timeout(time_max);
    }

    /// Runs a future on the calling thread, which must have released the interpreter.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }
}

/// Tries to start as many threads as the runtime needs. If the system has no room for them, the runtime itself would
/// panic, and then wait for ever for the threads that it has started.
fn room_for_threads() -> io::Result<()> {
    let mut threads = Vec::new();
    let refused = (0..THREADS).find_map(|_| match thread::Builder::new().spawn(thread::park) {
        Ok(thread) => {
            threads.push(thread);
            None
        }
        Err(error) => Some(error),
    });
    for thread in threads {
        thread.thread().unpark();
        // Parking does not panic.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), Err)
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            if self.process == std::process::id() {
                // The thread that drops the last handle may hold the interpreter and must not wait.
                runtime.shutdown_background();
            } else {
                mem::forget(runtime);
            }
        }
    }
}
