//! Where the log goes: standard error, one line for each event.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// The environment variable that chooses what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
pub const FILTER_VARIABLE: &str = "PETASOS_LOG";

/// Logs to standard error from now on: what the environment asks for, else what `default` does. Returns false if this
/// process logs already, or the environment's filter is malformed, in which case the default is used.
pub fn init(default: &str) -> bool {
    let asked = EnvFilter::try_from_env(FILTER_VARIABLE);
    let understood = asked.is_ok() || std::env::var_os(FILTER_VARIABLE).is_none();
    let filter = asked.unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .finish();
    tracing::subscriber::set_global_default(subscriber).is_ok() && understood
}
