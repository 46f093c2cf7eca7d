//! An answer that is a stream of events, on its way from the HTTP library to the hub, which then writes it to the
//! socket.

use std::{net, time::SystemTime};

use bytes::Bytes;
use http::{Response, Version, response};
use petasos_hub::{Framing, Session, Wire};

use crate::{http::admission::Place, http::body::Body};

/// The head of the answer, and what follows it.
pub(crate) struct Stream {
    framing: Framing,
    head: Bytes,
    session: Session,
    place: Place,
}

impl Stream {
    /// From an answer to a request of that version, if it is a stream.
    #[expect(clippy::result_large_err, reason = "both are moved once, neither is an error")]
    pub(crate) fn from_response(version: Version, response: Response<Body>) -> Result<Self, Response<Body>> {
        let (parts, body) = response.into_parts();
        match body.into_stream() {
            Ok((session, place)) => Ok(Self::new(version, &parts, session, place)),
            Err(body) => Err(Response::from_parts(parts, body)),
        }
    }

    /// Lets the hub write it; `held` is dropped with the connection.
    pub(crate) async fn carry(self, socket: net::TcpStream, held: impl Send + 'static) {
        let Self { framing, head, session, place } = self;
        session.carry(Wire { socket, framing, head, held: Box::new((place, held)) }).await;
    }

    fn new(version: Version, parts: &response::Parts, session: Session, place: Place) -> Self {
        // HTTP/1.0 knows no chunks: its answer ends with the connection.
        let (framing, name) = match version {
            Version::HTTP_10 => (Framing::UntilClose, "HTTP/1.0"),
            _ => (Framing::Chunked, "HTTP/1.1"),
        };
        let mut head = format!("{name} {}\r\n", parts.status).into_bytes();
        for (name, value) in &parts.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        // The connection ends with the stream: what else was sent on it is not read.
        let date = httpdate::HttpDate::from(SystemTime::now());
        head.extend_from_slice(format!("connection: close\r\ndate: {date}\r\n").as_bytes());
        if framing == Framing::Chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Self { framing, head: head.into(), session, place }
    }
}
