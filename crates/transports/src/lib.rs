//! Logs that outlive a process or join several: implementations of [`petasos_hub::transport::Transport`].
//!
//! Each is a folder and a feature of the same name, with the same files: `settings`, `failure`, `link`, `log`, `writer`,
//! `follower`, `registry`, and its own. (`host` has the log of `durable`, and the way to the process that has it open.) The
//! half that they have in common is `shared`; the format of records is `codec`. All pass the list of `petasos_hub::conformance` against a real server. A transport stores
//! the records of subscribers and does not interpret them.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), petasos_transports::OpenError> {
//! use petasos_transports::{Dsn, Options, open};
//! let dsn: Dsn = "memory:".parse()?;
//! let transport = open(&dsn, &Options::default()).await?;
//! assert!(transport.is_ready());
//! # Ok(())
//! # }
//! ```

#[cfg(any(feature = "durable", feature = "nats", feature = "postgres", feature = "redis"))]
#[cfg(feature = "durable")]
mod blocking;
mod codec;
mod directory;
mod dsn;
#[cfg(feature = "durable")]
mod durable;
#[cfg(feature = "durable")]
pub mod forks;
#[cfg(all(any(test, fuzzing), feature = "host", feature = "redis"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "host")]
mod host;
#[cfg(any(feature = "durable", feature = "nats", feature = "postgres", feature = "redis"))]
mod hosts;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "durable", feature = "nats", feature = "postgres", feature = "redis"))]
mod retry;
#[cfg(any(feature = "durable", feature = "nats", feature = "postgres", feature = "redis"))]
mod shared;

use std::{io, sync::Arc, time::Duration};

use petasos_hub::{MemoryTransport, TransportError, transport::Transport};
use petasos_protocol::topic::HubUrl;

pub use directory::DocumentDirectory;
pub use dsn::Dsn;

/// The hub's settings for a transport, beside its URL.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The hub's URL, against which the topics in the log are resolved.
    pub hub: HubUrl,
    /// The bounds of what the log keeps.
    pub retention: Retention,
}

/// Bounds of the publishers' updates in a log, which keeps the newest. Subscription events are bounded apart, so that
/// subscribers that come and go evict no update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Number of updates.
    pub entries_max: usize,
    /// Bytes of their records; `None`: no bound.
    pub bytes_max: Option<u64>,
    /// Time since an update was appended; `None`: no bound.
    pub age_max: Option<Duration>,
}

impl Default for Retention {
    /// 500 updates.
    fn default() -> Self {
        Self { entries_max: 500, bytes_max: None, age_max: None }
    }
}

/// Why a transport cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL or an option is wrong; the text says what to write instead, and shows no secret.
    #[error("the transport's URL cannot be used: {0}")]
    Url(String),
    /// What the URL names cannot be used as it is; the text says what to do.
    #[error("{0}")]
    Refused(String),
    /// The system has no room for a thread or a file of the log.
    #[error(
        "the system has no room for the log: raise the limit of open files, of threads or of memory: {0}"
    )]
    Resources(#[source] io::Error),
    /// The store does not answer, or answers with an error.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl OpenError {
    pub(crate) fn url(problem: impl Into<String>) -> Self {
        Self::Url(problem.into())
    }
}

impl PartialEq for OpenError {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

/// Checks a URL as far as that needs no store.
///
/// # Errors
/// [`OpenError::Url`] if this build has no such transport, or the URL of a directory is wrong.
pub fn check(dsn: &Dsn) -> Result<(), OpenError> {
    let kind = dsn.scheme().split('+').next().unwrap_or_default();
    match kind {
        #[cfg(feature = "durable")]
        "durable" => durable::check(dsn),
        #[cfg(feature = "host")]
        "host" => host::check(dsn),
        kind if SCHEMES.contains(&kind) => Ok(()),
        _ => Err(OpenError::url(format!(
            "there is no transport \"{}\" in this build: it has {}",
            dsn.scheme(),
            SCHEMES.join(", ")
        ))),
    }
}

/// Opens the log that a URL names. Waits for the store no longer than its time-out, for each host.
///
/// # Errors
/// - [`OpenError::Url`]: the URL or a bound is wrong.
/// - [`OpenError::Refused`]: the store has to be changed first.
/// - [`OpenError::Resources`]: the system has no room for the log.
/// - [`OpenError::Transport`]: the store does not answer, or is full.
pub async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    check(dsn)?;
    match dsn.scheme() {
        #[cfg(feature = "durable")]
        "durable" => durable::open(dsn, options).await,
        #[cfg(feature = "host")]
        "host" => host::open(dsn, options).await,
        #[cfg(feature = "nats")]
        "nats" | "tls" => nats::open(dsn, options).await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => postgres::open(dsn, options).await,
        #[cfg(feature = "redis")]
        scheme if scheme.starts_with("redis") => redis::open(dsn, options).await,
        _ => {
            dsn.has_only(&[])?;
            options.retention.has_only_entries(dsn)?;
            Ok(Arc::new(MemoryTransport::new(options.retention.entries_max)))
        }
    }
}

/// Tries whether the log that a URL names could be opened, as far as that changes nothing: a store answers and takes the login,
/// a directory can be written to or made. Waits as long as [`open`].
///
/// # Errors
/// As [`open`].
pub async fn probe(dsn: &Dsn) -> Result<(), OpenError> {
    check(dsn)?;
    match dsn.scheme() {
        #[cfg(feature = "host")]
        "durable" | "host" => durable::settings::Settings::parse(dsn)?.probe_directory(),
        #[cfg(feature = "nats")]
        "nats" | "tls" => nats::probe(dsn).await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => postgres::probe(dsn).await,
        #[cfg(feature = "redis")]
        scheme if scheme.starts_with("redis") => redis::probe(dsn).await,
        _ => Ok(()),
    }
}

/// The documents in the directory of a log that processes of one host alone have. `None`: the log is another one.
pub fn documents_beside(dsn: &Dsn) -> Option<DocumentDirectory> {
    match dsn.scheme() {
        #[cfg(feature = "durable")]
        "durable" | "host" => {
            let settings = durable::settings::Settings::parse(dsn).ok()?;
            Some(DocumentDirectory::new(settings.directory.join(format!("{}-documents", settings.name))))
        }
        _ => None,
    }
}

/// The schemes of the URLs of all transports in this build; Redis has some with a `+` and more behind it, too.
pub const SCHEMES: &[&str] = &[
    "memory",
    #[cfg(feature = "durable")]
    "durable",
    #[cfg(feature = "host")]
    "host",
    #[cfg(feature = "redis")]
    "redis",
    #[cfg(feature = "redis")]
    "rediss",
    #[cfg(feature = "nats")]
    "nats",
    #[cfg(feature = "nats")]
    "tls",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "postgres")]
    "postgresql",
];

impl Retention {
    /// Refuses bounds of bytes and of age, for transports that bound the number of updates alone.
    fn has_only_entries(&self, dsn: &Dsn) -> Result<(), OpenError> {
        match (self.bytes_max, self.age_max) {
            (None, None) => Ok(()),
            _ => Err(OpenError::url(format!(
                "\"{}\" bounds the number of updates only: leave out the bounds of bytes and of age",
                dsn.scheme()
            ))),
        }
    }
}
