//! What the URL says: `durable:///path?name=mercure&lease=30s&timeout=10s`. That of a host's log has the same parts.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use crate::{Dsn, OpenError};

/// Who shares a log, and what it outlives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Users {
    /// One process. An acknowledged update is on disk, and publishers wait for all followers.
    Process,
    /// The processes of a host, one of which has the file open. An acknowledged update is with the operating system: it
    /// outlives every process and may be lost when the host loses power. A follower that lags further than the margin
    /// misses entries, because most followers are in other processes.
    Host,
}

impl Users {
    /// The first word in the lock file. The number of the process that holds the lock follows.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Host => "host",
        }
    }

    /// SQLite's setting `synchronous`.
    pub(super) fn synchronous(self) -> &'static str {
        match self {
            Self::Process => "FULL",
            Self::Host => "OFF",
        }
    }
}

/// The URL of a durable log, taken apart and checked.
pub(crate) struct Settings {
    pub(crate) directory: PathBuf,
    pub(crate) name: String,
    pub(crate) lease: Duration,
    /// How long a publisher waits for its append to be on disk before it gets an error.
    pub(crate) timeout: Duration,
}

/// Far above the time that a busy disk takes, and below the minute after which proxies give up.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

impl Settings {
    /// Whether this process may write to the directory, or make it.
    #[cfg(feature = "host")]
    pub(crate) fn probe_directory(&self) -> Result<(), OpenError> {
        use rustix::fs::{Access, access};
        let is_there = |path: &&std::path::Path| path.symlink_metadata().is_ok();
        // An absolute path always has an ancestor that is there.
        let Some(nearest) = self.directory.ancestors().find(is_there) else { return Ok(()) };
        let writable = access(nearest, Access::WRITE_OK | Access::EXEC_OK);
        let problem = match writable {
            _ if !nearest.is_dir() => "it is no directory".to_owned(),
            Ok(()) => return Ok(()),
            Err(error) => std::io::Error::from(error).to_string(),
        };
        let shown = nearest.display();
        Err(OpenError::Refused(format!("the directory \"{shown}\" cannot be used for the log: {problem}")))
    }

    pub(crate) fn parse(dsn: &Dsn) -> Result<Self, OpenError> {
        dsn.has_only(&["lease", "name", "timeout"])?;
        if !dsn.hosts().is_empty() || dsn.user().is_some() {
            return Err(OpenError::url(format!(
                "this log has no host: write three slashes before an absolute path, as in {}:///var/lib/petasos",
                dsn.scheme()
            )));
        }
        let path = percent_decode_str(dsn.path()).decode_utf8();
        let path = path.map_err(|_| OpenError::url("its path is not UTF-8"))?;
        if path.is_empty() || path == "/" {
            return Err(OpenError::url(format!(
                "it names no directory: write for example {}:///var/lib/petasos",
                dsn.scheme()
            )));
        }
        Ok(Self {
            directory: PathBuf::from(&*path),
            name: dsn.name()?.to_owned(),
            lease: dsn.lease()?,
            timeout: dsn.timeout(TIMEOUT, TIMEOUT_MIN)?,
        })
    }
}
