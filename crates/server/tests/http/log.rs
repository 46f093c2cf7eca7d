//! What clients and probes see while the log is away, full, failed or lost.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use petasos_hub::{
    MemoryTransport, TransportError,
    transport::{Entry, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::Update;
use tokio::{sync::Notify, time::timeout};

use crate::client::{HUB, PATIENCE, Server, header, settings};

type Fault = fn() -> TransportError;

/// A log in memory that fails as it is told.
#[derive(Clone)]
pub(crate) struct Faulty {
    log: Arc<MemoryTransport>,
    fault: Arc<Mutex<Option<Fault>>>,
    lost: Arc<Notify>,
    ended: Arc<Notify>,
}

impl Faulty {
    fn check(&self) -> Result<(), TransportError> {
        match *self.fault.lock().expect("no panic") {
            Some(fault) => Err(fault()),
            None => Ok(()),
        }
    }

    pub(crate) fn away(&self) {
        self.fail(Some(|| TransportError::unavailable("away")));
    }

    pub(crate) fn back(&self) {
        self.fail(None);
    }

    /// As a log of which the disk has failed.
    pub(crate) fn break_down(&self) {
        self.fail(Some(|| TransportError::Failed("it cannot be written".into())));
    }

    pub(crate) fn lose(&self) {
        self.lost.notify_one();
    }

    fn fail(&self, fault: Option<Fault>) {
        *self.fault.lock().expect("no panic") = fault;
    }
}

#[async_trait::async_trait]
impl Transport for Faulty {
    async fn head(&self) -> Result<Head, TransportError> {
        self.log.head().await
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.check()?;
        self.log.append(update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.check()?;
        self.log.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.check()?;
        self.log.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let follower = self.log.follow(after).await?;
        let (lost, ended) = (Arc::clone(&self.lost), Arc::clone(&self.ended));
        Ok(Box::new(Followed { follower, lost, ended }))
    }

    fn is_ready(&self) -> bool {
        self.check().is_ok()
    }

    fn needs_restart(&self) -> bool {
        matches!(self.check(), Err(TransportError::Failed(_)))
    }
}

struct Followed {
    follower: Box<dyn Follower>,
    lost: Arc<Notify>,
    ended: Arc<Notify>,
}

#[async_trait::async_trait]
impl Follower for Followed {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        tokio::select! {
            entries = self.follower.next() => entries,
            () = self.lost.notified() => Err(TransportError::Trimmed),
            () = self.ended.notified() => Err(TransportError::Closed),
        }
    }
}

pub(crate) async fn start_faulty() -> (Server, Faulty) {
    let log = Faulty {
        log: Arc::new(MemoryTransport::new(100)),
        fault: Arc::default(),
        lost: Arc::default(),
        ended: Arc::default(),
    };
    let hub = petasos_hub::Settings {
        keep_alive: None,
        log_wait_max: Duration::ZERO,
        // Their events would be the last in the log.
        subscriptions: false,
        // With several shards, a subscriber may get a shard that has not restarted yet when the log is lost.
        shards: 1,
        ..Default::default()
    };
    (Server::start_on(Arc::new(log.clone()), settings(), hub).await, log)
}

#[tokio::test]
async fn while_the_log_is_away_updates_are_refused_and_streams_stay() {
    let (server, log) = start_faulty().await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    for probe in ["/healthz", "/readyz"] {
        let answer = server.request("GET", probe, &[], b"").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"), "{probe}");
    }
    log.fail(Some(|| TransportError::unavailable("the password is secret")));
    let answer = server.publish("topic=a&id=1").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert!(!answer.body.contains("secret"), "{}", answer.body);
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200, "it lives");
    assert_eq!(server.request("HEAD", "/readyz", &[], b"").await.status, 503, "it takes no updates");
    let with_cursor = server.request("GET", &format!("{HUB}?topic=a&lastEventID=x"), &[], b"").await;
    assert_eq!((with_cursor.status, with_cursor.header("retry-after")), (503, Some("5")));
    let mut newcomer = server.subscribe("topic=a", &[]).await;
    // Its stream begins where this node stands, which the answer names.
    let mut blank = server.subscribe("topic=a&lastEventID=", &[]).await;
    assert_eq!(header(&blank.head, "last-event-id"), Some("earliest"));
    log.fail(None);
    assert_eq!(server.request("GET", "/readyz", &[], b"").await.status, 200);
    assert_eq!(server.publish("topic=a&id=2&data=x").await.status, 200);
    for stream in [&mut stream, &mut newcomer, &mut blank] {
        assert_eq!(stream.event().await, "id: 2\ndata: x\n\n");
    }
    log.fail(Some(|| TransportError::unavailable("away again")));
    let answer = async {
        loop {
            let head = server.request("HEAD", &format!("{HUB}?topic=a&lastEventID="), &[], b"").await;
            match head.header("last-event-id").expect("an answer") {
                // A subscriber has an event a moment before the node has passed it.
                "earliest" => {}
                id => return id.to_owned(),
            }
        }
    };
    assert_eq!(timeout(PATIENCE, answer).await.expect("the id of the last"), "2");
}

#[tokio::test]
async fn a_full_log_answers_507_and_goes_on_when_there_is_room() {
    let (server, log) = start_faulty().await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    log.fail(Some(|| TransportError::Full("no space left on device".into())));
    let answer = server.publish("topic=a&id=1").await;
    assert_eq!((answer.status, answer.header("retry-after")), (507, Some("5")));
    assert!(answer.body.contains("urn:petasos:problem:storage-full"), "{}", answer.body);
    assert_eq!(server.request("GET", "/readyz", &[], b"").await.status, 503, "it takes no updates");
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200, "it lives");
    log.fail(None);
    assert_eq!(server.request("GET", "/readyz", &[], b"").await.status, 200);
    assert_eq!(server.publish("topic=a&id=2&data=x").await.status, 200);
    assert_eq!(stream.event().await, "id: 2\ndata: x\n\n");
}

#[tokio::test]
async fn a_log_that_has_failed_for_good_takes_nothing_and_only_a_restart_mends_it() {
    let (server, log) = start_faulty().await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    log.break_down();
    assert_eq!(server.publish("topic=a&id=1").await.status, 503);
    for probe in ["/healthz", "/readyz"] {
        let answer = server.request("GET", probe, &[], b"").await;
        let expected = (503, "the log has failed: start the hub again\n");
        assert_eq!((answer.status, answer.body.as_str()), expected, "{probe}");
    }
    log.fail(None);
    assert_eq!(server.publish("topic=a&id=2&data=x").await.status, 200);
    assert_eq!(stream.event().await, "id: 2\ndata: x\n\n", "streams stay");
}

#[tokio::test]
async fn streams_end_properly_when_the_log_is_lost() {
    let (server, log) = start_faulty().await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    server.publish("topic=a&id=1&data=x").await;
    assert_eq!(stream.event().await, "id: 1\ndata: x\n\n");
    log.lost.notify_one();
    assert_eq!(stream.chunk().await, None, "a proper end, so that the browser comes back");
    let mut stream = server.subscribe("topic=a", &[]).await;
    server.publish("topic=a&id=2&data=x").await;
    assert_eq!(stream.event().await, "id: 2\ndata: x\n\n");
}

#[tokio::test]
async fn a_hub_that_has_failed_is_neither_alive_nor_ready_and_refuses_everything() {
    let (server, log) = start_faulty().await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    log.ended.notify_one();
    assert_eq!(stream.chunk().await, None, "a proper end, so that the browser comes back");
    for probe in ["/healthz", "/readyz"] {
        let answer = server.request("GET", probe, &[], b"").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, "the hub has failed: start it again\n"),
            "{probe}"
        );
    }
    assert_eq!(server.publish("topic=a&id=1").await.status, 503);
    assert_eq!(server.request("GET", &format!("{HUB}?topic=a"), &[], b"").await.status, 503);
}
