//! Streams that carry several subscriptions of a client: `petasos-multiplex`.

use std::time::Duration;

use petasos_auth::Signer;
use petasos_hub::Settings;

use crate::client::{FORM, HUB, Server, Stream, header, publisher, settings, subscriber};

fn quiet() -> Settings {
    Settings { keep_alive: None, subscriptions: false, retry: None, ..Settings::default() }
}

async fn start() -> Server {
    Server::start_with(settings(), quiet()).await
}

async fn publish(server: &Server, body: &str) {
    assert_eq!(server.publish_with(&publisher(), body.as_bytes()).await.status, 200, "{body}");
}

/// An event that names a cursor.
fn cursor(id: &str, says: &str) -> String {
    format!("event: petasos-cursor\nid: {id}\ndata: {says}\n\n")
}

/// An update's event behind its topics.
fn update(topics: &[&str], id: &str, data: &str) -> String {
    let topics: String = topics.iter().map(|topic| format!("topic: {topic}\n")).collect();
    format!("{topics}id: {id}\ndata: {data}\n\n")
}

/// The next event, whole, in however many chunks it comes. Comments are no events.
async fn event(stream: &mut Stream) -> String {
    let mut event = stream.event().await;
    while event == ":\n" {
        event = stream.event().await;
    }
    while !event.ends_with("\n\n") {
        event.push_str(&stream.event().await);
    }
    event
}

/// A header field with a 0.x token that may read these topics.
fn reader(selectors: &str) -> String {
    let claims = format!(r#"{{"mercure":{{"subscribe":[{selectors}]}}}}"#);
    format!(
        "Authorization: Bearer {}",
        Signer::parse("subscriber", None).expect("a key").sign("JWT", &claims)
    )
}

#[tokio::test]
async fn a_stream_names_its_beginning_its_topics_and_when_it_is_live_in_both_dialects() {
    let server = start().await;
    for (query, id) in
        [("topic=a&topic=b&petasos-multiplex", "1"), ("match=a&match=b&petasos-multiplex=whatever", "2")]
    {
        let before = if id == "1" { "earliest" } else { "1" };
        let mut stream = server.subscribe(query, &[]).await;
        assert_eq!(stream.first, cursor(before, "multiplex"), "{query}");
        assert_eq!(header(&stream.head, "mercure-last-event-id"), Some(before));
        assert_eq!(event(&mut stream).await, cursor(before, "live"), "{query}");
        publish(&server, &format!("topic=b&topic=http://x/é&topic=a&id={id}&data=x")).await;
        assert_eq!(event(&mut stream).await, update(&["b", "http://x/é", "a"], id, "x"), "{query}");
        publish(&server, "topic=elsewhere&id=1").await;
    }
    // In the body of a QUERY.
    let target = format!("{HUB}?match=a");
    let body = b"petasos-multiplex=&match=b&last_event_id=earliest";
    let length = format!("Content-Length: {}", body.len());
    let mut stream = server.stream("QUERY", &target, &[FORM, &length], body).await;
    assert_eq!(stream.first, cursor("earliest", "multiplex"));
    for id in ["1", "2"] {
        assert_eq!(event(&mut stream).await, update(&["b", "http://x/é", "a"], id, "x"), "{id}");
    }
    assert_eq!(event(&mut stream).await, cursor("1", "live"), "of what others have got, too");
}

#[tokio::test]
async fn nobody_else_gets_anything_of_it() {
    let server = start().await;
    let mut asks = server.subscribe("topic=a&petasos-multiplex", &[]).await;
    assert_eq!(event(&mut asks).await, cursor("earliest", "live"));
    let mut plain = server.subscribe("topic=a", &[]).await;
    assert_eq!(plain.first, ":\n");
    publish(&server, "topic=a&id=1&data=x").await;
    assert_eq!(event(&mut plain).await, update(&[], "1", "x"));
    assert_eq!(event(&mut asks).await, update(&["a"], "1", "x"));
    let mut plain = server.subscribe("topic=a&lastEventID=earliest", &[]).await;
    assert_eq!(event(&mut plain).await, update(&[], "1", "x"));
    publish(&server, "topic=a&id=2&data=y").await;
    assert_eq!(event(&mut plain).await, update(&[], "2", "y"), "nothing in between");
}

#[tokio::test]
async fn what_was_missed_comes_before_the_stream_is_live_and_nothing_older_after() {
    let server = start().await;
    for number in 0..60 {
        publish(&server, &format!("topic={}&id={number}&data=x", ["a", "b"][number % 2])).await;
    }
    let mut stream = server.subscribe("topic=a&petasos-multiplex&lastEventID=9", &[]).await;
    assert_eq!(stream.first, cursor("9", "multiplex"));
    for number in (10..60).step_by(2) {
        assert_eq!(event(&mut stream).await, update(&["a"], &number.to_string(), "x"));
    }
    assert_eq!(event(&mut stream).await, cursor("59", "live"), "with what it did not want");
    publish(&server, "topic=a&id=60&data=x").await;
    assert_eq!(event(&mut stream).await, update(&["a"], "60", "x"));
}

/// Streams begin while updates are published, with a cursor and without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_live_has_everything_up_to_there_while_others_publish() {
    const UPDATES: usize = 90;
    let server = std::sync::Arc::new(start().await);
    publish(&server, "topic=a&id=0").await;
    let publishes = tokio::spawn({
        let server = std::sync::Arc::clone(&server);
        async move {
            for number in 1..=UPDATES {
                publish(&server, &format!("topic=a&id={number}")).await;
            }
        }
    });
    let mut lives = 0;
    while !publishes.is_finished() || lives == 0 {
        let mut stream = server.subscribe("topic=a&petasos-multiplex&lastEventID=0", &[]).await;
        let mut last = 0;
        loop {
            let event = event(&mut stream).await;
            let id = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
            let id: usize = id.parse().expect("a number");
            if event.ends_with("data: live\n\n") {
                assert_eq!(id, last, "everything up to there has come");
                lives += 1;
                break;
            }
            assert_eq!(id, last + 1, "no gap");
            last = id;
        }
    }
    publishes.await.expect("no panic");
}

/// One private update for two readers: neither learns of the other.
#[tokio::test]
async fn a_private_update_names_the_topics_that_its_reader_has_named_or_may_read() {
    let server = start().await;
    let private = "topic=/books/1&topic=/users/alice&topic=/users/bob&private=on&id=1&data=x";
    for (replays, before) in [(false, "earliest"), (true, "earliest")] {
        let after = if replays { "&lastEventID=earliest" } else { "" };
        let mut streams = Vec::new();
        for (query, selectors, topics) in [
            ("topic=*", r#""/users/alice""#, &["/users/alice"][..]),
            ("topic=/users/{name}", r#""/users/bob""#, &["/users/bob"]),
            // Asked for by its name: with a stream for it alone, the reader would get the update, too.
            ("topic=/books/1&topic=/users/alice", r#""/users/alice""#, &["/books/1", "/users/alice"]),
            ("topic=/users/alice", r#""/users/{name}""#, &["/users/alice", "/users/bob"]),
            ("topic=*", r#""*""#, &["/books/1", "/users/alice", "/users/bob"]),
        ] {
            let token = reader(selectors);
            let mut stream = server.subscribe(&format!("{query}&petasos-multiplex{after}"), &[&token]).await;
            assert_eq!(stream.first, cursor(before, "multiplex"));
            if !replays {
                assert_eq!(event(&mut stream).await, cursor(before, "live"));
            }
            streams.push((stream, query, topics));
        }
        if !replays {
            publish(&server, private).await;
        }
        for (mut stream, query, topics) in streams {
            assert_eq!(event(&mut stream).await, update(topics, "1", "x"), "{query}, replayed: {replays}");
        }
    }
    // Public topics are public.
    let mut stream = server.subscribe("topic=c&petasos-multiplex", &[]).await;
    assert_eq!(event(&mut stream).await, cursor("1", "live"));
    publish(&server, "topic=/users/carol&topic=c&id=2&data=x").await;
    assert_eq!(event(&mut stream).await, update(&["/users/carol", "c"], "2", "x"));
}

#[tokio::test]
async fn a_silent_stream_names_its_cursor_in_the_place_of_comments() {
    let hub = Settings { keep_alive: Some(Duration::from_millis(50)), ..quiet() };
    let server = Server::start_with(settings(), hub).await;
    let mut stream = server.subscribe("topic=a&petasos-multiplex", &[]).await;
    assert_eq!(event(&mut stream).await, cursor("earliest", "live"));
    publish(&server, "topic=b&id=elsewhere").await;
    while event(&mut stream).await != cursor("elsewhere", "") {}
    publish(&server, "topic=a&id=here&data=x").await;
    let mut next = event(&mut stream).await;
    while next == cursor("elsewhere", "") {
        next = event(&mut stream).await;
    }
    assert_eq!(next, update(&["a"], "here", "x"));
    assert_eq!(event(&mut stream).await, cursor("here", ""));
}

/// Subscription events are updates as others are.
#[tokio::test]
async fn subscription_events_name_their_topic() {
    let server = Server::start_with(settings(), Settings { subscriptions: true, ..quiet() }).await;
    let query = "topic=/.well-known/mercure/subscriptions/{topic}/{subscriber}&petasos-multiplex";
    let mut stream = server.subscribe(query, &[&subscriber()]).await;
    let mut next = event(&mut stream).await;
    while next.starts_with("event: petasos-cursor") {
        next = event(&mut stream).await;
    }
    assert!(next.starts_with("topic: /.well-known/mercure/subscriptions/"), "{next}");
}

/// Its socket takes nothing for a while, so that events wait in the ring, and then in the log. Another subscriber of the shard reads along:
/// so each update has a round of its own, and the shard does not wait for the one that lags.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_reads_slowly_gets_whole_events_with_their_topics_and_is_live_again() {
    // More than a ring and two sockets hold, and less than the log keeps.
    const UPDATES: usize = 100;
    let server = Server::start_with(settings(), Settings { shards: 1, ..quiet() }).await;
    let query = "topic=a&topic=b&petasos-multiplex";
    let (mut slow, mut quick) = (server.subscribe(query, &[]).await, server.subscribe(query, &[]).await);
    for stream in [&mut slow, &mut quick] {
        assert_eq!(event(stream).await, cursor("earliest", "live"));
    }
    let data = "x".repeat(500_000);
    let expected = |number: usize| update(&[["a", "b"][number % 2]], &number.to_string(), &data);
    for number in 0..UPDATES {
        publish(&server, &format!("topic={}&id={number}&data={data}", ["a", "b"][number % 2])).await;
        assert!(event(&mut quick).await == expected(number), "{number}");
    }
    let (mut next, mut is_live_again) = (0, false);
    while next < UPDATES || !is_live_again {
        let event = event(&mut slow).await;
        if event.starts_with("event: petasos-cursor") {
            assert_eq!(event, cursor(&(next - 1).to_string(), "live"));
            is_live_again = true;
            continue;
        }
        assert!(event == expected(next), "{next}");
        next += 1;
    }
}
