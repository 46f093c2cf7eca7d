//! What an answer carries: a document or a stream of events.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use petasos_hub::Session;
use petasos_protocol::Reject;

use crate::{admission::Place, refusal::Refusal};

/// The body of an answer.
pub struct Body(Content);

enum Content {
    Full(Bytes),
    Stream(Box<(Session, Place)>),
}

impl Body {
    pub(crate) fn empty() -> Self {
        Self(Content::Full(Bytes::new()))
    }

    pub(crate) fn full(content: impl Into<Bytes>) -> Self {
        Self(Content::Full(content.into()))
    }

    pub(crate) fn stream(session: Session, place: Place) -> Self {
        Self(Content::Stream(Box::new((session, place))))
    }

    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.0, Content::Stream(_))
    }

    /// The stream, if it is one.
    pub(crate) fn into_stream(self) -> Result<(Session, Place), Self> {
        match self.0 {
            Content::Stream(stream) => Ok(*stream),
            content @ Content::Full(_) => Err(Self(content)),
        }
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
            Content::Stream(_) => SizeHint::default(),
        }
    }
}

/// The body of a request, from wherever requests come.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}

impl<B> RequestBody for B where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}

/// The whole body of a request that must be a form, within its limit and its time.
pub(crate) async fn form(
    headers: &HeaderMap,
    body: impl RequestBody,
    bytes_max: usize,
    time_max: Duration,
) -> Result<Bytes, Refusal> {
    // Compressed, a small body may hold a large form: none is decoded here.
    let codings = headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut codings = codings.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty());
    if codings.any(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::ContentEncoded);
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Reject::ContentType.into());
    }
    let too_large = || Refusal::Reject(Reject::TooLarge { what: "the body in bytes", max: bytes_max });
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let collecting = Box::pin(Limited::new(body, bytes_max).collect());
    match tokio::time::timeout(time_max, collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodyTimeout),
    }
}
