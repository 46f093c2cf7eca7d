//! An active subscription: one matcher of one subscriber (section "Active Subscriptions").

use std::{fmt, sync::Arc};

use serde_json::value::RawValue;

use crate::matcher::Matcher;

/// The identifier of one connection, shared by its subscriptions: `urn:uuid:` and a random UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(Arc<str>);

impl SubscriberId {
    /// From a UUID in its hyphenated form.
    pub fn from_uuid(uuid: &str) -> Self {
        Self(format!("urn:uuid:{uuid}").into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One subscription, active or ended.
#[derive(Clone)]
pub struct Subscription {
    /// What is selected.
    pub matcher: Matcher,
    /// Who selected it.
    pub subscriber: SubscriberId,
    /// What the subscriber's token says about it, for others to read.
    pub payload: Option<Arc<RawValue>>,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("matcher", &self.matcher)
            .field("subscriber", &self.subscriber)
            .field("payload", &self.payload.is_some())
            .finish()
    }
}
