//! What streams and the driver share: the state under its lock, and how each side wakes the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use petasos_protocol::{event::EventType, subscription::Subscription, topic::HubUrl, update::Update};
use tokio::sync::{Notify, watch};

use super::state::{Bounds, State};
use crate::{
    ids,
    log::{
        registry::{Fact, NodeId},
        transport::Transport,
    },
};

/// The state of presence, and what its facts are made with.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes the driver.
    pub(super) queued: Notify,
    /// All facts up to this ticket have been recorded.
    pub(super) done: watch::Sender<u64>,
    pub(super) node: NodeId,
    pub(super) transport: Arc<dyn Transport>,
    hub: HubUrl,
    /// The type of 0.x events.
    legacy_type: Option<EventType>,
}

impl Shared {
    pub(super) fn new(transport: Arc<dyn Transport>, hub: HubUrl, legacy_type: Option<EventType>) -> Self {
        Self {
            state: Mutex::new(State::new(Bounds::default())),
            queued: Notify::new(),
            done: watch::Sender::new(0),
            node: ids::node(),
            transport,
            hub,
            legacy_type,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_done(&self, done: u64) {
        self.done.send_if_modified(|known| std::mem::replace(known, done) != done);
    }

    /// The updates that announce an arrival or a departure, with new ids.
    pub(super) fn events(&self, subscriptions: &[Subscription], active: bool) -> Vec<Update> {
        let event = |subscription: &Subscription| {
            Update::announce(subscription, active, &self.hub, self.legacy_type.as_ref(), ids::event())
        };
        subscriptions.iter().map(event).collect()
    }

    /// `None`: there are no subscriptions.
    pub(super) fn fact(&self, subscriptions: &Arc<[Subscription]>, active: bool) -> Option<Fact> {
        let subscriber = subscriptions.first()?.subscriber;
        let events = self.events(subscriptions, active);
        Some(Fact { subscriber, active, subscriptions: Arc::clone(subscriptions), events })
    }
}
