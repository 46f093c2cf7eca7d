//! The head of an answer: from what handlers know to fields.

use std::time::SystemTime;

use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as _;

use super::hpack::encoder;
use crate::http::body::Body;

/// Appends the fields of a head.
pub(super) fn encode(head: &mut Vec<u8>, status: StatusCode, headers: &http::HeaderMap) {
    encoder::field(head, ":status", status.as_str().as_bytes());
    for (name, value) in headers {
        encoder::field(head, name.as_str(), value.as_bytes());
    }
}

/// Adds what every answer has, and removes what only HTTP/1.1 has (RFC 9113, section 8.2.2).
pub(super) fn complete(response: &mut Response<Body>, is_head: bool) {
    let length = response.body().size_hint().exact();
    let has_length = !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    headers.remove(header::CONNECTION);
    headers.entry(header::DATE).or_insert_with(|| {
        let date = httpdate::HttpDate::from(SystemTime::now()).to_string();
        HeaderValue::try_from(date).unwrap_or_else(|_| HeaderValue::from_static(""))
    });
    // The answer to HEAD has no body, which says nothing about the answer to GET.
    if let Some(length) = length.filter(|length| has_length && (*length > 0 || !is_head)) {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}
