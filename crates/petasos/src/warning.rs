//! Warnings about settings that work and are probably not meant. A warning names the setting and the remedy, and never a
//! secret.

use std::{
    fmt,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A setting that works and is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The field of [`Config`](crate::Config), or a setting of the binary.
    pub setting: &'static str,
    /// The risk, and what to write instead.
    pub problem: String,
}

impl Warning {
    /// A warning if every user of this machine may change the file, or may read it and it holds a secret. The group of
    /// the file is trusted: that is how a service gets a file that it does not own.
    ///
    /// `None` also for a file in a directory that others cannot enter, and for a file that cannot be examined: reading
    /// it fails with an error of its own.
    pub fn for_open_file(setting: &'static str, path: &Path, is_secret: bool) -> Option<Self> {
        let mode = |path: &Path| Some(path.metadata().ok()?.permissions().mode());
        let path: PathBuf = path.canonicalize().ok()?;
        let for_others = mode(&path)? & 0o006;
        let reached =
            path.ancestors().skip(1).all(|directory| mode(directory).is_none_or(|mode| mode & 0o001 != 0));
        let what = match (for_others & 0o004 != 0, for_others & 0o002 != 0) {
            _ if !reached => return None,
            (true, _) if is_secret => "read",
            (_, true) => "change",
            _ => return None,
        };
        let shown = path.display();
        let problem = format!("every user of this machine may {what} {shown}: run chmod o-rwx '{shown}'");
        Some(Self { setting, problem })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn a_file_that_others_may_read_or_change_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        fs::write(&path, "secret").expect("written");
        let found = |mode: u32, of_directory: u32, is_secret: bool| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            fs::set_permissions(directory.path(), Permissions::from_mode(of_directory)).expect("changed");
            Warning::for_open_file("publisher_key_file", &path, is_secret).map(|warning| warning.to_string())
        };
        let text = found(0o644, 0o755, true).expect("a warning");
        assert!(text.starts_with("publisher_key_file: every user of this machine may read /"), "{text}");
        assert!(text.ends_with("/key'") && text.contains("run chmod o-rwx '/"), "{text}");
        assert!(found(0o602, 0o755, false).expect("a warning").contains("may change"));
        for (mode, of_directory, is_secret) in
            [(0o600, 0o755, true), (0o640, 0o755, true), (0o644, 0o755, false), (0o666, 0o700, true)]
        {
            assert_eq!(found(mode, of_directory, is_secret), None, "{mode:o} {of_directory:o}");
        }
        assert_eq!(Warning::for_open_file("config", Path::new("/nowhere"), true), None);
    }
}
