//! `Server`: a listening socket in front of a hub.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use petasos::deadline::STOP_MAX;
use petasos_server::Listener;
use pyo3::{exceptions::PyValueError, prelude::*};
use tokio::{task::JoinHandle, time::timeout};

use crate::{engine::Engine, hub::Hub};

#[pyclass(module = "flask_mercure_sse._native", frozen)]
pub(crate) struct Server {
    engine: Arc<Engine>,
    #[pyo3(get)]
    host: String,
    #[pyo3(get)]
    port: u16,
    #[pyo3(get)]
    streams_max: usize,
    /// The task that accepts connections. The first stop takes it.
    task: Mutex<Option<JoinHandle<()>>>,
}

/// How long the listener itself would let requests finish. [`Server::stop`] ends it earlier.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (hub, host="127.0.0.1", port=0))]
    fn new(py: Python<'_>, hub: &Hub, host: &str, port: u16) -> PyResult<Self> {
        let engine = hub.engine(py)?;
        let listener = py.detach(|| engine.block_on(Listener::bind(host, port)))?;
        let address = listener.address();
        let task = engine.runtime().spawn(listener.serve(engine.connections.clone(), DRAIN_MAX));
        Ok(Self {
            host: address.ip().to_string(),
            port: address.port(),
            streams_max: engine.connections.streams_max(),
            task: Mutex::new(Some(task)),
            engine,
        })
    }

    fn wait_until_hub_fails(&self, py: Python<'_>) {
        let failed = self.engine.connections.service().hub().failed();
        py.detach(|| self.engine.block_on(failed));
    }

    #[pyo3(signature = (drain_seconds=5.0))]
    fn stop(&self, py: Python<'_>, drain_seconds: f64) -> PyResult<()> {
        let drain = Duration::try_from_secs_f64(drain_seconds)
            .map_err(|_| PyValueError::new_err("drain_seconds: give 0 or more"))?;
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else { return Ok(()) };
        let connections = self.engine.connections.clone();
        let time_max = drain.saturating_add(STOP_MAX);
        let stop = async move {
            let stop = timeout(time_max, connections.stop());
            let serve = async {
                if timeout(drain, &mut task).await.is_err() {
                    task.abort();
                }
            };
            let _ = tokio::join!(stop, serve);
        };
        py.detach(|| self.engine.run_for(time_max, stop));
        Ok(())
    }
}
