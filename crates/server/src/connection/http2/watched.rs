//! The bytes of a connection, seen on their way between its peer and the library.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::Heads;

/// A connection, shared between the library and the task that looks after it. The library is called by that task alone, so
/// the lock is always free.
pub(super) struct Watched<Io>(Arc<Mutex<State<Io>>>);

struct State<Io> {
    io: Io,
    /// Bytes that have been read already, and that the library reads first.
    read: Bytes,
    heads: Heads,
    /// When the peer took something last, if something waits.
    behind_since: Option<Instant>,
    has_ended: bool,
}

impl<Io> Clone for Watched<Io> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<Io> Watched<Io> {
    pub(super) fn new(io: Io, read: Bytes) -> Self {
        let heads = Heads::new(now());
        Self(Arc::new(Mutex::new(State { io, read, heads, behind_since: None, has_ended: false })))
    }

    /// When the peer began what it has not ended.
    pub(super) fn incomplete_since(&self) -> Option<Instant> {
        self.lock().heads.since()
    }

    /// When the peer took something last. `None`: it has taken everything.
    pub(super) fn behind_since(&self) -> Option<Instant> {
        self.lock().behind_since
    }

    /// The connection itself, if its peer may still be sending and the library has dropped its share.
    pub(super) fn into_unended(self) -> Option<Io> {
        let state = Arc::into_inner(self.0)?.into_inner().unwrap_or_else(PoisonError::into_inner);
        (!state.has_ended).then_some(state.io)
    }

    fn lock(&self) -> MutexGuard<'_, State<Io>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Io> State<Io> {
    /// A write has come to that.
    fn wrote(&mut self, result: &Poll<io::Result<usize>>, length: usize) {
        match result {
            Poll::Pending => _ = self.behind_since.get_or_insert_with(now),
            Poll::Ready(Ok(written)) => self.behind_since = (*written < length).then(now),
            Poll::Ready(Err(_)) => self.has_ended = true,
        }
    }

    fn flushed(&mut self, result: &Poll<io::Result<()>>) {
        match result {
            Poll::Pending => _ = self.behind_since.get_or_insert_with(now),
            Poll::Ready(Ok(())) => self.behind_since = None,
            Poll::Ready(Err(_)) => self.has_ended = true,
        }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let state = &mut *self.lock();
        let before = buffer.filled().len();
        let result = if state.read.is_empty() {
            Pin::new(&mut state.io).poll_read(cx, buffer)
        } else {
            let length = state.read.len().min(buffer.remaining());
            buffer.put_slice(&state.read.split_to(length));
            if state.read.is_empty() {
                // An empty slice would keep the buffer.
                state.read = Bytes::new();
            }
            Poll::Ready(Ok(()))
        };
        match &result {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                state.heads.take(&buffer.filled()[before..], now());
            }
            Poll::Ready(_) => state.has_ended = true,
            Poll::Pending => {}
        }
        result
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        let result = Pin::new(&mut state.io).poll_write(cx, bytes);
        state.wrote(&result, bytes.len());
        result
    }

    /// Then the library copies frames of up to a kilobyte together, and not of up to a quarter of one: what thirty streams have to
    /// send goes out by one call of the system.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let result = Pin::new(&mut state.io).poll_flush(cx);
        state.flushed(&result);
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        let result = Pin::new(&mut state.io).poll_shutdown(cx);
        state.flushed(&result);
        result
    }
}

/// The time of the runtime, which tests may pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
