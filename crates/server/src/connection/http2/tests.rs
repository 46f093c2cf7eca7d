//! The endpoint without a socket: what frames come to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    endpoint::Endpoint,
    frame::{self, ErrorCode, HEADER_BYTES, Header, flag, kind, setting},
    hpack::encoder,
    preface::PREFACE,
};

/// An endpoint, and frames of its peer.
struct Pair {
    endpoint: Endpoint,
    now: Instant,
}

/// What the endpoint has sent.
type Sent = (u8, u8, u32, Vec<u8>);

impl Pair {
    /// The peer has begun.
    fn begun() -> Self {
        let now = Instant::now();
        let mut pair = Self { endpoint: Endpoint::new(now), now };
        pair.receive(PREFACE).expect("a preface");
        pair.say(kind::SETTINGS, 0, 0, &[]).expect("settings");
        pair.sent();
        pair
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), ErrorCode> {
        self.endpoint.receive(bytes, self.now)
    }

    fn say(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), ErrorCode> {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, kind, flags, stream, payload);
        self.receive(&bytes)
    }

    /// Opens a stream whose request is taken.
    fn open(&mut self, stream: u32, flags: u8, more: &[(&str, &str)]) {
        let get = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
        let mut head = Vec::new();
        for (name, value) in get.iter().chain(more) {
            encoder::field(&mut head, name, value.as_bytes());
        }
        let mut bytes = Vec::new();
        frame::append_field_block(&mut bytes, stream, &head, flags & flag::END_STREAM != 0);
        self.receive(&bytes).expect("a head");
        assert_eq!(self.endpoint.next_request().map(|(id, _)| id), Some(stream));
    }

    /// Opens a stream whose answer has begun.
    fn answer(&mut self, stream: u32) {
        self.open(stream, flag::END_STREAM, &[]);
        self.endpoint.answer(stream, StatusCode::OK, &HeaderMap::new(), false);
    }

    fn give_room(&mut self, stream: u32, bytes: u32) {
        self.say(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes()).expect("room");
    }

    /// Everything that was sent meanwhile.
    fn sent(&mut self) -> Vec<Sent> {
        let bytes = std::mem::take(self.endpoint.outbound.bytes());
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Some((head, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let Header { length, kind, flags, stream } = Header::from_bytes(*head);
            let (payload, after) = after.split_at(length);
            all.push((kind, flags, stream, payload.to_vec()));
            rest = after;
        }
        all
    }

    /// Room that was given for all streams together.
    fn room_given(&mut self) -> usize {
        let updates = self
            .sent()
            .into_iter()
            .filter(|(kind, _, stream, _)| (*kind, *stream) == (kind::WINDOW_UPDATE, 0));
        updates.map(|(.., payload)| u32::from_be_bytes(payload.try_into().expect("a number")) as usize).sum()
    }

    fn read(&mut self, stream: u32) -> Poll<Option<Bytes>> {
        let content = self.endpoint.poll_content(stream, &mut Context::from_waker(Waker::noop()));
        content.map(|content| content.map(|bytes| bytes.expect("content")))
    }
}

#[test]
fn a_peer_has_begun_with_its_first_whole_frame_which_is_its_settings() {
    let mut settings = PREFACE.to_vec();
    frame::append(&mut settings, kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 9]);
    for pieces in [1, 5, settings.len()] {
        let now = Instant::now();
        let mut pair = Pair { endpoint: Endpoint::new(now), now };
        for piece in settings.chunks(pieces) {
            assert_eq!(pair.endpoint.incomplete_since(), Some(now));
            pair.endpoint.receive(piece, now + Duration::from_secs(1)).expect("settings");
        }
        assert_eq!(pair.endpoint.incomplete_since(), None, "{pieces}");
    }
    for (kind, flags) in [(kind::PING, 0), (kind::SETTINGS, flag::ACK)] {
        let now = Instant::now();
        let mut pair = Pair { endpoint: Endpoint::new(now), now };
        pair.receive(PREFACE).expect("a preface");
        assert_eq!(pair.say(kind, flags, 0, &[]), Err(ErrorCode::ProtocolError));
    }
}

#[test]
fn a_head_is_whole_with_its_last_frame_however_it_comes() {
    let mut head = Vec::new();
    encoder::field(&mut head, "x", b"y");
    let mut bytes = Vec::new();
    frame::append(&mut bytes, kind::HEADERS, 0, 1, &head);
    frame::append(&mut bytes, kind::CONTINUATION, 0, 1, &[]);
    frame::append(&mut bytes, kind::CONTINUATION, flag::END_HEADERS, 1, &head);
    for pieces in 1..=bytes.len() {
        let mut pair = Pair::begun();
        for (index, piece) in bytes.chunks(pieces).enumerate() {
            assert_eq!(pair.endpoint.incomplete_since(), (index > 0).then_some(pair.now), "{pieces}");
            pair.receive(piece).expect("a head");
        }
        assert_eq!(pair.endpoint.incomplete_since(), None, "{pieces}");
        let [(kind::RST_STREAM, _, 1, _)] = pair.sent()[..] else { panic!("it asks for nothing") };
    }
}

#[test]
fn each_frame_has_its_own_time_and_content_has_none() {
    let mut pair = Pair::begun();
    pair.open(1, 0, &[]);
    let (now, second) = (pair.now, Duration::from_secs(1));
    let mut content = Vec::new();
    frame::append(&mut content, kind::DATA, 0, 1, &[0; 100]);
    pair.receive(&content[..50]).expect("content");
    assert_eq!(pair.endpoint.incomplete_since(), None, "content");
    pair.receive(&content[50..]).expect("content");
    let mut ping = Vec::new();
    frame::append(&mut ping, kind::PING, 0, 0, &[0; 8]);
    pair.receive(&ping[..12]).expect("a part");
    assert_eq!(pair.endpoint.incomplete_since(), Some(now));
    pair.now = now + second;
    pair.receive(&ping[12..13]).expect("a part");
    assert_eq!(pair.endpoint.incomplete_since(), Some(now), "the same frame");
    pair.now = now + 2 * second;
    pair.receive(&[&ping[13..], &ping[..3]].concat()).expect("a part");
    assert_eq!(pair.endpoint.incomplete_since(), Some(now + 2 * second), "the next one");
}

#[test]
fn streams_take_turns_whoever_has_more_to_send() {
    let mut pair = Pair::begun();
    pair.give_room(0, 1_000_000_000);
    let mut chunks: Vec<_> = (0..3).map(|_| Bytes::from(vec![b'x'; 1_000_000])).collect();
    for number in 0..3 {
        pair.answer(2 * number + 1);
        pair.give_room(2 * number + 1, 1_000_000_000);
    }
    pair.sent();
    let mut order = Vec::new();
    while order.len() < 31 {
        // Always in the same order, and each as often as it may.
        for (number, chunk) in chunks.iter_mut().enumerate() {
            while pair.endpoint.send(2 * number as u32 + 1, chunk, false) {}
        }
        let frames = pair.sent();
        assert!(!frames.is_empty() && frames.len() <= 2, "no more than there is room for");
        order.extend(frames.into_iter().map(|(.., stream, _)| stream));
    }
    // The first one had a turn before the others waited.
    for turn in order[1..].chunks_exact(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, [1, 3, 5], "{order:?}");
    }
}

/// Whether somebody was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whoever_waits_is_woken_when_the_one_before_is_gone() {
    let mut pair = Pair::begun();
    let (mut first, mut second) = (Bytes::from(vec![b'x'; 100_000]), Bytes::from_static(b"y"));
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    pair.give_room(0, 1_000_000);
    pair.answer(1);
    pair.answer(3);
    pair.give_room(1, 1_000_000);
    assert!(pair.endpoint.watch(3, &Arc::clone(&woken).into()));
    while pair.endpoint.send(1, &mut first, false) {}
    assert!(!pair.endpoint.send(3, &mut second, false), "the socket takes nothing");
    assert!(!pair.endpoint.offer_turns());
    pair.sent();
    pair.say(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes()).expect("a reset");
    assert!(pair.endpoint.offer_turns() && woken.0.load(Ordering::Relaxed));
    assert!(pair.endpoint.send(3, &mut second, false));
    assert!(!pair.endpoint.offer_turns(), "nobody waits");
}

#[test]
fn a_window_may_fall_below_zero_and_must_come_back() {
    let mut pair = Pair::begun();
    let size = |bytes: u32| [&setting::INITIAL_WINDOW_SIZE.to_be_bytes()[..], &bytes.to_be_bytes()].concat();
    pair.answer(1);
    let mut chunk = Bytes::from(vec![b'x'; 20_000]);
    assert!(pair.endpoint.send(1, &mut chunk, false));
    pair.say(kind::SETTINGS, 0, 0, &size(1_000)).expect("settings");
    assert!(!pair.endpoint.send(1, &mut chunk, false));
    // It is 15,384 below zero.
    pair.give_room(1, 15_384);
    assert!(!pair.endpoint.send(1, &mut chunk, false));
    pair.give_room(1, 5);
    pair.sent();
    assert!(pair.endpoint.send(1, &mut chunk, false));
    assert_eq!(pair.sent()[0].3.len(), 5);
    // Only the last value of a frame counts.
    let sizes = [size(0), size(u32::MAX >> 1), size(1_100)].concat();
    pair.say(kind::SETTINGS, 0, 0, &sizes).expect("settings");
    assert!(pair.endpoint.send(1, &mut chunk, false));
    assert_eq!(pair.sent().pop().expect("content").3.len(), 100);
    assert_eq!(pair.say(kind::SETTINGS, 0, 0, &size(1 << 31)), Err(ErrorCode::FlowControlError));
}

#[test]
fn more_content_may_come_before_the_peer_knows_the_window() {
    let mut pair = Pair::begun();
    pair.open(1, 0, &[]);
    pair.open(3, 0, &[]);
    for _ in 0..3 {
        pair.say(kind::DATA, 0, 1, &[0; 16_000]).expect("content");
    }
    pair.say(kind::SETTINGS, flag::ACK, 0, &[]).expect("settings");
    // The one has used more than it may now, and has it back when that is read.
    let Poll::Ready(Some(bytes)) = pair.read(1) else { panic!("content") };
    assert_eq!(bytes.len(), 48_000);
    pair.say(kind::DATA, 0, 1, &[0; 16_000]).expect("content");
    for _ in 0..2 {
        pair.say(kind::DATA, 0, 3, &[0; 16_000]).expect("content");
    }
    pair.sent();
    pair.say(kind::DATA, 0, 3, &[0; 1_000]).expect("the error of a stream");
    let sent = pair.sent();
    let resets: Vec<_> = sent.iter().filter(|(kind, ..)| *kind == kind::RST_STREAM).collect();
    assert_eq!(
        resets,
        [&(kind::RST_STREAM, 0, 3, (ErrorCode::FlowControlError as u32).to_be_bytes().to_vec())]
    );
}

#[test]
fn padding_is_given_back_to_its_stream() {
    let mut pair = Pair::begun();
    pair.open(1, 0, &[]);
    for _ in 0..1_000 {
        pair.say(kind::DATA, flag::PADDED, 1, &[&[199][..], b"x", &[0; 199]].concat()).expect("room");
    }
    let given =
        pair.sent().into_iter().filter(|(kind, _, stream, _)| (*kind, *stream) == (kind::WINDOW_UPDATE, 1));
    assert!(given.count() > 10);
}

#[test]
fn an_end_without_content_needs_no_window() {
    let mut pair = Pair::begun();
    pair.open(1, 0, &[]);
    for _ in 0..4 {
        pair.say(kind::DATA, 0, 1, &[0; 16_000]).expect("room");
    }
    // The window is below zero now.
    pair.say(kind::SETTINGS, flag::ACK, 0, &[]).expect("settings");
    pair.sent();
    pair.say(kind::DATA, flag::END_STREAM, 1, &[]).expect("the end");
    assert_eq!(pair.sent(), []);
    assert!(matches!(pair.read(1), Poll::Ready(Some(_))));
    assert_eq!(pair.read(1), Poll::Ready(None));
}

#[test]
fn the_last_stream_that_is_answered_never_grows() {
    let mut pair = Pair::begun();
    pair.open(1, flag::END_STREAM, &[]);
    pair.endpoint.leave();
    let ping = pair.sent().pop().expect("a ping");
    pair.say(kind::PING, flag::ACK, 0, &ping.3).expect("it is heard");
    let last = |sent: Vec<Sent>| {
        let goaway = sent.into_iter().find(|(kind, ..)| *kind == kind::GOAWAY).expect("a word");
        u32::from_be_bytes(*goaway.3.first_chunk().expect("a number"))
    };
    assert_eq!(last(pair.sent()), 1);
    let mut head = Vec::new();
    encoder::field(&mut head, ":method", b"GET");
    pair.say(kind::HEADERS, flag::END_HEADERS, 3, &head).expect("to be ignored");
    pair.say(kind::DATA, flag::END_STREAM, 3, &[]).expect("to be ignored");
    assert!(pair.endpoint.next_request().is_none() && pair.sent().is_empty());
    pair.endpoint.fail(ErrorCode::NoError);
    assert_eq!(last(pair.sent()), 1);
}

#[test]
fn a_peer_that_allows_no_table_is_told_once_that_none_is_used() {
    let mut pair = Pair::begun();
    let size = [&setting::HEADER_TABLE_SIZE.to_be_bytes()[..], &0_u32.to_be_bytes()].concat();
    pair.say(kind::SETTINGS, 0, 0, &size).expect("settings");
    pair.sent();
    for (stream, first) in [(1, 0x20), (3, 0x88)] {
        pair.answer(stream);
        assert_eq!(pair.sent()[0].3[0], first);
    }
}

#[test]
fn requests_that_were_answered_may_be_taken_back_as_often_as_one_likes() {
    let mut pair = Pair::begun();
    for number in 0..2_000 {
        pair.answer(2 * number + 1);
        pair.say(kind::RST_STREAM, 0, 2 * number + 1, &[0; 4]).expect("a reset");
        pair.sent();
    }
}

/// A short block may stand for a long head.
#[test]
fn heads_that_wait_for_their_answers_are_bounded_together() {
    let mut pair = Pair::begun();
    let value = "x".repeat(3_900);
    let more: Vec<_> = (0..15).map(|_| ("x", &*value)).collect();
    for number in 0..17 {
        pair.open(2 * number + 1, 0, &more);
    }
    let mut head = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/")].iter().chain(&more) {
        encoder::field(&mut head, name, value.as_bytes());
    }
    let mut bytes = Vec::new();
    frame::append_field_block(&mut bytes, 101, &head, true);
    pair.receive(&bytes).expect("too much");
    let sent = pair.sent();
    let refused = (kind::RST_STREAM, 0, 101, (ErrorCode::RefusedStream as u32).to_be_bytes().to_vec());
    assert_eq!(sent, [refused]);
    // Whoever is answered or gone makes room.
    pair.endpoint.answer(1, StatusCode::OK, &HeaderMap::new(), false);
    pair.open(103, 0, &more);
    pair.say(kind::RST_STREAM, 0, 103, &[0; 4]).expect("a reset");
    pair.open(105, 0, &more);
}

#[test]
fn errors_between_answers_do_not_end_the_connection_and_urls_that_are_none_are_no_errors() {
    let mut pair = Pair::begun();
    let mut stream = 1;
    let mut ask = |pair: &mut Pair, fields: &[(&str, &str)]| {
        let mut head = Vec::new();
        for (name, value) in fields {
            encoder::field(&mut head, name, value.as_bytes());
        }
        stream += 2;
        let asked = pair.say(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &head);
        (stream, asked)
    };
    let good = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
    for _ in 0..1_000 {
        ask(&mut pair, &good[..2]).1.expect("the error of a stream");
        let (id, asked) = ask(&mut pair, &good);
        asked.expect("a request");
        pair.endpoint.next_request().expect("a request");
        pair.endpoint.answer(id, StatusCode::OK, &HeaderMap::new(), true);
        pair.endpoint.abandon(id);
        ask(&mut pair, &[good[0], good[1], (":path", "/ \"")]).1.expect("an answer");
        assert_eq!(pair.sent().pop().expect("an answer").3, b"\x8c");
    }
    let mut errors = 0;
    while ask(&mut pair, &good[..2]).1.is_ok() {
        errors += 1;
    }
    assert!(errors <= 256, "{errors}");
}

#[test]
fn a_frame_whose_rest_is_not_read_is_not_the_peers_to_end() {
    let mut pair = Pair::begun();
    pair.receive(&[0, 0, 8]).expect("a part");
    let later = pair.now + Duration::from_secs(5);
    pair.endpoint.pause(later);
    assert_eq!(pair.endpoint.incomplete_since(), Some(later));
}

/// However the content of a request ends, what it took of the connection comes back.
#[test]
fn the_window_of_the_connection_does_not_shrink() {
    let mut pair = Pair::begun();
    pair.say(kind::SETTINGS, flag::ACK, 0, &[]).expect("settings");
    let (mut used, mut given) = (0, 0);
    for number in 0..600 {
        let stream = 2 * number + 1;
        let more: &[_] = if number % 6 == 5 { &[("content-length", "5")] } else { &[] };
        pair.open(stream, 0, more);
        let padded = [&[99][..], &[0; 9_901], &[0; 99]].concat();
        pair.say(kind::DATA, flag::PADDED, stream, &padded).expect("content, or the error of a stream");
        used += padded.len();
        match number % 6 {
            // Read to its end.
            0 => {
                assert!(matches!(pair.read(stream), Poll::Ready(Some(_))));
                pair.say(kind::DATA, flag::END_STREAM, stream, &[]).expect("the end");
                assert_eq!(pair.read(stream), Poll::Ready(None));
                pair.endpoint.answer(stream, StatusCode::OK, &HeaderMap::new(), true);
                pair.endpoint.abandon(stream);
            }
            // Taken back.
            1 => pair.say(kind::RST_STREAM, 0, stream, &[0; 4]).expect("a reset"),
            // Not read by its handler.
            2 => {
                pair.endpoint.drop_content(stream);
                pair.say(kind::DATA, flag::END_STREAM, stream, &[0; 1_000]).expect("the end");
                used += 1_000;
                pair.endpoint.finish(stream);
            }
            // Answered before it has come, and more of it is on its way.
            3 => {
                pair.endpoint.answer(stream, StatusCode::UNAUTHORIZED, &HeaderMap::new(), true);
                pair.endpoint.abandon(stream);
                pair.say(kind::DATA, flag::END_STREAM, stream, &[0; 1_000]).expect("to be ignored");
                used += 1_000;
            }
            // The handler is gone.
            4 => pair.endpoint.abandon(stream),
            // More than it says, so it was refused.
            _ => {}
        }
        given += pair.room_given();
    }
    assert!(given <= used && used - given < 32 * 1024, "{used} used, {given} given back");
}

#[test]
fn what_comes_of_a_stream_that_ended_here_is_ignored_and_of_others_it_is_an_error() {
    let mut pair = Pair::begun();
    for stream in [1, 3] {
        pair.open(stream, 0, &[]);
        pair.endpoint.reset(stream, ErrorCode::Cancel);
    }
    pair.open(5, flag::END_STREAM, &[]);
    pair.endpoint.answer(5, StatusCode::OK, &HeaderMap::new(), true);
    pair.endpoint.abandon(5);
    pair.sent();
    pair.say(kind::DATA, 0, 1, b"x").expect("to be ignored");
    pair.say(kind::DATA, flag::END_STREAM, 1, b"x").expect("to be ignored");
    pair.say(kind::RST_STREAM, 0, 3, &[0; 4]).expect("to be ignored");
    assert_eq!(pair.sent(), []);
    for stream in [1, 3, 5] {
        pair.say(kind::DATA, 0, stream, b"x").expect("the error of a stream");
        let reset = (kind::RST_STREAM, 0, stream, (ErrorCode::StreamClosed as u32).to_be_bytes().to_vec());
        assert_eq!(pair.sent(), [reset]);
    }
    assert_eq!(pair.say(kind::DATA, 0, 7, b"x"), Err(ErrorCode::ProtocolError), "nothing was said of it");
    assert_eq!(pair.say(kind::DATA, 0, 2, b"x"), Err(ErrorCode::ProtocolError), "it is not the peer's");
}
