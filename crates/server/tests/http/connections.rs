//! How long connections are kept, how they end, and peers that stop sending or go on sending.

use std::{sync::Arc, time::Duration};

use petasos_hub::{Hub, MemoryTransport};
use petasos_server::{Connections, Service, Settings};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::client::{FORM, HUB, PATIENCE, Server, Wire, connect, publisher, settings, subscriber};

/// A service without a socket, so that time can be moved.
async fn connections(settings: Settings) -> Connections {
    let hub = petasos_hub::Settings { keep_alive: None, ..Default::default() };
    let hub = Hub::start(Arc::new(MemoryTransport::new(100)), hub).await.expect("start");
    Connections::new(Service::new(hub, settings))
}

/// A connection to it, on a pipe.
fn pipe(connections: &Connections) -> (BufReader<DuplexStream>, JoinHandle<()>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (serving, admission) = (connections.clone(), connections.admit().expect("room"));
    let task = tokio::spawn(async move { serving.serve(server, None, admission).await });
    (BufReader::new(client), task)
}

async fn send(client: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>, bytes: impl AsRef<[u8]>) {
    client.write_all(bytes.as_ref()).await.expect("write");
}

/// One answer with its body, which has a length.
async fn answer(client: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> String {
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        let read = timeout(PATIENCE, client.read_line(&mut answer)).await.expect("an answer").expect("UTF-8");
        assert_ne!(read, 0, "the connection ended after {answer:?}");
    }
    let length =
        crate::client::header(&answer, "content-length").map_or(0, |value| value.parse().expect("a number"));
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.expect("a body");
    answer + std::str::from_utf8(&body).expect("UTF-8")
}

/// All that comes until the connection ends.
async fn rest(client: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> String {
    let mut rest = String::new();
    timeout(PATIENCE, client.read_to_string(&mut rest)).await.expect("an end").expect("UTF-8");
    rest
}

const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_idle_time_and_no_longer() {
    let connections = connections(settings()).await;
    let (mut client, _task) = pipe(&connections);
    for _ in 0..3 {
        send(&mut client, PROBE).await;
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
        sleep(Duration::from_secs(74)).await;
    }
    send(&mut client, PROBE).await;
    answer(&mut client).await;
    let begun = Instant::now();
    let mut end = [0];
    assert_eq!(client.read(&mut end).await.expect("a proper end"), 0);
    assert_eq!(begun.elapsed().as_secs(), 75);

    let connections =
        self::connections(Settings { idle_timeout: Duration::from_secs(3), ..settings() }).await;
    let (mut client, _task) = pipe(&connections);
    send(&mut client, PROBE).await;
    answer(&mut client).await;
    let begun = Instant::now();
    assert_eq!(client.read(&mut end).await.expect("a proper end"), 0);
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_whole_ten_seconds_after_its_first_byte() {
    let connections = connections(settings()).await;
    for requests_before in 0..2 {
        let (mut client, _task) = pipe(&connections);
        for _ in 0..requests_before {
            send(&mut client, PROBE).await;
            answer(&mut client).await;
            sleep(Duration::from_secs(60)).await;
        }
        sleep(Duration::from_secs(9)).await;
        let (mut reader, mut writer) = tokio::io::split(client.into_inner());
        let writing = tokio::spawn(async move {
            for byte in PROBE.as_bytes() {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_secs(9)).await;
            }
        });
        let begun = Instant::now();
        assert_eq!(reader.read(&mut [0]).await.expect("a proper end"), 0);
        assert_eq!(begun.elapsed().as_secs(), 10);
        writing.await.expect("no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_came_with_the_request_before_it_must_be_whole_soon_too() {
    let connections = connections(settings()).await;
    let (mut client, _task) = pipe(&connections);
    send(&mut client, format!("{PROBE}GET /hea")).await;
    answer(&mut client).await;
    let begun = Instant::now();
    assert_eq!(client.read(&mut [0]).await.expect("a proper end"), 0);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_sends_anything_ends_soon() {
    let connections = connections(settings()).await;
    let (mut client, _task) = pipe(&connections);
    let begun = Instant::now();
    assert_eq!(client.read(&mut [0]).await.expect("a proper end"), 0);
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn line_breaks_between_requests_begin_nothing_and_prolong_nothing() {
    let connections = connections(settings()).await;
    let (mut client, _task) = pipe(&connections);
    send(&mut client, format!("{PROBE}\r\n")).await;
    answer(&mut client).await;
    sleep(Duration::from_secs(30)).await;
    send(&mut client, "\r\n\r\n").await;
    sleep(Duration::from_secs(30)).await;
    send(&mut client, format!("\r\n{PROBE}")).await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    let begun = Instant::now();
    for _ in 0..7 {
        sleep(Duration::from_secs(10)).await;
        send(&mut client, "\r\n").await;
    }
    assert_eq!(client.read(&mut [0]).await.expect("a proper end"), 0);
    assert_eq!(begun.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn stopping_closes_idle_connections_at_once() {
    let connections = connections(settings()).await;
    let (mut kept, task) = pipe(&connections);
    send(&mut kept, PROBE).await;
    answer(&mut kept).await;
    let (mut silent, other_task) = pipe(&connections);
    tokio::task::yield_now().await;
    let begun = Instant::now();
    connections.stop().await;
    connections.drained().await;
    assert_eq!((rest(&mut kept).await, rest(&mut silent).await), (String::new(), String::new()));
    task.await.expect("no panic");
    other_task.await.expect("no panic");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn idle_connections_make_room_for_new_ones_and_the_oldest_goes_first() {
    for settings in [Settings { connections_max: 2, ..settings() }, Settings { idle_max: 2, ..settings() }] {
        let server = Server::start(settings).await;
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut client = server.open(PROBE, b"").await;
            answer(&mut client).await;
            kept.push(client);
        }
        // The first is used again, so that the second has waited longest.
        send(&mut kept[0], PROBE).await;
        answer(&mut kept[0]).await;
        let mut third = server.open(PROBE, b"").await;
        assert!(answer(&mut third).await.starts_with("HTTP/1.1 200"));
        assert_eq!(rest(&mut kept[1]).await, "");
        send(&mut kept[0], PROBE).await;
        assert!(answer(&mut kept[0]).await.starts_with("HTTP/1.1 200"));
    }
}

/// A connection on a pipe that takes so little that a head which is written has been read but for its last bytes.
fn narrow(connections: &Connections) -> BufReader<DuplexStream> {
    let (client, server) = tokio::io::duplex(16);
    let (serving, admission) = (connections.clone(), connections.admit().expect("room"));
    drop(tokio::spawn(async move { serving.serve(server, None, admission).await }));
    BufReader::new(client)
}

/// A head but for its end.
const PART: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: y";

#[tokio::test]
async fn heads_that_have_begun_are_bounded_and_the_oldest_goes_first() {
    let connections = connections(Settings { stalled_max: 2, ..settings() }).await;
    let mut begun = Vec::new();
    for _ in 0..2 {
        let mut client = narrow(&connections);
        send(&mut client, PART).await;
        begun.push(client);
    }
    // A head in one piece takes no room of theirs, and two may be under way.
    let (mut whole, _task) = pipe(&connections);
    send(&mut whole, PROBE).await;
    assert!(answer(&mut whole).await.ends_with("ok\n"));
    let mut third = narrow(&connections);
    send(&mut third, PART).await;
    assert_eq!(rest(&mut begun.remove(0)).await, "", "the oldest is closed");
    for mut client in [third, begun.remove(0)] {
        send(&mut client, "\r\n\r\n").await;
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_its_answers_makes_room_for_heads() {
    let connections = connections(Settings { stalled_max: 1, ..settings() }).await;
    let mut deaf = narrow(&connections);
    send(&mut deaf, PROBE).await;
    let mut client = narrow(&connections);
    send(&mut client, PART).await;
    send(&mut client, "\r\n\r\n").await;
    assert!(rest(&mut client).await.starts_with("HTTP/1.1 200"));
    assert!(!rest(&mut deaf).await.contains("ok\n"));
}

#[tokio::test]
async fn a_head_may_have_64_kilobytes() {
    let server = Server::start(settings()).await;
    for (length, status) in [(60_000, "200"), (70_000, "431")] {
        let head = format!("{PART}{}\r\n\r\n", "x".repeat(length));
        let answer = write_then_read(&server, &head, b"").await;
        assert_eq!(answer.get(9..12), Some(status), "{length}");
    }
}

#[tokio::test]
async fn connections_that_are_busy_make_no_room() {
    let server = Server::start(Settings { connections_max: 1, ..settings() }).await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    let mut refused = server.open(PROBE, b"").await;
    assert_eq!(timeout(PATIENCE, refused.read(&mut [0])).await.expect("an end").unwrap_or_default(), 0);
    stream.reader.get_mut().shutdown().await.expect("half close");
    assert_eq!(stream.reader.read(&mut [0]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let server = Server::start(settings()).await;
    let publish = |id: usize| {
        let body = format!("topic=a&id={id}");
        let length = body.len();
        format!(
            "POST {HUB} HTTP/1.1\r\nHost: x\r\n{}\r\n{FORM}\r\nContent-Length: {length}\r\n\r\n{body}",
            publisher()
        )
    };
    let requests: String = (0..100).map(|id| publish(id) + PROBE).collect();
    let mut client = server.open(&requests, b"").await;
    client.get_mut().shutdown().await.expect("half close");
    for id in 0..100 {
        assert!(answer(&mut client).await.ends_with(&format!("\r\n\r\n{id}")));
        assert!(answer(&mut client).await.ends_with("ok\n"));
    }
    assert_eq!(rest(&mut client).await, "");
}

#[tokio::test]
async fn a_client_that_shuts_down_its_sending_side_gets_its_answer() {
    let server = Server::start(settings()).await;
    let (publisher, subscriber) = (publisher(), subscriber());
    let post = |headers: &str, body: &str| {
        let length = body.len();
        format!("POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
    };
    let chunked = format!(
        "POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{publisher}\r\nTransfer-Encoding: chunked\r\n\r\n7\r\ntopic=a\r\n0\r\n\r\n"
    );
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    for (request, statuses) in [
        (post(&format!("{publisher}\r\n"), "topic=a"), &["200"][..]),
        (chunked, &["200"]),
        (post("", "topic=a"), &["401"]),
        (post(&format!("{publisher}\r\n"), "topic=*"), &["400"]),
        (post(&format!("{publisher}\r\nContent-Encoding: gzip\r\n"), "x"), &["415"]),
        (
            format!("POST {HUB} HTTP/1.0\r\n{FORM}\r\n{publisher}\r\nContent-Length: 7\r\n\r\ntopic=a"),
            &["200"],
        ),
        // The body never comes.
        (
            format!(
                "POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{publisher}\r\nContent-Length: 9\r\n\r\ntopic=a"
            ),
            &["400"],
        ),
        (get("/healthz"), &["200"]),
        (get("/readyz"), &["200"]),
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), &["200"]),
        (get("/nothing"), &["404"]),
        (get(HUB), &["400"]),
        (format!("PUT {HUB} HTTP/1.1\r\nHost: x\r\n\r\n"), &["405"]),
        (format!("OPTIONS {HUB} HTTP/1.1\r\nHost: x\r\n\r\n"), &["204"]),
        (format!("HEAD {HUB}?topic=a HTTP/1.1\r\nHost: x\r\n\r\n"), &["200"]),
        (format!("GET {HUB}/subscriptions HTTP/1.1\r\nHost: x\r\n{subscriber}\r\n\r\n"), &["200"]),
        (format!("QUERY {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nContent-Length: 0\r\n\r\n"), &["400"]),
        ("nonsense\r\n\r\n".to_owned(), &["400"]),
        (
            get("/healthz") + &get("/nothing") + &post("", "topic=a") + &get("/healthz"),
            &["200", "404", "401", "200"],
        ),
    ] {
        for on_pipe in [false, true] {
            let (mut pipe, _task) = pipe(&server.connections);
            let answers = if on_pipe {
                send(&mut pipe, &request).await;
                pipe.get_mut().shutdown().await.expect("half close");
                rest(&mut pipe).await
            } else {
                let mut client = server.open(&request, b"").await;
                client.get_mut().shutdown().await.expect("half close");
                rest(&mut client).await
            };
            let found: Vec<_> = answers.split("HTTP/1.").skip(1).map(|answer| &answer[2..5]).collect();
            assert_eq!(found, statuses, "{request}\n{answers}");
        }
    }
}

#[tokio::test]
async fn a_subscriber_leaves_when_it_shuts_down_its_sending_side() {
    let server = Server::start(settings()).await;
    for _ in 0..20 {
        assert_eq!(server.publish_with(&publisher(), b"topic=a").await.status, 200);
    }
    let body = "topic=a";
    let query = format!("QUERY {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nContent-Length: 7\r\n\r\n{body}");
    let get = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: x\r\n\r\n");
    for request in [
        get.clone(),
        format!("GET {HUB}?topic=a HTTP/1.0\r\n\r\n"),
        query,
        // History is read for these, and nothing of it matches the second.
        format!("GET {HUB}?topic=a&lastEventID=earliest HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET {HUB}?topic=b&lastEventID=earliest HTTP/1.0\r\n\r\n"),
        // Further bytes from the peer are discarded, and do not hide that it leaves.
        format!("{get}{PROBE}"),
        format!("{PROBE}{get}"),
        format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
    ] {
        for late in [false, true] {
            let (mut pipe, _task) = pipe(&server.connections);
            let mut client = server.open(&request, b"").await;
            send(&mut pipe, &request).await;
            if late {
                while server.connections.service().hub().stats().subscribers < 2 {
                    tokio::task::yield_now().await;
                }
            }
            client.get_mut().shutdown().await.expect("half close");
            pipe.get_mut().shutdown().await.expect("half close");
            for mut answer in [read_all(&mut client).await, read_all(&mut pipe).await] {
                if request.starts_with(PROBE) {
                    answer = answer.split_off(answer.find("ok\n").expect("the probe's answer") + 3);
                }
                assert!(
                    answer.contains(" 200 OK\r\n") && answer.contains("text/event-stream"),
                    "{request}: {answer}"
                );
            }
            while server.connections.service().hub().stats().subscribers > 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// The client is a thread of its own, so that there is always something to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn line_breaks_are_no_request_and_keep_no_connection() {
    let server = Server::start(Settings { head_timeout: Duration::from_millis(200), ..settings() }).await;
    let address = server.address;
    let sending = tokio::task::spawn_blocking(move || {
        #[expect(clippy::disallowed_methods, reason = "the system accepts it at once")]
        let mut client = std::net::TcpStream::connect(address).expect("connect");
        client.set_write_timeout(Some(PATIENCE)).expect("an option");
        let breaks = b"\r\n".repeat(256 * 1024);
        let began = Instant::now();
        while std::io::Write::write_all(&mut client, &breaks).is_ok() {
            assert!(began.elapsed() < PATIENCE, "it is still read");
        }
    });
    sending.await.expect("an end");
}

/// All bytes until the connection ends, with or without an error.
async fn read_all(client: &mut BufReader<impl AsyncRead + AsyncWrite + Unpin>) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("an end");
    String::from_utf8(bytes).expect("UTF-8")
}

/// The answer to a refused request, for a client that writes all of it before it reads.
async fn write_then_read(server: &Server, head: &str, body: &[u8]) -> String {
    let mut client = connect(server.address).await;
    client.write_all(head.as_bytes()).await.expect("write");
    client.write_all(body).await.expect("all of the body is taken");
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("an end").expect("no reset");
    answer
}

#[tokio::test]
async fn whoever_writes_a_refused_body_to_its_end_reads_the_answer() {
    let server = Server::start(settings()).await;
    let body = vec![b'x'; 5 * 1024 * 1024];
    let mut chunks = Vec::with_capacity(body.len() + 1024);
    for part in body.chunks(64 * 1024) {
        chunks.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        chunks.extend_from_slice(part);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    let (publisher, nobody) = (publisher(), "X-None: 1".to_owned());
    for (method, target, header, coding, status) in [
        ("POST", HUB, &publisher, "identity", "413"),
        ("POST", HUB, &nobody, "identity", "401"),
        ("POST", HUB, &publisher, "gzip", "415"),
        ("PUT", HUB, &publisher, "identity", "405"),
        ("POST", "/nothing", &publisher, "identity", "404"),
        ("QUERY", HUB, &nobody, "identity", "413"),
        ("GET", "/healthz", &nobody, "identity", "200"),
        ("DELETE", "/.well-known/mercure/subscriptions", &publisher, "identity", "405"),
    ] {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{header}\r\nContent-Encoding: {coding}\r\n"
        );
        // Often, since it would be a race.
        for _ in 0..ROUNDS {
            let sized = format!("{head}Content-Length: {}\r\n\r\n", body.len());
            let in_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
            for (head, body) in [(sized, &body), (in_chunks, &chunks)] {
                let answer = write_then_read(&server, &head, body).await;
                assert_eq!(answer.get(9..12), Some(status), "{head}: {answer}");
                assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
                assert!(answer.contains("connection: close\r\n"), "{answer}");
            }
        }
    }
}

/// Uploads of each kind.
const ROUNDS: usize = 25;

#[tokio::test]
async fn a_head_that_is_far_too_long_is_answered() {
    let server = Server::start(settings()).await;
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2_000_000));
    for _ in 0..ROUNDS {
        let answer = write_then_read(&server, &head, b"").await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}

#[tokio::test]
async fn whoever_goes_on_writing_is_cut_off() {
    let server = Server::start(settings()).await;
    let head = format!("POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut client = connect(server.address).await;
    client.write_all(head.as_bytes()).await.expect("write");
    let part = [&b"10000\r\n"[..], &vec![b'x'; 65_536], b"\r\n"].concat();
    let mut written = 0;
    let writing = async {
        while client.write_all(&part).await.is_ok() {
            written += part.len();
        }
    };
    timeout(PATIENCE, writing).await.expect("an end");
    // The buffers of both ends hold some more.
    assert!(written < 96 * 1024 * 1024, "{written}");
    server.connections.stop().await;
    timeout(PATIENCE, server.connections.drained()).await.expect("it is gone");
}

#[tokio::test]
async fn a_body_that_waits_for_100_continue_is_refused_at_once() {
    let server = Server::start(settings()).await;
    let head = |header: &str, length: usize| {
        format!(
            "POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\n{header}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    for (header, length, status) in [
        (publisher(), 5 * 1024 * 1024, "413"),
        ("X-None: 1".to_owned(), 7, "401"),
        (format!("{}\r\nContent-Encoding: br", publisher()), 7, "415"),
    ] {
        let mut client = server.open(&head(&header, length), b"").await;
        let answer = rest(&mut client).await;
        assert_eq!(answer.get(9..12), Some(status), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    let mut client = server.open(&head(&publisher(), 7), b"").await;
    assert_eq!(answer(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
    send(&mut client, "topic=a").await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
    send(&mut client, PROBE).await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_small_body_that_is_refused_costs_no_connection() {
    let server = Server::start(settings()).await;
    let request = format!("POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nContent-Length: 7\r\n\r\ntopic=a");
    let mut client = server.open(&request, b"").await;
    for _ in 0..3 {
        assert!(answer(&mut client).await.starts_with("HTTP/1.1 401"));
        send(&mut client, &request).await;
    }
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 401"));
}

/// A body that a refusal leaves unread is never taken for the next request.
#[tokio::test]
async fn an_unread_body_is_no_request() {
    let server = Server::start(settings()).await;
    let smuggled = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for pause in [false, true] {
        let head =
            format!("POST {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nContent-Length: {}\r\n\r\n", smuggled.len());
        let mut client = server.open(&head, b"").await;
        let first = if pause { answer(&mut client).await } else { String::new() };
        // The connection may be over already.
        let _ = client.write_all(smuggled.as_bytes()).await;
        let answers = first + &read_all_or_idle(&mut client).await;
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        assert!(answers.starts_with("HTTP/1.1 401"));
    }
}

/// All that comes until the connection ends, which the client asks for.
async fn read_all_or_idle(client: &mut BufReader<Wire>) -> String {
    let _ = client.get_mut().shutdown().await;
    read_all(client).await
}
