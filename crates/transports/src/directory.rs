//! Documents in a directory of this host: a file each, which its user alone may read.
//!
//! Processes that share the directory take turns by a lock on a file in it. A document is written beside the former one and put
//! into its place, so that a process that ends in the middle leaves the former one.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    hash::{DefaultHasher, Hasher},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    documents::{DOCUMENT_BYTES_MAX, Document, Documents, Version, check, check_name},
};

/// Documents in a directory. The directory is made when the first document is stored.
#[derive(Debug, Clone)]
pub struct DocumentDirectory {
    path: PathBuf,
}

/// No document has such a name.
const LOCK: &str = ".lock";
const FRESH: &str = ".fresh";

impl DocumentDirectory {
    /// Documents in a directory. Nothing is read or made yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the directory and tries whether this process may write there.
    ///
    /// # Errors
    /// The system's.
    pub fn prepare(&self) -> io::Result<()> {
        self.lock().map(drop)
    }

    fn load(&self, name: &str) -> io::Result<Option<Document>> {
        let mut bytes = Vec::new();
        match File::open(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?.take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?,
        };
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let version = version(&bytes);
        Ok(Some(Document { bytes, version }))
    }

    fn store(&self, name: &str, bytes: &[u8], expected: Option<Version>) -> io::Result<Option<Version>> {
        let _lock = self.lock()?;
        if self.load(name)?.map(|document| document.version) != expected {
            return Ok(None);
        }
        let (fresh, path) = (self.path.join(FRESH), self.path.join(name));
        let mut file = private().write(true).create(true).truncate(true).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        File::open(&self.path)?.sync_all()?;
        Ok(Some(version(bytes)))
    }

    /// Nobody else stores a document until this is dropped.
    fn lock(&self) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let file = private().write(true).create(true).truncate(false).open(self.path.join(LOCK))?;
        file.lock()?;
        Ok(file)
    }

    /// Does something on a thread that may wait for the disk.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, TransportError> {
        let own = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&own)).await;
        let done = done.unwrap_or_else(|ended| Err(io::Error::other(ended)));
        done.map_err(|error| at(&self.path, &error))
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn at(path: &Path, error: &io::Error) -> TransportError {
    let text = format!("the directory {} cannot be used: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => TransportError::Full(text.into()),
        _ => TransportError::unavailable(text),
    }
}

/// The same bytes are the same version.
fn version(bytes: &[u8]) -> Version {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    Version(hasher.finish())
}

#[async_trait]
impl Documents for DocumentDirectory {
    async fn load(&self, name: &str) -> Result<Option<Document>, TransportError> {
        check_name(name)?;
        let name = name.to_owned();
        self.run(move |own| own.load(&name)).await
    }

    async fn store(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<Version>,
    ) -> Result<Option<Version>, TransportError> {
        check(name, bytes)?;
        let (name, bytes) = (name.to_owned(), bytes.to_vec());
        self.run(move |own| own.store(&name, &bytes, expected)).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use petasos_hub::conformance::share_documents;

    use super::*;

    #[tokio::test]
    async fn it_keeps_what_documents_promise_and_nobody_else_may_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/b");
        let [one, other] = [0; 2].map(|_| DocumentDirectory::new(&path));
        share_documents(&one, &other).await;
        let mode = |path: &Path| path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("a")), mode(&path.join("counter"))), (0o700, 0o600, 0o600));
        let blocked = directory.path().join("file");
        std::fs::write(&blocked, "").expect("written");
        let error = DocumentDirectory::new(blocked.join("c")).store("a", b"", None).map(drop);
        assert!(error.is_err(), "a file is no directory");
    }
}
