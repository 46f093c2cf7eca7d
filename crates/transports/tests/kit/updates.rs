//! Updates and facts for tests, and what is done with them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use petasos_hub::{
    TransportError,
    registry::Fact,
    transport::{Entry, Follower, Position, Transport},
};
use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::{MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    topic::{HubUrl, Topics},
    update::{Draft, Update},
};
use petasos_transports::{OpenError, Options, Retention, open};

use super::{PATIENCE, Wait};

/// Opens a log that keeps so many updates.
pub async fn try_open(url: &str, entries_max: usize) -> Result<Arc<dyn Transport>, OpenError> {
    let retention = Retention { entries_max, ..Retention::default() };
    open(&url.parse()?, &Options { retention, ..Options::default() }).await
}

pub async fn open_log(url: &str, entries_max: usize) -> Arc<dyn Transport> {
    try_open(url, entries_max).await.expect("it opens")
}

/// The text of an error at opening.
pub async fn refusal(url: &str) -> String {
    try_open(url, 10).await.err().expect(url).to_string()
}

/// An update with that id and some data.
pub fn update(id: &str) -> Update {
    sized(id, 10)
}

/// An update with that id and so many bytes of data or some more, which depend on the id.
pub fn sized(id: &str, bytes: usize) -> Update {
    let limits = Limits::default();
    let draft = Draft {
        topics: Topics::parse(["topic"], &HubUrl::default(), &limits).expect("topic"),
        data: format!("{id} ").repeat(bytes / (id.len() + 1) + 1),
        private: false,
        id: Some(EventId::parse(id, &limits).expect("id")),
        event_type: None,
        retry: None,
    };
    Update::publish(draft, || unreachable!("an id was given"))
}

/// Appends an update, in time.
pub async fn try_append(log: &dyn Transport, id: &str) -> Result<Position, TransportError> {
    tokio::time::timeout(PATIENCE, log.append(update(id))).await.expect("the append ends")
}

pub async fn append(log: &dyn Transport, id: &str) -> Position {
    try_append(log, id).await.expect("append")
}

/// Appends as a publisher that tries again until the log takes the update, which may be there more than once then.
pub async fn append_again(log: &dyn Transport, id: &str) -> Position {
    let mut wait = Wait::new("the log takes updates again");
    loop {
        match log.append(update(id)).await {
            Ok(position) => return position,
            Err(error) => assert!(matches!(error, TransportError::Unavailable(_)), "{error}"),
        }
        wait.goes_on().await;
    }
}

/// Appends `count` updates with 50 publishers, as that is fast.
pub async fn append_many(log: &Arc<dyn Transport>, name: &str, count: usize) {
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..50 {
        let (log, name) = (Arc::clone(log), name.to_owned());
        publishers.spawn(async move {
            for number in 0..count / 50 {
                append(&*log, &format!("{name}-{publisher}-{number}")).await;
            }
        });
    }
    publishers.join_all().await;
}

/// Follows a log from its head.
pub async fn follow(log: &dyn Transport) -> Box<dyn Follower> {
    let head = log.head().await.expect("head").position;
    log.follow(head).await.expect("follow")
}

/// The next entries.
pub async fn next(follower: &mut dyn Follower) -> Vec<Entry> {
    let next = tokio::time::timeout(PATIENCE, follower.next()).await;
    next.expect("entries arrive").expect("follow")
}

/// The next `count` entries.
pub async fn take(follower: &mut dyn Follower, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    while entries.len() < count {
        entries.extend(next(follower).await);
    }
    assert_eq!(entries.len(), count, "nothing twice");
    entries
}

/// Entries up to the one with that id.
pub async fn take_to(follower: &mut dyn Follower, id: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    while entries.last().is_none_or(|last| last.update.id().as_str() != id) {
        entries.extend(next(follower).await);
    }
    entries
}

/// The ids of the entries up to that one.
pub async fn follow_to(follower: &mut dyn Follower, id: &str) -> Vec<String> {
    ids(&take_to(follower, id).await)
}

/// The follower's end, whatever comes before it.
pub async fn end(follower: &mut dyn Follower) -> TransportError {
    let end = async {
        loop {
            if let Err(error) = follower.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("the follower ends")
}

pub async fn ends_with_trimmed(follower: &mut dyn Follower) {
    let end = end(follower).await;
    assert!(matches!(end, TransportError::Trimmed), "{end:?}");
}

/// Everything that readers see.
pub async fn kept(log: &dyn Transport) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), Position::EARLIEST);
    loop {
        let page = log.read(after, 1_000).await.expect("read");
        entries.extend(page.entries);
        after = page.through;
        if page.at_end {
            return entries;
        }
    }
}

/// The ids of everything that readers see.
pub async fn kept_ids(log: &dyn Transport) -> Vec<String> {
    ids(&kept(log).await)
}

pub fn ids(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.update.id().as_str().to_owned()).collect()
}

pub fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.update.id().as_str()).collect()
}

/// A fact about a subscriber of one topic. Each has another event.
pub fn fact(number: u128, active: bool) -> Fact {
    let subscription = Subscription {
        dialect: Dialect::V1,
        matcher: MatcherText::new(MatcherType::Exact, "topic"),
        subscriber: SubscriberId::from_uuid(number),
        payload: None,
    };
    static EVENTS: AtomicUsize = AtomicUsize::new(1);
    let id = EventId::from_uuid(&format!("event-{}", EVENTS.fetch_add(1, Ordering::Relaxed)));
    Fact {
        subscriber: subscription.subscriber,
        active,
        events: vec![Update::announce(&subscription, active, &HubUrl::default(), None, id)],
        subscriptions: [subscription].into(),
    }
}
