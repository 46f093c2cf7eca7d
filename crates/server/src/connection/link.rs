//! The state that a connection, hyper and the service share during one exchange.
//!
//! hyper does not tell when it waits for a request, nor when its peer has shut down its sending side. Both are seen here:
//! hyper reads and writes through a [`Link`], and drops the body of an answer when it has taken all of it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{connection::handover::Handover, http::body::Body};

/// Shared between a connection, hyper and the service that hyper calls. All three belong to one task, so the lock is
/// always free.
pub(crate) struct Link<Io>(Mutex<State<Io>>);

struct State<Io> {
    io: Io,
    /// Bytes that have been read already, and that hyper reads first.
    read: Bytes,
    /// Whether the peer has shut down its sending side, or is gone.
    has_ended: bool,
    /// Whether hyper has tried to write more than the connection has taken.
    is_behind: bool,
    phase: Phase,
    /// The first answer, if it is known already.
    prepared: Option<Response<Body>>,
    /// A stream that leaves hyper.
    leaving: Option<Handover>,
    /// Whether a request was answered before all of its body was read.
    is_unread: bool,
}

/// The state of hyper.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It reads the head of the first request.
    Beginning,
    /// A request is being answered.
    Answering,
    /// The answer is a stream, which hyper carries.
    Streaming,
    /// hyper has taken all of the last answer.
    Answered,
}

/// The connection after hyper.
pub(crate) struct Unlinked<Io> {
    pub(crate) io: Io,
    /// Bytes that were read of the connection and not by hyper.
    pub(crate) read: Bytes,
    /// Whether the peer may still be sending bytes that are not read.
    pub(crate) is_unread: bool,
}

/// Bytes that a peer may send during a stream, kept for hyper and not answered: some clients pipeline requests.
const UNASKED_BYTES_MAX: usize = 16 * 1024;

impl<Io: AsyncRead + AsyncWrite + Unpin> Link<Io> {
    /// For a connection of which `read` has been read already; the first answer may be prepared.
    pub(crate) fn new(io: Io, read: Bytes, prepared: Option<Response<Body>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            io,
            read,
            has_ended: false,
            is_behind: false,
            phase: Phase::Beginning,
            prepared,
            leaving: None,
            is_unread: false,
        })))
    }

    /// A request has come: returns its answer, if that is known already.
    pub(crate) fn begin(&self) -> Option<Response<Body>> {
        let mut state = self.lock();
        state.phase = Phase::Answering;
        state.prepared.take()
    }

    /// An answer leaves for hyper.
    pub(crate) fn answer(
        self: &Arc<Self>,
        response: Response<Body>,
        is_unread: bool,
    ) -> Response<Answer<Io>> {
        let mut state = self.lock();
        state.is_unread |= is_unread;
        if response.body().is_stream() {
            state.phase = Phase::Streaming;
        }
        drop(state);
        response.map(|body| Answer { body, link: Arc::clone(self) })
    }

    /// Takes over a stream, which leaves hyper once everything before it is written.
    pub(crate) fn give(&self, stream: Handover) {
        self.lock().leaving = Some(stream);
    }

    /// The stream that leaves, if hyper has nothing left to write.
    pub(crate) fn take(&self) -> Option<Handover> {
        let mut state = self.lock();
        if state.is_behind { None } else { state.leaving.take() }
    }

    /// Whether hyper has answered everything and waits for the next request. Never after a request that was not read to
    /// its end: the rest of its body would be taken for the next request.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.phase == Phase::Answered && !state.is_behind && !state.is_unread
    }

    /// Whether hyper holds a part of a request or of an answer and can do nothing before the peer sends or reads more.
    pub(crate) fn is_stalled(&self) -> bool {
        let state = self.lock();
        match state.phase {
            Phase::Beginning => true,
            Phase::Answered => state.is_behind,
            Phase::Answering | Phase::Streaming => false,
        }
    }

    /// Ready when the subscriber of a stream that hyper carries has left. hyper itself does not notice.
    pub(crate) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.phase != Phase::Streaming {
            return Poll::Pending;
        }
        loop {
            let mut part = [0; 1024];
            let mut part = ReadBuf::new(&mut part);
            match Pin::new(&mut state.io).poll_read(cx, &mut part) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !part.filled().is_empty() => {
                    let mut read = BytesMut::from(&*state.read);
                    read.extend_from_slice(part.filled());
                    state.read = read.freeze();
                    if state.read.len() > UNASKED_BYTES_MAX {
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(_) => {
                    state.has_ended = true;
                    return Poll::Ready(());
                }
            }
        }
    }

    /// The connection itself, once hyper and the service are dropped. `buffered`: the bytes that hyper has read beyond
    /// the last request. `None`: something still holds the link.
    pub(crate) fn unlink(self: Arc<Self>, buffered: Bytes) -> Option<Unlinked<Io>> {
        let State { io, read, has_ended, is_unread, .. } =
            Arc::into_inner(self)?.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        // A copy, mostly of nothing: a slice, even an empty one, would keep all of hyper's buffer.
        let read = Bytes::from([buffered, read].concat());
        Some(Unlinked { io, is_unread: !has_ended && (is_unread || !read.is_empty()), read })
    }
}

impl<Io> Link<Io> {
    fn lock(&self) -> MutexGuard<'_, State<Io>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The body of an answer as hyper takes it.
pub(crate) struct Answer<Io> {
    body: Body,
    link: Arc<Link<Io>>,
}

impl<Io> http_body::Body for Answer<Io> {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<Io> Drop for Answer<Io> {
    fn drop(&mut self) {
        self.link.lock().phase = Phase::Answered;
    }
}

/// The body of a request, and whether it was read to its end.
pub(crate) struct Asked {
    body: Incoming,
    is_read: bool,
}

impl Asked {
    pub(crate) fn new(body: Incoming) -> Self {
        let is_read = body.is_end_stream();
        Self { body, is_read }
    }

    pub(crate) fn is_read(&self) -> bool {
        self.is_read
    }

    /// Discards the bytes of the body that have arrived, and waits for nothing. True: the body was read to its end.
    pub(crate) fn poll_rest(&mut self, cx: &mut Context<'_>) -> bool {
        while !self.is_read {
            match Pin::new(&mut *self).poll_frame(cx) {
                Poll::Ready(Some(Ok(_)) | None) => {}
                Poll::Ready(Some(Err(_))) | Poll::Pending => return false,
            }
        }
        true
    }
}

impl http_body::Body for Asked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.is_read |= matches!(frame, Poll::Ready(None));
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection that hyper reads and writes. hyper writes what it has before it waits, so it is known here whether
/// something of an answer is left.
pub(crate) struct Linked<Io>(pub(crate) Arc<Link<Io>>);

impl<Io: AsyncRead + Unpin> AsyncRead for Linked<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if !state.read.is_empty() {
            let length = state.read.len().min(buffer.remaining());
            buffer.put_slice(&state.read.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut state.io).poll_read(cx, buffer);
        state.has_ended |= match &result {
            Poll::Ready(Ok(())) => buffer.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        result
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Linked<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        let result = Pin::new(&mut state.io).poll_write(cx, bytes);
        state.is_behind = !is_whole(&result, bytes.len());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        let result = Pin::new(&mut state.io).poll_write_vectored(cx, parts);
        state.is_behind = !is_whole(&result, parts.iter().map(|part| part.len()).sum());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().io.is_write_vectored()
    }

    /// hyper flushes when everything is written. TLS may then still hold a record that its socket has not taken.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let result = Pin::new(&mut state.io).poll_flush(cx);
        state.is_behind = !matches!(result, Poll::Ready(Ok(())));
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let result = Pin::new(&mut state.io).poll_shutdown(cx);
        state.is_behind = !matches!(result, Poll::Ready(Ok(())));
        result
    }
}

/// Whether a write has taken everything.
fn is_whole(result: &Poll<io::Result<usize>>, length: usize) -> bool {
    matches!(result, Poll::Ready(Ok(written)) if *written == length)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// A connection that takes everything, and whose flush and end wait for its peer.
    #[derive(Default)]
    struct Held {
        is_let_go: bool,
    }

    impl Held {
        fn poll(&self) -> Poll<io::Result<()>> {
            if self.is_let_go { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
    }

    impl AsyncRead for Held {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Held {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll()
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.poll()
        }
    }

    #[test]
    fn a_connection_is_not_idle_while_its_answer_or_its_end_waits_for_the_peer() {
        let mut cx = Context::from_waker(Waker::noop());
        let link = Link::new(Held::default(), Bytes::new(), None);
        drop(link.answer(Response::new(Body::empty()), false));
        let mut linked = Linked(Arc::clone(&link));
        assert!(link.is_idle());
        assert!(Pin::new(&mut linked).poll_write(&mut cx, b"answer").is_ready());
        assert!(Pin::new(&mut linked).poll_flush(&mut cx).is_pending());
        assert!(!link.is_idle() && link.is_stalled());
        link.lock().io.is_let_go = true;
        assert!(Pin::new(&mut linked).poll_flush(&mut cx).is_ready());
        assert!(link.is_idle());
        link.lock().io.is_let_go = false;
        assert!(Pin::new(&mut linked).poll_shutdown(&mut cx).is_pending());
        assert!(!link.is_idle(), "it is about to end");
    }
}
