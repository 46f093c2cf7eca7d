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
