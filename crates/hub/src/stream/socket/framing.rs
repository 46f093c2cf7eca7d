//! How a stream stands on a connection.

use std::{any::Any, time::Duration};

use bytes::Bytes;
use petasos_protocol::sse::{self, Frame};

use super::connection::Socket;

/// A connection that is ready to carry a stream: the request has been read, and nothing of the answer is out.
pub struct Wire {
    /// The connection, which must not block. Nothing else may write to it.
    pub socket: Socket,
    /// How long the peer may take nothing of what is unsent before the connection is closed, to twice that time. `None`: the
    /// system watches over that, as Linux does with `TCP_USER_TIMEOUT`.
    pub stall_max: Option<Duration>,
    /// How events are framed.
    pub framing: Framing,
    /// The head of the answer, which goes first.
    pub head: Bytes,
    /// Dropped when the connection is over.
    pub held: Box<dyn Any + Send>,
}

/// How a stream is framed on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each event is a chunk of HTTP/1.1's chunked coding (RFC 9112, section 7.1), and the stream ends with the last chunk.
    Chunked,
    /// Events stand as they are, and the stream ends with the connection.
    UntilClose,
}

impl Framing {
    pub(crate) fn bytes(self, frame: &Frame) -> &[u8] {
        match self {
            Self::Chunked => frame.chunk(),
            Self::UntilClose => frame.event_bytes(),
        }
    }

    /// The bytes of a frame from `from` on, shared with it.
    pub(crate) fn share(self, frame: &Frame, from: usize) -> Bytes {
        match self {
            Self::Chunked => frame.chunk().slice(from..),
            Self::UntilClose => frame.event().slice(from..),
        }
    }

    pub(crate) fn comment(self) -> &'static [u8] {
        match self {
            Self::Chunked => sse::COMMENT_CHUNK,
            Self::UntilClose => sse::COMMENT,
        }
    }

    /// What ends a stream, before its connection ends.
    pub(crate) fn last(self) -> &'static [u8] {
        match self {
            Self::Chunked => sse::LAST_CHUNK,
            Self::UntilClose => b"",
        }
    }
}
