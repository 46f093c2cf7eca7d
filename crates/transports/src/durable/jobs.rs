//! The jobs of the writer, and the queue into which callers put them.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use petasos_hub::{
    TransportError,
    registry::{Fact, Lease, NodeId},
};
use petasos_protocol::update::Update;
use tokio::sync::{mpsc, oneshot};

use super::{log::Log, settings::Users};
use crate::{
    codec,
    shared::{
        facts,
        room::{Permit, Room, WAITING_BYTES_MAX},
    },
};

/// Asks the writer.
pub(super) struct Jobs {
    log: Arc<Log>,
    queue: mpsc::Sender<Job>,
    room: Room,
    /// How long a caller waits for its job to be on disk before it gets an error.
    timeout: Duration,
}

/// What the writer is asked for. The permit is held until the caller is answered.
pub(super) enum Job {
    /// Add an update.
    Append { update: Encoded, _permit: Permit, reply: Reply<u64> },
    /// Record facts and add their events.
    Record { facts: Facts, _permit: Permit, reply: Reply<Lease> },
    /// Trim updates that are too old.
    TrimOld { reply: oneshot::Sender<()> },
    /// Time has passed.
    Tick,
}

/// The way back to a caller.
pub(super) struct Reply<T> {
    sender: oneshot::Sender<Result<T, TransportError>>,
    decision: Arc<Decision>,
}

/// Whether a job is kept or refused. The writer keeps it, or the caller's time-out refuses it; the first decision is final.
/// So no update is published whose publisher has got an error.
#[derive(Default)]
struct Decision(AtomicU8);

/// An update and its record.
pub(super) struct Encoded {
    pub(super) update: Arc<Update>,
    pub(super) record: Vec<u8>,
}

/// What a job has done.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// The sequence of the update.
    Appended(u64),
    Recorded(Lease),
}

/// The facts of one node, as they are recorded.
pub(super) struct Facts {
    pub(super) node: NodeId,
    /// They are departures of a node that has no lease.
    pub(super) is_expiry: bool,
    pub(super) facts: Vec<RecordedFact>,
}

/// A fact and its records.
pub(super) struct RecordedFact {
    pub(super) subscriber: String,
    pub(super) is_active: bool,
    pub(super) record: String,
    pub(super) texts: Vec<String>,
    pub(super) events: Vec<Encoded>,
}

/// Jobs that wait or are being done; further callers wait outside. More would only wait longer.
pub(super) const JOBS_MAX: usize = 4_096;

impl Jobs {
    /// `queue` has room for [`JOBS_MAX`] jobs.
    pub(super) fn new(log: Arc<Log>, queue: mpsc::Sender<Job>, timeout: Duration) -> Self {
        Self { log, queue, room: Room::new(JOBS_MAX, WAITING_BYTES_MAX), timeout }
    }

    /// Adds an update, which is only encoded when it is its turn, and returns its sequence when the update is on disk.
    pub(super) async fn append(&self, encode: impl FnOnce() -> Encoded) -> Result<u64, TransportError> {
        self.log.takes_appends()?;
        self.turn().await?;
        let update = encode();
        self.ask(update.record.len(), |permit, reply| Job::Append { update, _permit: permit, reply }).await
    }

    /// Records facts, whole or not at all in each chunk. `is_expiry`: for a node without a lease only.
    pub(super) async fn record(
        &self,
        node: NodeId,
        is_expiry: bool,
        facts: &[Fact],
    ) -> Result<Lease, TransportError> {
        let mut answers = facts::Answers::default();
        for chunk in facts::chunks(facts, facts::CHUNK_EVENTS) {
            self.turn().await?;
            let facts = Facts { node, is_expiry, facts: chunk.iter().map(RecordedFact::new).collect() };
            let lease = self
                .ask(facts.bytes(), |permit, reply| Job::Record { facts, _permit: permit, reply })
                .await?;
            if !is_expiry && answers.has_ended(lease)? {
                return Ok(Lease::Ended);
            }
        }
        Ok(Lease::Kept)
    }

    /// Trims updates that are too old, if there are any.
    pub(super) async fn trim_old(&self) {
        if !self.log.has_old() {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let trimmed = async {
            if self.queue.send(Job::TrimOld { reply }).await.is_ok() {
                // The writer may have ended.
                let _ = answer.await;
            }
        };
        // Readers are better served late than not at all.
        let _ = tokio::time::timeout(self.timeout, trimmed).await;
    }

    /// Waits for the followers of this process, unless those of other processes are among them.
    async fn turn(&self) -> Result<(), TransportError> {
        if self.log.users == Users::Host {
            return Ok(());
        }
        self.log.pace.turn(self.log.end(), self.timeout).await
    }

    /// Has the writer do something that takes that many bytes, and waits until it is on disk.
    async fn ask<T>(
        &self,
        bytes: usize,
        job: impl FnOnce(Permit, Reply<T>) -> Job,
    ) -> Result<T, TransportError> {
        let ended = || match self.log.takes_appends() {
            Ok(()) => TransportError::Closed,
            Err(error) => error,
        };
        let decision = Arc::new(Decision::default());
        let mut answer = pin!(async {
            let permit = self.room.take(bytes).await;
            let (sender, answer) = oneshot::channel();
            let reply = Reply { sender, decision: Arc::clone(&decision) };
            self.queue.send(job(permit, reply)).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        });
        if let Ok(answer) = tokio::time::timeout(self.timeout, &mut answer).await {
            return answer;
        }
        if !decision.refuse() {
            // It is on disk, and about to be published.
            return answer.await;
        }
        let timeout = humantime::format_duration(self.timeout);
        let reason = format!("the disk did not confirm it within {timeout}");
        self.log.health.set_unavailable(&reason);
        Err(TransportError::unavailable(reason))
    }
}

impl Job {
    pub(super) fn entries(&self) -> usize {
        match self {
            Self::Append { .. } => 1,
            Self::Record { facts, .. } => facts.facts.len(),
            Self::TrimOld { .. } | Self::Tick => 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { update, .. } => update.record.len(),
            Self::Record { facts, .. } => facts.bytes(),
            Self::TrimOld { .. } | Self::Tick => 0,
        }
    }

    /// Whether its caller has given up: it got an error, or is gone.
    pub(super) fn is_given_up(&self) -> bool {
        match self {
            Self::Append { reply, .. } => reply.is_given_up(),
            Self::Record { reply, .. } => reply.is_given_up(),
            Self::TrimOld { .. } | Self::Tick => false,
        }
    }

    /// Whether it is an update whose publisher has got an error.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Append { reply, .. } if reply.is_refused())
    }

    /// Lets no time-out refuse it any more. False: it is an update, and its publisher has got an error.
    pub(super) fn keep(&self) -> bool {
        match self {
            Self::Append { reply, .. } => reply.decision.keep(),
            // Facts stay recorded: their caller gives them again.
            Self::Record { .. } | Self::TrimOld { .. } | Self::Tick => true,
        }
    }

    pub(super) fn answer(self, outcome: Outcome) {
        match (self, outcome) {
            (Self::Append { reply, .. }, Outcome::Appended(sequence)) => reply.send(Ok(sequence)),
            (Self::Record { reply, .. }, Outcome::Recorded(lease)) => reply.send(Ok(lease)),
            _ => {}
        }
    }
}

impl<T> Reply<T> {
    pub(super) fn send(self, answer: Result<T, TransportError>) {
        // An error means that the caller has gone.
        let _ = self.sender.send(answer);
    }

    fn is_given_up(&self) -> bool {
        self.sender.is_closed() || self.is_refused()
    }

    fn is_refused(&self) -> bool {
        self.decision.0.load(Ordering::Relaxed) == Decision::REFUSED
    }
}

impl Decision {
    const OPEN: u8 = 0;
    const KEPT: u8 = 1;
    const REFUSED: u8 = 2;

    /// Whether it is kept now. It may have been kept before.
    fn keep(&self) -> bool {
        self.decide(Self::KEPT)
    }

    /// Whether it is refused now.
    fn refuse(&self) -> bool {
        self.decide(Self::REFUSED)
    }

    /// The decision itself is all that is shared by this, so it needs no order with other memory.
    fn decide(&self, decision: u8) -> bool {
        match self.0.compare_exchange(Self::OPEN, decision, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(earlier) => earlier == decision,
        }
    }
}

impl Encoded {
    pub(super) fn new(update: Update) -> Self {
        Self { record: codec::encode(&update), update: Arc::new(update) }
    }
}

impl Facts {
    fn bytes(&self) -> usize {
        let events = |fact: &RecordedFact| fact.events.iter().map(|event| event.record.len()).sum::<usize>();
        self.facts.iter().map(|fact| fact.record.len() + events(fact)).sum()
    }
}

impl RecordedFact {
    fn new(fact: &Fact) -> Self {
        Self {
            subscriber: fact.subscriber.to_string(),
            is_active: fact.active,
            record: codec::encode_subscriber(&fact.subscriptions),
            texts: fact.subscriptions.iter().map(|each| each.matcher.as_str().to_owned()).collect(),
            events: fact.events.iter().cloned().map(Encoded::new).collect(),
        }
    }
}
