//! Finds the members that want an update: exact topics by a map, the wildcard by a list, patterns by what their topics
//! begin with.

use std::{collections::HashMap, sync::Arc};

use petasos_protocol::{matcher::Matcher, topic::Topics};
use slab::Slab;

use super::{
    patterns::Patterns,
    registration::{self, Bucket, Registration, RegistrationKey},
};

/// The matchers of all members of a shard. A member is known by its slot.
#[derive(Default)]
pub(crate) struct Index {
    exact: HashMap<Arc<str>, Bucket>,
    any: Bucket,
    patterns: Patterns,
    registrations: Slab<Registration>,
}

impl Index {
    /// Registers a member for a matcher.
    pub(crate) fn insert(&mut self, matcher: &Matcher, member: u32) -> RegistrationKey {
        let bucket = match matcher {
            Matcher::Any(_) => &mut self.any,
            Matcher::Exact(topic) => self.exact.entry(Arc::clone(topic)).or_default(),
            Matcher::Pattern(_) | Matcher::Template(_) | Matcher::Prefix(_) => self.patterns.bucket(matcher),
        };
        let key = self.registrations.insert(Registration { member, index: bucket.len() as u32 }) as u32;
        bucket.push(key);
        key
    }

    /// Undoes one [`Index::insert`] of that matcher. Costs the same however many members have it.
    pub(crate) fn remove(&mut self, matcher: &Matcher, key: RegistrationKey) {
        let Registration { index, .. } = self.registrations.remove(key as usize);
        let registrations = &mut self.registrations;
        match matcher {
            Matcher::Any(_) => registration::remove(&mut self.any, index, registrations),
            Matcher::Exact(topic) => {
                if let Some(bucket) = self.exact.get_mut(topic) {
                    registration::remove(bucket, index, registrations);
                    if bucket.is_empty() {
                        self.exact.remove(topic);
                    }
                }
            }
            Matcher::Pattern(_) | Matcher::Template(_) | Matcher::Prefix(_) => {
                registration::remove(self.patterns.bucket(matcher), index, registrations);
                self.patterns.tidy(matcher);
            }
        }
    }

    /// Whether there is no registration.
    pub(crate) fn is_empty(&self) -> bool {
        self.registrations.is_empty()
    }

    /// Calls `visit` for each registration whose matcher matches one of the topics. A member may come more than once.
    pub(crate) fn lookup(&self, topics: &Topics, mut visit: impl FnMut(u32)) {
        let mut visit_all = |bucket: &Bucket| {
            for key in bucket {
                visit(self.registrations[*key as usize].member);
            }
        };
        visit_all(&self.any);
        for topic in topics.iter() {
            if let Some(bucket) = self.exact.get(topic.as_str()) {
                visit_all(bucket);
            }
        }
        self.patterns.lookup(topics, visit_all);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use petasos_protocol::{Limits, matcher::MatcherType, topic::HubUrl};
    use proptest::prelude::*;

    use super::*;

    /// A colon makes it a URL pattern unless it is a template, a star behind other text a prefix.
    fn matcher(text: &str) -> Matcher {
        let limits = Limits::default();
        match text.contains(':') && !text.contains('{') {
            true => Matcher::parse(MatcherType::UrlPattern, text, &HubUrl::default(), &limits),
            false => Matcher::prefix_or_selector(text, &limits),
        }
        .expect("valid")
    }

    fn topics(values: &[&str]) -> Topics {
        Topics::parse(values.iter().copied(), &HubUrl::default(), &Limits::default()).expect("valid")
    }

    fn found(index: &Index, topics: &Topics) -> BTreeSet<u32> {
        let mut members = BTreeSet::new();
        index.lookup(topics, |member| {
            members.insert(member);
        });
        members
    }

    #[test]
    fn an_empty_index_holds_nothing_after_everyone_left() {
        let mut index = Index::default();
        let selectors = ["*", "a", "/b/{id}", "/b/{other}", "/b/:id", "http://h/b/:id", "/b/*"];
        let keys: Vec<_> = selectors.iter().map(|selector| index.insert(&matcher(selector), 7)).collect();
        assert_eq!(found(&index, &topics(&["a"])), [7].into());
        for (selector, key) in selectors.iter().zip(keys) {
            index.remove(&matcher(selector), key);
        }
        assert!(index.exact.is_empty() && index.any.is_empty() && index.patterns.is_empty());
        assert!(index.registrations.is_empty());
    }

    const SELECTORS: [&str; 29] = [
        "*",
        "a",
        "/x/1",
        "/x/{id}",
        "/x/{other}",
        "/x/{+path}",
        "/x/{id}2",
        "/x/{id}{?query}",
        "/{a}/{b}",
        "{+all}",
        "{/x}",
        "/é/{id}",
        "http://h/x/{id}",
        "/x*",
        "http*",
        "/x/:id",
        "/x/:other",
        "x/:id",
        "/é/:id",
        "http://localhost/x/:id",
        "http://h/x/:id",
        "http://h:8/x/:id",
        "http://h:*/x/:id",
        "http://:host/x/:id",
        "http://h/*\\?q=:q",
        "*://h/x/1",
        ":scheme:*",
        "urn:*",
        "urn\\:x:id",
    ];
    const TOPICS: [&str; 20] = [
        "a",
        "c",
        "/x",
        "/x/1",
        "/x/2",
        "/x/{id}",
        "/x/../x/1",
        "/%78/1",
        "/é/1",
        "/%C3%A9/1",
        "x/1",
        "http://h/x/1",
        "HTTP://me@H:80/x/1",
        "http://h:8/x/1",
        "http://other/x/1",
        "http://h/x/1?q=2",
        "http://localhost/x/1",
        "https://h/x/1",
        "urn:x1",
        "http://[",
    ];

    #[derive(Debug, Clone)]
    enum Step {
        Enter(usize, u32),
        Leave(usize),
        LookUp(Vec<usize>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..SELECTORS.len(), 0_u32..8).prop_map(|(selector, member)| Step::Enter(selector, member)),
            2 => (0..1_000_usize).prop_map(Step::Leave),
            4 => prop::collection::vec(0..TOPICS.len(), 1..4).prop_map(Step::LookUp),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        /// The naive model: ask every matcher of every member. With many members that nothing finds by its prefix and that
        /// meets nothing, all lookups are remembered; without, none is.
        #[test]
        fn agrees_with_asking_everyone(steps in prop::collection::vec(step(), 1..150), crowded in any::<bool>()) {
            let mut index = Index::default();
            let mut model: Vec<(Matcher, u32, RegistrationKey)> = Vec::new();
            if crowded {
                for number in 0..20 {
                    index.insert(&matcher(&format!("{{a}}{{b}}-crowd-{number}")), 99);
                }
            }
            for step in steps {
                match step {
                    Step::Enter(selector, member) => {
                        let matcher = matcher(SELECTORS[selector]);
                        let key = index.insert(&matcher, member);
                        model.push((matcher, member, key));
                    }
                    Step::Leave(at) if !model.is_empty() => {
                        let (matcher, _, key) = model.remove(at % model.len());
                        index.remove(&matcher, key);
                    }
                    Step::Leave(_) => {}
                    Step::LookUp(at) => {
                        let topics = topics(&at.iter().map(|at| TOPICS[*at]).collect::<Vec<_>>());
                        let expected = model
                            .iter()
                            .filter(|(matcher, ..)| topics.iter().any(|topic| matcher.matches(topic)))
                            .map(|(_, member, _)| *member);
                        prop_assert_eq!(found(&index, &topics), expected.collect());
                    }
                }
            }
        }
    }

    /// Else a selector would be there for nothing.
    #[test]
    fn every_selector_of_the_model_meets_a_topic_and_misses_another() {
        for selector in &SELECTORS[1..] {
            let meets = |topic: &&str| matcher(selector).matches(topics(&[topic]).canonical());
            let met = TOPICS.iter().filter(|topic| meets(topic)).count();
            assert!(0 < met && met < TOPICS.len(), "{selector} meets {met}");
        }
    }
}
