//! The one place where failures of the engine become exceptions of Python.

use std::io;

use petasos::StartError;
use petasos_hub::TransportError;
use petasos_transports::OpenError;
use pyo3::{
    create_exception,
    exceptions::{PyConnectionError, PyOSError, PyRuntimeError},
    prelude::*,
};

create_exception!(
    flask_mercure_sse._native,
    LogUnavailable,
    PyConnectionError,
    "The store of the log does not answer. The update may or may not have been published; a later call may succeed."
);
create_exception!(
    flask_mercure_sse._native,
    LogFull,
    PyOSError,
    "The log has no room for the update: it was not published."
);
create_exception!(
    flask_mercure_sse._native,
    NoRoom,
    PyOSError,
    "The process has no room: it may open no more files or threads, the hub may have no more connections, or too many \
     bytes of updates wait for the store of the log. Nothing was published."
);
create_exception!(
    flask_mercure_sse._native,
    HubFailed,
    PyRuntimeError,
    "The log cannot be used, or the hub has failed. The next use starts the hub again."
);
create_exception!(
    flask_mercure_sse._native,
    HubStopped,
    PyRuntimeError,
    "The hub has been stopped, and publishes no more."
);

/// A failure that threads can pass to each other. It becomes an exception where the interpreter is attached.
#[derive(Clone)]
pub(crate) struct Failure {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy)]
enum Kind {
    Unavailable,
    Full,
    NoRoom,
    Failed,
    Stopped,
}

impl Failure {
    pub(crate) fn no_room(text: impl Into<String>) -> Self {
        Self { kind: Kind::NoRoom, text: text.into() }
    }

    /// The failure of a start that has panicked.
    pub(crate) fn broke_down(reason: &str) -> Self {
        Self { kind: Kind::Failed, text: format!("it broke down while it started: {reason}") }
    }

    /// A part of the running hub has ended.
    pub(crate) fn hub_failed() -> Self {
        let text = "the hub has failed: the update may or may not have been published, and the next one starts the hub again";
        Self { kind: Kind::Failed, text: text.to_owned() }
    }

    pub(crate) fn stopped() -> Self {
        Self { kind: Kind::Stopped, text: "the hub has been stopped".to_owned() }
    }

    /// One line with the name of the exception and its text, for a reader at the other end of a socket.
    pub(crate) fn line(&self) -> String {
        let name = match self.kind {
            Kind::Unavailable => "LogUnavailable",
            Kind::Full => "LogFull",
            Kind::NoRoom => "NoRoom",
            Kind::Failed => "HubFailed",
            Kind::Stopped => "HubStopped",
        };
        format!("{name} {}", self.text)
    }
}

impl From<Failure> for PyErr {
    fn from(Failure { kind, text }: Failure) -> Self {
        match kind {
            Kind::Unavailable => LogUnavailable::new_err(text),
            Kind::Full => LogFull::new_err(text),
            Kind::NoRoom => NoRoom::new_err(text),
            Kind::Failed => HubFailed::new_err(text),
            Kind::Stopped => HubStopped::new_err(text),
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        let kind = match error {
            TransportError::Closed => return Self::stopped(),
            TransportError::Unavailable(_) => Kind::Unavailable,
            TransportError::Full(_) => Kind::Full,
            // The enumeration may grow: an unknown error counts as one that another attempt does not mend.
            _ => Kind::Failed,
        };
        Self { kind, text: error.to_string() }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Transport(OpenError::Transport(error))
            | StartError::Hub(petasos_hub::StartError::Transport(error)) => error.into(),
            StartError::Transport(OpenError::Resources(_))
            | StartError::Hub(petasos_hub::StartError::Resources(_)) => Self::no_room(error.to_string()),
            _ => Self { kind: Kind::Failed, text: error.to_string() },
        }
    }
}

/// An error of the system: it refuses files, threads or memory.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::no_room(format!("raise the limit of open files, of threads or of memory: {error}"))
    }
}

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("LogUnavailable", py.get_type::<LogUnavailable>())?;
    module.add("LogFull", py.get_type::<LogFull>())?;
    module.add("NoRoom", py.get_type::<NoRoom>())?;
    module.add("HubFailed", py.get_type::<HubFailed>())?;
    module.add("HubStopped", py.get_type::<HubStopped>())
}
