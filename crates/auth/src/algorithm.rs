//! The signature algorithms of tokens: their names, the keys that they need, and their implementations.

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
        RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
        RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
    },
};

/// A signature algorithm of RFC 7518 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant has the name that the RFC gives it")]
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

/// A name that is no signature algorithm of this hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown algorithm: use one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, \
     EdDSA"
)]
pub struct UnknownAlgorithm;

impl Algorithm {
    /// All algorithms. There is no `none`.
    pub const ALL: [Self; 13] =
        [HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA];

    /// The algorithms that take a shared secret.
    pub(crate) const HMAC: &[Self] = &[HS256, HS384, HS512];

    /// The algorithms that take an RSA key.
    pub(crate) const RSA: &[Self] = &[RS256, RS384, RS512, PS256, PS384, PS512];

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

    /// Whether the algorithm takes a shared secret.
    pub(crate) fn is_symmetric(self) -> bool {
        Self::HMAC.contains(&self)
    }

    /// The least number of bytes of a shared secret: as many as the hash has (RFC 7518, section 3.2). `None`: the algorithm
    /// takes no secret.
    pub(crate) fn secret_bytes_min(self) -> Option<usize> {
        self.hmac().map(|hmac| hmac.digest_algorithm().output_len())
    }

    /// The implementation of an algorithm that takes a shared secret.
    pub(crate) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            HS256 => Some(hmac::HMAC_SHA256),
            HS384 => Some(hmac::HMAC_SHA384),
            HS512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    /// The implementation of an algorithm that takes a public key.
    pub(crate) fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            HS256 | HS384 | HS512 => return None,
            RS256 => &RSA_PKCS1_2048_8192_SHA256,
            RS384 => &RSA_PKCS1_2048_8192_SHA384,
            RS512 => &RSA_PKCS1_2048_8192_SHA512,
            PS256 => &RSA_PSS_2048_8192_SHA256,
            PS384 => &RSA_PSS_2048_8192_SHA384,
            PS512 => &RSA_PSS_2048_8192_SHA512,
            ES256 => &ECDSA_P256_SHA256_FIXED,
            ES384 => &ECDSA_P384_SHA384_FIXED,
            ES512 => &ECDSA_P521_SHA512_FIXED,
            EdDSA => &ED25519,
        })
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL.into_iter().find(|each| each.as_str() == name).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_has_a_name_and_one_implementation() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
            assert_eq!(algorithm.hmac().is_some(), algorithm.is_symmetric());
            assert_ne!(algorithm.hmac().is_some(), algorithm.verification().is_some());
        }
        for name in ["none", "", "hs256", "HS256 ", "ES256K", "Ed25519"] {
            assert_eq!(name.parse::<Algorithm>(), Err(UnknownAlgorithm), "{name}");
            assert!(UnknownAlgorithm.to_string().contains("EdDSA"));
        }
    }

    #[test]
    fn a_secret_has_as_many_bytes_as_the_hash() {
        assert_eq!(HS256.secret_bytes_min(), Some(32));
        assert_eq!(HS384.secret_bytes_min(), Some(48));
        assert_eq!(HS512.secret_bytes_min(), Some(64));
        assert_eq!(RS256.secret_bytes_min(), None);
    }
}
