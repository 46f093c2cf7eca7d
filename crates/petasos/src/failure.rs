//! Why the binary ends with an error.

/// Any error, whose text says what to do.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
