//! What the bearer of a token may do. The answer is computed from the topics each time and never cached under a key
//! made of joined strings, so that no arrangement of topics can pass for another.

use std::{fmt, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    matcher::Matcher,
    topic::{HubUrl, Topic, Topics},
};

/// The permissions and payloads of one token; empty for the anonymous.
#[derive(Clone, Default)]
pub struct Grants {
    /// Topics that may be published.
    pub publish: Vec<Matcher>,
    /// Private topics that may be received, and subscription paths that may be read.
    pub subscribe: Vec<Matcher>,
    /// Payloads for subscriptions, each for the matchers it was granted with (0.x: one, for all). A grant without one
    /// masks those that follow, as section "Payloads" has it.
    pub payloads: Vec<(Vec<Matcher>, Option<Arc<RawValue>>)>,
}

impl Grants {
    /// Whether every topic of the update may be published (section "Publishers").
    pub fn may_publish(&self, topics: &Topics) -> bool {
        topics.iter().all(|topic| allows(&self.publish, topic))
    }

    /// Whether at least one topic of a private update is granted (section "Subscribers").
    pub fn may_receive(&self, topics: &Topics) -> bool {
        topics.iter().any(|topic| allows(&self.subscribe, topic))
    }

    /// Whether the subscription API may be read at `path`.
    pub fn may_read(&self, path: &Topic) -> bool {
        allows(&self.subscribe, path)
    }

    /// About the memory that they take, in bytes, as if nothing in them were shared. 0 for empty grants.
    pub fn bytes(&self) -> usize {
        let Self { publish, subscribe, payloads } = self;
        let granted = payloads.iter().flat_map(|(granted, _)| granted);
        let matchers = publish.iter().chain(subscribe).chain(granted).map(Matcher::bytes);
        let payloads =
            payloads.iter().map(|(_, payload)| GRANT_BYTES + payload.as_ref().map_or(0, |it| it.get().len()));
        matchers.sum::<usize>() + payloads.sum::<usize>()
    }

    /// The payload of a subscription to `matcher`: that of the first grant which covers its text, taken as a topic.
    pub fn payload(&self, matcher: &Matcher, hub: &HubUrl) -> Option<&Arc<RawValue>> {
        if self.payloads.is_empty() {
            return None;
        }
        let text = Topic::unchecked(matcher.as_str(), hub);
        self.payloads.iter().find(|(granted, _)| allows(granted, &text))?.1.as_ref()
    }
}

fn allows(matchers: &[Matcher], topic: &Topic) -> bool {
    matchers.iter().any(|matcher| matcher.matches(topic))
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants")
            .field("publish", &self.publish)
            .field("subscribe", &self.subscribe)
            .field("payloads", &self.payloads.len())
            .finish()
    }
}

/// Bytes of a grant beside its matchers and the text of its payload. An estimate.
const GRANT_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Limits;

    fn grants(publish: &[&str], subscribe: &[&str]) -> Grants {
        let parse = |values: &[&str]| {
            values.iter().map(|v| Matcher::selector(v, &Limits::default()).expect("valid")).collect()
        };
        Grants { publish: parse(publish), subscribe: parse(subscribe), payloads: Vec::new() }
    }

    fn topics(values: &[&str]) -> Topics {
        Topics::parse(values.iter().copied(), &HubUrl::default(), &Limits::default()).expect("valid topics")
    }

    #[test]
    fn publishing_needs_every_topic_and_receiving_needs_one() {
        let grants = grants(&["a", "b"], &["a", "b"]);
        assert!(grants.may_publish(&topics(&["a", "b"])));
        assert!(!grants.may_publish(&topics(&["a", "c"])));
        assert!(grants.may_receive(&topics(&["c", "b"])));
        assert!(!grants.may_receive(&topics(&["c", "d"])));
    }

    #[test]
    fn nothing_granted_allows_nothing() {
        let grants = Grants::default();
        assert!(!grants.may_publish(&topics(&["a"])));
        assert!(!grants.may_receive(&topics(&["a"])));
        let path = Topic::unchecked("/.well-known/mercure/subscriptions", &HubUrl::default());
        assert!(!grants.may_read(&path));
    }

    proptest! {
        /// Against the joined-key confusion of CVE-2026-39972: topics with separators, escapes and joints in them
        /// are never granted through another spelling.
        #[test]
        fn no_joining_or_splitting_of_topics_crosses_a_grant(
            parts in prop::collection::vec("[ab_,;|&=%/\u{e9}]{1,4}", 2..5),
            joint in "[_,;|&=%/ ]{0,2}",
        ) {
            let granted = parts.join(&joint);
            let grants = grants(&[&granted], &[&granted]);
            let pieces: Vec<&str> = parts.iter().map(String::as_str).collect();
            if pieces.iter().all(|piece| *piece != granted) {
                let parsed = Topics::parse(pieces.iter().copied(), &HubUrl::default(), &Limits::default());
                prop_assume!(parsed.is_ok());
                let topics = parsed.expect("assumed");
                prop_assert!(!grants.may_receive(&topics));
                prop_assert!(!grants.may_publish(&topics));
            }
        }
    }
}
