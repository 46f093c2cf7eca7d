//! Reading and writing a socket that does not block.

use std::io::{self, IoSlice};

/// Parts of one write; systems take 1,024.
pub(crate) const SLICES_MAX: usize = 256;

/// Bytes that a peer may send on a stream, though nothing that it says is heard: some clients pipeline requests.
const UNASKED_MAX: u16 = 16 * 1024;

/// Writes as much as a socket takes at once, and returns the number of bytes.
///
/// # Errors
/// The peer has left. `TimedOut`: it has acknowledged nothing for too long.
pub(crate) fn write(
    mut socket: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    mut slices: &mut [IoSlice<'_>],
) -> io::Result<usize> {
    let mut total = 0;
    while !slices.is_empty() {
        match socket(&slices[..slices.len().min(SLICES_MAX)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                total += written;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Reads and discards the bytes that a peer sends on a stream, and adds their number to `unasked`.
///
/// # Errors
/// The peer has left, or it has sent more than [`UNASKED_MAX`] bytes. `TimedOut`: it has acknowledged nothing for too long.
pub(crate) fn discard(
    unasked: &mut u16,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut discarded = [0; 1024];
    loop {
        match read(&mut discarded) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                *unasked = unasked.saturating_add(length as u16);
                if *unasked > UNASKED_MAX {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `count` bytes in pieces of 1,000, and then nothing more for now.
    fn sends(mut count: usize) -> impl FnMut(&mut [u8]) -> io::Result<usize> {
        move |buffer| match count.min(1_000).min(buffer.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            length => {
                count -= length;
                Ok(length)
            }
        }
    }

    #[test]
    fn a_peer_may_send_some_bytes_in_all_and_not_one_more() {
        let mut unasked = 0;
        assert!(discard(&mut unasked, sends(10_000)).is_ok());
        assert!(discard(&mut unasked, sends(usize::from(UNASKED_MAX) - 10_000)).is_ok());
        assert!(discard(&mut unasked, sends(1)).is_err());
    }

    #[test]
    fn a_peer_that_has_left_is_noticed_and_an_interruption_is_not_its_end() {
        let mut results = vec![Ok(0), Err(io::ErrorKind::Interrupted.into())];
        assert!(discard(&mut 0, |_| results.pop().expect("no further read")).is_err());
        assert!(discard(&mut 0, |_| Err(io::ErrorKind::ConnectionReset.into())).is_err());
    }
}
