//! `Server`: a listening socket in front of a hub.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use petasos_server::Listener;
use pyo3::{exceptions::PyValueError, prelude::*};
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use crate::{engine::Engine, hub::Hub};

#[pyclass(module = "flask_mercure_sse._native", frozen)]
pub(crate) struct Server {
    engine: Arc<Engine>,
    #[pyo3(get)]
    host: String,
    #[pyo3(get)]
    port: u16,
    task: AbortHandle,
    ended: watch::Receiver<bool>,
    stopping: Mutex<bool>,
}

/// The end of an orderly stop; [`Server::stop`] is given its own, shorter one.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (hub, host="127.0.0.1", port=0))]
    fn new(py: Python<'_>, hub: &Hub, host: &str, port: u16) -> PyResult<Self> {
        let engine = hub.engine(py)?;
        let listener = py.detach(|| engine.block_on(Listener::bind(host, port)))?;
        let address = listener.address();
        let (end, ended) = watch::channel(false);
        let connections = engine.connections.clone();
        let task = engine.runtime().spawn(async move {
            listener.serve(connections, DRAIN_MAX).await;
            end.send_replace(true);
        });
        Ok(Self {
            host: address.ip().to_string(),
            port: address.port(),
            task: task.abort_handle(),
            ended,
            stopping: Mutex::new(false),
            engine,
        })
    }

    #[pyo3(signature = (drain_seconds=5.0))]
    fn stop(&self, py: Python<'_>, drain_seconds: f64) -> PyResult<()> {
        let drain = Duration::try_from_secs_f64(drain_seconds)
            .map_err(|_| PyValueError::new_err("drain_seconds: give 0 or more"))?;
        if std::mem::replace(&mut *self.stopping.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return Ok(());
        }
        py.detach(|| {
            self.engine.block_on(self.engine.connections.stop());
            let mut ended = self.ended.clone();
            // The task's end drops the sender, which ends the wait, too.
            let end = async { timeout(drain, ended.wait_for(|ended| *ended)).await.is_ok() };
            self.engine.block_on(end);
            self.task.abort();
        });
        Ok(())
    }
}
