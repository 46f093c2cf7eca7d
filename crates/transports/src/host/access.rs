//! How this process reaches the log: it leads, or it is a member of what another process leads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use petasos_hub::{
    TransportError,
    transport::{Follower, Position, Transport},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{member::Member, settings::Settings};
use crate::{
    Options,
    durable::DurableTransport,
    shared::{
        decoder::Decoder,
        health::Health,
        pace::Pace,
        room::{Room, WAITING_BYTES_MAX},
    },
};

/// How this process reaches the log.
#[derive(Clone)]
pub(super) enum Access {
    /// It has the log open.
    Leader(Arc<DurableTransport>),
    /// It asks the process that has.
    Member(Arc<Member>),
}

impl Access {
    pub(super) fn log(&self) -> &dyn Transport {
        match self {
            Self::Leader(log) => &**log,
            Self::Member(member) => &**member,
        }
    }

    /// Goes on following after a position, up to which this process has followed before.
    pub(super) async fn resume(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        match self {
            Self::Leader(log) => log.resume(after),
            Self::Member(member) => member.follow_from(after, true).await,
        }
    }

    /// Ends a way to the log that has turned out to be none, so that another one is looked for.
    pub(super) fn give_up(&self) {
        if let Self::Member(member) = self {
            member.link.close();
        }
    }

    /// Whether this is still a way to the log.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Leader(log) => log.takes_appends(),
            Self::Member(member) => member.link.is_open(),
        }
    }
}

/// What all parts of one process's log share.
pub(super) struct Host {
    pub(super) settings: Settings,
    /// Tells the process that leads which member this is.
    pub(super) number: u128,
    pub(super) options: Options,
    pub(super) decoder: Arc<Decoder>,
    pub(super) pace: Arc<Pace>,
    /// Of the appends of this process that wait.
    pub(super) room: Room,
    pub(super) health: Health,
    current: watch::Sender<Option<Access>>,
    is_closed: watch::Sender<bool>,
    /// When the last access was lost.
    lost: Mutex<Instant>,
}

/// A process that has left is replaced within this time, which nobody has to know about.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(1);

/// Appends of this process that wait for their answer. Further ones wait outside.
const APPENDS_MAX: usize = 4_096;

impl Host {
    pub(super) fn new(settings: Settings, options: Options, shown: &str) -> Self {
        Self {
            decoder: Arc::new(Decoder::new(shown, options.hub.clone())),
            health: Health::new(shown),
            pace: Arc::default(),
            room: Room::new(APPENDS_MAX, WAITING_BYTES_MAX),
            current: watch::Sender::new(None),
            is_closed: watch::Sender::new(false),
            lost: Mutex::new(Instant::now()),
            number: Uuid::new_v4().as_u128(),
            settings,
            options,
        }
    }

    /// The present access, if it is open.
    pub(super) fn current(&self) -> Option<Access> {
        self.current.borrow().clone().filter(Access::is_open)
    }

    /// An open access. Waits for one until the deadline.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] at the deadline, [`TransportError::Closed`] when the log was closed.
    pub(super) async fn open_by(&self, deadline: Instant) -> Result<Access, TransportError> {
        timeout_at(deadline, self.open()).await.unwrap_or_else(|_| {
            Err(TransportError::unavailable(
                "no process of this host leads the log: the one that holds its lock does not answer",
            ))
        })
    }

    /// An open access. Waits for one, however long.
    ///
    /// # Errors
    /// [`TransportError::Closed`] when the log was closed.
    pub(super) async fn open(&self) -> Result<Access, TransportError> {
        let (mut current, mut closed) = (self.current.subscribe(), self.is_closed.subscribe());
        let found = tokio::select! {
            biased;
            _ = closed.wait_for(|is_closed| *is_closed) => return Err(TransportError::Closed),
            found = current.wait_for(|access| access.as_ref().is_some_and(Access::is_open)) => found,
        };
        found.ok().and_then(|access| access.clone()).ok_or(TransportError::Closed)
    }

    pub(super) fn gain(&self, access: Access) {
        self.current.send_replace(Some(access));
    }

    /// There is no access any more, or none that has answered for so long.
    pub(super) fn lose(&self, silence: Duration) {
        let lost = Instant::now();
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) = lost.checked_sub(silence).unwrap_or(lost);
        self.current.send_replace(None);
    }

    /// For how long there has been no access.
    pub(super) fn missing_for(&self) -> Duration {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// From now on nothing works.
    pub(super) fn close(&self) {
        self.is_closed.send_replace(true);
    }

    /// Waits until the log was closed.
    pub(super) async fn closed(&self) {
        // The sender is in this value.
        let _ = self.is_closed.subscribe().wait_for(|is_closed| *is_closed).await;
    }

    /// The time until which a call waits.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.settings.timeout
    }

    /// Records that the log reaches at least this position.
    pub(super) fn saw(&self, position: Position) {
        self.pace.appended(position);
    }
}

/// Asks the log for something, and again if the process that led it has left meanwhile. For calls that only read.
macro_rules! ask {
    ($host:expr, |$log:ident| $call:expr) => {{
        let deadline = $host.deadline();
        loop {
            let access = $host.open_by(deadline).await?;
            let $log = access.log();
            match $call {
                Err(_) if !access.is_open() && tokio::time::Instant::now() < deadline => {}
                answer => break answer,
            }
        }
    }};
}
pub(super) use ask;
