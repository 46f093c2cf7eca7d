//! Long lists of subscriptions: what they cost the hub, and what a reader notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use petasos_auth::Signer;
use petasos_hub::{
    MemoryTransport, TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
    transport::{Follower, Head, Page as LogPage, Position, Transport},
};
use petasos_protocol::{
    Dialect,
    matcher::{MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    update::Update,
};
use petasos_server::Settings;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpSocket,
    task::yield_now,
    time::timeout,
};

use crate::{
    client::{HUB, PATIENCE, Server, Stream, Wire, header, settings, shake},
    frames::{DATA, END_HEADERS, END_STREAM, HEADERS, Raw, frame, request, window},
};

fn authorization() -> String {
    let claims = r#"{"mercure":{"subscribe":["*"]}}"#;
    format!("Authorization: Bearer {}", Signer::parse("subscriber", None).expect("a key").sign("JWT", claims))
}

fn target() -> String {
    format!("{HUB}/subscriptions")
}

/// A subscriber with two topics of some kilobytes, whose documents have three times as many.
async fn subscriber(server: &Server, number: usize) -> Stream {
    let long = "%2F".repeat(1_500);
    server.subscribe(&format!("topic={number}-{long}&topic=other-{number}-{long}"), &[]).await
}

/// A connection that takes little unread.
async fn narrow(server: &Server) -> Wire {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("an option");
    shake(socket.connect(server.address).await.expect("connect")).await
}

/// Asks for a list, on a connection that takes little unread. The head of the answer has been read.
async fn ask(server: &Server, version: &str) -> (String, BufReader<Wire>) {
    let mut reader = BufReader::new(narrow(server).await);
    let request = format!("GET {} {version}\r\nHost: x\r\n{}\r\n\r\n", target(), authorization());
    reader.get_mut().write_all(request.as_bytes()).await.expect("write");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = timeout(PATIENCE, reader.read_line(&mut head)).await;
        assert_ne!(read.expect("a head").expect("UTF-8"), 0, "{head}");
    }
    (head, reader)
}

fn count(document: &str) -> usize {
    let document: Value = serde_json::from_str(document).expect("whole JSON");
    document["subscriptions"].as_array().expect("a list").len()
}

#[tokio::test]
async fn a_long_list_comes_in_small_pieces_and_whole() {
    let server = Server::start(settings()).await;
    let mut subscribers = Vec::new();
    for number in 0..100 {
        subscribers.push(subscriber(&server, number).await);
    }
    let (head, reader) = ask(&server, "HTTP/1.1").await;
    assert_eq!(header(&head, "transfer-encoding"), Some("chunked"));
    assert_eq!(header(&head, "content-type"), Some("application/ld+json"));
    let mut stream = Stream { head, first: String::new(), reader };
    let (mut pieces, mut document) = (0, String::new());
    while let Some(piece) = stream.chunk().await {
        assert!(piece.len() <= 64 * 1024, "{}", piece.len());
        pieces += 1;
        document.push_str(&piece);
    }
    assert!(pieces > 10, "{pieces}");
    assert_eq!(count(&document), 200);

    let (head, mut reader) = ask(&server, "HTTP/1.0").await;
    assert_eq!((header(&head, "transfer-encoding"), header(&head, "content-length")), (None, None));
    let mut whole = String::new();
    timeout(PATIENCE, reader.read_to_string(&mut whole)).await.expect("its end").expect("UTF-8");
    assert_eq!(count(&whole), 200);

    let answer = server.request("HEAD", &target(), &[&authorization()], b"").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    // Each announcement of an arrival changes the tag, and some may still come.
    let mut tags = (header(&head, "etag").map(str::to_owned), answer.header("etag").map(str::to_owned));
    while tags.0 != tags.1 {
        let (head, _) = ask(&server, "HTTP/1.0").await;
        let answer = server.request("HEAD", &target(), &[&authorization()], b"").await;
        tags = (header(&head, "etag").map(str::to_owned), answer.header("etag").map(str::to_owned));
    }
    assert!(tags.0.is_some());
}

#[tokio::test]
async fn a_short_list_says_its_length() {
    let server = Server::start(settings()).await;
    let _stream = server.subscribe("topic=a", &[]).await;
    let answer = server.request("GET", &target(), &[&authorization()], b"").await;
    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    assert_eq!(count(&answer.body), 1);
}

#[tokio::test]
async fn readers_are_bounded_and_slow_ones_hold_up_nobody() {
    let server = Server::start(settings()).await;
    let mut subscribers = Vec::new();
    for number in 0..60 {
        subscribers.push(subscriber(&server, number).await);
    }
    let mut readers = Vec::new();
    for _ in 0..32 {
        let (head, reader) = ask(&server, "HTTP/1.1").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        readers.push(reader);
    }
    let refused = server.request("GET", &target(), &[&authorization()], b"").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    let etag = server.request("HEAD", &target(), &[&authorization()], b"").await;
    assert_eq!(etag.status, 200);
    let known = format!("If-None-Match: {}", etag.header("etag").expect("a tag"));
    assert_eq!(server.request("GET", &target(), &[&authorization(), &known], b"").await.status, 304);
    // Publishers and subscribers do not notice.
    let mut stream = server.subscribe("topic=news", &[]).await;
    assert_eq!(server.publish("topic=news&id=1").await.status, 200);
    assert!(stream.event().await.starts_with("id: 1\n"));
    drop(stream);
    drop(subscribers);
    // One reads on, slowly, and what it gets is whole though everybody has left meanwhile.
    let (head, reader) = (String::new(), readers.pop().expect("one"));
    let mut stream = Stream { head, first: String::new(), reader };
    let mut document = String::new();
    while let Some(piece) = stream.chunk().await {
        document.push_str(&piece);
    }
    assert!(count(&document) <= 120);
    let again = server.request("GET", &target(), &[&authorization()], b"").await;
    assert_eq!(again.status, 200);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_of() {
    let server = Server::start(Settings { write_timeout: Duration::from_millis(500), ..settings() }).await;
    // A connection that comes before the server accepts has the default time-out.
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200);
    let mut subscribers = Vec::new();
    for number in 0..60 {
        subscribers.push(subscriber(&server, number).await);
    }
    let alone = || async {
        while server.connections.open() > subscribers.len() {
            yield_now().await;
        }
    };
    timeout(PATIENCE, alone()).await.expect("the first one leaves");
    let _reader = ask(&server, "HTTP/1.1").await;
    let mut raw = Raw::on(narrow(&server).await, &[(4, 0x7fff_ffff)]).await;
    raw.send(&window(0, 0x7000_0000)).await;
    let authorization = authorization();
    let more = [("authorization", authorization.split_once(": ").expect("a field").1)];
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &request("GET", &target(), &more))).await;
    raw.next_of(&[DATA]).await.expect("it begins");
    timeout(PATIENCE, alone()).await.expect("they end");
}

/// A log with a list of subscribers that breaks off after the first page.
struct Broken {
    log: MemoryTransport,
    pages: Arc<AtomicUsize>,
}

#[async_trait]
impl Transport for Broken {
    async fn head(&self) -> Result<Head, TransportError> {
        self.log.head().await
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.log.append(update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.log.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<LogPage, TransportError> {
        self.log.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.log.follow(after).await
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

#[async_trait]
impl Registry for Broken {
    fn lease(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn renew(&self, _node: NodeId) -> Result<Lease, TransportError> {
        Ok(Lease::Kept)
    }

    async fn record(&self, _node: NodeId, _facts: &[Fact]) -> Result<Lease, TransportError> {
        Ok(Lease::Kept)
    }

    async fn abandoned(&self, _limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        Ok(Vec::new())
    }

    async fn expire(&self, _node: NodeId, _departures: &[Fact]) -> Result<(), TransportError> {
        Ok(())
    }

    async fn resign(&self, _node: NodeId) -> Result<(), TransportError> {
        Ok(())
    }

    async fn page(&self, _text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        if after > 0 {
            return Err(TransportError::unavailable("for a test"));
        }
        let subscription = |number: usize| Subscription {
            dialect: Dialect::Legacy,
            matcher: MatcherText::new(MatcherType::Exact, "a".repeat(4_000)),
            subscriber: SubscriberId::from_uuid(number as u128),
            payload: None,
        };
        let subscribers = (0..limit).map(|number| [subscription(number)].into()).collect();
        Ok(Page { subscribers, next: Some(1) })
    }
}

#[tokio::test]
async fn a_head_and_an_unchanged_list_read_nothing_and_a_list_that_breaks_off_is_noticed() {
    let pages = Arc::new(AtomicUsize::new(0));
    let log = Arc::new(Broken { log: MemoryTransport::new(100), pages: Arc::clone(&pages) });
    let hub = petasos_hub::Settings { keep_alive: None, ..Default::default() };
    let server = Server::start_on(log, settings(), hub).await;
    let answer = server.request("HEAD", &target(), &[&authorization()], b"").await;
    let known = format!("If-None-Match: {}", answer.header("etag").expect("a tag"));
    for method in ["GET", "HEAD"] {
        let answer = server.request(method, &target(), &[&authorization(), &known], b"").await;
        assert_eq!(answer.status, 304);
    }
    assert_eq!(pages.load(Ordering::SeqCst), 0);

    let (head, mut reader) = ask(&server, "HTTP/1.1").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, reader.read_to_end(&mut rest)).await.expect("an end");
    assert!(rest.len() > 64 * 1024 && !rest.ends_with(b"0\r\n\r\n"), "{}", rest.len());
}
