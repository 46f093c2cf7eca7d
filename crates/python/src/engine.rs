//! An engine with its runtime, started at first use and bound to one process.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use petasos::{Checked, telemetry};
use petasos_server::Connections;
use pyo3::{exceptions::PyRuntimeError, prelude::*};
use tokio::runtime::{Builder, Runtime};

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
    Running(Arc<Engine>),
    Stopped,
}

/// Publishing takes microseconds, and the shards have threads of their own: two serve the requests of an embedded hub, and
/// its application keeps the rest of the machine.
const THREADS: usize = 2;

/// What a hub inside a Flask application says unasked: trouble, and why a token was refused.
const LOGGED: &str = "warn,petasos_server::credentials=info";

impl Lazy {
    pub(crate) fn new(settings: Checked) -> Self {
        Self { settings, state: Mutex::new(State::Idle) }
    }

    /// The engine of this process, started if need be.
    ///
    /// The lock is only ever taken with the interpreter attached, so no other thread can hold it while Python forks.
    pub(crate) fn engine(&self, _attached: Python<'_>) -> PyResult<Arc<Engine>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &*state {
            State::Running(engine) if engine.process == std::process::id() => return Ok(Arc::clone(engine)),
            State::Stopped => return Err(PyRuntimeError::new_err("the hub has been stopped")),
            State::Running(_) | State::Idle => {}
        }
        let engine = Arc::new(Engine::start(self.settings.clone())?);
        let old = mem::replace(&mut *state, State::Running(Arc::clone(&engine)));
        // The parent's runtime has no threads here: dropping it would wait for them for ever.
        mem::forget(old);
        Ok(engine)
    }

    /// Ends the engine, if it runs in this process.
    pub(crate) fn stop(&self, py: Python<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let old = mem::replace(&mut *state, State::Stopped);
        drop(state);
        if let State::Running(engine) = old {
            if engine.process == std::process::id() {
                py.detach(|| engine.block_on(engine.connections.stop()));
            } else {
                mem::forget(engine);
            }
        }
    }
}

impl Engine {
    fn start(settings: Checked) -> PyResult<Self> {
        telemetry::init(LOGGED);
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("petasos")
            .enable_all()
            .build()?;
        let started = runtime.block_on(settings.start());
        let connections = started.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Self { runtime: Some(runtime), connections, process: std::process::id() })
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken by drop only")
    }

    /// Waits on the calling thread, which must have released the interpreter.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }
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
