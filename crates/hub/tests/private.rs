//! No private update reaches whom a naive model refuses, live or replayed, however topics and grants are written: with
//! separators, percent-escapes, Unicode, and characters that are refused.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use petasos_hub::{Hub, MemoryTransport, Session, Settings};
use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::{Matcher, MatcherType},
    request::{Cursor, SubscribeRequest},
    token::Grants,
    topic::{HubUrl, Topics},
    update::Draft,
};
use proptest::prelude::*;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// A text of pieces that could be confused when they are joined, split, decoded or normalized.
fn text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "/",
        "//",
        "%2F",
        "%2f",
        "%",
        "%00",
        "\0",
        "\u{1f}",
        "\n",
        ",",
        ";",
        "|",
        "_",
        "__",
        "*",
        "**",
        ":",
        "{a}",
        "?",
        "#",
        "&",
        "=",
        " ",
        "é",
        "e\u{301}",
        "\u{200b}",
        "日本",
        "A",
        ".",
        "..",
        "\\",
        "\"",
        "https://x/",
    ]);
    prop::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

#[derive(Debug, Clone)]
struct Subscriber {
    selected: Vec<String>,
    granted: Vec<String>,
}

/// Subscribers, and updates with their privacy, over a few texts and the pairs of them, so that many are equal and many
/// more are nearly so.
fn scenes() -> impl Strategy<Value = (Vec<Subscriber>, Vec<(Vec<String>, bool)>)> {
    prop::collection::vec(text(), 2..5).prop_flat_map(|pool| {
        let mut texts = pool.clone();
        for joint in ["", "/", ",", "_", "\n"] {
            texts.push(format!("{}{joint}{}", pool[0], pool[1]));
        }
        let texts = move || prop::collection::vec(prop::sample::select(texts.clone()), 1..4);
        let subscriber = (texts(), texts()).prop_map(|(selected, granted)| Subscriber { selected, granted });
        let updates = prop::collection::vec((texts(), any::<bool>()), 1..20);
        (prop::collection::vec(subscriber, 1..6), updates)
    })
}

fn matchers(texts: &[String]) -> Vec<Matcher> {
    let parse =
        |text: &String| Matcher::parse(MatcherType::Exact, text, &HubUrl::default(), &Limits::default()).ok();
    texts.iter().filter_map(parse).collect()
}

/// What section "Subscribers" says, in the words of a beginner.
fn may_have(subscriber: &Subscriber, topics: &[String], private: bool) -> bool {
    let covers = |matchers: &[String]| {
        matchers.iter().any(|matcher| {
            let forbidden = matcher.chars().any(|c| c.is_control() || c == '\u{200b}');
            !forbidden && (matcher == "*" || topics.iter().any(|topic| topic == matcher))
        })
    };
    covers(&subscriber.selected) && (!private || covers(&subscriber.granted))
}

async fn subscribe(hub: &Hub, subscriber: &Subscriber, cursor: Option<Cursor>) -> Session {
    let mut selected = matchers(&subscriber.selected);
    selected.push(Matcher::Exact("end".into()));
    let grants = Grants { subscribe: matchers(&subscriber.granted), ..Grants::default() };
    let request = SubscribeRequest { dialect: Dialect::V1, matchers: selected, cursor, multiplex: false };
    hub.subscribe(request, Arc::new(grants), None).await.expect("subscribed")
}

/// The ids up to the mark at the end.
async fn received(session: &mut Session) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let frame = timeout(PATIENCE, session.next()).await.expect("the end").expect("a frame");
        for event in String::from_utf8(frame.to_vec()).expect("UTF-8").split("\n\n") {
            match event.lines().find_map(|line| line.strip_prefix("id: ")) {
                Some("end") => return ids,
                Some(id) => assert!(ids.insert(id.to_owned()), "twice"),
                None => {}
            }
        }
    }
}

async fn publish(hub: &Hub, topics: Topics, private: bool, id: &str) {
    let id = Some(EventId::parse(id, &Limits::default()).expect("an id"));
    let draft = Draft { topics, data: String::new(), private, id, event_type: None, retry: None };
    hub.publish(draft).await.expect("published");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_private_update_reaches_whom_a_naive_model_refuses(
        (subscribers, updates) in scenes(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let settings = Settings { keep_alive: None, subscriptions: false, retry: None, shards: 2, ..Settings::default() };
            let hub = Hub::start(Arc::new(MemoryTransport::new(100)), settings).await.expect("started");
            let mut live = Vec::new();
            for subscriber in &subscribers {
                live.push(subscribe(&hub, subscriber, None).await);
            }
            let mut published = Vec::new();
            for (number, (texts, private)) in updates.iter().enumerate() {
                let topics = Topics::parse(texts.iter().map(String::as_str), hub.url(), &Limits::default());
                let Ok(topics) = topics else { continue };
                publish(&hub, topics, *private, &number.to_string()).await;
                published.push((number.to_string(), texts, *private));
            }
            let end = Topics::parse(["end"], hub.url(), &Limits::default()).expect("a topic");
            publish(&hub, end, false, "end").await;
            for (subscriber, session) in subscribers.iter().zip(&mut live) {
                let expected: BTreeSet<_> = published
                    .iter()
                    .filter(|(_, topics, private)| may_have(subscriber, topics, *private))
                    .map(|(id, ..)| id.clone())
                    .collect();
                assert_eq!(received(session).await, expected, "live");
                let mut replayed = subscribe(&hub, subscriber, Some(Cursor::Earliest)).await;
                assert_eq!(received(&mut replayed).await, expected, "replayed");
            }
            hub.stop().await;
        });
    }
}
