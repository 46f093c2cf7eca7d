//! Keys that verify tokens. The key decides which algorithms are possible; the token never does.

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{AlgorithmFamily, DecodingKey, DecodingKeyKind, crypto};
use serde::Deserialize;

use crate::{
    key_form::{self, KeyForm, holds},
    weakness::Weakness,
};

/// A signature algorithm of RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "their names are their documentation")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

use Algorithm::{ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};

impl Algorithm {
    /// All of them; there is no `none`.
    pub const ALL: [Self; 13] =
        [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA];

    /// The name in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            HS256 => "HS256",
            HS384 => "HS384",
            HS512 => "HS512",
            RS256 => "RS256",
            RS384 => "RS384",
            RS512 => "RS512",
            PS256 => "PS256",
            PS384 => "PS384",
            PS512 => "PS512",
            ES256 => "ES256",
            ES384 => "ES384",
            ES512 => "ES512",
            EdDSA => "EdDSA",
        }
    }

    /// The same for the library that does the work, which has no ES512.
    pub(crate) fn of_library(self) -> Option<jsonwebtoken::Algorithm> {
        self.as_str().parse().ok()
    }

    /// Whether it takes a shared secret.
    pub(crate) fn is_symmetric(self) -> bool {
        self.secret_bytes_min().is_some()
    }

    /// The bytes that a shared secret must have for it: those of the hash (RFC 7518, section 3.2).
    pub(crate) fn secret_bytes_min(self) -> Option<usize> {
        match self {
            HS256 => Some(32),
            HS384 => Some(48),
            HS512 => Some(64),
            _ => None,
        }
    }
}

impl FromStr for Algorithm {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        Self::ALL.into_iter().find(|each| each.as_str() == name).ok_or(KeyError::Algorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key that verifies signatures, bound to the algorithms it may be used with.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    verifying: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// Why a text cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An empty secret would accept every token that was signed with nothing.
    #[error("the secret is empty: give at least 32 random bytes")]
    Empty,
    /// A PEM document that holds no public key.
    #[error(
        "the PEM document holds no RSA, EC or Ed25519 public key: give the public key (SPKI, or PKCS#1 for RSA) or the \
         certificate, not the private key"
    )]
    Pem,
    /// A key of another kind that would be taken for a secret.
    #[error("{0}")]
    Form(KeyForm),
    /// A key that can be broken.
    #[error("the RSA key is shorter than 2048 bits: make a longer one")]
    Weak,
    /// No such algorithm.
    #[error(
        "unknown algorithm: use one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, \
         ES512, EdDSA"
    )]
    Algorithm,
    /// An algorithm of another kind of key; above all HMAC with a public key, which everybody knows.
    #[error(
        "none of the algorithms fits this kind of key: HS… need a secret, RS…, PS…, ES… and EdDSA a public key"
    )]
    Mismatch,
    /// A text that is no JWK Set.
    #[error("this is no JWK Set (RFC 7517): an object with an array \"keys\"")]
    Set,
    /// A JWK Set that verifies nothing.
    #[error("the JWK Set holds no key that can verify signatures with an allowed algorithm")]
    SetUnusable,
}

impl Key {
    /// A shared secret, or the public key in a PEM document (SPKI, PKCS#1 or an X.509 certificate), whose line breaks may
    /// be written `\n`. Without algorithms: all that fit the key.
    ///
    /// # Errors
    /// [`KeyError`].
    ///
    /// ```
    /// use petasos_auth::{Algorithm, Key, KeyError};
    /// let key = Key::parse("a shared secret of at least 32 bytes", &[])?;
    /// assert!(Key::parse("a shared secret", &[Algorithm::RS256]).is_err());
    /// # Ok::<(), KeyError>(())
    /// ```
    pub fn parse(text: impl AsRef<[u8]>, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let verifying = match pem(text) {
            None => secret(text)?,
            // The library takes some of them and then verifies nothing.
            Some(_) if holds(text, PRIVATE) => return Err(KeyError::Pem),
            Some(pem) => DecodingKey::from_rsa_pem(&pem)
                .or_else(|_| DecodingKey::from_ec_pem(&pem))
                .or_else(|_| DecodingKey::from_ed_pem(&pem))
                .map_err(|_| KeyError::Pem)?,
        };
        Self::new(None, verifying, algorithms)
    }

    /// The keys of a JWK Set (RFC 7517) that can verify signatures, in their order; others are left out, as RFC 7517,
    /// section 5 asks. Shared secrets only if `secrets`.
    ///
    /// # Errors
    /// [`KeyError::Set`], [`KeyError::SetUnusable`], and [`KeyError::Form`] for a shared secret that is another kind of
    /// key.
    pub fn parse_set(json: &[u8], algorithms: &[Algorithm], secrets: bool) -> Result<Vec<Self>, KeyError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| KeyError::Set)?;
        let jwks = set.keys.into_iter().take(SET_KEYS_MAX).filter_map(|key| serde_json::from_value(key).ok());
        let keys = jwks.map(|jwk: Jwk| jwk.key(algorithms, secrets));
        let usable: Vec<_> = keys.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        if usable.is_empty() { Err(KeyError::SetUnusable) } else { Ok(usable) }
    }

    fn new(id: Option<String>, verifying: DecodingKey, allowed: &[Algorithm]) -> Result<Self, KeyError> {
        let fitting: &[Algorithm] = match (verifying.family(), verifying.kind()) {
            (AlgorithmFamily::Hmac, _) => &[HS256, HS384, HS512],
            (AlgorithmFamily::Rsa, kind) => {
                // PKCS#1 wraps the modulus and the exponent in a few bytes.
                let bits = match kind {
                    DecodingKeyKind::SecretOrDer(der) => 8 * der.len(),
                    DecodingKeyKind::RsaModulusExponent { n, .. } => {
                        8 * n.iter().skip_while(|byte| **byte == 0).count()
                    }
                };
                if bits < RSA_BITS_MIN {
                    return Err(KeyError::Weak);
                }
                &[RS256, RS384, RS512, PS256, PS384, PS512]
            }
            (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => match point.len() {
                65 => &[ES256],
                97 => &[ES384],
                P521_POINT_BYTES => &[ES512],
                _ => return Err(KeyError::Pem),
            },
            (AlgorithmFamily::Ed, _) => &[EdDSA],
            (AlgorithmFamily::Ec, _) => return Err(KeyError::Pem),
        };
        let mut algorithms = fitting.to_vec();
        if !allowed.is_empty() {
            algorithms.retain(|each| allowed.contains(each));
        }
        if algorithms.is_empty() {
            return Err(KeyError::Mismatch);
        }
        Ok(Self { id, verifying, algorithms })
    }

    /// Whether a JWK Set holds a shared secret or a private key, so that its file must not be readable by others.
    pub fn is_set_secret(json: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Secret>,
        }
        #[derive(Deserialize)]
        struct Secret {
            k: Option<serde::de::IgnoredAny>,
            d: Option<serde::de::IgnoredAny>,
            r#priv: Option<serde::de::IgnoredAny>,
        }
        let is_secret = |key: &Secret| key.k.is_some() || key.d.is_some() || key.r#priv.is_some();
        serde_json::from_slice::<Set>(json).is_ok_and(|set| set.keys.iter().any(is_secret))
    }

    /// The bytes of a shared secret. `None`: it is another kind of key.
    fn secret(&self) -> Option<&[u8]> {
        if self.verifying.family() != AlgorithmFamily::Hmac {
            return None;
        }
        self.verifying.try_get_as_bytes().ok()
    }

    /// Whether it is a shared secret, which signs as well as verifies.
    pub fn is_secret(&self) -> bool {
        self.secret().is_some()
    }

    /// Whether both are the same shared secret.
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.is_secret() && self.secret() == other.secret()
    }

    /// Why others may know or guess it, if it is a weak shared secret.
    pub fn weakness(&self) -> Option<Weakness> {
        let bytes_min = self.algorithms.iter().filter_map(|each| each.secret_bytes_min()).min();
        Weakness::find(self.secret()?, bytes_min?)
    }

    /// Its name in a JWK Set.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the key is for that algorithm.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Whether the signature, in base64url, is right.
    pub(crate) fn verifies(&self, algorithm: Algorithm, input: &str, signature: &str) -> bool {
        if !self.allows(algorithm) {
            return false;
        }
        match algorithm.of_library() {
            Some(algorithm) => {
                crypto::verify(signature, input.as_bytes(), &self.verifying, algorithm).unwrap_or(false)
            }
            None => self.verifies_p521(input, signature).is_some(),
        }
    }

    fn verifies_p521(&self, input: &str, signature: &str) -> Option<()> {
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let point = self.verifying.try_get_as_bytes().ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
        key.verify(input.as_bytes(), &signature).ok()
    }
}

/// How the label of every private key ends (RFC 7468).
const PRIVATE: &[u8] = b"PRIVATE KEY-----";

/// NIST SP 800-131A, and what the crypto library accepts.
const RSA_BITS_MIN: usize = 2_048;

/// An uncompressed point of P-521.
const P521_POINT_BYTES: usize = 133;

/// Keys of one set; issuers have a handful.
const SET_KEYS_MAX: usize = 100;

/// The first PEM document in a text, in the standard's form. Text in front of it is an explanation (RFC 7468, section
/// 2). Its line breaks may be written `\n` or be lost, as happens in environment variables. `None`: the text holds no
/// PEM document.
pub(crate) fn pem(text: &[u8]) -> Option<Vec<u8>> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let start = position(text, &BEGIN[..BEGIN.len() - 1])?;
    let document = || {
        let (label, rest) = split(text[start..].strip_prefix(BEGIN)?, b"-----")?;
        let (body, _) = split(rest, &[b"-----END ", label, b"-----"].concat())?;
        let mut digits = Vec::with_capacity(body.len());
        let mut escaped = false;
        for byte in body {
            match byte {
                b'\\' => escaped = true,
                b'n' | b'r' | b't' if escaped => escaped = false,
                b'"' | b'\'' => {}
                byte if byte.is_ascii_whitespace() => {}
                byte => {
                    escaped = false;
                    digits.push(*byte);
                }
            }
        }
        let lines = digits.chunks(64).flat_map(|line| [line, b"\n"]).flatten().copied();
        let mut document = [BEGIN, label, b"-----\n"].concat();
        document.extend(lines);
        document.extend([b"-----END ", label, b"-----\n"].concat());
        Some(document)
    };
    Some(document().unwrap_or_else(|| text[start..].to_owned()))
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let position = position(text, at)?;
    Some((&text[..position], &text[position + at.len()..]))
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A shared secret.
///
/// # Errors
/// [`KeyError::Form`] for another kind of key.
fn secret(bytes: &[u8]) -> Result<DecodingKey, KeyError> {
    match key_form::find(bytes) {
        Some(form) => Err(KeyError::Form(form)),
        None => Ok(DecodingKey::from_secret(bytes)),
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// One member of a JWK Set.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwk {
    /// The key, if it may verify signatures with one of the algorithms.
    ///
    /// # Errors
    /// [`KeyError::Form`].
    fn key(mut self, algorithms: &[Algorithm], secrets: bool) -> Result<Option<Key>, KeyError> {
        let shared = self.k.take().filter(|_| secrets && self.kty == "oct");
        let shared = shared.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
        let shared = shared.filter(|bytes| !bytes.is_empty()).map(|bytes| secret(&bytes)).transpose()?;
        Ok(self.usable(algorithms, shared))
    }

    fn usable(self, algorithms: &[Algorithm], shared: Option<DecodingKey>) -> Option<Key> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig")
            && self.key_ops.as_ref().is_none_or(|all| all.iter().any(|each| each == "verify"));
        if !for_signatures {
            return None;
        }
        let (verifying, curve_bytes) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => (DecodingKey::from_rsa_components(&self.n?, &self.e?).ok()?, None),
            ("EC", Some(curve)) => {
                let bytes = match curve {
                    "P-256" => 65,
                    "P-384" => 97,
                    "P-521" => P521_POINT_BYTES,
                    _ => return None,
                };
                (DecodingKey::from_ec_components(&self.x?, &self.y?).ok()?, Some(bytes))
            }
            ("OKP", Some("Ed25519")) => (DecodingKey::from_ed_components(&self.x?).ok()?, Some(32)),
            ("oct", _) => (shared?, None),
            _ => return None,
        };
        // A key that is not of its curve would be taken for one of another.
        if curve_bytes.is_some_and(|bytes| verifying.try_get_as_bytes().map_or(0, <[u8]>::len) != bytes) {
            return None;
        }
        let allowed = match &self.alg {
            None => algorithms.to_vec(),
            Some(name) => {
                let own: Algorithm = name.parse().ok()?;
                if !algorithms.is_empty() && !algorithms.contains(&own) {
                    return None;
                }
                vec![own]
            }
        };
        Key::new(self.kid, verifying, &allowed).ok()
    }
}
