//! Detects keys of another kind that are given as a shared secret.
//!
//! Everybody may know a public key. As a shared secret, it would let everybody sign tokens. So the text is decoded in
//! every usual encoding, several deep, and a key that is found is refused. No other part of the project knows these
//! formats; the Python package asks here, too.
//!
//! The decision rests on structure alone: nested lengths that fit, and an algorithm's identifier or numbers of the
//! right size in the right place. A random secret has such a structure with a probability below 2^-45 for each way to
//! read it. Keys without a structure are not found: the 32 bytes of an Ed25519 or X25519 key, and a compressed point of
//! a curve.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    ParsedPublicKey,
};

use crate::{
    der::{BIT_STRING, Element, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE},
    encoding::{
        from_array, from_base32, from_base64, from_escapes, from_hex, from_latin1, from_percent, from_utf16,
    },
};

/// The kind of key that was given as a shared secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// A public key in DER, or its numbers.
    Public,
    /// A certificate, or a request for one.
    Certificate,
    /// A private key of any form.
    Private,
    /// A public key as SSH writes it.
    Ssh,
    /// A JWK or a JWK Set.
    Jwk,
    /// A PEM document that is encoded once more.
    Pem,
}

impl fmt::Display for KeyForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => {
                "this is a public key and no secret, since everybody may know it: give it in PEM, with its lines \
                 \"-----BEGIN PUBLIC KEY-----\" and \"-----END PUBLIC KEY-----\""
            }
            Self::Certificate => {
                "this is a certificate and no secret, since everybody may know it: give it in PEM, with its lines \
                 \"-----BEGIN CERTIFICATE-----\" and \"-----END CERTIFICATE-----\""
            }
            Self::Private => {
                "this is a private key and no shared secret: give the public key that belongs to it in PEM (openssl \
                 pkey -pubout); the private key in PEM signs tokens (petasos token mint --signing-key-file)"
            }
            Self::Ssh => {
                "this is a key in the form of SSH and no secret: give the public key in PEM (ssh-keygen -e -m PKCS8 -f \
                 KEY.pub)"
            }
            Self::Jwk => {
                "this is a key in the form of JWK and no secret: give the public key in PEM, or to petasos the file of \
                 a JWK Set (publisher_jwks, subscriber_jwks)"
            }
            Self::Pem => {
                "this is a PEM document that is encoded once more: give its text as it is, from \"-----BEGIN\" to the \
                 end"
            }
        })
    }
}

/// The kind of the key that a text is, holds or decodes to. `None`: the text may be a secret.
pub(crate) fn find(secret: &[u8]) -> Option<KeyForm> {
    search(&secret[..secret.len().min(BYTES_MAX)], 0)
}

/// Bytes of a text that are searched: the largest keys and certificate chains fit, and no secret is longer.
const BYTES_MAX: usize = 64 * 1024;

/// Encodings within each other: escapes in quotes, base64 in base64, PEM in UTF-16. Nobody nests more by mistake.
const DEPTH_MAX: usize = 5;

fn search(bytes: &[u8], depth: usize) -> Option<KeyForm> {
    if let Some(form) =
        binary(bytes).or_else(|| binary(bytes.trim_ascii())).or_else(|| point(bytes)).or_else(|| text(bytes))
    {
        return Some(form);
    }
    if depth == DEPTH_MAX {
        return None;
    }
    let plain =
        [from_utf16(bytes), from_latin1(bytes), from_percent(bytes), from_escapes(bytes), from_array(bytes)];
    let deeper = |inner: &[u8]| search(inner, depth + 1);
    plain.iter().flatten().find_map(|inner| deeper(inner)).or_else(|| {
        let separates_hex = |byte: &u8| separates_lines(byte) || b":,-".contains(byte);
        in_runs(bytes, u8::is_ascii_hexdigit, separates_hex, |run| deeper(&from_hex(run)?))
            .or_else(|| in_runs(bytes, is_base64, separates_lines, |run| in_base64(run, deeper)))
            .or_else(|| in_runs(bytes, is_base32, separates_lines, |run| deeper(&from_base32(run)?)))
    })
}

/// Gives each run of an alphabet to `look`: first those of the text as it is, then those of the text without
/// separators, in case the run was broken into lines.
fn in_runs(
    bytes: &[u8],
    is_digit: fn(&u8) -> bool,
    is_separator: fn(&u8) -> bool,
    mut look: impl FnMut(&[u8]) -> Option<KeyForm>,
) -> Option<KeyForm> {
    let mut in_text = |text: &[u8]| {
        let mut runs = text.split(|byte| !is_digit(byte)).filter(|run| run.len() >= RUN_MIN);
        runs.find_map(&mut look)
    };
    let joined: Vec<u8> = bytes.iter().copied().filter(|byte| !is_separator(byte)).collect();
    in_text(bytes).or_else(|| if joined.len() == bytes.len() { None } else { in_text(&joined) })
}

/// The shortest run that is looked at: shorter than the shortest key in base64, which is an SSH line cut off after its
/// name.
const RUN_MIN: usize = 12;

fn separates_lines(byte: &u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'\\".contains(byte)
}

fn is_base64(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_".contains(byte)
}

/// A key in binary form that begins anywhere in a run of base64 digits, or a key in the text that the whole run decodes
/// to.
fn in_base64(run: &[u8], deeper: impl Fn(&[u8]) -> Option<KeyForm>) -> Option<KeyForm> {
    // A sequence in DER, a length below 256 in SSH's form, "openssh-key-v1".
    let begins = |at: &usize| {
        let rest = &run[*at..];
        rest.starts_with(b"M") || rest.starts_with(b"AAAA") || rest.starts_with(b"b3BlbnNzaC1r")
    };
    if let Some(form) = (0..run.len()).filter(begins).find_map(|at| binary(&from_base64(&run[at..]))) {
        return Some(form);
    }
    // A word in front of the run, without a separator, shifts the digits.
    (0..4.min(run.len())).find_map(|at| {
        let inner = from_base64(&run[at..]);
        let sample = &inner[..inner.len().min(TEXT_SAMPLE)];
        // Text in UTF-16 has zeros; the word in front decodes to some bytes that are no text.
        let is_text = |byte: &&u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace() || **byte == 0;
        let is_text = 4 * sample.iter().filter(is_text).count() >= 3 * sample.len();
        if at == 0 || is_text { deeper(&inner) } else { None }
    })
}

/// Bytes that are examined to decide whether the rest is text.
const TEXT_SAMPLE: usize = 32;

fn is_base32(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(byte)
}

/// The kind of key that a text names in words.
fn text(bytes: &[u8]) -> Option<KeyForm> {
    let holds = |part: &str| holds(bytes, part.as_bytes());
    if holds("-----BEGIN") || holds("---- BEGIN SSH2") || holds("PuTTY-User-Key-File") {
        return Some(match () {
            () if holds("PRIVATE KEY") || holds("PuTTY") => KeyForm::Private,
            () if holds("SSH2") => KeyForm::Ssh,
            () => KeyForm::Pem,
        });
    }
    let words: Vec<_> = bytes.split(|byte| byte.is_ascii_whitespace() || b"\"'".contains(byte)).collect();
    if words.windows(2).any(|pair| is_ssh_name(pair[0]) && pair[1].starts_with(b"AAAA")) {
        return Some(KeyForm::Ssh);
    }
    if holds("<RSAKeyValue") || holds("<Modulus>") {
        return Some(KeyForm::Public);
    }
    let is_mark = |byte: &u8| byte.is_ascii_whitespace() || b"\"'\\".contains(byte);
    let bare: Vec<u8> = bytes.iter().copied().filter(|byte| !is_mark(byte)).collect();
    let members = ["kty:RSA", "kty:EC", "kty:OKP", "kty:oct", "kty:AKP", "{keys:["];
    members.iter().any(|member| self::holds(&bare, member.as_bytes())).then_some(KeyForm::Jwk)
}

pub(crate) fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn is_ssh_name(name: &[u8]) -> bool {
    const NAMES: [&str; 6] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "rsa-sha2-", "x509v3-"];
    NAMES.iter().any(|known| name.starts_with(known.as_bytes()))
}

/// The kind of key in binary form that the bytes begin with.
fn binary(bytes: &[u8]) -> Option<KeyForm> {
    if bytes.starts_with(b"openssh-key-v1\0") {
        return Some(KeyForm::Private);
    }
    if let [0, 0, 0, length, rest @ ..] = bytes {
        return rest.get(..usize::from(*length)).filter(|name| is_ssh_name(name)).map(|_| KeyForm::Ssh);
    }
    der(bytes)
}

/// A point of a curve that the algorithms use, with or without its first byte. Its structure is that it lies on the
/// curve.
fn point(bytes: &[u8]) -> Option<KeyForm> {
    let on_curve = |curve, point: &[u8]| ParsedPublicKey::new(curve, point).is_ok();
    let found = match (bytes.len(), bytes.first()) {
        (65, Some(4)) => {
            on_curve(&ECDSA_P256_SHA256_FIXED, bytes) || on_curve(&ECDSA_P256K1_SHA256_FIXED, bytes)
        }
        (97, Some(4)) => on_curve(&ECDSA_P384_SHA384_FIXED, bytes),
        (133, Some(4)) => on_curve(&ECDSA_P521_SHA512_FIXED, bytes),
        (64 | 96 | 132, _) => return point(&[&[4], bytes].concat()),
        _ => false,
    };
    found.then_some(KeyForm::Public)
}

/// The first bytes of `1.2.840.113549.1`, the arc of the PKCS standards.
const PKCS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01];

/// Whether an element is complete, except for up to four bytes at its end that look like white space and were trimmed.
fn is_complete(element: &Element<'_>) -> bool {
    element.missing <= TRIMMED_MAX
}

/// Bytes that may be missing at the end of a key: more than four in a row look like white space only by chance.
const TRIMMED_MAX: usize = 4;

/// The smallest modulus in use: 512 bits.
const MODULUS_BYTES_MIN: usize = 64;

/// The kind of key of a sequence with a known shape. Bytes behind the sequence are ignored.
fn der(bytes: &[u8]) -> Option<KeyForm> {
    let whole = Element::tagged(bytes, SEQUENCE)?;
    let first = Element::read(whole.content)?;
    match first.tag {
        // SubjectPublicKeyInfo (RFC 5280), EncryptedPrivateKeyInfo (RFC 5958).
        SEQUENCE if first.content.starts_with(&[OBJECT_IDENTIFIER]) => {
            let (algorithm, rest) = Element::algorithm(whole.content)?;
            match Element::read(rest) {
                next if next.as_ref().is_none_or(|next| next.tag == OCTET_STRING)
                    && is_encryption(algorithm) =>
                {
                    Some(KeyForm::Private)
                }
                next if next.as_ref().is_none_or(|next| next.tag == BIT_STRING)
                    && is_key_algorithm(algorithm) =>
                {
                    Some(KeyForm::Public)
                }
                // An algorithm that is not listed here: the lengths must fit to the last byte.
                Some(Element { tag: BIT_STRING, content: [0, _, ..], missing: 0, rest: [] })
                    if whole.rest.is_empty() =>
                {
                    Some(KeyForm::Public)
                }
                _ => None,
            }
        }
        SEQUENCE => certificate(first.content),
        INTEGER => numbers(&whole, &first),
        // PKCS#7, which holds certificates (RFC 2315).
        OBJECT_IDENTIFIER => first
            .content
            .strip_prefix(PKCS)
            .filter(|kind| kind.starts_with(&[7]))
            .map(|_| KeyForm::Certificate),
        _ => None,
    }
}

/// A certificate, a revocation list (RFC 5280) or a request for a certificate (RFC 2986), recognised by its beginning: a
/// version, a number, and the algorithm of its signature or key.
fn certificate(content: &[u8]) -> Option<KeyForm> {
    const VERSION: &[u8] = &[0xA0, 3, INTEGER, 1];
    let content = match content.strip_prefix(VERSION) {
        Some([_, rest @ ..]) => rest,
        _ => content,
    };
    let number =
        Element::tagged(content, INTEGER).filter(|number| number.content.len() <= SERIAL_BYTES_MAX)?;
    let request = || {
        let name = Element::tagged(number.rest, SEQUENCE)?;
        Element::algorithm(Element::tagged(name.rest, SEQUENCE)?.content)
    };
    let (algorithm, _) = Element::algorithm(number.rest).or_else(request)?;
    let is_known =
        is_key_algorithm(algorithm) || SIGNATURES.iter().any(|prefix| algorithm.starts_with(prefix));
    is_known.then_some(KeyForm::Certificate)
}

/// RFC 5280, section 4.1.2.2, and a sign.
const SERIAL_BYTES_MAX: usize = 21;

/// Private keys that begin with a version, and RSA keys, which consist of numbers only.
fn numbers(whole: &Element<'_>, first: &Element<'_>) -> Option<KeyForm> {
    let version = if let [version @ ..4] = first.content { Some(*version) } else { None };
    let second = Element::read(first.rest)?;
    match (version, second.tag) {
        // PrivateKeyInfo (RFC 5958).
        (Some(0 | 1), SEQUENCE)
            if Element::algorithm(first.rest).is_some_and(|(algorithm, _)| is_key_algorithm(algorithm)) =>
        {
            Some(KeyForm::Private)
        }
        // PKCS#12 (RFC 7292).
        (Some(3), SEQUENCE) => {
            let content = Element::tagged(second.content, OBJECT_IDENTIFIER)?.content.strip_prefix(PKCS)?;
            content.starts_with(&[7]).then_some(KeyForm::Private)
        }
        // ECPrivateKey (RFC 5915).
        (Some(1), OCTET_STRING) => {
            let ends = matches!(second.rest, [] | [0xA0 | 0xA1, ..]);
            (is_complete(whole) && ends && (16..=72).contains(&second.content.len()))
                .then_some(KeyForm::Private)
        }
        (_, INTEGER) if is_complete(whole) => {
            let (mut longest, mut count, mut rest) = (first.content.len(), 1, first.rest);
            while !rest.is_empty() {
                let number = Element::tagged(rest, INTEGER).filter(is_complete)?;
                (longest, count, rest) = (longest.max(number.content.len()), count + 1, number.rest);
            }
            match (longest >= MODULUS_BYTES_MIN, version, count) {
                // RSAPrivateKey (RFC 8017), and DSA's in the form of OpenSSL.
                (true, Some(_), 6..) => Some(KeyForm::Private),
                // RSAPublicKey, and the parameters of Diffie and Hellman.
                (true, None, 2..=4) => Some(KeyForm::Public),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether an algorithm encrypts with a password (RFC 8018; RFC 7292, appendix C).
fn is_encryption(identifier: &[u8]) -> bool {
    identifier.strip_prefix(PKCS).is_some_and(|kind| kind.starts_with(&[5]) || kind.starts_with(&[12, 1]))
}

/// Whether an algorithm is one of keys: RSA, Diffie and Hellman, DSA, curves, and those of FIPS 203 to 205.
fn is_key_algorithm(identifier: &[u8]) -> bool {
    const PREFIXES: [&[u8]; 8] = [
        // id-ecPublicKey, DSA, X9.42
        &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02],
        &[0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04],
        &[0x2A, 0x86, 0x48, 0xCE, 0x3E, 0x02],
        // ecDH and ecMQV of SECG
        &[0x2B, 0x81, 0x04, 0x01],
        // GOST
        &[0x2A, 0x85, 0x03],
        // ML-DSA and SLH-DSA, ML-KEM
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03],
        &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04],
        // PKCS#3
        &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x03],
    ];
    let pkcs1 = identifier.strip_prefix(PKCS).is_some_and(|kind| kind.starts_with(&[1]));
    // X25519, X448, Ed25519, Ed448 (RFC 8410).
    pkcs1
        || matches!(identifier, [0x2B, 0x65, 0x6E..=0x71])
        || PREFIXES.iter().any(|prefix| identifier.starts_with(prefix))
}

/// The first bytes of algorithms of signatures: with RSA, with ECDSA, and those of FIPS 204 and 205.
const SIGNATURES: [&[u8]; 3] = [
    &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01],
    &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04],
    &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03],
];

/// Every key of `tests/key_forms.rs` is refused however it is written. Here are the boundaries of the structures.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::write;

    const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
    const NULL: &[u8] = &[5, 0];

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        write(SEQUENCE, &parts.concat())
    }

    fn algorithm(identifier: &[u8]) -> Vec<u8> {
        sequence(&[&write(OBJECT_IDENTIFIER, identifier), NULL])
    }

    fn integer(bytes: usize) -> Vec<u8> {
        write(INTEGER, &vec![0x55; bytes])
    }

    #[test]
    fn the_first_64_kibibytes_of_a_text_are_searched() {
        let jwk = "{\"kty\":\"RSA\"}";
        let text = |before: usize| format!("{}{jwk}", " ".repeat(before));
        assert_eq!(find(text(BYTES_MAX - jwk.len()).as_bytes()), Some(KeyForm::Jwk));
        assert_eq!(find(text(BYTES_MAX).as_bytes()), None);
    }

    #[test]
    fn five_encodings_within_each_other_are_taken_off() {
        // As many bytes as hexadecimal digits are looked for.
        let mut text = format!("{:32}", "{\"kty\":\"RSA\"}");
        for depth in 1..=DEPTH_MAX + 1 {
            text = text.bytes().map(|byte| format!("{byte:02x}")).collect();
            let expected = if depth <= DEPTH_MAX { Some(KeyForm::Jwk) } else { None };
            assert_eq!(find(text.as_bytes()), expected, "{depth}");
        }
    }

    #[test]
    fn an_rsa_key_has_a_modulus_of_512_bits_at_least() {
        let public = |modulus: usize| der(&sequence(&[&integer(modulus), &integer(3)]));
        assert_eq!(public(MODULUS_BYTES_MIN), Some(KeyForm::Public));
        assert_eq!(public(MODULUS_BYTES_MIN - 1), None);
        // Its exponent may be longer than its modulus.
        assert_eq!(der(&sequence(&[&integer(3), &integer(MODULUS_BYTES_MIN)])), Some(KeyForm::Public));
    }

    #[test]
    fn numbers_of_a_key_are_as_many_as_its_kind_has() {
        let version = write(INTEGER, &[0]);
        let key = |with_version: bool, numbers: usize| {
            let numbers = integer(MODULUS_BYTES_MIN).repeat(numbers);
            der(&sequence(&[if with_version { &version } else { &[] }, &numbers]))
        };
        let public: Vec<_> = (1..=6).map(|numbers| key(false, numbers).is_some()).collect();
        assert_eq!(public, [false, true, true, true, false, false]);
        let private: Vec<_> = (1..=7).map(|numbers| key(true, numbers)).collect();
        assert_eq!(private[..4], [None; 4], "four numbers beside the version are no key");
        assert_eq!(private[4..], [Some(KeyForm::Private); 3]);
        assert_eq!(key(false, 2), Some(KeyForm::Public));
        let mixed = sequence(&[&integer(MODULUS_BYTES_MIN), &integer(3), &write(OCTET_STRING, &[1])]);
        assert_eq!(der(&mixed), None, "something else than numbers");
    }

    #[test]
    fn up_to_four_bytes_may_be_missing_at_the_end() {
        let key = sequence(&[&integer(MODULUS_BYTES_MIN), &integer(8)]);
        for missing in 0..=TRIMMED_MAX {
            assert_eq!(der(&key[..key.len() - missing]), Some(KeyForm::Public), "{missing}");
        }
        assert_eq!(der(&key[..key.len() - TRIMMED_MAX - 1]), None);
    }

    #[test]
    fn a_private_key_of_a_curve_has_16_to_72_bytes() {
        let key = |version: u8, bytes: usize, rest: &[u8]| {
            der(&sequence(&[&write(INTEGER, &[version]), &write(OCTET_STRING, &vec![7; bytes]), rest]))
        };
        for (bytes, expected) in [(15, false), (16, true), (72, true), (73, false)] {
            assert_eq!(key(1, bytes, &[]).is_some(), expected, "{bytes}");
        }
        assert_eq!(key(1, 32, &[0xA0, 0]), Some(KeyForm::Private));
        assert_eq!(key(1, 32, &[0xA1, 0]), Some(KeyForm::Private));
        assert_eq!((key(1, 32, &[0xA2, 0]), key(0, 32, &[]), key(2, 32, &[])), (None, None, None));
    }

    #[test]
    fn private_keys_with_an_algorithm_have_a_known_one() {
        let key = |version: u8, identifier: &[u8]| {
            der(&sequence(&[&write(INTEGER, &[version]), &algorithm(identifier), &[]]))
        };
        assert_eq!((key(0, RSA), key(1, RSA)), (Some(KeyForm::Private), Some(KeyForm::Private)));
        assert_eq!((key(2, RSA), key(0, &[0x2A, 3, 4])), (None, None));
    }

    #[test]
    fn containers_of_pkcs_are_known_by_their_content() {
        let container = |kind: &[u8]| write(OBJECT_IDENTIFIER, &[PKCS, kind].concat());
        let pkcs12 = |version: u8, kind: &[u8]| {
            der(&sequence(&[&write(INTEGER, &[version]), &sequence(&[&container(kind)])]))
        };
        assert_eq!(pkcs12(3, &[7, 1]), Some(KeyForm::Private));
        assert_eq!((pkcs12(2, &[7, 1]), pkcs12(3, &[8, 1])), (None, None));
        let pkcs7 = |kind: &[u8]| der(&sequence(&[&container(kind), NULL]));
        assert_eq!((pkcs7(&[7, 2]), pkcs7(&[9, 2])), (Some(KeyForm::Certificate), None));
    }

    #[test]
    fn a_certificate_has_a_serial_number_of_20_bytes_at_most() {
        const ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02];
        let version = write(0xA0, &write(INTEGER, &[2]));
        let certificate = |version: &[u8], serial: usize, identifier: &[u8]| {
            der(&sequence(&[&sequence(&[version, &integer(serial), &algorithm(identifier)])]))
        };
        for (serial, expected) in [(1, true), (SERIAL_BYTES_MAX, true), (SERIAL_BYTES_MAX + 1, false)] {
            for version in [&version[..], &[]] {
                assert_eq!(certificate(version, serial, ECDSA).is_some(), expected, "{serial}");
            }
        }
        assert_eq!(certificate(&version, 8, RSA), Some(KeyForm::Certificate));
        assert_eq!(certificate(&version, 8, &[0x2A, 3, 4]), None);
        // A request has a name and a key where a certificate has an algorithm.
        let request = |identifier: &[u8]| {
            let key = sequence(&[&algorithm(identifier)]);
            der(&sequence(&[&sequence(&[&write(INTEGER, &[0]), &sequence(&[]), &key])]))
        };
        assert_eq!((request(RSA), request(&[0x2A, 3, 4])), (Some(KeyForm::Certificate), None));
    }

    #[test]
    fn public_keys_of_unknown_algorithms_fit_to_the_last_byte() {
        let key =
            |identifier: &[u8], bits: &[u8]| sequence(&[&algorithm(identifier), &write(BIT_STRING, bits)]);
        let unknown = key(&[0x2A, 3, 4], &[0, 1, 2, 3]);
        assert_eq!(der(&unknown), Some(KeyForm::Public));
        assert_eq!(der(&[&unknown[..], &[0]].concat()), None, "bytes behind it");
        assert_eq!(der(&unknown[..unknown.len() - 1]), None, "a byte is missing");
        assert_eq!(der(&key(&[0x2A, 3, 4], &[1, 1, 2, 3])), None, "unused bits");
        assert_eq!(der(&key(&[0x2A, 3, 4], &[0])), None, "no key");
        let known = key(RSA, &[0, 1, 2, 3]);
        assert_eq!(der(&known[..known.len() - 3]), Some(KeyForm::Public), "cut off");
        let other = sequence(&[&algorithm(RSA), &write(INTEGER, &[1])]);
        assert_eq!(der(&other), None);
    }

    #[test]
    fn algorithms_of_keys_and_of_encryption_are_known() {
        for identifier in [
            &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01][..],
            &[0x2B, 0x81, 0x04, 0x01, 0x0C],
            &[0x2A, 0x85, 0x03, 0x07],
            &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11],
            &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, 0x01],
            &[0x2B, 0x65, 0x6E],
            &[0x2B, 0x65, 0x71],
            RSA,
        ] {
            assert!(is_key_algorithm(identifier) && !is_encryption(identifier), "{identifier:?}");
        }
        for identifier in [&[0x2B, 0x65, 0x6D][..], &[0x2B, 0x65, 0x72], &[0x2B, 0x65], &[0x2A, 3]] {
            assert!(!is_key_algorithm(identifier), "{identifier:?}");
        }
        for kind in [&[5, 13][..], &[12, 1, 3]] {
            assert!(is_encryption(&[PKCS, kind].concat()), "{kind:?}");
        }
        for kind in [&[12, 10][..], &[6, 1], &[7, 1]] {
            assert!(!is_encryption(&[PKCS, kind].concat()), "{kind:?}");
        }
        let encrypted = |next: &[u8]| der(&sequence(&[&algorithm(&[PKCS, &[5, 13]].concat()), next]));
        assert_eq!(encrypted(&write(OCTET_STRING, &[1])), Some(KeyForm::Private));
        assert_eq!(encrypted(&[]), Some(KeyForm::Private), "cut off");
        assert_eq!(encrypted(&write(INTEGER, &[1])), None);
    }

    #[test]
    fn keys_in_words_are_known_by_them() {
        for (text, expected) in [
            ("-----BEGIN EC PRIVATE KEY", Some(KeyForm::Private)),
            ("-----BEGIN CERTIFICATE", Some(KeyForm::Pem)),
            ("---- BEGIN SSH2 PUBLIC KEY ----", Some(KeyForm::Ssh)),
            ("PuTTY-User-Key-File-3: ssh-ed25519", Some(KeyForm::Private)),
            ("ssh-rsa AAAAB3", Some(KeyForm::Ssh)),
            ("'ecdsa-sha2-nistp256 AAAA'", Some(KeyForm::Ssh)),
            ("ssh-rsa BBBB", None),
            ("rsa AAAAB3", None),
            ("<Modulus>", Some(KeyForm::Public)),
            ("<RSAKeyValue", Some(KeyForm::Public)),
            ("{ \"kty\" : \"AKP\"", Some(KeyForm::Jwk)),
            ("{ \"keys\" : [", Some(KeyForm::Jwk)),
            ("kty", None),
        ] {
            assert_eq!(super::text(text.as_bytes()), expected, "{text}");
        }
        assert!(
            holds(b"abc", b"c") && holds(b"abc", b"abc") && !holds(b"abc", b"abcd") && !holds(b"abc", b"ac")
        );
    }

    #[test]
    fn binary_keys_of_ssh_begin_with_their_name() {
        assert_eq!(binary(b"\0\0\0\x07ssh-rsa"), Some(KeyForm::Ssh));
        assert_eq!(binary(b"\0\0\0\x08ssh-rsa"), None, "cut off");
        assert_eq!(binary(b"\0\0\0\x07another"), None);
        assert_eq!(binary(b"openssh-key-v1\0"), Some(KeyForm::Private));
        assert_eq!(binary(b"openssh-key-v1"), None);
    }

    #[test]
    fn runs_of_twelve_digits_are_looked_at_with_and_without_separators() {
        let runs = |text: &str| {
            let mut runs = Vec::new();
            in_runs(text.as_bytes(), is_base64, separates_lines, |run| {
                runs.push(String::from_utf8_lossy(run).into_owned());
                None
            });
            runs
        };
        assert_eq!(runs("AAAAAAAAAAA"), [""; 0]);
        assert_eq!(runs("AAAAAAAAAAAA"), ["AAAAAAAAAAAA"]);
        assert_eq!(runs("AAAAAA\nBBBBBB"), ["AAAAAABBBBBB"]);
        assert_eq!(
            runs("AAAAAAAAAAAA.BBBBBBBBBBBB C"),
            ["AAAAAAAAAAAA", "BBBBBBBBBBBB", "AAAAAAAAAAAA", "BBBBBBBBBBBBC"]
        );
    }
}
