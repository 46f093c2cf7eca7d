//! A link: one connection, kept by a task that connects again whenever the connection is lost.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join4;
use petasos_hub::TransportError;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, timeout_at},
};
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};

use super::{
    core::Core,
    failure::Failure,
    schema::{Greeting, Tables},
    settings::{Settings, Wire},
    statements::Statements,
};
use crate::retry::Backoff;

/// What is asked over one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    session: watch::Receiver<Option<Arc<Session>>>,
    questions: Arc<Semaphore>,
    timeout: Duration,
}

/// Makes connections to the server that the log is at.
pub(super) struct Connector {
    settings: Settings,
    tables: Tables,
    /// Which server the newest connection is to.
    server: watch::Sender<String>,
}

/// A connection that answers, or did.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    /// When it last answered.
    heard: Mutex<Instant>,
    broken: Mutex<Option<Failure>>,
    has_broken: Notify,
    /// Warnings that the server gave.
    warnings: AtomicUsize,
}

/// Questions of one link that wait for answers. Others wait for them, not in the client's own queue, which has no bound.
const QUESTIONS_MAX: usize = 64;

/// A connection is asked this often whether it is still there, and whether the server still takes writes.
const PING: Duration = Duration::from_secs(5);

impl Link {
    /// A link and the task that keeps it, which runs until it is aborted. `listens`: it hears of the appends of all nodes.
    pub(super) fn new(
        core: Arc<Core>,
        connector: Arc<Connector>,
        listens: bool,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, session) = watch::channel(None);
        let link =
            Self { session, questions: Arc::new(Semaphore::new(QUESTIONS_MAX)), timeout: core.timeout };
        (link, keep(core, connector, sender, listens))
    }

    /// The connection, waited for.
    pub(super) async fn session(&self, deadline: Instant) -> Result<Arc<Session>, Failure> {
        let mut session = self.session.clone();
        // A broken session stays here until its task has noticed, and could still send.
        let is_whole =
            |session: &Option<Arc<Session>>| session.as_ref().is_some_and(|session| !session.is_broken());
        match timeout_at(deadline, session.wait_for(is_whole)).await {
            Ok(Ok(session)) => Ok(Arc::clone(session.as_ref().expect("it was waited for"))),
            // The task has ended with the transport.
            Ok(Err(_)) => Err(Failure::new("the log is closed")),
            Err(_) => Err(Failure::new("there is no connection to the server")),
        }
    }

    /// Asks what has the same effect when it is asked twice: over the next connection, too, when one is lost meanwhile.
    pub(super) async fn ask<T, A>(&self, question: impl Fn(Arc<Session>) -> A) -> Result<T, TransportError>
    where
        A: Future<Output = Result<T, Failure>>,
    {
        let deadline = Instant::now() + self.timeout;
        let Ok(permit) = timeout_at(deadline, self.questions.acquire()).await else {
            return Err(Failure::silent(self.timeout).into());
        };
        let _permit = permit.map_err(|_| TransportError::Closed)?;
        loop {
            let session = self.session(deadline).await?;
            let failure = match timeout_at(deadline, question(Arc::clone(&session))).await {
                Ok(Ok(answer)) => {
                    session.has_answered();
                    return Ok(answer);
                }
                Ok(Err(failure)) => failure,
                Err(_) => {
                    session.break_if_silent(self.timeout);
                    return Err(Failure::silent(self.timeout).into());
                }
            };
            match failure {
                failure if failure.is_conflict() => {}
                failure if failure.leaves_connection_usable() => return Err(failure.into()),
                failure => session.break_with(failure),
            }
            // The link has to see that it broke, or this would spin.
            if timeout_at(deadline, session.gone(&self.session)).await.is_err() {
                return Err(Failure::silent(self.timeout).into());
            }
        }
    }
}

impl Connector {
    pub(super) fn new(settings: Settings) -> Self {
        Self { tables: Tables::new(&settings.name), settings, server: watch::Sender::default() }
    }

    /// A connection with its settings and statements, and the tables behind it.
    pub(super) async fn connect(&self, listens: bool) -> Result<(Session, Wire, Greeting), Failure> {
        let (client, mut wire) = self.settings.connect().await?;
        let timeout = self.settings.timeout;
        let prepare = async {
            let greeting = self.tables.prepare(&client, timeout).await?;
            let statements = Statements::prepare(&client, &self.tables).await?;
            if listens {
                client.batch_execute(&format!("LISTEN \"{}\"", self.tables.channel)).await?;
            }
            Ok::<_, Failure>((statements, greeting))
        };
        let (statements, greeting) = tokio::select! {
            prepared = tokio::time::timeout(timeout, prepare) => {
                prepared.map_err(|_| Failure::silent(timeout))??
            }
            ended = &mut wire => return Err(match ended {
                Err(error) => error.into(),
                Ok(()) => Failure::new("the connection was closed"),
            }),
        };
        // The newest connection is to the server that the log is at: connections to other servers end.
        self.server.send_if_modified(|server| {
            let is_other = *server != greeting.server;
            server.clone_from(&greeting.server);
            is_other
        });
        Ok((Session::new(client, statements), wire, greeting))
    }

    /// Returns when the newest connection is to another server than this one.
    async fn has_left(&self, server: &str) {
        // The sender is in this value.
        let _ = self.server.subscribe().wait_for(|current| current != server).await;
    }
}

impl Session {
    fn new(client: Client, statements: Statements) -> Self {
        let (heard, broken) = (Mutex::new(Instant::now()), Mutex::new(None));
        Self { client, statements, heard, broken, has_broken: Notify::new(), warnings: AtomicUsize::new(0) }
    }

    pub(super) fn has_answered(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How often the server has warned. It does when it commits what no stand-by server has confirmed.
    pub(super) fn warnings(&self) -> usize {
        self.warnings.load(Ordering::Relaxed)
    }

    /// The connection is of no more use; the first reason counts.
    pub(super) fn break_with(&self, failure: Failure) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.has_broken.notify_one();
    }

    /// An answer that is late for the many before it says nothing about the server.
    pub(super) fn break_if_silent(&self, timeout: Duration) {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.elapsed() >= timeout {
            self.break_with(Failure::silent(timeout));
        }
    }

    /// Several statements as one transaction, sent at once: the server never waits for us in the middle of it.
    pub(super) async fn transaction<L, W, T>(&self, lock: L, work: W) -> Result<T, Failure>
    where
        L: Future<Output = Result<u64, tokio_postgres::Error>>,
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let (begin, commit) = (self.client.batch_execute("BEGIN"), self.client.batch_execute("COMMIT"));
        // Polled in this order, and each sends when it is polled first.
        let (begun, locked, worked, committed) = join4(begin, lock, work, commit).await;
        begun?;
        locked?;
        let answer = worked?;
        committed?;
        Ok(answer)
    }

    async fn broken(&self) -> Failure {
        loop {
            let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone();
            match broken {
                Some(failure) => return failure,
                None => self.has_broken.notified().await,
            }
        }
    }

    fn is_broken(&self) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns when a broken session is not the link's any more; at once if it is whole.
    async fn gone(&self, link: &watch::Receiver<Option<Arc<Session>>>) {
        if !self.is_broken() {
            return;
        }
        let is_other = |current: &Option<Arc<Self>>| {
            current.as_ref().is_none_or(|current| !std::ptr::eq(Arc::as_ptr(current), self))
        };
        // An error means that the task has ended.
        let _ = link.clone().wait_for(is_other).await;
    }

    /// Returns when the server does not answer a ping.
    async fn ping(&self, timeout: Duration) {
        loop {
            tokio::time::sleep(PING).await;
            match tokio::time::timeout(timeout, self.client.simple_query("SHOW transaction_read_only")).await
            {
                Ok(Ok(answer)) if is_on(&answer) => {
                    self.break_with(Failure::new("the server does not take writes any more"));
                }
                Ok(Ok(_)) => self.has_answered(),
                Ok(Err(error)) => self.break_with(error.into()),
                Err(_) => self.break_if_silent(timeout),
            }
        }
    }
}

fn is_on(answer: &[SimpleQueryMessage]) -> bool {
    answer.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")))
}

/// Keeps a connection for ever.
async fn keep(
    core: Arc<Core>,
    connector: Arc<Connector>,
    sender: watch::Sender<Option<Arc<Session>>>,
    listens: bool,
) {
    let mut backoff = Backoff::new();
    loop {
        let began = Instant::now();
        match connector.connect(listens).await {
            Ok((session, wire, Greeting { server, .. })) => {
                let session = Arc::new(session);
                sender.send_replace(Some(Arc::clone(&session)));
                core.link_is_up(listens);
                let failure = hold(&core, &connector, &session, wire, &server).await;
                sender.send_replace(None);
                core.link_is_down(&failure, true);
            }
            Err(failure) => core.link_is_down(&failure, false),
        }
        // One that works for a while and is lost then may come back at once.
        if began.elapsed() > core.timeout {
            backoff.reset();
        }
        backoff.wait().await;
    }
}

/// Drives a connection until it breaks, and says why.
async fn hold(
    core: &Core,
    connector: &Connector,
    session: &Session,
    mut wire: Wire,
    server: &str,
) -> Failure {
    let mut ping = std::pin::pin!(session.ping(core.timeout));
    let mut broken = std::pin::pin!(session.broken());
    let mut left = std::pin::pin!(connector.has_left(server));
    loop {
        let message = tokio::select! {
            message = std::future::poll_fn(|cx| wire.poll_message(cx)) => message,
            failure = &mut broken => return failure,
            () = &mut left => return Failure::new("the log is at another server now"),
            () = &mut ping => continue, // It has no end.
        };
        match message {
            Some(Ok(AsyncMessage::Notification(notification))) => core.hear(notification.payload()),
            Some(Ok(AsyncMessage::Notice(notice))) => {
                session.warnings.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(code = notice.code().code(), "PostgreSQL: {}", notice.message());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.into(),
            None => return Failure::new("the connection was closed"),
        }
    }
}
