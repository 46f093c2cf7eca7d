//! Encryption between a stream and its socket.

use std::io::{self, IoSlice};

/// Encrypts what a stream writes to its socket, and decrypts what its peer sends, such as the records of TLS. It belongs to one
/// connection, which has begun.
pub trait Seal: Send {
    /// Seals bytes from the beginning of `plain`, appends them to `sealed`, and returns how many it has taken: as many as one
    /// record holds.
    ///
    /// # Errors
    /// The connection can be used no more, such as when its keys are used up.
    fn seal(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize>;

    /// Takes in what the peer has sent, whose content is dropped: nobody listens to a subscriber. Appends to `sealed` what has
    /// to be answered.
    ///
    /// # Errors
    /// `UnexpectedEof`: the peer has ended its side. Any other: it has broken a rule, and `sealed` says so to it.
    fn open(&mut self, received: &mut [u8], sealed: &mut Vec<u8>) -> io::Result<()>;

    /// Appends what says that nothing follows.
    fn end(&mut self, sealed: &mut Vec<u8>);
}
