//! An HTTP/1.1 response, read in pieces as they arrive.
//!
//! It knows what a load tool needs: the status, where the body is and where it ends. It checks nothing else.

use memchr::{memchr, memmem};

/// A response of which a part may have arrived.
#[derive(Debug, Default)]
pub struct Response {
    stage: Stage,
    head: Vec<u8>,
    status: Option<u16>,
    closes: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Head,
    /// A body of known length.
    Sized(u64),
    /// A body that ends with the connection.
    Endless,
    /// The digits of a chunk's length so far, and whether they have ended.
    ChunkSize(u64, bool),
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// What follows the last chunk: lines, up to an empty one; whether this one is empty so far.
    Trailer(bool),
    Done,
}

/// What arrived is no HTTP/1.1 response.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// A head that is longer comes from no server that was meant.
const HEAD_BYTES_MAX: usize = 64 * 1024;

impl Response {
    /// Goes on with `bytes`, and hands each piece of the body to `body`.
    ///
    /// # Errors
    /// [`Malformed`], after which nothing more can be read.
    pub fn feed(&mut self, mut bytes: &[u8], mut body: impl FnMut(&[u8])) -> Result<(), Malformed> {
        while !bytes.is_empty() {
            let used = match self.stage {
                Stage::Head => self.feed_head(bytes)?,
                Stage::Sized(left) | Stage::Chunk(left) => {
                    let here = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body(&bytes[..here]);
                    self.stage = self.stage.after(here as u64);
                    here
                }
                Stage::Endless => {
                    body(bytes);
                    bytes.len()
                }
                _ => {
                    self.stage = self.stage.framed(bytes[0])?;
                    1
                }
            };
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// The status, once the head is here.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether all of it is here.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Whether the server closes the connection after it.
    pub fn closes(&self) -> bool {
        self.closes
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let before = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(end) = memmem::find(&self.head, b"\r\n\r\n") else {
            return if self.head.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(bytes.len()) };
        };
        let head = std::mem::take(&mut self.head);
        self.parse_head(&head[..end + 2])?;
        Ok(end + 4 - before)
    }

    fn parse_head(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let head = std::str::from_utf8(head).map_err(|_| Malformed)?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default();
        let rest = start.strip_prefix("HTTP/1.").ok_or(Malformed)?;
        let status = rest.get(2..5).and_then(|digits| digits.parse().ok()).ok_or(Malformed)?;
        self.stage = Stage::Endless;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| Malformed)?;
                self.stage = if length == 0 { Stage::Done } else { Stage::Sized(length) };
            } else if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked")
            {
                self.stage = Stage::ChunkSize(0, false);
            } else if name.eq_ignore_ascii_case("connection") {
                self.closes = value.eq_ignore_ascii_case("close");
            }
        }
        if status == 204 {
            self.stage = Stage::Done;
        }
        self.status = Some(status);
        Ok(())
    }
}

impl Stage {
    /// After so many bytes of a body.
    fn after(self, bytes: u64) -> Self {
        match self {
            Self::Sized(left) if left > bytes => Self::Sized(left - bytes),
            Self::Chunk(left) if left > bytes => Self::Chunk(left - bytes),
            Self::Chunk(_) => Self::ChunkEnd,
            _ => Self::Done,
        }
    }

    /// After one byte of what stands around chunks.
    fn framed(self, byte: u8) -> Result<Self, Malformed> {
        match (self, byte) {
            (Self::ChunkSize(0, _), b'\n') => Ok(Self::Trailer(true)),
            (Self::ChunkSize(size, _), b'\n') => Ok(Self::Chunk(size)),
            (Self::ChunkSize(size, true), _) => Ok(Self::ChunkSize(size, true)),
            // An extension, or the first half of the line end.
            (Self::ChunkSize(size, false), b';' | b' ' | b'\t' | b'\r') => Ok(Self::ChunkSize(size, true)),
            (Self::ChunkSize(size, false), _) => {
                let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                let size = size.checked_mul(16).ok_or(Malformed)?;
                Ok(Self::ChunkSize(size + u64::from(digit), false))
            }
            (Self::ChunkEnd, b'\r') => Ok(Self::ChunkEnd),
            (Self::ChunkEnd, b'\n') => Ok(Self::ChunkSize(0, false)),
            (Self::Trailer(true), b'\n') => Ok(Self::Done),
            (Self::Trailer(_), b'\n') => Ok(Self::Trailer(true)),
            (Self::Trailer(empty), b'\r') => Ok(Self::Trailer(empty)),
            (Self::Trailer(_), _) => Ok(Self::Trailer(false)),
            // After its end too: nothing is requested before the answer to the last request is here.
            _ => Err(Malformed),
        }
    }
}

/// The lines of an event stream, found in pieces of a body.
///
/// Events end at nothing here: a line of data that begins with a [`Stamp`](crate::stamp::Stamp) is an update, whatever
/// else the server writes around it. Lines end with LF or CRLF.
#[derive(Debug, Default)]
pub struct Lines {
    /// The start of a line whose end has not arrived.
    partial: Vec<u8>,
}

/// A line that says something to a load tool.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// What an `id` field holds.
    Id(&'a [u8]),
    /// What a `data` field holds; of a line in several pieces at least its first 4,096 bytes.
    Data(&'a [u8]),
}

/// What is kept of a line whose end has not arrived: more than any id. The padding of data may be megabytes.
const PARTIAL_BYTES_MAX: usize = 4_096;

impl Lines {
    /// Goes on with `bytes`, and hands each line that is complete to `visit`.
    pub fn feed(&mut self, mut bytes: &[u8], mut visit: impl FnMut(Line<'_>)) {
        if !self.partial.is_empty() {
            let end = memchr(b'\n', bytes);
            let here = &bytes[..end.unwrap_or(bytes.len())];
            let room = PARTIAL_BYTES_MAX.saturating_sub(self.partial.len()).min(here.len());
            self.partial.extend_from_slice(&here[..room]);
            let Some(end) = end else { return };
            Line::of(&self.partial).map(&mut visit);
            self.partial.clear();
            bytes = &bytes[end + 1..];
        }
        while let Some(end) = memchr(b'\n', bytes) {
            Line::of(&bytes[..end]).map(&mut visit);
            bytes = &bytes[end + 1..];
        }
        self.partial.extend_from_slice(&bytes[..bytes.len().min(PARTIAL_BYTES_MAX)]);
    }
}

impl<'a> Line<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let value = |name: &[u8]| {
            let value = line.strip_prefix(name)?;
            Some(value.strip_prefix(b" ").unwrap_or(value))
        };
        value(b"data:").map(Line::Data).or_else(|| value(b"id:").map(Line::Id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n\
        1d;name=x\r\nid: a\ndata: one\n\nid:b\r\ndata:t\r\n8\r\nwo\r\n\r\n:\n\r\n0\r\n\r\n";

    /// What is read when the response arrives in pieces of that size.
    fn read(response: &[u8], piece: usize) -> Result<(Response, Vec<u8>), Malformed> {
        let (mut parser, mut body) = (Response::default(), Vec::new());
        for bytes in response.chunks(piece) {
            parser.feed(bytes, |bytes| body.extend_from_slice(bytes))?;
        }
        Ok((parser, body))
    }

    #[test]
    fn chunks_and_lines_are_found_wherever_the_pieces_end() {
        for piece in 1..STREAM.len() + 1 {
            let (mut response, mut lines, mut found) = (Response::default(), Lines::default(), Vec::new());
            for bytes in STREAM.chunks(piece) {
                let body = |bytes: &[u8]| lines.feed(bytes, |line| found.push(format!("{line:?}")));
                response.feed(bytes, body).expect("well-formed");
            }
            let expected = [Line::Id(b"a"), Line::Data(b"one"), Line::Id(b"b"), Line::Data(b"two")];
            assert_eq!(found, expected.map(|line| format!("{line:?}")), "in pieces of {piece}");
            assert!(response.is_done() && response.status() == Some(200));
        }
    }

    #[test]
    fn a_body_has_its_length() {
        let (response, body) =
            read(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nConnection: close\r\n\r\nok", 3)
                .expect("well-formed");
        assert_eq!((response.status(), body.as_slice()), (Some(201), &b"ok"[..]));
        assert!(response.is_done() && response.closes());
        let (response, _) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", 1).expect("well-formed");
        assert!(!response.is_done() && !response.closes());
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let (response, body) = read(b"HTTP/1.0 200 OK\r\n\r\ndata: x\n\n", 5).expect("well-formed");
        assert_eq!(body, b"data: x\n\n");
        assert!(!response.is_done());
    }

    #[test]
    fn what_is_no_response_is_malformed() {
        for bad in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 2xx\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(read(bad, bad.len()).err(), Some(Malformed), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_end_of_a_long_line_is_not_kept() {
        let (mut lines, mut lengths) = (Lines::default(), Vec::new());
        for _ in 0..3 {
            lines.feed(b"data: ", |_| {});
            for _ in 0..100 {
                lines.feed(&[b'x'; 1_000], |_| {});
            }
            assert!(lines.partial.len() <= PARTIAL_BYTES_MAX);
            lines.feed(b"\n", |line| match line {
                Line::Data(data) => lengths.push(data.len()),
                Line::Id(_) => panic!("no id was sent"),
            });
        }
        assert_eq!(lengths, [PARTIAL_BYTES_MAX - 6; 3]);
    }
}
