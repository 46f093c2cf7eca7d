//! What the bearer of a token may do.
//!
//! Each answer is computed from the topics themselves. It is never cached under a key of joined strings, under which one
//! list of topics could pass for another (CVE-2026-39972).

use std::{fmt, sync::Arc};

use serde_json::value::RawValue;

use crate::{
    matcher::Matcher,
    topic::{HubUrl, Topic, Topics},
};

/// The permissions and payloads of one token. Empty for an anonymous subscriber.
#[derive(Clone, Default)]
pub struct Grants {
    /// Topics that the bearer may publish to.
    pub publish: Vec<Matcher>,
    /// Topics whose private updates the bearer may receive, and paths of the subscription API that it may read.
    pub subscribe: Vec<Matcher>,
    /// Payloads for subscriptions, each with the matchers that it was granted with (0.x: one payload for all). The first
    /// entry with a matcher that matches counts, also if it has no payload (section "Payloads").
    pub payloads: Vec<(Vec<Matcher>, Option<Arc<RawValue>>)>,
}

impl Grants {
    /// Whether the bearer may publish to every one of the topics (section "Publishers").
    pub fn may_publish(&self, topics: &Topics) -> bool {
        topics.iter().all(|topic| allows(&self.publish, topic))
    }

    /// Whether the bearer may receive a private update with these topics: one granted topic is enough (section
    /// "Subscribers").
    pub fn may_receive(&self, topics: &Topics) -> bool {
        topics.iter().any(|topic| allows(&self.subscribe, topic))
    }

    /// Whether the bearer may read the subscription API at `path`.
    pub fn may_read(&self, path: &Topic) -> bool {
        allows(&self.subscribe, path)
    }

    /// An estimate of the memory that the grants take, in bytes, as if nothing in them were shared. 0 for empty grants.
    pub fn bytes(&self) -> usize {
        let Self { publish, subscribe, payloads } = self;
        let granted = payloads.iter().flat_map(|(granted, _)| granted);
        let matchers = publish.iter().chain(subscribe).chain(granted).map(Matcher::bytes);
        let payloads =
            payloads.iter().map(|(_, payload)| GRANT_BYTES + payload.as_ref().map_or(0, |it| it.get().len()));
        matchers.sum::<usize>() + payloads.sum::<usize>()
    }

    /// The payload of a subscription to `matcher`: the payload of the first entry that matches the text of `matcher`,
    /// taken as a topic.
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

/// Bytes of an entry beside its matchers and the text of its payload. An estimate.
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

    #[test]
    fn grants_take_the_memory_of_their_matchers_and_payloads() {
        assert_eq!(Grants::default().bytes(), 0);
        let mut grants = grants(&["a"], &["b"]);
        let without = grants.bytes();
        assert_eq!(without, grants.publish[0].bytes() + grants.subscribe[0].bytes());
        let payload = RawValue::from_string(format!("\"{}\"", "x".repeat(1_000))).expect("JSON");
        let matchers = grants.publish.clone();
        let more = 1_002 + matchers[0].bytes();
        grants.payloads.push((matchers, Some(Arc::from(payload))));
        assert!((without + more..without + more + 200).contains(&grants.bytes()));
        let shown = format!("{grants:?}");
        assert!(shown.contains("publish: [\"a\"]") && shown.contains("payloads: 1") && !shown.contains("xx"));
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
