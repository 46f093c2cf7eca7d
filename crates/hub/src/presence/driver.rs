//! Runs what the [`Worker`] asks for against the transport, and gives it the answers.
//!
//! The driver decides nothing. It makes the events of a fact, with their random ids, and writes the log lines.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use tokio::time::{Instant, sleep_until};

use super::{
    shared::Shared,
    worker::{Answer, BATCH_ABANDONED, Expiry, Recording, Worker},
};
use crate::{
    TransportError,
    log::registry::{Fact, Lease, Registry},
};

/// Announces what becomes due until the log is closed.
pub(super) async fn run(presence: &Shared) {
    let registry = presence.transport.registry();
    let mut driver = Driver {
        presence,
        registry,
        started: Instant::now(),
        worker: Worker::new(registry.map(Registry::lease)),
        facts: Arc::default(),
        requests: Requests::default(),
        troubles: Troubles::default(),
    };
    while driver.step().await.is_ok() {}
}

struct Driver<'a> {
    presence: &'a Shared,
    registry: Option<&'a dyn Registry>,
    started: Instant,
    worker: Worker,
    /// What is being recorded, kept to be recorded again as it is.
    facts: Arc<[Fact]>,
    requests: Requests<'a>,
    troubles: Troubles,
}

/// Requests that have no answer yet, at most one on either way.
#[derive(Default)]
struct Requests<'a> {
    recording: Option<Request<'a>>,
    expiring: Option<Request<'a>>,
}

type Request<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Troubles that have been logged, so that each is logged once until it is over.
#[derive(Default)]
struct Troubles {
    cannot_renew: bool,
    cannot_record: bool,
    loses_events: bool,
    cannot_expire: bool,
}

impl<'a> Driver<'a> {
    /// Makes the requests that are due, and waits for something to happen.
    async fn step(&mut self) -> Result<(), TransportError> {
        let now = self.started.elapsed();
        let next = {
            let mut state = self.presence.lock();
            let next = self.worker.next(&mut state, now);
            self.presence.set_done(self.worker.done(&state));
            next
        };
        if let Some(request) = next.recording {
            self.requests.recording = Some(self.recording(request));
        }
        if let Some(request) = next.expiring {
            self.requests.expiring = Some(self.expiring(request));
        }
        let wake_at = next.wake_at;
        let answer = tokio::select! {
            answer = self.requests.answer() => answer,
            () = self.presence.queued.notified() => return Ok(()),
            () = sleep_until(self.started + wake_at.unwrap_or_default()), if wake_at.is_some() => return Ok(()),
        };
        self.troubles.note(&answer);
        let now = self.started.elapsed();
        let mut state = self.presence.lock();
        let has_recorded = matches!(answer, Answer::Recorded(Ok(Lease::Kept)));
        self.worker.answered(answer, &mut state, now)?;
        let dropped = if has_recorded { state.take_dropped() } else { 0 };
        drop(state);
        if dropped > 0 {
            tracing::warn!(dropped, "subscribers came and left without an announcement");
        }
        Ok(())
    }

    fn recording(&mut self, request: Recording) -> Request<'a> {
        let node = self.presence.node;
        let Some(registry) = self.registry else { return self.appending() };
        match request {
            Recording::Renew => return Box::pin(async move { Answer::Renewed(registry.renew(node).await) }),
            Recording::Record => {
                let facts = self.worker.facts().iter();
                self.facts =
                    facts.filter_map(|fact| self.presence.fact(&fact.subscriptions, fact.active)).collect();
            }
            Recording::RecordAgain => {}
        }
        let facts = Arc::clone(&self.facts);
        Box::pin(async move { Answer::Recorded(registry.record(node, &facts).await) })
    }

    /// Without a registry only the events are appended. Nothing would keep an event that is appended again from being
    /// there twice, so events that the log does not take are lost.
    fn appending(&self) -> Request<'a> {
        let presence = self.presence;
        let facts = self.worker.facts().iter();
        let events = facts.flat_map(|fact| presence.events(&fact.subscriptions, fact.active)).collect();
        Box::pin(async move {
            Answer::Recorded(match presence.transport.append_all(events).await {
                Ok(()) => Ok(Lease::Kept),
                Err(TransportError::Closed) => Err(TransportError::Closed),
                Err(error) => Err(TransportError::Failed(error.into())),
            })
        })
    }

    fn expiring(&self, request: Expiry) -> Request<'a> {
        let (presence, registry) = (self.presence, self.registry);
        Box::pin(async move {
            let Some(registry) = registry else { return Answer::Found(Ok(Vec::new())) };
            match request {
                Expiry::Find => Answer::Found(registry.abandoned(BATCH_ABANDONED).await),
                Expiry::Expire(node, subscribers) => {
                    let departures: Vec<Fact> =
                        subscribers.iter().filter_map(|all| presence.fact(all, false)).collect();
                    let expired = registry.expire(node, &departures).await;
                    if expired.is_ok() {
                        let count = departures.len();
                        tracing::info!(%node, count, "subscribers of a node that is gone have ended");
                    }
                    Answer::Expired(expired)
                }
            }
        })
    }
}

impl Requests<'_> {
    /// Waits for the next answer. Cancel-safe.
    async fn answer(&mut self) -> Answer {
        poll_fn(|context| {
            for request in [&mut self.recording, &mut self.expiring] {
                if let Some(pending) = request
                    && let Poll::Ready(answer) = pending.as_mut().poll(context)
                {
                    *request = None;
                    return Poll::Ready(answer);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Troubles {
    /// Writes a log line for a trouble that begins or is over.
    fn note(&mut self, answer: &Answer) {
        let was_troubled = self.cannot_renew || self.cannot_record;
        let error = match answer {
            Answer::Recorded(Err(error @ TransportError::Failed(_))) => {
                if !std::mem::replace(&mut self.loses_events, true) {
                    tracing::warn!(%error, "subscription events are lost: the log did not take them");
                }
                return;
            }
            Answer::Renewed(answer) => {
                self.cannot_renew = answer.is_err();
                answer.as_ref().err()
            }
            Answer::Recorded(answer) => {
                (self.cannot_record, self.loses_events) = (answer.is_err(), false);
                answer.as_ref().err()
            }
            Answer::Found(Err(error)) | Answer::Expired(Err(error)) => {
                if !std::mem::replace(&mut self.cannot_expire, true) && !was_troubled {
                    tracing::warn!(%error, "subscribers of nodes that are gone cannot be ended yet");
                }
                return;
            }
            Answer::Expired(Ok(())) => {
                self.cannot_expire = false;
                return;
            }
            Answer::Found(Ok(_)) => return,
        };
        match (was_troubled, error) {
            (_, Some(TransportError::Closed)) => {}
            (false, Some(error)) => {
                tracing::warn!(%error, "subscriptions cannot be announced: they are kept for later");
            }
            (true, None) if !self.cannot_renew && !self.cannot_record => {
                tracing::info!("subscriptions are announced again");
            }
            _ => {}
        }
    }
}
