//! What a single stream does: its first bytes, cursors, keep-alive, end of life, privacy, presence.

use std::{sync::Arc, time::Duration};

use petasos_hub::{Closed, Hub, MemoryTransport, Session, Settings, SubscribeError, TransportError};
use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::Matcher,
    request::{self, Cursor, SubscribeRequest},
    token::Grants,
};
use tokio::time::Instant;

async fn start(history_max: usize, settings: Settings) -> Hub {
    Hub::start(Arc::new(MemoryTransport::new(history_max)), settings).await.expect("start")
}

fn quiet() -> Settings {
    Settings { keep_alive: None, subscriptions: false, retry: None, ..Settings::default() }
}

async fn publish(hub: &Hub, body: &str) -> EventId {
    let draft = request::publish(body.as_bytes(), hub.url(), &Limits::default()).expect("valid");
    hub.publish(draft).await.expect("publish")
}

fn matchers(selectors: &[&str]) -> Vec<Matcher> {
    selectors.iter().map(|selector| Matcher::selector(selector, &Limits::default()).expect("valid")).collect()
}

fn granted(selectors: &[&str]) -> Arc<Grants> {
    Arc::new(Grants { subscribe: matchers(selectors), ..Grants::default() })
}

async fn subscribe(hub: &Hub, selectors: &[&str], cursor: Option<&str>, grants: Arc<Grants>) -> Session {
    answered(hub, selectors, cursor, grants).await.0
}

/// The stream, and the answer to its cursor.
async fn answered(
    hub: &Hub,
    selectors: &[&str],
    cursor: Option<&str>,
    grants: Arc<Grants>,
) -> (Session, String) {
    let cursor = cursor.map(Cursor::parse);
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: matchers(selectors),
        cursor,
        multiplex: false,
    };
    let mut session = hub.subscribe(request, grants, None).await.expect("subscribe");
    let answer = session.cursor().expect("nothing is polled").to_owned();
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"), "the first bytes are a comment");
    assert_eq!(session.cursor(), None);
    (session, answer)
}

async fn next(session: &mut Session) -> Option<String> {
    let bytes = session.next().await?;
    Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

async fn ids(session: &mut Session, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let event = next(session).await.expect("an event");
        let line = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
        ids.push(line.to_owned());
    }
    ids
}

#[tokio::test]
async fn alternate_topics_select_and_an_update_comes_once() {
    let hub = start(10, quiet()).await;
    let mut session = subscribe(&hub, &["b", "*", "{x}"], None, Arc::default()).await;
    publish(&hub, "topic=a&topic=b&id=1").await;
    publish(&hub, "topic=a&id=2").await;
    assert_eq!(ids(&mut session, 2).await, ["1", "2"]);
}

#[tokio::test]
async fn private_updates_need_a_grant_on_any_of_their_topics() {
    let hub = start(10, quiet()).await;
    let mut stranger = subscribe(&hub, &["*"], None, Arc::default()).await;
    let mut by_alternate = subscribe(&hub, &["a"], None, granted(&["b"])).await;
    let mut other = subscribe(&hub, &["a"], None, granted(&["c"])).await;
    publish(&hub, "topic=a&topic=b&id=secret&private").await;
    publish(&hub, "topic=a&id=public").await;
    assert_eq!(ids(&mut by_alternate, 2).await, ["secret", "public"]);
    assert_eq!(ids(&mut stranger, 1).await, ["public"]);
    assert_eq!(ids(&mut other, 1).await, ["public"]);
}

#[tokio::test]
async fn replay_skips_a_private_update_after_the_grant_has_shrunk() {
    let hub = start(10, quiet()).await;
    publish(&hub, "topic=a&id=1").await;
    publish(&hub, "topic=a&id=2&private").await;
    publish(&hub, "topic=a&id=3").await;
    let mut granted_one = subscribe(&hub, &["a"], Some("1"), granted(&["a"])).await;
    assert_eq!(ids(&mut granted_one, 2).await, ["2", "3"]);
    let mut shrunk = subscribe(&hub, &["a"], Some("1"), granted(&["b"])).await;
    assert_eq!(ids(&mut shrunk, 1).await, ["3"]);
}

#[tokio::test]
async fn the_answer_to_a_cursor_is_the_id_before_the_first_event() {
    let hub = start(3, quiet()).await;
    assert_eq!(answered(&hub, &["a"], Some("earliest"), Arc::default()).await.1, "earliest");
    let mut live = subscribe(&hub, &["a"], None, Arc::default()).await;
    for id in ["1", "2", "3", "4", "5"] {
        publish(&hub, &format!("topic=a&id={id}")).await;
    }
    // The log keeps what the hub itself has not read yet; now it has.
    ids(&mut live, 5).await;
    for (cursor, answer, expected) in [
        ("4", "4", vec!["5"]),
        ("3", "3", vec!["4", "5"]),
        ("1", "earliest", vec!["3", "4", "5"]),
        ("unknown", "earliest", vec!["3", "4", "5"]),
        ("earliest", "earliest", vec!["3", "4", "5"]),
    ] {
        let (mut session, answered) = answered(&hub, &["a"], Some(cursor), Arc::default()).await;
        assert_eq!(answered, answer, "{cursor}");
        assert_eq!(ids(&mut session, expected.len()).await, expected, "{cursor}");
    }
    let (_, answer) = answered(&hub, &["a"], None, Arc::default()).await;
    assert_eq!(answer, "5", "of a stream without a cursor, too");
}

#[tokio::test]
async fn of_several_cursors_the_newest_that_is_kept_counts() {
    let hub = start(4, quiet()).await;
    let mut live = subscribe(&hub, &["a"], None, Arc::default()).await;
    for id in ["0", "1", "same", "2", "same", "3"] {
        publish(&hub, &format!("topic=a&id={id}")).await;
    }
    ids(&mut live, 6).await;
    let everything = vec!["same", "2", "same", "3"];
    for (cursors, answer, expected) in [
        (&["2", "3"][..], "3", vec![]),
        (&["3", "2"], "3", vec![]),
        (&["earliest", "2"], "2", vec!["same", "3"]),
        (&["unknown", "2", "1"], "2", vec!["same", "3"]),
        (&["2", "same"], "2", vec!["same", "3"]),
        (&["same", "1"], "same", vec!["2", "same", "3"]),
        (&["unknown", "1"], "earliest", everything.clone()),
        (&["unknown", "1", "earliest"], "earliest", everything),
    ] {
        let cursor = Cursor::newest(cursors.iter().copied(), &Limits::default()).expect("few");
        let resolved = hub.resolve(cursor.as_ref().expect("some")).await.expect("resolved");
        assert_eq!(&*resolved, answer, "{cursors:?}");
        let request = SubscribeRequest {
            dialect: Dialect::Legacy,
            matchers: matchers(&["a"]),
            cursor,
            multiplex: false,
        };
        let mut session = hub.subscribe(request, Arc::default(), None).await.expect("subscribe");
        assert_eq!(session.cursor(), Some(answer), "{cursors:?}");
        assert_eq!(next(&mut session).await.as_deref(), Some(":\n"));
        assert_eq!(ids(&mut session, expected.len()).await, expected, "{cursors:?}");
    }
    let cursor = Cursor::newest(["2", "3"], &Limits::default()).expect("few");
    let request =
        SubscribeRequest { dialect: Dialect::Legacy, matchers: matchers(&["a"]), cursor, multiplex: false };
    let mut session = hub.subscribe(request, Arc::default(), None).await.expect("subscribe");
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"));
    publish(&hub, "topic=a&id=4").await;
    assert_eq!(ids(&mut session, 1).await, ["4"], "nothing is replayed after the last");
}

#[tokio::test]
async fn a_blank_cursor_replays_nothing_and_the_answer_names_the_end_of_the_log() {
    let hub = start(3, quiet()).await;
    let (mut first, answer) = answered(&hub, &["a"], Some(""), Arc::default()).await;
    assert_eq!(answer, "earliest", "nothing precedes");
    publish(&hub, "topic=a&id=1").await;
    assert_eq!(ids(&mut first, 1).await, ["1"]);
    // Also if the last event is one that this subscriber may not see.
    publish(&hub, "topic=b&id=2&private").await;
    let (mut second, answer) = answered(&hub, &["a"], Some(""), Arc::default()).await;
    assert_eq!(answer, "2");
    assert_eq!(&*hub.resolve(&Cursor::Blank).await.expect("resolved"), "2");
    publish(&hub, "topic=a&id=3").await;
    assert_eq!(ids(&mut second, 1).await, ["3"]);
}

#[tokio::test]
async fn a_stream_says_how_long_its_client_waits_before_it_comes_back() {
    let hub = start(10, Settings { retry: Some(Duration::from_secs(5)), ..quiet() }).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        let request = SubscribeRequest {
            dialect: Dialect::Legacy,
            matchers: matchers(&["a"]),
            cursor: None,
            multiplex: false,
        };
        let mut session = hub.subscribe(request, Arc::default(), None).await.expect("subscribe");
        let first = next(&mut session).await.expect("the first bytes");
        let millis =
            first.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n')).expect("one line");
        all.push(millis.parse::<u64>().expect("a number"));
    }
    assert!(all.iter().all(|millis| (4_500..=5_500).contains(millis)), "{all:?}");
    assert!(all.iter().any(|millis| *millis != all[0]), "{all:?}");
}

/// A stream that names cursors, and its first frame.
async fn browser(
    hub: &Hub,
    selectors: &[&str],
    cursor: Option<&str>,
    grants: Arc<Grants>,
) -> (Session, String) {
    let cursor = cursor.map(Cursor::parse);
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: matchers(selectors),
        cursor,
        multiplex: false,
    };
    let mut session = hub.subscribe(request, grants, None).await.expect("subscribe");
    session.name_cursors();
    let first = next(&mut session).await.expect("the first bytes");
    (session, first)
}

fn cursor_event(id: &str) -> String {
    format!("event: petasos-cursor\nid: {id}\ndata: \n\n")
}

/// The next id that stands in an event of the log.
async fn heard(session: &mut Session) -> String {
    loop {
        let text = next(session).await.expect("an event");
        if let Some(id) = text.strip_prefix("id: ").and_then(|rest| rest.lines().next()) {
            return id.to_owned();
        }
    }
}

#[tokio::test]
async fn a_cursor_is_an_update_for_whoever_receives_no_subscription_events() {
    let keep_alive = Some(Duration::from_millis(100));
    let hub = start(3, Settings { subscriptions: true, keep_alive, ..quiet() }).await;
    let events = "/.well-known/mercure/subscriptions/{topic}/{subscriber}";
    let mut watcher = subscribe(&hub, &[events], None, granted(&["*"])).await;
    heard(&mut watcher).await;
    publish(&hub, "topic=a&id=1").await;
    // Whatever the number of those who come and go: their events are trimmed apart.
    let (mut anonymous, first) = browser(&hub, &["a"], None, Arc::default()).await;
    assert_eq!(first, cursor_event("1"));
    let granted_elsewhere = granted(&["/users/1", "/users/{name}/inbox"]);
    let (mut user, first) = browser(&hub, &["/users/1", "*"], None, granted_elsewhere).await;
    assert_eq!(first, cursor_event("1"));
    let mut last = String::new();
    for _ in 0..3 {
        last = heard(&mut watcher).await;
    }
    let (mut all, first) = browser(&hub, &["*"], None, granted(&["*"])).await;
    assert_eq!(first, cursor_event(&last));
    let arrival = heard(&mut watcher).await;
    assert_eq!(heard(&mut all).await, arrival);
    assert_eq!(next(&mut anonymous).await, Some(cursor_event("1")));
    assert_eq!(next(&mut user).await, Some(cursor_event("1")));
    assert_eq!(next(&mut all).await, Some(cursor_event(&arrival)));
}

#[tokio::test]
async fn nothing_is_delivered_after_the_end_of_life_even_if_it_waits() {
    tokio::time::pause();
    let hub = start(10, quiet()).await;
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: matchers(&["a"]),
        cursor: None,
        multiplex: false,
    };
    let close_at = Instant::now() + Duration::from_secs(1);
    let mut session = hub.subscribe(request, Arc::default(), Some(close_at)).await.expect("subscribe");
    assert!(session.next().await.is_some());
    publish(&hub, "topic=a").await;
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn stopping_ends_all_streams_and_refuses_new_ones() {
    let hub = start(10, quiet()).await;
    let mut session = subscribe(&hub, &["a"], None, Arc::default()).await;
    publish(&hub, "topic=a&id=last").await;
    assert_eq!(ids(&mut session, 1).await, ["last"]);
    hub.stop().await;
    assert_eq!(session.next().await, None);
    assert_eq!(session.closed(), Some(Closed::Stopping));
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: matchers(&["a"]),
        cursor: None,
        multiplex: false,
    };
    let refused = hub.subscribe(request, Arc::default(), None).await;
    assert!(matches!(refused, Err(SubscribeError::Stopping)));
}

#[tokio::test]
async fn streams_that_would_not_be_let_in_any_more_end_and_others_stay() {
    let hub = start(10, quiet()).await;
    let admitted = async |admission: u64, cursor: Option<&str>| {
        let cursor = cursor.map(Cursor::parse);
        let request = SubscribeRequest {
            dialect: Dialect::Legacy,
            matchers: matchers(&["a"]),
            cursor,
            multiplex: false,
        };
        let mut session = hub.subscribe(request, Arc::default(), None).await.expect("subscribe");
        session.set_admission(admission.into());
        assert_eq!(next(&mut session).await.as_deref(), Some(":\n"));
        session
    };
    let accept = async |numbers: &[u64], within: Duration| {
        hub.revoke(Some(numbers.iter().map(|number| (*number).into()).collect()), within).await;
    };
    let mut program = subscribe(&hub, &["a"], None, Arc::default()).await;
    let (mut kept, mut revoked) = (admitted(1, None).await, admitted(2, None).await);
    publish(&hub, "topic=a&id=1").await;
    for session in [&mut program, &mut kept, &mut revoked] {
        assert_eq!(ids(session, 1).await, ["1"], "it is live");
    }
    let mut reading = admitted(2, Some("earliest")).await;
    accept(&[1, 3], Duration::from_millis(1)).await;
    for session in [&mut revoked, &mut reading] {
        assert_eq!((next(session).await, session.closed()), (None, Some(Closed::Revoked)));
    }
    let mut late = admitted(2, None).await;
    assert_eq!((next(&mut late).await, late.closed()), (None, Some(Closed::Revoked)));
    publish(&hub, "topic=a&id=2").await;
    for session in [&mut program, &mut kept] {
        assert_eq!(ids(session, 1).await, ["2"]);
    }
    hub.revoke(None, Duration::ZERO).await;
    let mut again = admitted(2, Some("1")).await;
    assert_eq!(ids(&mut again, 1).await, ["2"]);
}

#[tokio::test]
async fn subscriptions_are_listed_and_their_events_follow_the_facts() {
    let hub = start(10, Settings { subscriptions: true, ..quiet() }).await;
    let events = "/.well-known/mercure/subscriptions/{topic}/{subscriber}";
    let mut watcher = subscribe(&hub, &[events], None, granted(&["*"])).await;
    let own = next(&mut watcher).await.expect("its own subscription is announced");
    assert!(own.contains("\"active\":true"), "{own}");

    let visitor = subscribe(&hub, &["a", "b/{c}"], None, Arc::default()).await;
    for topic in ["\"topic\":\"a\"", "\"topic\":\"b/{c}\""] {
        let event = next(&mut watcher).await.expect("an event");
        assert!(event.contains("\"active\":true") && event.contains(topic), "{event}");
    }
    let listed = hub.subscriptions(None).await.expect("list");
    let (last_event_id, revision) = (listed.last_event_id.clone(), listed.revision);
    let all = listed.all().await.expect("a list");
    assert_eq!(all.len(), 3);
    assert!(last_event_id.is_some());
    let some = hub.subscriptions(Some("b/{c}")).await.expect("list").all().await.expect("a list");
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].subscriber, all[1].subscriber, "one subscriber, one identifier");

    drop(visitor);
    for _ in 0..2 {
        let event = next(&mut watcher).await.expect("an event");
        assert!(event.contains("\"active\":false"), "{event}");
    }
    let left = hub.subscriptions(None).await.expect("list");
    assert_ne!(left.revision, revision);
    assert_eq!(left.all().await.expect("a list").len(), 1);
    assert!(hub.subscriptions(Some("a")).await.expect("list").all().await.expect("a list").is_empty());
}

#[tokio::test]
async fn subscription_events_are_private() {
    let hub = start(10, Settings { subscriptions: true, ..quiet() }).await;
    let mut anonymous = subscribe(&hub, &["*"], None, Arc::default()).await;
    let _visitor = subscribe(&hub, &["a"], None, Arc::default()).await;
    publish(&hub, "topic=a&id=1").await;
    assert_eq!(ids(&mut anonymous, 1).await, ["1"]);
}

#[tokio::test]
async fn untracked_subscriptions_are_neither_listed_nor_announced() {
    let hub = start(10, quiet()).await;
    let mut watcher = subscribe(&hub, &["*"], None, granted(&["*"])).await;
    assert!(!hub.tracks_subscriptions());
    assert!(hub.subscriptions(None).await.expect("list").all().await.expect("a list").is_empty());
    publish(&hub, "topic=a&id=1").await;
    assert_eq!(ids(&mut watcher, 1).await, ["1"]);
}

#[tokio::test]
async fn visitors_who_come_and_go_evict_no_message() {
    let hub = start(3, Settings { keep_alive: None, retry: None, ..Settings::default() }).await;
    publish(&hub, "topic=a&id=0").await;
    publish(&hub, "topic=a&id=1").await;
    for _ in 0..50 {
        drop(subscribe(&hub, &["other"], None, Arc::default()).await);
    }
    let (mut session, answer) = answered(&hub, &["a"], Some("0"), Arc::default()).await;
    assert_eq!(answer, "0");
    assert_eq!(ids(&mut session, 1).await, ["1"]);
}

/// Waits until the hub has delivered what is in its log: a stream that is live has seen it.
async fn delivered(hub: &Hub) {
    let mut live = subscribe(hub, &["marker"], None, Arc::default()).await;
    let id = publish(hub, "topic=marker").await;
    assert_eq!(ids(&mut live, 1).await, [id.as_str()]);
}

#[tokio::test]
async fn old_subscription_events_do_not_end_a_replay() {
    let hub = start(10, Settings { subscriptions: true, ..quiet() }).await;
    // More events than a page holds, then more updates than are kept.
    for _ in 0..200 {
        drop(subscribe(&hub, &["visited"], None, Arc::default()).await);
    }
    for number in 0..30 {
        publish(&hub, &format!("topic=a&id={number}")).await;
    }
    delivered(&hub).await;
    let mut sessions = Vec::new();
    for cursor in ["earliest", "unknown", "3"] {
        let (session, answer) = answered(&hub, &["a"], Some(cursor), granted(&["*"])).await;
        assert_eq!(answer, "earliest", "{cursor}");
        sessions.push(session);
    }
    // Ten updates are kept, and the last of them is the marker.
    let expected: Vec<_> = (21..30).map(|number| number.to_string()).collect();
    for session in &mut sessions {
        assert_eq!(ids(session, 9).await, expected);
    }
    publish(&hub, "topic=a&id=live").await;
    for session in &mut sessions {
        assert_eq!(ids(session, 1).await, ["live"]);
    }
}

#[tokio::test]
async fn a_cursor_whose_successors_were_trimmed_is_answered_with_earliest() {
    let hub = start(3, Settings { keep_alive: None, retry: None, ..Settings::default() }).await;
    let visitor = subscribe(&hub, &["visited"], None, Arc::default()).await;
    let event = loop {
        if let Some(id) = hub.subscriptions(None).await.expect("list").last_event_id {
            break id;
        }
        tokio::task::yield_now().await;
    };
    // More than the shards have in their memory.
    for number in 0..2_000 {
        publish(&hub, &format!("topic=a&id={number}")).await;
    }
    delivered(&hub).await;
    // The event itself is still kept, updates after it are not.
    let (_session, answer) = answered(&hub, &["a"], Some(event.as_str()), Arc::default()).await;
    assert_eq!(answer, "earliest");
    drop(visitor);
}

#[tokio::test]
async fn what_is_acknowledged_before_a_stop_is_delivered_and_nothing_is_acknowledged_after() {
    let hub = start(100, quiet()).await;
    let mut session = subscribe(&hub, &["a"], None, Arc::default()).await;
    for number in 0..50 {
        publish(&hub, &format!("topic=a&id={number}")).await;
    }
    hub.stop().await;
    assert_eq!(ids(&mut session, 50).await, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(session.next().await, None);
    let draft = request::publish(b"topic=a", hub.url(), &Limits::default()).expect("valid");
    assert!(matches!(hub.publish(draft).await, Err(TransportError::Closed)));
}

#[tokio::test]
async fn thousands_of_subscribers_that_come_at_once_are_all_listed() {
    let hub = start(10, Settings { subscriptions: true, ..quiet() }).await;
    let visitors: Vec<_> = (0..6_000)
        .map(|_| {
            let hub = hub.clone();
            tokio::spawn(async move { subscribe(&hub, &["a", "b"], None, Arc::default()).await })
        })
        .collect();
    let mut sessions = Vec::new();
    for visitor in visitors {
        sessions.push(visitor.await.expect("no panic"));
    }
    assert_eq!(hub.subscriptions(Some("a")).await.expect("list").all().await.expect("a list").len(), 6_000);
}

/// The pause that a last line asks for.
fn pause(line: Option<String>) -> u64 {
    let line = line.expect("a last line");
    let pause = line.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n'));
    pause.expect("a field without a blank line").parse().expect("milliseconds")
}

#[tokio::test]
async fn a_drained_stream_says_last_when_to_come_back_whether_it_is_live_or_reads_the_history() {
    let hub = start(10, quiet()).await;
    publish(&hub, "topic=a&id=1").await;
    publish(&hub, "topic=a&id=2").await;
    let mut reading = subscribe(&hub, &["a"], Some("earliest"), Arc::default()).await;
    let mut live = subscribe(&hub, &["a"], None, Arc::default()).await;
    publish(&hub, "topic=a&id=3").await;
    assert_eq!(ids(&mut live, 1).await, ["3"], "its shard has it");
    assert_eq!(ids(&mut reading, 1).await, ["1"]);
    assert!(!hub.is_leaving());
    hub.drain(Duration::ZERO).await;
    assert!(hub.is_leaving() && !hub.is_ready());
    for session in [&mut live, &mut reading] {
        assert_eq!(pause(next(session).await), 250);
        assert_eq!((next(session).await, session.closed()), (None, Some(Closed::Drained)));
    }
    // The hub itself goes on until it is stopped.
    publish(&hub, "topic=a&id=4").await;
    hub.stop().await;
}

#[tokio::test]
async fn streams_may_be_given_any_time_to_end() {
    let hub = start(10, quiet()).await;
    let mut session = subscribe(&hub, &["a"], None, Arc::default()).await;
    session.set_admission(1.into());
    publish(&hub, "topic=a&id=1").await;
    assert_eq!(ids(&mut session, 1).await, ["1"], "its shard has it");
    hub.revoke(Some(std::iter::empty().collect()), Duration::MAX).await;
    drop(session);
    hub.drain(Duration::MAX).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_drain_ends_with_its_last_stream_or_with_its_time() {
    let hub = start(10, quiet()).await;
    hub.drain(Duration::from_secs(3600)).await;
    let hub = start(10, quiet()).await;
    // Nobody polls it.
    let _forgotten = subscribe(&hub, &["a"], Some("earliest"), Arc::default()).await;
    hub.drain(Duration::from_millis(10)).await;
    assert_eq!(hub.stats().subscribers, 1);
}
