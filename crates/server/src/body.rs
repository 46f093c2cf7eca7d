//! What an answer carries: a document or a stream of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use petasos_hub::Session;

/// The body of an answer.
pub struct Body(Content);

enum Content {
    Full(Bytes),
    Stream(Box<Session>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self(Content::Full(Bytes::new()))
    }

    pub(crate) fn full(content: impl Into<Bytes>) -> Self {
        Self(Content::Full(content.into()))
    }

    pub(crate) fn stream(session: Session) -> Self {
        Self(Content::Stream(Box::new(session)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Full(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream(session) => {
                session.poll_next(cx).map(|next| next.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Content::Full(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
