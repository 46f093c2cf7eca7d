//! The bytes of a peer on their way to whole frames.
//!
//! What a peer has begun and not ended is bounded in number and in time: its preface, a field block of several frames, or one
//! frame. Content that is not whole is left out: its window and the time of its request bound it.

use std::{borrow::Cow, time::Instant};

use super::{
    frame::{ErrorCode, HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, kind},
    preface::PREFACE,
};

/// A whole frame.
pub(super) struct Frame<'a> {
    pub(super) header: Header,
    pub(super) payload: Cow<'a, [u8]>,
}

/// What has come of a frame that is not whole.
pub(super) struct Inbound {
    /// Bytes of the preface that have come.
    preface: usize,
    header: [u8; HEADER_BYTES],
    /// Bytes of it that have come.
    header_bytes: usize,
    payload: Vec<u8>,
    /// A whole frame has come.
    has_begun: bool,
    /// When what is not whole began.
    since: Option<Instant>,
}

impl Inbound {
    /// For a peer of which nothing has come yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            preface: 0,
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload: Vec::new(),
            has_begun: false,
            since: Some(now),
        }
    }

    /// Takes the next frame. `None`: all bytes are taken, and it is not whole.
    ///
    /// # Errors
    /// If the peer does not speak HTTP/2, or its frame is too large.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Frame<'a>>, ErrorCode> {
        if self.preface < PREFACE.len() {
            let (begin, rest) = bytes.split_at(bytes.len().min(PREFACE.len() - self.preface));
            if !PREFACE[self.preface..].starts_with(begin) {
                return Err(ErrorCode::ProtocolError);
            }
            self.preface += begin.len();
            *bytes = rest;
        }
        let (begin, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.header_bytes));
        self.header[self.header_bytes..][..begin.len()].copy_from_slice(begin);
        self.header_bytes += begin.len();
        *bytes = rest;
        if self.header_bytes < HEADER_BYTES {
            return Ok(None);
        }
        let header = Header::from_bytes(self.header);
        if header.length > PAYLOAD_BYTES_MAX {
            return Err(ErrorCode::FrameSizeError);
        }
        let (part, rest) = bytes.split_at(bytes.len().min(header.length - self.payload.len()));
        *bytes = rest;
        let payload = if part.len() == header.length {
            Cow::Borrowed(part)
        } else {
            self.payload.extend_from_slice(part);
            if self.payload.len() < header.length {
                return Ok(None);
            }
            Cow::Owned(std::mem::take(&mut self.payload))
        };
        self.header_bytes = 0;
        self.has_begun = true;
        Ok(Some(Frame { header, payload }))
    }

    /// Whether a whole frame has come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// All bytes are taken. `is_block_open`: of a field block, further frames must come. `has_completed`: something was whole among them.
    pub(super) fn settle(&mut self, is_block_open: bool, has_completed: bool, now: Instant) {
        let is_content =
            self.header_bytes == HEADER_BYTES && Header::from_bytes(self.header).kind == kind::DATA;
        if self.has_begun && !is_block_open && (self.header_bytes == 0 || is_content) {
            self.since = None;
        } else if has_completed || self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// What is not whole begins now.
    pub(super) fn restart(&mut self, now: Instant) {
        if let Some(since) = &mut self.since {
            *since = now;
        }
    }

    /// When the peer began what it has not ended. `None`: everything is whole.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }
}
