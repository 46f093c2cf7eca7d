//! The issuers that a hub trusts, each with its own keys for the tokens of publishers and of subscribers.
//!
//! This file holds settings. The [`Verifier`](crate::Verifier) applies them.

use std::{collections::HashSet, sync::Arc};

use petasos_protocol::token::Role;

use crate::{
    Basis, Key,
    basis::{Proof, Terms},
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

impl Issuers {
    /// Takes over what the former settings have fetched, where the address is the same: keys of other servers stay known,
    /// and are not asked for again.
    pub fn adopt(&mut self, former: &Self) {
        let known: Vec<_> = former.trusted.iter().flat_map(Issuer::both).filter_map(Keys::remote).collect();
        for keys in self.trusted.iter_mut().flat_map(|issuer| [&mut issuer.publisher, &mut issuer.subscriber])
        {
            if let Some(new) = keys.remote()
                && let Some(same) = known.iter().find(|each| each.is_same(new))
            {
                *keys = (*same).clone().into();
            }
        }
    }

    /// Whether both accept the same tokens, and read the same in them.
    pub fn are_same(&self, other: &Self) -> bool {
        let same = |one: &Issuer, other: &Issuer| {
            one.id == other.id
                && one.publisher.are_same(&other.publisher)
                && one.subscriber.are_same(&other.subscriber)
        };
        self.trusted.len() == other.trusted.len()
            && self.trusted.iter().zip(&other.trusted).all(|(one, other)| same(one, other))
            && (&self.resource, self.compat, self.prefixes) == (&other.resource, other.compat, other.prefixes)
    }

    /// The bases of all tokens that these settings accept for a role. A token with another basis would be refused.
    ///
    /// ```
    /// use petasos_auth::{Issuer, Issuers, Key, Signer, Verifier};
    /// use petasos_protocol::{Limits, token::Role, topic::HubUrl};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let with = |secrets: &[&str]| -> Result<Issuers, petasos_auth::KeyError> {
    ///     let keys = secrets.iter().map(|secret| Key::parse(secret, &[])).collect::<Result<Vec<_>, _>>()?;
    ///     let issuer = Issuer {
    ///         id: "https://shop.example".to_owned(),
    ///         publisher: vec![].into(),
    ///         subscriber: keys.into(),
    ///         authorization_server: false,
    ///     };
    ///     Ok(Issuers { trusted: vec![issuer], resource: String::new(), compat: true, prefixes: false })
    /// };
    /// let (old, new) = ("the old secret, at least 32 bytes", "the new secret, at least 32 bytes");
    /// let verifier = Verifier::new(with(&[old])?, HubUrl::default(), Limits::default());
    /// let token = Signer::parse(old, None)?.sign("JWT", r#"{"mercure":{"subscribe":["news"]}}"#);
    /// let basis = verifier.verify(&token, Role::Subscriber, 1_700_000_000.0).await?.basis;
    /// assert!(with(&[new, old])?.bases(Role::Subscriber).contains(&basis));
    /// assert!(!with(&[new])?.bases(Role::Subscriber).contains(&basis));
    /// # Ok(())
    /// # }
    /// ```
    pub fn bases(&self, role: Role) -> HashSet<Basis> {
        let mut bases = HashSet::new();
        for (index, issuer) in self.trusted.iter().enumerate() {
            let keys = issuer.keys(role);
            for terms in Terms::possible(&issuer.id, index == 0, &self.resource, self.compat) {
                match &keys.0 {
                    Source::Fixed(keys) => bases.extend(keys.iter().flat_map(|key| {
                        key.algorithms().map(move |algorithm| Basis::new(terms, Proof::Key(key), algorithm))
                    })),
                    Source::Remote(remote) => {
                        let address = remote.address();
                        let basis = |algorithm| Basis::new(terms, Proof::Remote(&address), algorithm);
                        bases.extend(remote.algorithms().map(basis));
                    }
                }
            }
        }
        bases
    }

    /// The issuers whose keys are fetched, each with its identifier and the keys, once for each address.
    pub fn remote(&self) -> Vec<(&str, RemoteKeys)> {
        let mut found: Vec<(&str, RemoteKeys)> = Vec::new();
        for issuer in &self.trusted {
            for remote in issuer.both().filter_map(Keys::remote) {
                if !found.iter().any(|(_, known)| known.is_same(remote)) {
                    found.push((&issuer.id, remote.clone()));
                }
            }
        }
        found
    }
}

impl Issuer {
    fn both(&self) -> impl Iterator<Item = &Keys> {
        [&self.publisher, &self.subscriber].into_iter()
    }

    /// The keys that verify tokens for a role.
    pub(crate) fn keys(&self, role: Role) -> &Keys {
        match role {
            Role::Publisher => &self.publisher,
            Role::Subscriber => &self.subscriber,
        }
    }
}

impl Keys {
    fn remote(&self) -> Option<&RemoteKeys> {
        match &self.0 {
            Source::Fixed(_) => None,
            Source::Remote(remote) => Some(remote),
        }
    }

    fn are_same(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Fixed(one), Source::Fixed(other)) => {
                one.len() == other.len()
                    && one.iter().zip(other.iter()).all(|(one, other)| one.is_same(other))
            }
            (Source::Remote(one), Source::Remote(other)) => one.is_same(other),
            _ => false,
        }
    }

    /// The proof of a signature that `key`, which is one of these, has verified. `address`: room for the text.
    pub(crate) fn proof<'a>(&self, key: &'a Key, address: &'a mut String) -> Proof<'a> {
        match &self.0 {
            Source::Fixed(_) => Proof::Key(key),
            Source::Remote(remote) => {
                *address = remote.address();
                Proof::Remote(address)
            }
        }
    }

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
