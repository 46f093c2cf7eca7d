//! HTTP/2: what a client that breaks rules, sends too much or reads nothing can reach.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use petasos_server::Settings;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, duplex},
    net::TcpStream,
    task::{coop, yield_now},
    time::timeout,
};

use crate::{
    client::{HUB, PATIENCE, publisher, settings},
    frames::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, GOAWAY,
        HEADERS, PING, PREFACE, PRIORITY, REFUSED_STREAM, RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, fields,
        frame, get, length, request, window,
    },
    http2::{Client, serve},
};

const ASKED: u8 = END_HEADERS | END_STREAM;

fn stream_of(topic: &str) -> Vec<u8> {
    get(&format!("{HUB}?topic={topic}"))
}

#[tokio::test]
async fn as_many_requests_are_open_as_the_settings_say() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    let announced = raw.next_of(&[SETTINGS]).await.expect("settings").payload;
    let announced: Vec<_> = announced
        .chunks(6)
        .map(|setting| {
            let value = u32::from_be_bytes(setting[2..].try_into().expect("four bytes"));
            (setting[1], value)
        })
        .collect();
    // SETTINGS_MAX_CONCURRENT_STREAMS, SETTINGS_INITIAL_WINDOW_SIZE, SETTINGS_MAX_HEADER_LIST_SIZE.
    for expected in [(3, 250), (4, 32 * 1024), (6, 64 * 1024)] {
        assert!(announced.contains(&expected), "{announced:?}");
    }
    for number in 0..251 {
        raw.send(&frame(HEADERS, ASKED, 2 * number + 1, &stream_of("a"))).await;
    }
    let refused = raw.next_of(&[RST_STREAM]).await.expect("one too many");
    assert_eq!((refused.stream, refused.code()), (501, REFUSED_STREAM));
    server.metrics_with("mercure_subscribers_connected", 250.0).await;
    // Whoever leaves makes room.
    raw.send(&frame(RST_STREAM, 0, 1, &CANCEL.to_be_bytes())).await;
    raw.send(&frame(HEADERS, ASKED, 503, &get("/healthz"))).await;
    while raw.next_of(&[HEADERS]).await.expect("an answer").stream != 503 {}
}

#[tokio::test]
async fn a_head_may_have_64_kilobytes_in_http_2() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    for (stream, bytes, status) in [(1, 60_000, &b"\x88"[..]), (3, 70_000, b"\x08\x03431")] {
        let block = request("GET", "/healthz", &[("x", &"x".repeat(bytes))]);
        let mut parts = block.chunks(16_000).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let end = if parts.peek().is_none() { END_HEADERS } else { 0 };
            let end_stream = if kind == HEADERS { END_STREAM } else { 0 };
            raw.send(&frame(kind, end | end_stream, stream, part)).await;
            kind = CONTINUATION;
        }
        let answer = raw.next_of(&[HEADERS]).await.expect("an answer");
        assert_eq!(answer.stream, stream);
        assert!(answer.payload.starts_with(status), "{}", answer.payload.escape_ascii());
    }
}

#[tokio::test]
async fn a_head_without_an_end_ends_the_connection() {
    let server = serve(false, settings()).await;
    for part in [&b""[..], &fields(&[("x", &"x".repeat(1_000))])] {
        let mut raw = Raw::open(&server, &[]).await;
        let flood = [frame(HEADERS, 0, 1, &get("/")), frame(CONTINUATION, 0, 1, part).repeat(1_000)].concat();
        raw.send(&flood).await;
        assert_eq!(raw.end().await, Some(ENHANCE_YOUR_CALM));
    }
}

#[tokio::test]
async fn a_small_head_that_stands_for_a_large_one_is_refused() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    // A field of 4,000 bytes that goes into the table, and then stands for itself 10,000 times.
    let mut block = request("GET", "/healthz", &[]);
    block.extend([0x40, 1, b'x']);
    length(&mut block, 4_000);
    block.extend([b'x'; 4_000]);
    block.extend([0xbe; 10_000]);
    raw.send(&frame(HEADERS, ASKED, 1, &block)).await;
    let end = raw.next_of(&[HEADERS, GOAWAY]).await.expect("an end");
    assert!(end.kind == GOAWAY && end.code() == ENHANCE_YOUR_CALM, "{end:?}");
    // No table of the client's may be larger than the protocol's own.
    let mut raw = Raw::open(&server, &[]).await;
    raw.send(&frame(HEADERS, ASKED, 1, &[&[0x3f, 0xe2, 0x1f][..], &get("/healthz")].concat())).await;
    assert!(raw.end().await.is_some());
}

#[tokio::test]
async fn requests_that_are_reset_at_once_end_the_connection() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    let reset = |numbers: std::ops::Range<u32>| -> Vec<u8> {
        let both = |stream| {
            [
                frame(HEADERS, ASKED, stream, &stream_of("a")),
                frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()),
            ]
        };
        numbers.flat_map(|number| both(2 * number + 1)).flatten().collect()
    };
    // A page that is left at once resets as many as it may have.
    raw.send(&[reset(0..250), frame(PING, 0, 0, &[1; 8])].concat()).await;
    assert_eq!(raw.next_of(&[PING, GOAWAY]).await.expect("it goes on").kind, PING);
    let flood = reset(250..2_250);
    raw.send(&flood).await;
    assert_eq!(raw.end().await, Some(ENHANCE_YOUR_CALM));
    server.metrics_with("mercure_subscribers_connected", 0.0).await;
}

#[tokio::test]
async fn streams_that_end_by_errors_end_the_connection() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    // A window that overflows is the error of its stream (RFC 9113, section 6.9.1), and so the hub resets each.
    let flood: Vec<_> = (0..1_000)
        .flat_map(|number| {
            let id = 2 * number + 1;
            [frame(HEADERS, ASKED, id, &stream_of("a")), window(id, 0x7fff_ffff)].concat()
        })
        .collect();
    raw.send(&flood).await;
    assert_eq!(raw.end().await, Some(ENHANCE_YOUR_CALM));
}

#[tokio::test]
async fn small_pieces_of_content_without_an_end_end_the_connection() {
    // No time ends it.
    let forever = Duration::from_secs(3_600);
    let server = serve(false, Settings { body_timeout: forever, ..settings() }).await;
    let mut raw = Raw::open(&server, &[]).await;
    let publisher = publisher();
    let more = [
        ("authorization", publisher.split_once(": ").expect("a field").1),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    raw.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", HUB, &more))).await;
    // Empty ones take no room in any window.
    let sending = async {
        use tokio::io::AsyncWriteExt;
        let flood = frame(DATA, 0, 1, b"").repeat(10_000);
        while raw.0.write_all(&flood).await.is_ok() {}
    };
    timeout(PATIENCE, sending).await.expect("an end");
}

#[tokio::test]
async fn windows_that_overflow_end_what_they_belong_to() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    raw.send(&frame(HEADERS, ASKED, 1, &stream_of("a"))).await;
    raw.next_of(&[DATA]).await.expect("a stream");
    raw.send(&window(1, 0x7fff_ffff)).await;
    let reset = raw.next_of(&[RST_STREAM]).await.expect("a reset");
    assert_eq!((reset.stream, reset.code()), (1, FLOW_CONTROL_ERROR));
    server.metrics_with("mercure_subscribers_connected", 0.0).await;
    raw.send(&window(0, 0x7fff_ffff)).await;
    assert_eq!(raw.end().await, Some(FLOW_CONTROL_ERROR));
}

#[tokio::test]
async fn a_stream_without_room_ends_by_the_write_timeout_and_stalls_no_other() {
    let server = serve(false, Settings { write_timeout: Duration::from_millis(300), ..settings() }).await;
    // SETTINGS_INITIAL_WINDOW_SIZE: no stream has room.
    let mut raw = Raw::open(&server, &[(4, 0)]).await;
    for stream in [1, 3, 5] {
        raw.send(&frame(HEADERS, ASKED, stream, &stream_of("a"))).await;
    }
    raw.send(&window(3, 1_000_000)).await;
    raw.next_of(&[DATA]).await.expect("the stream that has room");
    let publisher = &mut Client::open(&server, false).await;
    publisher.publish("topic=a&data=1").await;
    let mut reset = Vec::new();
    let mut received = Vec::new();
    while reset.len() < 2 || !received.ends_with(b"data: 1\n\n") {
        let frame = raw.next_of(&[DATA, RST_STREAM]).await.expect("the connection goes on");
        match frame.kind {
            DATA => {
                assert_eq!(frame.stream, 3);
                received.extend(frame.payload);
            }
            _ => reset.push((frame.stream, frame.code())),
        }
    }
    reset.sort_unstable();
    assert_eq!(reset, [(1, CANCEL), (5, CANCEL)]);
    server.metrics_with(r#"petasos_streams_closed_total{reason="write_timeout"}"#, 2.0).await;
    publisher.publish("topic=a&data=2").await;
    while !raw.next_of(&[DATA]).await.expect("the stream goes on").payload.ends_with(b"data: 2\n\n") {}
}

#[tokio::test]
async fn streams_whose_connection_has_no_room_end_by_the_write_timeout_and_it_goes_on() {
    let server = serve(false, Settings { write_timeout: Duration::from_millis(300), ..settings() }).await;
    // SETTINGS_INITIAL_WINDOW_SIZE: each stream has room for everything, and all together have little.
    let mut raw = Raw::open(&server, &[(4, 0x7fff_ffff)]).await;
    for stream in [1, 3] {
        raw.send(&frame(HEADERS, ASKED, stream, &stream_of("a"))).await;
        while raw.next_of(&[DATA]).await.expect("a stream").stream != stream {}
    }
    let publisher = &mut Client::open(&server, false).await;
    publisher.publish(format!("topic=a&data={}", "x".repeat(100_000))).await;
    let mut reset = Vec::new();
    while reset.len() < 2 {
        let frame = raw.next_of(&[DATA, RST_STREAM]).await.expect("the connection goes on");
        if frame.kind == RST_STREAM {
            reset.push((frame.stream, frame.code()));
        }
    }
    reset.sort_unstable();
    assert_eq!(reset, [(1, CANCEL), (3, CANCEL)]);
    server.metrics_with(r#"petasos_streams_closed_total{reason="write_timeout"}"#, 2.0).await;
    raw.send(&frame(HEADERS, ASKED, 5, &get("/healthz"))).await;
    assert_eq!(raw.next_of(&[HEADERS]).await.expect("an answer").stream, 5);
}

#[tokio::test]
async fn a_connection_that_reads_nothing_ends_by_the_write_timeout_and_stalls_no_other() {
    for (is_tls, streams) in [(false, 1), (false, 2), (true, 1), (true, 2)] {
        let write_timeout = Duration::from_millis(500);
        let server = serve(is_tls, Settings { write_timeout, ..settings() }).await;
        let mut deaf = Client::open(&server, is_tls).await;
        // Its windows take everything, and its socket nothing: the library that reads it is not polled any more.
        let mut open = Vec::new();
        for topic in ["a", "other"].iter().take(streams) {
            let mut stream = deaf.subscribe(&format!("topic={topic}"), &[]).await;
            stream.until("\n").await;
            open.push(stream);
        }
        deaf.stop_reading();
        let client = &mut Client::open(&server, is_tls).await;
        let mut other = client.subscribe("topic=a", &[]).await;
        let long = "x".repeat(500_000);
        let mut number = 0;
        let gone = async {
            while server.metrics().await[r#"petasos_http_connections{protocol="http/2"}"#] > 1.0 {
                client.publish(format!("topic=a&data={number}{long}")).await;
                other.until("\n\n").await;
                number += 1;
            }
        };
        timeout(PATIENCE, gone).await.expect("it ends");
        let ended = r#"petasos_streams_closed_total{reason="write_timeout"}"#;
        server.metrics_with(ended, streams as f64).await;
    }
}

/// Without a socket of TCP, no system says what the peer acknowledges.
#[tokio::test]
async fn a_peer_without_a_socket_that_reads_nothing_ends_by_the_write_timeout() {
    let server = serve(false, Settings { write_timeout: Duration::from_millis(300), ..settings() }).await;
    let (client, io) = duplex(16 * 1024);
    let (connections, permit) = (server.connections.clone(), server.connections.admit().expect("room"));
    let serving = tokio::spawn(async move { connections.serve(io, None, permit).await });
    let mut raw = Raw::on(client, &[]).await;
    raw.send(&frame(HEADERS, ASKED, 1, &stream_of("a"))).await;
    raw.next_of(&[DATA]).await.expect("a stream");
    let publisher = &mut Client::open(&server, false).await;
    publisher.publish(format!("topic=a&data={}", "x".repeat(50_000))).await;
    timeout(PATIENCE, serving).await.expect("it ends").expect("no panic");
    server.metrics_with(r#"petasos_streams_closed_total{reason="write_timeout"}"#, 1.0).await;
}

#[tokio::test]
async fn questions_that_are_not_read_are_not_read_either() {
    for question in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])] {
        let write_timeout = Duration::from_millis(500);
        let server = serve(false, Settings { write_timeout, ..settings() }).await;
        let mut raw = Raw::open(&server, &[]).await;
        raw.send(&frame(HEADERS, ASKED, 1, &stream_of("a"))).await;
        let flood = question.repeat(10_000);
        let mut sent = 0;
        let sending = async {
            use tokio::io::AsyncWriteExt;
            while raw.0.write_all(&flood).await.is_ok() {
                sent += flood.len();
            }
        };
        timeout(PATIENCE, sending).await.expect("the connection ends");
        // The buffers of both sockets, in both directions.
        assert!(sent < 64 * 1024 * 1024, "{sent}");
        server.metrics_with("mercure_subscribers_connected", 0.0).await;
    }
}

#[tokio::test]
async fn what_is_begun_must_be_whole_in_its_time() {
    let server = serve(false, Settings { head_timeout: Duration::from_millis(50), ..settings() }).await;
    let open = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let stream = [&open[..], &frame(HEADERS, ASKED, 1, &stream_of("a"))].concat();
    for begun in [
        &b""[..],
        b"PR",
        PREFACE,
        &[PREFACE, &[0, 0, 6]].concat(),
        // It asks for nothing.
        &open,
        &[&open[..], &frame(HEADERS, 0, 1, &get("/healthz"))].concat(),
        &[&open[..], &frame(HEADERS, ASKED, 1, &get("/healthz"))[..20]].concat(),
        // Streams are no excuse.
        &[&stream[..], &frame(HEADERS, 0, 3, &get("/healthz"))].concat(),
        &[&stream[..], &frame(PING, 0, 0, &[0; 8])[..10]].concat(),
    ] {
        let mut raw = Raw(TcpStream::connect(server.address).await.expect("connect"));
        raw.send(begun).await;
        while raw.next().await.is_some() {}
        server.metrics_with(r#"petasos_http_connections{protocol="http/2"}"#, 0.0).await;
    }
}

/// A client of which there is always more to read, and which asks for nothing.
struct Endless {
    next: Vec<u8>,
    /// Bytes of a frame that have come with the one before.
    begun: usize,
}

/// A frame that asks for nothing.
fn unasked() -> Vec<u8> {
    frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])
}

impl AsyncRead for Endless {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // As a socket does it.
        ready!(coop::poll_proceed(cx)).made_progress();
        let length = self.next.len().min(buffer.remaining());
        buffer.put_slice(&self.next[..length]);
        self.next.drain(..length);
        let begun = self.begun;
        self.next.extend([&unasked()[begun..], &unasked()[..begun]].concat());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_client_that_sends_without_a_pause_meets_its_end_in_time_and_makes_room() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const SHORT: Duration = Duration::from_millis(50);
    // With each read, a frame may begin.
    for (head_timeout, makes_room, begun) in [(SHORT, false, 0), (SHORT, false, 5), (HOUR, true, 0)] {
        let server = serve(false, Settings { head_timeout, connections_max: 1, ..settings() }).await;
        let connections = server.connections.clone();
        let permit = connections.admit().expect("room");
        let next = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &unasked()[..begun]].concat();
        let endless = Endless { next, begun };
        let serving = async move { connections.serve(endless, None, permit).await };
        let mut serving = tokio::spawn(serving);
        let room = async {
            while makes_room && server.connections.admit().is_none() {
                yield_now().await;
            }
        };
        timeout(PATIENCE, room).await.expect("it asks for nothing, so another one gets its permit");
        timeout(PATIENCE, &mut serving).await.expect("it ends").expect("no panic");
    }
}

#[tokio::test]
async fn content_that_nobody_reads_is_not_kept_while_its_answer_lasts() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    // For the connection, at its begin.
    raw.next_of(&[WINDOW_UPDATE]).await.expect("room");
    for number in 0..250 {
        let stream = 2 * number + 1;
        raw.send(&frame(HEADERS, END_HEADERS, stream, &stream_of("a"))).await;
        for _ in 0..2 {
            raw.send(&frame(DATA, 0, stream, &[0; 16 * 1024])).await;
        }
    }
    let room = raw.next_of(&[WINDOW_UPDATE]).await.expect("there is room again");
    assert_eq!(room.stream, 0, "no stream gets more");
    server.metrics_with("mercure_subscribers_connected", 250.0).await;
}

#[tokio::test]
async fn heads_that_are_not_whole_are_bounded_in_number() {
    let server = serve(false, Settings { stalled_max: 3, ..settings() }).await;
    let mut waiting = Vec::new();
    for number in 0..5 {
        let mut raw = Raw::open(&server, &[]).await;
        raw.send(&frame(HEADERS, ASKED, 1, &get("/healthz"))).await;
        raw.next_of(&[HEADERS]).await.expect("an answer");
        // With a stream, so that it is not one of the connections that wait for a request.
        raw.send(&frame(HEADERS, ASKED, 3, &stream_of("a"))).await;
        raw.next_of(&[HEADERS]).await.expect("a stream");
        raw.send(&[frame(PING, 0, 0, &[number; 8]), frame(HEADERS, 0, 5, &get("/"))].concat()).await;
        raw.next_of(&[PING]).await.expect("it has come as far as the head");
        waiting.push(raw);
    }
    for raw in &mut waiting[..2] {
        while raw.next().await.is_some() {}
    }
    server.metrics_with("mercure_subscribers_connected", 3.0).await;
    assert!(
        timeout(Duration::from_millis(1), waiting[2].0.read(&mut [0])).await.is_err(),
        "it is still open"
    );
}

/// More content than the hub has room for, so that some of it waits while the rest has to come.
#[tokio::test]
async fn a_publisher_with_many_open_bodies_gets_all_of_them_through() {
    let server = serve(false, settings()).await;
    let client = Client::open(&server, false).await;
    let form = bytes::Bytes::from(format!("topic=a&data={}", "x".repeat(500_000)));
    let mut publishing = tokio::task::JoinSet::new();
    for _ in 0..200 {
        publishing.spawn(client.begin_publish(form.clone()));
    }
    while let Some(status) = timeout(PATIENCE, publishing.join_next()).await.expect("an answer") {
        assert_eq!(status.expect("no panic"), 200);
    }
}
