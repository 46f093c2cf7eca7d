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
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
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

/// Decodes both alphabets, with and without padding. An incomplete group at the end is ignored.
fn from_base64(digits: &[u8]) -> Vec<u8> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    let end = if digits.len() % 4 == 1 { digits.len() - 1 } else { digits.len() };
    let standard = digits[..end].iter().map(|digit| match digit {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    LENIENT.decode(standard.collect::<Vec<_>>()).unwrap_or_default()
}

fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    // The shortest key with a structure has 44 bytes.
    if digits.len() < 2 * 32 {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some((value(pair[0])? << 4) | value(pair[1])?)).collect()
}

fn is_base32(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(byte)
}

/// RFC 4648, section 6, in either case and without padding; bits that are left over at the end do not count.
fn from_base32(digits: &[u8]) -> Option<Vec<u8>> {
    // The shortest key with a structure has 44 bytes.
    if digits.len() < 44 * 8 / 5 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(digits.len() * 5 / 8), 0_u16, 0);
    for digit in digits {
        let value = match digit {
            b'2'..=b'7' => digit - b'2' + 26,
            letter => letter.to_ascii_uppercase().checked_sub(b'A')?,
        };
        bits = (bits << 5) | u16::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// A text in UTF-16, as some shells and editors write files.
fn from_utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let little = bytes.starts_with(&[0xFF, 0xFE]) || bytes.get(1) == Some(&0);
    let big = bytes.starts_with(&[0xFE, 0xFF]) || bytes.first() == Some(&0);
    if !little && !big {
        return None;
    }
    let units = bytes.chunks_exact(2).map(|pair| {
        let pair = [pair[0], pair[1]];
        if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    });
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    Some(text.trim_start_matches('\u{FEFF}').into())
}

/// Bytes that were read as Latin-1 and stored as UTF-8: a character for each byte.
fn from_latin1(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok().filter(|text| !text.is_ascii())?;
    text.trim_start_matches('\u{FEFF}').chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

fn from_percent(bytes: &[u8]) -> Option<Vec<u8>> {
    unescape(bytes, b'%', |rest| Some((hex_digits(rest, 2)?, 2)))
}

/// The bytes of an array as programs write it: `[0x30, 0x2a]` or `[48, 42]`.
fn from_array(bytes: &[u8]) -> Option<Vec<u8>> {
    let words = bytes.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let byte = |word: &[u8]| {
        let word = str::from_utf8(word).ok()?;
        match word.strip_prefix("0x") {
            Some(digits) => u8::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        }
    };
    let array: Vec<u8> = words.map(byte).skip_while(Option::is_none).map_while(|byte| byte).collect();
    (array.len() > 1).then_some(array)
}

/// Written line breaks and the other escapes of JSON, shells and programming languages.
fn from_escapes(bytes: &[u8]) -> Option<Vec<u8>> {
    unescape(bytes, b'\\', |rest| match rest.first()? {
        b'n' | b'r' | b't' => Some((b'\n', 1)),
        b'x' => Some((hex_digits(&rest[1..], 2)?, 3)),
        b'u' => Some((hex_digits(&rest[1..], 4)?, 5)),
        other => Some((*other, 1)),
    })
}

/// A number below 256 from the first `count` digits.
fn hex_digits(bytes: &[u8], count: usize) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(bytes.get(..count)?).ok()?, 16).ok()
}

/// Replaces escapes, which begin with `mark`; `read` returns a byte and the length of its escape. `None`: there are
/// none.
fn unescape(bytes: &[u8], mark: u8, read: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Option<Vec<u8>> {
    let (mut out, mut at, mut any) = (Vec::new(), 0, false);
    while at < bytes.len() {
        let escape = if bytes[at] == mark { read(&bytes[at + 1..]) } else { None };
        let (byte, length) = escape.unwrap_or((bytes[at], 0));
        any |= escape.is_some();
        out.push(byte);
        at += 1 + length;
    }
    any.then_some(out)
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

/// One element in DER, whose content may be cut off.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// Bytes of the content that are cut off.
    missing: usize,
    rest: &'a [u8],
}

impl<'a> Element<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (tag, length, rest) = match bytes {
            [tag, length @ ..=0x7F, rest @ ..] => (*tag, usize::from(*length), rest),
            [tag, 0x81, length, rest @ ..] => (*tag, usize::from(*length), rest),
            [tag, 0x82, high, low, rest @ ..] => (*tag, usize::from(u16::from_be_bytes([*high, *low])), rest),
            [tag, 0x83, high, middle, low, rest @ ..] => {
                (*tag, u32::from_be_bytes([0, *high, *middle, *low]) as usize, rest)
            }
            _ => return None,
        };
        let there = length.min(rest.len());
        Some(Self { tag, content: &rest[..there], missing: length - there, rest: &rest[there..] })
    }

    fn tagged(bytes: &'a [u8], tag: u8) -> Option<Self> {
        Self::read(bytes).filter(|element| element.tag == tag)
    }

    /// The identifier that an `AlgorithmIdentifier` begins with.
    fn algorithm(bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let sequence = Self::tagged(bytes, SEQUENCE)?;
        let identifier = Self::tagged(sequence.content, OBJECT_IDENTIFIER)?;
        Some((identifier.content, sequence.rest))
    }

    /// Whether it is complete, except for up to four bytes at its end that look like white space and were trimmed.
    fn is_whole(&self) -> bool {
        self.missing <= 4
    }
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// The first bytes of `1.2.840.113549.1`, the arc of the PKCS standards.
const PKCS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01];

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
            (whole.is_whole() && ends && (16..=72).contains(&second.content.len()))
                .then_some(KeyForm::Private)
        }
        (_, INTEGER) if whole.is_whole() => {
            let (mut longest, mut count, mut rest) = (first.content.len(), 1, first.rest);
            while !rest.is_empty() {
                let number = Element::tagged(rest, INTEGER).filter(Element::is_whole)?;
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
