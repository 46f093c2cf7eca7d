//! The connection, and requests over it: each answered within its time, and as many at once as may be.
//!
//! The client's own requests are not used: it keeps what waits for an answer that never comes for as long as it runs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, HeaderMap, Message, StatusCode, client::PublishErrorKind};
use bytes::Bytes;
use futures_util::StreamExt;
use petasos_hub::TransportError;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, error::Elapsed, timeout, timeout_at},
};

use super::{
    attempts::Attempts,
    failure::{Denials, Failure},
    settings::Settings,
};
use crate::{
    OpenError,
    shared::{
        health::Health,
        room::{Permit, Room, WAITING_BYTES_MAX},
    },
};

/// A connection that is opened again whenever it is lost, with a new client: messages that waited in the old client are
/// dropped with it.
pub(super) struct Link {
    pub(super) settings: Settings,
    pub(super) health: Health,
    pub(super) denials: Arc<Denials>,
    connection: Mutex<Arc<Connection>>,
    in_flight: Room,
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
    _permit: Permit,
}

/// A request without an answer yet. Dropping it forgets the request.
pub(super) struct Sent {
    connection: Arc<Connection>,
    key: u64,
    answer: oneshot::Receiver<Message>,
    deadline: Instant,
}

/// The answer to a request.
pub(super) struct Answer {
    pub(super) message: Message,
    /// The request was sent more than once: the server may have done it before.
    pub(super) is_repeated: bool,
}

/// Requests without an answer yet, which have [`WAITING_BYTES_MAX`] bytes together. Further ones wait; the client's queue
/// for answers holds several times as many.
const IN_FLIGHT_MAX: usize = 8_192;

/// A request without an answer is sent again after this time, then after twice as much, and so on: servers drop the requests
/// for a stream that has no leader at the moment.
const REPEAT: Duration = Duration::from_millis(500);

impl Link {
    pub(super) async fn open(settings: Settings) -> Result<Self, OpenError> {
        let health = Health::new(format!("the log \"{}\" in NATS", settings.name));
        let denials = Arc::<Denials>::default();
        let connection = Mutex::new(Arc::new(Connection::open(&settings, &denials, &[]).await?));
        let in_flight = Room::new(IN_FLIGHT_MAX, WAITING_BYTES_MAX);
        Ok(Self { settings, health, denials, connection, in_flight })
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
            let connection = Connection::open(&self.settings, &self.denials, &others).await?;
            *self.connection_slot() = Arc::new(connection);
        }
        Ok(())
    }

    /// Sends a request and waits for its answer. Sends it again while there is none: only for requests that may be done
    /// twice.
    pub(super) async fn request(&self, subject: &str, payload: Bytes) -> Result<Answer, Failure> {
        let asking = async {
            let mut sent = self.ask(subject, None, payload.clone()).await?;
            let (mut pause, mut is_repeated) = (REPEAT, false);
            loop {
                if let Ok(answer) = timeout(pause, &mut sent.answer).await {
                    return Ok(Answer { message: received(answer)?, is_repeated });
                }
                sent.repeat(subject, payload.clone()).await?;
                (pause, is_repeated) = (pause * 2, true);
            }
        };
        self.noted(timeout_at(Instant::now() + self.settings.timeout, asking).await)
    }

    /// The attempts to have a message stored, which begin now.
    pub(super) fn attempts(&self) -> Attempts {
        Attempts::new(self.settings.timeout)
    }

    /// Sends a message that the server stores. Messages that are sent one after the other reach the server in that order.
    /// While the server is known not to answer, the message waits here and is not sent: a paused server would store it when
    /// it goes on, after its publisher got an error.
    pub(super) async fn publish(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        attempts: &Attempts,
    ) -> Result<Sent, Failure> {
        let sending = async {
            self.health.until_available().await;
            self.ask(subject, Some(headers), payload).await
        };
        self.noted(timeout_at(attempts.deadline(), sending).await)
    }

    /// Waits for the answer to a message that has been sent.
    pub(super) async fn answer(&self, mut sent: Sent) -> Result<Message, Failure> {
        let answer = timeout_at(sent.deadline, &mut sent.answer).await;
        self.noted(answer.map(received))
    }

    fn noted<T>(&self, result: Result<Result<T, Failure>, Elapsed>) -> Result<T, Failure> {
        let result = result.unwrap_or(Err(Failure::Late(self.settings.timeout)));
        if let Err(
            failure @ (Failure::Late(_) | Failure::NoResponders | Failure::NotSent | Failure::Closed),
        ) = &result
        {
            self.health.set_unavailable(failure);
        }
        result
    }

    async fn ask(&self, subject: &str, headers: Option<HeaderMap>, payload: Bytes) -> Result<Sent, Failure> {
        let permit = self.in_flight.take(payload.len()).await;
        // It has all the time for its answer, however long it waited before it was sent.
        let sent = self.connection().wait(permit, Instant::now() + self.settings.timeout);
        let (client, reply, subject) = (&sent.connection.client, sent.reply(), subject.to_owned());
        let result = match headers {
            Some(headers) => client.publish_with_reply_and_headers(subject, reply, headers, payload).await,
            None => client.publish_with_reply(subject, reply, payload).await,
        };
        match result {
            Ok(()) => Ok(sent),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(Failure::TooLarge(error.to_string()))
            }
            Err(_) => Err(Failure::NotSent),
        }
    }
}

fn received(answer: Result<Message, oneshot::error::RecvError>) -> Result<Message, Failure> {
    match answer {
        Ok(message) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(Failure::NoResponders),
        Ok(message) => Ok(message),
        Err(_) => Err(Failure::Closed),
    }
}

impl Sent {
    /// Sends the same request again. The first answer is taken.
    async fn repeat(&self, subject: &str, payload: Bytes) -> Result<(), Failure> {
        let sent = self.connection.client.publish_with_reply(subject.to_owned(), self.reply(), payload).await;
        sent.map_err(|_| Failure::Closed)
    }

    fn reply(&self) -> String {
        format!("{}.{}", self.connection.inbox, self.key)
    }
}

impl Connection {
    /// `others`: addresses of further servers, from the last connection.
    async fn open(settings: &Settings, denials: &Arc<Denials>, others: &[String]) -> Result<Self, OpenError> {
        let client = settings.connect(denials, others).await?;
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

    fn wait(self: Arc<Self>, permit: Permit, deadline: Instant) -> Sent {
        let key = self.replies.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        self.replies.lock().insert(key, Waiting { sender, _permit: permit });
        Sent { connection: self, key, answer, deadline }
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
            // An error means that the caller has gone.
            let _ = waiting.sender.send(message);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.connection.replies.lock().remove(&self.key);
    }
}
