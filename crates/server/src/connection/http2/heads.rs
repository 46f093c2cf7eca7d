//! What a client has begun to send and not ended: its preface, a head of several frames, or one frame.
//!
//! The library says nothing about that, and keeps what has come, so it must be bounded in number and in time. The content
//! of requests is left out: it has a window and a time of its own.

use std::time::Instant;

use super::preface::PREFACE;

/// Follows the frames of a client by their heads (RFC 9113, section 4.1). Anything is followed, also what is no frame: the
/// library refuses that.
#[derive(Default)]
pub(crate) struct Heads {
    /// Bytes of the preface that have come.
    preface: usize,
    head: [u8; HEAD_BYTES],
    /// Bytes of the head of the current frame that have come.
    head_bytes: usize,
    /// Bytes of the current frame that have not come.
    payload: usize,
    /// The current frame is content.
    is_data: bool,
    /// Frames of a head have come, and the last one has not.
    is_block_open: bool,
    /// The first frame has come.
    has_begun: bool,
    /// When what is incomplete began.
    since: Option<Instant>,
}

/// The length of a frame, its type, flags and stream.
const HEAD_BYTES: usize = 9;

/// Types of frames, and a flag of two of them.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

impl Heads {
    /// For a client of which nothing has come yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: Some(now), ..Self::default() }
    }

    /// Bytes have come.
    pub(crate) fn take(&mut self, mut bytes: &[u8], now: Instant) {
        let mut has_completed = false;
        let in_preface = (PREFACE.len() - self.preface).min(bytes.len());
        self.preface += in_preface;
        bytes = &bytes[in_preface..];
        while !bytes.is_empty() {
            if self.payload > 0 {
                let length = self.payload.min(bytes.len());
                self.payload -= length;
                bytes = &bytes[length..];
            } else {
                let length = (HEAD_BYTES - self.head_bytes).min(bytes.len());
                self.head[self.head_bytes..][..length].copy_from_slice(&bytes[..length]);
                self.head_bytes += length;
                bytes = &bytes[length..];
                if self.head_bytes < HEAD_BYTES {
                    break;
                }
                self.begin_frame();
            }
            if self.payload == 0 {
                self.head_bytes = 0;
                self.has_begun = true;
                has_completed |= !self.is_block_open;
            }
        }
        if !self.is_incomplete() {
            self.since = None;
        } else if has_completed || self.since.is_none() {
            self.since = Some(now);
        }
    }

    fn begin_frame(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.payload = u32::from_be_bytes([0, high, middle, low]) as usize;
        self.is_data = kind == DATA;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_block_open = flags & END_HEADERS == 0;
        }
    }

    /// When it began what it has not ended. `None`: everything is whole.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    fn is_incomplete(&self) -> bool {
        let is_within_frame = self.head_bytes > 0 && (self.head_bytes < HEAD_BYTES || !self.is_data);
        !self.has_begun || self.is_block_open || is_within_frame
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut frame = (length as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(HEAD_BYTES + length, 0);
        frame
    }

    fn begun(now: Instant) -> Heads {
        let mut heads = Heads::new(now);
        heads.take(PREFACE, now);
        heads.take(&frame(4, 0, 6), now);
        heads
    }

    #[test]
    fn a_client_has_begun_with_its_first_whole_frame() {
        let now = Instant::now();
        let bytes = [PREFACE, &frame(4, 0, 12)].concat();
        for pieces in [1, 5, bytes.len()] {
            let mut heads = Heads::new(now);
            for piece in bytes.chunks(pieces) {
                assert_eq!(heads.since(), Some(now));
                heads.take(piece, now + Duration::from_secs(1));
            }
            assert_eq!(heads.since(), None, "{pieces}");
        }
    }

    #[test]
    fn a_head_is_whole_with_its_last_frame_however_it_comes() {
        let now = Instant::now();
        let bytes =
            [frame(HEADERS, 0, 5), frame(CONTINUATION, 0, 0), frame(CONTINUATION, END_HEADERS, 3)].concat();
        for pieces in 1..=bytes.len() {
            let mut heads = begun(now);
            for (index, piece) in bytes.chunks(pieces).enumerate() {
                assert_eq!(heads.since(), (index > 0).then_some(now), "{pieces}");
                heads.take(piece, now);
            }
            assert_eq!(heads.since(), None, "{pieces}");
        }
    }

    #[test]
    fn each_frame_has_its_own_time_and_content_has_none() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut heads = begun(now);
        heads.take(&frame(DATA, 0, 100)[..50], now);
        assert_eq!(heads.since(), None, "content");
        heads.take(&[0; 59], now);
        heads.take(&frame(6, 0, 8)[..12], now);
        assert_eq!(heads.since(), Some(now));
        heads.take(&[0], now + second);
        assert_eq!(heads.since(), Some(now), "the same frame");
        let rest = [&[0; 4][..], &frame(8, 0, 4)[..3]].concat();
        heads.take(&rest, now + 2 * second);
        assert_eq!(heads.since(), Some(now + 2 * second), "the next one");
    }
}
