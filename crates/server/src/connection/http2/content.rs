//! The content of a request: read by its handler, and what the handler leaves of it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The content of one request, as its handler reads it. The peer may send as much again as has been read.
pub(super) struct Content {
    stream: Option<RecvStream>,
    /// Bytes that have not been read, if the peer has said how many there are.
    left: Option<u64>,
    handled: Handled,
}

/// What its handler has done with a content.
#[derive(Clone, Default)]
pub(super) struct Handled(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Somebody has begun to read it.
    is_asked: bool,
    /// It, once its handler has dropped it, and the bytes that must be expected.
    rest: Option<(RecvStream, u64)>,
}

/// Content that nobody reads, discarded for a while: most of it is on its way already, and a peer that is told to stop may take
/// that for a failure of its request.
pub(super) struct Discard {
    stream: RecvStream,
    bytes: usize,
    timer: Pin<Box<Sleep>>,
}

/// The most bytes that are discarded, and the longest time: small forms, on any network.
const DISCARDED_BYTES_MAX: usize = 16 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

impl Content {
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap) -> Self {
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream: Some(stream), left, handled: Handled::default() }
    }

    /// Tells later what has become of it.
    pub(super) fn handled(&self) -> Handled {
        self.handled.clone()
    }
}

impl Handled {
    /// Whether somebody has begun to read it.
    pub(super) fn is_asked(&self) -> bool {
        self.lock().is_asked
    }

    /// The rest of the content, if it is worth waiting for.
    pub(super) fn rest(&self) -> Option<Discard> {
        let (stream, left) = self.lock().rest.take()?;
        let is_short = !stream.is_end_stream() && left <= DISCARDED_BYTES_MAX as u64;
        is_short.then(|| Discard { stream, bytes: 0, timer: Box::pin(sleep(DISCARD_TIME_MAX)) })
    }

    /// Drops the rest of the content. The library keeps what comes of it no more.
    pub(super) fn forget(&self) {
        let rest = self.lock().rest.take();
        drop(rest);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discard {
    /// Ready when nothing follows, or too much.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(data) = self.stream.poll_data(cx) {
            let Some(Ok(data)) = data else { return Poll::Ready(()) };
            self.bytes += data.len();
            if self.bytes > DISCARDED_BYTES_MAX {
                return Poll::Ready(());
            }
        }
        self.timer.as_mut().poll(cx)
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.handled.lock().is_asked = true;
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        Poll::Ready(match ready!(stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // An error would mean that the stream is over, which the next call says.
                let _ = stream.flow_control().release_capacity(data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            other => other.map(|data| data.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let left = self.left.unwrap_or_default();
        self.handled.lock().rest = self.stream.take().map(|stream| (stream, left));
    }
}
