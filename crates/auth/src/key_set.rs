//! The keys of one issuer for one role.

use std::{fmt, ops::Deref};

use crate::{Algorithm, Key};

/// Keys that were configured or fetched together. Two sets are the same only if they are one allocation: what a set has
/// verified is remembered under its address.
pub(crate) struct KeySet(Box<[Key]>);

impl From<Vec<Key>> for KeySet {
    fn from(keys: Vec<Key>) -> Self {
        Self(keys.into())
    }
}

impl Deref for KeySet {
    type Target = [Key];

    fn deref(&self) -> &[Key] {
        &self.0
    }
}

impl KeySet {
    /// The keys that may have made a signature with that algorithm. A token can name its key. The name is a hint: if a
    /// suitable key has it, only those keys count, and else all suitable keys.
    pub(crate) fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> Vec<&Key> {
        let mut candidates: Vec<_> = self.iter().filter(|key| key.allows(algorithm)).collect();
        if id.is_some() && candidates.iter().any(|key| key.id() == id) {
            candidates.retain(|key| key.id() == id);
        }
        candidates
    }

    /// Whether the set may hold the key that a token names: a key without a name may be that key.
    pub(crate) fn may_hold(&self, id: &str) -> bool {
        self.iter().any(|key| key.id().is_none_or(|name| name == id))
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}
