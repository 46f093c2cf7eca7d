//! The bytes that all subscribers bring together are bounded.

use petasos_auth::Signer;
use petasos_hub::Session;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    task::JoinSet,
    time::timeout,
};

use crate::client::{HUB, PATIENCE, Server, Wire, header, settings};

async fn start(subscribers_bytes_max: usize) -> Server {
    let hub = petasos_hub::Settings { keep_alive: None, subscribers_bytes_max, ..Default::default() };
    Server::start_with(settings(), hub).await
}

/// A query of some kilobytes.
fn large(number: usize) -> String {
    (0..10).map(|topic| format!("topic={number}-{topic}-{}&", "a".repeat(3_000))).collect()
}

async fn departures(watch: &mut Session, count: usize) {
    let mut departed = 0;
    while departed < count {
        let event = timeout(PATIENCE, watch.next()).await.expect("all of them leave").expect("the hub runs");
        departed += usize::from(String::from_utf8_lossy(&event).contains("\"active\":false"));
    }
}

/// Subscribes until there is no more room, and says how many got in. The answer to the first that does not is checked.
async fn fill(
    server: &Server,
    query: impl Fn(usize) -> String,
    headers: impl Fn(usize) -> Vec<String>,
) -> Vec<BufReader<Wire>> {
    let mut streams = Vec::new();
    loop {
        let number = streams.len();
        let headers: String = headers(number).iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!("GET {HUB}?{} HTTP/1.1\r\nHost: x\r\n{headers}\r\n", query(number));
        let mut stream = server.open(&head, b"").await;
        let mut status = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut status)).await.expect("an answer").expect("whole");
        if status.ends_with(b"503") {
            return streams;
        }
        assert!(status.ends_with(b"200"), "{}", status.escape_ascii());
        streams.push(stream);
        assert!(streams.len() < 2_000, "it is bounded");
    }
}

#[tokio::test]
async fn matchers_are_bounded_together_few_large_ones_leave_room_and_newcomers_get_in_again() {
    let server = start(2 * 1024 * 1024).await;
    let mut watch = server.connections.service().hub().watch_subscriptions().await.expect("a watch");
    let first = fill(&server, large, |_| Vec::new()).await;
    assert!((20..=32).contains(&first.len()), "{}", first.len());
    let refused = server.request("GET", &format!("{HUB}?{}", large(2_000)), &[], b"").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")));
    assert!(refused.body.contains("no-room"), "{}", refused.body);
    // Small subscribers are still admitted, and everything works.
    let mut small = server.subscribe("topic=news", &[]).await;
    assert_eq!(server.publish("topic=news&id=1").await.status, 200);
    assert!(small.event().await.starts_with("id: 1\n"));
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200);

    let count = first.len();
    drop(first);
    departures(&mut watch, 10 * count).await;
    let again = fill(&server, large, |_| Vec::new()).await;
    // A departure is announced a moment before its part of the budget is given back.
    assert!(again.len() + 2 >= count, "{} of {count}", again.len());
}

#[tokio::test]
async fn grants_and_payloads_of_tokens_count_once_for_each_token() {
    let server = start(2 * 1024 * 1024).await;
    let token = |number: usize| {
        let payload = "p".repeat(8_000);
        let claims = format!(
            r#"{{"mercure":{{"subscribe":["{number}"],"payload":{{"n":{number},"p":"{payload}"}}}}}}"#
        );
        let signer = Signer::parse("subscriber", None).expect("a key");
        vec![format!("Authorization: Bearer {}", signer.sign("JWT", &claims))]
    };
    // As many streams as there are with one token share it.
    let mut crowd = Vec::new();
    for _ in 0..500 {
        crowd.push(server.subscribe("topic=a", &[&token(0)[0]]).await);
    }
    let others = fill(&server, |_| "topic=b".to_owned(), |number| token(number + 1)).await;
    assert!((100..=250).contains(&others.len()), "{}", others.len());
}

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// As much as a body may have.
const BODY_BYTES: usize = 1024 * 1024;

/// Bodies of that size for which there is room.
const BODIES_MAX: usize = 32;

/// A head of an answer.
async fn head(stream: &mut BufReader<Wire>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_line(&mut head)).await.expect("an answer").expect("UTF-8");
        assert_ne!(read, 0, "the connection ended after {head:?}");
    }
    head
}

/// A QUERY of which all but `missing` bytes have been written, or that has been refused before.
async fn query(server: &Server, missing: usize) -> BufReader<Wire> {
    let mut body = b"topic=a&x=".to_vec();
    body.resize(BODY_BYTES - missing, b'x');
    let head = format!("QUERY {HUB} HTTP/1.1\r\nHost: x\r\n{FORM}\r\nContent-Length: {BODY_BYTES}\r\n\r\n");
    let mut stream = server.open(&head, b"").await;
    let _ = timeout(PATIENCE, stream.write_all(&body)).await.expect("it is read");
    stream
}

#[tokio::test]
async fn bodies_of_subscribers_are_bounded_together_and_those_of_publishers_apart() {
    let server = Server::start(settings()).await;
    // Of these, some must be refused; which, depends on the order in which their bytes arrive.
    let mut waiting = JoinSet::new();
    let mut streams = Vec::new();
    for _ in 0..BODIES_MAX + 8 {
        streams.push(query(&server, 1).await);
    }
    for mut stream in streams {
        waiting.spawn(async move { (head(&mut stream).await, stream) });
    }
    let (refused, _stream) = waiting.join_next().await.expect("one").expect("no panic");
    assert!(refused.starts_with("HTTP/1.1 503") && header(&refused, "retry-after").is_some(), "{refused}");
    let token =
        Signer::parse("publisher", None).expect("a key").sign("JWT", r#"{"mercure":{"publish":["*"]}}"#);
    let bearer = format!("Authorization: Bearer {token}");
    assert_eq!(server.publish_with(&bearer, b"topic=a").await.status, 200);
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200);

    // They leave, and as many as there is room for come.
    waiting.shutdown().await;
    let length = format!("Content-Length: {}", "topic=a".len());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.request("QUERY", HUB, &[FORM], b"").await.status == 503 {
        assert!(tokio::time::Instant::now() < deadline, "their room is given back");
    }
    let mut stream = server.stream("QUERY", HUB, &[FORM, &length], b"topic=a").await;
    assert_eq!(server.publish_with(&bearer, b"topic=a&id=1").await.status, 200);
    assert!(stream.event().await.starts_with("id: 1\n"));
}

#[tokio::test]
async fn subscribers_bodies_for_which_there_is_room_are_read() {
    let server = Server::start(settings()).await;
    let mut streams = Vec::new();
    for _ in 0..BODIES_MAX {
        streams.push(query(&server, 1).await);
    }
    for mut stream in streams {
        stream.write_all(b"x").await.expect("it is read");
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

#[tokio::test]
async fn publishers_wait_for_room_for_their_bodies() {
    let server = Server::start(settings()).await;
    let mut subscriber = server.subscribe("topic=a", &[]).await;
    let token =
        Signer::parse("publisher", None).expect("a key").sign("JWT", r#"{"mercure":{"publish":["*"]}}"#);
    let bearer = format!("Authorization: Bearer {token}");
    let begin = format!(
        "POST {HUB} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n{FORM}\r\nExpect: 100-continue\r\nContent-Length: \
         {BODY_BYTES}\r\n\r\n"
    );
    let mut held = Vec::new();
    for _ in 0..BODIES_MAX {
        let mut stream = server.open(&begin, b"").await;
        // A body is asked for once it has its room.
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 100"));
        held.push(stream);
    }
    let body = "topic=a&id=late";
    let length = body.len();
    let post = format!(
        "POST {HUB} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n{FORM}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut late = server.open(&post, b"").await;
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200);
    // Not refused and not served either, before another has been.
    let mut first = held.pop().expect("one");
    let mut body = b"topic=a&id=first&x=".to_vec();
    body.resize(BODY_BYTES, b'x');
    first.write_all(&body).await.expect("it is read");
    assert!(head(&mut first).await.starts_with("HTTP/1.1 200"));
    assert!(head(&mut late).await.starts_with("HTTP/1.1 200"));
    for id in ["first", "late"] {
        assert!(subscriber.event().await.starts_with(&format!("id: {id}\n")));
    }
}
