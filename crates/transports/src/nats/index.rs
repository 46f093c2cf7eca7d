//! What the log holds, by place: which sequences are updates, which are subscription events, which readers still see,
//! and where each id stands. It takes 32 to 64 bytes for each entry that readers see, and eight for each that only
//! followers see.
//!
//! Every node builds the same from the same stream, so that all trim alike without asking each other.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use petasos_hub::transport::{Position, Trimmed};
use petasos_protocol::update::Origin;

/// The header with an update's id, percent-encoded: the index is made from it without the update.
pub(super) const ID: &str = "Petasos-Id";
/// The header by which the server takes an event once only.
pub(super) const EVENT: &str = "Nats-Msg-Id";

/// The index of one log. See the module.
pub(super) struct Index {
    pub(super) epoch: u64,
    /// Everything up to here is in the index.
    pub(super) through: u64,
    /// The id of the last message, if it has one.
    pub(super) head_id: Option<String>,
    updates: Kept,
    events: Kept,
    /// Where what hashes to a key stands, among what readers see. The key is this process's, so that nobody can make
    /// many ids that hash alike.
    places: HashMap<u64, Places>,
    hasher: RandomState,
}

/// The entries of one origin, oldest first.
struct Kept {
    entries: VecDeque<Place>,
    entries_max: usize,
    /// What readers see no longer and the server still has.
    margin: VecDeque<u64>,
    margin_max: usize,
    /// The newest that readers see no longer.
    trimmed: u64,
    /// The newest that the server has no longer.
    lost: u64,
    /// Whether any has been seen at all.
    seen: bool,
}

#[derive(Clone, Copy)]
struct Place {
    seq: u64,
    id: u64,
    /// The key of the id under which the server takes an event once only.
    event_id: Option<u64>,
}

/// Nearly every id is given once, and there are as many as entries.
#[expect(clippy::box_collection, reason = "a rare case must not make the usual one larger")]
enum Places {
    Once(u64),
    /// Earliest first, at least one.
    Often(Box<VecDeque<u64>>),
}

impl Index {
    pub(super) fn new(epoch: u64, updates_max: usize, events_max: usize, per_subject: u64) -> Self {
        let kept = |entries_max: usize| Kept {
            entries: VecDeque::new(),
            entries_max,
            margin: VecDeque::new(),
            margin_max: usize::try_from(per_subject).unwrap_or(usize::MAX).saturating_sub(entries_max),
            trimmed: 0,
            lost: 0,
            seen: false,
        };
        Self {
            epoch,
            through: 0,
            head_id: None,
            updates: kept(updates_max),
            events: kept(events_max),
            places: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Adds the message that follows in the stream. `event_id`: the id under which the server takes an event once only.
    pub(super) fn push(&mut self, seq: u64, origin: Origin, id: Option<String>, event_id: Option<&str>) {
        self.skip_to(seq - 1);
        let place = Place {
            seq,
            id: self.key(id.as_deref().unwrap_or_default(), false),
            event_id: event_id.map(|event_id| self.key(event_id, true)),
        };
        for key in [Some(place.id), place.event_id].into_iter().flatten() {
            self.places.entry(key).and_modify(|places| places.add(seq)).or_insert(Places::Once(seq));
        }
        let kept = self.kept(origin);
        kept.seen = true;
        kept.entries.push_back(place);
        while self.kept(origin).entries.len() > self.kept(origin).entries_max {
            self.trim_first(origin);
        }
        self.through = seq;
        self.head_id = id;
    }

    /// There is nothing up to `seq` that has not been pushed. What is missing may have been of either origin, unless
    /// the server still has an older one of that origin, as it removes the oldest first.
    pub(super) fn skip_to(&mut self, seq: u64) {
        if seq > self.through {
            for kept in [&mut self.updates, &mut self.events] {
                if !kept.seen {
                    (kept.trimmed, kept.lost) = (seq, seq);
                }
            }
            self.through = seq;
        }
    }

    /// The server has nothing before `first` any more: an operator has removed it.
    pub(super) fn removed_before(&mut self, first: u64) {
        for origin in [Origin::Publisher, Origin::Hub] {
            let mut is_removed = false;
            while self.kept(origin).entries.front().is_some_and(|place| place.seq < first) {
                self.trim_first(origin);
                is_removed = true;
            }
            if is_removed {
                self.kept(origin).lose_trimmed();
            }
        }
    }

    /// Messages up to `seq` that were not pushed are removed. Each may have been an update that a follower has not seen.
    pub(super) fn lost_through(&mut self, seq: u64) {
        if seq > self.through {
            for kept in [&mut self.updates, &mut self.events] {
                kept.lost = kept.lost.max(seq);
            }
            self.skip_to(seq);
        }
    }

    /// An operator has removed a message that readers still saw: older messages count as trimmed with it.
    pub(super) fn removed(&mut self, seq: u64) {
        for origin in [Origin::Publisher, Origin::Hub] {
            let entries = &self.kept(origin).entries;
            if entries.binary_search_by_key(&seq, |place| place.seq).is_ok() {
                while self.kept(origin).entries.front().is_some_and(|place| place.seq <= seq) {
                    self.trim_first(origin);
                }
                self.kept(origin).lose_trimmed();
            }
        }
    }

    fn trim_first(&mut self, origin: Origin) {
        let kept = self.kept(origin);
        let Some(place) = kept.entries.pop_front() else { return };
        kept.trimmed = place.seq;
        kept.margin.push_back(place.seq);
        while kept.margin.len() > kept.margin_max {
            kept.lost = kept.margin.pop_front().unwrap_or(kept.lost);
        }
        for key in [Some(place.id), place.event_id].into_iter().flatten() {
            if self.places.get_mut(&key).is_some_and(|places| places.remove(place.seq)) {
                self.places.remove(&key);
            }
        }
    }

    fn kept(&mut self, origin: Origin) -> &mut Kept {
        match origin {
            Origin::Publisher => &mut self.updates,
            Origin::Hub => &mut self.events,
        }
    }

    /// Where an id may stand, earliest first: ids may hash alike.
    pub(super) fn places(&self, id: &str) -> Vec<u64> {
        match self.places.get(&self.key(id, false)) {
            None => Vec::new(),
            Some(Places::Once(seq)) => vec![*seq],
            Some(Places::Often(all)) => all.iter().copied().collect(),
        }
    }

    /// Whether readers see an event that was appended under that id.
    pub(super) fn has_event(&self, event_id: &str) -> bool {
        self.places.contains_key(&self.key(event_id, true))
    }

    /// At most `limit` sequences after `after` that readers see.
    pub(super) fn after(&self, after: u64, limit: usize) -> Vec<u64> {
        let mut updates = self.updates.after(after).peekable();
        let mut events = self.events.after(after).peekable();
        let mut sequences = Vec::new();
        while sequences.len() < limit {
            let next = match (updates.peek(), events.peek()) {
                (Some(update), Some(event)) if event < update => events.next(),
                (Some(_), _) => updates.next(),
                (None, _) => events.next(),
            };
            let Some(sequence) = next else { break };
            sequences.push(sequence);
        }
        sequences
    }

    pub(super) fn trimmed(&self) -> Trimmed {
        let at = |sequence| Position { epoch: self.epoch, sequence };
        Trimmed { updates: at(self.updates.trimmed), events: at(self.events.trimmed) }
    }

    pub(super) fn head(&self) -> Position {
        Position { epoch: self.epoch, sequence: self.through }
    }

    /// The newest update that the server has no longer.
    pub(super) fn updates_lost(&self) -> u64 {
        self.updates.lost
    }

    fn key(&self, text: &str, is_event_id: bool) -> u64 {
        self.hasher.hash_one((is_event_id, text))
    }
}

impl Kept {
    /// The server has removed everything that was trimmed: followers that have not read it have missed it.
    fn lose_trimmed(&mut self) {
        self.margin.clear();
        self.lost = self.trimmed;
    }

    fn after(&self, after: u64) -> impl Iterator<Item = u64> {
        let from = self.entries.partition_point(|place| place.seq <= after);
        self.entries.range(from..).map(|place| place.seq)
    }
}

impl Places {
    fn add(&mut self, seq: u64) {
        match self {
            Self::Once(first) => *self = Self::Often(Box::new(VecDeque::from([*first, seq]))),
            Self::Often(all) => all.push_back(seq),
        }
    }

    /// True: nothing is left.
    fn remove(&mut self, seq: u64) -> bool {
        match self {
            Self::Once(only) => *only == seq,
            Self::Often(all) => {
                if let Ok(at) = all.binary_search(&seq) {
                    all.remove(at);
                }
                all.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(index: &mut Index, seq: u64, origin: Origin) {
        index.push(seq, origin, Some(seq.to_string()), None);
    }

    #[test]
    fn each_origin_is_trimmed_apart() {
        let mut index = Index::new(7, 2, 1, 4);
        for seq in 1..=5 {
            push(&mut index, seq, if seq % 2 == 0 { Origin::Hub } else { Origin::Publisher });
        }
        assert_eq!(index.after(0, 10), [3, 4, 5]);
        assert_eq!((index.trimmed().updates.sequence, index.trimmed().events.sequence), (1, 2));
        assert_eq!((index.places("1"), index.places("3")), (vec![], vec![3]));
        assert_eq!(index.updates_lost(), 0);
        for seq in 6..=9 {
            push(&mut index, seq, Origin::Publisher);
        }
        assert_eq!((index.after(0, 10), index.updates_lost()), (vec![4, 8, 9], 5));
    }

    #[test]
    fn what_is_missing_at_the_start_counts_as_trimmed() {
        let mut index = Index::new(7, 10, 10, 20);
        push(&mut index, 5, Origin::Publisher);
        push(&mut index, 9, Origin::Publisher);
        assert_eq!((index.trimmed().updates.sequence, index.updates_lost()), (4, 4));
        assert_eq!(index.trimmed().events.sequence, 8);
        index.skip_to(12);
        assert_eq!((index.trimmed().updates.sequence, index.head().sequence), (4, 12));
    }

    #[test]
    fn what_an_operator_removes_counts_as_trimmed() {
        let mut index = Index::new(7, 10, 10, 20);
        for seq in 1..=6 {
            push(&mut index, seq, Origin::Publisher);
        }
        index.removed_before(3);
        assert_eq!((index.after(0, 10), index.trimmed().updates.sequence), (vec![3, 4, 5, 6], 2));
        assert_eq!(index.updates_lost(), 2);
        index.removed(4);
        assert_eq!((index.after(0, 10), index.trimmed().updates.sequence), (vec![5, 6], 4));
        index.lost_through(8);
        assert_eq!((index.updates_lost(), index.head().sequence), (8, 8));
        assert_eq!((index.after(0, 10), index.trimmed().updates.sequence), (vec![5, 6], 4));
    }

    #[test]
    fn ids_are_found_where_they_stand_first() {
        let mut index = Index::new(7, 2, 10, 20);
        for (seq, origin) in [(1, Origin::Publisher), (2, Origin::Hub), (3, Origin::Publisher)] {
            index.push(seq, origin, Some("id".to_owned()), Some("event"));
        }
        assert_eq!(index.places("id"), [1, 2, 3]);
        push(&mut index, 4, Origin::Publisher);
        assert_eq!(index.places("id"), [2, 3]);
        assert!(index.has_event("event") && !index.has_event("id") && index.places("event").is_empty());
    }
}
