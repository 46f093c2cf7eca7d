//! What comes of a request behind its head.

use std::task::Poll;

use bytes::{Bytes, BytesMut};

use super::{frame::ErrorCode, window::ReceiveWindow};

/// The content of one request.
pub(super) struct Content {
    window: ReceiveWindow,
    is_ended: bool,
    /// `None`: nobody reads it.
    kept: Option<Box<Kept>>,
}

/// Content that is to be read.
#[derive(Default)]
struct Kept {
    bytes: BytesMut,
    /// Bytes that have not come, if the peer has said how many there are.
    to_come: Option<u64>,
    /// Somebody has begun to read it.
    is_wanted: bool,
}

impl Content {
    /// `has_more`: the request does not end with its head. `length`: as the peer says.
    pub(super) fn new(window: ReceiveWindow, has_more: bool, length: Option<u64>) -> Self {
        let kept = has_more.then(|| Box::new(Kept { to_come: length, ..Kept::default() }));
        Self { window, is_ended: !has_more, kept }
    }

    /// A frame has come, in whose bytes `data` is with padding around it. Returns how many bytes of it need no room any more.
    ///
    /// # Errors
    /// If it is more than may come, or not what the peer has said.
    pub(super) fn receive(&mut self, bytes: usize, data: &[u8], is_last: bool) -> Result<usize, ErrorCode> {
        if self.is_ended {
            return Err(ErrorCode::StreamClosed);
        }
        if !self.window.spend(bytes) {
            return Err(ErrorCode::FlowControlError);
        }
        // No more is asked for.
        let Some(kept) = &mut self.kept else { return Ok(bytes) };
        if let Some(to_come) = &mut kept.to_come {
            *to_come = to_come.checked_sub(data.len() as u64).ok_or(ErrorCode::ProtocolError)?;
            if is_last && *to_come > 0 {
                return Err(ErrorCode::ProtocolError);
            }
        }
        kept.bytes.extend_from_slice(data);
        Ok(bytes - data.len())
    }

    /// All of it has come.
    ///
    /// # Errors
    /// If the peer has said that it is more.
    pub(super) fn end(&mut self) -> Result<(), ErrorCode> {
        if self.kept.as_ref().is_some_and(|kept| kept.to_come.is_some_and(|to_come| to_come > 0)) {
            return Err(ErrorCode::ProtocolError);
        }
        self.is_ended = true;
        Ok(())
    }

    /// Whether all of it has come.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether it is kept until somebody reads it.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// What has come and has not been read. `None`: that was all. Pending: more must come.
    pub(super) fn read(&mut self) -> Poll<Option<Bytes>> {
        let Some(kept) = &mut self.kept else { return Poll::Ready(None) };
        kept.is_wanted = true;
        match (kept.bytes.is_empty(), self.is_ended) {
            // The reader takes the memory as well.
            (false, _) => Poll::Ready(Some(std::mem::take(&mut kept.bytes).freeze())),
            (true, true) => Poll::Ready(None),
            (true, false) => Poll::Pending,
        }
    }

    /// Bytes need no room any more. `Some`: what the peer may send for them and is to be told.
    pub(super) fn give_back(&mut self, bytes: usize) -> Option<u32> {
        self.window.read(bytes).filter(|_| !self.is_ended)
    }

    /// The peer knows of another size of the window.
    pub(super) fn change_window(&mut self, bytes: i32) {
        self.window.change(bytes);
    }

    /// Nobody will read it. What still comes is dropped. Returns how many bytes were kept.
    pub(super) fn forget(&mut self) -> usize {
        self.kept.take().map_or(0, |kept| kept.bytes.len())
    }

    /// Whether somebody has begun to read it.
    pub(super) fn is_wanted(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.is_wanted)
    }

    /// Whether all of it has been read.
    pub(super) fn is_read(&self) -> bool {
        self.is_ended && self.kept.as_ref().is_none_or(|kept| kept.bytes.is_empty())
    }

    /// How much is to be read, if that is known.
    pub(super) fn length(&self) -> Option<u64> {
        let Some(kept) = &self.kept else { return Some(0) };
        let to_come = if self.is_ended { Some(0) } else { kept.to_come };
        to_come.map(|to_come| to_come + kept.bytes.len() as u64)
    }

    /// How much will be read at least, while more of it must come.
    pub(super) fn rest(&self) -> Option<u64> {
        let kept = self.kept.as_ref().filter(|_| !self.is_ended)?;
        Some(kept.to_come.unwrap_or(0) + kept.bytes.len() as u64)
    }
}
