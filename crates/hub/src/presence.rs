//! Who is subscribed, and the updates that say so.
//!
//! The event follows the fact: a subscription is in the registry before its event is in the log, and out of it before
//! the event of its end. Registry and queue change under one lock, so the events tell the facts in their order; one
//! worker appends them to the log like any other update.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use petasos_protocol::{subscription::Subscription, topic::HubUrl, update::EventType};
use tokio::sync::Notify;

use crate::{ids, transport::Transport};

/// The subscriptions of this node.
pub(crate) struct Presence {
    state: Mutex<State>,
    /// Wakes the worker.
    queued: Notify,
    /// Wakes subscribers that wait for the worker.
    drained: Notify,
}

#[derive(Default)]
struct State {
    /// By arrival, which is the order in which they are listed.
    arrivals: BTreeMap<u64, Arc<[Subscription]>>,
    arrived: u64,
    /// Arrivals and departures ever.
    revision: u64,
    by_selector: HashMap<String, BTreeSet<u64>>,
    /// What the worker has still to announce. Newcomers wait when it is long, leavers never do: at most the threshold
    /// and one entry for each subscriber.
    queue: VecDeque<(Arc<[Subscription]>, bool)>,
}

/// Announcements that may wait before newcomers do.
const QUEUE_NEWCOMERS_MAX: usize = 4_096;

/// One subscriber's presence. Dropping it announces its end.
pub(crate) struct Guard {
    presence: Arc<Presence>,
    arrival: u64,
}

impl Presence {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), queued: Notify::new(), drained: Notify::new() })
    }

    /// Registers a subscriber's subscriptions and announces them. Waits while announcements pile up.
    pub(crate) async fn enter(self: &Arc<Self>, subscriptions: Arc<[Subscription]>) -> Guard {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let mut state = self.lock();
                if state.queue.len() < QUEUE_NEWCOMERS_MAX {
                    let arrival = state.arrived;
                    state.arrived += 1;
                    state.revision += 1;
                    for subscription in &*subscriptions {
                        let selector = subscription.matcher.as_str().to_owned();
                        state.by_selector.entry(selector).or_default().insert(arrival);
                    }
                    state.arrivals.insert(arrival, Arc::clone(&subscriptions));
                    state.queue.push_back((subscriptions, true));
                    self.queued.notify_one();
                    return Guard { presence: Arc::clone(self), arrival };
                }
            }
            drained.await;
        }
    }

    fn leave(&self, arrival: u64) {
        let mut state = self.lock();
        let Some(subscriptions) = state.arrivals.remove(&arrival) else { return };
        state.revision += 1;
        for subscription in &*subscriptions {
            let selector = subscription.matcher.as_str();
            if let Some(arrivals) = state.by_selector.get_mut(selector) {
                arrivals.remove(&arrival);
                if arrivals.is_empty() {
                    state.by_selector.remove(selector);
                }
            }
        }
        state.queue.push_back((subscriptions, false));
        self.queued.notify_one();
    }

    /// The active subscriptions, those of one selector or all, in the order of their arrival, and a number that changes
    /// with them.
    pub(crate) fn list(&self, selector: Option<&str>) -> (Vec<Subscription>, u64) {
        let state = self.lock();
        let active = match selector {
            None => state.arrivals.values().flat_map(|all| all.iter()).cloned().collect(),
            Some(selector) => {
                let arrivals = state.by_selector.get(selector).into_iter().flatten();
                let all =
                    arrivals.filter_map(|arrival| state.arrivals.get(arrival)).flat_map(|all| all.iter());
                all.filter(|each| each.matcher.as_str() == selector).cloned().collect()
            }
        };
        (active, state.revision)
    }

    /// Announces what is queued, in order, for ever.
    pub(crate) async fn announce(
        self: Arc<Self>,
        transport: Arc<dyn Transport>,
        hub: HubUrl,
        legacy_type: Option<EventType>,
    ) {
        loop {
            let next = self.lock().queue.pop_front();
            let Some((subscriptions, active)) = next else {
                self.queued.notified().await;
                continue;
            };
            self.drained.notify_waiters();
            for subscription in &*subscriptions {
                let update = subscription.event(&hub, active, legacy_type.as_ref(), ids::event());
                if let Err(error) = transport.append(update).await {
                    tracing::warn!(%error, "a subscription event is lost: the log did not take it");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.presence.leave(self.arrival);
    }
}
