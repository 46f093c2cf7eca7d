//! What the fuzz target of this crate asserts: it takes any input and panics if a rule does not hold for it.
//!
//! Compiled by `cargo fuzz` and by this crate's tests only, which give it the committed corpus.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{Key, Signer};

/// A name, which is also that of a folder of the corpus, and what is given its inputs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate.
pub const TARGETS: &[Target] = &[("key", key)];

const PUBLIC: [&str; 3] = ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"];
const PRIVATE: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

/// Any text is a key or is refused: as it is, as the content of a PEM document, and as a JWK Set. A document never becomes
/// a shared secret, and a set becomes one only if that is asked for.
pub fn key(input: &[u8]) {
    if let Ok(key) = Key::parse(input, &[]) {
        let _ = (key.weakness(), format!("{key:?}"));
    }
    if let Ok(signer) = Signer::parse(input, None) {
        assert_eq!(signer.sign("JWT", "{}").split('.').count(), 3);
    }
    for label in PUBLIC {
        assert!(!Key::parse(document(label, input), &[]).is_ok_and(|key| key.is_secret()));
    }
    for label in PRIVATE {
        let document = document(label, input);
        assert!(Key::parse(&document, &[]).is_err());
        if let Ok(signer) = Signer::parse(&document, None) {
            assert!(!signer.algorithm().as_str().starts_with("HS"));
        }
    }
    if let Ok(keys) = Key::parse_set(input, &[], false) {
        assert!(!keys.is_empty() && keys.iter().all(|key| !key.is_secret()));
    }
    if let Ok(keys) = Key::parse_set(input, &[], true) {
        assert!(Key::is_set_secret(input) || keys.iter().all(|key| !key.is_secret()));
    }
}

fn document(label: &str, content: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(content))
}

#[cfg(test)]
#[path = "../../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{TARGETS, corpus::every_input_passes};

    #[test]
    fn every_input_of_the_corpus_passes() {
        every_input_passes(TARGETS);
    }
}
