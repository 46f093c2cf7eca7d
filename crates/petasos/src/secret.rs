//! A secret that no output shows, and that is overwritten when it is dropped.

use std::{convert::Infallible, fmt, str::FromStr};

use uuid::Uuid;
use zeroize::Zeroizing;

/// A secret that no output shows. Its memory is overwritten when it is dropped; what it was made of is the caller's.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes of a secret.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// Makes 244 random bits, in 64 hexadecimal digits.
    pub fn random() -> Self {
        Self::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The bytes. The caller must not log them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = Infallible;

    fn from_str(secret: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(secret))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
