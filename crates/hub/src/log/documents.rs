//! Small documents that the nodes of a log share, each under a name: the optional third part of a transport.
//!
//! A node loads a document, and stores another in its place if nobody has stored one meanwhile. More is not promised: a store
//! that is lost loses its documents, and nobody is told of a change.

use async_trait::async_trait;

use crate::TransportError;

/// The longest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What a document was when it was loaded or stored. Only the transport that gave it knows more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub u64);

/// A document. Its bytes may be a secret, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Which version it is.
    pub version: Version,
}

/// The documents of a log. A name has lower-case letters, digits and hyphens, begins with a letter, and has
/// [`NAME_BYTES_MAX`] bytes at most.
///
/// **Answers.** Each method answers within a bounded time, that of the transport's time-outs.
///
/// **Errors.** [`TransportError::Unavailable`]: the store does not answer, or refuses; also for a name or a document beyond the
/// bounds. [`TransportError::Full`]: it has no room. After an error of [`Documents::store`] the document may have been stored.
#[async_trait]
pub trait Documents: Send + Sync + 'static {
    /// The document of a name. `None`: there is none.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`].
    async fn load(&self, name: &str) -> Result<Option<Document>, TransportError>;

    /// Stores a document in the place of the version that is expected; `None`: if there is none. Answers its version, or `None` if
    /// another version is there, and nothing has changed then.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] and [`TransportError::Full`].
    async fn store(
        &self,
        name: &str,
        bytes: &[u8],
        expected: Option<Version>,
    ) -> Result<Option<Version>, TransportError>;
}

/// Refuses a name that is none, for implementations: stores have different ideas of what a name may hold.
///
/// # Errors
/// [`TransportError::Unavailable`].
pub fn check_name(name: &str) -> Result<(), TransportError> {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let begins = name.starts_with(|first: char| first.is_ascii_lowercase());
    match begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_known) {
        true => Ok(()),
        false => Err(TransportError::unavailable("this is no name of a document")),
    }
}

/// Refuses a document that is too long, for implementations.
///
/// # Errors
/// [`TransportError::Unavailable`].
pub fn check(name: &str, bytes: &[u8]) -> Result<(), TransportError> {
    check_name(name)?;
    match bytes.len() <= DOCUMENT_BYTES_MAX {
        true => Ok(()),
        false => {
            Err(TransportError::unavailable(format!("a document has {DOCUMENT_BYTES_MAX} bytes at most")))
        }
    }
}
