//! What was logged about single records: each once, in any order of reading, and a bounded number of them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

/// The keys of records that were reported.
pub(crate) struct Reported<K>(Mutex<BTreeSet<K>>);

/// Records of one kind that are reported. A store with more damaged records has to be restored from a copy; a line for each
/// record would not help.
const REPORTS_MAX: usize = 1_024;

impl<K> Default for Reported<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord> Reported<K> {
    /// Whether to report the record: it was not reported yet, and the bound is not reached. Counts it as reported.
    pub(crate) fn is_news(&self, key: K) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() == REPORTS_MAX || !reported.insert(key) {
            return false;
        }
        if reported.len() == REPORTS_MAX {
            tracing::error!("{REPORTS_MAX} records were reported; further ones are not: restore a copy");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_reported_once_in_any_order_and_not_too_many_are() {
        let reported = Reported::default();
        assert!(reported.is_news(5) && reported.is_news(3) && reported.is_news(7));
        assert!(!reported.is_news(5) && !reported.is_news(3) && !reported.is_news(7));
        let news = (0..2 * REPORTS_MAX).filter(|key| reported.is_news(*key)).count();
        assert_eq!(news, REPORTS_MAX - 3);
    }
}
