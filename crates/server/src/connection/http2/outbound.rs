//! Frames on their way to the socket.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::io::AsyncWrite;

/// What the socket has not taken yet. It has no memory while that is nothing.
#[derive(Default)]
pub(super) struct Outbound {
    bytes: Vec<u8>,
    /// Bytes at the beginning that the socket has taken.
    taken: usize,
    /// When the peer took something last, if something waits.
    behind_since: Option<Instant>,
}

/// With less than this waiting, one more frame of content is added. The rest waits in its stream, within the bounds of that.
const ROOM_BYTES: usize = 16 * 1024;

/// With so much waiting, nothing more is read: a peer that asks must take its answers. It is more than content alone comes to, so
/// that a peer which reads slowly is still heard. What was read before is answered: the heads for all streams, at most.
const READING_BYTES_MAX: usize = 48 * 1024;

impl Outbound {
    /// Where frames are appended.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether content may be added.
    pub(super) fn has_room(&self) -> bool {
        self.waiting() < ROOM_BYTES
    }

    /// Whether so much waits that nothing more is to be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting() >= READING_BYTES_MAX
    }

    /// When the peer took something last. `None`: it has taken everything.
    pub(super) fn behind_since(&self) -> Option<Instant> {
        self.behind_since
    }

    fn waiting(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Writes as much as the socket takes. Ready when it has taken everything.
    ///
    /// # Errors
    /// The socket's.
    pub(super) fn poll_write(
        &mut self,
        mut io: Pin<&mut (impl AsyncWrite + ?Sized)>,
        cx: &mut Context<'_>,
        now: impl Fn() -> Instant,
    ) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() && self.behind_since.is_none() {
            return Poll::Ready(Ok(()));
        }
        while self.waiting() > 0 {
            match io.as_mut().poll_write(cx, &self.bytes[self.taken..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => {
                    self.taken += written;
                    self.behind_since = (self.waiting() > 0).then(&now);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.behind_since.get_or_insert_with(now);
                    // Moved seldom enough that each byte is moved about once.
                    if self.taken >= self.bytes.len() / 2 {
                        self.bytes.drain(..self.taken);
                        self.taken = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        *self = Self { behind_since: self.behind_since, ..Self::default() };
        // TLS may hold a record that its socket has not taken.
        let flushed = io.poll_flush(cx);
        if flushed.is_pending() {
            self.behind_since.get_or_insert_with(now);
        }
        ready!(flushed)?;
        self.behind_since = None;
        Poll::Ready(Ok(()))
    }
}
