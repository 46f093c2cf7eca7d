//! The bodies of answers, which are documents, whole or in pieces, or streams of events; and the bodies of requests.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use petasos_hub::{Session, TransportError};
use petasos_protocol::Reject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{http::admission::Place, http::listing::Pieces, http::refusal::Refusal};

/// The body of an answer.
pub struct Body(Content);

enum Content {
    Full(Bytes),
    Pieces(Pieces),
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

    pub(crate) fn pieces(pieces: Pieces) -> Self {
        Self(Content::Pieces(pieces))
    }

    /// The stream, if it is one.
    pub(crate) fn into_stream(self) -> Result<(Session, Place), Self> {
        match self.0 {
            Content::Stream(stream) => Ok(*stream),
            content => Err(Self(content)),
        }
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

/// The body of a request, from wherever requests come.
pub trait RequestBody:
    http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}

impl<B> RequestBody for B where
    B: http_body::Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send
{
}

/// A bound for the bytes of bodies that are being read.
pub(crate) struct Room {
    /// One permit for each free byte.
    bytes: Arc<Semaphore>,
    /// Whether a body reserves its whole length first and waits for that.
    waits: bool,
}

/// The least that a body counts, however little of it has arrived: the HTTP library has a buffer of that size for each.
const BEGUN_BYTES: usize = 8 * 1024;

/// A body, and its permits for as long as it lives.
pub(crate) struct Form {
    pub(crate) bytes: Bytes,
    #[expect(dead_code, reason = "held for its Drop")]
    room: OwnedSemaphorePermit,
}

/// Bytes of publishers' bodies that are being read, and as many of subscribers' bodies: thirty-two of the largest, or
/// 4,096 ordinary ones.
const ROOM_BYTES: usize = 32 * 1024 * 1024;

impl Room {
    /// For publishers, whose tokens have been verified: a body waits until there is room for all of it.
    pub(crate) fn for_publishers() -> Self {
        Self { bytes: Arc::new(Semaphore::new(ROOM_BYTES)), waits: true }
    }

    /// For subscribers, which may be anonymous and announce more bytes than they send: only bytes that have arrived
    /// count, [`BEGUN_BYTES`] at least, and a body that finds no more room is refused.
    pub(crate) fn for_subscribers() -> Self {
        Self { waits: false, ..Self::for_publishers() }
    }

    /// Room for a body of that length, or for the beginning of one if more can be had as it arrives.
    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        if !self.waits {
            return self.take(BEGUN_BYTES);
        }
        let bytes = bytes.clamp(BEGUN_BYTES, ROOM_BYTES) as u32;
        let held = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        held.map_err(|_| Refusal::Unavailable { request: None })
    }

    /// Adds room for a body of which so many bytes have arrived.
    fn extend(&self, held: &mut OwnedSemaphorePermit, arrived: usize) -> Result<(), Refusal> {
        let more = arrived.saturating_sub(held.num_permits());
        if !self.waits && more > 0 {
            held.merge(self.take(more)?);
        }
        Ok(())
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let held = Arc::clone(&self.bytes).try_acquire_many_owned(bytes as u32);
        held.map_err(|_| Refusal::Unavailable { request: None })
    }
}

/// The whole body of a request that must be a form, within its limit, its time and the free room.
pub(crate) async fn form(
    headers: &HeaderMap,
    body: impl RequestBody,
    bytes_max: usize,
    time_max: Duration,
    room: &Room,
) -> Result<Form, Refusal> {
    // No body is decompressed: a small one could hold a large form.
    if has_coding_beside(headers, &header::CONTENT_ENCODING, b"identity") {
        return Err(Refusal::ContentEncoded);
    }
    if has_coding_beside(headers, &header::TRANSFER_ENCODING, b"chunked") {
        return Err(Refusal::TransferEncoded);
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
    let collecting = Box::pin(async move {
        let mut body = Box::pin(body);
        let length = body.size_hint().exact().map_or(bytes_max, |length| length as usize);
        let mut held = room.reserve(length).await?;
        let mut content = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::BodyBroken)?.into_data() else { continue };
            if content.len() + data.len() > bytes_max {
                return Err(too_large());
            }
            room.extend(&mut held, content.len() + data.len())?;
            content.extend_from_slice(&data);
        }
        Ok(Form { bytes: content.freeze(), room: held })
    });
    tokio::time::timeout(time_max, collecting).await.unwrap_or(Err(Refusal::BodyTimeout))
}

/// Whether a field that lists codings names another than this one. Names of codings have no case (RFC 9110, section 8.4.1).
fn has_coding_beside(headers: &HeaderMap, field: &HeaderName, plain: &[u8]) -> bool {
    let values = headers.get_all(field).iter();
    let codings =
        values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    codings.filter(|coding| !coding.is_empty()).any(|coding| !coding.eq_ignore_ascii_case(plain))
}
