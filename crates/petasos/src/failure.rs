//! Why the binary ends with an error.

/// Any error, whose text says what to do.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Settings that cannot be used. Another start would fail as well, until somebody changes them.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongSettings(pub(crate) Failure);

/// The exit code for wrong settings, which clap also gives for a wrong command line. A service manager need not start the hub
/// again after it.
pub(crate) const WRONG_SETTINGS: u8 = 2;
