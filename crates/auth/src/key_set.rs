//! The keys of one role of one issuer, and the tokens that they have verified: a crowd that comes with one token, or
//! comes back with its tokens, costs few signatures and shares its grants.
//!
//! What is remembered lies beside the keys that verified it and is gone with them: when an issuer's keys are fetched
//! again, there is a new set, which knows nothing. Only what a token says is remembered, never that it may be used now:
//! its dates are compared with the clock each time. Only valid tokens are remembered, so that nobody else can fill the
//! memory, and what they may take of it is bounded.
//!
//! Tokens are known by their SHA-256 digests, as signatures know what they sign: no two that anybody can find have one
//! digest, and no token is kept. Nothing here shows a token.

use std::{
    collections::HashMap,
    fmt, mem,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use petasos_protocol::{
    Limits,
    token::{Role, TokenError},
    topic::HubUrl,
};

use crate::{Issuers, Key, Verified};

/// Keys that verify together.
pub(crate) struct KeySet {
    keys: Box<[Key]>,
    remembered: Mutex<Remembered>,
}

/// A token and what it is presented for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RoleToken {
    role: Role,
    digest: [u8; SHA256_OUTPUT_LEN],
}

/// What is known of a valid token.
pub(crate) struct Known {
    pub(crate) verified: Verified,
    /// Before this, it is not valid; in seconds since the Unix epoch.
    pub(crate) not_before: Option<f64>,
    /// Which key it names.
    pub(crate) key_id: Option<Box<str>>,
    /// Whose it is: the place among those that are trusted.
    pub(crate) issuer: usize,
}

/// All that the meaning of a token depends on, beside its keys.
#[derive(Default)]
struct Terms {
    hub: HubUrl,
    limits: Limits,
    resource: String,
    compat: bool,
    prefixes: bool,
    trusted: Vec<String>,
}

/// Two generations: tokens that are used move to the recent one, and when that is full, the earlier one is forgotten
/// and the recent one becomes the earlier. What is in use stays, and no order has to be kept.
#[derive(Default)]
struct Remembered {
    recent: Generation,
    earlier: Generation,
    terms: Terms,
}

#[derive(Default)]
struct Generation {
    tokens: HashMap<RoleToken, Arc<Known>>,
    bytes: usize,
}

/// A crowd that reconnects in the minutes after a network has failed has about as many tokens; more are verified again.
const ENTRIES_MAX: usize = 16_384;

/// As many tokens with what they usually grant, and some that grant much. A set for each role and issuer may take this,
/// next to the kilobyte of each of their streams.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// An entry without its texts: two allocations, its place in the map, and empty grants.
const ENTRY_BYTES: usize = 320;

impl From<Vec<Key>> for KeySet {
    fn from(keys: Vec<Key>) -> Self {
        Self { keys: keys.into(), remembered: Mutex::default() }
    }
}

impl Deref for KeySet {
    type Target = [Key];

    fn deref(&self) -> &[Key] {
        &self.keys
    }
}

impl KeySet {
    /// What these keys once verified for the same hub and the same issuers.
    pub(crate) fn recall(
        &self,
        token: &RoleToken,
        issuers: &Issuers,
        hub: &HubUrl,
        limits: &Limits,
    ) -> Option<Arc<Known>> {
        // Whatever is forgotten is freed when the lock has been released: thousands of entries, at times.
        let (found, _forgotten) = {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if !remembered.terms.are_of(issuers, hub, limits) {
                return None;
            }
            remembered.recall(token)?
        };
        Some(found)
    }

    /// Keeps what these keys have verified.
    pub(crate) fn remember(
        &self,
        token: RoleToken,
        known: Arc<Known>,
        issuers: &Issuers,
        hub: &HubUrl,
        limits: &Limits,
    ) {
        let _forgotten = {
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            let former = match remembered.terms.are_of(issuers, hub, limits) {
                true => Remembered::default(),
                false => {
                    let terms = Terms::of(issuers, hub, limits);
                    mem::replace(&mut *remembered, Remembered { terms, ..Remembered::default() })
                }
            };
            (former, remembered.insert(token, known))
        };
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        let remembered = self.remembered.lock().expect("no panic");
        remembered.recent.tokens.len() + remembered.earlier.tokens.len()
    }
}

impl RoleToken {
    pub(crate) fn new(role: Role, token: &str) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self { role, digest: bytes }
    }
}

impl Known {
    /// What the token says, if its dates allow that: the rules and their order are those of
    /// [`Claims::check_lifetime`](petasos_protocol::token::Claims::check_lifetime).
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

    /// About what it takes, as if nothing in it were shared.
    fn bytes(&self) -> usize {
        let key_id = self.key_id.as_ref().map_or(0, |id| id.len());
        ENTRY_BYTES + key_id + self.verified.grants.bytes()
    }
}

impl Terms {
    fn of(issuers: &Issuers, hub: &HubUrl, limits: &Limits) -> Self {
        let Issuers { trusted, resource, compat, prefixes } = issuers;
        Self {
            hub: hub.clone(),
            limits: limits.clone(),
            resource: resource.clone(),
            compat: *compat,
            prefixes: *prefixes,
            trusted: trusted.iter().map(|issuer| issuer.id.clone()).collect(),
        }
    }

    fn are_of(&self, issuers: &Issuers, hub: &HubUrl, limits: &Limits) -> bool {
        let Issuers { trusted, resource, compat, prefixes } = issuers;
        (self.compat, self.prefixes) == (*compat, *prefixes)
            && self.resource == *resource
            && self.trusted.iter().eq(trusted.iter().map(|issuer| &issuer.id))
            && self.hub == *hub
            && self.limits == *limits
    }
}

impl Remembered {
    /// What is known of a token, and what is forgotten instead.
    fn recall(&mut self, token: &RoleToken) -> Option<(Arc<Known>, Generation)> {
        if let Some(known) = self.recent.tokens.get(token) {
            return Some((known.clone(), Generation::default()));
        }
        let known = self.earlier.take(token)?;
        let forgotten = self.insert(*token, known.clone());
        Some((known, forgotten))
    }

    /// Adds a token, and gives back what is forgotten instead.
    fn insert(&mut self, token: RoleToken, known: Arc<Known>) -> Generation {
        let bytes = known.bytes();
        let mut forgotten = Generation::default();
        if bytes > BYTES_MAX / 2 {
            return forgotten;
        }
        // Somebody else has verified it meanwhile.
        if self.recent.tokens.contains_key(&token) {
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
    fn take(&mut self, token: &RoleToken) -> Option<Arc<Known>> {
        let known = self.tokens.remove(token)?;
        self.bytes -= known.bytes();
        Some(known)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{Dialect, grants::Grants, matcher::Matcher};

    use super::*;

    fn token(number: usize) -> RoleToken {
        RoleToken::new(Role::Subscriber, &number.to_string())
    }

    fn granting(topics: &[&str]) -> Arc<Known> {
        let parse = |topic: &&str| Matcher::selector(topic, &Limits::default()).expect("valid");
        let grants = Grants { subscribe: topics.iter().map(parse).collect(), ..Grants::default() };
        let verified = Verified { grants: Arc::new(grants), expiry: None, dialect: Dialect::Legacy };
        Arc::new(Known { verified, not_before: None, key_id: None, issuer: 0 })
    }

    /// Counted, not believed.
    fn size(remembered: &Remembered) -> (usize, usize) {
        let Remembered { recent, earlier, .. } = remembered;
        for generation in [recent, earlier] {
            let bytes: usize = generation.tokens.values().map(|known| known.bytes()).sum();
            assert_eq!(generation.bytes, bytes);
        }
        (recent.tokens.len() + earlier.tokens.len(), recent.bytes + earlier.bytes)
    }

    #[test]
    fn a_flood_of_tokens_is_bounded_and_what_is_used_stays() {
        let topic = "t".repeat(1_000);
        for topics in [&[][..], &[&*topic; 100]] {
            let mut remembered = Remembered::default();
            let known = granting(topics);
            let room = (ENTRIES_MAX / 2).min(BYTES_MAX / 2 / known.bytes());
            remembered.insert(token(0), known.clone());
            for number in 1..=5 * room {
                remembered.insert(token(number), known.clone());
                if number % (room / 4) == 0 {
                    assert!(remembered.recall(&token(0)).is_some(), "in use, {number}");
                    let (tokens, bytes) = size(&remembered);
                    assert!(tokens <= ENTRIES_MAX && bytes <= BYTES_MAX, "{tokens} {bytes}");
                }
            }
            // Not by keeping nothing.
            for number in 4 * room + 2..=5 * room {
                assert!(remembered.recall(&token(number)).is_some(), "{number}");
            }
            assert!(remembered.recall(&token(1)).is_none());
            size(&remembered);
        }
    }

    #[test]
    fn a_token_that_grants_more_than_there_is_room_for_is_not_kept() {
        let mut remembered = Remembered::default();
        remembered.insert(token(1), granting(&["a"]));
        let topic = "t".repeat(4_096);
        remembered.insert(token(2), granting(&vec![&*topic; BYTES_MAX / 2 / 4_096]));
        assert!(remembered.recall(&token(2)).is_none());
        assert!(remembered.recall(&token(1)).is_some());
    }

    #[test]
    fn a_token_is_kept_once() {
        let mut remembered = Remembered::default();
        for _ in 0..3 {
            remembered.insert(token(1), granting(&[]));
        }
        assert_eq!(size(&remembered).0, 1);
        assert!(remembered.recall(&RoleToken::new(Role::Publisher, "1")).is_none());
    }
}
