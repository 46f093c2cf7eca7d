//! Records that are read back from a store. A damaged record is reported once and left out; it stays in the store, for
//! an operator who may restore it.

use std::{fmt::Display, sync::Arc};

use petasos_hub::transport::{Entry, Position};
use petasos_protocol::{subscription::Subscription, topic::HubUrl, update::Update};

use super::reported::Reported;
use crate::codec::{self, Damaged};

/// Decodes the records of one log.
pub(crate) struct Decoder {
    /// Names the store in log lines, without secrets.
    store: String,
    hub: HubUrl,
    updates: Reported<Position>,
    subscribers: Reported<String>,
}

impl Decoder {
    pub(crate) fn new(store: impl Into<String>, hub: HubUrl) -> Self {
        Self { store: store.into(), hub, updates: Reported::default(), subscribers: Reported::default() }
    }

    /// The hub's URL, against which the topics of updates are resolved.
    #[cfg(feature = "nats")]
    pub(crate) fn hub(&self) -> &HubUrl {
        &self.hub
    }

    /// The update of a record. `None`: the record is damaged.
    pub(crate) fn update(&self, position: Position, record: &[u8]) -> Option<Update> {
        let report = |damage: &Damaged| {
            if self.updates.is_news(position) {
                let (epoch, sequence) = (position.epoch, position.sequence);
                tracing::error!(sequence, epoch, %damage, "an update in {} cannot be read: it is left out", self.store);
            }
        };
        codec::decode(record, &self.hub).inspect_err(report).ok()
    }

    /// The entry of a record. `None`: the record is damaged.
    pub(crate) fn entry(&self, position: Position, record: &[u8]) -> Option<Entry> {
        self.update(position, record).map(|update| Entry::now(position, Arc::new(update)))
    }

    /// The subscriptions of a subscriber, which `key` names in the store. `None`: the record is damaged.
    pub(crate) fn subscriber(
        &self,
        key: &impl Display,
        decoded: Result<Arc<[Subscription]>, Damaged>,
    ) -> Option<Arc<[Subscription]>> {
        let report = |damage: &Damaged| {
            let subscriber = key.to_string();
            if self.subscribers.is_news(subscriber.clone()) {
                let store = &self.store;
                tracing::error!(
                    subscriber, %damage, "the record of a subscriber in {store} cannot be read: it is left out"
                );
            }
        };
        decoded.inspect_err(report).ok()
    }
}
