//! GET and HEAD on the protected resource metadata: section "Protected Resource Metadata", RFC 9728.

use http::{HeaderValue, Response, header};
use petasos_protocol::discovery::Metadata;

use crate::http::body::Body;

/// The document, the same for all clients.
pub(crate) fn answer(metadata: &Metadata, with_body: bool) -> Response<Body> {
    let body = if with_body { Body::full(metadata.document()) } else { Body::empty() };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
