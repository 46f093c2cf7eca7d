//! Every kind of key and every algorithm, from signing to the grants of a verified token. The keys were made with
//! OpenSSL for these tests.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use petasos_auth::{Algorithm, Issuer, Issuers, Key, KeyError, Signer, Verifier, Weakness};
use petasos_protocol::{
    Limits,
    token::{Role, TokenError},
    topic::HubUrl,
};

/// Key pairs by the names of their files, each with the algorithms that it is for.
const PAIRS: [(&str, &str, &[Algorithm]); 5] = [
    (
        include_str!("keys/rsa.pem"),
        include_str!("keys/rsa.pub.pem"),
        &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
    ),
    (include_str!("keys/p256.pem"), include_str!("keys/p256.pub.pem"), &[Algorithm::ES256]),
    (include_str!("keys/p384.pem"), include_str!("keys/p384.pub.pem"), &[Algorithm::ES384]),
    (include_str!("keys/p521.pem"), include_str!("keys/p521.pub.pem"), &[Algorithm::ES512]),
    (include_str!("keys/ed25519.pem"), include_str!("keys/ed25519.pub.pem"), &[Algorithm::EdDSA]),
];

const SECRET: &str = "secret-secret-secret-secret-secret";
const SET: &[u8] = include_bytes!("keys/set.json");
const CLAIMS: &str = r#"{"iss":"https://a.example","aud":"https://hub.example/m","exp":2000}"#;

fn issuers(keys: Vec<Key>) -> Issuers {
    Issuers {
        trusted: vec![Issuer {
            id: "https://a.example".to_owned(),
            publisher: keys.into(),
            subscriber: vec![].into(),
            authorization_server: false,
        }],
        resource: "https://hub.example/m".to_owned(),
        compat: false,
        prefixes: false,
    }
}

fn verify(keys: Vec<Key>, token: &str) -> Result<(), TokenError> {
    verify_with(&issuers(keys), token).map(|expiry| assert_eq!(expiry, Some(2_000.0)))
}

/// When a token expires that may publish.
fn verify_with(issuers: &Issuers, token: &str) -> Result<Option<f64>, TokenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let verifier = Verifier::new(issuers.clone(), HubUrl::default(), Limits::default());
    let verified = runtime.block_on(verifier.verify(token, Role::Publisher, 1_000.0));
    verified.map(|verified| verified.expiry)
}

fn sign(private: &str, algorithm: Algorithm) -> String {
    Signer::parse(private, Some(algorithm)).expect("a private key").sign("at+jwt", CLAIMS)
}

#[test]
fn every_algorithm_signs_and_verifies_with_its_own_key_only() {
    let mut tokens = Vec::new();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        tokens.push((SECRET, SECRET, algorithm, sign(SECRET, algorithm)));
    }
    for (private, public, algorithms) in PAIRS {
        for algorithm in algorithms {
            tokens.push((private, public, *algorithm, sign(private, *algorithm)));
        }
    }
    assert_eq!(tokens.len(), Algorithm::ALL.len());
    for (_, public, algorithm, _) in &tokens {
        let key = Key::parse(public, &[*algorithm]).expect("a key");
        for (_, other, signed_with, token) in &tokens {
            let verified = verify(vec![key.clone()], token);
            assert_eq!(
                verified.is_ok(),
                public == other && algorithm == signed_with,
                "{algorithm} {signed_with}"
            );
        }
    }
}

#[test]
fn a_changed_token_does_not_verify() {
    for (private, public, algorithms) in PAIRS {
        let key = Key::parse(public, &[]).expect("a key");
        let token = sign(private, algorithms[0]);
        assert_eq!(verify(vec![key.clone()], &token), Ok(()));
        let (input, signature) = token.rsplit_once('.').expect("a signature");
        let (header, claims) = input.split_once('.').expect("claims");
        let more = CLAIMS.replace("2000", "9000");
        let other = Signer::parse(private, None).expect("a private key").sign("at+jwt", &more);
        let changed = other.split('.').nth(1).expect("claims");
        for bad in [
            format!("{header}.{changed}.{signature}"),
            format!("{header}.{claims}."),
            format!("{header}.{claims}.{}", &signature[4..]),
            format!("{header}.{claims}.AAAA"),
        ] {
            let refused = verify(vec![key.clone()], &bad);
            assert!(matches!(refused, Err(TokenError::Signature { .. })), "{refused:?}");
        }
    }
}

/// A public key is public: whoever takes it for a shared secret can be told anything by anyone.
#[test]
fn a_public_key_is_no_shared_secret() {
    for (_, public, _) in PAIRS {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(Key::parse(public, &[algorithm]).err(), Some(KeyError::Mismatch));
        }
        let key = Key::parse(public, &[]).expect("a key");
        assert!(Signer::parse(format!(" {public}"), None).is_err());
        let token = forge(public.as_bytes());
        assert!(matches!(verify(vec![key], &token), Err(TokenError::Algorithm { .. })));
    }
}

/// A token that an attacker signs with a public text as if it were a secret.
fn forge(text: &[u8]) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", encode(br#"{"alg":"HS256","typ":"at+jwt"}"#), encode(CLAIMS.as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, text), input.as_bytes());
    format!("{input}.{}", encode(signature.as_ref()))
}

/// However the file begins or is written: no public key becomes a secret that everybody knows.
#[test]
fn a_public_key_in_any_form_is_no_shared_secret() {
    for (private, public, algorithms) in PAIRS {
        for text in [
            format!("\u{FEFF}{public}"),
            format!("# the key of the shop\nBag Attributes\n{public}"),
            format!("\"{public}\""),
            format!("\n\t{public}\n"),
        ] {
            let key = Key::parse(&text, &[]).expect("the key in it");
            assert_eq!(verify(vec![key.clone()], &sign(private, algorithms[0])), Ok(()));
            assert!(matches!(verify(vec![key], &forge(text.as_bytes())), Err(TokenError::Algorithm { .. })));
        }
    }
    assert!(Key::parse(b"0\x82 a secret that begins like DER", &[]).is_ok());
}

#[test]
fn certificates_and_pkcs1_are_read_and_private_and_weak_keys_refused() {
    let (private, _, _) = PAIRS[1];
    let certificate = Key::parse(include_str!("keys/p256.crt.pem"), &[]).expect("a certificate");
    assert_eq!(verify(vec![certificate], &sign(private, Algorithm::ES256)), Ok(()));
    let pkcs1 = Key::parse(include_str!("keys/rsa.pkcs1.pem"), &[]).expect("PKCS#1");
    assert_eq!(verify(vec![pkcs1], &sign(PAIRS[0].0, Algorithm::PS384)), Ok(()));
    assert_eq!(Key::parse(include_str!("keys/weak.pub.pem"), &[]).err(), Some(KeyError::Weak));
    for (private, ..) in PAIRS {
        assert_eq!(Key::parse(private, &[]).err(), Some(KeyError::Pem));
    }
    for broken in
        ["-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n", "\n-----BEGIN PUBLIC KEY-----"]
    {
        assert_eq!(Key::parse(broken, &[]).err(), Some(KeyError::Pem));
    }
    assert_eq!(Key::parse("", &[]).err(), Some(KeyError::Empty));
    assert_eq!(Key::parse("secret", &[Algorithm::EdDSA]).err(), Some(KeyError::Mismatch));
}

/// What the key is for decides; the header only names.
#[test]
fn a_token_cannot_choose_its_algorithm() {
    let key = Key::parse(SECRET, &[]).expect("a key");
    let token = sign(SECRET, Algorithm::HS256);
    let claims = token.split('.').nth(1).expect("claims");
    for name in ["none", "None", "NONE", "RS256", "hs256", "HS1", "HS256 "] {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}","typ":"at+jwt"}}"#));
        for signature in ["", "c2ln"] {
            let refused = verify(vec![key.clone()], &format!("{header}.{claims}.{signature}"));
            assert!(matches!(refused, Err(TokenError::Algorithm { .. })), "{name}: {refused:?}");
        }
    }
    let other = Signer::parse("another secret", None).expect("a secret").sign("at+jwt", CLAIMS);
    assert!(matches!(verify(vec![key], &other), Err(TokenError::Signature { .. })));
}

/// Made by another library: PyJWT signed it for the example of the reference hub's documentation.
#[test]
fn the_token_of_another_library_verifies() {
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdfX0.\
                 vhMwOaN5K68BTIhWokMLOeOJO4EPfT64brd8euJOA4M";
    let verified = |compat, secret| {
        let mut issuers = issuers(vec![Key::parse(secret, &[]).expect("a key")]);
        issuers.compat = compat;
        verify_with(&issuers, token)
    };
    assert_eq!(verified(true, "!ChangeMe!"), Ok(None));
    assert!(matches!(verified(true, "!ChangeMe"), Err(TokenError::Signature { .. })));
    assert!(matches!(verified(false, "!ChangeMe!"), Err(TokenError::NotAccessToken { .. })));
}

/// An ID token of a login service is no access token, even where 0.x is served.
#[test]
fn a_0_x_token_of_a_further_issuer_is_made_for_hubs() {
    let mut issuers = issuers(vec![Key::parse("first", &[]).expect("a key")]);
    let second = Issuer {
        id: "https://login.example".to_owned(),
        publisher: vec![Key::parse("second", &[]).expect("a key")].into(),
        subscriber: vec![].into(),
        authorization_server: false,
    };
    (issuers.compat, issuers.trusted) = (true, vec![issuers.trusted.remove(0), second]);
    let verified = |secret: &str, claims: &str| {
        verify_with(&issuers, &Signer::parse(secret, None).expect("a key").sign("JWT", claims))
    };
    assert_eq!(verified("first", r#"{"sub":"someone"}"#), Ok(None));
    assert_eq!(verified("second", r#"{"iss":"https://login.example","mercure":{}}"#), Ok(None));
    let id_token = verified("second", r#"{"iss":"https://login.example","sub":"someone","aud":"shop"}"#);
    assert!(matches!(id_token, Err(TokenError::Claim { .. })), "{id_token:?}");
}

#[test]
fn a_short_secret_is_known_to_be_one() {
    let weakness =
        |secret: &str, algorithms: &[Algorithm]| Key::parse(secret, algorithms).expect("a key").weakness();
    let short = |bytes_min| Some(Weakness::Short { bytes_min });
    assert_eq!(weakness(&"x".repeat(31), &[]), short(32));
    assert_eq!(weakness(&"x".repeat(32), &[]), None);
    assert_eq!(weakness(&"x".repeat(47), &[Algorithm::HS512, Algorithm::HS384]), short(48));
    assert_eq!(weakness(&"x".repeat(63), &[Algorithm::HS512]), short(64));
    assert_eq!(weakness(&"x".repeat(64), &[Algorithm::HS512]), None);
    assert_eq!(weakness(PAIRS[4].1, &[]), None);
    assert_eq!(weakness("!ChangeMe!", &[]), Some(Weakness::Published));
    assert!(Weakness::Published.to_string().contains("openssl rand -hex 32"));
}

/// The same for the members of a set, each by its own algorithm.
#[test]
fn a_short_secret_in_a_set_is_known_to_be_one() {
    let keys =
        [("HS256", 32), ("HS256", 31), ("HS384", 47), ("HS512", 64), ("HS512", 63)].map(|(name, bytes)| {
            format!(r#"{{"kty":"oct","alg":"{name}","k":"{}"}}"#, URL_SAFE_NO_PAD.encode("x".repeat(bytes)))
        });
    let set = format!(r#"{{"keys":[{}]}}"#, keys.join(","));
    let keys = Key::parse_set(set.as_bytes(), &[], true).expect("keys");
    let found: Vec<_> = keys.iter().map(Key::weakness).collect();
    let short = |bytes_min| Some(Weakness::Short { bytes_min });
    assert_eq!(found, [None, short(32), short(48), None, short(64)]);
}

#[test]
fn a_set_gives_the_keys_that_can_verify_and_leaves_out_the_others() {
    let keys = |algorithms: &[Algorithm], secrets| Key::parse_set(SET, algorithms, secrets).expect("keys");
    // Not the weak, the encrypting, the bogus, the unknown and the empty one.
    assert_eq!((keys(&[], false).len(), keys(&[], true).len()), (5, 6));
    for (private, _, algorithms) in PAIRS {
        for algorithm in algorithms {
            assert_eq!(verify(keys(&[], false), &sign(private, *algorithm)), Ok(()), "{algorithm}");
        }
    }
    assert_eq!(verify(keys(&[], true), &sign(SECRET, Algorithm::HS256)), Ok(()));
    let refused = verify(keys(&[], false), &sign(SECRET, Algorithm::HS256));
    assert!(matches!(refused, Err(TokenError::Algorithm { .. })));
    let only = keys(&[Algorithm::ES256], true);
    assert_eq!(only.len(), 1);
    assert!(verify(only, &sign(PAIRS[0].0, Algorithm::RS256)).is_err());
    assert_eq!(Key::parse_set(SET, &[Algorithm::HS256], false).err(), Some(KeyError::SetUnusable));
    for wrong in [&b"[]"[..], b"{}", b"{\"keys\":1}", b"x"] {
        assert_eq!(Key::parse_set(wrong, &[], true).err(), Some(KeyError::Set));
    }
}

#[test]
fn the_name_of_a_key_is_a_hint_and_no_more() {
    let keys = || Key::parse_set(SET, &[], false).expect("keys");
    for id in ["rsa", "p256", "no-such-key"] {
        let signer = Signer::parse(PAIRS[0].0, None).expect("a private key").with_id(id);
        assert_eq!(verify(keys(), &signer.sign("at+jwt", CLAIMS)), Ok(()), "{id}");
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let key = Key::parse(SECRET, &[]).expect("a key");
    let signer = Signer::parse(SECRET, None).expect("a key");
    assert!(!format!("{key:?}{signer:?}").contains("secret"));
}
