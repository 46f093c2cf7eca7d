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

#[cfg(test)]
mod tests {
    use super::*;

    /// Secrets with these names and algorithms.
    fn set(keys: &[(Option<&str>, &str)]) -> KeySet {
        let members = keys.iter().map(|(id, algorithm)| {
            let mut member = serde_json::json!({"kty": "oct", "k": "AQIDBAUGBwg", "alg": algorithm});
            if let Some(id) = id {
                member["kid"] = (*id).into();
            }
            member
        });
        let json = serde_json::json!({"keys": members.collect::<Vec<_>>()}).to_string();
        Key::parse_set(json.as_bytes(), &[], true).expect("keys").into()
    }

    #[test]
    fn the_name_of_a_key_chooses_among_suitable_keys() {
        let set = set(&[(Some("a"), "HS256"), (Some("b"), "HS256"), (None, "HS256"), (Some("c"), "HS384")]);
        let names = |algorithm, id| {
            set.candidates(algorithm, id).iter().map(|key| key.id().unwrap_or("-")).collect::<Vec<_>>()
        };
        assert_eq!(names(Algorithm::HS256, Some("b")), ["b"]);
        assert_eq!(names(Algorithm::HS256, None), ["a", "b", "-"]);
        assert_eq!(names(Algorithm::HS256, Some("c")), ["a", "b", "-"], "its key is for another algorithm");
        assert_eq!(names(Algorithm::HS384, Some("a")), ["c"]);
        assert_eq!(names(Algorithm::HS512, Some("a")), [""; 0]);
    }

    #[test]
    fn a_key_without_a_name_may_have_any() {
        let named = set(&[(Some("a"), "HS256")]);
        assert!(named.may_hold("a") && !named.may_hold("b"));
        assert!(set(&[(Some("a"), "HS256"), (None, "HS256")]).may_hold("b"));
        assert_eq!(format!("{named:?}"), "[Key { id: Some(\"a\"), algorithms: [HS256], .. }]");
    }
}
