//! The bodies of requests, which are forms: read within a bound, a time and the room that all requests share.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};
use http_body_util::BodyExt;
use petasos_protocol::Reject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::{body::RequestBody, refusal::Refusal};

/// A bound for the bytes of bodies that are being read.
pub(crate) struct Room {
    /// One permit for each free byte.
    bytes: Arc<Semaphore>,
    /// Whether a body reserves its whole length first and waits for that.
    waits: bool,
}

/// The least that a body counts, however little of it has arrived: the HTTP library has a buffer of that size for each
/// body.
const BEGUN_BYTES: usize = 8 * 1024;

/// The bytes of a body. They count as long as this lives.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    #[expect(dead_code, reason = "held for its Drop")]
    room: OwnedSemaphorePermit,
}

/// Bytes of all bodies of publishers that are being read, and as many for subscribers: thirty-two of the largest bodies, or
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

    /// Reserves room for a body of that length, or for the beginning of one if it gets more as it arrives.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: the body does not wait, and there is no room.
    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        if !self.waits {
            return self.take(BEGUN_BYTES);
        }
        let bytes = bytes.clamp(BEGUN_BYTES, ROOM_BYTES) as u32;
        let held = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        held.map_err(|_| Refusal::Unavailable { request: None })
    }

    /// Adds room for a body of which so many bytes have arrived.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`]: there is no more room.
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

/// Reads the body of a request, which must be a form.
///
/// # Errors
/// [`Refusal::ContentEncoded`], [`Refusal::TransferEncoded`]; [`Refusal::Reject`] for another content type and for a body
/// that is longer than `bytes_max`; [`Refusal::BodyBroken`], [`Refusal::BodyTimeout`]; [`Refusal::Unavailable`] if there
/// is no room for it.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: impl RequestBody,
    bytes_max: usize,
    time_max: Duration,
    room: &Room,
) -> Result<Content, Refusal> {
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
        Ok(Content { bytes: content.freeze(), room: held })
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http::HeaderValue;
    use http_body::{Body, Frame};
    use http_body_util::Full;

    use super::*;

    /// A body whose length is not announced, as with the chunked coding.
    struct Chunks(Vec<Bytes>);

    impl Body for Chunks {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    const MAX: usize = 20_000;

    fn headers() -> HeaderMap {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        HeaderMap::from_iter([(header::CONTENT_TYPE, form)])
    }

    async fn read_in(room: &Room, body: impl RequestBody) -> Result<usize, Refusal> {
        read(&headers(), body, MAX, Duration::MAX, room).await.map(|content| content.bytes.len())
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_it_may_be() {
        let bytes = |length: usize| Bytes::from(vec![b'a'; length]);
        for room in [Room::for_publishers(), Room::for_subscribers()] {
            let announced = read_in(&room, Full::new(bytes(MAX))).await;
            assert!(matches!(announced, Ok(MAX)));
            let chunks = read_in(&room, Chunks(vec![bytes(MAX - 7), bytes(7)])).await;
            assert!(matches!(chunks, Ok(MAX)));
            let too_large = Reject::TooLarge { what: "the body in bytes", max: MAX };
            let announced = read_in(&room, Full::new(bytes(MAX + 1))).await;
            assert!(matches!(announced, Err(Refusal::Reject(reject)) if reject == too_large));
            let chunks = read_in(&room, Chunks(vec![bytes(MAX - 7), bytes(8)])).await;
            assert!(matches!(chunks, Err(Refusal::Reject(reject)) if reject == too_large));
            assert_eq!(room.bytes.available_permits(), ROOM_BYTES, "all room is free again");
        }
    }

    #[tokio::test]
    async fn bodies_of_subscribers_take_room_as_they_arrive_and_are_refused_without() {
        let room = Room::for_subscribers();
        let begun = ROOM_BYTES / BEGUN_BYTES;
        let mut held = Vec::new();
        for _ in 1..begun {
            held.push(room.reserve(usize::MAX).await.expect("room"));
        }
        assert_eq!(room.bytes.available_permits(), BEGUN_BYTES);
        let small = Chunks(vec![Bytes::from(vec![b'a'; BEGUN_BYTES])]);
        assert!(matches!(read_in(&room, small).await, Ok(BEGUN_BYTES)));
        let large = Chunks(vec![Bytes::from(vec![b'a'; BEGUN_BYTES + 1])]);
        assert!(matches!(read_in(&room, large).await, Err(Refusal::Unavailable { .. })));
        held.push(room.reserve(0).await.expect("room for one more"));
        assert!(matches!(room.reserve(0).await, Err(Refusal::Unavailable { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_of_publishers_wait_for_room() {
        let room = Room::for_publishers();
        let held = room.reserve(ROOM_BYTES - BEGUN_BYTES).await.expect("room");
        assert!(matches!(read_in(&room, Full::new(Bytes::from_static(b"a"))).await, Ok(1)));
        let body = || Full::new(Bytes::from(vec![b'a'; BEGUN_BYTES + 1]));
        let second = Duration::from_secs(1);
        let refused = read(&headers(), body(), MAX, second, &room).await;
        assert!(matches!(refused, Err(Refusal::BodyTimeout)), "no room in its time");
        drop(held);
        assert!(read_in(&room, body()).await.is_ok());
        // The largest body has room if there is no other.
        assert!(room.reserve(usize::MAX).await.is_ok());
    }

    #[tokio::test]
    async fn codings_and_other_types_are_refused() {
        let room = Room::for_publishers();
        let refusal = async |name: HeaderName, value: &'static str| {
            let mut headers = headers();
            headers.insert(name, HeaderValue::from_static(value));
            read(&headers, Full::new(Bytes::new()), MAX, Duration::MAX, &room).await.err()
        };
        for identity in ["identity", " Identity ,", ""] {
            assert!(refusal(header::CONTENT_ENCODING, identity).await.is_none(), "{identity}");
        }
        for coding in ["gzip", "identity, gzip", "br"] {
            let refused = refusal(header::CONTENT_ENCODING, coding).await;
            assert!(matches!(refused, Some(Refusal::ContentEncoded)), "{coding}");
        }
        assert!(refusal(header::TRANSFER_ENCODING, "Chunked").await.is_none());
        let refused = refusal(header::TRANSFER_ENCODING, "gzip, chunked").await;
        assert!(matches!(refused, Some(Refusal::TransferEncoded)));
        let utf8 = "Application/X-WWW-Form-Urlencoded ; charset=utf-8";
        assert!(refusal(header::CONTENT_TYPE, utf8).await.is_none());
        for other in ["application/json", "", "application/x-www-form-urlencoded2"] {
            let refused = refusal(header::CONTENT_TYPE, other).await;
            assert!(matches!(refused, Some(Refusal::Reject(Reject::ContentType))), "{other}");
        }
    }
}
