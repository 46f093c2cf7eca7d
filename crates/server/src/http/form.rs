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
