//! A hub that has failed says so: it refuses updates and subscribers, ends its streams, and never looks alive.

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    Closed, Hub, MemoryTransport, Settings, SubscribeError, TransportError,
    metrics::EndReason,
    transport::{Entry, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::{
    Dialect, Limits,
    matcher::Matcher,
    request::{self, SubscribeRequest},
    token::Grants,
};
use tokio::sync::Notify;

/// A log in memory whose follower ends when it is told to.
struct Ending {
    log: MemoryTransport,
    end: Arc<Notify>,
    /// Panics instead of an error.
    panics: bool,
}

struct EndingFollower {
    inner: Box<dyn Follower>,
    end: Arc<Notify>,
    panics: bool,
}

#[async_trait]
impl Transport for Ending {
    async fn head(&self) -> Result<Head, TransportError> {
        self.log.head().await
    }

    async fn append(&self, update: petasos_protocol::update::Update) -> Result<Position, TransportError> {
        self.log.append(update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.log.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.log.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let inner = self.log.follow(after).await?;
        Ok(Box::new(EndingFollower { inner, end: Arc::clone(&self.end), panics: self.panics }))
    }
}

#[async_trait]
impl Follower for EndingFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        tokio::select! {
            entries = self.inner.next() => entries,
            () = self.end.notified() => {
                assert!(!self.panics, "as the test wants");
                Err(TransportError::Failed("its disk is gone".into()))
            }
        }
    }
}

async fn fails(panics: bool) {
    let end = Arc::new(Notify::new());
    let transport = Ending { log: MemoryTransport::new(100), end: Arc::clone(&end), panics };
    let hub = Hub::start(Arc::new(transport), Settings::default()).await.expect("start");
    let request = || SubscribeRequest {
        dialect: Dialect::V1,
        matchers: vec![Matcher::selector("a", &Limits::default()).expect("valid")],
        cursor: None,
        multiplex: false,
    };
    let publish = async || {
        hub.publish(request::publish(b"topic=a", hub.url(), &Limits::default()).expect("valid")).await
    };
    let mut session = hub.subscribe(request(), Arc::new(Grants::default()), None).await.expect("a stream");
    publish().await.expect("it is alive");
    assert!(hub.is_ready() && !hub.has_failed());

    end.notify_one();
    hub.failed().await;
    assert!(hub.has_failed() && !hub.is_ready());
    assert!(matches!(publish().await, Err(TransportError::Closed)));
    let refused = hub.subscribe(request(), Arc::new(Grants::default()), None).await;
    assert!(matches!(refused, Err(SubscribeError::Stopping)));
    while session.next().await.is_some() {}
    assert_eq!(session.closed(), Some(Closed::LogLost));
    hub.stop().await;
    assert!(hub.has_failed(), "its stop does not make it look well");
}

#[tokio::test]
async fn a_follower_that_ends_with_an_error_makes_the_hub_fail() {
    fails(false).await;
}

#[tokio::test]
async fn a_follower_that_panics_makes_the_hub_fail() {
    fails(true).await;
}

#[tokio::test]
async fn a_stream_whose_carrier_panics_was_not_left_by_its_client() {
    let hub = Hub::start(Arc::new(MemoryTransport::new(1)), Settings::default()).await.expect("start");
    let matchers = vec![Matcher::selector("a", &Limits::default()).expect("valid")];
    let request = SubscribeRequest { dialect: Dialect::V1, matchers, cursor: None, multiplex: false };
    let session = hub.subscribe(request, Arc::new(Grants::default()), None).await.expect("a stream");
    let carrier = tokio::spawn(async move {
        let _session = session;
        panic!("as the test wants");
    });
    carrier.await.expect_err("a panic");
    let ended: Vec<_> = hub.counted().closed.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(ended, [(EndReason::LogLost, 1)]);
    hub.stop().await;
}
