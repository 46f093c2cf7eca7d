//! Whom the hub trusts: issuers, each with its own keys for publishers' and for subscribers' tokens, and the way from a
//! token to what it grants (section "Token Validation").
//!
//! A token is verified with the keys of the issuer it names and with no others: a pool would let one issuer speak for
//! another. A 0.x token need not name one; it is verified with the keys of the first issuer.
//!
//! What a key set has verified, it remembers ([`KeySet`]); a token that is known means exactly what it means without.

use std::{fmt, sync::Arc};

use petasos_protocol::{
    Dialect, Limits, details,
    grants::Grants,
    legacy,
    token::{Role, Shown, TokenError, Unverified},
    topic::HubUrl,
};

use crate::{
    Algorithm, Key, RemoteKeys,
    key_set::{KeySet, Known, RoleToken},
};

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

/// The keys of one role of one issuer: known from the start, or fetched from the issuer's server. Without any, every
/// token is refused. Clones share them, and what they have verified.
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
#[derive(Clone)]
pub struct Verified {
    /// Its permissions, shared by all who come with this token while its verification is remembered.
    pub grants: Arc<Grants>,
    /// When it expires, in seconds since the Unix epoch; 0.x tokens may never.
    pub expiry: Option<f64>,
    /// What it is written in.
    pub dialect: Dialect,
}

impl Issuers {
    /// Asks for the keys that are elsewhere, so that they are here when the first token comes. Needs a tokio runtime.
    pub fn prepare(&self) {
        for keys in self.trusted.iter().flat_map(|issuer| [&issuer.publisher, &issuer.subscriber]) {
            if let Source::Remote(remote) = &keys.0 {
                remote.fetch();
            }
        }
    }

    /// Verifies a token at the time `now`, in seconds since the Unix epoch. A valid one is remembered as long as the keys
    /// that verified it are used.
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
        if token.len() > limits.token_bytes_max {
            // Refused there, and not worth looking for.
            return self.verify_anew(token, role, hub, now, limits).await.map(|(known, _)| known.verified);
        }
        let key = RoleToken::new(role, token);
        if let Some(known) = self.known(role, &key, hub, limits).await? {
            return known.at(now);
        }
        let (known, keys) = self.verify_anew(token, role, hub, now, limits).await?;
        let verified = known.verified.clone();
        keys.remember(key, Arc::new(known), self, hub, limits);
        Ok(verified)
    }

    /// What is known of a token, from keys that may still be used.
    async fn known(
        &self,
        role: Role,
        token: &RoleToken,
        hub: &HubUrl,
        limits: &Limits,
    ) -> Result<Option<Arc<Known>>, TokenError> {
        for (place, issuer) in self.trusted.iter().enumerate() {
            let Some(keys) = issuer.of(role).at_hand() else { continue };
            let known = keys.recall(token, self, hub, limits).filter(|known| known.issuer == place);
            let Some(known) = known else { continue };
            // As without: it may be time to fetch them again, and to wait for that.
            let usable = issuer.keys(role, known.key_id.as_deref()).await?;
            return Ok(Arc::ptr_eq(&keys, &usable).then_some(known));
        }
        Ok(None)
    }

    /// Verifies a token of which nothing is known, and names the keys that have verified it.
    async fn verify_anew(
        &self,
        token: &str,
        role: Role,
        hub: &HubUrl,
        now: f64,
        limits: &Limits,
    ) -> Result<(Known, Arc<KeySet>), TokenError> {
        let unverified = Unverified::parse(token, limits)?;
        if !self.compat {
            unverified.require_access_token()?;
        }
        let claimed = unverified.claimed_issuer();
        let named = self.trusted.iter().position(|issuer| claimed.as_deref() == Some(&*issuer.id));
        let (place, dialect) = match (unverified.is_access_token(), named, &claimed) {
            (true, Some(place), _) => (place, Dialect::V1),
            (true, None, Some(claimed)) => {
                return Err(TokenError::IssuerUnknown { issuer: Shown::new(claimed) });
            }
            (true, None, None) => return Err(TokenError::IssuerMissing),
            (false, named, _) => (named.unwrap_or(0), Dialect::Legacy),
        };
        let unset = || TokenError::NoKey { role, issuer: Shown::words("of 0.x tokens") };
        let issuer = self.trusted.get(place).ok_or_else(unset)?;
        let key_id = unverified.key_id().map(Box::from);
        let keys = issuer.keys(role, key_id.as_deref()).await?;
        let verify = issuer.verifier(role, &keys, &unverified)?;
        let claims = unverified.verify(verify)?;
        let expiry = match dialect {
            Dialect::Legacy => claims.check_lifetime(now)?,
            Dialect::V1 => {
                claims.check_party(&issuer.id, &self.resource)?;
                Some(claims.check_lifetime(now)?.ok_or(TokenError::ExpiryMissing)?)
            }
        };
        // A number, since the lifetime has been checked.
        let not_before = claims.json("nbf").and_then(|json| serde_json::from_str(json).ok());
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
        let verified = Verified { grants: Arc::new(grants), expiry, dialect };
        Ok((Known { verified, not_before, key_id, issuer: place }, keys))
    }

    fn is_first(&self, issuer: &Issuer) -> bool {
        self.trusted.first().is_some_and(|first| first.id == issuer.id)
    }
}

impl Keys {
    /// The keys that are here, old or not.
    fn at_hand(&self) -> Option<Arc<KeySet>> {
        match &self.0 {
            Source::Fixed(keys) => Some(keys.clone()),
            Source::Remote(remote) => remote.at_hand(),
        }
    }
}

impl Issuer {
    fn of(&self, role: Role) -> &Keys {
        match role {
            Role::Publisher => &self.publisher,
            Role::Subscriber => &self.subscriber,
        }
    }

    /// This issuer's keys, for a token that names its key so.
    async fn keys(&self, role: Role, id: Option<&str>) -> Result<Arc<KeySet>, TokenError> {
        match &self.of(role).0 {
            Source::Fixed(keys) => Ok(keys.clone()),
            Source::Remote(remote) => remote.keys(id).await.map_err(|problem| TokenError::KeysUnavailable {
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

#[cfg(test)]
mod tests {
    use std::mem;

    use petasos_protocol::topic::Topic;

    use super::*;
    use crate::Signer;

    const RESOURCE: &str = "https://hub.example/m";
    const FIRST: &str = "https://first.example";
    const SECOND: &str = "https://second.example";
    const LEGACY: &str =
        r#"{"exp":2000,"nbf":1000,"mercure":{"publish":["a"],"subscribe":["/b/*"],"payload":1}}"#;

    fn keys(secret: &str) -> Keys {
        vec![Key::parse(secret, &[]).expect("a key")].into()
    }

    /// Two that have signed nothing yet.
    fn issuers() -> Issuers {
        let issuer = |id: &str, publisher, subscriber| Issuer {
            id: id.to_owned(),
            publisher: keys(publisher),
            subscriber: keys(subscriber),
            authorization_server: false,
        };
        Issuers {
            trusted: vec![issuer(FIRST, "p1", "s1"), issuer(SECOND, "p2", "s2")],
            resource: RESOURCE.to_owned(),
            compat: true,
            prefixes: false,
        }
    }

    fn access(issuer: &str, topic: &str, dates: &str) -> String {
        format!(
            r#"{{"iss":"{issuer}","aud":"{RESOURCE}",{dates}"authorization_details":[{{"actions":["subscribe","publish"],
            "type":"https://mercure.rocks/authorization-detail","topics":[{{"match":"{topic}"}}],"payload":{{}}}}]}}"#
        )
    }

    fn sign(secret: &str, typ: &str, claims: &str) -> String {
        Signer::parse(secret, None).expect("a secret").sign(typ, claims)
    }

    fn in_force(issuer: &str) -> String {
        access(issuer, "a", r#""exp":2000,"nbf":1000,"#)
    }

    async fn verify(issuers: &Issuers, token: &str, role: Role, now: f64) -> Result<Verified, TokenError> {
        issuers.verify(token, role, &HubUrl::default(), now, &Limits::default()).await
    }

    /// All that can be told of an outcome.
    fn told(outcome: &Result<Verified, TokenError>) -> String {
        match outcome {
            Ok(Verified { grants, expiry, dialect }) => {
                format!("{grants:?} {:?} {expiry:?} {dialect:?}", grants.payloads)
            }
            Err(reason) => format!("{reason:?}"),
        }
    }

    fn remembered(issuers: &Issuers) -> usize {
        let sets = issuers.trusted.iter().flat_map(|issuer| [&issuer.publisher, &issuer.subscriber]);
        sets.map(|keys| keys.at_hand().expect("keys").remembered()).sum()
    }

    #[tokio::test]
    async fn a_token_that_is_known_says_the_same_and_is_as_old_as_it_is() {
        for (secret, typ, claims) in [
            ("s1", "JWT", LEGACY.to_owned()),
            ("s1", "JWT", r#"{"mercure":{"subscribe":["*"]}}"#.to_owned()),
            ("s1", "at+jwt", in_force(FIRST)),
            ("s2", "at+jwt", in_force(SECOND)),
            ("s2", "at+jwt", access(SECOND, "a", r#""exp":1500.5,"#)),
        ] {
            let token = sign(secret, typ, &claims);
            let known = issuers();
            let first = verify(&known, &token, Role::Subscriber, 1_200.0).await.expect("valid");
            assert_eq!(remembered(&known), 1);
            for now in [0.0, 999.9, 1_000.0, 1_200.0, 1_500.4, 1_500.5, 1_999.9, 2_000.0, 1e12, 1_200.0] {
                let again = verify(&known, &token, Role::Subscriber, now).await;
                let anew = verify(&issuers(), &token, Role::Subscriber, now).await;
                assert_eq!(told(&again), told(&anew), "{claims} at {now}");
                if let Ok(again) = again {
                    assert!(Arc::ptr_eq(&first.grants, &again.grants), "{claims} at {now}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_is_known_to_one_role_is_unknown_to_the_other() {
        let apart = issuers();
        let token = sign("s1", "at+jwt", &in_force(FIRST));
        verify(&apart, &token, Role::Subscriber, 1_200.0).await.expect("valid");
        for _ in 0..2 {
            let refused = verify(&apart, &token, Role::Publisher, 1_200.0).await;
            assert!(matches!(refused, Err(TokenError::Signature { role: Role::Publisher, .. })));
        }
        // Even with the same keys.
        let mut one = issuers();
        one.trusted[0].publisher = one.trusted[0].subscriber.clone();
        let subscriber = verify(&one, &token, Role::Subscriber, 1_200.0).await.expect("valid");
        let publisher = verify(&one, &token, Role::Publisher, 1_200.0).await.expect("valid");
        assert!(!Arc::ptr_eq(&subscriber.grants, &publisher.grants));
        assert_eq!(one.trusted[0].publisher.at_hand().expect("keys").remembered(), 2);
    }

    #[tokio::test]
    async fn nothing_that_is_refused_is_remembered() {
        let issuers = issuers();
        let good = sign("s1", "at+jwt", &in_force(FIRST));
        let (input, _) = good.rsplit_once('.').expect("a signature");
        let wrong_audience = in_force(FIRST).replace(RESOURCE, "https://other.example/m");
        for bad in [
            String::new(),
            "a.b.c".to_owned(),
            format!("{input}."),
            format!("{good}A"),
            sign("p1", "at+jwt", &in_force(FIRST)),
            sign("s2", "at+jwt", &in_force(FIRST)),
            sign("s1", "at+jwt", &in_force("https://third.example")),
            sign("s1", "at+jwt", &wrong_audience),
            sign("s1", "at+jwt", &access(FIRST, "a", "")),
            sign("s1", "at+jwt", &access(FIRST, "a", r#""exp":1200,"#)),
            sign("s1", "at+jwt", &access(FIRST, "a", r#""exp":2000,"nbf":1201,"#)),
            sign("s1", "at+jwt", &in_force(FIRST).replace("\"subscribe\"", "1")),
            sign("s1", "JWT", r#"{"mercure":[]}"#),
            sign("s2", "JWT", &format!(r#"{{"iss":"{SECOND}"}}"#)),
            sign("s1", "at+jwt", &access(FIRST, &"a".repeat(16 * 1024), r#""exp":2000,"#)),
        ] {
            for _ in 0..2 {
                let refused = verify(&issuers, &bad, Role::Subscriber, 1_200.0).await;
                assert!(refused.is_err(), "{bad}: {refused:?}");
            }
        }
        assert_eq!(remembered(&issuers), 0);
        verify(&issuers, &good, Role::Subscriber, 1_200.0).await.expect("valid");
        assert_eq!(remembered(&issuers), 1);
    }

    #[tokio::test]
    async fn what_a_token_means_elsewhere_is_not_remembered_here() {
        let here = issuers();
        let pattern = r#"/b/:id","match_type":"urlpattern"#;
        let tokens = [
            sign("s1", "JWT", LEGACY),
            sign("s1", "at+jwt", &in_force(FIRST)),
            sign("s1", "at+jwt", &access(FIRST, pattern, r#""exp":2000,"#)),
        ];
        let with = |change: fn(&mut Issuers)| {
            let mut there = here.clone();
            change(&mut there);
            there
        };
        let elsewhere = [
            here.clone(),
            with(|there| there.compat = false),
            with(|there| there.prefixes = true),
            with(|there| there.resource = "https://other.example/m".to_owned()),
            with(|there| there.trusted[0].id = "https://third.example".to_owned()),
            with(|there| there.trusted.truncate(1)),
            with(|there| there.trusted.reverse()),
            with(|there| {
                let second = there.trusted[1].subscriber.clone();
                there.trusted[1].subscriber = mem::replace(&mut there.trusted[0].subscriber, second);
            }),
        ];
        let (hub, limits) = (HubUrl::default(), Limits::default());
        let hubs = [hub.clone(), HubUrl::parse("https://hub.example/m").expect("a URL")];
        let short = Limits { token_bytes_max: 8, ..limits.clone() };
        let few = Limits { token_matchers_max: 0, ..limits.clone() };
        let topics = ["/b/1", "https://hub.example/b/1"].map(|topic| Topic::unchecked(topic, &hub));
        let first_keys = here.trusted[0].subscriber.at_hand().expect("keys");
        for there in &elsewhere {
            // The same, with keys that know nothing.
            let anew = || {
                let mut anew = there.clone();
                for issuer in &mut anew.trusted {
                    let is_first = Arc::ptr_eq(&issuer.subscriber.at_hand().expect("keys"), &first_keys);
                    issuer.subscriber = keys(if is_first { "s1" } else { "s2" });
                }
                anew
            };
            for (token, hub, limits) in tokens.iter().flat_map(|token| {
                let hubs = hubs.iter().map(move |hub| (token, hub));
                hubs.flat_map(|(token, hub)| [&limits, &short, &few].map(|limits| (token, hub, limits)))
            }) {
                verify(&here, token, Role::Subscriber, 1_200.0).await.expect("valid");
                let [outcome, expected] = [
                    there.verify(token, Role::Subscriber, hub, 1_200.0, limits).await,
                    anew().verify(token, Role::Subscriber, hub, 1_200.0, limits).await,
                ];
                let granted = |outcome: &Result<Verified, TokenError>| {
                    let may_read = |topic| outcome.as_ref().is_ok_and(|found| found.grants.may_read(topic));
                    topics.each_ref().map(may_read)
                };
                assert_eq!(told(&outcome), told(&expected), "{there:?} {hub:?} {limits:?}");
                assert_eq!(granted(&outcome), granted(&expected), "{there:?} {hub:?} {limits:?}");
            }
        }
    }

    #[tokio::test]
    async fn no_token_is_shown() {
        let issuers = issuers();
        let token = sign("s1", "at+jwt", &in_force(FIRST));
        let verified = verify(&issuers, &token, Role::Subscriber, 1_200.0).await.expect("valid");
        let (header, rest) = token.split_once('.').expect("three parts");
        let (claims, signature) = rest.split_once('.').expect("three parts");
        let shown = format!("{issuers:?} {verified:?}");
        assert!(![header, claims, signature].iter().any(|part| shown.contains(part)), "{shown}");
    }
}
