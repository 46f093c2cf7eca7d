//! What every transport guarantees, as a list of checks. Each is one async function that panics when the guarantee does
//! not hold; a transport's tests run the whole list against a real backend.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use petasos_hub::{MemoryTransport, conformance::{CHECKS, Subject}, transport::Transport};
//!
//! struct Memory;
//!
//! #[async_trait]
//! impl Subject for Memory {
//!     async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
//!         Arc::new(MemoryTransport::new(history_max))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! for (name, check) in CHECKS {
//!     println!("{name}");
//!     check(&Memory).await;
//! }
//! # }
//! ```

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use petasos_protocol::{
    Dialect, Limits,
    event::{EventId, EventType, Retry},
    matcher::{Matcher, MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    topic::{HubUrl, Topics},
    update::{Draft, Origin, Update},
};

use crate::{
    TransportError,
    log::documents::{DOCUMENT_BYTES_MAX, Documents, NAME_BYTES_MAX, Version},
    log::registry::{Abandoned, Fact, Lease, NodeId, Registry},
    log::transport::{Entry, Extent, Page, Position, Transport},
};

/// What is checked: a maker of empty logs.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new, empty log, independent of all others, that keeps the last `history_max` updates of publishers. Where it has
    /// a registry, the lease of a node is short: these checks wait for its end.
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport>;

    /// The log that was made last, as another node has it. `None`: it has one node only.
    async fn peer(&self) -> Option<Arc<dyn Transport>> {
        None
    }

    /// Pauses the store of the log that was made last: it answers nothing and ends no connection. The log finds that out
    /// within seconds of an append. False: this store cannot be paused.
    async fn pause(&self) -> bool {
        false
    }

    /// Ends what [`Subject::pause`] began.
    async fn resume(&self) {}
}

/// One guarantee.
pub type Check = for<'a> fn(&'a dyn Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// All guarantees, by name.
pub const CHECKS: &[(&str, Check)] = &[
    ("an empty log is empty", |s| Box::pin(an_empty_log_is_empty(s))),
    ("head is the last append", |s| Box::pin(head_is_the_last_append(s))),
    ("its extent counts what was appended", |s| Box::pin(its_extent_counts_what_was_appended(s))),
    ("an update is kept unchanged", |s| Box::pin(an_update_is_kept_unchanged(s))),
    ("pages join without gap or overlap", |s| Box::pin(pages_join_without_gap_or_overlap(s))),
    ("locate finds the earliest", |s| Box::pin(locate_finds_the_earliest(s))),
    ("locate does not know what was never appended", |s| Box::pin(locate_does_not_know_strangers(s))),
    ("a trimmed log says so", |s| Box::pin(a_trimmed_log_says_so(s))),
    ("an id in two origins is found where it is still kept", |s| Box::pin(an_id_in_two_origins_is_found(s))),
    ("subscription events evict no update", |s| Box::pin(subscription_events_evict_no_update(s))),
    ("a follower sees what a reader sees", |s| Box::pin(a_follower_sees_what_a_reader_sees(s))),
    ("a follower goes from history to live", |s| Box::pin(a_follower_goes_from_history_to_live(s))),
    ("a follower's dropped wait loses nothing", |s| Box::pin(a_dropped_wait_loses_nothing(s))),
    ("a slow follower loses nothing", |s| Box::pin(a_slow_follower_loses_nothing(s))),
    ("a dropped follower holds nobody up", |s| Box::pin(a_dropped_follower_holds_nobody_up(s))),
    ("a dropped append is whole or nothing", |s| Box::pin(a_dropped_append_is_whole_or_nothing(s))),
    ("updates appended together keep their order", |s| Box::pin(appended_together_keeps_its_order(s))),
    ("an append that failed in this process is never added", |s| Box::pin(a_failed_append_is_never_added(s))),
    ("nodes see one order", |s| Box::pin(nodes_see_one_order(s))),
    ("nodes find what others have appended", |s| Box::pin(nodes_find_what_others_have_appended(s))),
    ("a fact has its events once", |s| Box::pin(a_fact_has_its_events_once(s))),
    ("facts have their events in order", |s| Box::pin(facts_have_their_events_in_order(s))),
    ("a subscription is listed as it was recorded", |s| Box::pin(a_subscription_is_listed_as_recorded(s))),
    ("a node without a lease records nothing", |s| Box::pin(a_node_without_lease_records_nothing(s))),
    ("a node with a lease is not expired", |s| Box::pin(a_node_with_a_lease_is_not_expired(s))),
    ("what a dead node left behind ends once", |s| Box::pin(what_a_dead_node_left_ends_once(s))),
    ("a node that resigns leaves its subscribers to others", |s| Box::pin(a_node_resigns(s))),
    ("a node comes back from the dead", |s| Box::pin(a_node_comes_back(s))),
    ("a node comes back while others expire it", |s| Box::pin(a_node_comes_back_while_expired(s))),
    ("nodes share their documents", |s| Box::pin(nodes_share_their_documents(s))),
];

async fn an_empty_log_is_empty(subject: &dyn Subject) {
    let log = subject.transport(10).await;
    let head = log.head().await.expect("head");
    assert_eq!(head.id, None);
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert!(page.entries.is_empty());
    assert!(page.trimmed.updates <= head.position && page.trimmed.events <= head.position);
    assert!(Position::EARLIEST < append(&*log, "first").await);
}

async fn head_is_the_last_append(subject: &dyn Subject) {
    let log = subject.transport(10).await;
    let mut last = log.head().await.expect("head").position;
    for number in 0..20 {
        let position = append(&*log, &number.to_string()).await;
        assert!(position > last, "positions grow");
        let head = log.head().await.expect("head");
        assert_eq!(head.position, position);
        assert_eq!(head.id.as_ref().map(EventId::as_str), Some(number.to_string().as_str()));
        last = position;
    }
}

/// A log need not know its extent. What it knows is right.
async fn its_extent_counts_what_was_appended(subject: &dyn Subject) {
    let log = subject.transport(10).await;
    let empty = log.extent().await.expect("an extent");
    assert_eq!((empty.updates.unwrap_or(0), empty.oldest), (0, None));
    // The clocks of a store and of this machine may differ a little.
    let began = SystemTime::now() - Duration::from_secs(60);
    for number in 0..3 {
        append(&*log, &number.to_string()).await;
    }
    let Extent { updates, bytes, oldest } = log.extent().await.expect("an extent");
    assert_eq!(updates.unwrap_or(3), 3);
    assert!(bytes.is_none_or(|bytes| bytes >= 3));
    assert!(oldest.is_none_or(|oldest| oldest >= began && oldest <= began + Duration::from_secs(600)));
    if let Some(batches) = log.batches() {
        assert_eq!((batches.count(), batches.sum), (3, 3.0), "one after the other");
    }
}

async fn an_update_is_kept_unchanged(subject: &dyn Subject) {
    let log = subject.transport(10).await;
    let limits = Limits::default();
    let topics =
        Topics::parse(["https://example.com/é", "b", "c d"], &HubUrl::default(), &limits).expect("topics");
    let draft = Draft {
        topics,
        data: "line\nline\r\n\u{2028}é😀".to_owned(),
        private: true,
        id: Some(EventId::parse("id é", &limits).expect("id")),
        event_type: Some(EventType::parse("type é", &limits).expect("type")),
        retry: Some(Retry::parse("1500").expect("retry")),
    };
    let update = Update::publish(draft, || unreachable!("an id was given"));
    let position = log.append(update.clone()).await.expect("append");
    let event = subscription_event();
    log.append(event.clone()).await.expect("append");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!(page.entries[0].position, position);
    assert_eq!(*page.entries[0].update, update);
    assert_eq!(*page.entries[1].update, event);
    assert_eq!(page.entries[1].update.origin(), Origin::Hub);
}

async fn pages_join_without_gap_or_overlap(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    for id in &expected {
        append(&*log, id).await;
    }
    for limit in [1, 7, 49, 50, 51] {
        let mut after = Position::EARLIEST;
        let mut ids = Vec::new();
        loop {
            let page = log.read(after, limit).await.expect("read");
            assert!(page.entries.len() <= limit);
            if page.entries.is_empty() {
                assert!(page.at_end);
                assert_eq!(page.through, log.head().await.expect("head").position);
                break;
            }
            assert_ordered(&page, after);
            after = page.through;
            ids.extend(names(&page.entries));
            assert_eq!(page.at_end, ids.len() == expected.len(), "with pages of {limit}");
        }
        assert_eq!(ids, expected, "with pages of {limit}");
    }
}

async fn locate_finds_the_earliest(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let first = append(&*log, "twice").await;
    append(&*log, "between").await;
    append(&*log, "twice").await;
    assert_eq!(log.locate("twice").await.expect("locate"), Some(first));
    let page = log.read(first, 10).await.expect("read");
    assert_eq!(names(&page.entries), ["between", "twice"]);
}

async fn locate_does_not_know_strangers(subject: &dyn Subject) {
    let log = subject.transport(2).await;
    for id in ["gone", "b", "c", "d"] {
        append(&*log, id).await;
    }
    for id in ["", "never", "earliest", "c'", "b\0", &"x".repeat(10_000)] {
        assert_eq!(log.locate(id).await.expect("locate"), None, "{id}");
    }
    assert!(log.locate("d").await.expect("locate").is_some());
}

async fn a_trimmed_log_says_so(subject: &dyn Subject) {
    let log = subject.transport(5).await;
    let mut positions = Vec::new();
    for number in 0..20 {
        positions.push(append(&*log, &number.to_string()).await);
    }
    let page = log.read(positions[3], 100).await.expect("read");
    assert!(page.trimmed.updates > positions[3], "what followed 3 is gone, and the page says so");
    let kept = names(&page.entries);
    assert!(kept.len() >= 5 && kept.last().is_some_and(|id| id == "19"), "the last five are kept: {kept:?}");
    assert!(page.trimmed.updates < page.entries[0].position);
    let recent = log.read(positions[15], 100).await.expect("read");
    assert!(recent.trimmed.updates <= positions[15], "nothing is missing after 15");
    assert_eq!(names(&recent.entries), ["16", "17", "18", "19"]);
    assert_eq!(log.locate("3").await.expect("locate"), None, "the index is trimmed with the log");
    assert!(matches!(log.follow(positions[3]).await.err(), Some(TransportError::Trimmed)));
}

async fn an_id_in_two_origins_is_found(subject: &dyn Subject) {
    let log = subject.transport(2).await;
    let event = log.append(subscription_event_with("shared")).await.expect("append");
    append(&*log, "shared").await;
    for id in ["b", "c", "d"] {
        append(&*log, id).await;
    }
    // The update with that id has been trimmed, the event has not: it is the earliest that is kept.
    assert_eq!(log.locate("shared").await.expect("locate"), Some(event));
}

async fn subscription_events_evict_no_update(subject: &dyn Subject) {
    let log = subject.transport(3).await;
    append(&*log, "kept").await;
    for _ in 0..20 {
        log.append(subscription_event()).await.expect("append");
    }
    let located = log.locate("kept").await.expect("locate").expect("still kept");
    let page = log.read(located, 100).await.expect("read");
    assert!(page.trimmed.updates <= located);
    assert_eq!(page.entries.len(), 20);
}

/// Appenders side by side: one order, the same for everyone.
async fn a_follower_sees_what_a_reader_sees(subject: &dyn Subject) {
    let log = subject.transport(10_000).await;
    let head = log.head().await.expect("head").position;
    let mut follower = log.follow(head).await.expect("follow");
    let mut appenders = Vec::new();
    for appender in 0..4 {
        let log = Arc::clone(&log);
        appenders.push(tokio::spawn(async move {
            for number in 0..250 {
                append(&*log, &format!("{appender}-{number}")).await;
            }
        }));
    }
    let followed = take(&mut *follower, 1_000).await;
    for appender in appenders {
        appender.await.expect("appender");
    }
    let mut read = Vec::new();
    let mut after = Position::EARLIEST;
    while read.len() < 1_000 {
        let page = log.read(after, 1_000).await.expect("read");
        assert_ordered(&page, after);
        after = page.through;
        read.extend(page.entries);
    }
    let places = |entries: &[Entry]| entries.iter().map(|entry| entry.position).collect::<Vec<_>>();
    assert_eq!(places(&followed), places(&read));
    assert_eq!(names(&followed), names(&read));
    for appender in 0..4 {
        let prefix = format!("{appender}-");
        let own: Vec<_> = names(&read).into_iter().filter(|id| id.starts_with(&prefix)).collect();
        let expected: Vec<_> = (0..250).map(|number| format!("{prefix}{number}")).collect();
        assert_eq!(own, expected, "each appender's own order is kept");
    }
}

async fn a_follower_goes_from_history_to_live(subject: &dyn Subject) {
    let log = subject.transport(10_000).await;
    let mut start = Position::EARLIEST;
    for number in 0..300 {
        let position = append(&*log, &number.to_string()).await;
        if number == 99 {
            start = position;
        }
    }
    let mut follower = log.follow(start).await.expect("follow");
    let appender = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for number in 300..600 {
                append(&*log, &number.to_string()).await;
            }
        }
    });
    let expected: Vec<_> = (100..600).map(|number| number.to_string()).collect();
    assert_eq!(names(&take(&mut *follower, 500).await), expected);
    appender.await.expect("appender");
}

async fn a_dropped_wait_loses_nothing(subject: &dyn Subject) {
    let log = subject.transport(1_000).await;
    let head = log.head().await.expect("head").position;
    let mut follower = log.follow(head).await.expect("follow");
    let mut ids = Vec::new();
    for number in 0..200 {
        append(&*log, &number.to_string()).await;
        // Polled once and dropped, unless the answer is there at once.
        let poll = std::future::poll_fn(|cx| {
            let wait = std::pin::pin!(follower.next());
            std::task::Poll::Ready(wait.poll(cx))
        });
        if let std::task::Poll::Ready(entries) = poll.await {
            ids.extend(names(&entries.expect("follow")));
        }
    }
    let missing = 200 - ids.len();
    if missing > 0 {
        ids.extend(names(&take(&mut *follower, missing).await));
    }
    assert_eq!(ids, (0..200).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// More than any window of what may be pending, with a history of almost nothing.
async fn a_slow_follower_loses_nothing(subject: &dyn Subject) {
    let log = subject.transport(1).await;
    let head = log.head().await.expect("head").position;
    let mut follower = log.follow(head).await.expect("follow");
    let appender = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for number in 0..MANY {
                append(&*log, &number.to_string()).await;
            }
        }
    });
    let followed = take(&mut *follower, MANY).await;
    assert_eq!(names(&followed), (0..MANY).map(|number| number.to_string()).collect::<Vec<_>>());
    appender.await.expect("appender");
}

async fn a_dropped_follower_holds_nobody_up(subject: &dyn Subject) {
    let log = subject.transport(1).await;
    let head = log.head().await.expect("head").position;
    let follower = log.follow(head).await.expect("follow");
    let appender = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for number in 0..MANY {
                append(&*log, &number.to_string()).await;
            }
        }
    });
    tokio::task::yield_now().await;
    drop(follower);
    tokio::time::timeout(PATIENCE, appender).await.expect("appending goes on").expect("appender");
}

async fn a_dropped_append_is_whole_or_nothing(subject: &dyn Subject) {
    let log = subject.transport(1_000).await;
    for number in 0..100 {
        let id = number.to_string();
        let append = append(&*log, &id);
        let mut append = std::pin::pin!(append);
        // Polled once, then dropped.
        std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx).is_ready())).await;
    }
    let last = append(&*log, "last").await;
    let page = log.read(Position::EARLIEST, 1_000).await.expect("read");
    assert_ordered(&page, Position::EARLIEST);
    assert_eq!(page.entries.last().map(|entry| entry.position), Some(last));
    let ids = names(&page.entries);
    let mut unique = ids.clone();
    unique.dedup();
    assert_eq!(ids, unique, "nothing twice");
}

async fn appended_together_keeps_its_order(subject: &dyn Subject) {
    let log = subject.transport(2_000).await;
    let mut follower = log.follow(log.head().await.expect("head").position).await.expect("follow");
    log.append_all(Vec::new()).await.expect("append nothing");
    // More than a follower may be behind.
    let ids: Vec<String> = (0..1_200).map(|number| number.to_string()).collect();
    let append = log.append_all(ids.iter().map(|id| update(id)).collect());
    let append = tokio::time::timeout(PATIENCE, append);
    let (appended, entries) = tokio::join!(append, take(&mut *follower, ids.len()));
    appended.expect("the append ends").expect("append");
    assert_eq!(names(&entries), ids);
}

/// A publisher that got an error publishes again. So an update that was still in this process must not be added later.
async fn a_failed_append_is_never_added(subject: &dyn Subject) {
    let log = subject.transport(1_000).await;
    append(&*log, "before").await;
    if !subject.pause().await {
        return;
    }
    // An append that has left for the store when the pause begins may be added.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut sent = Vec::new();
    while log.is_ready() {
        assert!(tokio::time::Instant::now() < deadline, "an append finds out that the store does not answer");
        let id = format!("sent-{}", sent.len());
        // A store may still answer for a moment.
        let ended = log.append(update(&id)).await;
        assert!(matches!(ended, Ok(_) | Err(TransportError::Unavailable(_))), "{ended:?}");
        sent.push(id);
    }
    let mut failing = tokio::task::JoinSet::new();
    for number in 0..20 {
        let log = Arc::clone(&log);
        failing.spawn(async move { log.append(update(&format!("refused-{number}"))).await });
    }
    for number in 0..20 {
        let id = format!("dropped-{number}");
        let mut append = std::pin::pin!(log.append(update(&id)));
        // Polled once, then dropped.
        std::future::poll_fn(|cx| std::task::Poll::Ready(append.as_mut().poll(cx).is_ready())).await;
    }
    while let Some(failed) = failing.join_next().await {
        let failed = failed.expect("no panic");
        assert!(matches!(failed, Err(TransportError::Unavailable(_))), "{failed:?}");
    }
    subject.resume().await;
    // By itself: nobody publishes to a node that is not ready.
    let mut looks = tokio::time::interval(LOOK);
    while !log.is_ready() {
        assert!(tokio::time::Instant::now() < deadline, "the log is ready again");
        looks.tick().await;
    }
    append(&*log, "after").await;
    let page = log.read(Position::EARLIEST, 1_000).await.expect("read");
    let mut ids = names(&page.entries);
    ids.retain(|id| !sent.contains(id));
    assert_eq!(ids, ["before", "after"], "nothing that failed in this process was added");
}

/// Appenders and followers on two nodes: one order, the same for all.
async fn nodes_see_one_order(subject: &dyn Subject) {
    let log = subject.transport(10_000).await;
    let Some(peer) = subject.peer().await else { return };
    let mut followed = Vec::new();
    let mut appenders = Vec::new();
    for (node, log) in [(0, &log), (1, &peer)] {
        let head = log.head().await.expect("head").position;
        let mut follower = log.follow(head).await.expect("follow");
        followed.push(tokio::spawn(async move { take(&mut *follower, 1_000).await }));
        for appender in 0..2 {
            let log = Arc::clone(log);
            appenders.push(move || {
                tokio::spawn(async move {
                    for number in 0..250 {
                        append(&*log, &format!("{node}-{appender}-{number}")).await;
                    }
                })
            });
        }
    }
    let appenders: Vec<_> = appenders.into_iter().map(|start| start()).collect();
    for appender in appenders {
        appender.await.expect("appender");
    }
    let mut seen = Vec::new();
    for follower in followed {
        let entries = follower.await.expect("follower");
        let places: Vec<_> = entries.iter().map(|entry| entry.position).collect();
        seen.push((places, names(&entries)));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(log.head().await.expect("head"), peer.head().await.expect("head"));
    for appender in ["0-0-", "0-1-", "1-0-", "1-1-"] {
        let own: Vec<_> = seen[0].1.iter().filter(|id| id.starts_with(appender)).collect();
        let expected: Vec<_> = (0..250).map(|number| format!("{appender}{number}")).collect();
        assert!(own.into_iter().eq(&expected), "each appender's own order is kept");
    }
}

async fn nodes_find_what_others_have_appended(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(peer) = subject.peer().await else { return };
    for number in 0..20 {
        let (one, other) = if number % 2 == 0 { (&log, &peer) } else { (&peer, &log) };
        let position = append(&**one, &number.to_string()).await;
        assert_eq!(other.locate(&number.to_string()).await.expect("locate"), Some(position));
        let page = other.read(position, 10).await.expect("read");
        assert!(page.entries.is_empty() && page.at_end && page.through == position);
        assert_eq!(other.head().await.expect("head").position, position);
    }
}

async fn a_fact_has_its_events_once(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let node = NodeId::new(1);
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Ended, "it is new");
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Kept);
    let arrival = fact(1, true);
    // As after a record whose end is not known, and as after a lease that has ended meanwhile.
    for _ in 0..2 {
        assert_eq!(record(registry, node, std::slice::from_ref(&arrival)).await, Lease::Kept);
        record(registry, node, &[fact(1, true), fact(1, true)]).await;
    }
    assert_eq!(events(&*log).await, events_in(&[&arrival]));
    assert_eq!(listed(registry, None).await, [subscriber(1)]);
    let departure = fact(1, false);
    for _ in 0..2 {
        record(registry, node, std::slice::from_ref(&departure)).await;
        record(registry, node, &[fact(1, false)]).await;
        record(registry, node, &[fact(2, false)]).await;
    }
    assert_eq!(events(&*log).await, events_in(&[&arrival, &departure]));
    assert_eq!(listed(registry, None).await, []);
    let again = fact(1, true);
    record(registry, node, std::slice::from_ref(&again)).await;
    assert_eq!(events(&*log).await, events_in(&[&arrival, &departure, &again]));
}

async fn facts_have_their_events_in_order(subject: &dyn Subject) {
    let log = subject.transport(1_000).await;
    let Some(registry) = log.registry() else { return };
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let mut facts: Vec<_> = (0..100).map(|number| fact(number, true)).collect();
    facts.extend((0..100).step_by(2).map(|number| fact(number, false)));
    record(registry, node, &facts).await;
    assert_eq!(events(&*log).await, events_in(&facts.iter().collect::<Vec<_>>()));
    let odd: Vec<_> = (1..100).step_by(2).map(subscriber).collect();
    assert_eq!(listed(registry, None).await, odd);
}

async fn a_subscription_is_listed_as_recorded(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let (limits, hub) = (Limits::default(), HubUrl::default());
    let payload = serde_json::value::RawValue::from_string(r#"{"é":["\u2028",1.50]}"#.to_owned());
    let payload: Arc<serde_json::value::RawValue> = Arc::from(payload.expect("JSON"));
    let exact = |text| Matcher::parse(MatcherType::Exact, text, &hub, &limits).expect("valid");
    let pattern = |text| Matcher::parse(MatcherType::UrlPattern, text, &hub, &limits).expect("valid");
    let selector = |text| Matcher::selector(text, &limits).expect("valid");
    let recorded: Vec<_> = [
        (Dialect::V1, exact("é \"x\"")),
        (Dialect::V1, exact("*")),
        (Dialect::V1, exact("/a/{b}")),
        (Dialect::V1, pattern("https://example.com/:a")),
        (Dialect::V1, pattern("*")),
        (Dialect::Legacy, selector("/a/{b}")),
        (Dialect::Legacy, selector("*")),
        (Dialect::Legacy, selector("b")),
    ]
    .into_iter()
    .enumerate()
    .map(|(number, (dialect, matcher))| Subscription {
        dialect,
        matcher: (&matcher).into(),
        // All that a subscriber subscribes to comes from one request, which has one dialect.
        subscriber: subscriber(if dialect == Dialect::V1 { 1 } else { 2 }),
        payload: (number % 2 == 0).then(|| Arc::clone(&payload)),
    })
    .collect();
    let arrivals = recorded.chunk_by(|a, b| a.subscriber == b.subscriber);
    let arrivals: Vec<_> = arrivals.map(|each| fact_of(each.into(), true)).collect();
    record(registry, node, &arrivals).await;
    let peer = subject.peer().await;
    for registry in [Some(registry), peer.as_ref().and_then(|peer| peer.registry())].into_iter().flatten() {
        let found = registry.list(None).await.expect("list");
        assert_eq!(found.len(), recorded.len());
        for (found, recorded) in found.iter().zip(&recorded) {
            assert_eq!(format!("{found:?}"), format!("{recorded:?}"));
            assert_eq!(found.document(&hub), recorded.document(&hub));
        }
        assert_eq!(registry.list(Some("/a/{b}")).await.expect("list").len(), 2);
        assert_eq!(registry.list(Some("*")).await.expect("list").len(), 3);
        assert!(registry.list(Some("c")).await.expect("list").is_empty());
        // Pages of one subscriber.
        let (mut after, mut paged) = (Some(0), Vec::new());
        while let Some(place) = after {
            let page = registry.page(Some("/a/{b}"), place, 1).await.expect("a page");
            assert!(page.subscribers.len() <= 1 && page.next.is_none_or(|next| next > place));
            paged.extend(page.subscribers.iter().map(|all| all[0].subscriber));
            after = page.next;
        }
        paged.retain(|each| *each == subscriber(1) || *each == subscriber(2));
        assert_eq!(paged, [subscriber(1), subscriber(2)]);
    }
}

async fn a_node_without_lease_records_nothing(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let recorded = registry.record(NodeId::new(1), &[fact(1, true)]).await;
    assert_eq!(recorded.expect("record"), Lease::Ended);
    assert_eq!((events(&*log).await, listed(registry, None).await), (vec![], vec![]));
    assert!(registry.abandoned(10).await.expect("abandoned").is_empty());
}

async fn a_node_with_a_lease_is_not_expired(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let arrival = fact(1, true);
    record(registry, node, std::slice::from_ref(&arrival)).await;
    assert!(registry.abandoned(10).await.expect("abandoned").is_empty());
    registry.renew(node).await.expect("renew");
    registry.expire(node, &[fact(1, false)]).await.expect("expire");
    assert_eq!(events(&*log).await, events_in(&[&arrival]));
    assert_eq!(listed(registry, None).await, [subscriber(1)]);
}

async fn what_a_dead_node_left_ends_once(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let (dead, alive) = (NodeId::new(1), NodeId::new(2));
    registry.renew(dead).await.expect("renew");
    let arrivals: Vec<_> = (0..10).map(|number| fact(number, true)).collect();
    record(registry, dead, &arrivals).await;
    registry.renew(alive).await.expect("renew");
    record(registry, alive, &[fact(100, true)]).await;
    let abandoned = wait_for_abandoned(registry, alive).await;
    assert_eq!(registry.abandoned(3).await.expect("abandoned").len(), 3);
    let mut who: Vec<_> = abandoned.iter().map(|each| each.subscriptions[0].subscriber).collect();
    who.sort();
    assert_eq!(who, (0..10).map(subscriber).collect::<Vec<_>>());
    assert!(abandoned.iter().all(|each| each.node == dead));
    // Both nodes notice, and end some twice.
    let peer = subject.peer().await;
    let other = peer.as_ref().and_then(|peer| peer.registry()).unwrap_or(registry);
    let departures = || abandoned.iter().map(|each| fact_of(Arc::clone(&each.subscriptions), false));
    let (first, second): (Vec<_>, Vec<_>) = (departures().collect(), departures().skip(5).collect());
    let (one, two) = tokio::join!(registry.expire(dead, &first), other.expire(dead, &second));
    one.and(two).expect("expire");
    registry.expire(dead, &first).await.expect("expire");
    assert!(registry.abandoned(100).await.expect("abandoned").is_empty());
    assert_eq!(events(&*log).await.len(), 10 + 1 + 10, "each departure has one event");
    registry.renew(alive).await.expect("renew");
    assert_eq!(listed(registry, None).await, [subscriber(100)]);
}

async fn a_node_resigns(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    record(registry, node, &[fact(1, true)]).await;
    registry.resign(node).await.expect("resign");
    let abandoned = registry.abandoned(10).await.expect("abandoned");
    assert_eq!(abandoned.len(), 1);
    assert_eq!((abandoned[0].node, abandoned[0].subscriptions[0].subscriber), (node, subscriber(1)));
    assert_eq!(registry.record(node, &[fact(2, true)]).await.expect("record"), Lease::Ended);
}

async fn a_node_comes_back(subject: &dyn Subject) {
    let log = subject.transport(100).await;
    let Some(registry) = log.registry() else { return };
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let arrivals = [fact(1, true), fact(2, true)];
    record(registry, node, &arrivals).await;
    assert_eq!(wait_for_abandoned(registry, NodeId::new(2)).await.len(), 2);
    let departure = fact(1, false);
    registry.expire(node, std::slice::from_ref(&departure)).await.expect("expire");
    assert_eq!(registry.record(node, &[fact(3, true)]).await.expect("record"), Lease::Ended);
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Ended);
    let again = [fact(1, true), fact(2, true)];
    record(registry, node, &again).await;
    assert_eq!(events(&*log).await, events_in(&[&arrivals[0], &arrivals[1], &departure, &again[0]]));
}

/// A node gets a lease again at the moment when two other nodes expire its subscribers. Each of them either stands, or departs and
/// arrives again.
async fn a_node_comes_back_while_expired(subject: &dyn Subject) {
    let log = subject.transport(1_000).await;
    let Some(registry) = log.registry() else { return };
    let peers = [subject.peer().await, subject.peer().await];
    let [one, other] =
        peers.each_ref().map(|peer| peer.as_ref().and_then(|peer| peer.registry()).unwrap_or(registry));
    let node = NodeId::new(1);
    let facts = |active| (0..COMING_BACK).map(|number| fact(number, active)).collect::<Vec<_>>();
    // Who each event is about, and whether it has come.
    let mut announced = HashMap::new();
    let mut announce = |facts: &[Fact]| {
        let events = facts.iter().flat_map(|fact| fact.events.iter().map(move |event| (fact, event)));
        announced.extend(
            events.map(|(fact, event)| (event.id().as_str().to_owned(), (fact.subscriber, fact.active))),
        );
    };
    let arrivals = facts(true);
    announce(&arrivals);
    record(registry, node, &arrivals).await;
    for _ in 0..COMEBACKS {
        let (again, departures) = (facts(true), [facts(false), facts(false)]);
        [&again, &departures[0], &departures[1]].into_iter().for_each(|facts| announce(facts));
        registry.resign(node).await.expect("resign");
        let comes_back = async {
            registry.renew(node).await.expect("renew");
            registry.record(node, &again).await
        };
        let (recorded, expired, expired_by_other) =
            tokio::join!(comes_back, one.expire(node, &departures[0]), other.expire(node, &departures[1]),);
        expired.and(expired_by_other).expect("expire");
        recorded.expect("record");
        // A slow machine may have ended the lease meanwhile.
        while registry.renew(node).await.expect("renew") == Lease::Ended {
            registry.record(node, &again).await.expect("record");
        }
    }
    let mut active = HashMap::new();
    for event in events(&*log).await {
        let (subscriber, has_come) = announced[&event];
        let was_active = active.insert(subscriber, has_come).unwrap_or(false);
        assert_ne!(was_active, has_come, "{subscriber} has come or has gone twice");
    }
    assert!(active.values().all(|active| *active), "a subscriber that stands was announced as gone");
    let mut listed = listed(registry, None).await;
    listed.sort();
    assert_eq!(listed, (0..COMING_BACK).map(subscriber).collect::<Vec<_>>());
}

async fn nodes_share_their_documents(subject: &dyn Subject) {
    let log = subject.transport(10).await;
    let Some(documents) = log.documents() else { return };
    // It lives as long as its documents are asked for.
    let peer = subject.peer().await.unwrap_or_else(|| Arc::clone(&log));
    let others = peer.documents().expect("as the other one");
    share_documents(&*documents, &*others).await;
}

/// Checks what [`Documents`] promise, with the same documents as two nodes have them. There are none yet.
///
/// # Panics
/// If a guarantee does not hold.
pub async fn share_documents(one: &dyn Documents, other: &dyn Documents) {
    let load = async |documents: &dyn Documents, name: &str| {
        let document = documents.load(name).await.expect("load");
        document.map(|document| (document.bytes, document.version))
    };
    let store = async |documents: &dyn Documents, name: &str, bytes: &[u8], expected: Option<Version>| {
        documents.store(name, bytes, expected).await.expect("store")
    };
    assert!(load(one, "a").await.is_none());
    assert!(store(one, "a", b"x", Some(Version(1))).await.is_none(), "there is no version to replace");
    let first = store(one, "a", b"first", None).await.expect("there was none");
    assert_eq!(load(other, "a").await, Some((b"first".to_vec(), first)));
    assert!(store(other, "a", b"too late", None).await.is_none());
    let bytes: Vec<u8> = (0..=255).cycle().take(DOCUMENT_BYTES_MAX).collect();
    let second = store(other, "a", &bytes, Some(first)).await.expect("it is the newest");
    assert!(second != first && store(one, "a", b"too late", Some(first)).await.is_none());
    assert_eq!(load(one, "a").await, Some((bytes, second)));
    store(one, "a", b"", Some(second)).await.expect("it may be empty");
    assert_eq!(load(other, "a").await.expect("it is there").0, b"");
    let longest = "a".repeat(NAME_BYTES_MAX);
    store(one, &longest, b"b", None).await.expect("another one");
    for wrong in ["", "A", "../a", "1", "a.b", "a*", "a b", &format!("{longest}a")] {
        assert!(one.load(wrong).await.is_err() && one.store(wrong, b"", None).await.is_err(), "{wrong}");
    }
    assert!(one.store("b", &[0; DOCUMENT_BYTES_MAX + 1], None).await.is_err());
    // Of many that store at once, one alone does in each round.
    let mut expected = None;
    for round in 0..5_u8 {
        let attempts = (0..8_u8).map(|number| {
            let node = if number % 2 == 0 { one } else { other };
            async move { node.store("counter", &[round, number], expected).await.expect("store") }
        });
        let mut attempts: Vec<_> = attempts.map(Box::pin).collect();
        let mut stored = Vec::new();
        std::future::poll_fn(|cx| {
            attempts.retain_mut(|attempt| match attempt.as_mut().poll(cx) {
                std::task::Poll::Ready(version) => {
                    stored.extend(version);
                    false
                }
                std::task::Poll::Pending => true,
            });
            if attempts.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        assert_eq!(stored.len(), 1, "round {round}: {stored:?}");
        expected = stored.pop();
        assert_eq!(load(one, "counter").await.map(|(_, version)| version), expected);
    }
}

fn subscriber(number: u128) -> SubscriberId {
    SubscriberId::from_uuid(number)
}

fn fact(number: u128, active: bool) -> Fact {
    let subscription = Subscription {
        dialect: Dialect::V1,
        matcher: MatcherText::new(MatcherType::Exact, "topic"),
        subscriber: subscriber(number),
        payload: None,
    };
    fact_of([subscription].into(), active)
}

fn fact_of(subscriptions: Arc<[Subscription]>, active: bool) -> Fact {
    let hub = HubUrl::default();
    let events = subscriptions
        .iter()
        .map(|each| Update::announce(each, active, &hub, None, crate::ids::event()))
        .collect();
    Fact { subscriber: subscriptions[0].subscriber, active, subscriptions, events }
}

/// The lease is renewed first: a slow machine must not end it.
async fn record(registry: &dyn Registry, node: NodeId, facts: &[Fact]) -> Lease {
    registry.renew(node).await.expect("renew");
    registry.record(node, facts).await.expect("record")
}

/// The ids of all events in the log.
async fn events(log: &dyn Transport) -> Vec<String> {
    let (mut after, mut ids) = (Position::EARLIEST, Vec::new());
    loop {
        let page = log.read(after, 1_000).await.expect("read");
        assert!(page.entries.iter().all(|entry| entry.update.origin() == Origin::Hub));
        ids.extend(names(&page.entries));
        if page.at_end {
            return ids;
        }
        after = page.through;
    }
}

fn events_in(facts: &[&Fact]) -> Vec<String> {
    let events = facts.iter().flat_map(|fact| &fact.events);
    events.map(|event| event.id().as_str().to_owned()).collect()
}

async fn listed(registry: &dyn Registry, text: Option<&str>) -> Vec<SubscriberId> {
    let all = registry.list(text).await.expect("list");
    all.iter().map(|subscription| subscription.subscriber).collect()
}

/// Asks again and again, as what is waited for is time; `alive` lives on meanwhile.
async fn wait_for_abandoned(registry: &dyn Registry, alive: NodeId) -> Vec<Abandoned> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        registry.renew(alive).await.expect("renew");
        let abandoned = registry.abandoned(100).await.expect("abandoned");
        if !abandoned.is_empty() {
            return abandoned;
        }
        assert!(tokio::time::Instant::now() < deadline, "a lease ends");
    }
}

/// More than any window of what may be pending; few enough for a store that synchronizes each.
const MANY: usize = 5_000;

/// Subscribers of a node that comes back, and how often it does: some of them are expired before it has recorded them again, some
/// behind that. Their events fit into the log.
const COMING_BACK: u128 = 100;
const COMEBACKS: usize = 3;

/// How often a check looks for a fact that nobody announces. No result depends on it.
const LOOK: Duration = Duration::from_millis(10);

/// No check waits longer for one thing; far above what any backend needs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn take(follower: &mut dyn crate::log::transport::Follower, count: usize) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    while entries.len() < count {
        let next = tokio::time::timeout(PATIENCE, follower.next()).await;
        let batch = next.expect("entries arrive").expect("follow");
        assert!(!batch.is_empty());
        entries.extend(batch);
    }
    assert_eq!(entries.len(), count, "nothing twice");
    assert!(entries.is_sorted_by(|a, b| a.position < b.position));
    entries
}

fn assert_ordered(page: &Page, after: Position) {
    assert!(page.entries.is_sorted_by(|a, b| a.position < b.position));
    assert!(page.entries.iter().all(|entry| entry.position > after && entry.position <= page.through));
}

fn names(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.update.id().as_str().to_owned()).collect()
}

async fn append(log: &dyn Transport, id: &str) -> Position {
    let append = log.append(update(id));
    tokio::time::timeout(PATIENCE, append).await.expect("the append ends").expect("append")
}

fn update(id: &str) -> Update {
    let limits = Limits::default();
    let draft = Draft {
        topics: Topics::parse(["topic"], &HubUrl::default(), &limits).expect("topic"),
        data: format!("data of {id}"),
        private: false,
        id: Some(EventId::parse(id, &limits).expect("id")),
        event_type: None,
        retry: None,
    };
    Update::publish(draft, || unreachable!("an id was given"))
}

fn subscription_event() -> Update {
    subscription_event_with(crate::ids::event().as_str())
}

fn subscription_event_with(id: &str) -> Update {
    let limits = Limits::default();
    let subscription = Subscription {
        dialect: Dialect::Legacy,
        matcher: MatcherText::new(MatcherType::Exact, "topic"),
        subscriber: SubscriberId::from_uuid(0xbb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6),
        payload: None,
    };
    let id = EventId::parse(id, &limits).expect("id");
    Update::announce(&subscription, true, &HubUrl::default(), None, id)
}
