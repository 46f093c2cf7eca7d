//! Why a call to the server failed, and what that means.

use std::{error::Error, fmt};

use ::redis::{ErrorKind, RedisError};
use petasos_hub::TransportError;

use crate::{Dsn, OpenError};

/// A call that has failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// No answer in time.
    Silence,
    /// An error of the server or of the connection.
    Redis(RedisError),
    /// Something that needs no other words.
    Other(String),
}

/// Errors that a server answers with instead of doing anything, and which pass: it is starting, or another server is
/// the primary now.
const REFUSALS: &[&str] = &[
    "LOADING",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
];

impl Failure {
    /// Whether the server has surely done nothing, and may do it if it is asked again.
    pub(super) fn is_refusal(&self) -> bool {
        REFUSALS.iter().any(|code| self.has_code(code))
    }

    /// Whether the server had no room.
    pub(super) fn is_full(&self) -> bool {
        self.has_code("OOM")
    }

    /// Whether the server refuses all writes: it has no memory, cannot write to its disk, or has too few replicas.
    pub(super) fn refuses_writes(&self) -> bool {
        ["OOM", "MISCONF", "NOREPLICAS"].iter().any(|code| self.has_code(code))
    }

    /// Whether another attempt may do better, for what can be done twice.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Silence => false,
            Self::Redis(error) => self.is_refusal() || error.is_io_error() || error.is_connection_dropped(),
            Self::Other(_) => false,
        }
    }

    /// Whether the server answered with that error, in a script or without. Before Redis 7 an error in a script is
    /// wrapped in another.
    fn has_code(&self, code: &str) -> bool {
        let Self::Redis(error) = self else { return false };
        error.code() == Some(code)
            || error.detail().is_some_and(|detail| detail.contains(&format!("-{code} ")))
    }

    fn is_authentication(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == ErrorKind::AuthenticationFailed)
    }

    /// What to say when the log is opened: most errors are of the settings then.
    pub(super) fn at_open(self, dsn: &Dsn) -> OpenError {
        let text = self.to_string();
        let has = |part: &str| text.contains(part);
        if self.has_code("WRONGPASS") || self.is_authentication() {
            return OpenError::Refused(format!(
                "Redis accepts neither user nor password: check what stands before the \"@\" of the URL ({text})"
            ));
        }
        if self.has_code("NOAUTH") {
            return OpenError::Refused(
                "Redis asks for a password: write redis://user:password@host or redis://:password@host"
                    .to_owned(),
            );
        }
        if self.has_code("NOPERM")
            || has("ACL failure")
            || has("can't run this command")
            || has("can't access")
        {
            return OpenError::Refused(format!(
                "the user of the URL may not do what the log needs: give it the commands and keys that the \
                 documentation lists ({text})"
            ));
        }
        if self.has_code("WRONGTYPE") {
            return OpenError::Refused(
                "keys of that name hold something else: choose another with ?name=".to_owned(),
            );
        }
        if self.has_code("LATER") {
            return OpenError::Refused("the log was written by a later version: update petasos".to_owned());
        }
        if has("DB index is out of range") || has("rejected the requested database number") {
            return OpenError::Refused("Redis has no database of that number".to_owned());
        }
        if has("certificate") {
            return OpenError::Refused(format!(
                "the certificate of {dsn} is not trusted: it has to fit the host's name, and ?ca= names the file of \
                 its authority ({text})"
            ));
        }
        let failure = match self {
            full if full.is_full() => full,
            other => Self::Other(format!("{dsn}: {other}")),
        };
        OpenError::Transport(failure.into())
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Failure> for TransportError {
    fn from(failure: Failure) -> Self {
        match failure.is_full() {
            true => Self::Full(failure.into()),
            false => Self::unavailable(failure),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => f.write_str("Redis does not answer in time"),
            Self::Redis(error) => write!(f, "Redis: {error}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Error for Failure {}
