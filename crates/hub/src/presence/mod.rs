//! Who is subscribed, and the updates that announce it.
//!
//! - [`state`]: who is here, and which arrivals and departures have still to be recorded.
//! - [`worker`]: what is recorded, and when. State and worker are plain data without a clock, random numbers or tasks.
//! - [`shared`]: both sides' view of it: of streams, which enter and leave, and of the driver.
//! - [`driver`]: runs the worker against the transport.
//!
//! The event follows the fact: a subscription is listed before its event is in the log, and is no longer listed before the
//! event of its end is. Where several nodes share the log, the transport's registry records facts and events as one; the
//! node keeps a lease there, and ends the subscribers of nodes whose lease has ended.
//!
//! Announcing never delays a stream: to enter and to leave are changes under a lock, which wait for nothing.

use std::{sync::Arc, time::Duration};

use petasos_protocol::{event::EventType, subscription::Subscription, topic::HubUrl};
use tokio::time::timeout;

use crate::{
    TransportError,
    budget::Weight,
    log::{
        registry::{PAGE_SUBSCRIBERS, Page},
        transport::Transport,
    },
};

mod driver;
mod shared;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod worker;

use shared::Shared;

/// The subscriptions of this node.
pub(crate) struct Presence(Shared);

/// How long a list waits for the arrivals and departures of this node, and a stopping hub for those of its end.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// One subscriber's presence. Dropping it announces its end.
pub(crate) struct Guard {
    presence: Arc<Presence>,
    number: u64,
}

impl Presence {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        hub: HubUrl,
        legacy_type: Option<EventType>,
    ) -> Arc<Self> {
        Arc::new(Self(Shared::new(transport, hub, legacy_type)))
    }

    /// Registers a subscriber's subscriptions, to be announced.
    pub(crate) fn enter(self: &Arc<Self>, subscriptions: Arc<[Subscription]>, weight: Arc<Weight>) -> Guard {
        let (number, wakes) = self.0.lock().enter(subscriptions, weight);
        if wakes {
            self.0.queued.notify_one();
        }
        Guard { presence: Arc::clone(self), number }
    }

    fn leave(&self, number: u64) {
        let Some(departure) = self.0.lock().leave(number) else { return };
        if departure.wakes {
            self.0.queued.notify_one();
        }
        if departure.is_first_dropped {
            tracing::warn!(
                "subscribers come and go faster than they can be announced: some that have left already are not announced"
            );
        }
    }

    /// Waits until the registry has recorded the subscribers of this node, if the transport has a registry; at most
    /// [`SETTLE_MAX`].
    pub(crate) async fn settle(&self) {
        if self.0.transport.registry().is_some() {
            // On a time-out the registry is unavailable, and reading it fails, or it is busy, and the list is a moment
            // old.
            let _ = timeout(SETTLE_MAX, self.flush()).await;
        }
    }

    /// Waits until everything that has happened has been recorded.
    async fn flush(&self) {
        let mut done = self.0.done.subscribe();
        // A subscriber that has left before its arrival was recorded has two facts, recorded one after the other.
        let rounds = if self.0.lock().has_brief() { 2 } else { 1 };
        for _ in 0..rounds {
            let last = self.0.lock().hurry();
            self.0.queued.notify_one();
            // The sender is in `self`.
            let _ = done.wait_for(|done| *done >= last).await;
        }
    }

    /// A number that changes with the subscriptions of this process. Where nodes share a log it stays 0: there, each
    /// change appends an event, because a fact and its events are recorded as one.
    pub(crate) fn revision(&self) -> u64 {
        match self.0.transport.registry() {
            Some(_) => 0,
            None => self.0.lock().revision(),
        }
    }

    /// A page of subscribers after `after`, those with a matcher of that text or all, in the order of arrival. The lock is
    /// held while one page is copied.
    ///
    /// # Errors
    /// Those of [`Registry::page`](crate::log::registry::Registry::page), if the transport has a registry.
    pub(crate) async fn page(&self, text: Option<&str>, after: u64) -> Result<Page, TransportError> {
        match self.0.transport.registry() {
            Some(registry) => registry.page(text, after, PAGE_SUBSCRIBERS).await,
            None => Ok(self.0.lock().page(text, after)),
        }
    }

    /// Announces arrivals and departures until the log is closed.
    pub(crate) async fn announce(self: Arc<Self>) {
        driver::run(&self.0).await;
    }

    /// Announces that all have left and gives up the node's lease, within a bounded time. [`Presence::announce`] still
    /// runs.
    pub(crate) async fn retire(&self) {
        let Some(registry) = self.0.transport.registry() else { return };
        self.0.lock().leave_all();
        // Without an end the lease runs out, and another node announces the rest.
        let _ = timeout(SETTLE_MAX, self.flush()).await;
        let _ = timeout(SETTLE_MAX, registry.resign(self.0.node)).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.presence.leave(self.number);
    }
}
