//! Who wants an update: exact topics by a map, the wildcard by a list, each distinct pattern evaluated once.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use petasos_protocol::{matcher::Matcher, topic::Topics};
use slab::Slab;

/// The matchers of all members of a shard. Members are known by their keys.
#[derive(Default)]
pub(crate) struct Index {
    exact: HashMap<Arc<str>, Bucket>,
    any: Bucket,
    patterns: HashMap<Matcher, Bucket>,
    registrations: Slab<Registration>,
}

/// The registrations of one matcher, in no order.
type Bucket = Vec<u32>;

/// One matcher of one member.
struct Registration {
    member: u32,
    /// Where it stands in its bucket, so that leaving costs the same however many stay.
    slot: u32,
}

/// What a member keeps to leave again.
pub(crate) type RegistrationKey = u32;

impl Index {
    /// Registers a member for a matcher.
    pub(crate) fn insert(&mut self, matcher: &Matcher, member: u32) -> RegistrationKey {
        let bucket = match matcher {
            Matcher::Any(_) => &mut self.any,
            Matcher::Exact(topic) => self.exact.entry(Arc::clone(topic)).or_default(),
            Matcher::Pattern(_) | Matcher::Template(_) | Matcher::Prefix(_) => {
                self.patterns.entry(matcher.clone()).or_default()
            }
        };
        let key = self.registrations.insert(Registration { member, slot: bucket.len() as u32 }) as u32;
        bucket.push(key);
        key
    }

    /// Undoes one [`Index::insert`] of that matcher.
    pub(crate) fn remove(&mut self, matcher: &Matcher, key: RegistrationKey) {
        let Registration { slot, .. } = self.registrations.remove(key as usize);
        let registrations = &mut self.registrations;
        match matcher {
            Matcher::Any(_) => take(&mut self.any, slot, registrations),
            Matcher::Exact(topic) => take_from(&mut self.exact, topic, slot, registrations),
            Matcher::Pattern(_) | Matcher::Template(_) | Matcher::Prefix(_) => {
                take_from(&mut self.patterns, matcher, slot, registrations)
            }
        }
    }

    /// Calls `visit` for each registration that one of the topics meets; a member may come more than once.
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
        for (pattern, bucket) in &self.patterns {
            if topics.iter().any(|topic| pattern.matches(topic)) {
                visit_all(bucket);
            }
        }
    }
}

fn take_from<K: Hash + Eq>(
    buckets: &mut HashMap<K, Bucket>,
    key: &K,
    slot: u32,
    registrations: &mut Slab<Registration>,
) {
    if let Some(bucket) = buckets.get_mut(key) {
        take(bucket, slot, registrations);
        if bucket.is_empty() {
            buckets.remove(key);
        }
    }
}

/// Removes a slot and tells the registration that moves into it.
fn take(bucket: &mut Bucket, slot: u32, registrations: &mut Slab<Registration>) {
    bucket.swap_remove(slot as usize);
    if let Some(moved) = bucket.get(slot as usize) {
        registrations[*moved as usize].slot = slot;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use petasos_protocol::{Limits, matcher::MatcherType, topic::HubUrl};
    use proptest::prelude::*;

    use super::*;

    fn matcher(text: &str) -> Matcher {
        let limits = Limits::default();
        match text.contains(':') {
            true => Matcher::parse(MatcherType::UrlPattern, text, &HubUrl::default(), &limits),
            false => Matcher::selector(text, &limits),
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
        let selectors = ["*", "a", "/b/{id}", "/b/:id"];
        let keys: Vec<_> = selectors.iter().map(|selector| index.insert(&matcher(selector), 7)).collect();
        assert_eq!(found(&index, &topics(&["a"])), [7].into());
        for (selector, key) in selectors.iter().zip(keys) {
            index.remove(&matcher(selector), key);
        }
        assert!(index.exact.is_empty() && index.any.is_empty() && index.patterns.is_empty());
        assert!(index.registrations.is_empty());
    }

    const SELECTORS: [&str; 7] = ["*", "a", "b", "/x/{id}", "/x/1", "/{a}/{b}", "/x/:id"];
    const TOPICS: [&str; 6] = ["a", "b", "c", "/x/1", "/x/2", "/y/3"];

    proptest! {
        /// The naive model: ask every matcher of every member.
        #[test]
        fn agrees_with_asking_everyone(
            steps in prop::collection::vec((any::<bool>(), 0..SELECTORS.len(), 0_u32..8), 1..80),
            looked_up in prop::collection::vec(0..TOPICS.len(), 1..4),
        ) {
            let mut index = Index::default();
            let mut model: Vec<(Matcher, u32, RegistrationKey)> = Vec::new();
            for (enter, selector, member) in steps {
                if enter || model.is_empty() {
                    let matcher = matcher(SELECTORS[selector]);
                    let key = index.insert(&matcher, member);
                    model.push((matcher, member, key));
                } else {
                    let (matcher, _, key) = model.remove(selector % model.len());
                    index.remove(&matcher, key);
                }
            }
            let values: Vec<_> = looked_up.iter().map(|at| TOPICS[*at]).collect();
            let expected = model
                .iter()
                .filter(|(matcher, ..)| topics(&values).iter().any(|topic| matcher.matches(topic)))
                .map(|(_, member, _)| *member);
            prop_assert_eq!(found(&index, &topics(&values)), expected.collect());
        }
    }
}
