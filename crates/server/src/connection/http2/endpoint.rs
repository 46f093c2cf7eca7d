//! What one side of a connection says and hears (RFC 9113), without its socket and without its time.
//!
//! Bytes of the peer go in, requests come out; what is to be sent lies in [`Outbound`]. An error of the peer ends its stream,
//! or the connection with the [`ErrorCode`] that a function returns.

use std::{
    collections::VecDeque,
    io,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, StatusCode};

use super::{
    content::Content,
    faults::Faults,
    field_block::{FieldBlock, FieldBlocks, check_priority},
    frame::{self, ErrorCode, Header, PAYLOAD_BYTES_MAX, flag, kind, setting},
    hpack::{dynamic_table, encoder},
    inbound::{Frame, Inbound},
    outbound::Outbound,
    request::{HEAD_BYTES_MAX, Parsed},
    response,
    streams::{Stream, Streams},
    turns::Turns,
    window::{INITIAL_BYTES, ReceiveWindow, STREAM_BYTES, SendWindow},
};

/// One side of a connection.
pub(super) struct Endpoint {
    inbound: Inbound,
    pub(super) outbound: Outbound,
    blocks: FieldBlocks,
    streams: Streams,
    /// Requests that nobody has taken yet.
    requests: VecDeque<(u32, Box<Request<()>>)>,
    /// The lengths of the heads of requests that are not answered.
    head_bytes: usize,
    /// What the peer takes on all streams together.
    send_window: SendWindow,
    /// What it may send on all streams together.
    receive_window: ReceiveWindow,
    turns: Turns,
    /// Frames of content that were sent.
    frames_sent: u64,
    /// The peer waits for the size of the table that the hub uses.
    owes_table_size: bool,
    leaving: Leaving,
    /// The peer opens no more streams.
    peer_leaves: bool,
    has_failed: bool,
    /// The peer has taken nothing for the write time-out.
    has_timed_out: bool,
    faults: Faults,
}

/// Whether the peer is told to open no more streams.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// It is told so. Streams that it has opened before it knows are answered.
    Said,
    /// It knows. This stream is the last that is answered.
    Known(u32),
}

/// Requests that a peer may have open at once. A page with some dozen streams fits, and a proxy that carries many clients on
/// one connection opens another: RFC 9113 asks for 100 at least, so such proxies know how to.
const STREAMS_MAX: usize = 250;

/// What the heads of requests that are not answered may come to. All that may be open fit with four kilobytes each. A head takes
/// few bytes on its way if the peer has sent its like before.
const HEADS_BYTES_MAX: usize = 1024 * 1024;

/// What the peer says again, so that it is known when it has heard what was said before.
const DRAIN_PING: [u8; 8] = *b"petasos?";

impl Endpoint {
    /// For a peer of which nothing has come yet.
    pub(super) fn new(now: Instant) -> Self {
        let receive_window = ReceiveWindow::of_connection(STREAMS_MAX);
        let mut outbound = Outbound::default();
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, STREAMS_MAX as u32),
            (setting::INITIAL_WINDOW_SIZE, STREAM_BYTES as u32),
            (setting::MAX_HEADER_LIST_SIZE, HEAD_BYTES_MAX as u32),
        ];
        frame::append_settings(outbound.bytes(), &settings);
        frame::append_window_update(outbound.bytes(), 0, receive_window.beyond_initial());
        Self {
            inbound: Inbound::new(now),
            outbound,
            blocks: FieldBlocks::new(),
            streams: Streams::new(),
            requests: VecDeque::new(),
            head_bytes: 0,
            send_window: SendWindow::new(INITIAL_BYTES),
            receive_window,
            turns: Turns::default(),
            frames_sent: 0,
            owes_table_size: false,
            leaving: Leaving::No,
            peer_leaves: false,
            has_failed: false,
            has_timed_out: false,
            faults: Faults::default(),
        }
    }

    /// Takes bytes of the peer.
    ///
    /// # Errors
    /// If it breaks the rules, or asks for too much.
    pub(super) fn receive(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), ErrorCode> {
        let mut has_completed = false;
        loop {
            let is_first = !self.inbound.has_begun();
            let Some(Frame { header, payload }) = self.inbound.next(&mut bytes)? else { break };
            if is_first && (header.kind != kind::SETTINGS || header.has(flag::ACK)) {
                return Err(ErrorCode::ProtocolError);
            }
            self.take(header, &payload)?;
            has_completed |= !self.blocks.is_open();
        }
        self.inbound.settle(self.blocks.is_open(), has_completed, now);
        Ok(())
    }

    fn take(&mut self, header: Header, payload: &[u8]) -> Result<(), ErrorCode> {
        if !self.blocks.allow(header) {
            return Err(ErrorCode::ProtocolError);
        }
        let belongs_to_stream = matches!(
            header.kind,
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::CONTINUATION
        );
        let belongs_to_connection = matches!(header.kind, kind::SETTINGS | kind::PING | kind::GOAWAY);
        if belongs_to_stream && header.stream == 0 || belongs_to_connection && header.stream != 0 {
            return Err(ErrorCode::ProtocolError);
        }
        match header.kind {
            kind::DATA => self.data(header, payload),
            kind::HEADERS => {
                let block = self.blocks.headers(header, payload)?;
                block.map_or(Ok(()), |block| self.field_block(block))
            }
            kind::CONTINUATION => {
                let block = self.blocks.continuation(header, payload)?;
                block.map_or(Ok(()), |block| self.field_block(block))
            }
            kind::PRIORITY => check_priority(header.stream, payload),
            kind::RST_STREAM => self.rst_stream(header.stream, payload),
            kind::SETTINGS => self.settings(header, payload),
            // Clients push nothing.
            kind::PUSH_PROMISE => Err(ErrorCode::ProtocolError),
            kind::PING => self.ping(header, payload),
            kind::GOAWAY if payload.len() < 8 => Err(ErrorCode::FrameSizeError),
            kind::GOAWAY => {
                self.peer_leaves = true;
                Ok(())
            }
            kind::WINDOW_UPDATE => self.window_update(header.stream, payload),
            // To be ignored (section 4.1).
            _ => Ok(()),
        }
    }

    /// The head of a request has come, or what stands behind its content.
    fn field_block(&mut self, block: FieldBlock) -> Result<(), ErrorCode> {
        let id = block.stream;
        if let Some(stream) = self.streams.get_mut(id) {
            if stream.content.is_ended() {
                return self.refuse(id, ErrorCode::StreamClosed);
            }
            if !block.ends_stream || !block.fields.are_trailers() {
                return self.refuse(id, ErrorCode::ProtocolError);
            }
            return self.content_ended(id);
        }
        if id.is_multiple_of(2) {
            return Err(ErrorCode::ProtocolError);
        }
        if id <= self.streams.last() {
            if !self.streams.is_ignored(id) {
                return Err(ErrorCode::StreamClosed);
            }
            if block.ends_stream {
                self.streams.forget(id);
            }
            return Ok(());
        }
        self.streams.begin(id);
        self.open(block)
    }

    fn open(&mut self, block: FieldBlock) -> Result<(), ErrorCode> {
        let FieldBlock { stream: id, ends_stream, fields } = block;
        let head_bytes = fields.bytes();
        if matches!(self.leaving, Leaving::Known(_)) {
            self.ignore(id, ends_stream);
            return Ok(());
        }
        if self.streams.count() >= STREAMS_MAX || self.head_bytes + head_bytes > HEADS_BYTES_MAX {
            frame::append_reset(self.outbound.bytes(), id, ErrorCode::RefusedStream);
            self.ignore(id, ends_stream);
            return Ok(());
        }
        match fields.finish(!ends_stream) {
            Parsed::Request(request, length) => {
                self.head_bytes += head_bytes;
                self.streams.open(id, head_bytes, !ends_stream, length);
                self.requests.push_back((id, request));
                Ok(())
            }
            Parsed::Refused(status) => {
                self.append_head(id, status, &HeaderMap::new(), true);
                if !ends_stream {
                    frame::append_reset(self.outbound.bytes(), id, ErrorCode::NoError);
                }
                self.ignore(id, ends_stream);
                Ok(())
            }
            Parsed::Malformed => {
                frame::append_reset(self.outbound.bytes(), id, ErrorCode::ProtocolError);
                self.ignore(id, ends_stream);
                self.faults.error()
            }
        }
    }

    /// What follows of a stream that is not open is to be ignored.
    fn ignore(&mut self, id: u32, has_ended: bool) {
        if !has_ended {
            self.streams.ignore(id);
        }
    }

    fn data(&mut self, header: Header, payload: &[u8]) -> Result<(), ErrorCode> {
        let id = header.stream;
        let ends_stream = header.has(flag::END_STREAM);
        if !self.receive_window.spend(payload.len()) {
            return Err(ErrorCode::FlowControlError);
        }
        let data = frame::without_padding(header, payload)?;
        self.faults.content(data.is_empty() && !ends_stream)?;
        let Some(stream) = self.streams.get_mut(id) else { return self.late_data(header, payload.len()) };
        match stream.content.receive(payload.len(), data, ends_stream) {
            Ok(needless) => {
                stream.wake();
                // Padding is read by nobody.
                self.give_back(id, payload.len() - data.len());
                self.give_back_to_connection(needless);
            }
            Err(code) => {
                self.give_back_to_connection(payload.len());
                return self.refuse(id, code);
            }
        }
        if ends_stream { self.content_ended(id) } else { Ok(()) }
    }

    /// Content has come of a stream that is not open.
    fn late_data(&mut self, header: Header, bytes: usize) -> Result<(), ErrorCode> {
        let id = header.stream;
        self.give_back_to_connection(bytes);
        if self.streams.is_idle(id) {
            return Err(ErrorCode::ProtocolError);
        }
        if !self.streams.is_ignored(id) {
            frame::append_reset(self.outbound.bytes(), id, ErrorCode::StreamClosed);
            return self.faults.error();
        }
        if header.has(flag::END_STREAM) {
            self.streams.forget(id);
        }
        Ok(())
    }

    /// The peer has sent all of a request.
    fn content_ended(&mut self, id: u32) -> Result<(), ErrorCode> {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        if let Err(code) = stream.content.end() {
            return self.refuse(id, code);
        }
        stream.wake();
        self.close_if_over(id);
        Ok(())
    }

    fn rst_stream(&mut self, id: u32, payload: &[u8]) -> Result<(), ErrorCode> {
        frame::number(payload)?;
        if self.streams.is_idle(id) {
            return Err(ErrorCode::ProtocolError);
        }
        self.streams.forget(id);
        match self.close(id) {
            Some(stream) if !stream.has_head => self.faults.reset(),
            _ => Ok(()),
        }
    }

    fn settings(&mut self, header: Header, payload: &[u8]) -> Result<(), ErrorCode> {
        if header.has(flag::ACK) {
            self.streams.receive_window_known();
            return if payload.is_empty() { Ok(()) } else { Err(ErrorCode::FrameSizeError) };
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(ErrorCode::FrameSizeError);
        }
        let mut send_bytes = None;
        for [high, low, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*high, *low]) {
                setting::HEADER_TABLE_SIZE => {
                    self.owes_table_size |= value < dynamic_table::BYTES_MAX as u32;
                }
                setting::ENABLE_PUSH if value > 1 => return Err(ErrorCode::ProtocolError),
                setting::INITIAL_WINDOW_SIZE => {
                    send_bytes = Some(i32::try_from(value).map_err(|_| ErrorCode::FlowControlError)?);
                }
                setting::MAX_FRAME_SIZE if !(PAYLOAD_BYTES_MAX as u32..1 << 24).contains(&value) => {
                    return Err(ErrorCode::ProtocolError);
                }
                _ => {}
            }
        }
        // Once, however often the frame says it: it concerns all streams.
        if let Some(bytes) = send_bytes {
            self.streams.set_send_bytes(bytes)?;
        }
        frame::append(self.outbound.bytes(), kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn ping(&mut self, header: Header, payload: &[u8]) -> Result<(), ErrorCode> {
        if payload.len() != DRAIN_PING.len() {
            return Err(ErrorCode::FrameSizeError);
        }
        if !header.has(flag::ACK) {
            frame::append(self.outbound.bytes(), kind::PING, flag::ACK, 0, payload);
        } else if self.leaving == Leaving::Said && payload == DRAIN_PING {
            let last = self.streams.last();
            self.leaving = Leaving::Known(last);
            frame::append_goaway(self.outbound.bytes(), last, ErrorCode::NoError);
        }
        Ok(())
    }

    fn window_update(&mut self, id: u32, payload: &[u8]) -> Result<(), ErrorCode> {
        let bytes = frame::number(payload)? & (u32::MAX >> 1);
        if id == 0 {
            if bytes == 0 {
                return Err(ErrorCode::ProtocolError);
            }
            return self.send_window.change(bytes.into()).ok_or(ErrorCode::FlowControlError);
        }
        if self.streams.is_idle(id) {
            return Err(ErrorCode::ProtocolError);
        }
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        if bytes == 0 {
            return self.refuse(id, ErrorCode::ProtocolError);
        }
        match stream.window.change(bytes.into()) {
            Some(()) => {
                stream.wake();
                Ok(())
            }
            None => self.refuse(id, ErrorCode::FlowControlError),
        }
    }

    /// Ends a stream by an error of the peer.
    fn refuse(&mut self, id: u32, code: ErrorCode) -> Result<(), ErrorCode> {
        self.reset(id, code);
        self.faults.error()
    }

    /// Content of a stream needs no room in its window any more.
    fn give_back(&mut self, id: u32, bytes: usize) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        // Where nobody reads the content, no more is asked for.
        let more = if stream.content.is_kept() { stream.content.give_back(bytes) } else { None };
        if let Some(more) = more {
            frame::append_window_update(self.outbound.bytes(), id, more);
        }
    }

    /// The same for the window of the connection.
    fn give_back_to_connection(&mut self, bytes: usize) {
        if let Some(more) = self.receive_window.read(bytes) {
            frame::append_window_update(self.outbound.bytes(), 0, more);
        }
    }

    /// Closes a stream. Its content, if nobody has read it, is dropped.
    fn close(&mut self, id: u32) -> Option<Stream> {
        self.turns.leave(id);
        let mut stream = self.streams.close(id)?;
        self.head_bytes -= stream.take_head_bytes();
        let unread = stream.content.forget();
        self.give_back_to_connection(unread);
        Some(stream)
    }

    /// Closes a stream on which both sides have said everything. While its content is kept, the one that answers does that.
    fn close_if_over(&mut self, id: u32) {
        if self.streams.get_mut(id).is_some_and(|stream| stream.is_over() && !stream.content.is_kept()) {
            self.close(id);
        }
    }

    fn append_head(&mut self, id: u32, status: StatusCode, headers: &HeaderMap, ends_stream: bool) {
        let mut block = Vec::with_capacity(BLOCK_BYTES_EXPECTED);
        if std::mem::take(&mut self.owes_table_size) {
            encoder::empty_dynamic_table(&mut block);
        }
        response::encode(&mut block, status, headers);
        frame::append_field_block(self.outbound.bytes(), id, &block, ends_stream);
    }
}

/// The fields of a stream's answer with those of CORS.
const BLOCK_BYTES_EXPECTED: usize = 512;

/// What the task of the connection asks.
impl Endpoint {
    /// The next request that has come, unless its stream is over.
    pub(super) fn next_request(&mut self) -> Option<(u32, Box<Request<()>>)> {
        while let Some((id, request)) = self.requests.pop_front() {
            if self.streams.get_mut(id).is_some() {
                return Some((id, request));
            }
        }
        // Frees its memory.
        self.requests = VecDeque::new();
        None
    }

    /// When the peer began what it has not ended. `None`: everything is whole.
    pub(super) fn incomplete_since(&self) -> Option<Instant> {
        self.inbound.since()
    }

    /// Nothing more is read for now, so what is not whole is not the peer's to end.
    pub(super) fn pause(&mut self, now: Instant) {
        self.inbound.restart(now);
    }

    /// Wakes those that wait for their turn, if there is room. True: there are some.
    pub(super) fn offer_turns(&mut self) -> bool {
        if self.turns.is_empty() || !self.outbound.has_room() || self.send_window.bytes() == 0 {
            return false;
        }
        for id in self.turns.iter() {
            if let Some(stream) = self.streams.get_mut(id) {
                stream.wake();
            }
        }
        true
    }

    /// Tells the peer to send further requests elsewhere. Those that are on their way are answered.
    pub(super) fn leave(&mut self) {
        if self.leaving == Leaving::No && !self.has_failed {
            self.leaving = Leaving::Said;
            frame::append_goaway(self.outbound.bytes(), u32::MAX >> 1, ErrorCode::NoError);
            frame::append(self.outbound.bytes(), kind::PING, 0, 0, &DRAIN_PING);
        }
    }

    /// Ends the connection as soon as the peer knows why.
    pub(super) fn fail(&mut self, code: ErrorCode) {
        // It may not grow (section 6.8).
        let last = if let Leaving::Known(last) = self.leaving { last } else { self.streams.last() };
        frame::append_goaway(self.outbound.bytes(), last, code);
        self.has_failed = true;
        self.blocks = FieldBlocks::new();
        self.requests.clear();
        self.turns.clear();
        self.streams.clear();
    }

    /// The socket has failed, or is given up.
    pub(super) fn lose(&mut self, error: &io::Error) {
        self.has_timed_out |= error.kind() == io::ErrorKind::TimedOut;
    }

    /// Whether an error of the peer has ended the connection.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Whether nothing follows what is to be sent.
    pub(super) fn is_over(&self) -> bool {
        let opens_no_more = matches!(self.leaving, Leaving::Known(_)) || self.peer_leaves;
        self.has_failed || opens_no_more && self.streams.count() == 0 && self.requests.is_empty()
    }
}

/// What the one that answers a request says and asks. On a stream that is over, these do nothing; the results say so.
impl Endpoint {
    /// The one that answers goes on, and is woken when something happens. False: the stream is over.
    pub(super) fn watch(&mut self, id: u32, waker: &Waker) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.is_direct = false;
        stream.watch(waker);
        true
    }

    /// Something has happened on a stream.
    pub(super) fn wake(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.wake();
        }
    }

    /// Sends the head of an answer; with 100 (Continue), the word before it.
    pub(super) fn answer(&mut self, id: u32, status: StatusCode, headers: &HeaderMap, is_whole: bool) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if !status.is_informational() {
            stream.has_head = true;
            stream.is_answered = is_whole;
            self.head_bytes -= stream.take_head_bytes();
            self.faults.answered();
        }
        self.append_head(id, status, headers, is_whole);
        self.close_if_over(id);
    }

    /// Sends as much of a chunk as there is room for in one frame; the last one ends the answer. False: nothing, and the stream
    /// waits for its window, or for its turn.
    pub(super) fn send(&mut self, id: u32, chunk: &mut Bytes, is_last: bool) -> bool {
        let Some(stream) = self.streams.get_mut(id) else { return false };
        let length = chunk.len().min(stream.window.bytes()).min(PAYLOAD_BYTES_MAX);
        if length == 0 {
            self.turns.leave(id);
            return false;
        }
        let length = length.min(self.send_window.bytes());
        if length == 0 || !self.turns.is_next(id) || !self.outbound.has_room() {
            self.turns.wait(id);
            return false;
        }
        let ends = is_last && length == chunk.len();
        let flags = if ends { flag::END_STREAM } else { 0 };
        frame::append(self.outbound.bytes(), kind::DATA, flags, id, &chunk[..length]);
        stream.window.spend(length);
        stream.is_answered = ends;
        self.send_window.spend(length);
        self.frames_sent += 1;
        chunk.advance(length);
        self.turns.sent();
        self.close_if_over(id);
        true
    }

    /// What a stream that has something to send waits for.
    pub(super) fn waits_for(&mut self, id: u32) -> Waits {
        let stream = self.streams.get_mut(id);
        if stream.is_none_or(|stream| stream.window.bytes() == 0) {
            Waits::Window
        } else if self.send_window.bytes() == 0 {
            Waits::Others(self.frames_sent)
        } else {
            Waits::Socket
        }
    }

    /// The one that answers has sent everything that it has. Until it is asked again, events may be sent past it, if the stream is
    /// alone on its connection. False: it is not.
    pub(super) fn allow_direct(&mut self, id: u32) -> bool {
        let is_alone = self.streams.count() == 1;
        let Some(stream) = self.streams.get_mut(id) else { return false };
        stream.is_direct = is_alone;
        is_alone
    }

    /// Sends an event past the one that answers. False: it is for that one to do.
    pub(super) fn send_direct(&mut self, id: u32, event: &Bytes) -> bool {
        let is_alone = self.streams.count() == 1;
        let is_free = self.outbound.has_room() && self.outbound.behind_since().is_none();
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.is_direct && is_alone && is_free)
        else {
            return false;
        };
        let room = stream.window.bytes().min(self.send_window.bytes()).min(PAYLOAD_BYTES_MAX);
        event.len() <= room && self.send(id, &mut event.clone(), false)
    }

    /// Whether the connection has ended because its peer took nothing for the write time-out.
    pub(super) fn has_timed_out(&self) -> bool {
        self.has_timed_out
    }

    /// Ends an answer that is sent.
    pub(super) fn finish(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        stream.is_answered = true;
        frame::append(self.outbound.bytes(), kind::DATA, flag::END_STREAM, id, &[]);
        self.close_if_over(id);
    }

    /// Ends a stream before its end.
    pub(super) fn reset(&mut self, id: u32, code: ErrorCode) {
        if let Some(stream) = self.close(id) {
            frame::append_reset(self.outbound.bytes(), id, code);
            self.ignore(id, stream.content.is_ended());
        }
    }

    /// The one that answers is gone. If the answer is not whole, the stream is cancelled; if the request is not, the peer is told
    /// that it need not send the rest.
    pub(super) fn abandon(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.is_over() {
            self.close(id);
        } else {
            let code = if stream.is_answered { ErrorCode::NoError } else { ErrorCode::Cancel };
            self.reset(id, code);
        }
    }

    /// The content that has come, and has not been read. `None`: that was all.
    ///
    /// # Errors
    /// If the stream is over before it has come.
    pub(super) fn poll_content(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ContentLost>>> {
        let Some(stream) = self.streams.get_mut(id) else { return Poll::Ready(Some(Err(ContentLost))) };
        match stream.content.read() {
            Poll::Ready(Some(bytes)) => {
                self.give_back(id, bytes.len());
                self.give_back_to_connection(bytes.len());
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                // The content is read by the one that answers, so this wakes the same.
                stream.watch(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Looks at the content.
    pub(super) fn content(&mut self, id: u32) -> Option<&Content> {
        self.streams.get_mut(id).map(|stream| &stream.content)
    }

    /// Drops the content: nobody will read it. What still comes of it is dropped, too.
    pub(super) fn drop_content(&mut self, id: u32) {
        // A stream of events asks after each of them.
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.content.is_kept()) else { return };
        let unread = stream.content.forget();
        self.give_back_to_connection(unread);
        self.close_if_over(id);
    }
}

/// What a stream that has something to send waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// The peer, who has given it no room.
    Window,
    /// The peer, who has given all streams together no room; so many frames of content were sent before.
    Others(u64),
    /// The socket, for which the connection has a time.
    Socket,
}

/// A stream is over before its content has come.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the client has taken its request back, or has broken the rules of HTTP/2")]
pub(crate) struct ContentLost;

/// What frames come to, in these pieces: the requests, whether something is not whole, and what is sent.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzzed(pieces: &[&[u8]]) -> (Vec<String>, bool, Vec<u8>) {
    let now = Instant::now();
    let mut endpoint = Endpoint::new(now);
    let mut requests = Vec::new();
    let begin = [super::preface::PREFACE, &[0, 0, 0, kind::SETTINGS, 0, 0, 0, 0, 0]];
    for piece in begin.iter().chain(pieces) {
        if let Err(code) = endpoint.receive(piece, now) {
            endpoint.fail(code);
            break;
        }
    }
    while let Some((id, request)) = endpoint.next_request() {
        requests.push(format!("{id} {request:?}"));
    }
    let is_incomplete = endpoint.incomplete_since().is_some() && !endpoint.has_failed();
    (requests, is_incomplete, std::mem::take(endpoint.outbound.bytes()))
}
