//! The way of a stream from the HTTP library to the hub, which then writes to the socket by itself.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Version;
use petasos_hub::{Framing, Session, Socket, Wire};

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
        let framing = match version {
            Version::HTTP_10 => Framing::UntilClose,
            _ => Framing::Chunked,
        };
        let fields = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Self { framing, head: head(framing, fields), session, permit }
    }

    /// The bytes before the stream.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The same stream behind another head.
    pub(crate) fn with_head(self, framing: Framing, head: Bytes) -> Self {
        Self { framing, head, ..self }
    }

    /// The same stream on a connection that has its head already.
    pub(crate) fn without_head(self) -> Self {
        Self { head: Bytes::new(), ..self }
    }

    /// Lets the hub write the stream to a socket that does not block. `stall_max`: see [`Wire`]. `held` is dropped when the
    /// connection has ended.
    pub(crate) async fn carry(
        self,
        socket: impl Into<Socket>,
        stall_max: Option<Duration>,
        held: impl Send + 'static,
    ) {
        let Self { framing, head, session, permit } = self;
        let (socket, held) = (socket.into(), Box::new((permit, held)));
        session.carry(Wire { socket, stall_max, framing, head, held }).await;
    }
}

/// The head of a stream with these fields, and with those of its connection.
pub(crate) fn head<'a>(framing: Framing, fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Bytes {
    let status = match framing {
        Framing::UntilClose => "HTTP/1.0 200 OK\r\n",
        Framing::Chunked => "HTTP/1.1 200 OK\r\n",
    };
    let mut head = Vec::with_capacity(HEAD_BYTES_EXPECTED);
    head.extend_from_slice(status.as_bytes());
    for (name, value) in fields {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
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
    head.into()
}

/// The fields of a stream's answer with those of CORS, so that the bytes are not moved as they grow.
const HEAD_BYTES_EXPECTED: usize = 512;
