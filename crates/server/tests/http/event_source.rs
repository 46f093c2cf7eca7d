//! What the `EventSource` of a browser gets, and nobody else: its cursor in the stream, and no refusal that will pass.

use std::{sync::Arc, time::Duration};

use petasos_hub::{MemoryTransport, Settings};
use petasos_server::StreamLimits;

use crate::client::{HUB, Server, header, settings};

const FIREFOX: [&str; 5] = [
    "Accept: text/event-stream",
    "Cache-Control: no-cache",
    "Pragma: no-cache",
    "Sec-Fetch-Mode: cors",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0",
];

fn named(id: &str) -> String {
    format!("event: petasos-cursor\nid: {id}\ndata: \n\n")
}

#[tokio::test]
async fn the_cursor_stands_in_the_stream_of_a_browser_and_in_a_field_for_everybody() {
    let hub = Settings { subscriptions: false, retry: None, ..Settings::default() };
    let server = Server::start_with(settings(), hub).await;
    let empty = server.subscribe("topic=a", &FIREFOX).await;
    assert_eq!(empty.first, named("earliest"));
    for id in ["1", "2"] {
        server.publish(&format!("topic=a&id={id}")).await;
    }
    for (query, cursor, events) in
        [("topic=a", "2", 0), ("topic=a&lastEventID=1", "1", 1), ("match=a", "2", 0)]
    {
        let mut browser = server.subscribe(query, &FIREFOX).await;
        let mut library = server.subscribe(query, &["Accept: text/event-stream"]).await;
        assert_eq!((browser.first.as_str(), library.first.as_str()), (&*named(cursor), ":\n"), "{query}");
        for stream in [&mut browser, &mut library] {
            assert_eq!(header(&stream.head, "mercure-last-event-id"), Some(cursor), "{query}");
            // 0.x names its own field for requests with a cursor.
            let legacy = query.contains("lastEventID").then_some(cursor);
            assert_eq!(header(&stream.head, "last-event-id"), legacy, "{query}");
            for _ in 0..events {
                assert!(stream.event().await.starts_with("id: 2\n"), "{query}");
            }
        }
        let head = server.request("HEAD", &format!("{HUB}?{query}"), &FIREFOX, b"").await;
        assert_eq!(head.header("mercure-last-event-id"), Some(cursor), "{query}");
    }
}

#[tokio::test]
async fn a_silent_stream_of_a_browser_moves_its_cursor_on_and_others_get_comments() {
    let keep_alive = Some(Duration::from_millis(50));
    let hub = Settings { keep_alive, subscriptions: false, ..Settings::default() };
    let server = Server::start_with(settings(), hub).await;
    let mut browser = server.subscribe("topic=a", &FIREFOX).await;
    let mut library = server.subscribe("topic=a", &[]).await;
    assert!(
        browser.first.starts_with("retry: ") && browser.first.ends_with(&named("earliest")),
        "{}",
        browser.first
    );
    assert!(library.first.starts_with("retry: ") && library.first.lines().count() == 1, "{}", library.first);
    server.publish("topic=b&id=elsewhere").await;
    while browser.event().await != named("elsewhere") {}
    assert_eq!(library.event().await, ":\n");
    server.publish("topic=a&id=here").await;
    for stream in [&mut browser, &mut library] {
        let mut event = stream.event().await;
        while event == ":\n" || event == named("elsewhere") {
            event = stream.event().await;
        }
        assert_eq!(event, "id: here\ndata: \n\n");
    }
    assert_eq!(browser.event().await, named("here"));
}

#[tokio::test]
async fn a_browser_that_is_refused_for_now_gets_a_stream_that_tells_it_when_to_come_back() {
    let streams = StreamLimits { total: 1, ..StreamLimits::default() };
    let server = Server::start(petasos_server::Settings { streams, ..settings() }).await;
    let _only = server.subscribe("topic=a", &[]).await;
    let target = format!("{HUB}?topic=a");
    let refused = server.request("GET", &target, &FIREFOX, b"").await;
    assert_eq!((refused.status, refused.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    let (retry, reason) = refused.body.split_once('\n').expect("two lines");
    let millis: u64 = retry.strip_prefix("retry: ").and_then(|millis| millis.parse().ok()).expect("a time");
    assert!((5_000..=10_000).contains(&millis), "{millis}");
    let detail = ": the hub has as many streams as it may have: close one, or try again later (urn:uuid:";
    assert!(reason.starts_with(detail) && reason.ends_with(")\n"), "{reason}");
    assert_eq!(server.request("GET", &target, &[], b"").await.status, 429);
    // What does not pass by itself is said as such: the page has to do something.
    let bad = server.request("GET", HUB, &FIREFOX, b"").await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_the_answer_in_the_place_of_a_refusal() {
    let streams = StreamLimits { total: 1, ..StreamLimits::default() };
    let cors = petasos_server::Origins::parse(["https://app.example"]).expect("an origin");
    let hub = Settings { retry: None, ..Settings::default() };
    let transport = Arc::new(MemoryTransport::new(10));
    let settings = petasos_server::Settings { streams, cors, ..settings() };
    let server = Server::start_on(transport, settings, hub).await;
    let _only = server.subscribe("topic=a", &[]).await;
    let fields: Vec<_> = FIREFOX.into_iter().chain(["Origin: https://app.example"]).collect();
    let refused = server.request("GET", &format!("{HUB}?topic=a"), &fields, b"").await;
    assert_eq!(refused.status, 200);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
}
