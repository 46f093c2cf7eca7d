//! The connection, and requests over it: each answered within its time, and as many at once as may be.
//!
//! The client's own requests are not used: it keeps what waits for an answer that never comes for as long as it runs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_nats::{Client, HeaderMap, Message, StatusCode, client::PublishErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use petasos_hub::TransportError;
use serde::Deserialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinHandle,
    time::{Instant, error::Elapsed, timeout_at},
};

use super::{health::Health, settings::Settings};
use crate::OpenError;

/// A connection that is opened again whenever it is lost, with a new client: messages that waited in the old client are
/// dropped with it.
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) health: Arc<Health>,
    connection: Mutex<Arc<Connection>>,
    in_flight: Arc<Semaphore>,
}

/// One client with the answers that it waits for.
pub(super) struct Connection {
    pub(super) client: Client,
    replies: Arc<Replies>,
    inbox: String,
    dispatch: JoinHandle<()>,
}

#[derive(Default)]
struct Replies {
    waiting: Mutex<HashMap<u64, Waiting>>,
    next: AtomicU64,
}

struct Waiting {
    sender: oneshot::Sender<Message>,
    _permit: OwnedSemaphorePermit,
}

/// A request without an answer yet. Dropping it forgets the request.
pub(super) struct Sent {
    replies: Arc<Replies>,
    key: u64,
    answer: oneshot::Receiver<Message>,
    deadline: Instant,
}

/// Requests without an answer yet. Others wait; the client's queue for answers holds several times as many.
const IN_FLIGHT_MAX: usize = 8_192;

/// Why a request has no useful answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {0:?}")]
    Late(std::time::Duration),
    #[error("nobody answers: JetStream is not running, or the stream has no leader or does not exist")]
    NoResponders,
    #[error("the connection is closed")]
    Closed,
    #[error("{0}: raise \"max_payload\" of the server, or send less")]
    TooLarge(String),
    #[error("{0}")]
    Refused(Refusal),
    #[error("an answer cannot be understood: {0}")]
    Malformed(String),
}

/// An error of the JetStream API.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u16,
    #[serde(default)]
    pub(super) description: String,
}

/// Numbers of the server's errors, from its `errors.json`.
pub(super) mod codes {
    pub(crate) const CONSUMER_NOT_FOUND: u16 = 10_014;
    pub(crate) const MESSAGE_NOT_FOUND: u16 = 10_037;
    pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u16 = 10_039;
    pub(crate) const SEQUENCE_NOT_FOUND: u16 = 10_043;
    pub(crate) const STREAM_NOT_FOUND: u16 = 10_059;
    pub(crate) const WRONG_LAST_SEQUENCE: u16 = 10_071;
    pub(crate) const NOT_ENABLED: u16 = 10_076;

    /// More than the stream's `max_msg_size`.
    pub(crate) const MESSAGE_TOO_LARGE: u16 = 10_054;
    /// Resources of the account, of the server, its memory or storage; messages, consumers or bytes of a stream.
    pub(crate) const FULL: &[u16] = &[10_002, 10_023, 10_028, 10_047, 10_054, 10_122];
    /// The store could not take it: full, too, if the text says so.
    pub(crate) const STORE_FAILED: u16 = 10_077;
}

impl Refusal {
    fn is_full(&self) -> bool {
        let says = |part| self.description.contains(part);
        codes::FULL.contains(&self.err_code)
            || self.err_code == codes::STORE_FAILED
                && (says("exceeded") || says("space") || says("resource") || says("quota"))
    }
}

impl Failure {
    /// Whether the server has no room, not only none for one large message.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_full()) && !self.is_too_large()
    }

    pub(super) fn is(&self, err_code: u16) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.err_code == err_code)
    }

    /// What was sent is too large, whenever it is sent.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge(_)) || self.is(codes::MESSAGE_TOO_LARGE)
    }
}

/// Whether it failed because what was sent is too large, whenever it is sent.
pub(super) fn is_too_large<T>(result: &Result<T, TransportError>) -> bool {
    matches!(result, Err(TransportError::Full(cause))
        if cause.downcast_ref::<Failure>().is_some_and(Failure::is_too_large))
}

/// `None`: what was sent is too large.
pub(super) fn fitting<T>(result: Result<T, TransportError>) -> Result<Option<T>, TransportError> {
    if is_too_large(&result) { Ok(None) } else { result.map(Some) }
}

impl From<Failure> for TransportError {
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::TooLarge(_) => Self::Full(failure.into()),
            Failure::Refused(refusal) if refusal.is_full() => Self::Full(failure.into()),
            _ => Self::unavailable(failure),
        }
    }
}

impl Link {
    pub(super) async fn open(settings: Settings) -> Result<Self, OpenError> {
        let health = Arc::new(Health::new(&settings.name));
        let connection = Connection::open(&settings, &health, &[]).await?;
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        Ok(Self { settings, health, connection: Mutex::new(Arc::new(connection)), in_flight })
    }

    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection_slot())
    }

    fn connection_slot(&self) -> MutexGuard<'_, Arc<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects again if the connection is lost.
    pub(super) async fn revive(&self) -> Result<(), OpenError> {
        let last = self.connection();
        if last.dispatch.is_finished() {
            let others = last.client.server_info().connect_urls;
            let connection = Connection::open(&self.settings, &self.health, &others).await?;
            *self.connection_slot() = Arc::new(connection);
        }
        Ok(())
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn request(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Message, Failure> {
        let sent = self.send(subject, headers, payload).await?;
        self.answer(sent).await
    }

    /// Sends a request. Those that are sent one after the other reach the server in that order.
    pub(super) async fn send(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<Sent, Failure> {
        let deadline = Instant::now() + self.settings.timeout;
        self.noted(timeout_at(deadline, self.ask(subject, headers, payload, deadline)).await)
    }

    /// Sends a message that the server stores. While the server is known not to answer, the message waits here and is
    /// not sent: a paused server would store it when it goes on, after its publisher got an error.
    pub(super) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Sent, Failure> {
        let deadline = Instant::now() + self.settings.timeout;
        let sending = async {
            self.health.answers().await;
            self.ask(subject, Some(headers), payload, deadline).await
        };
        self.noted(timeout_at(deadline, sending).await)
    }

    /// Waits for the answer to a request that has been sent.
    pub(super) async fn answer(&self, mut sent: Sent) -> Result<Message, Failure> {
        let message = timeout_at(sent.deadline, &mut sent.answer).await;
        self.noted(message.map(|message| match message {
            Ok(message) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(Failure::NoResponders),
            Ok(message) => Ok(message),
            Err(_) => Err(Failure::Closed),
        }))
    }

    fn noted<T>(&self, result: Result<Result<T, Failure>, Elapsed>) -> Result<T, Failure> {
        let result = result.unwrap_or(Err(Failure::Late(self.settings.timeout)));
        if let Err(failure @ (Failure::Late(_) | Failure::NoResponders | Failure::Closed)) = &result {
            self.health.is_away(&failure.to_string());
        }
        result
    }

    async fn ask(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Sent, Failure> {
        let permit = Arc::clone(&self.in_flight).acquire_owned().await.map_err(|_| Failure::Closed)?;
        let connection = self.connection();
        let sent = connection.wait(permit, deadline);
        let reply = format!("{}.{}", connection.inbox, sent.key);
        let (client, subject) = (&connection.client, subject.to_owned());
        let result = match headers {
            Some(headers) => client.publish_with_reply_and_headers(subject, reply, headers, payload).await,
            None => client.publish_with_reply(subject, reply, payload).await,
        };
        match result {
            Ok(()) => Ok(sent),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(Failure::TooLarge(error.to_string()))
            }
            Err(_) => Err(Failure::Closed),
        }
    }
}

impl Connection {
    /// `others`: addresses of further servers, from the last connection.
    async fn open(settings: &Settings, health: &Arc<Health>, others: &[String]) -> Result<Self, OpenError> {
        let client = settings.connect(health, others).await?;
        let inbox = client.new_inbox();
        let mut answers = client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|_| TransportError::unavailable(Failure::Closed))?;
        let replies = Arc::<Replies>::default();
        let dispatch = tokio::spawn({
            let replies = Arc::clone(&replies);
            async move {
                while let Some(message) = answers.next().await {
                    replies.answer(message);
                }
                // The client has ended: nobody is answered any more.
                replies.lock().clear();
            }
        });
        Ok(Self { client, replies, inbox, dispatch })
    }

    fn wait(&self, permit: OwnedSemaphorePermit, deadline: Instant) -> Sent {
        let key = self.replies.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.replies.lock().insert(key, Waiting { sender, _permit: permit });
        Sent { replies: Arc::clone(&self.replies), key, answer, deadline }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.dispatch.abort();
    }
}

impl Replies {
    fn answer(&self, message: Message) {
        let key = message.subject.rsplit('.').next().and_then(|key| key.parse().ok());
        if let Some(waiting) = key.and_then(|key: u64| self.lock().remove(&key)) {
            // Who asked may have gone.
            let _ = waiting.sender.send(message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.replies.lock().remove(&self.key);
    }
}
