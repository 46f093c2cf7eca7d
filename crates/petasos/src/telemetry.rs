//! The log of the process: one line for each event on standard error.
//!
//! Logging never waits, fails or panics; lines that standard error does not take are dropped: see
//! [`output`](crate::output).

use std::{
    io::{self, IsTerminal},
    panic::{self, PanicHookInfo},
    sync::{Once, OnceLock},
    thread,
};

use tracing_subscriber::{EnvFilter, fmt, fmt::MakeWriter};

use crate::output::STANDARD_ERROR;

/// The environment variable that chooses what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
pub const FILTER_VARIABLE: &str = "PETASOS_LOG";

/// Logs to standard error from now on: what the environment asks for, else what `default` does. Returns false if this
/// process logs already, or the environment's filter is malformed, in which case the default is used.
pub fn init(default: &str) -> bool {
    log_panics();
    let variable = std::env::var_os(FILTER_VARIABLE);
    let asked = variable.as_ref().and_then(|text| EnvFilter::try_new(text.to_str()?).ok());
    let understood = asked.is_some() || variable.is_none();
    let filter = asked.or_else(|| EnvFilter::try_new(default).ok()).unwrap_or_default();
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(Log)
        // The library would print them to standard error itself, which waits, and panics on a failure.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    let is_first = tracing::subscriber::set_global_default(builder.finish()).is_ok();
    if is_first {
        // It is empty: only the first subscriber of a process comes here.
        let _ = RELOAD.set(Box::new(move |filter| handle.reload(filter).is_ok()));
    }
    is_first && understood
}

/// Replaces the filter of the log that this process writes.
static RELOAD: OnceLock<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>> = OnceLock::new();

/// Checks a filter in the syntax of `tracing_subscriber::EnvFilter`.
///
/// # Errors
/// What to write instead.
pub fn check_filter(filter: &str) -> Result<(), String> {
    match EnvFilter::try_new(filter) {
        Ok(_) if !filter.trim().is_empty() => Ok(()),
        _ => Err(
            "write error, warn, info or debug, also for a part of the hub, such as info,petasos_hub=debug"
                .to_owned(),
        ),
    }
}

/// Logs what the filter asks for from now on. No effect if the filter is malformed, or [`init`] did not start the log of this
/// process.
pub fn set_filter(filter: &str) {
    if let (Some(reload), Ok(filter)) = (RELOAD.get(), EnvFilter::try_new(filter)) {
        reload(filter);
    }
}

/// Logs panics from now on, as other events: the standard library's hook writes to standard error and waits. Only the
/// source location is logged, since a message may hold data of a peer.
pub fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(log_panic)));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(thread = thread.name().unwrap_or_default(), %place, "a defect of the hub: a thread or task panicked");
}

/// The number of log lines of this process that were dropped.
pub fn lines_dropped() -> u64 {
    STANDARD_ERROR.dropped()
}

/// Writes each event into the buffer of standard error.
#[derive(Clone, Copy)]
struct Log;

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

impl io::Write for Log {
    /// One call is one event.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        STANDARD_ERROR.print(text.strip_suffix('\n').unwrap_or(&text));
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
