//! Signs of life and lifetimes, with shards whose time can be moved.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use petasos_protocol::{
    Dialect, Limits,
    matcher::Matcher,
    request::{self, Cursor, SubscribeRequest},
    token::Grants,
    update::Update,
};
use tokio::time::{Instant, advance, sleep, timeout};

use super::session::Session;
use crate::{
    Closed, Hub, MemoryTransport, Settings, TransportError,
    log::transport::{Follower, Head, Page, Position, Transport},
};

const SECOND: Duration = Duration::from_secs(1);

/// A shard looks at what is due at most so much later.
const TICK: Duration = Duration::from_millis(63);

async fn start(history_max: usize, settings: Settings) -> Hub {
    Hub::simulate(Arc::new(MemoryTransport::new(history_max)), settings).await.expect("start")
}

fn quiet() -> Settings {
    Settings { keep_alive: None, subscriptions: false, retry: None, ..Settings::default() }
}

fn keep_alive(interval: Duration) -> Settings {
    Settings { keep_alive: Some(interval), ..quiet() }
}

async fn publish(hub: &Hub, body: &str) {
    let draft = request::publish(body.as_bytes(), hub.url(), &Limits::default()).expect("valid");
    hub.publish(draft).await.expect("publish");
}

/// A stream of which nothing has been polled.
async fn begin(hub: &Hub, selector: &str, cursor: Option<&str>, close_at: Option<Instant>) -> Session {
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: vec![Matcher::selector(selector, &Limits::default()).expect("valid")],
        cursor: cursor.map(Cursor::parse),
        multiplex: false,
    };
    hub.subscribe(request, Arc::default(), close_at).await.expect("subscribe")
}

async fn subscribe(hub: &Hub, selector: &str) -> Session {
    let mut session = begin(hub, selector, None, None).await;
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"), "the first bytes are a comment");
    session
}

/// A stream that names cursors, and its first frame.
async fn browser(hub: &Hub, cursor: Option<&str>) -> (Session, String) {
    let mut session = begin(hub, "a", cursor, None).await;
    session.name_cursors();
    let first = next(&mut session).await.expect("the first bytes");
    (session, first)
}

async fn next(session: &mut Session) -> Option<String> {
    let bytes = timeout(10_000 * SECOND, session.next()).await.expect("something comes")?;
    Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

fn cursor_event(id: &str) -> String {
    format!("event: petasos-cursor\nid: {id}\ndata: \n\n")
}

fn has_id(frame: Option<&str>, id: usize) -> bool {
    frame.is_some_and(|frame| frame.contains(&format!("id: {id}\n")))
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_sends_comments_and_a_busy_one_none() {
    let interval = 15 * SECOND;
    let hub = start(10, keep_alive(interval)).await;
    let mut session = subscribe(&hub, "a").await;
    let mut last = Instant::now();
    for _ in 0..5 {
        assert_eq!(next(&mut session).await.as_deref(), Some(":\n"));
        assert!(last.elapsed() <= interval + 2 * TICK, "{:?}", last.elapsed());
        assert!(last.elapsed() >= interval / 2, "{:?}", last.elapsed());
        last = Instant::now();
    }
    for number in 0..20 {
        advance(5 * SECOND).await;
        publish(&hub, &format!("topic=a&id={number}")).await;
        let event = next(&mut session).await;
        assert!(has_id(event.as_deref(), number), "an event, not a comment: {event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_collects_no_signs() {
    let hub = start(10, keep_alive(SECOND)).await;
    let mut session = subscribe(&hub, "a").await;
    publish(&hub, "topic=a&id=1").await;
    assert!(has_id(next(&mut session).await.as_deref(), 1));
    sleep(100 * SECOND).await;
    publish(&hub, "topic=a&id=2").await;
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"), "one");
    assert!(has_id(next(&mut session).await.as_deref(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_browser_is_told_its_cursor_at_the_beginning_and_in_silence() {
    let hub = start(3, keep_alive(15 * SECOND)).await;
    let (mut session, first) = browser(&hub, None).await;
    assert_eq!(first, cursor_event("earliest"), "the log is empty");
    let mut other = subscribe(&hub, "b").await;
    for id in 1..=5 {
        publish(&hub, &format!("topic=b&id={id}")).await;
        assert!(has_id(next(&mut other).await.as_deref(), id), "the hub has delivered it");
    }
    assert_eq!(next(&mut session).await, Some(cursor_event("5")), "though it wants none of them");
    let (_, first) = browser(&hub, Some("4")).await;
    assert_eq!(first, cursor_event("4"), "the answer to its cursor");
    let (_, first) = browser(&hub, Some("1")).await;
    assert_eq!(first, cursor_event("earliest"), "it is trimmed");
    let (_, first) = browser(&hub, None).await;
    assert_eq!(first, cursor_event("5"));
}

/// A log that gives each page but the first after a while.
struct Slow(MemoryTransport, AtomicU32);

/// Nearly the keep-alive.
const SLOW: Duration = Duration::from_secs(14);

#[async_trait]
impl Transport for Slow {
    async fn head(&self) -> Result<Head, TransportError> {
        self.0.head().await
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.0.append(update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.0.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        if self.1.fetch_add(1, Ordering::Relaxed) > 0 {
            sleep(SLOW).await;
        }
        self.0.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.0.follow(after).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_not_silent_for_longer_because_it_goes_from_the_history_to_its_shard() {
    let interval = 15 * SECOND;
    let slow = Slow(MemoryTransport::new(1_000), AtomicU32::new(0));
    let hub = Hub::simulate(Arc::new(slow), keep_alive(interval)).await.expect("start");
    publish(&hub, "topic=a&id=0").await;
    // More than a page, and more than the ring keeps.
    for id in 1..400 {
        publish(&hub, &format!("topic=b&id={id}")).await;
    }
    for _ in 0..20 {
        let mut session = begin(&hub, "a", Some("earliest"), None).await;
        let mut last = Instant::now();
        for _ in 0..6 {
            next(&mut session).await.expect("more");
            assert!(last.elapsed() <= interval + 2 * TICK, "{:?}", last.elapsed());
            last = Instant::now();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_larger_than_the_ring_is_named_as_well() {
    let hub = start(10, keep_alive(15 * SECOND)).await;
    let all = || Matcher::selector("*", &Limits::default()).expect("valid");
    let grants = Grants { subscribe: vec![all()], ..Grants::default() };
    let request =
        SubscribeRequest { dialect: Dialect::V1, matchers: vec![all()], cursor: None, multiplex: true };
    let mut session = hub.subscribe(request, Arc::new(grants), None).await.expect("subscribe");
    let limits = Limits { body_bytes_max: 64 << 20, ..Limits::default() };
    let body = format!("topic=a&id=1&data={}", "x".repeat(17 << 20));
    let draft = request::publish(body.as_bytes(), hub.url(), &limits).expect("valid");
    hub.publish(draft).await.expect("publish");
    while next(&mut session).await.is_some_and(|frame| frame.len() < 17 << 20) {}
    let sign = next(&mut session).await;
    assert!(has_id(sign.as_deref(), 1), "{sign:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_at_the_end_of_its_lifetime() {
    let hub = start(10, quiet()).await;
    let close_at = Instant::now() + 60 * SECOND;
    let mut session = begin(&hub, "a", None, Some(close_at)).await;
    assert!(session.next().await.is_some());
    assert_eq!(session.next().await, None);
    assert!(Instant::now() >= close_at && close_at.elapsed() <= 2 * TICK);
    assert_eq!(session.closed(), Some(Closed::Lifetime));
    assert_eq!(session.next().await, None, "the end is for ever");
}

#[tokio::test(start_paused = true)]
async fn streams_that_begin_later_have_the_times_that_were_set_meanwhile() {
    let hub = start(10, Settings { lifetime_max: Some(3_600 * SECOND), ..quiet() }).await;
    let began = Instant::now();
    let mut former = subscribe(&hub, "a").await;
    hub.tune(&Settings { lifetime_max: Some(60 * SECOND), ..keep_alive(10 * SECOND) });
    let mut session = subscribe(&hub, "a").await;
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"), "a sign of life");
    assert!(Instant::now() - began <= 10 * SECOND + 2 * TICK);
    while next(&mut session).await.is_some() {}
    assert_eq!(session.closed(), Some(Closed::Lifetime));
    assert!(Instant::now() - began <= 61 * SECOND);
    while next(&mut former).await.is_some() {}
    assert!(Instant::now() - began >= 3_200 * SECOND);
}
