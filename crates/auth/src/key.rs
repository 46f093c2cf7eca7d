//! Keys that verify tokens. The key decides which algorithms are possible. The token never does.

use std::fmt;

use aws_lc_rs::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    hmac,
    signature::{ParsedPublicKey, RsaParameters},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::{
    Algorithm,
    key_form::{self, KeyForm},
    pem::{self, Malformed},
    public_key::PublicKey,
    weakness::Weakness,
};

/// A key that verifies signatures, bound to the algorithms it may be used with.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    /// The bytes of a shared secret, overwritten when the key is dropped.
    secret: Option<Zeroizing<Box<[u8]>>>,
    /// One entry for each algorithm, ready to be used.
    verifying: Vec<(Algorithm, Verifying)>,
    thumbprint: [u8; SHA256_OUTPUT_LEN],
}

#[derive(Clone)]
enum Verifying {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// Why a text cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is empty. It would accept every token that was signed with an empty secret.
    #[error("the secret is empty: give at least 32 random bytes")]
    Empty,
    /// The PEM document holds no public key that can be used.
    #[error(
        "the PEM document holds no RSA, EC or Ed25519 public key: give the public key (SPKI, or PKCS#1 for RSA) or the \
         certificate, not the private key"
    )]
    Pem,
    /// A key of another kind, which would be taken for a secret.
    #[error("{0}")]
    Form(KeyForm),
    /// The RSA key has fewer than 2,048 bits and can be broken (NIST SP 800-131A).
    #[error("the RSA key is shorter than 2048 bits: make a longer one")]
    Weak,
    /// The RSA key has more than 8,192 bits, which the crypto library does not verify with.
    #[error(
        "the RSA key is longer than 8192 bits, which no token can be verified with: make one of 2048 to 8192 bits"
    )]
    TooLong,
    /// The algorithms are for another kind of key. Above all, HMAC with a public key is refused: everybody knows that key.
    #[error(
        "none of the algorithms fits this kind of key: HS… need a secret, RS…, PS…, ES… and EdDSA a public key"
    )]
    Mismatch,
    /// The text is no JWK Set.
    #[error("this is no JWK Set (RFC 7517): an object with an array \"keys\"")]
    Set,
    /// No key of the JWK Set can verify a signature.
    #[error("the JWK Set holds no key that can verify signatures with an allowed algorithm")]
    SetUnusable,
}

impl Key {
    /// A shared secret, or the public key in a PEM document (SPKI, PKCS#1 or an X.509 certificate), whose line breaks may
    /// be written `\n`. Without algorithms: all that fit the key.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::Pem`], [`KeyError::Weak`], [`KeyError::TooLong`] and [`KeyError::Mismatch`];
    /// [`KeyError::Form`] for a text that holds a key and is no PEM document.
    ///
    /// ```
    /// use petasos_auth::{Algorithm, Key, KeyError};
    /// let key = Key::parse("a shared secret of at least 32 bytes", &[])?;
    /// assert!(key.is_secret());
    /// assert!(Key::parse("a shared secret", &[Algorithm::RS256]).is_err());
    /// # Ok::<(), KeyError>(())
    /// ```
    pub fn parse(text: impl AsRef<[u8]>, algorithms: &[Algorithm]) -> Result<Self, KeyError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        match pem::find(text) {
            None => Self::from_secret(None, text, algorithms),
            // Also a private key beside it: an operator who hands one out should learn it.
            Some(_) if pem::holds_private_key(text) => Err(KeyError::Pem),
            Some(document) => {
                let document = document.map_err(|Malformed| KeyError::Pem)?;
                let key = PublicKey::from_document(&document).ok_or(KeyError::Pem)?;
                Self::from_public_key(None, &key, algorithms)
            }
        }
    }

    /// A shared secret that is not empty.
    ///
    /// # Errors
    /// [`KeyError::Form`], [`KeyError::Mismatch`].
    pub(crate) fn from_secret(
        id: Option<String>,
        secret: &[u8],
        allowed: &[Algorithm],
    ) -> Result<Self, KeyError> {
        if let Some(form) = key_form::find(secret) {
            return Err(KeyError::Form(form));
        }
        let verifying = suitable(Algorithm::HMAC, allowed)?;
        let verifying = verifying.filter_map(|algorithm| {
            Some((algorithm, Verifying::Secret(Box::new(hmac::Key::new(algorithm.hmac()?, secret)))))
        });
        Ok(Self {
            id,
            secret: Some(Zeroizing::new(secret.into())),
            verifying: verifying.collect(),
            thumbprint: thumbprint(b"secret", secret),
        })
    }

    /// A public key.
    ///
    /// # Errors
    /// [`KeyError::Pem`] for bytes that are no key, such as a point that is not on its curve; [`KeyError::Weak`],
    /// [`KeyError::TooLong`], [`KeyError::Mismatch`].
    pub(crate) fn from_public_key(
        id: Option<String>,
        key: &PublicKey,
        allowed: &[Algorithm],
    ) -> Result<Self, KeyError> {
        if let PublicKey::Rsa(der) = key {
            match RsaParameters::public_modulus_len(der).map_err(|_| KeyError::Pem)? {
                ..RSA_BITS_MIN => return Err(KeyError::Weak),
                RSA_BITS_MIN..=RSA_BITS_MAX => {}
                _ => return Err(KeyError::TooLong),
            }
        }
        let verifying = suitable(key.algorithms(), allowed)?.filter_map(|algorithm| {
            let parsed = ParsedPublicKey::new(algorithm.verification()?, key.as_bytes());
            Some(parsed.map(|parsed| (algorithm, Verifying::Public(parsed))))
        });
        let verifying = verifying.collect::<Result<_, _>>().map_err(|_| KeyError::Pem)?;
        Ok(Self { id, secret: None, verifying, thumbprint: thumbprint(b"public", key.as_bytes()) })
    }

    /// Whether the key is a shared secret, which signs as well as verifies.
    pub fn is_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether both keys are the same shared secret.
    pub fn is_same_secret(&self, other: &Self) -> bool {
        self.is_secret() && self.secret == other.secret
    }

    /// Why others may know or guess the secret. `None`: it is strong, or the key is a public one.
    pub fn weakness(&self) -> Option<Weakness> {
        let bytes_min = self.verifying.iter().filter_map(|(algorithm, _)| algorithm.secret_bytes_min()).min();
        Weakness::find(self.secret.as_ref()?, bytes_min?)
    }

    /// The name of the key in its JWK Set.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The algorithms that the key may be used with.
    pub(crate) fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.verifying.iter().map(|(algorithm, _)| *algorithm)
    }

    /// A SHA-256 digest of the key itself, whatever its name and the form in which it was given.
    pub(crate) fn thumbprint(&self) -> &[u8] {
        &self.thumbprint
    }

    /// Whether the keys verify the same signatures under the same name.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.thumbprint == other.thumbprint && self.algorithms().eq(other.algorithms())
    }

    /// Whether the key may be used with that algorithm.
    pub(crate) fn allows(&self, algorithm: Algorithm) -> bool {
        self.verifying.iter().any(|(each, _)| *each == algorithm)
    }

    /// Whether the signature of `input`, in base64url, was made with this key and that algorithm.
    pub(crate) fn verifies(&self, algorithm: Algorithm, input: &str, signature: &str) -> bool {
        let Some((_, verifying)) = self.verifying.iter().find(|(each, _)| *each == algorithm) else {
            return false;
        };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        match verifying {
            // In constant time: how long it takes says nothing about the right signature.
            Verifying::Secret(key) => hmac::verify(key, input.as_bytes(), &signature).is_ok(),
            Verifying::Public(key) => key.verify_sig(input.as_bytes(), &signature).is_ok(),
        }
    }
}

/// `kind`: no secret has the thumbprint of a public key.
fn thumbprint(kind: &[u8; 6], bytes: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut thumbprint = [0; SHA256_OUTPUT_LEN];
    thumbprint.copy_from_slice(digest(&SHA256, &[kind, bytes].concat()).as_ref());
    thumbprint
}

/// The algorithms of a kind of key that are allowed. An empty list allows all.
///
/// # Errors
/// [`KeyError::Mismatch`]: there is none.
fn suitable(
    algorithms: &'static [Algorithm],
    allowed: &[Algorithm],
) -> Result<impl Iterator<Item = Algorithm>, KeyError> {
    let is_allowed = |algorithm: &Algorithm| allowed.is_empty() || allowed.contains(algorithm);
    let suitable = algorithms.iter().copied().filter(is_allowed);
    if suitable.clone().next().is_none() { Err(KeyError::Mismatch) } else { Ok(suitable) }
}

/// NIST SP 800-131A, and the least that the crypto library verifies with.
const RSA_BITS_MIN: u32 = 2_048;

/// The most that the crypto library verifies with.
const RSA_BITS_MAX: u32 = 8_192;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let algorithms: Vec<_> = self.algorithms().collect();
        f.debug_struct("Key").field("id", &self.id).field("algorithms", &algorithms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A JWS of an RFC and the key that verifies it. Most payloads are no claims, so only the signature can be checked.
    #[derive(serde::Deserialize)]
    struct Vector {
        source: String,
        alg: String,
        key: serde_json::Value,
        jws: String,
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../tests/vectors.json")).expect("vectors")
    }

    fn key(vector: &Vector) -> Key {
        let set = serde_json::json!({"keys": [vector.key]}).to_string();
        Key::parse_set(set.as_bytes(), &[], true).expect("a key").remove(0)
    }

    #[test]
    fn the_signatures_of_rfc_7515_7520_and_8037_verify() {
        let vectors = vectors();
        assert_eq!(vectors.len(), 9);
        for vector in &vectors {
            let (input, signature) = vector.jws.rsplit_once('.').expect("a signature");
            let algorithm = vector.alg.parse().expect("an algorithm");
            let key = key(vector);
            assert!(key.verifies(algorithm, input, signature), "{}", vector.source);
            for other in Algorithm::ALL.into_iter().filter(|other| *other != algorithm) {
                assert!(!key.verifies(other, input, signature), "{} {other}", vector.source);
            }
            assert!(!key.verifies(algorithm, &input[1..], signature), "{}", vector.source);
            assert!(!key.verifies(algorithm, input, &format!("{signature}=")), "{}", vector.source);
        }
        for (this, other) in vectors.iter().flat_map(|this| vectors.iter().map(move |other| (this, other))) {
            let (input, signature) = other.jws.rsplit_once('.').expect("a signature");
            let verified = key(this).verifies(other.alg.parse().expect("an algorithm"), input, signature);
            assert_eq!(verified, this.key == other.key, "{} {}", this.source, other.source);
        }
    }

    #[test]
    fn secrets_are_compared_as_such() {
        let parse = |text: &str| Key::parse(text, &[]).expect("a key");
        let (one, same, other) = (parse("one"), parse("one"), parse("other"));
        let public = parse(include_str!("../tests/keys/p256.pub.pem"));
        assert!(one.is_same_secret(&same) && !one.is_same_secret(&other));
        assert!(!public.is_same_secret(&public.clone()) && !public.is_same_secret(&one));
        assert!(one.is_secret() && !public.is_secret() && one.id().is_none());
        assert!(public.weakness().is_none());
    }

    #[test]
    fn a_key_is_for_its_algorithms_only() {
        let key = Key::parse("a secret", &[Algorithm::HS384, Algorithm::RS256]).expect("a key");
        let allowed: Vec<_> = Algorithm::ALL.into_iter().filter(|each| key.allows(*each)).collect();
        assert_eq!(allowed, [Algorithm::HS384]);
        assert_eq!(format!("{key:?}"), "Key { id: None, algorithms: [HS384], .. }");
    }
}
