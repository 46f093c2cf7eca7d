//! The distinct patterns of an index, found by what a topic begins with.
//!
//! Each pattern is filed under the hash of its literal prefix. A topic is hashed once for each length that prefixes have,
//! and only the patterns filed there are evaluated. So the hash decides which patterns are evaluated, never which match.
//! Patterns that share a prefix, or have none, cost a step each. The result is remembered for the topics looked up last.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
};

use petasos_protocol::{
    matcher::{LiteralPrefix, Matcher, comparable},
    topic::{Topic, Topics},
};
use slab::Slab;

use super::{
    memo::{Memo, PatternId},
    registration::Bucket,
};

/// Distinct patterns, each with the registrations for it.
#[derive(Default)]
pub(crate) struct Patterns {
    ids: HashMap<Matcher, PatternId>,
    filed: Slab<Filed>,
    by_text: Drawers,
    by_url: Drawers,
    /// Emptied whenever a pattern comes or goes. A further registration for a known pattern changes nothing in it.
    memo: RefCell<Memo>,
}

struct Filed {
    pattern: Matcher,
    bucket: Bucket,
    /// The others in its drawer, or [`NONE`].
    previous: PatternId,
    next: PatternId,
}

const NONE: PatternId = PatternId::MAX;

/// Prefixes to try and patterns to evaluate for one topic, from which on the outcome is remembered. Measured: a step
/// takes 10 to 100 ns, more if the pattern meets the topic; remembering takes 80 to 100 ns, and a topic that is known
/// 25 ns. With fewer steps it would save 0.1 µs where topics return, lose as much where none does, and take its room.
const STEPS_TO_REMEMBER_MIN: usize = 16;

impl Patterns {
    /// The registrations for a pattern. The pattern is filed if it is new.
    pub(crate) fn bucket(&mut self, pattern: &Matcher) -> &mut Bucket {
        let id = match self.ids.get(pattern) {
            Some(id) => *id,
            None => self.file(pattern),
        };
        &mut self.filed[id as usize].bucket
    }

    fn file(&mut self, pattern: &Matcher) -> PatternId {
        self.memo.get_mut().clear();
        let id = self.filed.vacant_key() as PatternId;
        let (drawers, prefix) = self.drawers(pattern);
        let next = drawers.put(&prefix, id);
        if let Some(next) = self.filed.get_mut(next as usize) {
            next.previous = id;
        }
        let bucket = Bucket::default();
        self.filed.insert(Filed { pattern: pattern.clone(), bucket, previous: NONE, next });
        self.ids.insert(pattern.clone(), id);
        id
    }

    /// Forgets a pattern if it has no registration any more.
    pub(crate) fn tidy(&mut self, pattern: &Matcher) {
        let Some(id) = self.ids.get(pattern).copied() else { return };
        if !self.filed[id as usize].bucket.is_empty() {
            return;
        }
        self.memo.get_mut().clear();
        self.ids.remove(pattern);
        let Filed { previous, next, .. } = self.filed.remove(id as usize);
        if let Some(next) = self.filed.get_mut(next as usize) {
            next.previous = previous;
        }
        if let Some(previous) = self.filed.get_mut(previous as usize) {
            previous.next = next;
        }
        let (drawers, prefix) = self.drawers(pattern);
        drawers.take(&prefix, id, next);
    }

    fn drawers<'a>(&mut self, pattern: &'a Matcher) -> (&mut Drawers, Cow<'a, str>) {
        match pattern.literal_prefix() {
            LiteralPrefix::Text(prefix) => (&mut self.by_text, prefix.into()),
            LiteralPrefix::Url(prefix) => (&mut self.by_url, prefix.into()),
        }
    }

    /// Calls `visit` with the bucket of each pattern that one of the topics meets, once.
    pub(crate) fn lookup(&self, topics: &Topics, mut visit: impl FnMut(&Bucket)) {
        if self.filed.is_empty() {
            return;
        }
        let mut found = Vec::new();
        for (number, topic) in topics.iter().enumerate() {
            self.find(topic, &mut found);
            if number > 0 {
                // At once, so that a hundred topics need no more room than all patterns.
                found.sort();
                found.dedup();
            }
        }
        for id in found {
            visit(&self.filed[id as usize].bucket);
        }
    }

    /// Adds the patterns that a topic meets.
    fn find(&self, topic: &Topic, found: &mut Vec<PatternId>) {
        let mut memo = self.memo.borrow_mut();
        if let Some(ids) = memo.ids(topic.as_str()) {
            return found.extend(ids);
        }
        let start = found.len();
        let steps = self.evaluate(topic, found);
        if steps >= STEPS_TO_REMEMBER_MIN {
            memo.remember(topic.as_str(), &found[start..]);
        }
    }

    /// The same without memory. Returns how many steps it took.
    fn evaluate(&self, topic: &Topic, found: &mut Vec<PatternId>) -> usize {
        let mut steps = 0;
        let mut evaluate = |first: PatternId| {
            let mut at = first;
            while let Some(Filed { pattern, next, .. }) = self.filed.get(at as usize) {
                if pattern.matches(topic) {
                    found.push(at);
                }
                steps += 1;
                at = *next;
            }
        };
        let mut tried = self.by_text.open(topic.as_str(), &mut evaluate);
        // The URL is resolved only for patterns that ask for it.
        if !self.by_url.is_empty()
            && let Some(url) = topic.url()
        {
            tried += self.by_url.open(&comparable(url), &mut evaluate);
        }
        steps + tried
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.filed.is_empty() && self.by_text.is_empty() && self.by_url.is_empty()
    }
}

/// The first pattern of each prefix; the others are linked to it.
///
/// Prefixes are not kept, only their keyed hashes: a hash that two share costs an evaluation, nothing else.
#[derive(Default)]
struct Drawers {
    keys: RandomState,
    first: HashMap<u64, PatternId, BuildHasherDefault<AlreadyHashed>>,
    /// How many patterns have a prefix of this length: at most `LiteralPrefix::BYTES_MAX` and one entries.
    lengths: BTreeMap<usize, u32>,
}

impl Drawers {
    /// Puts a pattern in front. Returns the one that was there.
    fn put(&mut self, prefix: &str, id: PatternId) -> PatternId {
        *self.lengths.entry(prefix.len()).or_default() += 1;
        self.first.insert(self.keys.hash_one(prefix), id).unwrap_or(NONE)
    }

    /// Takes a pattern out, after which `next` comes first if it was the first.
    fn take(&mut self, prefix: &str, id: PatternId, next: PatternId) {
        let hash = self.keys.hash_one(prefix);
        if self.first.get(&hash) == Some(&id) {
            match next {
                NONE => self.first.remove(&hash),
                next => self.first.insert(hash, next),
            };
        }
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Calls `found` with the first pattern of each prefix that the text has. Returns how many were tried.
    fn open(&self, text: &str, mut found: impl FnMut(PatternId)) -> usize {
        let mut tried = 0;
        for length in self.lengths.keys() {
            // `None`: shorter, or the length lies within a character.
            let Some(prefix) = text.get(..*length) else { continue };
            tried += 1;
            if let Some(first) = self.first.get(&self.keys.hash_one(prefix)) {
                found(*first);
            }
        }
        tried
    }

    fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

/// The keys are hashes, and keyed, already.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are integers")
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{Limits, matcher::MatcherType, topic::HubUrl};

    use super::*;

    fn patterns(matchers: impl IntoIterator<Item = Matcher>) -> Patterns {
        let mut patterns = Patterns::default();
        for (number, matcher) in matchers.into_iter().enumerate() {
            patterns.bucket(&matcher).push(number as u32);
        }
        patterns
    }

    fn template(text: &str) -> Matcher {
        Matcher::selector(text, &Limits::default()).expect("valid")
    }

    fn url_pattern(text: &str) -> Matcher {
        Matcher::parse(MatcherType::UrlPattern, text, &HubUrl::default(), &Limits::default()).expect("valid")
    }

    fn topic(text: &str) -> Topic {
        Topic::unchecked(text, &HubUrl::default())
    }

    #[test]
    fn patterns_whose_prefixes_differ_are_not_evaluated() {
        let numbers = 0..5_000;
        let templates = numbers.clone().map(|number| template(&format!("/books/{number}/{{id}}")));
        let absolute = numbers.clone().map(|number| url_pattern(&format!("http://h/books/{number}/:id")));
        let relative = numbers.map(|number| url_pattern(&format!("/books/{number}/:id")));
        let patterns = patterns(templates.chain(absolute).chain(relative));
        for (text, expected) in [
            ("/books/1234/1", vec![1_234, 11_234]),
            ("http://h/books/1234/1", vec![6_234]),
            ("http://localhost/books/1234/1", vec![11_234]),
            ("http://h/films/1234/1", vec![]),
            ("not a URL: http://[", vec![]),
        ] {
            let mut found = Vec::new();
            let steps = patterns.evaluate(&topic(text), &mut found);
            found.sort();
            assert_eq!(found, expected, "{text}");
            // Numbers have up to four digits, and URLs two prefixes before them.
            assert!(steps <= 4 + 2 * 4 + 2, "{text} took {steps} steps");
        }
    }

    #[test]
    fn url_patterns_are_found_by_the_url_however_the_topic_is_written() {
        let patterns = patterns([url_pattern("HTTP://H/é/:id"), template("http://h/é/{id}")]);
        for (text, expected) in [("HTTP://me@H:80/x/../%C3%A9/1", 0), ("custom:é", NONE), ("http://[", NONE)]
        {
            let mut found = Vec::new();
            patterns.find(&topic(text), &mut found);
            assert_eq!(found.first().copied().unwrap_or(NONE), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_that_several_topics_meet_is_visited_once() {
        let patterns = patterns([template("/a/{id}"), template("/b/{id}")]);
        let texts = ["/a/1", "/b/1", "/a/2"];
        let topics = Topics::parse(texts, &HubUrl::default(), &Limits::default()).expect("valid");
        let mut visited: Vec<u32> = Vec::new();
        patterns.lookup(&topics, |bucket| visited.extend(bucket));
        assert_eq!(visited, [0, 1]);
    }

    #[test]
    fn cheap_lookups_are_not_remembered() {
        let many = |count: usize| patterns((0..count).map(|number| template(&format!("{{id}}/{number}"))));
        for (count, remembered) in [(STEPS_TO_REMEMBER_MIN - 2, false), (STEPS_TO_REMEMBER_MIN, true)] {
            let patterns = many(count);
            patterns.find(&topic("a/1"), &mut Vec::new());
            assert_eq!(patterns.memo.borrow_mut().ids("a/1"), remembered.then_some(&[1][..]), "{count}");
        }
    }

    #[test]
    fn a_pattern_takes_little_room() {
        assert!(size_of::<Filed>() <= 56);
    }
}
