//! The bytes that a task has for a socket and that the socket has not taken yet.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use super::write::SLICES_MAX;

/// The bytes that a task has for a socket. Bounded by the task, which gathers [`GATHERED_BYTES`] and then writes.
#[derive(Default)]
pub(crate) struct Unsent {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

/// Bytes of history that are gathered into one write; one event may be larger.
const GATHERED_BYTES: usize = 64 * 1024;

impl Unsent {
    pub(crate) fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether enough is gathered for one write.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= GATHERED_BYTES || self.parts.len() >= SLICES_MAX
    }

    /// Removes what has been written.
    pub(crate) fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let Some(first) = self.parts.front_mut() else { return };
            if written < first.len() {
                *first = first.slice(written..);
                return;
            }
            written -= first.len();
            self.parts.pop_front();
        }
    }

    /// The parts of the next write.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        self.parts.iter().take(SLICES_MAX).map(|part| IoSlice::new(part)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest(unsent: &Unsent) -> Vec<u8> {
        unsent.slices().iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn what_is_written_is_removed_wherever_a_write_ends() {
        for written in 0..=6 {
            let mut unsent = Unsent::default();
            for part in ["ab", "", "cdef"] {
                unsent.push(Bytes::from_static(part.as_bytes()));
            }
            unsent.advance(written);
            assert_eq!(rest(&unsent), &b"abcdef"[written..]);
            assert_eq!(unsent.is_empty(), written == 6);
        }
    }

    #[test]
    fn it_is_full_at_its_bounds_in_bytes_and_in_parts() {
        let mut unsent = Unsent::default();
        unsent.push(vec![0; GATHERED_BYTES - 1].into());
        assert!(!unsent.is_full());
        unsent.push(Bytes::from_static(b"x"));
        assert!(unsent.is_full());
        let mut unsent = Unsent::default();
        for _ in 1..SLICES_MAX {
            unsent.push(Bytes::from_static(b"x"));
        }
        assert!(!unsent.is_full());
        unsent.push(Bytes::from_static(b"x"));
        assert!(unsent.is_full());
    }
}
