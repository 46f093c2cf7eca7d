//! What the URL says, `host:///path?name=mercure&lease=10s&timeout=10s`, and whether its directory may be trusted.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{Dsn, OpenError, durable::settings::Settings as DurableSettings};

/// The URL of a host's log, taken apart and checked.
pub(super) struct Settings {
    pub(super) directory: PathBuf,
    pub(super) name: String,
    pub(super) lease: Duration,
    /// How long a call waits for a process that leads, and for its answer.
    pub(super) timeout: Duration,
}

/// A process of the same host that says nothing for this long is dead, or stopped.
const LEASE: Duration = Duration::from_secs(10);

/// The longest path of a socket on every system: macOS has room for 104 bytes with the zero at the end.
const SOCKET_PATH_BYTES_MAX: usize = 103;

impl Settings {
    pub(super) fn parse(dsn: &Dsn) -> Result<Self, OpenError> {
        let DurableSettings { directory, name, lease, timeout } = DurableSettings::parse(dsn)?;
        let lease = if dsn.parameter("lease").is_some() { lease } else { LEASE };
        let settings = Self { directory, name, lease, timeout };
        let bytes = settings.socket().as_os_str().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(OpenError::url(format!(
                "its directory's path is too long for a Unix socket: the socket in it has {bytes} bytes, and may have \
                 {SOCKET_PATH_BYTES_MAX}"
            )));
        }
        Ok(settings)
    }

    /// The path at which the leader listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.socket", self.name))
    }

    /// Refuses a directory in which another user could put a socket or a file of his own.
    pub(super) fn trust_directory(&self) -> Result<(), OpenError> {
        trust(&self.directory, rustix::process::geteuid().as_raw())
    }
}

fn trust(directory: &Path, user: u32) -> Result<(), OpenError> {
    let shown = directory.display();
    let metadata = match fs::symlink_metadata(directory) {
        Ok(metadata) => metadata,
        // It will be made.
        Err(_) => return Ok(()),
    };
    let wrong = if !metadata.is_dir() {
        "it is no directory"
    } else if metadata.uid() != user {
        "it belongs to another user"
    } else if metadata.mode() & 0o022 != 0 {
        "other users may write to it"
    } else {
        return Ok(());
    };
    Err(OpenError::Refused(format!(
        "the directory \"{shown}\" of the host's log cannot be used: {wrong}. Name one that belongs to the user of the \
         hub, with the mode 0700"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    fn refusal(url: &str) -> String {
        let settings = Settings::parse(&url.parse().expect("a URL"));
        settings.err().expect("refused").to_string()
    }

    #[test]
    fn a_url_says_where_and_how_long() {
        let settings =
            Settings::parse(&"host:///run/app?name=a&timeout=2s".parse().expect("a URL")).expect("valid");
        assert_eq!(settings.socket(), Path::new("/run/app/a.socket"));
        assert_eq!((settings.lease, settings.timeout), (LEASE, Duration::from_secs(2)));
        let settings = Settings::parse(&"host:///run/app?lease=1m".parse().expect("a URL")).expect("valid");
        assert_eq!(settings.lease, Duration::from_secs(60));
        for (url, part) in [
            ("host:", "names no directory"),
            ("host:///", "host:///var/lib"),
            ("host://run/app", "three slashes"),
            ("host:///run/app?x=1", "lease, name, timeout"),
            (&format!("host:///{}", "a".repeat(100)), "too long for a Unix socket"),
        ] {
            assert!(refusal(url).contains(part), "{url}: {}", refusal(url));
        }
    }

    #[test]
    fn a_directory_that_others_may_change_is_refused() {
        let outside = TempDir::new().expect("a directory");
        let user = rustix::process::geteuid().as_raw();
        let (own, link) = (outside.path().join("own"), outside.path().join("link"));
        trust(&own, user).expect("it will be made");
        fs::create_dir(&own).expect("made");
        for (mode, is_trusted) in
            [(0o700, true), (0o755, true), (0o775, false), (0o777, false), (0o1777, false)]
        {
            fs::set_permissions(&own, fs::Permissions::from_mode(mode)).expect("changed");
            assert_eq!(trust(&own, user).is_ok(), is_trusted, "{mode:o}");
        }
        fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).expect("changed");
        let error = trust(&own, user + 1).expect_err("another user's").to_string();
        assert!(error.contains("another user") && error.contains("0700"), "{error}");
        symlink(&own, &link).expect("made");
        assert!(trust(&link, user).is_err(), "a link may lead elsewhere tomorrow");
    }
}
