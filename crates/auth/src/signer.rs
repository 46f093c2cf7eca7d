//! Making tokens: for tools, tests and applications that issue their own. The hub itself signs nothing.

use std::fmt;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    Algorithm, KeyError, key_form,
    pem::{self, Document, Malformed},
};

/// A key that signs tokens with one algorithm.
pub struct Signer {
    key: Signing,
    algorithm: Algorithm,
    id: Option<String>,
}

enum Signing {
    Secret(Box<hmac::Key>),
    Rsa(Box<RsaKeyPair>, &'static dyn RsaEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// A shared secret, or a private key in a PEM document (PKCS#8; for RSA also PKCS#1). Without an algorithm: HS256
    /// for a secret, else the first that fits the key, of RS256, ES256, ES384, ES512 and EdDSA.
    ///
    /// # Errors
    /// [`KeyError::Empty`]; [`KeyError::Form`] for a key in another form than PEM, which is no shared secret;
    /// [`KeyError::Mismatch`] for a key that cannot sign with the algorithm.
    ///
    /// ```
    /// let signer = petasos_auth::Signer::parse("a shared secret of at least 32 bytes", None)?;
    /// let token = signer.sign("JWT", r#"{"mercure":{"publish":["*"]}}"#);
    /// assert_eq!(token.split('.').count(), 3);
    /// # Ok::<(), petasos_auth::KeyError>(())
    /// ```
    pub fn parse(text: impl AsRef<[u8]>, algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(KeyError::Empty);
        }
        let document = pem::find(text);
        if document.is_none()
            && let Some(form) = key_form::find(text)
        {
            return Err(KeyError::Form(form));
        }
        let document = document.transpose().map_err(|Malformed| KeyError::Mismatch)?;
        let candidates = Algorithm::ALL.into_iter().filter(|each| algorithm.is_none_or(|only| only == *each));
        let mut signers = candidates.filter_map(|algorithm| {
            let key = match &document {
                None => Signing::Secret(Box::new(hmac::Key::new(algorithm.hmac()?, text))),
                Some(document) => Signing::from_document(document, algorithm)?,
            };
            // So that `sign` can rely on it.
            key.sign("probe")?;
            Some(Self { key, algorithm, id: None })
        });
        signers.next().ok_or(KeyError::Mismatch)
    }

    /// Names the key in the header of its tokens, as it is named in a JWK Set.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The algorithm it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs claims, the text of a JSON object, as a token of that type: `at+jwt` for 1.0, `JWT` for 0.x.
    pub fn sign(&self, typ: &str, claims: &str) -> String {
        let mut header = serde_json::json!({"alg": self.algorithm.as_str(), "typ": typ});
        if let Some(id) = &self.id {
            header["kid"] = id.as_str().into();
        }
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let input = format!("{}.{}", encode(&header.to_string()), encode(claims));
        let signature = self.key.sign(&input).expect("a key that has signed signs again");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

impl Signing {
    /// The private key in a PEM document. `None`: it is for other algorithms.
    fn from_document(Document { label, der }: &Document, algorithm: Algorithm) -> Option<Self> {
        use Algorithm::{
            ES256, ES384, ES512, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512,
        };
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let pair = match label.as_str() {
                "PRIVATE KEY" => RsaKeyPair::from_pkcs8(der).ok()?,
                "RSA PRIVATE KEY" => RsaKeyPair::from_der(der).ok()?,
                _ => return None,
            };
            Some(Self::Rsa(Box::new(pair), encoding))
        };
        let is_pkcs8 = label == "PRIVATE KEY";
        let ec = |curve: &'static EcdsaSigningAlgorithm| {
            let pair = is_pkcs8.then(|| EcdsaKeyPair::from_pkcs8(curve, der))?.ok()?;
            Some(Self::Ec(pair))
        };
        match algorithm {
            HS256 | HS384 | HS512 => None,
            RS256 => rsa(&RSA_PKCS1_SHA256),
            RS384 => rsa(&RSA_PKCS1_SHA384),
            RS512 => rsa(&RSA_PKCS1_SHA512),
            PS256 => rsa(&RSA_PSS_SHA256),
            PS384 => rsa(&RSA_PSS_SHA384),
            PS512 => rsa(&RSA_PSS_SHA512),
            ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ES512 => ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
            EdDSA => Some(Self::Ed25519(is_pkcs8.then(|| Ed25519KeyPair::from_pkcs8(der))?.ok()?)),
        }
    }

    fn sign(&self, input: &str) -> Option<Vec<u8>> {
        let (input, random) = (input.as_bytes(), SystemRandom::new());
        Some(match self {
            Self::Secret(key) => hmac::sign(key, input).as_ref().to_vec(),
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, input, &mut signature).ok()?;
                signature
            }
            Self::Ec(pair) => pair.sign(&random, input).ok()?.as_ref().to_vec(),
            Self::Ed25519(pair) => pair.try_sign(input).ok()?.as_ref().to_vec(),
        })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn a_signer_has_the_first_algorithm_that_fits_its_key() {
        for (text, expected) in [
            ("a secret", Algorithm::HS256),
            (include_str!("../tests/keys/rsa.pem"), Algorithm::RS256),
            (include_str!("../tests/keys/disguised/rsa.private.pkcs1.pem"), Algorithm::RS256),
            (include_str!("../tests/keys/p384.pem"), Algorithm::ES384),
            (include_str!("../tests/keys/ed25519.pem"), Algorithm::EdDSA),
        ] {
            let signer = Signer::parse(text, None).expect("a signer");
            assert_eq!(signer.algorithm(), expected);
            assert_eq!(format!("{signer:?}"), format!("Signer {{ algorithm: {expected:?}, .. }}"));
        }
    }

    #[test]
    fn keys_that_cannot_sign_are_refused() {
        let p256 = include_str!("../tests/keys/p256.pem");
        for (text, algorithm) in [
            (p256, Some(Algorithm::ES384)),
            (p256, Some(Algorithm::RS256)),
            (p256, Some(Algorithm::HS256)),
            ("a secret", Some(Algorithm::ES256)),
            (include_str!("../tests/keys/p256.pub.pem"), None),
            (include_str!("../tests/keys/disguised/p256.sec1.pem"), None),
            ("-----BEGIN PRIVATE KEY-----x", None),
            (&p256.replace("PRIVATE", "RSA PRIVATE"), None),
        ] {
            assert_eq!(Signer::parse(text, algorithm).err(), Some(KeyError::Mismatch), "{algorithm:?}");
        }
        assert_eq!(Signer::parse("", None).err(), Some(KeyError::Empty));
    }

    #[test]
    fn a_token_names_its_algorithm_its_type_and_its_key() {
        let signer = Signer::parse("a secret", Some(Algorithm::HS384)).expect("a signer").with_id("k");
        let token = signer.sign("at+jwt", "{}");
        let (input, signature) = token.rsplit_once('.').expect("a signature");
        let (header, claims) = input.split_once('.').expect("claims");
        let decode =
            |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("text");
        assert_eq!(decode(header), r#"{"alg":"HS384","kid":"k","typ":"at+jwt"}"#);
        assert_eq!(decode(claims), "{}");
        assert!(Key::parse("a secret", &[]).expect("a key").verifies(Algorithm::HS384, input, signature));
        let nameless = Signer::parse("a secret", None).expect("a signer").sign("JWT", "{}");
        assert_eq!(decode(nameless.split('.').next().expect("a header")), r#"{"alg":"HS256","typ":"JWT"}"#);
    }
}
