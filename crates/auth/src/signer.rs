//! Making tokens: for tools, tests and applications that issue their own. The hub itself signs nothing.

use std::fmt;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, crypto};

use crate::{Algorithm, KeyError, key::pem, key_form};

/// A key that signs tokens with one algorithm.
pub struct Signer {
    key: Signing,
    algorithm: Algorithm,
    id: Option<String>,
}

enum Signing {
    Library(EncodingKey),
    P521(EcdsaKeyPair),
}

impl Signer {
    /// A shared secret, or a private key in a PEM document (PKCS#8; for RSA also PKCS#1). Without an algorithm: HS256
    /// for a secret, else the first that fits the key, of RS256, ES256, ES384, ES512 and EdDSA.
    ///
    /// # Errors
    /// [`KeyError::Empty`], [`KeyError::Form`] for a key in another form than PEM, which is no shared secret,
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
        let document = pem(text);
        if document.is_none()
            && let Some(form) = key_form::find(text)
        {
            return Err(KeyError::Form(form));
        }
        let fits = |each: &Algorithm| each.is_symmetric() == document.is_none();
        let text = document.as_deref().unwrap_or(text);
        let candidates = Algorithm::ALL
            .into_iter()
            .filter(|each| fits(each) && algorithm.is_none_or(|only| only == *each));
        let mut signers = candidates.filter_map(|algorithm| {
            let signer = Self { key: Signing::parse(text, algorithm)?, algorithm, id: None };
            signer.try_sign("probe").map(|_| signer)
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
        let signature = self.try_sign(&input).expect("a key that has signed signs again");
        format!("{input}.{signature}")
    }

    fn try_sign(&self, input: &str) -> Option<String> {
        match &self.key {
            Signing::Library(key) => crypto::sign(input.as_bytes(), key, self.algorithm.of_library()?).ok(),
            Signing::P521(key) => {
                let signature = key.sign(&SystemRandom::new(), input.as_bytes()).ok()?;
                Some(URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }
}

impl Signing {
    fn parse(text: &[u8], algorithm: Algorithm) -> Option<Self> {
        use Algorithm::{ES256, ES384, ES512, EdDSA};
        Some(match algorithm {
            _ if algorithm.is_symmetric() => Self::Library(EncodingKey::from_secret(text)),
            ES256 | ES384 => Self::Library(EncodingKey::from_ec_pem(text).ok()?),
            ES512 => {
                let key = EncodingKey::from_ec_pem(text).ok()?;
                Self::P521(EcdsaKeyPair::from_pkcs8(&ECDSA_P521_SHA512_FIXED_SIGNING, key.as_bytes()).ok()?)
            }
            EdDSA => Self::Library(EncodingKey::from_ed_pem(text).ok()?),
            _ => Self::Library(EncodingKey::from_rsa_pem(text).ok()?),
        })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
