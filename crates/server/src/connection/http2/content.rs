//! The content of a request, as its handler reads it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};

/// The content of one request. The peer may send as much again as has been read.
pub(super) struct Content {
    stream: RecvStream,
    /// Bytes that have not been read, if the peer has said how many there are.
    left: Option<u64>,
    /// Set when the handler begins to read.
    asked: Arc<AtomicBool>,
}

impl Content {
    /// `asked` becomes true when somebody reads it.
    pub(super) fn new(stream: RecvStream, headers: &HeaderMap, asked: Arc<AtomicBool>) -> Self {
        let length =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Self { stream, left, asked }
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.asked.store(true, Ordering::Relaxed);
        Poll::Ready(match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                // An error would mean that the stream is over, which the next call says.
                let _ = self.stream.flow_control().release_capacity(data.len());
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Some(Ok(Frame::data(data)))
            }
            other => other.map(|data| data.map(Frame::data)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
