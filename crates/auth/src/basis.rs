//! What a token was accepted by: the issuer, the terms and the key.
//!
//! A stream outlives the request with its token, and the token itself is not kept. Its basis is enough to decide later
//! whether the settings of then would still accept the token, as far as keys and issuers decide it. Dates do not count here:
//! a stream ends by itself when its token expires.
//!
//! For a 0.x token that names no issuer of then, the answer can differ from what a new request would get: its basis does not say
//! which issuer it names. If that issuer is trusted now, a new request with the token is verified by the keys of that issuer,
//! while the stream stays as long as the first issuer keeps its key.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use crate::{Algorithm, Key};

/// What a token was accepted by. Two tokens have the same basis if they name the same issuer in the same version of the
/// protocol, and the same key has verified them with the same algorithm. The name of a key (`kid`) does not count, because a
/// key may get one when it moves into a JWK Set.
///
/// Keys that are fetched from a server count as one: the basis of their tokens is the address of the set.
///
/// It is 64 bits of a SHA-256 digest. Only who chooses keys could make two of them equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Basis(u64);

/// For whom a token speaks, and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Terms<'a> {
    /// A 1.0 token of this issuer, for this resource.
    V1 { issuer: &'a str, resource: &'a str },
    /// A 0.x token that names this issuer.
    Legacy { issuer: &'a str },
    /// A 0.x token that names none of the issuers, so that the keys of the first one count.
    LegacyOfFirst,
}

/// What has verified a signature.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof<'a> {
    Key(&'a Key),
    /// One of the keys that are fetched from there.
    Remote(&'a str),
}

impl Basis {
    pub(crate) fn new(terms: Terms<'_>, proof: Proof<'_>, algorithm: Algorithm) -> Self {
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            // Its length first, so that no two lists of parts have the same bytes.
            context.update(&part.len().to_le_bytes());
            context.update(part);
        };
        match terms {
            Terms::V1 { issuer, resource } => {
                for part in ["1.0", issuer, resource] {
                    add(part.as_bytes());
                }
            }
            Terms::Legacy { issuer } => {
                for part in ["0.x", issuer] {
                    add(part.as_bytes());
                }
            }
            Terms::LegacyOfFirst => add(b"0.x of the first issuer"),
        }
        match proof {
            Proof::Key(key) => {
                add(b"key");
                add(key.thumbprint());
            }
            Proof::Remote(address) => {
                add(b"remote");
                add(address.as_bytes());
            }
        }
        add(algorithm.as_str().as_bytes());
        let digest = context.finish();
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_ref()[..8]);
        Self(u64::from_le_bytes(first))
    }

    /// The 64 bits.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl<'a> Terms<'a> {
    /// The terms that tokens of an issuer may have. `is_first`: it is the first of the trusted ones.
    pub(crate) fn possible(
        issuer: &'a str,
        is_first: bool,
        resource: &'a str,
        compat: bool,
    ) -> impl Iterator<Item = Self> {
        let v1 = Self::V1 { issuer, resource };
        let named = compat.then_some(Self::Legacy { issuer });
        let unnamed = (compat && is_first).then_some(Self::LegacyOfFirst);
        std::iter::once(v1).chain(named).chain(unnamed)
    }
}

impl fmt::Debug for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It says which streams share a key, and nothing about the key.
        write!(f, "Basis({:016x})", self.0)
    }
}
