//! The issuers that a hub trusts, each with its own keys for the tokens of publishers and of subscribers.
//!
//! This file holds settings. The [`Verifier`](crate::Verifier) applies them.

use std::sync::Arc;

use petasos_protocol::token::Role;

use crate::{
    Key,
    key_set::KeySet,
    remote::{FetchError, RemoteKeys},
};

/// The issuers of one hub, and what their tokens must say.
#[derive(Debug, Clone)]
pub struct Issuers {
    /// The trusted issuers. The keys of the first one also verify 0.x tokens that name none of them.
    pub trusted: Vec<Issuer>,
    /// The hub's resource identifier, the `aud` of 1.0 tokens.
    pub resource: String,
    /// Whether 0.x tokens are accepted.
    pub compat: bool,
    /// Whether a `*` at the end of a topic selector in a 0.x token stands for any text.
    pub prefixes: bool,
}

/// A party whose tokens the hub accepts.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The issuer identifier: the `iss` of its tokens, compared byte for byte.
    pub id: String,
    /// The keys that verify its publishers' tokens. Empty: it may issue none.
    pub publisher: Keys,
    /// The keys that verify its subscribers' tokens. Empty: it may issue none.
    pub subscriber: Keys,
    /// Whether the issuer is an authorization server that clients can ask for tokens. The hub's metadata then names it.
    pub authorization_server: bool,
}

/// The keys of one issuer for one role: given as a setting, or fetched from the issuer's server. Clones share them.
///
/// Without any key, every token is refused.
#[derive(Debug, Clone)]
pub struct Keys(Source);

#[derive(Debug, Clone)]
enum Source {
    Fixed(Arc<KeySet>),
    Remote(RemoteKeys),
}

impl From<Vec<Key>> for Keys {
    fn from(keys: Vec<Key>) -> Self {
        Self(Source::Fixed(Arc::new(keys.into())))
    }
}

impl From<RemoteKeys> for Keys {
    fn from(keys: RemoteKeys) -> Self {
        Self(Source::Remote(keys))
    }
}

impl Issuers {
    /// Starts to fetch all remote keys, so that they are there when the first token comes. Returns at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn prepare(&self) {
        for keys in self.trusted.iter().flat_map(|issuer| [&issuer.publisher, &issuer.subscriber]) {
            if let Source::Remote(remote) = &keys.0 {
                remote.fetch();
            }
        }
    }
}

impl Issuer {
    /// The keys that verify tokens for a role.
    pub(crate) fn keys(&self, role: Role) -> &Keys {
        match role {
            Role::Publisher => &self.publisher,
            Role::Subscriber => &self.subscriber,
        }
    }
}

impl Keys {
    /// The keys in force, for a token that names its key `id`. Remote keys are fetched first if they are due: five seconds
    /// at most.
    ///
    /// # Errors
    /// [`FetchError`]: there are no keys, and why the last attempt to fetch them failed.
    pub(crate) async fn current(&self, id: Option<&str>) -> Result<Arc<KeySet>, FetchError> {
        match &self.0 {
            Source::Fixed(keys) => Ok(Arc::clone(keys)),
            Source::Remote(remote) => remote.keys(id).await,
        }
    }
}
