//! `flask_mercure_sse._native`: the petasos hub as Python sees it. Types and contracts are in `_native.pyi`.
//!
//! No protocol rule lives here. Nothing starts at import. An engine belongs to the process that has started it. A call
//! that may wait releases the interpreter first.

mod engine;
mod failure;
mod hub;
mod lazy;
mod server;
mod started;

use std::time::Duration;

use petasos::{
    deadline::{AFTER_DRAIN, end_process_after},
    output::{STANDARD_ERROR, STANDARD_OUTPUT},
};
use petasos_auth::{Key, Signer};
use petasos_protocol::{legacy, matcher::MatcherType, subscription::SubscriptionsPath, topic::HubUrl};
use petasos_transports::forks;
use pyo3::{create_exception, exceptions::PyValueError, prelude::*};

create_exception!(
    flask_mercure_sse._native,
    InvalidUpdate,
    PyValueError,
    "An update, topic, matcher or setting breaks a rule of the protocol; the message says which and what to change."
);

/// A secret, as Python gives it.
#[derive(FromPyObject)]
pub(crate) enum KeyBytes {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<KeyBytes> for Vec<u8> {
    fn from(key: KeyBytes) -> Self {
        match key {
            KeyBytes::Text(text) => text.into(),
            KeyBytes::Bytes(bytes) => bytes,
        }
    }
}

/// Sign a JSON object as a JWS, with HS256 where the key is a shared secret.
#[pyfunction]
#[pyo3(signature = (claims, key, typ="JWT"))]
fn sign_token(claims: &str, key: KeyBytes, typ: &str) -> PyResult<String> {
    let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(claims);
    object.map_err(|_| PyValueError::new_err("the claims are no JSON object"))?;
    let signer =
        Signer::parse(Vec::from(key), None).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(signer.sign(typ, claims))
}

/// Check a key as the hub does: a shared secret, or a public key in PEM. Returns why it is weak, if it is.
#[pyfunction]
fn check_key(key: KeyBytes) -> PyResult<Option<String>> {
    let key = Key::parse(Vec::from(key), &[]).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(key.weakness().map(|weakness| weakness.to_string()))
}

/// Check an update by the rules of the protocol and publish nothing.
#[pyfunction]
#[pyo3(signature = (topics, data="", *, id=None, r#type=None, retry=None))]
#[expect(clippy::needless_pass_by_value, reason = "a Python signature")]
fn check_update(
    topics: Vec<String>,
    data: &str,
    id: Option<&str>,
    r#type: Option<&str>,
    retry: Option<&str>,
) -> PyResult<()> {
    hub::draft(&HubUrl::default(), &topics, data, false, id, r#type, retry).map(drop)
}

/// The path of subscriptions in the 0.x API, every value percent-encoded once.
#[pyfunction]
#[pyo3(signature = (topic=None, subscriber=None))]
fn expand_subscription_topic(topic: Option<&str>, subscriber: Option<&str>) -> PyResult<String> {
    if topic.is_none() && subscriber.is_some() {
        return Err(PyValueError::new_err("a subscriber is looked up under a topic: give the topic, too"));
    }
    Ok(legacy::subscriptions_path(&HubUrl::default(), topic, subscriber))
}

/// The path of subscriptions in the 1.0 API, every value percent-encoded once.
#[pyfunction]
#[pyo3(signature = (matcher=None, subscriber=None, match_type="exact"))]
fn expand_subscriptions_path(
    matcher: Option<String>,
    subscriber: Option<String>,
    match_type: &str,
) -> PyResult<String> {
    if matcher.is_none() && subscriber.is_some() {
        return Err(PyValueError::new_err("a subscriber is looked up under a topic: give the topic, too"));
    }
    let match_type = MatcherType::parse(match_type)
        .ok_or_else(|| PyValueError::new_err("match_type: write \"exact\" or \"urlpattern\""))?;
    let path = SubscriptionsPath { matcher: matcher.map(|text| (match_type, text)), subscriber };
    Ok(path.canonical(&HubUrl::default()))
}

/// Write one line to standard output, or to standard error, without waiting for it.
#[pyfunction]
#[pyo3(signature = (line, *, error=false))]
fn print_line(py: Python<'_>, line: &str, error: bool) {
    let (name, output) = match error {
        true => ("__stderr__", &STANDARD_ERROR),
        false => ("__stdout__", &STANDARD_OUTPUT),
    };
    if has_stream(py, name) {
        output.print(line);
    }
}

/// Whether this process was started with the standard stream of that name. If it was not, the number of the stream may
/// belong to a file or a socket of the application.
pub(crate) fn has_stream(py: Python<'_>, name: &str) -> bool {
    py.import("sys").and_then(|sys| sys.getattr(name)).is_ok_and(|stream| !stream.is_none())
}

/// Wait until printed and logged lines are written, at most `seconds` for each of the two streams.
#[pyfunction]
#[pyo3(signature = (seconds=0.2))]
fn flush_lines(py: Python<'_>, seconds: f64) -> PyResult<()> {
    let time_max =
        Duration::try_from_secs_f64(seconds).map_err(|_| PyValueError::new_err("seconds: give 0 or more"))?;
    py.detach(|| {
        STANDARD_OUTPUT.flush(time_max);
        STANDARD_ERROR.flush(time_max);
    });
    Ok(())
}

/// End the process some time after the drain, even if a part of it hangs.
#[pyfunction]
fn end_process_after_drain(drain_seconds: f64, code: u8) -> PyResult<()> {
    let drain = Duration::try_from_secs_f64(drain_seconds)
        .map_err(|_| PyValueError::new_err("drain_seconds: give 0 or more"))?;
    Ok(end_process_after(drain.saturating_add(AFTER_DRAIN), code)?)
}

/// Before this process forks: wait until no thread of its hubs holds a lock that the child would find held for ever.
#[pyfunction]
fn before_fork(py: Python<'_>) {
    py.detach(forks::pause);
}

/// After a fork, in both processes: go on.
#[pyfunction]
fn after_fork() {
    forks::resume();
}

/// The compiled half of flask_mercure_sse.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("InvalidUpdate", module.py().get_type::<InvalidUpdate>())?;
    failure::add_to(module)?;
    module.add_class::<hub::Hub>()?;
    module.add_class::<server::Server>()?;
    module.add_function(wrap_pyfunction!(sign_token, module)?)?;
    module.add_function(wrap_pyfunction!(print_line, module)?)?;
    module.add_function(wrap_pyfunction!(flush_lines, module)?)?;
    module.add_function(wrap_pyfunction!(end_process_after_drain, module)?)?;
    module.add_function(wrap_pyfunction!(before_fork, module)?)?;
    module.add_function(wrap_pyfunction!(after_fork, module)?)?;
    module.add_function(wrap_pyfunction!(check_key, module)?)?;
    module.add_function(wrap_pyfunction!(check_update, module)?)?;
    module.add_function(wrap_pyfunction!(expand_subscription_topic, module)?)?;
    module.add_function(wrap_pyfunction!(expand_subscriptions_path, module)?)
}
