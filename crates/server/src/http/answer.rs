//! The answer to a request: whole, or the opening of a stream.

use std::time::Duration;

use http::{HeaderMap, Response};
use petasos_hub::Session;

use crate::http::{admission::StreamPermit, body::Body};

/// The answer to a request.
pub(crate) enum Answer {
    /// A response with its body.
    Whole(Response<Body>),
    /// A stream of events. The connection decides what carries it: the hub itself, or the HTTP library.
    Stream(Opening),
}

/// A stream that begins: the header fields of its answer, whose status is 200, and what follows them.
pub(crate) struct Opening {
    pub(crate) headers: HeaderMap,
    pub(crate) session: Session,
    /// Held as long as the stream is open.
    pub(crate) permit: StreamPermit,
}

/// How long before its token expires a stream ends by itself. A peer that does not read may still miss that end, so its
/// connection is closed at the expiry.
pub(crate) const GRACE: Duration = Duration::from_millis(250);

impl Answer {
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        match self {
            Self::Whole(response) => response.headers_mut(),
            Self::Stream(opening) => &mut opening.headers,
        }
    }

    /// The answer for an HTTP library, which polls the body of a stream.
    pub(crate) fn into_response(self) -> Response<Body> {
        match self {
            Self::Whole(response) => response,
            Self::Stream(opening) => opening.into_response(),
        }
    }
}

impl Opening {
    /// The stream for an HTTP library, which polls its body.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::stream(self.session, self.permit));
        *response.headers_mut() = self.headers;
        response
    }
}
