//! How a stream stands on a connection.

use std::{any::Any, time::Duration};

use bytes::Bytes;
use petasos_protocol::sse::{self, Frame, Remark};

use super::connection::Socket;
use crate::{
    fanout::ring::{EntryNumber, Ring},
    interest::Interest,
    stream::topics::Rendered,
};

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

/// How the events of one stream look on its connection.
#[derive(Clone, Copy)]
pub(crate) struct Rendering<'a> {
    pub(crate) framing: Framing,
    /// What decides which topics stand before an event; `None`: none do.
    pub(crate) topics_known: Option<&'a Interest>,
}

impl Rendering<'_> {
    pub(crate) fn render<'ring>(self, ring: &'ring Ring, entry: EntryNumber) -> Rendered<'ring> {
        Rendered::new(self.topics_known, ring, entry)
    }

    /// The number of bytes of an entry.
    pub(crate) fn length(self, ring: &Ring, entry: EntryNumber) -> usize {
        let rendered = self.render(ring, entry);
        let lines = rendered.lines().map_or(0, |lines| self.framing.bytes(lines).len());
        lines + self.framing.bytes(rendered.frame()).len()
    }

    /// The bytes of an entry from `from` on.
    pub(crate) fn share(self, ring: &Ring, entry: EntryNumber, from: usize) -> Bytes {
        let rendered = self.render(ring, entry);
        let frame = rendered.frame();
        let Some(lines) = rendered.lines() else { return self.framing.share(frame, from) };
        let lines = self.framing.bytes(lines);
        match from.checked_sub(lines.len()) {
            Some(from) => self.framing.share(frame, from),
            None => [&lines[from..], self.framing.bytes(frame)].concat().into(),
        }
    }
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

    /// A sign of life: the cursor, or a comment.
    pub(crate) fn sign(self, cursor: Option<&str>) -> Bytes {
        match (cursor, self) {
            (Some(id), _) => self.share(&sse::cursor(id, Remark::None), 0),
            (None, Self::Chunked) => Bytes::from_static(sse::COMMENT_CHUNK),
            (None, Self::UntilClose) => Bytes::from_static(sse::COMMENT),
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
