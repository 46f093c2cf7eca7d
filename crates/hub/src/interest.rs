//! What one subscriber wants and may have: asked for each update of the history, and for each that its shard's index
//! found.

use std::sync::Arc;

use petasos_protocol::{
    Limits,
    grants::Grants,
    matcher::Matcher,
    topic::{HubUrl, Topic},
    update::Update,
};

/// Matchers and grants of one subscriber.
pub(crate) struct Interest {
    pub(crate) matchers: Box<[Matcher]>,
    pub(crate) grants: Arc<Grants>,
}

impl Interest {
    /// All subscription events of both dialects, each once.
    pub(crate) fn in_subscriptions(hub: &HubUrl) -> Self {
        let under = |rest: &str| {
            let template = format!("{}/subscriptions/{rest}", hub.path());
            Matcher::selector(&template, &Limits::default()).expect("a URI template")
        };
        let matchers = vec![under("{topic}/{subscriber}"), under("{match_type}/{match}/{subscriber}")];
        let grants = Arc::new(Grants { subscribe: matchers.clone(), ..Grants::default() });
        Self { matchers: matchers.into(), grants }
    }

    /// Whether the update is selected and allowed. Each topic may select; permission looks at the update as a whole.
    pub(crate) fn wants(&self, update: &Update) -> bool {
        // Before the topics of a subscription event, which are written when somebody asks.
        if update.is_private() && !self.sees_private() {
            return false;
        }
        let selected = |topic: &Topic| self.matchers.iter().any(|matcher| matcher.matches(topic));
        update.topics().iter().any(selected) && self.may_have(update)
    }

    /// Whether an update that is selected may be delivered.
    pub(crate) fn may_have(&self, update: &Update) -> bool {
        !update.is_private() || self.grants.may_receive(update.topics())
    }

    /// Whether private updates, hence subscription events, can concern it at all.
    pub(crate) fn sees_private(&self) -> bool {
        !self.grants.subscribe.is_empty()
    }
}
