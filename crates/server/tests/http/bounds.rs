//! The bytes that all subscribers bring together are bounded.

use petasos_hub::Session;
use petasos_server::Signer;
use tokio::{
    io::{AsyncReadExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::client::{HUB, PATIENCE, Server, settings};

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
) -> Vec<BufReader<TcpStream>> {
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
