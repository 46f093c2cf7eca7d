//! What a node asks the registry for, and when: a function of the answers so far and of the time.
//!
//! The worker has no clock, no random numbers, no task and no registry. [`Worker::next`] says what is to be done now and
//! when to ask again at the latest; [`Worker::answered`] takes the answer to one request. Time is the time since the
//! node's start.
//!
//! There are two kinds of requests, and at most one of each kind is open:
//! - **Recording**: the node's lease, arrivals and departures. What becomes due is gathered for [`GATHER`], unless a
//!   batch is full or a list waits for it. Facts whose recording had no answer are given again, the same ones, until there
//!   is an answer.
//! - **Expiring**: ending the subscribers of nodes whose lease has ended. It may fail for as long as it likes: recording
//!   does not wait for it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use petasos_protocol::subscription::{SubscriberId, Subscription};

use super::state::{Announcement, State};
use crate::{
    TransportError,
    log::registry::{Abandoned, Lease, NodeId},
};

/// How long arrivals and departures are gathered before they are recorded together: a recording wakes the worker, the
/// tail and each shard, and a store that is durable synchronizes. At 200 subscribers a second that come and go, eight
/// share one. Nobody notices so short a time, because a list does not wait for it.
pub(crate) const GATHER: Duration = Duration::from_millis(40);

/// The pause after a request that failed.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause after failed attempts to expire subscribers. It is [`PAUSE`] at first, and doubles.
const EXPIRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Subscribers of dead nodes that are expired together: few, as each may have a hundred subscriptions.
pub(crate) const BATCH_ABANDONED: usize = 32;

/// Renewals in one lease: one may be lost.
const RENEWALS: u32 = 3;

/// A node's requests to the registry.
pub(crate) struct Worker {
    /// `None`: the transport has no registry. Facts are recorded without a lease, and nobody else's subscribers expire.
    lease: Option<Duration>,
    renew_at: Duration,
    /// A renewal had no answer, which may have been the only one to say that the lease had ended.
    is_in_doubt: bool,
    /// The lease has ended since something was recorded.
    has_ended: bool,
    /// Facts that are being recorded, or will be recorded again because their recording had no answer.
    facts: Vec<Announcement>,
    /// An attempt to record the facts had no answer.
    is_unknown: bool,
    recording: Lane,
    /// The time at which gathering ends; `None`: nothing is gathered.
    gathers_until: Option<Duration>,
    /// Facts up to this ticket have been gathered for long enough.
    gathered: u64,
    expiring: Expiring,
}

/// A way for requests, which takes one at a time.
#[derive(Default)]
struct Lane {
    is_busy: bool,
    /// No request is made earlier, after one that failed.
    not_before: Duration,
}

impl Lane {
    fn is_free(&self, now: Duration) -> bool {
        !self.is_busy && now >= self.not_before
    }
}

/// The way on which subscribers of dead nodes are expired.
struct Expiring {
    lane: Lane,
    /// There may be subscribers of dead nodes that have not been found.
    is_wanted: bool,
    found: VecDeque<(NodeId, Vec<Arc<[Subscription]>>)>,
    /// The first of the subscribers found last.
    first: Option<SubscriberId>,
    /// Something of what was found last could not be expired.
    has_failed: bool,
    pause: Duration,
}

/// What is to be done, at most one request on either way, and when to ask again.
pub(crate) struct Next {
    pub(crate) recording: Option<Recording>,
    pub(crate) expiring: Option<Expiry>,
    /// `None`: when something becomes due or an answer comes.
    pub(crate) wake_at: Option<Duration>,
}

/// A request on the way of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recording {
    Renew,
    /// Record [`Worker::facts`].
    Record,
    /// Record [`Worker::facts`] again, with the same events.
    RecordAgain,
}

/// A request on the way of expiring.
#[derive(Debug, Clone)]
pub(crate) enum Expiry {
    Find,
    /// Record the departures of these subscribers.
    Expire(NodeId, Vec<Arc<[Subscription]>>),
}

/// An answer of the registry.
#[derive(Debug)]
pub(crate) enum Answer {
    Renewed(Result<Lease, TransportError>),
    Recorded(Result<Lease, TransportError>),
    Found(Result<Vec<Abandoned>, TransportError>),
    Expired(Result<(), TransportError>),
}

impl Worker {
    /// The length of a lease; `None`: the transport has no registry.
    pub(crate) fn new(lease: Option<Duration>) -> Self {
        Self {
            lease,
            renew_at: Duration::ZERO,
            is_in_doubt: false,
            has_ended: false,
            facts: Vec::new(),
            is_unknown: false,
            recording: Lane::default(),
            gathers_until: None,
            gathered: 0,
            expiring: Expiring {
                lane: Lane::default(),
                is_wanted: false,
                found: VecDeque::new(),
                first: None,
                has_failed: false,
                pause: PAUSE,
            },
        }
    }

    /// The requests to make now. Each has to be answered.
    pub(crate) fn next(&mut self, state: &mut State, now: Duration) -> Next {
        let recording = self.recording.is_free(now).then(|| self.next_recording(state, now)).flatten();
        self.recording.is_busy |= recording.is_some();
        let expiring = self.expiring.next(now);
        Next { recording, expiring, wake_at: self.wake_at(now) }
    }

    fn next_recording(&mut self, state: &mut State, now: Duration) -> Option<Recording> {
        if self.lease.is_some() && now >= self.renew_at {
            return Some(Recording::Renew);
        }
        if !self.facts.is_empty() {
            return Some(Recording::RecordAgain);
        }
        if !self.is_gathered(state, now) {
            return None;
        }
        (self.facts, self.is_unknown) = (state.take(), false);
        Some(Recording::Record)
    }

    /// Whether something is due that has not to be gathered any longer.
    fn is_gathered(&mut self, state: &State, now: Duration) -> bool {
        let Some(first) = state.first_due() else {
            self.gathers_until = None;
            return false;
        };
        if first <= self.gathered || first <= state.urgent() || state.is_batch() {
            return true;
        }
        if now < *self.gathers_until.get_or_insert(now + GATHER) {
            return false;
        }
        // What becomes due from now on waits for the next time.
        self.gathered = state.last_ticket();
        self.gathers_until = None;
        true
    }

    fn wake_at(&self, now: Duration) -> Option<Duration> {
        let recording = (!self.recording.is_busy).then_some({
            let renewal = self.lease.map(|_| self.renew_at);
            let gathered = self.gathers_until;
            let again = (!self.facts.is_empty()).then_some(now);
            renewal.into_iter().chain(gathered).chain(again).min().map(|at| at.max(self.recording.not_before))
        });
        recording.flatten().into_iter().chain(self.expiring.wake_at()).min()
    }

    /// Takes the answer to a request that was made.
    ///
    /// # Errors
    /// [`TransportError::Closed`]: the log is closed for good, and nothing is to be asked for any more.
    pub(crate) fn answered(
        &mut self,
        answer: Answer,
        state: &mut State,
        now: Duration,
    ) -> Result<(), TransportError> {
        match answer {
            Answer::Renewed(answer) => {
                self.recording.is_busy = false;
                self.renewed(answer, state, now)
            }
            Answer::Recorded(answer) => {
                self.recording.is_busy = false;
                self.recorded(answer, state, now)
            }
            Answer::Found(answer) => self.expiring.found(answer, now),
            Answer::Expired(answer) => self.expiring.expired(answer, now),
        }
    }

    fn renewed(
        &mut self,
        answer: Result<Lease, TransportError>,
        state: &mut State,
        now: Duration,
    ) -> Result<(), TransportError> {
        match answer {
            Ok(lease) => {
                self.renew_at = now + self.lease.unwrap_or(Duration::MAX) / RENEWALS;
                self.expiring.is_wanted = true;
                if std::mem::take(&mut self.is_in_doubt) || lease == Lease::Ended {
                    state.record_again();
                }
                Ok(())
            }
            Err(error @ TransportError::Closed) => Err(error),
            Err(_) => {
                self.is_in_doubt = true;
                self.recording.not_before = now + PAUSE;
                Ok(())
            }
        }
    }

    fn recorded(
        &mut self,
        answer: Result<Lease, TransportError>,
        state: &mut State,
        now: Duration,
    ) -> Result<(), TransportError> {
        match answer {
            // What the log will never take is lost. Waiting for it would keep back all that follows.
            Ok(Lease::Kept) | Err(TransportError::Failed(_)) => {
                self.has_ended = false;
                state.recorded(&std::mem::take(&mut self.facts));
            }
            Ok(Lease::Ended) => {
                state.put_back(&std::mem::take(&mut self.facts), self.is_unknown);
                self.renew_at = now;
                // Whatever the renewal says: what had been recorded may be gone.
                self.is_in_doubt = true;
                if std::mem::replace(&mut self.has_ended, true) {
                    // A lease that always ends before anything is recorded.
                    self.recording.not_before = now + PAUSE;
                }
            }
            Err(error @ TransportError::Closed) => return Err(error),
            Err(_) => {
                self.is_unknown = true;
                self.recording.not_before = now + PAUSE;
            }
        }
        Ok(())
    }

    /// The facts that are being recorded.
    pub(crate) fn facts(&self) -> &[Announcement] {
        &self.facts
    }

    /// The last ticket of which it holds that all facts up to it have been recorded.
    pub(crate) fn done(&self, state: &State) -> u64 {
        let first = self.facts.first().map(Announcement::ticket).into_iter().chain(state.first_due()).min();
        first.map_or(state.last_ticket(), |first| first - 1)
    }
}

impl Expiring {
    fn next(&mut self, now: Duration) -> Option<Expiry> {
        if !self.lane.is_free(now) {
            return None;
        }
        let next = match self.found.pop_front() {
            Some((node, subscribers)) => Expiry::Expire(node, subscribers),
            None if std::mem::take(&mut self.is_wanted) => Expiry::Find,
            None => return None,
        };
        self.lane.is_busy = true;
        Some(next)
    }

    fn wake_at(&self) -> Option<Duration> {
        let is_waiting = !self.lane.is_busy && (self.is_wanted || !self.found.is_empty());
        is_waiting.then_some(self.lane.not_before)
    }

    fn found(
        &mut self,
        answer: Result<Vec<Abandoned>, TransportError>,
        now: Duration,
    ) -> Result<(), TransportError> {
        self.lane.is_busy = false;
        match answer {
            Ok(abandoned) => {
                let first = abandoned.first().and_then(|each| each.subscriptions.first());
                let first = first.map(|subscription| subscription.subscriber);
                // What was expired and is still there would be found for ever.
                self.has_failed = first.is_some() && first == self.first;
                self.first = first;
                self.is_wanted |= abandoned.len() >= BATCH_ABANDONED;
                let mut by_node: BTreeMap<NodeId, Vec<_>> = BTreeMap::new();
                for Abandoned { node, subscriptions } in abandoned {
                    by_node.entry(node).or_default().push(subscriptions);
                }
                self.found = by_node.into_iter().collect();
                self.conclude(now);
                Ok(())
            }
            Err(error @ TransportError::Closed) => Err(error),
            Err(_) => {
                self.has_failed = true;
                self.conclude(now);
                Ok(())
            }
        }
    }

    fn expired(&mut self, answer: Result<(), TransportError>, now: Duration) -> Result<(), TransportError> {
        self.lane.is_busy = false;
        match answer {
            Err(error @ TransportError::Closed) => return Err(error),
            // The subscribers of other nodes have their turn all the same.
            Err(_) => self.has_failed = true,
            Ok(()) => {}
        }
        self.conclude(now);
        Ok(())
    }

    /// After the last of what was found: looks again at once if there may be more, and after a pause if something failed.
    fn conclude(&mut self, now: Duration) {
        if !self.found.is_empty() {
            return;
        }
        if std::mem::take(&mut self.has_failed) {
            (self.is_wanted, self.first) = (true, None);
            self.lane.not_before = now + self.pause;
            self.pause = (self.pause * 2).min(EXPIRY_PAUSE_MAX);
        } else {
            self.pause = PAUSE;
        }
    }
}
