//! Keys, and what they verify. The key decides which algorithms are possible; the token never does.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use petasos_protocol::{
    Limits,
    grants::Grants,
    legacy,
    token::{TokenError, Unverified},
};

/// A shared secret for HS256, HS384 and HS512.
#[derive(Clone)]
pub struct Key {
    verifying: DecodingKey,
    signing: EncodingKey,
    bytes: usize,
}

/// Why a text cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// An empty secret would accept every token that was signed with nothing.
    #[error("the secret is empty: give at least 32 random bytes")]
    Empty,
    /// A public key that is used as a shared secret is known to everyone.
    #[error("the secret is a PEM document, which this version does not use as a key: give a shared secret")]
    Pem,
}

impl Key {
    /// A shared secret.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn secret(secret: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let secret = secret.as_ref();
        if secret.is_empty() {
            return Err(KeyError::Empty);
        }
        if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
            return Err(KeyError::Pem);
        }
        Ok(Self {
            verifying: DecodingKey::from_secret(secret),
            signing: EncodingKey::from_secret(secret),
            bytes: secret.len(),
        })
    }

    /// Whether the secret is shorter than the output of the hash, which RFC 7518 (section 3.2) asks for at least.
    pub fn is_short(&self) -> bool {
        self.bytes < 32
    }

    /// Signs claims with HS256.
    ///
    /// ```
    /// let key = petasos_server::Key::secret("!ChangeThisMercureHubJWTSecretKey!")?;
    /// let token = key.sign(r#"{"mercure":{"publish":["*"]}}"#);
    /// assert_eq!(token.split('.').count(), 3);
    /// # Ok::<(), petasos_server::KeyError>(())
    /// ```
    pub fn sign(&self, claims: &str) -> String {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = crypto::sign(input.as_bytes(), &self.signing, Algorithm::HS256);
        format!("{input}.{}", signature.expect("a secret of any length signs with HMAC"))
    }

    /// Verifies a 0.x token and reads its grants, with its expiry in seconds since the Unix epoch.
    pub(crate) fn verify(
        &self,
        token: &str,
        now: f64,
        limits: &Limits,
    ) -> Result<(Grants, Option<f64>), TokenError> {
        let unverified = Unverified::parse(token, limits)?;
        if unverified.is_access_token() {
            return Err(TokenError::AccessToken);
        }
        let algorithm = match unverified.algorithm() {
            "HS256" => Algorithm::HS256,
            "HS384" => Algorithm::HS384,
            "HS512" => Algorithm::HS512,
            _ => return Err(TokenError::Algorithm),
        };
        let claims = unverified.verify(|input, signature| {
            crypto::verify(signature, input.as_bytes(), &self.verifying, algorithm).unwrap_or(false)
        })?;
        let expiry = claims.check_lifetime(now)?;
        Ok((legacy::grants(&claims, limits)?, expiry))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Key {
        Key::secret(secret).expect("a key")
    }

    fn verify(key: &Key, token: &str) -> Result<(Grants, Option<f64>), TokenError> {
        key.verify(token, 1_000.0, &Limits::default())
    }

    #[test]
    fn signed_tokens_verify_with_the_same_secret_only() {
        let token = key("secret").sign(r#"{"mercure":{"publish":["*"]},"exp":2000}"#);
        let (grants, expiry) = verify(&key("secret"), &token).expect("valid");
        assert_eq!((grants.publish.len(), expiry), (1, Some(2000.0)));
        assert_eq!(verify(&key("other"), &token).err(), Some(TokenError::Signature));
        assert_eq!(verify(&key("secret"), &format!("{token}x")).err().map(|_| ()), Some(()));
    }

    #[test]
    fn the_token_of_another_library_verifies() {
        // The example token of the 0.x documentation, signed by jwt.io with "!ChangeMe!" and HS256.
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdfX0.vhMwOaN5K68BTIhWokMLOeOJO4EPfT64brd8euJOA4M";
        assert!(verify(&key("!ChangeMe!"), token).is_ok());
    }

    #[test]
    fn no_other_algorithm_is_accepted() {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        for algorithm in ["none", "None", "RS256", "hs256", "HS1"] {
            let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{algorithm}"}}"#));
            for signature in ["", "c2ln"] {
                let token = format!("{header}.e30.{signature}");
                assert_eq!(verify(&key("secret"), &token).err(), Some(TokenError::Algorithm), "{algorithm}");
            }
        }
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"at+jwt"}"#);
        assert_eq!(verify(&key("s"), &format!("{header}.e30.c2ln")).err(), Some(TokenError::AccessToken));
    }

    #[test]
    fn bad_secrets_are_refused_and_never_shown() {
        assert_eq!(Key::secret("").err(), Some(KeyError::Empty));
        assert_eq!(Key::secret("\n-----BEGIN PUBLIC KEY-----").err(), Some(KeyError::Pem));
        assert_eq!(format!("{:?}", key("top-secret")), "Key(..)");
        assert!(key("short").is_short() && !key(&"x".repeat(32)).is_short());
    }
}
