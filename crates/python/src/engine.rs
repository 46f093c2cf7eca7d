//! An engine with its runtime. It starts at first use and belongs to the process that has started it.

use std::{
    io, mem,
    sync::{
        Arc, Once,
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
    time::timeout,
};

use crate::{
    failure::Failure,
    has_stream,
    lazy::{Lazy, Startable, Waits},
};

/// A running hub, with the threads of its runtime.
pub(crate) struct Engine {
    /// Taken by `drop` only.
    runtime: Option<Runtime>,
    pub(crate) connections: Connections,
    process: u32,
    /// Makes room for streams, once.
    room: Once,
    /// The bytes of updates that may still begin to wait for the log's store. `None`: the log is in memory.
    unsent: Option<Arc<Semaphore>>,
}

/// The settings of a hub, and its engine once it has started.
pub(crate) struct Settings {
    checked: Checked,
    has_store: bool,
    engine: Lazy<Engine>,
}

/// Threads of the runtime. Publishing takes microseconds, and the shards have threads of their own: two threads serve the
/// requests to an embedded hub, and the application keeps the rest of the machine.
const THREADS: usize = 2;

/// How long an application waits for its hub to stop. A hub takes as long if the store of its log does not answer.
const HUB_STOP_MAX: Duration = Duration::from_secs(5);

/// How long the ends of streams may take on their way to clients.
const LAST_BYTES_MAX: Duration = Duration::from_millis(500);

/// What a hub inside a Flask application logs by default: warnings, and the reason of each refused token.
const LOGGED: &str = "warn,petasos_server::http::credentials=info";

/// The bytes of all updates that threads of the application publish and that wait for the store: as much as the stores
/// themselves let wait.
const UNSENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an update takes in memory beside its topics and its data, rounded up.
const UPDATE_BYTES: usize = 512;

impl Settings {
    /// `has_store`: whether the log is elsewhere than in memory.
    pub(crate) fn new(checked: Checked, has_store: bool) -> Self {
        Self { checked, has_store, engine: Lazy::default() }
    }

    /// Returns the engine of this process. Starts it if there is none, or if its hub has failed. The interpreter is
    /// released meanwhile, because the store of the log may be slow.
    ///
    /// # Errors
    /// `HubStopped` after [`Settings::stop`]; the failure of the start, which a later call tries again.
    pub(crate) fn engine(&self, py: Python<'_>) -> PyResult<Arc<Engine>> {
        log(py);
        let start = |failed: Option<Arc<Engine>>| {
            if let Some(failed) = failed {
                tracing::warn!("the embedded hub has failed and is started again");
                failed.stop();
            }
            Engine::start(self.checked.clone(), self.has_store)
        };
        Ok(self.engine.get(&py, start)?)
    }

    /// The engine of this process, if it has started.
    pub(crate) fn running(&self) -> Option<Arc<Engine>> {
        self.engine.running()
    }

    /// Makes room for the clients that the application passes, once for each engine.
    pub(crate) fn make_room(&self, engine: &Engine) {
        engine.room.call_once(|| self.checked.make_room(&engine.connections));
    }

    /// Stops the engine if it runs in this process, and waits for that, at most [`HUB_STOP_MAX`].
    pub(crate) fn stop(&self, py: Python<'_>) {
        if let Some(engine) = self.engine.stop() {
            py.detach(|| engine.stop());
        }
    }
}

/// Waiting releases the interpreter.
impl Waits for Python<'_> {
    fn wait<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        self.detach(function)
    }
}

impl Startable for Engine {
    type Failure = Failure;

    fn process(&self) -> u32 {
        self.process
    }

    fn has_failed(&self) -> bool {
        self.connections.service().hub().has_failed()
    }

    fn stopped() -> Failure {
        Failure::stopped()
    }

    fn broke_down(reason: &str) -> Failure {
        Failure::broke_down(reason)
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
        Ok(Self {
            runtime: Some(runtime),
            connections,
            process: std::process::id(),
            room: Once::new(),
            unsent,
        })
    }

    /// Ends the streams and the hub, and waits for that, at most [`HUB_STOP_MAX`].
    fn stop(&self) {
        let connections = self.connections.clone();
        self.run_for(HUB_STOP_MAX, async move {
            connections.stop().await;
            // Peers that are slow to read get their last bytes, or not.
            let _ = timeout(LAST_BYTES_MAX, connections.drained()).await;
        });
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
