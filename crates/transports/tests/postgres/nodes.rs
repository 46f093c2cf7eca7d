//! Several nodes on one log, and one of them in the way.

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use petasos_hub::{
    TransportError,
    registry::{Fact, Lease, NodeId},
};
use petasos_protocol::{
    Dialect,
    event::EventId,
    matcher::{MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    topic::HubUrl,
    update::Update,
};
use petasos_transports::{Options, Retention};

use crate::{
    kit::{PATIENCE, Wait, updates::*},
    server::{Postgres, try_open},
};

fn options() -> Options {
    Options { retention: Retention { entries_max: 100_000, ..Retention::default() }, ..Options::default() }
}

/// An append as a node makes it, whose transaction stays open.
const APPEND: &str = "BEGIN;
    WITH place AS (
        UPDATE mercure_meta SET head = head + 1, updates = updates + 1, head_id = 'slow'
        RETURNING head, updates, update_bytes
    )
    INSERT INTO mercure_log (is_event, sequence, ordinal, bytes_before, created_at, id, record)
    SELECT false, head, updates, update_bytes, clock_timestamp(), 'slow', (SELECT record FROM mercure_log LIMIT 1)
    FROM place";

/// With numbers from a sequence the fast append would be seen first and the slow one never.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_late_is_not_skipped() {
    let server = Postgres::durable().await;
    let log = server.open("", &options()).await;
    let first = append(&*log, "first").await;
    let mut follower = log.follow(first).await.expect("follow");
    let slow = server.client().await;
    slow.batch_execute(APPEND).await.expect("it works");
    let fast = tokio::spawn({
        let log = Arc::clone(&log);
        async move { append(&*log, "fast").await }
    });
    // The fast one waits for the slow one, and nothing is seen of either.
    let client = server.client().await;
    let waiting =
        "SELECT FROM pg_stat_activity WHERE application_name = 'petasos' AND wait_event_type = 'Lock'";
    let mut wait = Wait::new("the fast append waits for the slow one");
    while client.query(waiting, &[]).await.expect("query").is_empty() {
        wait.goes_on().await;
    }
    assert!(!fast.is_finished());
    assert_eq!(log.head().await.expect("head").position, first);
    assert_eq!(kept_ids(&*log).await, ["first"]);
    slow.batch_execute("COMMIT").await.expect("it works");
    let fast = fast.await.expect("append");
    assert_eq!(fast.sequence, first.sequence + 2);
    // The slow entry's record is a copy of the first's.
    assert_eq!(follow_to(&mut *follower, "fast").await, ["first", "fast"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_stays_open_fails_appends_in_time() {
    let server = Postgres::durable().await;
    let log = server.open("timeout=1s", &options()).await;
    append(&*log, "first").await;
    let stuck = server.client().await;
    stuck.batch_execute(APPEND).await.expect("it works");
    let refused = tokio::time::timeout(PATIENCE, log.append(update("refused"))).await.expect("in time");
    assert!(matches!(refused, Err(TransportError::Unavailable(_))), "{refused:?}");
    assert!(log.is_ready(), "the server answers");
    stuck.batch_execute("ROLLBACK").await.expect("it works");
    append(&*log, "second").await;
    assert_eq!(kept_ids(&*log).await, ["first", "second"]);
}

/// Both take the same row's lock, and neither may go by what it saw before it had it.
#[tokio::test(flavor = "multi_thread")]
async fn updates_and_records_side_by_side_are_all_there_once() {
    let server = Postgres::durable().await;
    let log = server.open("", &options()).await;
    let peer = server.open("", &options()).await;
    let publish = |publisher: usize| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            for number in 0..100 {
                append(&*log, &format!("{publisher}-{number}")).await;
            }
        })
    };
    let publishers: Vec<_> = (0..4).map(publish).collect();
    let mut told = Vec::new();
    for (node, records) in [(1, &log), (2, &peer)] {
        let registry = records.registry().expect("there is one");
        registry.renew(NodeId::new(node)).await.expect("renew");
    }
    for number in 0..100 {
        let (one, other) = (fact(number), fact(1_000 + number));
        told.extend([&one, &other].map(|fact| fact.events[0].id().as_str().to_owned()));
        let (one, other) = ([one], [other]);
        let (log, peer) = (log.registry().expect("there is one"), peer.registry().expect("there is one"));
        let (one, other) =
            tokio::join!(log.record(NodeId::new(1), &one), peer.record(NodeId::new(2), &other));
        assert_eq!((one.expect("record"), other.expect("record")), (Lease::Kept, Lease::Kept));
    }
    for publisher in publishers {
        publisher.await.expect("publisher");
    }
    let mut expected: Vec<_> =
        (0..4).flat_map(|publisher| (0..100).map(move |number| format!("{publisher}-{number}"))).collect();
    expected.extend(told);
    expected.sort();
    let mut read = kept_ids(&*log).await;
    read.sort();
    assert_eq!(read, expected);
    assert_eq!(log.head().await.expect("head").position.sequence, 600, "the order has no holes");
    assert_eq!(peer.registry().expect("there is one").list(Some("topic")).await.expect("list").len(), 200);
}

fn fact(number: u128) -> Fact {
    let subscription = Subscription {
        dialect: Dialect::V1,
        matcher: MatcherText::new(MatcherType::Exact, "topic"),
        subscriber: SubscriberId::from_uuid(number),
        payload: None,
    };
    let id = EventId::from_uuid(&format!("event-{number}"));
    let events = vec![Update::announce(&subscription, true, &HubUrl::default(), None, id)];
    Fact { subscriber: subscription.subscriber, active: true, subscriptions: [subscription].into(), events }
}

/// The server ends the lease as soon as the first of several chunks is recorded.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_while_facts_are_recorded_is_an_error() {
    let server = Postgres::durable().await;
    let log = server.open("", &options()).await;
    let (registry, node) = (log.registry().expect("there is one"), NodeId::new(1));
    registry.renew(node).await.expect("renew");
    let ends = "CREATE FUNCTION ends() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN DELETE FROM mercure_leases; RETURN NULL; END';
        CREATE TRIGGER ends AFTER INSERT ON mercure_records FOR EACH STATEMENT EXECUTE FUNCTION ends()";
    server.client().await.batch_execute(ends).await.expect("it works");
    let facts: Vec<_> = (0..1_000).map(fact).collect();
    let recorded = registry.record(node, &facts).await;
    assert!(matches!(recorded, Err(TransportError::Unavailable(_))), "{recorded:?}");
    let listed = registry.list(None).await.expect("list").len();
    assert!(listed > 0 && listed < facts.len(), "{listed} were recorded");
    let recorded = registry.record(node, &facts).await;
    assert_eq!(recorded.expect("record"), Lease::Ended, "nothing more was recorded");
}

const URL: &str = "PETASOS_TEST_URL";

/// What the test below starts and pauses: a node that appends without end.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_node_that_is_paused_while_it_appends_stops_nobody"]
async fn a_node_that_appends() {
    let Ok(url) = std::env::var(URL) else { return };
    let log = try_open(&url, &options()).await.expect("it opens");
    let mut publishers = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let log = Arc::clone(&log);
        publishers.spawn(async move {
            loop {
                // An error means that it was paused for long.
                let _ = log.append(sized("other", 50_000)).await;
            }
        });
    }
    publishers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_paused_while_it_appends_stops_nobody() {
    let server = Postgres::durable().await;
    let url = server.url_of("postgres", "timeout=2s");
    // The node stays paused until our appends have ended, in time.
    let log = server.open("timeout=20s", &options()).await;
    let mut node = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "nodes::a_node_that_appends", "--ignored"])
        .env(URL, &url)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut wait = Wait::new("the node appends");
    while log.head().await.expect("head").position.sequence < 100 {
        wait.goes_on().await;
    }
    let signal = |name: &str| {
        let status = Command::new("kill").args(["-s", name, &node.id().to_string()]).status();
        assert!(status.expect("kill").success());
    };
    for number in 0..20 {
        signal("STOP");
        for _ in 0..10 {
            append(&*log, &format!("own-{number}")).await;
        }
        signal("CONT");
        let head = log.head().await.expect("head").position.sequence;
        let mut wait = Wait::new("the node appends again");
        while log.head().await.expect("head").position.sequence < head + 20 {
            wait.goes_on().await;
        }
    }
    node.kill().expect("killed");
    node.wait().expect("ended");
}
