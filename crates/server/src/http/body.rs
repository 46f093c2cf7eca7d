//! The bodies of answers: documents, whole or in pieces, and streams of events.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use petasos_hub::{Session, TransportError, Writer};
use tokio::time::Instant;

use crate::http::{admission::StreamPermit, listing::Pieces};

/// The body of an answer.
pub struct Body(Content);

enum Content {
    Full(Bytes),
    Pieces(Pieces),
    Stream(Box<(Session, StreamPermit)>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self(Content::Full(Bytes::new()))
    }

    pub(crate) fn full(content: impl Into<Bytes>) -> Self {
        Self(Content::Full(content.into()))
    }

    /// The permit is held until the body is dropped.
    pub(crate) fn stream(session: Session, permit: StreamPermit) -> Self {
        Self(Content::Stream(Box::new((session, permit))))
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.0, Content::Stream(_))
    }

    /// See [`Session::write_through`].
    pub(crate) fn write_through(&self, writer: impl FnOnce() -> Box<dyn Writer>) {
        if let Content::Stream(stream) = &self.0 {
            stream.0.write_through(writer);
        }
    }

    /// When a stream of events ends at the latest.
    pub(crate) fn close_at(&self) -> Option<Instant> {
        match &self.0 {
            Content::Stream(stream) => stream.0.close_at(),
            Content::Full(_) | Content::Pieces(_) => None,
        }
    }

    /// The peer has taken nothing for the write time-out.
    pub(crate) fn time_out(&mut self) {
        if let Content::Stream(stream) = &mut self.0 {
            stream.0.time_out();
        }
    }

    pub(crate) fn pieces(pieces: Pieces) -> Self {
        Self(Content::Pieces(pieces))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    /// The document breaks off. HTTP/1.1 shows this to the client: the last chunk is missing.
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        match &mut self.0 {
            Content::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Pieces(pieces) => {
                pieces.poll_next(cx).map(|next| next.map(|piece| piece.map(Frame::data)))
            }
            Content::Stream(stream) => {
                stream.0.poll_next(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces(_) | Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// The body of a request, of any HTTP library.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}

impl<B> RequestBody for B where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}
