//! Whom the hub trusts: issuers, each with its own keys for publishers' and for subscribers' tokens, and the way from a
//! token to what it grants (section "Token Validation").
//!
//! A token is verified with the keys of the issuer it names and with no others: a pool would let one issuer speak for
//! another. A 0.x token need not name one; it is verified with the keys of the first issuer.

use std::{fmt, sync::Arc};

use petasos_protocol::{
    Dialect, Limits, details,
    grants::Grants,
    legacy,
    token::{Role, Shown, TokenError, Unverified},
    topic::HubUrl,
};

use crate::{Algorithm, Key, RemoteKeys};

/// Someone who may sign tokens.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The issuer identifier: the `iss` of its tokens, compared byte for byte.
    pub id: String,
    /// Verify publishers' tokens; empty: it may not issue any.
    pub publisher: Keys,
    /// Verify subscribers' tokens.
    pub subscriber: Keys,
    /// Whether clients can ask it for tokens, which the metadata then says.
    pub authorization_server: bool,
}

/// The keys of one role of one issuer.
#[derive(Debug, Clone)]
pub enum Keys {
    /// Known from the start; none: every token is refused.
    Fixed(Arc<[Key]>),
    /// Fetched from the issuer's server.
    Remote(RemoteKeys),
}

impl From<Vec<Key>> for Keys {
    fn from(keys: Vec<Key>) -> Self {
        Self::Fixed(keys.into())
    }
}

impl From<RemoteKeys> for Keys {
    fn from(keys: RemoteKeys) -> Self {
        Self::Remote(keys)
    }
}

/// The issuers of one hub, and what their tokens must say.
#[derive(Debug, Clone)]
pub struct Issuers {
    /// Those that are trusted. The first one's keys verify 0.x tokens that name none of them.
    pub trusted: Vec<Issuer>,
    /// The hub's resource identifier, the `aud` of 1.0 tokens.
    pub resource: String,
    /// Whether 0.x tokens are accepted.
    pub compat: bool,
    /// Whether a `*` at the end of a topic selector in a 0.x token stands for any rest.
    pub prefixes: bool,
}

/// What a verified token says.
pub struct Verified {
    /// Its permissions.
    pub grants: Grants,
    /// When it expires, in seconds since the Unix epoch; 0.x tokens may never.
    pub expiry: Option<f64>,
    /// What it is written in.
    pub dialect: Dialect,
}

impl Issuers {
    /// Asks for the keys that are elsewhere, so that they are here when the first token comes. Needs a tokio runtime.
    pub fn prepare(&self) {
        for keys in self.trusted.iter().flat_map(|issuer| [&issuer.publisher, &issuer.subscriber]) {
            if let Keys::Remote(remote) = keys {
                remote.fetch();
            }
        }
    }

    /// Verifies a token at the time `now`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// The precise reason, for the operator. The bearer must learn no more than that the token is invalid; with
    /// [`TokenError::KeysUnavailable`], not even that is known.
    pub async fn verify(
        &self,
        token: &str,
        role: Role,
        hub: &HubUrl,
        now: f64,
        limits: &Limits,
    ) -> Result<Verified, TokenError> {
        let unverified = Unverified::parse(token, limits)?;
        if !self.compat {
            unverified.require_access_token()?;
        }
        let claimed = unverified.claimed_issuer();
        let named = self.trusted.iter().find(|issuer| claimed.as_deref() == Some(&*issuer.id));
        let (issuer, dialect) = match (unverified.is_access_token(), named, &claimed) {
            (true, Some(issuer), _) => (issuer, Dialect::V1),
            (true, None, Some(claimed)) => {
                return Err(TokenError::IssuerUnknown { issuer: Shown::new(claimed) });
            }
            (true, None, None) => return Err(TokenError::IssuerMissing),
            (false, named, _) => {
                let unset = || TokenError::NoKey { role, issuer: Shown::words("of 0.x tokens") };
                (named.or(self.trusted.first()).ok_or_else(unset)?, Dialect::Legacy)
            }
        };
        let keys = issuer.keys(role, unverified.key_id()).await?;
        let verify = issuer.verifier(role, &keys, &unverified)?;
        let claims = unverified.verify(verify)?;
        let expiry = match dialect {
            Dialect::Legacy => claims.check_lifetime(now)?,
            Dialect::V1 => {
                claims.check_party(&issuer.id, &self.resource)?;
                Some(claims.check_lifetime(now)?.ok_or(TokenError::ExpiryMissing)?)
            }
        };
        let grants = match dialect {
            // A 0.x token has no audience, and further issuers sign others, such as ID tokens, which are no access tokens.
            Dialect::Legacy if !self.is_first(issuer) && !legacy::has_claim(&claims) => {
                return Err(TokenError::Claim {
                    claim: "mercure",
                    expected: "there, in 0.x tokens of further issuers",
                });
            }
            Dialect::Legacy => legacy::grants(&claims, self.prefixes, limits)?,
            Dialect::V1 => details::grants(&claims, hub, limits)?,
        };
        Ok(Verified { grants, expiry, dialect })
    }

    fn is_first(&self, issuer: &Issuer) -> bool {
        self.trusted.first().is_some_and(|first| first.id == issuer.id)
    }
}

impl Issuer {
    /// This issuer's keys, for a token that names its key so.
    async fn keys(&self, role: Role, id: Option<&str>) -> Result<Arc<[Key]>, TokenError> {
        let keys = match role {
            Role::Publisher => &self.publisher,
            Role::Subscriber => &self.subscriber,
        };
        match keys {
            Keys::Fixed(keys) => Ok(keys.clone()),
            Keys::Remote(remote) => remote.keys(id).await.map_err(|problem| TokenError::KeysUnavailable {
                role,
                issuer: Shown::new(&self.id),
                problem: Shown::words(&problem.to_string()),
            }),
        }
    }

    /// What verifies a signature with those of the keys that the token may have been signed with.
    fn verifier<'a>(
        &self,
        role: Role,
        keys: &'a [Key],
        token: &Unverified<'_>,
    ) -> Result<impl FnOnce(&str, &str) -> Result<(), TokenError> + use<'a>, TokenError> {
        let issuer = Shown::new(&self.id);
        if keys.is_empty() {
            return Err(TokenError::NoKey { role, issuer });
        }
        let name = token.algorithm();
        let fitting = name.parse::<Algorithm>().ok().map(|algorithm| {
            (algorithm, keys.iter().filter(|key| key.allows(algorithm)).collect::<Vec<_>>())
        });
        let Some((algorithm, mut candidates)) = fitting.filter(|(_, candidates)| !candidates.is_empty())
        else {
            return Err(TokenError::Algorithm { algorithm: Shown::new(name), role, issuer });
        };
        // A hint: the keys of that name, and if none has it, all.
        if let Some(id) = token.key_id()
            && candidates.iter().any(|key| key.id() == Some(id))
        {
            candidates.retain(|key| key.id() == Some(id));
        }
        Ok(move |input: &str, signature: &str| {
            let verified = candidates.iter().any(|key| key.verifies(algorithm, input, signature));
            if verified { Ok(()) } else { Err(TokenError::Signature { role, issuer }) }
        })
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("grants", &self.grants)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}
