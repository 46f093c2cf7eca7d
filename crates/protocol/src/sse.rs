//! Server-Sent Events, encoded so that no data of a publisher can add a field or an event.
//!
//! Section "Server-sent events" of the HTML standard. Only CR, LF and CRLF end a line: U+2028, vertical tab and form feed
//! are text.

use bytes::Bytes;

use crate::event::{EventId, EventType, Retry};

/// A comment. It shows that an idle stream is alive, and makes proxies pass on the head of an answer at once.
///
/// It is one line without a blank line behind it. A blank line ends an event: the parser of the standard drops an event
/// without data, but several client libraries deliver it as an empty message. So a comment may only stand between two
/// whole events.
pub const COMMENT: &[u8] = b":\n";

/// A chunk of HTTP/1.1's chunked coding (RFC 9112, section 7.1) with [`COMMENT`] in it.
pub const COMMENT_CHUNK: &[u8] = b"2\r\n:\n\r\n";

/// The chunk that ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// One encoded event, framed as a chunk of HTTP/1.1. [`Frame::event`] is the event without this framing. Cloning shares the
/// bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
    /// The length of the chunk's head, which stands before the event.
    head: usize,
}

impl Frame {
    /// Frames an event that was encoded before.
    pub(crate) fn new(event: &[u8]) -> Self {
        let mut out = Vec::with_capacity(CHUNK_HEAD_MAX + event.len() + CHUNK_END.len());
        out.resize(CHUNK_HEAD_MAX, 0);
        out.extend_from_slice(event);
        Self::finish(out)
    }

    /// Frames the event that stands in `out` behind room for the head of the chunk. The head holds the length of the event,
    /// so it is written last, directly before the event.
    fn finish(mut out: Vec<u8>) -> Self {
        let head = format!("{:x}\r\n", out.len() - CHUNK_HEAD_MAX);
        let start = CHUNK_HEAD_MAX - head.len();
        out[start..CHUNK_HEAD_MAX].copy_from_slice(head.as_bytes());
        out.extend_from_slice(CHUNK_END);
        Self { chunk: Bytes::from(out).slice(start..), head: head.len() }
    }

    /// The event without the framing, shared.
    pub fn event(&self) -> Bytes {
        self.chunk.slice(self.head..self.chunk.len() - CHUNK_END.len())
    }

    /// The event without the framing.
    pub fn event_bytes(&self) -> &[u8] {
        &self.chunk[self.head..self.chunk.len() - CHUNK_END.len()]
    }

    /// The event as a chunk.
    pub fn chunk(&self) -> &Bytes {
        &self.chunk
    }

    /// The length of the chunk in bytes.
    pub(crate) fn len(&self) -> usize {
        self.chunk.len()
    }
}

const CHUNK_END: &[u8] = b"\r\n";

/// Room for the longest head: sixteen hexadecimal digits and a line end.
const CHUNK_HEAD_MAX: usize = 18;

/// Encodes one event: the fields `event` and `retry` if they are given, `id`, and one field `data` for each line of `data`.
///
/// A receiver joins the lines by LF, so that CR and CRLF arrive as LF. Empty data becomes one empty field, without which
/// browsers would drop the event.
///
/// ```
/// use petasos_protocol::{event::EventId, sse};
/// let id = EventId::from_uuid("e1ee88e2-532a-4d6f-ba70-f0f8bd584022");
/// let event = sse::encode(&id, None, None, "a\r\nb");
/// assert_eq!(&event.event()[..], b"id: urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022\ndata: a\ndata: b\n\n");
/// assert_eq!(&event.chunk()[..], b"43\r\nid: urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022\ndata: a\ndata: b\n\n\r\n");
/// ```
pub fn encode(id: &EventId, event_type: Option<&EventType>, retry: Option<Retry>, data: &str) -> Frame {
    let mut out = Vec::with_capacity(CHUNK_HEAD_MAX + data.len() + id.as_str().len() + 64);
    out.resize(CHUNK_HEAD_MAX, 0);
    if let Some(event_type) = event_type {
        field(&mut out, "event", event_type.as_str());
    }
    field(&mut out, "id", id.as_str());
    if let Some(retry) = retry {
        field(&mut out, "retry", &retry.millis().to_string());
    }
    let mut rest = data;
    loop {
        // Both are ASCII, so the position is a boundary of characters.
        match memchr::memchr2(b'\r', b'\n', rest.as_bytes()) {
            Some(end) => {
                field(&mut out, "data", &rest[..end]);
                let line_end = if rest[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = &rest[end + line_end..];
            }
            None => {
                field(&mut out, "data", rest);
                break;
            }
        }
    }
    out.push(b'\n');
    Frame::finish(out)
}

/// An event behind the lines that name its topics, one field `topic` for each: for clients that carry several subscriptions
/// over one stream. The standard's parser skips a field that it does not know.
///
/// ```
/// use petasos_protocol::{event::EventId, sse};
/// let event = sse::encode(&EventId::from_uuid("1"), None, None, "x");
/// let lines = sse::topic_lines(["a", "b"]);
/// assert_eq!(&sse::with_topics(&lines, &event).event()[..], b"topic: a\ntopic: b\nid: urn:uuid:1\ndata: x\n\n");
/// ```
pub fn with_topics(lines: &Frame, event: &Frame) -> Frame {
    let (lines, event) = (lines.event_bytes(), event.event_bytes());
    let mut out = Vec::with_capacity(CHUNK_HEAD_MAX + lines.len() + event.len() + CHUNK_END.len());
    out.resize(CHUNK_HEAD_MAX, 0);
    out.extend_from_slice(lines);
    out.extend_from_slice(event);
    Frame::finish(out)
}

/// The lines of [`with_topics`] without the event, in the order of the topics. A topic holds no line end.
pub fn topic_lines<'a>(topics: impl IntoIterator<Item = &'a str>) -> Frame {
    let mut out = vec![0; CHUNK_HEAD_MAX];
    for topic in topics {
        field(&mut out, "topic", topic);
    }
    Frame::finish(out)
}

/// The beginning of a stream: the time that a client waits before it connects again, and the id of [`cursor`]. Without
/// either, a comment.
///
/// The field `retry` takes effect as soon as its line has come. So no blank line follows it, which some client libraries
/// would deliver as an empty message.
///
/// ```
/// use petasos_protocol::{event::Retry, sse::{self, Remark}};
/// let opening = sse::opening(Some(Retry::from_millis(2_900)), Some(("urn:uuid:1", Remark::None)));
/// assert_eq!(&opening.event()[..], b"retry: 2900\nevent: petasos-cursor\nid: urn:uuid:1\ndata: \n\n");
/// assert_eq!(&sse::opening(Some(Retry::from_millis(2_900)), None).event()[..], b"retry: 2900\n");
/// assert_eq!(&sse::opening(None, None).event()[..], sse::COMMENT);
/// ```
pub fn opening(retry: Option<Retry>, cursor: Option<(&str, Remark)>) -> Frame {
    let mut out = vec![0; CHUNK_HEAD_MAX];
    if let Some(retry) = retry {
        field(&mut out, "retry", &retry.millis().to_string());
    }
    match cursor {
        Some((id, remark)) => name_cursor(&mut out, id, remark),
        None if retry.is_none() => out.extend_from_slice(COMMENT),
        None => {}
    }
    Frame::finish(out)
}

/// An event that only names the cursor with which a browser comes back. `id` is an [`EventId`] or `earliest`.
///
/// Its type is [`CURSOR_TYPE`], so a page hears nothing of it unless it listens for that type. By the
/// HTML standard (section "Interpreting an event stream") the field `id` alone would do, and Chromium takes that; Firefox
/// and WebKit take an id only from an event that they dispatch. Client libraries that hand every event to one function
/// deliver this one, too. So it is for browsers and for clients that ask for it.
///
/// ```
/// use petasos_protocol::sse::{self, Remark};
/// let event = sse::cursor("urn:uuid:1", Remark::None).event();
/// assert_eq!(&event[..], b"event: petasos-cursor\nid: urn:uuid:1\ndata: \n\n");
/// let event = sse::cursor("urn:uuid:1", Remark::Live).event();
/// assert_eq!(&event[..], b"event: petasos-cursor\nid: urn:uuid:1\ndata: live\n\n");
/// ```
pub fn cursor(id: &str, remark: Remark) -> Frame {
    let mut out = vec![0; CHUNK_HEAD_MAX];
    name_cursor(&mut out, id, remark);
    Frame::finish(out)
}

/// What an event of [`cursor`] says beside the cursor, in its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remark {
    /// Nothing.
    None,
    /// The first event of a stream that names topics: the hub has understood that it was asked to.
    Multiplex,
    /// Everything that the stream had to replay has come. What follows is new.
    Live,
}

fn name_cursor(out: &mut Vec<u8>, id: &str, remark: Remark) {
    field(out, "event", CURSOR_TYPE);
    field(out, "id", id);
    field(
        out,
        "data",
        match remark {
            Remark::None => "",
            Remark::Multiplex => "multiplex",
            Remark::Live => "live",
        },
    );
    out.push(b'\n');
}

/// The type of the events that [`cursor`] makes.
pub const CURSOR_TYPE: &str = "petasos-cursor";

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Limits;

    fn id() -> EventId {
        EventId::from_uuid("e1ee88e2-532a-4d6f-ba70-f0f8bd584022")
    }

    fn event(data: &str) -> String {
        String::from_utf8(encode(&id(), None, None, data).event().to_vec()).expect("UTF-8")
    }

    #[test]
    fn data_splits_on_cr_lf_and_crlf_only() {
        assert!(event("a\nb\rc\r\nd").ends_with("data: a\ndata: b\ndata: c\ndata: d\n\n"));
        assert!(event("a\n\rb").ends_with("data: a\ndata: \ndata: b\n\n"));
        assert!(event("a\u{2028}b\u{b}c\u{c}d\u{85}e").ends_with("data: a\u{2028}b\u{b}c\u{c}d\u{85}e\n\n"));
    }

    #[test]
    fn empty_data_and_trailing_line_ends_are_kept() {
        assert!(event("").ends_with("022\ndata: \n\n"));
        assert!(event("a\n").ends_with("data: a\ndata: \n\n"));
    }

    #[test]
    fn all_fields_are_written() {
        let event_type = EventType::parse("price", &Limits::default()).expect("valid");
        let retry = Retry::parse("2500").expect("valid");
        let event = encode(&id(), Some(&event_type), Some(retry), "x");
        assert_eq!(
            &event.event()[..],
            b"event: price\nid: urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022\nretry: 2500\ndata: x\n\n"
        );
    }

    #[test]
    fn the_chunk_says_how_long_the_event_is() {
        for length in [0, 1, 200, 250, 4_000, 70_000] {
            let frame = encode(&id(), None, None, &"x".repeat(length));
            let text = std::str::from_utf8(frame.chunk()).expect("UTF-8");
            let (size, rest) = text.split_once("\r\n").expect("a head");
            let event = frame.event();
            assert_eq!(usize::from_str_radix(size, 16), Ok(event.len()));
            assert_eq!(rest.as_bytes(), [&event[..], b"\r\n"].concat());
        }
    }

    /// A parser straight from the standard, for one complete event.
    fn parse(event: &str) -> Vec<(String, String)> {
        let body = event.strip_suffix("\n\n").expect("ends with a blank line");
        let lines = body.replace("\r\n", "\n").replace('\r', "\n");
        let pairs = lines.split('\n').map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.strip_prefix(' ').unwrap_or(value).to_owned())
        });
        pairs.collect()
    }

    proptest! {
        #[test]
        fn whatever_the_data_the_receiver_reads_it_back(data in "(.|\n|\r|\r\n|data: |id: |event: |:){0,40}") {
            let fields = parse(&event(&data));
            prop_assert_eq!(&fields[0].0, "id");
            prop_assert!(fields[1..].iter().all(|(name, _)| name == "data"));
            let received: Vec<_> = fields[1..].iter().map(|(_, value)| value.as_str()).collect();
            prop_assert_eq!(received.join("\n"), data.replace("\r\n", "\n").replace('\r', "\n"));
        }
    }
}
