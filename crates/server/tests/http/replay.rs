//! Replays with costly matchers: other subscribers and publishers do not wait for them, and they end with their
//! subscriber.

use std::time::Duration;

use petasos_auth::Signer;
use petasos_hub::Session;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    time::timeout,
};

use crate::client::{HUB, PATIENCE, Server, Stream, Wire, settings};

/// A pattern that meets no topic of [`publish_history`], which takes a millisecond to find out.
fn costly(number: usize) -> String {
    let pattern = format!("https://example.com/((?:a*b?){{60}}c{number})");
    let encoded: String = pattern.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("match_urlpattern={encoded}")
}

/// In a [`costly_query`].
const MATCHERS: usize = 9;

/// Eight of them take a quarter of a minute for the whole history.
fn costly_query() -> String {
    let patterns: Vec<_> = (0..8).map(costly).collect();
    format!("{}&match=end&last_event_id=earliest", patterns.join("&"))
}

async fn publish(server: &Server, body: &str) {
    let signer = Signer::parse("publisher", None).expect("a key");
    let token = signer.sign("JWT", r#"{"mercure":{"publish":["*"]}}"#);
    let answer = server.publish_with(&format!("Authorization: Bearer {token}"), body.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// As many updates as the log keeps, the last of them for everybody.
async fn publish_history(server: &Server) {
    for number in 0..99 {
        let topics =
            (0..20).map(|topic| format!("topic=https://example.com/{}{number}/{topic}", "a".repeat(2_000)));
        publish(server, &topics.collect::<Vec<_>>().join("&")).await;
    }
    publish(server, "topic=end&id=end").await;
}

/// The head of a costly request is out, and the answer has begun.
async fn open(server: &Server) -> BufReader<Wire> {
    server.subscribe(&costly_query(), &[]).await.reader
}

/// Waits until so many subscribers with a [`costly_query`] have left since the watch began.
async fn departures(watch: &mut Session, count: usize) {
    let mut departed = 0;
    while departed < count * MATCHERS {
        let event = timeout(PATIENCE, watch.next()).await.expect("all of them leave").expect("the hub runs");
        departed += usize::from(String::from_utf8_lossy(&event).contains("\"active\":false"));
    }
}

/// Whether nothing has come for the stream since it was opened.
async fn is_silent(stream: &mut Stream) -> bool {
    let silent = timeout(Duration::ZERO, stream.reader.read_u8()).await.is_err();
    silent && stream.reader.buffer().is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_is_noticed_while_history_is_read() {
    let server = Server::start(settings()).await;
    publish_history(&server).await;
    let mut stays = server.subscribe(&costly_query(), &[]).await;
    let mut watch = server.connections.service().hub().watch_subscriptions().await.expect("a watch");
    for round in 0..9 {
        let mut leaves = open(&server).await;
        match round % 3 {
            0 => drop(leaves),
            // There is one way to leave.
            _ if crate::is_http2() => drop(leaves),
            // It would still read what comes.
            1 => {
                leaves.get_mut().shutdown().await.expect("half-closed");
                let mut rest = Vec::new();
                let end = timeout(PATIENCE, leaves.read_to_end(&mut rest)).await;
                end.expect("the hub closes its side").expect("no reset");
            }
            _ => {
                SockRef::from(leaves.get_ref().socket()).set_linger(Some(Duration::ZERO)).expect("an option");
                drop(leaves);
            }
        }
    }
    departures(&mut watch, 9).await;
    assert_eq!(server.connections.service().hub().stats().subscribers, 1);
    assert!(is_silent(&mut stays).await, "all that was done for those who left took less than one replay");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn costly_replays_keep_nobody_else_waiting() {
    let server = Server::start(settings()).await;
    publish_history(&server).await;
    let mut costly = server.subscribe(&costly_query(), &[]).await;
    let mut others = Vec::new();
    for _ in 0..30 {
        others.push(open(&server).await);
    }
    // A live subscriber, a subscriber with a cheap matcher that comes back, publishers and probes.
    let mut live = server.subscribe("match=news", &[]).await;
    let mut back = server.subscribe("match=end&last_event_id=earliest", &[]).await;
    assert!(back.event().await.starts_with("id: end\n"));
    for number in 0..20 {
        publish(&server, &format!("topic=news&id={number}")).await;
        assert!(live.event().await.starts_with(&format!("id: {number}\n")));
        assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200);
    }
    assert!(is_silent(&mut costly).await, "the costly ones are still at it");
}

/// A newcomer's cursor may lie so near the end of the log that its shard could compare the rest by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_costly_newcomer_with_a_recent_cursor_does_not_hold_up_its_shard() {
    let hub = petasos_hub::Settings { shards: 1, keep_alive: None, ..Default::default() };
    let server = Server::start_with(settings(), hub).await;
    publish(&server, "topic=begin&id=begin").await;
    let mut live = server.subscribe("match=news", &[]).await;
    publish_history(&server).await;
    let query = costly_query().replace("earliest", "begin");
    let mut costly = server.subscribe(&query, &[]).await;
    publish(&server, "topic=news&id=news").await;
    assert!(live.event().await.starts_with("id: news\n"));
    assert!(is_silent(&mut costly).await, "it is compared elsewhere");
}

/// Slow, but whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_costly_replay_loses_nothing() {
    let server = Server::start(settings()).await;
    for number in 0..40 {
        let topic = format!("https://example.com/{}{number}", "a".repeat(500));
        publish(&server, &format!("topic={topic}&topic=even-{}&id={number}", number % 2)).await;
    }
    let query = format!("{}&{}&match=even-0&last_event_id=earliest", costly(1), costly(2));
    let mut stream = server.subscribe(&query, &[]).await;
    publish(&server, "topic=even-0&id=last").await;
    for number in (0..40).step_by(2).map(|number| number.to_string()).chain(["last".to_owned()]) {
        assert!(stream.event().await.starts_with(&format!("id: {number}\n")));
    }
    let target = format!("{HUB}?{query}");
    assert_eq!(server.request("HEAD", &target, &[], b"").await.status, 200);
}
