//! The way of a stream from the HTTP library to the hub, which then writes to the socket by itself.

use std::{net, time::SystemTime};

use bytes::Bytes;
use http::Version;
use petasos_hub::{Framing, Session, Wire};

use crate::http::{admission::StreamPermit, answer::Opening};

/// A stream that leaves the HTTP library: the bytes of its head, and what follows them.
pub(crate) struct Handover {
    framing: Framing,
    head: Bytes,
    session: Session,
    permit: StreamPermit,
}

impl Handover {
    /// For the answer to a request of that version.
    pub(crate) fn new(version: Version, opening: Opening) -> Self {
        let Opening { headers, session, permit } = opening;
        // HTTP/1.0 knows no chunks: its answer ends with the connection.
        let (framing, status) = match version {
            Version::HTTP_10 => (Framing::UntilClose, "HTTP/1.0 200 OK\r\n"),
            _ => (Framing::Chunked, "HTTP/1.1 200 OK\r\n"),
        };
        let mut head = Vec::with_capacity(HEAD_BYTES_EXPECTED);
        head.extend_from_slice(status.as_bytes());
        for (name, value) in &headers {
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
        Self { framing, head: head.into(), session, permit }
    }

    /// Lets the hub write the stream to a socket that does not block. `held` is dropped when the connection has ended.
    pub(crate) async fn carry(self, socket: net::TcpStream, held: impl Send + 'static) {
        let Self { framing, head, session, permit } = self;
        session.carry(Wire { socket, framing, head, held: Box::new((permit, held)) }).await;
    }
}

/// The fields of a stream's answer with those of CORS, so that the bytes are not moved as they grow.
const HEAD_BYTES_EXPECTED: usize = 512;
