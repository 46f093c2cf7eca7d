//! One subscriber, whatever carries its stream: what it wants, when it ends, and that it is counted and present.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
};

use petasos_protocol::{
    Dialect,
    event::EventId,
    sse::{self, Frame},
    update::{Origin, Update},
};
use tokio::time::Instant;

use crate::{
    Admission, Closed,
    budget::{GrantsWeight, Weight},
    fanout::ring::Newest,
    interest::Interest,
    log::transport::{Entry, Page, Position, Trimmed},
    metrics::outcome::{EndReason, StreamCarrier},
    node::Node,
    presence,
    stream::{
        pulse::{Pulse, Rhythm},
        topics::topic_lines,
    },
};

/// A subscriber. Dropping it unsubscribes.
pub(crate) struct Subscriber {
    pub(crate) node: Arc<Node>,
    pub(crate) interest: Arc<Interest>,
    pub(crate) naming: Naming,
    /// `Some`: its events name their topics, and its stream says where it is. The cursor that the stream has passed when it
    /// was attached last; what came later is known by the shard.
    pub(crate) passed: Option<Box<str>>,
    /// What the log had trimmed when the stream began. That is the hub's policy, and the answer to the cursor says so.
    /// What is trimmed later and was still to be sent is a loss.
    pub(crate) forgiven: Trimmed,
    /// `None`: the program that runs the hub, which nothing revokes.
    pub(crate) admission: Option<Admission>,
    /// When its stream ends at the latest.
    pub(crate) close_at: Option<Instant>,
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) presence: Option<presence::Guard>,
    /// `None`: the program that runs the hub watches subscriptions, which is no subscription itself.
    pub(crate) counted: Option<Counted>,
    /// Why its stream has ended. The first reason counts.
    pub(crate) ended: Option<EndReason>,
    /// Its part of the budget, for its matchers and its grants.
    #[expect(dead_code, reason = "held for its Drop")]
    pub(crate) weight: Option<(Arc<Weight>, Option<Arc<GrantsWeight>>)>,
}

/// The numbers in which an open stream counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) dialect: Dialect,
    pub(crate) carrier: StreamCarrier,
}

/// Whether a stream names cursors while it is silent, and which: a client that has received nothing, or nothing for long,
/// then comes back without a loss, and without a search through all of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// It sends comments instead.
    None,
    /// The newest update of a publisher: the subscriber receives no subscription events.
    Updates,
    /// The newest entry.
    Entries,
}

impl Naming {
    /// The cursor of a silent stream that is live. `passed`: where it was attached. Without an id in the ring, nothing has come since.
    pub(crate) fn cursor<'a>(self, newest: Newest<'a>, passed: Option<&'a str>) -> Option<&'a str> {
        self.choose(newest).map(EventId::as_str).or(passed)
    }

    /// The id that a stream names, of those with which the log ends.
    pub(crate) fn choose(self, newest: Newest<'_>) -> Option<&EventId> {
        match self {
            Self::None => None,
            Self::Updates => newest.update,
            Self::Entries => newest.entry,
        }
    }
}

impl Subscriber {
    /// From now on its stream names cursors.
    pub(crate) fn name_cursors(&mut self) {
        let receives_events = self.interest.receives_events(&self.node.settings.url);
        self.naming = if receives_events { Naming::Entries } else { Naming::Updates };
    }

    /// What decides which topics its events name; `None`: they name none.
    pub(crate) fn topics_known(&self) -> Option<&Interest> {
        self.passed.as_ref().map(|_| &*self.interest)
    }

    /// The event of an update that it receives.
    pub(crate) fn frame(&self, update: &Update) -> Frame {
        match self.topics_known() {
            None => update.frame().clone(),
            Some(interest) => sse::with_topics(&topic_lines(interest, update), update.frame()),
        }
    }

    /// The cursor after these entries of the log, for a stream that says where it is. `None`: they move it not.
    pub(crate) fn cursor_after(&self, entries: &[Entry]) -> Option<EventId> {
        self.passed.as_ref()?;
        let mut newest_first = entries.iter().rev().map(|entry| &entry.update);
        let newest = newest_first
            .find(|update| self.naming == Naming::Entries || update.origin() == Origin::Publisher);
        newest.map(|update| update.id().clone())
    }

    /// Whether the log has trimmed something after `after` that it was still to see.
    pub(crate) fn is_gap(&self, page: &Page, after: Position) -> bool {
        let lost_events =
            page.trimmed.events > after.max(self.forgiven.events) && self.interest.sees_private();
        page.trimmed.updates > after.max(self.forgiven.updates) || lost_events
    }

    /// Whether the hub would not let it in any more.
    pub(crate) fn is_revoked(&self) -> bool {
        !self.node.admissions.accept(self.admission)
    }

    /// Its keep-alive and its lifetime.
    pub(crate) fn pulse(&self) -> Pulse {
        let keep_alive = self.counted.and_then(|_| self.node.timing.keep_alive());
        Pulse { keep_alive, close_at: self.close_at.map(Instant::into_std) }
    }

    /// The same, for as long as its stream is live.
    pub(crate) fn rhythm(&self) -> Rhythm {
        let timing = self.counted.map(|_| Arc::clone(&self.node.timing));
        Rhythm { timing, close_at: self.close_at.map(Instant::into_std) }
    }

    /// Logs the end of its stream, and remembers the reason.
    pub(crate) fn ends(&mut self, reason: Closed) {
        self.ended.get_or_insert(reason.into());
        tracing::debug!(%reason, "a stream ends");
    }

    /// Its peer has left, as the error of its socket says.
    pub(crate) fn leaves(&mut self, error: &io::Error) {
        self.ended.get_or_insert(match error.kind() {
            io::ErrorKind::TimedOut => EndReason::WriteTimeout,
            _ => EndReason::ClientLeft,
        });
    }

    /// Something else carries its stream from now on.
    pub(crate) fn moves_to(&mut self, carrier: StreamCarrier) {
        if let Some(counted) = &mut self.counted {
            self.node.metrics.stream_moved(counted.dialect, counted.carrier, carrier);
            counted.carrier = carrier;
        }
    }

    /// Counts entries of the history that its stream gets.
    pub(crate) fn is_given(&self, entries: &[Entry]) {
        if self.counted.is_some() {
            self.node.metrics.replayed.fetch_add(entries.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Subscriber {
    /// Counts the end of its stream: every stream ends here, however that comes.
    fn drop(&mut self) {
        if let Some(Counted { dialect, carrier }) = self.counted {
            // What carries it panics, mostly a shard, and the hub fails.
            let otherwise = if thread::panicking() { EndReason::LogLost } else { EndReason::ClientLeft };
            let reason = self.ended.unwrap_or(otherwise);
            self.node.stream_closed(dialect, carrier, reason);
        }
    }
}
