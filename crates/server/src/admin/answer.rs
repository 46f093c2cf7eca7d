//! The answers of the operators' port.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// An answer of the operators' port.
pub type AdminAnswer = Response<Full<Bytes>>;

/// An answer in plain text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> AdminAnswer {
    document(status, "text/plain; charset=utf-8", text)
}

/// An answer of that type.
pub(crate) fn document(
    status: StatusCode,
    content_type: &'static str,
    content: impl Into<Bytes>,
) -> AdminAnswer {
    let mut answer = Response::new(Full::new(content.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
