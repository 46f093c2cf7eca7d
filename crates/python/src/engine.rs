//! An engine with its runtime, started at first use and bound to one process.

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
use tokio::runtime::{Builder, Runtime};

use crate::{
    failure::Failure,
    has_stream,
    started::{Started, catch},
};

/// A hub that runs, with the threads that run it.
pub(crate) struct Engine {
    runtime: Option<Runtime>,
    pub(crate) connections: Connections,
    process: u32,
}

/// What a Hub object holds: settings first, an engine later.
pub(crate) struct Lazy {
    settings: Checked,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// A thread of the process with this number starts it; whoever wants it meanwhile waits for that.
    Starting(u32, Arc<Started<Failure>>),
    Running(Arc<Engine>),
    Stopped,
}

/// Publishing takes microseconds, and the shards have threads of their own: two serve the requests of an embedded hub, and
/// its application keeps the rest of the machine.
const THREADS: usize = 2;

/// How long an application waits for its hub to stop: as long as that takes if the log does not answer.
const HUB_STOP_MAX: Duration = Duration::from_secs(5);

/// What a hub inside a Flask application says unasked: trouble, and why a token was refused.
const LOGGED: &str = "warn,petasos_server::credentials=info";

impl Lazy {
    pub(crate) fn new(settings: Checked) -> Self {
        Self { settings, state: Mutex::new(State::Idle) }
    }

    /// The engine of this process, started if need be: with the interpreter released, as its log may be far away.
    ///
    /// The lock is only ever taken with the interpreter attached and given back at once, so no other thread can hold it
    /// while Python forks.
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
                    // The parent's runtime has no threads here: dropping it would wait for them for ever.
                    mem::forget(mem::replace(&mut *state, starting));
                    break started;
                }
            };
            drop(state);
            // Who waits for a start that fails does not begin another: the next call does.
            py.detach(|| other.wait())?;
        };
        let engine = py.detach(|| catch(|| Engine::start(self.settings.clone()), Failure::broke_down));
        let mut state = self.lock();
        let is_wanted = matches!(&*state, State::Starting(_, of) if Arc::ptr_eq(of, &started));
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

    /// Ends the engine, if it runs in this process.
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

/// Logs to standard error from now on, if this process has one.
fn log(py: Python<'_>) {
    static ONCE: AtomicBool = AtomicBool::new(false);
    if ONCE.load(Ordering::Relaxed) || ONCE.swap(true, Ordering::Relaxed) {
        return;
    }
    telemetry::log_panics();
    if has_stream(py, "__stderr__") {
        telemetry::init(LOGGED);
        // The thread that writes the lines ends with the process, so its end waits for the last ones.
        let flush = wrap_pyfunction!(crate::flush_lines, py);
        let atexit = py.import("atexit");
        let _ = atexit.and_then(|atexit| atexit.call_method1("register", (flush?,)));
    }
}

impl Engine {
    fn start(settings: Checked) -> Result<Self, Failure> {
        room_for_threads()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("petasos")
            .enable_all()
            .build()?;
        let connections = runtime.block_on(settings.start())?;
        Ok(Self { runtime: Some(runtime), connections, process: std::process::id() })
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken by drop only")
    }

    /// Runs a future on the runtime and waits for it, at most `time_max`, even if the runtime hangs. The calling thread
    /// must have released the interpreter.
    pub(crate) fn run_for(&self, time_max: Duration, future: impl Future<Output = ()> + Send + 'static) {
        let (tell, ended) = mpsc::channel();
        self.runtime().spawn(async move {
            future.await;
            let _ = tell.send(());
        });
        let _ = ended.recv_timeout(time_max);
    }

    /// Waits on the calling thread, which must have released the interpreter.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }
}

/// Tries to start as many threads as the runtime needs. The runtime itself panics if the system has no room for them,
/// and then waits for ever for the threads that it has started.
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
                // Whoever drops the last handle may hold the interpreter and must not wait.
                runtime.shutdown_background();
            } else {
                mem::forget(runtime);
            }
        }
    }
}
