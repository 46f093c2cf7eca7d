//! The tokens that a verifier has accepted lately. Many subscribers often come with one token, or come back with theirs
//! after a network has failed: they then cost few signatures and share their grants.
//!
//! An entry says what a token means and which keys have verified it. It never says that the token may be used now: the
//! verifier compares its dates with the clock, and its keys with those in force, each time. Only valid tokens are
//! remembered, so invalid tokens cannot fill the memory.
//!
//! A token is known by its SHA-256 digest. Nobody can find two tokens with one digest, and no token is kept.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use petasos_protocol::token::TokenError;

use crate::{key_set::KeySet, verified::Verified};

/// The accepted tokens of one role.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Remembered>);

/// The SHA-256 digest of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenDigest([u8; SHA256_OUTPUT_LEN]);

/// What is known of an accepted token.
pub(crate) struct Known {
    pub(crate) verified: Verified,
    /// When the token becomes valid, in seconds since the Unix epoch.
    pub(crate) not_before: Option<f64>,
    /// The name of the key, as the token gives it.
    pub(crate) key_id: Option<Box<str>>,
    /// The index of the issuer among the trusted ones.
    pub(crate) issuer: usize,
    /// The keys that have verified the token. Weak: keys that were replaced are freed, and their address is not used again
    /// while an entry has it.
    pub(crate) keys: Weak<KeySet>,
}

/// Two generations of entries. A token that is used moves to the recent generation. When that is full, it becomes the
/// earlier one, and the former earlier one is dropped. So tokens in use stay, and no order has to be kept.
#[derive(Default)]
struct Remembered {
    recent: Generation,
    earlier: Generation,
}

#[derive(Default)]
struct Generation {
    tokens: HashMap<TokenDigest, Arc<Known>>,
    bytes: usize,
}

/// Tokens of both generations: about as many as come back in the minutes after a network has failed.
const ENTRIES_MAX: usize = 16_384;

/// Bytes of both generations: room for that many usual tokens, and for some that grant much.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// An entry without its texts: two allocations, its slot in the map, and empty grants.
const ENTRY_BYTES: usize = 320;

impl Memory {
    /// What is known of a token.
    pub(crate) fn recall(&self, token: &TokenDigest) -> Option<Arc<Known>> {
        // Forgotten entries may be thousands. They are freed after the lock has been released.
        let (found, _forgotten) = self.0.lock().unwrap_or_else(PoisonError::into_inner).recall(token)?;
        Some(found)
    }

    /// Remembers an accepted token, in place of what was known of it.
    pub(crate) fn insert(&self, token: TokenDigest, known: Arc<Known>) {
        let _forgotten = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(token, known);
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let remembered = self.0.lock().expect("no panic");
        remembered.recent.tokens.len() + remembered.earlier.tokens.len()
    }
}

impl TokenDigest {
    pub(crate) fn new(token: &str) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl Known {
    /// What the token says, if its dates allow its use at the time `now`, in seconds since the Unix epoch. The rules and
    /// their order are those of [`Claims::check_lifetime`](petasos_protocol::token::Claims::check_lifetime).
    ///
    /// # Errors
    /// [`TokenError::NotYetValid`], [`TokenError::Expired`].
    pub(crate) fn at(&self, now: f64) -> Result<Verified, TokenError> {
        if self.not_before.is_some_and(|not_before| now < not_before) {
            return Err(TokenError::NotYetValid);
        }
        if self.verified.expiry.is_some_and(|expiry| now >= expiry) {
            return Err(TokenError::Expired);
        }
        Ok(self.verified.clone())
    }

    /// Whether these keys have verified the token.
    pub(crate) fn is_verified_by(&self, keys: &Arc<KeySet>) -> bool {
        self.keys.as_ptr() == Arc::as_ptr(keys)
    }

    /// The memory that the entry takes, in bytes, as if it shared nothing.
    fn bytes(&self) -> usize {
        let key_id = self.key_id.as_ref().map_or(0, |id| id.len());
        ENTRY_BYTES + key_id + self.verified.grants.bytes()
    }
}

impl Remembered {
    /// What is known of a token, and the entries that are forgotten because it moved.
    fn recall(&mut self, token: &TokenDigest) -> Option<(Arc<Known>, Generation)> {
        if let Some(known) = self.recent.tokens.get(token) {
            return Some((Arc::clone(known), Generation::default()));
        }
        let known = self.earlier.take(token)?;
        let forgotten = self.insert(*token, Arc::clone(&known));
        Some((known, forgotten))
    }

    /// Adds or replaces an entry, and returns the entries that are forgotten for it.
    fn insert(&mut self, token: TokenDigest, known: Arc<Known>) -> Generation {
        let bytes = known.bytes();
        let mut forgotten = Generation::default();
        self.recent.take(&token);
        self.earlier.take(&token);
        if bytes > BYTES_MAX / 2 {
            return forgotten;
        }
        if self.recent.tokens.len() >= ENTRIES_MAX / 2 || self.recent.bytes + bytes > BYTES_MAX / 2 {
            forgotten = mem::replace(&mut self.earlier, mem::take(&mut self.recent));
        }
        self.recent.bytes += bytes;
        self.recent.tokens.insert(token, known);
        forgotten
    }
}

impl Generation {
    fn take(&mut self, token: &TokenDigest) -> Option<Arc<Known>> {
        let known = self.tokens.remove(token)?;
        self.bytes -= known.bytes();
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{Dialect, Limits, matcher::Matcher, token::Grants};

    use super::*;
    use crate::{
        Algorithm, Basis,
        basis::{Proof, Terms},
    };

    fn token(number: usize) -> TokenDigest {
        TokenDigest::new(&number.to_string())
    }

    fn granting(topics: &[&str]) -> Arc<Known> {
        let parse = |topic: &&str| Matcher::selector(topic, &Limits::default()).expect("valid");
        let grants = Grants { subscribe: topics.iter().map(parse).collect(), ..Grants::default() };
        let basis = Basis::new(Terms::LegacyOfFirst, Proof::Remote(""), Algorithm::HS256);
        let verified = Verified { grants: Arc::new(grants), expiry: None, dialect: Dialect::Legacy, basis };
        Arc::new(Known { verified, not_before: None, key_id: None, issuer: 0, keys: Weak::new() })
    }

    /// The number of entries and their bytes, counted anew.
    fn size(remembered: &Remembered) -> (usize, usize) {
        let Remembered { recent, earlier } = remembered;
        for generation in [recent, earlier] {
            let bytes: usize = generation.tokens.values().map(|known| known.bytes()).sum();
            assert_eq!(generation.bytes, bytes);
        }
        (recent.tokens.len() + earlier.tokens.len(), recent.bytes + earlier.bytes)
    }

    #[test]
    fn a_flood_of_tokens_is_bounded_and_tokens_in_use_stay() {
        let topic = "t".repeat(1_000);
        for topics in [&[][..], &[&*topic; 100]] {
            let mut remembered = Remembered::default();
            let known = granting(topics);
            let room = (ENTRIES_MAX / 2).min(BYTES_MAX / 2 / known.bytes());
            remembered.insert(token(0), Arc::clone(&known));
            for number in 1..=5 * room {
                remembered.insert(token(number), Arc::clone(&known));
                if number % (room / 4) == 0 {
                    assert!(remembered.recall(&token(0)).is_some(), "in use, {number}");
                    let (tokens, bytes) = size(&remembered);
                    assert!(tokens <= ENTRIES_MAX && bytes <= BYTES_MAX, "{tokens} {bytes}");
                }
            }
            // The bound is not kept by remembering nothing.
            for number in 4 * room + 2..=5 * room {
                assert!(remembered.recall(&token(number)).is_some(), "{number}");
            }
            assert!(remembered.recall(&token(1)).is_none());
            size(&remembered);
        }
    }

    #[test]
    fn a_generation_is_full_at_half_of_the_entries() {
        let mut remembered = Remembered::default();
        let known = granting(&[]);
        for number in 0..ENTRIES_MAX / 2 {
            assert!(remembered.insert(token(number), Arc::clone(&known)).tokens.is_empty());
        }
        assert!(remembered.earlier.tokens.is_empty(), "the recent generation has room for all of these");
        remembered.insert(token(ENTRIES_MAX), known);
        assert_eq!(remembered.earlier.tokens.len(), ENTRIES_MAX / 2);
        assert_eq!(remembered.recent.tokens.len(), 1);
    }

    #[test]
    fn a_generation_is_full_at_half_of_the_bytes() {
        let mut remembered = Remembered::default();
        let topic = "t".repeat(4_096);
        let known = granting(&[&*topic; 64]);
        let room = BYTES_MAX / 2 / known.bytes();
        for number in 0..room {
            remembered.insert(token(number), Arc::clone(&known));
        }
        assert!(remembered.earlier.tokens.is_empty() && remembered.recent.bytes == room * known.bytes());
        remembered.insert(token(room), known);
        assert_eq!((remembered.earlier.tokens.len(), remembered.recent.tokens.len()), (room, 1));
    }

    #[test]
    fn an_entry_is_counted_with_its_texts() {
        let mut named = Arc::into_inner(granting(&[])).expect("the only one");
        named.key_id = Some("a key".into());
        let empty = granting(&[]).bytes();
        assert_eq!(named.bytes(), empty + 5);
        assert!(empty >= ENTRY_BYTES);
        assert!(granting(&["a topic"]).bytes() > empty);
    }

    /// An entry of exactly so many bytes.
    fn sized(bytes: usize) -> Arc<Known> {
        let mut known = Arc::into_inner(granting(&[])).expect("the only one");
        known.key_id = Some("k".repeat(bytes - known.bytes()).into());
        assert_eq!(known.bytes(), bytes);
        Arc::new(known)
    }

    #[test]
    fn a_token_that_takes_more_than_a_generation_is_not_kept() {
        let mut remembered = Remembered::default();
        remembered.insert(token(1), granting(&["a"]));
        remembered.insert(token(2), sized(BYTES_MAX / 2 + 1));
        assert!(remembered.recall(&token(2)).is_none());
        assert!(remembered.recall(&token(1)).is_some());
        remembered.insert(token(3), sized(BYTES_MAX / 2));
        assert!(remembered.recall(&token(3)).is_some(), "a whole generation");
        size(&remembered);
    }

    #[test]
    fn a_token_is_kept_once_with_what_is_known_last() {
        let mut remembered = Remembered::default();
        for topics in [&["a"][..], &["a", "b"], &["c"]] {
            remembered.insert(token(1), granting(topics));
            assert_eq!(size(&remembered).0, 1);
            let (known, _) = remembered.recall(&token(1)).expect("kept");
            assert_eq!(known.verified.grants.subscribe.len(), topics.len());
        }
        // Also where the former entry is in the earlier generation.
        remembered.earlier = mem::take(&mut remembered.recent);
        remembered.insert(token(1), granting(&["a", "b"]));
        assert_eq!(size(&remembered).0, 1);
        assert_eq!(remembered.recall(&token(1)).expect("kept").0.verified.grants.subscribe.len(), 2);
    }

    #[test]
    fn keys_that_were_replaced_are_freed() {
        let keys = Arc::new(KeySet::from(Vec::new()));
        let mut known = Arc::into_inner(granting(&[])).expect("the only one");
        known.keys = Arc::downgrade(&keys);
        assert!(known.is_verified_by(&keys));
        assert!(!known.is_verified_by(&Arc::new(KeySet::from(Vec::new()))));
        drop(keys);
        assert_eq!(known.keys.strong_count(), 0);
    }
}
