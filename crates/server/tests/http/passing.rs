//! An application in the same process passes its clients to the hub, over a pair of sockets.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    net,
    os::{
        fd::{AsFd, OwnedFd},
        unix,
    },
    time::Duration,
};

use petasos_server::Settings;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    task::yield_now,
    time::{self, Instant, timeout},
};

use crate::client::{HUB, PATIENCE, Server, publisher, settings};

/// The application's end of a pair, after it has read the head of a stream.
struct Application {
    pair: UnixStream,
    head: String,
}

impl Application {
    async fn subscribe(server: &Server) -> Self {
        Self::request(server, &format!("GET {HUB}?topic=a HTTP/1.0\r\n\r\n")).await
    }

    async fn request(server: &Server, request: &str) -> Self {
        let (mut pair, end) = UnixStream::pair().expect("a pair");
        let permit = server.connections.admit().expect("room");
        let connections = server.connections.clone();
        tokio::spawn(async move { connections.serve_application(end, permit).await });
        pair.write_all(request.as_bytes()).await.expect("it reads");
        let head = until(&mut pair, "\r\n\r\n").await;
        Self { pair, head }
    }

    fn send(&self, message: &[u8], descriptors: &[&OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|each| each.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sent = sendmsg(&self.pair, &[IoSlice::new(message)], &mut ancillary, SendFlags::empty());
        assert_eq!(sent.expect("sent"), message.len());
    }
}

/// Two connected stream sockets: the client's end, and the end that a server has.
fn sockets(family: &str) -> (UnixStream, OwnedFd) {
    let (client, server): (OwnedFd, OwnedFd) = match family {
        "Unix" => {
            let (client, server) = unix::net::UnixStream::pair().expect("a pair");
            (client.into(), server.into())
        }
        _ => {
            let listener = net::TcpListener::bind("127.0.0.1:0").expect("bind");
            #[expect(clippy::disallowed_methods, reason = "the system accepts it at once")]
            let client =
                net::TcpStream::connect(listener.local_addr().expect("an address")).expect("connect");
            (client.into(), listener.accept().expect("accept").0.into())
        }
    };
    (as_tokio(client), server)
}

/// A descriptor is read and written alike, whatever its family.
fn as_tokio(descriptor: OwnedFd) -> UnixStream {
    let socket = unix::net::UnixStream::from(descriptor);
    socket.set_nonblocking(true).expect("a mode");
    UnixStream::from_std(socket).expect("registered")
}

async fn until(socket: &mut UnixStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let byte = timeout(PATIENCE, socket.read_u8()).await.expect("it comes");
        text.push(byte.unwrap_or_else(|error| panic!("{error}: {text}")).into());
    }
    text
}

async fn rest(socket: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("it ends").expect("in order");
    bytes
}

async fn nobody_is_subscribed(server: &Server) {
    let nobody = async {
        while server.connections.service().hub().stats().subscribers > 0 {
            yield_now().await;
        }
    };
    timeout(PATIENCE, nobody).await.expect("the hub notices");
}

#[tokio::test]
async fn a_client_that_is_passed_gets_the_head_of_the_application_and_the_stream() {
    let server = Server::start(settings()).await;
    for family in ["TCP", "Unix"] {
        for (version, is_chunked) in [("1.1", true), ("1.0", false)] {
            let application = Application::subscribe(&server).await;
            assert!(application.head.starts_with("HTTP/1.0 200 OK\r\n"), "{}", application.head);
            let (mut client, at_server) = sockets(family);
            let (mut servers, hubs) = sockets("Unix");
            let head = format!(
                "HTTP/{version} 200 OK\r\nX-Own: \u{e9}\r\nDate: never\r\nConnection: keep-alive\r\n\
                 content-length: 7\r\nTransfer-Encoding: gzip\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
            );
            application.send(head.as_bytes(), &[&at_server, &hubs]);
            drop((application, at_server, hubs));
            let head = until(&mut client, "\r\n\r\n").await;
            assert!(head.starts_with(&format!("HTTP/{version} 200 OK\r\nX-Own: ")), "{head}");
            assert!(head.contains("Set-Cookie: a\r\nSet-Cookie: b\r\nconnection: close\r\ndate: "), "{head}");
            assert!(
                !head.contains("never") && !head.contains("keep-alive") && !head.contains("gzip"),
                "{head}"
            );
            assert!(!head.to_lowercase().contains("content-length"), "{head}");
            assert_eq!(head.contains("transfer-encoding: chunked"), is_chunked, "{head}");
            assert_eq!(server.publish_with(&publisher(), b"topic=a&data=x&id=1").await.status, 200);
            assert!(until(&mut client, "data: x\n\n").await.contains("id: 1\n"));
            // Its server writes an answer, reads an end, and closes.
            servers.write_all(&[b'x'; 100_000]).await.expect("it is read");
            assert_eq!(rest(&mut servers).await, b"");
            drop(client);
            nobody_is_subscribed(&server).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_is_kept_has_its_stream_on_the_pair() {
    let server = Server::start(settings()).await;
    let mut application = Application::subscribe(&server).await;
    assert_eq!(server.publish_with(&publisher(), b"topic=a&data=x").await.status, 200);
    application.pair.write_all(b"\n").await.expect("it reads");
    assert!(until(&mut application.pair, "data: x\n\n").await.starts_with("retry: "));
    server.connections.stop().await;
    assert_eq!(rest(&mut application.pair).await, b"");
}

#[tokio::test]
async fn an_application_that_closes_the_pair_ends_its_stream() {
    let server = Server::start(settings()).await;
    let application = Application::subscribe(&server).await;
    assert_eq!(server.connections.service().hub().stats().subscribers, 1);
    drop(application);
    nobody_is_subscribed(&server).await;
}

#[tokio::test]
async fn an_application_that_does_not_decide_within_a_minute_loses_its_stream() {
    let server = Server::start(settings()).await;
    let began = Instant::now();
    let mut application = Application::subscribe(&server).await;
    // The minute has begun a moment ago.
    let asked = began.elapsed();
    time::pause();
    let mut more = Vec::new();
    application.pair.read_to_end(&mut more).await.expect("it ends");
    assert!(more.is_empty());
    let minute = Duration::from_secs(60);
    assert!(
        (minute..minute + asked + Duration::from_secs(1)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    nobody_is_subscribed(&server).await;
}

#[tokio::test]
async fn a_message_that_is_no_head_and_two_descriptors_ends_the_stream() {
    let server = Server::start(settings()).await;
    let good = "HTTP/1.1 200 OK\r\n\r\n";
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (message, count) in [
        (good, 1),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 2),
        ("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", 2),
        ("HTTP/1.1 200 OK\r\na: \0\r\n\r\n", 2),
        ("HTTP/1.1 200 OK\r\n\r\nmore\r\n\r\n", 2),
        ("nonsense\r\n\r\n", 2),
        (&long, 2),
        (&many, 2),
    ] {
        let application = Application::subscribe(&server).await;
        let ((mut client, at_server), (_servers, hubs)) = (sockets("TCP"), sockets("Unix"));
        application.send(message.as_bytes(), &[&at_server, &hubs][..count]);
        drop((at_server, hubs));
        assert_eq!(rest(&mut client).await, b"", "{message}");
        nobody_is_subscribed(&server).await;
    }
}

#[tokio::test]
async fn what_is_no_stream_is_answered_as_on_every_connection() {
    let server = Server::start(settings()).await;
    let request = format!("GET {HUB} HTTP/1.0\r\n\r\n");
    let mut application = Application::request(&server, &request).await;
    assert!(application.head.starts_with("HTTP/1.0 400"), "{}", application.head);
    assert!(!rest(&mut application.pair).await.is_empty());
}

#[tokio::test]
async fn a_client_on_a_unix_socket_that_does_not_read_is_closed_whether_live_or_not() {
    let write_timeout = Duration::from_millis(100);
    let server = Server::start(Settings { write_timeout, ..settings() }).await;
    let large = format!("topic=a&data={}", "x".repeat(500_000));
    for cursor in ["", "&lastEventID=earliest"] {
        let request = format!("GET {HUB}?topic=a{cursor} HTTP/1.0\r\n\r\n");
        let application = Application::request(&server, &request).await;
        let ((mut client, at_server), (_servers, hubs)) = (sockets("Unix"), sockets("Unix"));
        application.send(b"HTTP/1.1 200 OK\r\n\r\n", &[&at_server, &hubs]);
        drop((at_server, hubs));
        until(&mut client, "\r\n\r\n").await;
        assert_eq!(server.publish_with(&publisher(), large.as_bytes()).await.status, 200);
        nobody_is_subscribed(&server).await;
    }
}

/// A Unix socket takes more when three quarters of its buffer are free.
#[tokio::test]
async fn a_client_on_a_unix_socket_that_reads_slowly_keeps_its_stream_whether_live_or_not() {
    const LAST: &[u8] = b"data: last\n\n";
    let write_timeout = Duration::from_secs(2);
    let server = &Server::start(Settings { write_timeout, ..settings() }).await;
    let publish = async |data: &str| {
        let form = format!("topic=a&data={data}");
        assert_eq!(server.publish_with(&publisher(), form.as_bytes()).await.status, 200);
    };
    let client = async |cursor: &str, is_kept: bool| {
        let request = format!("GET {HUB}?topic=a{cursor} HTTP/1.0\r\n\r\n");
        let mut application = Application::request(server, &request).await;
        if is_kept {
            application.pair.write_all(b"\n").await.expect("it reads");
            return application.pair;
        }
        let ((mut client, at_server), (_servers, hubs)) = (sockets("Unix"), sockets("Unix"));
        application.send(b"HTTP/1.0 200 OK\r\n\r\n", &[&at_server, &hubs]);
        until(&mut client, "\r\n\r\n").await;
        client
    };
    let live = [client("", false).await, client("", true).await];
    for _ in 0..10 {
        publish(&"x".repeat(100_000)).await;
    }
    publish("last").await;
    let earliest = "&lastEventID=earliest";
    let late = [client(earliest, false).await, client(earliest, true).await];
    let reading = live.into_iter().chain(late).map(|mut client| {
        tokio::spawn(async move {
            // 64 KB/s: the buffer that a socket has by itself would take more only after three seconds. There is no event to wait
            // for: a slow client is one that lets time pass.
            let (mut all, mut part) = (Vec::new(), [0; 3_200]);
            let mut steps = time::interval(Duration::from_millis(50));
            for _ in 0..70 {
                steps.tick().await;
                client.read_exact(&mut part).await.expect("it goes on");
                all.extend(part);
            }
            while !all.ends_with(LAST) {
                let read = timeout(PATIENCE, client.read_buf(&mut all)).await.expect("it comes");
                assert_ne!(read.expect("it goes on"), 0, "it goes on");
            }
            all.len()
        })
    });
    for reading in reading.collect::<Vec<_>>() {
        assert!(reading.await.expect("no panic") > 1_000_000);
    }
}
