//! Which patterns matched a topic when it was looked up last.
//!
//! It holds no decision about a subscriber: whether a pattern matches a topic depends on the two alone. The key is the text
//! of one topic. A hub has one URL, so the text says all that patterns look at.

use std::collections::HashMap;

/// A pattern's slot in its index.
pub(crate) type PatternId = u32;

/// The outcomes of lookups, for as long as the patterns stay the same. Bounded; cleared when it is full.
#[derive(Default)]
pub(crate) struct Memo {
    ids: HashMap<Box<str>, Box<[PatternId]>>,
    bytes: usize,
}

/// Topics. More than a hub publishes to within a second or two; a lookup that is not known costs what it always did.
const TOPICS_MAX: usize = 4_096;

/// Bytes of all outcomes: [`TOPICS_MAX`] of 32 bytes each besides [`OUTCOME_BYTES`]. A shard has two indexes, which
/// makes 1 MiB for each core.
const BYTES_MAX: usize = 512 * 1024;

/// What an outcome takes beside its topic and its patterns: its place in a table that is half full, and the headers of
/// two allocations.
const OUTCOME_BYTES: usize = 96;

impl Memo {
    /// The patterns of a topic, if it is known.
    pub(crate) fn ids(&self, topic: &str) -> Option<&[PatternId]> {
        self.ids.get(topic).map(|ids| &**ids)
    }

    /// Keeps the patterns of a topic that is not known, unless they alone take an eighth of what all may take: where so
    /// many are found, finding them is not what takes long.
    pub(crate) fn remember(&mut self, topic: &str, ids: &[PatternId]) {
        let bytes = OUTCOME_BYTES + topic.len() + size_of_val(ids);
        if bytes > BYTES_MAX / 8 {
            return;
        }
        if self.ids.len() == TOPICS_MAX || self.bytes + bytes > BYTES_MAX {
            self.clear();
        }
        self.bytes += bytes;
        self.ids.insert(topic.into(), ids.into());
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(memo: &Memo) -> usize {
        memo.ids.iter().map(|(topic, ids)| OUTCOME_BYTES + topic.len() + size_of_val(&**ids)).sum()
    }

    #[test]
    fn what_is_kept_is_bounded_in_topics_and_bytes() {
        for patterns in [0, 1, 100, 10_000, 100_000] {
            let mut memo = Memo::default();
            let ids: Vec<_> = (0..patterns).collect();
            for number in 0..2 * TOPICS_MAX {
                let topic = number.to_string();
                memo.remember(&topic, &ids);
                assert_eq!(memo.ids(&topic), (patterns < 100_000).then_some(&*ids));
                assert!(memo.ids.len() <= TOPICS_MAX && memo.bytes <= BYTES_MAX);
            }
            assert_eq!(memo.bytes, bytes(&memo));
            memo.clear();
            assert_eq!((memo.ids("1"), memo.bytes), (None, 0));
        }
    }
}
