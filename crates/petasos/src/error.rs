//! Why settings cannot be used, and why a hub with correct settings did not start.

use std::fmt::Display;

use petasos_transports::OpenError;

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The name of the setting, as in the file of the binary.
    pub setting: &'static str,
    /// What is wrong and what to write instead. Never the value of a secret.
    pub problem: String,
}

/// The error of a setting. For `map_err`.
pub(crate) fn wrong<E: Display>(setting: &'static str) -> impl FnOnce(E) -> ConfigError {
    move |problem| ConfigError { setting, problem: problem.to_string() }
}

/// Why a hub with correct settings did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log cannot be opened: the setting `transport` is wrong, or its store does not answer.
    #[error("transport: {0}")]
    Transport(#[from] OpenError),
    /// The log cannot be read, or the system has no room for a hub.
    #[error(transparent)]
    Hub(#[from] petasos_hub::StartError),
}
