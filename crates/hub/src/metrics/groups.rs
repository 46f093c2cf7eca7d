//! Groups of topics whose updates are counted apart, because the settings name them.

use std::sync::atomic::{AtomicU64, Ordering};

use petasos_protocol::{
    matcher::Matcher,
    update::{Origin, Update},
};

/// The groups of one node, and the updates that were published to each. An update belongs to every group that selects one of
/// its topics. Subscription events belong to none.
pub(crate) struct Groups {
    matchers: Box<[Matcher]>,
    published: Box<[AtomicU64]>,
}

impl Groups {
    pub(crate) fn new(matchers: &[Matcher]) -> Self {
        let published = matchers.iter().map(|_| AtomicU64::new(0)).collect();
        Self { matchers: matchers.into(), published }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.matchers.is_empty()
    }

    /// The numbers of the groups of an update.
    pub(crate) fn select(&self, update: &Update) -> impl Iterator<Item = usize> {
        let is_in = move |matcher: &Matcher| {
            update.origin() == Origin::Publisher && update.topics().iter().any(|topic| matcher.matches(topic))
        };
        self.matchers.iter().enumerate().filter(move |(_, matcher)| is_in(matcher)).map(|(number, _)| number)
    }

    /// The numbers of the groups in which an update that is published now will count.
    pub(crate) fn published(&self, groups: &[usize]) {
        for group in groups {
            self.published[*group].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The text of each group, and the updates published to it.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = (&str, u64)> {
        let published = self.published.iter().map(|count| count.load(Ordering::Relaxed));
        self.matchers.iter().map(Matcher::as_str).zip(published)
    }
}
