//! What the URL says: `durable:///path?name=mercure&lease=30s&timeout=10s`.

use std::{path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use crate::{Dsn, OpenError};

/// The URL of a durable log, taken apart and checked.
pub(super) struct Settings {
    pub(super) directory: PathBuf,
    pub(super) name: String,
    pub(super) lease: Duration,
    /// How long a publisher waits for its append to be on disk before it gets an error.
    pub(super) timeout: Duration,
}

/// Far above the time that a busy disk takes, and below the minute after which proxies give up.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);

impl Settings {
    pub(super) fn parse(dsn: &Dsn) -> Result<Self, OpenError> {
        dsn.has_only(&["lease", "name", "timeout"])?;
        if !dsn.hosts().is_empty() || dsn.user().is_some() {
            return Err(OpenError::url(
                "a durable log has no host: write three slashes before an absolute path, as in durable:///var/lib/petasos",
            ));
        }
        let path = percent_decode_str(dsn.path()).decode_utf8();
        let path = path.map_err(|_| OpenError::url("its path is not UTF-8"))?;
        if path.is_empty() || path == "/" {
            return Err(OpenError::url(
                "it names no directory: write for example durable:///var/lib/petasos",
            ));
        }
        Ok(Self {
            directory: PathBuf::from(&*path),
            name: dsn.name()?.to_owned(),
            lease: dsn.lease()?,
            timeout: dsn.timeout(TIMEOUT, TIMEOUT_MIN)?,
        })
    }
}
