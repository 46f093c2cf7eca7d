//! Several nodes on one log, and one node whose log becomes unavailable or is lost. The store is in memory and fails when a
//! test says so; real stores have tests of their own.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use petasos_hub::{
    Closed, Hub, MemoryTransport, Session, Settings, TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Registry},
    transport::{Entry, Follower, Head, Page, Position, Transport, Trimmed},
};
use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::Matcher,
    request::{self, Cursor, SubscribeRequest},
    subscription::{SubscriberId, Subscription},
    token::Grants,
    update::Update,
};
use tokio::sync::{Semaphore, watch};

/// The store that all nodes share: its state, whether it is unavailable, and whether it has refused a read since that
/// changed.
#[derive(Clone)]
struct Store(Arc<Mutex<State>>, Arc<AtomicBool>, Arc<watch::Sender<bool>>);

struct State {
    /// Pages that have been read.
    reads: usize,
    epoch: u64,
    log: Arc<MemoryTransport>,
    records: BTreeMap<u64, (NodeId, Arc<[Subscription]>)>,
    recorded: u64,
    alive: HashSet<NodeId>,
    /// The next renewal has no answer.
    is_answer_lost: bool,
    /// Answers to appends wait for permits.
    answers: Option<Arc<Semaphore>>,
    /// Recordings wait for permits.
    recordings: Option<Arc<Semaphore>>,
    /// No subscriber of a dead node can be expired.
    cannot_expire: bool,
    /// How often subscribers of dead nodes have been looked for.
    looks: usize,
}

impl State {
    fn new(epoch: u64) -> Self {
        let log = Arc::new(MemoryTransport::new(20_000));
        Self {
            reads: 0,
            epoch,
            log,
            records: BTreeMap::new(),
            recorded: 0,
            alive: HashSet::new(),
            is_answer_lost: false,
            answers: None,
            recordings: None,
            cannot_expire: false,
            looks: 0,
        }
    }

    fn order(&self, node: NodeId, subscriber: SubscriberId) -> Option<u64> {
        let found = self.records.iter().find(|(_, (of, all))| *of == node && all[0].subscriber == subscriber);
        found.map(|(order, _)| *order)
    }
}

impl Store {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new(1))), Arc::default(), Arc::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// Everything is gone, and a new log begins.
    fn lose(&self) {
        let mut state = self.lock();
        let epoch = state.epoch + 1;
        std::mem::replace(&mut *state, State::new(epoch)).log.close();
    }

    fn set_unavailable(&self, is_unavailable: bool) {
        self.2.send_replace(false);
        self.1.store(is_unavailable, Ordering::SeqCst);
    }

    /// Waits for a read while the store is unavailable.
    async fn has_refused_to_read(&self) {
        let mut refused = self.2.subscribe();
        let has_refused = refused.wait_for(|refused| *refused);
        tokio::time::timeout(PATIENCE, has_refused)
            .await
            .expect("somebody reads")
            .expect("the store is there");
    }

    /// The leases of all nodes end, as if nobody had been heard of for long.
    fn end_leases(&self) {
        self.lock().alive.clear();
    }

    fn log(&self) -> Result<(u64, Arc<MemoryTransport>), TransportError> {
        if self.1.load(Ordering::SeqCst) {
            return Err(TransportError::unavailable("for a test"));
        }
        let state = self.lock();
        Ok((state.epoch, Arc::clone(&state.log)))
    }

    /// Records, in the order of the facts, what is new, and appends its events.
    async fn apply(&self, node: NodeId, facts: &[Fact], alive: bool) -> Result<Lease, TransportError> {
        let (_, log) = self.log()?;
        let subscribers: HashSet<_> = facts.iter().map(|fact| fact.subscriber).collect();
        assert_eq!(subscribers.len(), facts.len(), "what is recorded again makes no second event");
        let mut events = Vec::new();
        {
            let mut state = self.lock();
            if state.alive.contains(&node) != alive {
                return Ok(Lease::Ended);
            }
            for fact in facts {
                match (state.order(node, fact.subscriber), fact.active) {
                    (None, true) => {
                        state.recorded += 1;
                        let order = state.recorded;
                        state.records.insert(order, (node, Arc::clone(&fact.subscriptions)));
                    }
                    (Some(order), false) => drop(state.records.remove(&order)),
                    _ => continue,
                }
                events.extend(fact.events.clone());
            }
        }
        for event in events {
            log.append(event).await?;
        }
        Ok(Lease::Kept)
    }
}

fn place(epoch: u64, position: Position) -> Position {
    Position { epoch, sequence: position.sequence }
}

fn inner(epoch: u64, position: Position) -> Position {
    Position { epoch: u64::from(position.epoch == epoch), sequence: position.sequence }
}

fn entries(epoch: u64, entries: Vec<Entry>) -> Vec<Entry> {
    entries.into_iter().map(|entry| Entry { position: place(epoch, entry.position), ..entry }).collect()
}

#[async_trait]
impl Transport for Store {
    async fn head(&self) -> Result<Head, TransportError> {
        let (epoch, log) = self.log()?;
        let Head { position, id } = log.head().await?;
        Ok(Head { position: place(epoch, position), id })
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        let (epoch, log) = self.log()?;
        let position = log.append(update).await?;
        let answers = self.lock().answers.clone();
        if let Some(answers) = answers {
            answers.acquire().await.expect("it is never closed").forget();
        }
        Ok(place(epoch, position))
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let (epoch, log) = self.log()?;
        Ok(log.locate(id).await?.map(|position| place(epoch, position)))
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let (epoch, log) = self.log().inspect_err(|_| self.2.send_modify(|refused| *refused = true))?;
        self.lock().reads += 1;
        let Page { entries: all, through, at_end, trimmed } = log.read(inner(epoch, after), limit).await?;
        let trimmed =
            Trimmed { updates: place(epoch, trimmed.updates), events: place(epoch, trimmed.events) };
        Ok(Page { entries: entries(epoch, all), through: place(epoch, through), at_end, trimmed })
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let (epoch, log) = self.log()?;
        let follower = log.follow(inner(epoch, after)).await?;
        Ok(Box::new(StoreFollower { epoch, follower }))
    }

    fn is_ready(&self) -> bool {
        !self.1.load(Ordering::SeqCst)
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

struct StoreFollower {
    epoch: u64,
    follower: Box<dyn Follower>,
}

#[async_trait]
impl Follower for StoreFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        match self.follower.next().await {
            // The log was lost.
            Err(TransportError::Closed) => Err(TransportError::Trimmed),
            next => Ok(entries(self.epoch, next?)),
        }
    }
}

#[async_trait]
impl Registry for Store {
    fn lease(&self) -> Duration {
        Duration::from_millis(30)
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        self.log()?;
        let mut state = self.lock();
        let is_new = state.alive.insert(node);
        if std::mem::take(&mut state.is_answer_lost) {
            return Err(TransportError::unavailable("the answer is lost"));
        }
        Ok(if is_new { Lease::Ended } else { Lease::Kept })
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        let recordings = self.lock().recordings.clone();
        if let Some(recordings) = recordings {
            recordings.acquire().await.expect("it is never closed").forget();
        }
        self.apply(node, facts, true).await
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        self.log()?;
        let mut state = self.lock();
        state.looks += 1;
        let State { alive, records, .. } = &*state;
        let dead = records.values().filter(|(node, _)| !alive.contains(node));
        let abandoned =
            |(node, all): &(NodeId, Arc<[_]>)| Abandoned { node: *node, subscriptions: Arc::clone(all) };
        Ok(dead.map(abandoned).take(limit).collect())
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        if self.lock().cannot_expire {
            return Err(TransportError::unavailable("for a test"));
        }
        self.apply(node, departures, false).await.map(drop)
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        self.lock().alive.remove(&node);
        Ok(())
    }

    async fn page(
        &self,
        text: Option<&str>,
        after: u64,
        limit: usize,
    ) -> Result<petasos_hub::registry::Page, TransportError> {
        self.log()?;
        let state = self.lock();
        let has_text = |all: &[Subscription]| {
            text.is_none_or(|text| all.iter().any(|each| text == each.matcher.as_str()))
        };
        let later = state.records.iter().filter(|(at, (_, all))| **at >= after && has_text(all));
        let page: Vec<_> = later.take(limit).map(|(at, (_, all))| (*at + 1, Arc::clone(all))).collect();
        let next = page.last().map(|(at, _)| *at).filter(|_| page.len() == limit);
        Ok(petasos_hub::registry::Page { subscribers: page.into_iter().map(|(_, all)| all).collect(), next })
    }
}

async fn start(store: &Store) -> Hub {
    start_on(Arc::new(store.clone())).await
}

async fn start_on(transport: Arc<dyn Transport>) -> Hub {
    let settings = Settings { keep_alive: None, retry: None, ..Settings::default() };
    Hub::start(transport, settings).await.expect("start")
}

async fn publish(hub: &Hub, body: &str) -> Result<EventId, TransportError> {
    let draft = request::publish(body.as_bytes(), hub.url(), &Limits::default()).expect("valid");
    hub.publish(draft).await
}

fn matcher(selector: &str) -> Matcher {
    Matcher::selector(selector, &Limits::default()).expect("valid")
}

async fn subscribe(hub: &Hub, selector: &str, cursor: Option<&str>) -> Session {
    answered(hub, selector, cursor).await.0
}

/// The stream, and the answer to its cursor.
async fn answered(hub: &Hub, selector: &str, cursor: Option<&str>) -> (Session, String) {
    let cursor = cursor.map(Cursor::parse);
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: vec![matcher(selector)],
        cursor,
        multiplex: false,
    };
    let grants = Grants { subscribe: vec![matcher("*")], ..Grants::default() };
    let subscribing = hub.subscribe(request, Arc::new(grants), None);
    let subscribed = tokio::time::timeout(PATIENCE, subscribing).await.expect("an answer");
    let mut session = subscribed.expect("subscribe");
    let answer = session.cursor().expect("nothing is polled").to_owned();
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"));
    (session, answer)
}

async fn next(session: &mut Session) -> Option<String> {
    let next = tokio::time::timeout(PATIENCE, session.next()).await.expect("something comes");
    next.map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
}

/// Waits until that is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it becomes so");
}

/// How many subscriptions are listed.
async fn listed(hub: &Hub) -> usize {
    hub.subscriptions(None).await.expect("list").all().await.expect("a list").len()
}

fn subscription(topic: &str) -> Subscription {
    Subscription {
        dialect: Dialect::Legacy,
        matcher: (&matcher(topic)).into(),
        subscriber: SubscriberId::from_uuid(1),
        payload: None,
    }
}

/// The next subscription event of that topic: whether it became active.
async fn announced(session: &mut Session, topic: &str) -> bool {
    loop {
        let event = next(session).await.expect("an event");
        if event.contains(&format!("\"topic\":\"{topic}\"")) {
            return event.contains("\"active\":true");
        }
    }
}

const EVENTS: &str = "/.well-known/mercure/subscriptions/{topic}/{subscriber}";

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn streams_end_when_the_log_is_lost_and_the_hub_goes_on_with_the_new_one() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut session = subscribe(&hub, "a", None).await;
    publish(&hub, "topic=a&id=1&data=x").await.expect("publish");
    assert!(next(&mut session).await.is_some_and(|event| event.contains("id: 1")));
    store.lose();
    assert_eq!(next(&mut session).await, None);
    assert_eq!(session.closed(), Some(Closed::LogLost));
    publish(&hub, "topic=a&id=2&data=x").await.expect("publish");
    let (mut session, answer) = answered(&hub, "a", Some("1")).await;
    assert_eq!(answer, "earliest", "the cursor shows the loss");
    assert!(next(&mut session).await.is_some_and(|event| event.contains("id: 2")));
    publish(&hub, "topic=a&id=3&data=x").await.expect("publish");
    assert!(next(&mut session).await.is_some_and(|event| event.contains("id: 3")));
}

#[tokio::test]
async fn streams_outlast_an_unavailable_log_and_updates_are_refused() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut session = subscribe(&hub, "a", None).await;
    assert!(hub.is_ready());
    store.set_unavailable(true);
    assert!(!hub.is_ready());
    let refused = publish(&hub, "topic=a&id=1&data=x").await;
    assert!(matches!(refused, Err(TransportError::Unavailable(_))));
    let mut newcomer = subscribe(&hub, "a", None).await;
    store.set_unavailable(false);
    assert!(hub.is_ready());
    publish(&hub, "topic=a&id=2&data=x").await.expect("publish");
    for session in [&mut session, &mut newcomer] {
        assert!(next(session).await.is_some_and(|event| event.contains("id: 2")));
    }
}

#[tokio::test]
async fn a_stream_that_reads_its_history_outlasts_an_unavailable_log() {
    let store = Store::new();
    publish(&start(&store).await, "topic=a&id=0&data=x").await.expect("publish");
    let hub = start(&store).await;
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: vec![matcher("a")],
        cursor: Some(Cursor::parse("earliest")),
        multiplex: false,
    };
    store.set_unavailable(true);
    let subscribing = tokio::spawn({
        let hub = hub.clone();
        async move { hub.subscribe(request, Arc::default(), None).await }
    });
    store.has_refused_to_read().await;
    assert!(!subscribing.is_finished());
    store.set_unavailable(false);
    let mut session = subscribing.await.expect("no panic").expect("subscribe");
    assert_eq!(next(&mut session).await.as_deref(), Some(":\n"));
    assert!(next(&mut session).await.is_some_and(|event| event.contains("id: 0\n")));

    // More than the first page.
    let hub = start(&store).await;
    for id in 1..=90 {
        publish(&hub, &format!("topic=a&id={id}&data={}", "x".repeat(10_000))).await.expect("publish");
    }
    let mut session = subscribe(&start(&store).await, "a", Some("earliest")).await;
    store.set_unavailable(true);
    let reading = tokio::spawn(async move {
        for id in 0..=90 {
            assert!(next(&mut session).await.is_some_and(|event| event.contains(&format!("id: {id}\n"))));
        }
    });
    store.has_refused_to_read().await;
    assert!(!reading.is_finished());
    store.set_unavailable(false);
    reading.await.expect("everything comes");
}

#[tokio::test]
async fn a_crowd_that_comes_back_after_a_moment_reads_nothing_of_the_log() {
    let store = Store::new();
    let hub = start(&store).await;
    publish(&hub, "topic=a&id=0&data=x").await.expect("publish");
    let mut witness = subscribe(&hub, "a", Some("0")).await;
    for id in 1..=20 {
        publish(&hub, &format!("topic=a&id={id}&data=x")).await.expect("publish");
        assert!(next(&mut witness).await.is_some_and(|event| event.contains(&format!("id: {id}\n"))));
    }
    for number in 0..20 {
        let (mut session, answer) = answered(&hub, "a", Some(&number.to_string())).await;
        assert_eq!(answer, number.to_string());
        for id in number + 1..=20 {
            assert!(next(&mut session).await.is_some_and(|event| event.contains(&format!("id: {id}\n"))));
        }
    }
    assert_eq!(store.lock().reads, 0);
    let mut all = subscribe(&hub, "a", Some("earliest")).await;
    assert!(next(&mut all).await.is_some_and(|event| event.contains("id: 0\n")));
    assert_eq!(store.lock().reads, 1, "what is older than the hub is read");
}

#[tokio::test]
async fn a_node_knows_the_newest_id_of_what_it_publishes_at_once_and_of_others_soon() {
    let store = Store::new();
    let (hub, other) = (start(&store).await, start(&store).await);
    for _ in 0..3 {
        let published = publish(&hub, "topic=a").await.expect("publish");
        assert_eq!(*hub.last_event_id().await.expect("it is known"), *published.as_str());
    }
    let published = publish(&other, "topic=a").await.expect("publish");
    until(async || *hub.last_event_id().await.expect("it is known") == *published.as_str()).await;
}

#[tokio::test]
async fn subscriptions_of_all_nodes_are_listed_and_announced_everywhere() {
    let store = Store::new();
    let (here, there) = (start(&store).await, start(&store).await);
    let mut watcher = subscribe(&here, EVENTS, None).await;
    let visitor = subscribe(&there, "a", None).await;
    assert!(announced(&mut watcher, "a").await);
    for hub in [&here, &there] {
        let listed = hub.subscriptions(None).await.expect("list");
        assert_eq!(listed.all().await.expect("a list").len(), 2);
        assert_eq!(hub.subscriptions(Some("a")).await.expect("list").all().await.expect("a list").len(), 1);
    }
    let before = there.subscriptions(None).await.expect("list");
    drop(visitor);
    assert!(!announced(&mut watcher, "a").await);
    let after = there.subscriptions(None).await.expect("list");
    assert_ne!((&after.last_event_id, after.revision), (&before.last_event_id, before.revision));
    assert_eq!(after.all().await.expect("a list").len(), 1);
}

#[tokio::test]
async fn a_list_shows_subscribers_that_have_just_come() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut sessions = Vec::new();
    for count in 1..=50 {
        sessions.push(subscribe(&hub, "a", None).await);
        assert_eq!(
            hub.subscriptions(Some("a")).await.expect("list").all().await.expect("a list").len(),
            count
        );
    }
}

#[tokio::test]
async fn a_stopping_node_announces_that_its_subscribers_have_left() {
    let store = Store::new();
    let (here, there) = (start(&store).await, start(&store).await);
    let mut watcher = subscribe(&here, EVENTS, None).await;
    let _visitor = subscribe(&there, "a", None).await;
    assert!(announced(&mut watcher, "a").await);
    there.stop().await;
    assert!(!announced(&mut watcher, "a").await);
    assert_eq!(here.subscriptions(None).await.expect("list").all().await.expect("a list").len(), 1);
}

/// A publisher with an error would publish it again, at the next node.
#[tokio::test]
async fn an_update_that_the_store_has_is_acknowledged_while_its_node_stops() {
    let store = Store::new();
    let (here, there) = (start(&store).await, start(&store).await);
    let mut session = subscribe(&there, "a", None).await;
    let answers = Arc::new(Semaphore::new(0));
    store.lock().answers = Some(Arc::clone(&answers));
    let publishing = tokio::spawn({
        let here = here.clone();
        async move { publish(&here, "topic=a&id=1&data=x").await }
    });
    assert!(next(&mut session).await.is_some_and(|event| event.contains("id: 1")));
    here.stop().await;
    answers.add_permits(1);
    let published = publishing.await.expect("no panic").expect("it is in the log");
    assert_eq!(published.as_str(), "1");
    let late = publish(&here, "topic=a&id=2&data=x").await;
    assert!(matches!(late, Err(TransportError::Closed)), "{late:?}");
}

#[tokio::test]
async fn subscribers_of_a_dead_node_expire_once() {
    let store = Store::new();
    let mut hubs = vec![start(&store).await, start(&store).await];
    let mut watcher = subscribe(&hubs[0], EVENTS, None).await;
    let dead = NodeId::new(7);
    store.lock().records.insert(0, (dead, [subscription("lost")].into()));
    assert!(!announced(&mut watcher, "lost").await);
    // Both nodes have looked, and either has acted on what it saw, once they have looked again.
    let looks = store.lock().looks;
    until(async || store.lock().looks > looks + 4).await;
    let _visitor = subscribe(&hubs[1], "a", None).await;
    let event = loop {
        let event = next(&mut watcher).await.expect("an event");
        if !event.contains(EVENTS) {
            break event;
        }
    };
    assert!(event.contains("\"topic\":\"a\""), "{event}");
    hubs.clear();
}

#[tokio::test]
async fn subscribers_are_announced_while_those_of_a_dead_node_cannot_be_expired() {
    let store = Store::new();
    {
        let mut state = store.lock();
        state.cannot_expire = true;
        state.records.insert(0, (NodeId::new(7), [subscription("lost")].into()));
    }
    let hub = start(&store).await;
    until(async || store.lock().looks > 0).await;
    let mut watcher = subscribe(&hub, EVENTS, None).await;
    let _visitor = subscribe(&hub, "a", None).await;
    assert!(announced(&mut watcher, "a").await);
    store.lock().cannot_expire = false;
    assert!(!announced(&mut watcher, "lost").await, "it is tried again");
}

#[tokio::test]
async fn a_node_whose_lease_ends_twice_records_every_subscriber_again() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut sessions = Vec::new();
    for _ in 0..300 {
        sessions.push(subscribe(&hub, "a", None).await);
    }
    assert_eq!(listed(&hub).await, 300);
    let recordings = Arc::new(Semaphore::new(0));
    {
        let mut state = store.lock();
        state.recordings = Some(Arc::clone(&recordings));
        state.alive.clear();
        state.records.clear();
    }
    recordings.add_permits(1);
    until(async || !store.lock().records.is_empty()).await;
    {
        let mut state = store.lock();
        assert!(state.records.len() < 300, "a part");
        state.alive.clear();
        state.records.clear();
    }
    recordings.add_permits(Semaphore::MAX_PERMITS / 2);
    until(async || listed(&hub).await == 300).await;
}

#[tokio::test]
async fn a_subscriber_is_answered_while_thousands_that_came_and_went_cannot_be_announced() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut watcher = subscribe(&hub, EVENTS, None).await;
    assert!(announced(&mut watcher, EVENTS).await);
    store.set_unavailable(true);
    for _ in 0..5_000 {
        drop(subscribe(&hub, "a", None).await);
    }
    let visitor = subscribe(&hub, "b", None).await;
    drop(visitor);
    let _last = subscribe(&hub, "c", None).await;
    store.set_unavailable(false);
    assert!(announced(&mut watcher, "b").await);
    assert!(!announced(&mut watcher, "b").await);
    assert_eq!(listed(&hub).await, 2);
}

#[tokio::test]
async fn a_subscriber_that_leaves_at_once_arrives_and_departs_once() {
    let store = Store::new();
    for hub in [start(&store).await, start_on(Arc::new(MemoryTransport::new(100))).await] {
        let mut watcher = subscribe(&hub, EVENTS, None).await;
        for _ in 0..3 {
            drop(subscribe(&hub, "a", None).await);
        }
        let mut seen = HashMap::<String, Vec<bool>>::new();
        while seen.values().map(Vec::len).sum::<usize>() < 6 {
            let event = next(&mut watcher).await.expect("an event");
            if event.contains("\"topic\":\"a\"") {
                let subscriber =
                    event.split("\"subscriber\":\"").nth(1).and_then(|rest| rest.split('"').next());
                let subscriber = subscriber.expect("a subscriber").to_owned();
                seen.entry(subscriber).or_default().push(event.contains("\"active\":true"));
            }
        }
        assert!(seen.values().all(|events| *events == [true, false]), "{seen:?}");
    }
}

#[tokio::test]
async fn a_renewal_without_an_answer_counts_as_the_end_of_the_lease() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut watcher = subscribe(&hub, EVENTS, None).await;
    let _visitor = subscribe(&hub, "a", None).await;
    assert!(announced(&mut watcher, "a").await);
    {
        let mut state = store.lock();
        state.alive.clear();
        state.records.clear();
        state.is_answer_lost = true;
    }
    assert!(announced(&mut watcher, "a").await);
}

#[tokio::test]
async fn a_node_whose_lease_has_ended_records_its_subscribers_again() {
    let store = Store::new();
    let hub = start(&store).await;
    let mut watcher = subscribe(&hub, EVENTS, None).await;
    let visitor = subscribe(&hub, "a", None).await;
    assert!(announced(&mut watcher, "a").await);
    // Another node has ended them all, in the moment in which this one had no lease.
    let ended = {
        let mut state = store.lock();
        state.alive.clear();
        std::mem::take(&mut state.records)
    };
    assert_eq!(ended.len(), 2);
    assert!(announced(&mut watcher, "a").await);
    store.end_leases();
    drop(visitor);
    assert!(!announced(&mut watcher, "a").await, "the departure is announced, too");
}
