//! Any text is a key or is refused: as it is, as the content of a PEM document, and as a JWK Set. A document never becomes
//! a shared secret, and a set becomes one only if that is asked for.
#![no_main]

use base64::{Engine, engine::general_purpose::STANDARD};
use libfuzzer_sys::fuzz_target;
use petasos_auth::{Key, Signer};

const PUBLIC: [&str; 3] = ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"];
const PRIVATE: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

fuzz_target!(|input: &[u8]| {
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
});

fn document(label: &str, content: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(content))
}
