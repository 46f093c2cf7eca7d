//! Keys in every spelling in which people give them by mistake: none becomes a shared secret. The keys were made with
//! OpenSSL and OpenSSH for these tests.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use petasos_auth::{Key, KeyError, KeyForm, Signer};
use proptest::prelude::*;
use spellings::{base32, body, hex, spellings};

#[path = "keys/spellings.rs"]
mod spellings;

/// PEM documents, each with what it is without its armour.
const DOCUMENTS: [(&str, &str, KeyForm); 21] = [
    ("RSA", include_str!("keys/rsa.pub.pem"), KeyForm::Public),
    ("RSA, PKCS#1", include_str!("keys/rsa.pkcs1.pem"), KeyForm::Public),
    ("RSA, 1024 bits", include_str!("keys/weak.pub.pem"), KeyForm::Public),
    ("P-256", include_str!("keys/p256.pub.pem"), KeyForm::Public),
    ("P-384", include_str!("keys/p384.pub.pem"), KeyForm::Public),
    ("P-521", include_str!("keys/p521.pub.pem"), KeyForm::Public),
    ("Ed25519", include_str!("keys/ed25519.pub.pem"), KeyForm::Public),
    ("Ed448", include_str!("keys/disguised/ed448.pub.pem"), KeyForm::Public),
    ("X25519", include_str!("keys/disguised/x25519.pub.pem"), KeyForm::Public),
    ("DSA", include_str!("keys/disguised/dsa.pub.pem"), KeyForm::Public),
    ("certificate", include_str!("keys/p256.crt.pem"), KeyForm::Certificate),
    ("request", include_str!("keys/disguised/p256.csr.pem"), KeyForm::Certificate),
    ("PKCS#7", include_str!("keys/disguised/p256.p7b.pem"), KeyForm::Certificate),
    ("private, PKCS#8", include_str!("keys/p256.pem"), KeyForm::Private),
    ("private, Ed25519", include_str!("keys/ed25519.pem"), KeyForm::Private),
    ("private, RSA", include_str!("keys/rsa.pem"), KeyForm::Private),
    ("private, PKCS#1", include_str!("keys/disguised/rsa.private.pkcs1.pem"), KeyForm::Private),
    ("private, SEC1", include_str!("keys/disguised/p256.sec1.pem"), KeyForm::Private),
    ("private, SEC1, short", include_str!("keys/disguised/p256.sec1.short.pem"), KeyForm::Private),
    ("private, encrypted", include_str!("keys/disguised/encrypted.pem"), KeyForm::Private),
    ("private, OpenSSH", include_str!("keys/disguised/ed25519.ssh"), KeyForm::Private),
];

/// The reason why a text is refused as a secret. The message quotes no part of it.
fn refused(name: &str, secret: &[u8]) -> KeyForm {
    let Err(error @ KeyError::Form(form)) = Key::parse(secret, &[]) else { panic!("{name}: not refused") };
    let signer = Signer::parse(secret, None).err();
    assert_eq!(signer, Some(error), "{name}");
    let text = error.to_string();
    assert!(text.contains("give"), "{name}: {text}");
    let is_of_key = |part: &&[u8]| part.iter().all(u8::is_ascii_alphanumeric);
    let shown = |part: &[u8]| text.as_bytes().windows(part.len()).any(|window| window == part);
    assert!(!secret.windows(12).filter(is_of_key).any(shown), "{name}: {text}");
    let set = format!(r#"{{"keys":[{{"kty":"oct","k":"{}"}}]}}"#, URL_SAFE_NO_PAD.encode(secret));
    assert_eq!(Key::parse_set(set.as_bytes(), &[], true).err(), Some(error), "{name}");
    form
}

#[test]
fn no_spelling_of_a_key_is_a_shared_secret() {
    for (key, pem, form) in DOCUMENTS {
        let all = spellings(pem);
        assert!(all.len() > 40);
        for (name, secret) in all {
            let found = refused(&format!("{key}: {name}"), &secret);
            let is_encoded = found == KeyForm::Pem && (name.contains("document") || name.contains("UTF-16"));
            assert!(found == form || is_encoded, "{key}: {name}: {found:?}");
        }
    }
}

#[test]
fn no_key_of_ssh_and_no_jwk_is_a_shared_secret() {
    for line in [
        include_str!("keys/disguised/rsa.ssh.pub"),
        include_str!("keys/disguised/p256.ssh.pub"),
        include_str!("keys/disguised/ed25519.ssh.pub"),
    ] {
        let (name, digits) = line.trim().split_once(' ').expect("a name");
        for text in
            [line.to_owned(), format!("{name} {digits} me@here"), digits.to_owned(), format!("\"{line}\"")]
        {
            assert_eq!(refused(name, text.as_bytes()), KeyForm::Ssh);
            assert_eq!(refused(name, STANDARD.encode(text).as_bytes()), KeyForm::Ssh);
        }
        assert_eq!(refused(name, &STANDARD.decode(digits).expect("base64")), KeyForm::Ssh);
    }
    let ssh2 = include_str!("keys/disguised/rsa.rfc4716.pub");
    assert_eq!(refused("RFC 4716", ssh2.as_bytes()), KeyForm::Ssh);
    assert_eq!(refused("RFC 4716", body(ssh2)[1..].join("\n").as_bytes()), KeyForm::Ssh);
    let set = include_str!("keys/set.json");
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let pretty = jwk.replace(',', ",\n  ").replace(':', " : ");
    let python = jwk.replace('"', "'");
    for text in [set, jwk, &pretty, &python, &format!("{jwk:?}"), &jwk.replace('"', "\\\""), r#"{"keys":[]}"#]
    {
        assert_eq!(refused("JWK", text.as_bytes()), KeyForm::Jwk, "{text}");
        assert_eq!(refused("JWK", STANDARD.encode(text).as_bytes()), KeyForm::Jwk);
        assert_eq!(refused("JWK", URL_SAFE_NO_PAD.encode(text).as_bytes()), KeyForm::Jwk);
    }
    let p12 = include_str!("keys/disguised/p256.p12.txt");
    assert_eq!(refused("PKCS#12", p12.as_bytes()), KeyForm::Private);
    let xml = "<RSAKeyValue><Modulus>AQAB</Modulus><Exponent>AQAB</Exponent></RSAKeyValue>";
    assert_eq!(refused("XML", xml.as_bytes()), KeyForm::Public);
}

#[test]
fn a_point_of_a_curve_is_no_shared_secret() {
    for (pem, bytes) in [
        (include_str!("keys/p256.pub.pem"), 65),
        (include_str!("keys/p384.pub.pem"), 97),
        (include_str!("keys/p521.pub.pem"), 133),
    ] {
        let der = STANDARD.decode(body(pem).concat()).expect("base64");
        let point = &der[der.len() - bytes..];
        for secret in
            [point.to_owned(), point[1..].to_owned(), hex(point).into(), STANDARD.encode(point).into()]
        {
            assert_eq!(refused("a point", &secret), KeyForm::Public);
        }
        let mut other = point.to_owned();
        other[bytes - 1] ^= 1;
        assert!(Key::parse(&other, &[]).is_ok(), "not on the curve");
    }
}

/// Line breaks get lost or written out in environment variables.
#[test]
fn a_pem_document_is_read_however_its_lines_are_broken() {
    for (private, public) in [
        (include_str!("keys/rsa.pem"), include_str!("keys/rsa.pub.pem")),
        (include_str!("keys/p521.pem"), include_str!("keys/p521.pub.pem")),
        (include_str!("keys/ed25519.pem"), include_str!("keys/ed25519.pub.pem")),
    ] {
        let spelled = |pem: &str| {
            let written = pem.replace('\n', "\\n");
            [
                pem.to_owned(),
                pem.replace('\n', "\r\n"),
                written.clone(),
                pem.replace('\n', "\\r\\n"),
                format!("\"{written}\""),
                format!("'{written}'"),
                written.replace('\\', "\\\\"),
                written.replace("\\n", "\\n\n"),
                pem.replace('\n', " "),
                pem.replace('\n', ""),
                format!("\u{FEFF} # a comment\n{}", pem.replace('\n', "\n  ")),
            ]
        };
        for (number, text) in spelled(public).iter().enumerate() {
            let key = Key::parse(text, &[]).unwrap_or_else(|error| panic!("{number}: {error}"));
            assert!(!key.is_secret());
        }
        for (number, text) in spelled(private).iter().enumerate() {
            assert_eq!(Key::parse(text, &[]).err(), Some(KeyError::Pem), "{number}");
            assert!(
                Signer::parse(text, None).is_ok_and(|signer| !signer.algorithm().as_str().starts_with("HS"))
            );
        }
    }
    let encoded = STANDARD.encode(include_str!("keys/rsa.pub.pem"));
    let text = Key::parse(encoded, &[]).expect_err("encoded once more").to_string();
    assert!(text.contains("encoded once more: give its text as it is"), "{text}");
}

#[test]
fn secrets_that_look_a_little_like_keys_are_secrets() {
    for secret in [
        "ssh-is-not-what-this-secret-is-for",
        "sk-live-51HG2kLkJ3hG8sdf7sdf98sdf7s9d8f7s9d8f",
        "MIIBIjANwhich-is-how-most-public-keys-begin",
        "AAAAB3NzaC1",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "{\"a\":\"json text as a secret, with a kty in it\"}",
        "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7fX0.vhMwOaN5K68BTIhWokMLOeOJO4EPfT64brd8euJOA4M",
        "\\\\\\backslashes\\x and \\u and % and %zz",
        "a passphrase of several words, with a füll stöp.",
    ] {
        assert!(Key::parse(secret, &[]).is_ok_and(|key| key.is_secret()), "{secret}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Keys come from files and from other servers: damaged ones are errors.
    #[test]
    fn damaged_keys_are_errors_and_never_panic(
        document in 0..DOCUMENTS.len(), at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(),
    ) {
        let (_, pem, _) = DOCUMENTS[document];
        let mut der = STANDARD.decode(body(pem).concat()).expect("base64");
        let at = at.index(der.len());
        der[at] = byte;
        der.truncate(der.len() - cut.index(der.len().min(64)));
        for label in ["PUBLIC KEY", "CERTIFICATE", "RSA PUBLIC KEY", "PRIVATE KEY", "RSA PRIVATE KEY"] {
            let pem = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(&der));
            if let Ok(key) = Key::parse(&pem, &[]) {
                prop_assert!(!key.is_secret() && !label.contains("PRIVATE"));
            }
            if let Ok(signer) = Signer::parse(&pem, None) {
                prop_assert_eq!(signer.sign("JWT", "{}").split('.').count(), 3);
            }
        }
        let (n, k) = (URL_SAFE_NO_PAD.encode(&der), URL_SAFE_NO_PAD.encode(&der[..der.len().min(40)]));
        let set = format!(
            r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"AQAB"}},{{"kty":"EC","crv":"P-256","x":"{k}","y":"{k}"}}]}}"#
        );
        let _ = Key::parse_set(set.as_bytes(), &[], false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// The check must never refuse a secret that somebody has generated.
    #[test]
    fn random_secrets_are_secrets(bytes in prop::collection::vec(any::<u8>(), 16..160), text in "[ -~]{8,80}") {
        let base64 = STANDARD.encode(&bytes);
        let colons: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // A sequence in DER by its first bytes.
        let sequence = [&[0x30, u8::try_from(bytes.len()).expect("short")], &bytes[..]].concat();
        for secret in [
            hex(&bytes).into(),
            hex(&bytes).to_uppercase().into(),
            base32(&bytes).into(),
            base32(&bytes).trim_end_matches('=').to_lowercase().into(),
            colons.join(":").into(),
            colons.join("-").into(),
            URL_SAFE_NO_PAD.encode(&bytes).into(),
            STANDARD.encode(&base64).into(),
            format!("M{base64}").into(),
            format!("{base64}\n").into(),
            base64.into_bytes(),
            sequence,
            text.into_bytes(),
            bytes,
        ] {
            prop_assert!(Key::parse(&secret, &[]).is_ok_and(|key| key.is_secret()));
        }
    }
}
