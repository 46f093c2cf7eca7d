//! The event which says that a subscription is active or has ended (section "Subscription Events").
//!
//! The event is written in the dialect that its subscription speaks. No other file decides that.

use crate::{
    Dialect,
    event::{EventId, EventType},
    legacy,
    sse::{self, Frame},
    subscription::Subscription,
    topic::{HubUrl, Topic, Topics},
};

/// Everything that is needed to write the event of a subscription.
#[derive(Clone)]
pub(crate) struct Announcement {
    subscription: Subscription,
    active: bool,
    hub: HubUrl,
    event_type: Option<EventType>,
}

impl Announcement {
    /// `legacy_type` is the type of 0.x events, for which the specification has none.
    pub(crate) fn new(
        subscription: Subscription,
        active: bool,
        hub: HubUrl,
        legacy_type: Option<&EventType>,
    ) -> Self {
        let event_type = match subscription.dialect {
            Dialect::Legacy => legacy_type.cloned(),
            Dialect::V1 => Some(EventType::reserved()),
        };
        Self { subscription, active, hub, event_type }
    }

    /// The topics that the event is published to.
    pub(crate) fn topics(&self) -> Topics {
        let Self { subscription, hub, .. } = self;
        Topics::trusted(match subscription.dialect {
            Dialect::Legacy => legacy::event_topics(hub, subscription),
            Dialect::V1 => vec![Topic::unchecked(&subscription.path(hub), hub)],
        })
    }

    /// The encoded event.
    pub(crate) fn frame(&self, id: &EventId) -> Frame {
        let Self { subscription, active, hub, event_type } = self;
        let document = match subscription.dialect {
            Dialect::Legacy => legacy::event_document(hub, subscription, *active),
            Dialect::V1 => subscription.event_document(hub, *active),
        };
        sse::encode(id, event_type.as_ref(), None, &document)
    }

    /// An upper bound of the memory that the announcement takes once topics and frame are written, in bytes: a path has up
    /// to three bytes for one of the matcher, four times, and a document has two. Only a matcher that JSON has to escape
    /// throughout takes more.
    pub(crate) fn size(&self) -> usize {
        let payload = self.subscription.payload.as_ref().map_or(0, |payload| payload.get().len());
        1_280 + 14 * self.subscription.matcher.as_str().len() + 4 * self.hub.path().len() + payload
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Limits,
        matcher::MatcherType,
        subscription::tests::subscription,
        update::{Origin, Update},
    };

    /// With the event type "Subscription" in the form of 0.x.
    fn announce(subscription: &Subscription, active: bool) -> Update {
        let legacy_type = EventType::parse("Subscription", &Limits::default()).expect("valid");
        let id = EventId::from_uuid("1");
        let update = Update::announce(subscription, active, &HubUrl::default(), Some(&legacy_type), id);
        assert_eq!((update.is_private(), update.origin()), (true, Origin::Hub));
        update
    }

    /// The example of section "Subscription Events".
    #[test]
    fn a_1_0_event_is_that_of_the_specification() {
        let subscription = subscription(MatcherType::UrlPattern, "https://example.com/:selector");
        let update = announce(&subscription, true);
        let path = "/.well-known/mercure/subscriptions/urlpattern/https%3A%2F%2Fexample.com%2F%3Aselector/\
                    urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6";
        let topics: Vec<_> = update.topics().iter().map(|topic| topic.as_str().to_owned()).collect();
        assert_eq!(topics, [path]);
        let event = String::from_utf8(update.frame().event().to_vec()).expect("UTF-8");
        let data = event.strip_prefix("event: mercure\nid: urn:uuid:1\ndata: ").expect("its fields");
        let document: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(
            document,
            json!({
                "id": path,
                "type": "subscription",
                "match_type": "urlpattern",
                "match": "https://example.com/:selector",
                "subscriber": "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6",
                "active": true,
                "payload": {"foo": "bar"},
            })
        );
    }

    #[test]
    fn the_size_of_an_event_is_what_it_takes_once_it_is_written_and_stays_the_same() {
        for (dialect, length) in
            [(Dialect::V1, 1), (Dialect::V1, 2_000), (Dialect::Legacy, 1), (Dialect::Legacy, 2_000)]
        {
            let each = subscription(MatcherType::Exact, &"é".repeat(length));
            let update = announce(&Subscription { dialect, ..each }, true);
            let before = update.size();
            let topics: usize = update.topics().iter().map(|topic| topic.as_str().len()).sum();
            assert!(before > topics + update.frame().chunk().len(), "{dialect:?} {length}");
            assert_eq!(update.size(), before);
        }
    }

    #[test]
    fn percent_signs_are_encoded_once() {
        let update = announce(&subscription(MatcherType::Exact, "a%2Fb c"), false);
        let topic = update.topics().canonical().as_str().to_owned();
        assert!(
            topic.starts_with("/.well-known/mercure/subscriptions/exact/a%252Fb%20c/urn%3Auuid%3A"),
            "{topic}"
        );
    }

    #[test]
    fn a_legacy_event_is_private_and_has_the_topics_of_subscription_and_selector() {
        let v1 = subscription(MatcherType::Exact, "https://example.com/{selector}");
        let update = announce(&Subscription { dialect: Dialect::Legacy, ..v1 }, true);
        let base = "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bselector%7D";
        let own = format!("{base}/urn%3Auuid%3Abb3de268-05b0-4c65-b44e-8f9acefc29d6");
        let topics: Vec<_> = update.topics().iter().map(|topic| topic.as_str().to_owned()).collect();
        assert_eq!(topics, [own.as_str(), base]);
        let event = String::from_utf8(update.frame().event().to_vec()).expect("UTF-8");
        let data = event.strip_prefix("event: Subscription\nid: urn:uuid:1\ndata: ").expect("its fields");
        let document: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(
            document,
            json!({
                "@context": "https://mercure.rocks/",
                "id": own,
                "type": "Subscription",
                "topic": "https://example.com/{selector}",
                "subscriber": "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6",
                "active": true,
                "payload": {"foo": "bar"},
            })
        );
    }
}
