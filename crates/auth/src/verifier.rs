//! From the text of a token to what its bearer may do (section "Token Validation").
//!
//! A token is verified with the keys of the issuer that it names, and with no others: in a pool of keys, one issuer could
//! speak for another. A 0.x token need not name its issuer. It is then verified with the keys of the first one.
//!
//! Accepted tokens are remembered ([`memory`](crate::memory)). A remembered token means exactly what it would mean if it
//! were verified again.

use std::{fmt, sync::Arc};

use petasos_protocol::{
    Dialect, Limits, legacy,
    token::{Claims, Role, Shown, TokenError, Unverified, details},
    topic::HubUrl,
};

use crate::{
    Algorithm, Basis, Issuer, Issuers, Key, Verified,
    basis::Terms,
    key_set::KeySet,
    memory::{Known, Memory, TokenDigest},
};

/// Verifies the tokens of one hub.
pub struct Verifier {
    issuers: Issuers,
    hub: HubUrl,
    limits: Limits,
    /// Remembered apart, so that many subscribers do not displace the publishers.
    publishers: Memory,
    subscribers: Memory,
}

impl Verifier {
    /// For the hub at a URL, with its bounds on tokens.
    ///
    /// ```
    /// use petasos_auth::{Issuer, Issuers, Key, Signer, Verifier};
    /// use petasos_protocol::{Limits, token::Role, topic::{HubUrl, Topic}};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = "a shared secret of at least 32 bytes";
    /// let issuer = Issuer {
    ///     id: "https://shop.example".to_owned(),
    ///     publisher: vec![].into(),
    ///     subscriber: vec![Key::parse(secret, &[])?].into(),
    ///     authorization_server: false,
    /// };
    /// let resource = "https://hub.example/.well-known/mercure".to_owned();
    /// let issuers = Issuers { trusted: vec![issuer], resource, compat: true, prefixes: false };
    /// let hub = HubUrl::default();
    /// let verifier = Verifier::new(issuers, hub.clone(), Limits::default());
    ///
    /// let token = Signer::parse(secret, None)?.sign("JWT", r#"{"mercure":{"subscribe":["news"]}}"#);
    /// let verified = verifier.verify(&token, Role::Subscriber, 1_700_000_000.0).await?;
    /// assert!(verified.grants.may_read(&Topic::unchecked("news", &hub)));
    /// assert!(verifier.verify(&token, Role::Publisher, 1_700_000_000.0).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(issuers: Issuers, hub: HubUrl, limits: Limits) -> Self {
        Self { issuers, hub, limits, publishers: Memory::default(), subscribers: Memory::default() }
    }

    /// Verifies a token for a role at the time `now`, in seconds since the Unix epoch. May wait for an issuer's keys, five
    /// seconds at most.
    ///
    /// # Errors
    /// [`TokenError`], for the operator. The bearer must learn no more than that the token is invalid. With
    /// [`TokenError::KeysUnavailable`], not even that is known.
    pub async fn verify(&self, token: &str, role: Role, now: f64) -> Result<Verified, TokenError> {
        let max = self.limits.token_bytes_max;
        if token.len() > max {
            return Err(TokenError::TooLong { max });
        }
        let memory = match role {
            Role::Publisher => &self.publishers,
            Role::Subscriber => &self.subscribers,
        };
        let digest = TokenDigest::new(token);
        if let Some(known) = memory.recall(&digest)
            && let Some(issuer) = self.issuers.trusted.get(known.issuer)
            // As for any other token, it may be time to fetch the keys, and to wait for them.
            && known.is_verified_by(&keys(issuer, role, known.key_id.as_deref()).await?)
        {
            return known.at(now);
        }
        let known = self.verify_anew(token, role, now).await?;
        let verified = known.verified.clone();
        memory.insert(digest, Arc::new(known));
        Ok(verified)
    }

    /// Verifies a token of which nothing is known.
    async fn verify_anew(&self, token: &str, role: Role, now: f64) -> Result<Known, TokenError> {
        let unverified = Unverified::parse(token, &self.limits)?;
        if !self.issuers.compat {
            unverified.require_access_token()?;
        }
        let Claimed { index, dialect, is_named } = self.claimed(&unverified)?;
        let none = || TokenError::NoKey { role, issuer: Shown::words("of 0.x tokens") };
        let issuer = self.issuers.trusted.get(index).ok_or_else(none)?;
        let key_id = unverified.key_id().map(Box::from);
        let keys = keys(issuer, role, key_id.as_deref()).await?;
        let (claims, key, algorithm) = verify_signature(unverified, issuer, role, &keys)?;
        let expiry = match dialect {
            Dialect::Legacy => claims.check_lifetime(now)?,
            Dialect::V1 => {
                claims.check_party(&issuer.id, &self.issuers.resource)?;
                Some(claims.check_lifetime(now)?.ok_or(TokenError::ExpiryMissing)?)
            }
        };
        // The claim is a number: `check_lifetime` has read it.
        let not_before = claims.json("nbf").and_then(|json| serde_json::from_str(json).ok());
        let grants = match dialect {
            // A 0.x token has no audience, and further issuers also sign tokens that are not for hubs, such as ID tokens.
            Dialect::Legacy if index > 0 && !legacy::has_claim(&claims) => {
                return Err(TokenError::Claim {
                    claim: "mercure",
                    expected: "there, in 0.x tokens of further issuers",
                });
            }
            Dialect::Legacy => legacy::grants(&claims, self.issuers.prefixes, &self.limits)?,
            Dialect::V1 => details::grants(&claims, &self.hub, &self.limits)?,
        };
        let terms = match dialect {
            Dialect::V1 => Terms::V1 { issuer: &issuer.id, resource: &self.issuers.resource },
            Dialect::Legacy if is_named => Terms::Legacy { issuer: &issuer.id },
            Dialect::Legacy => Terms::LegacyOfFirst,
        };
        let basis = Basis::new(terms, issuer.keys(role).proof(key, &mut String::new()), algorithm);
        let verified = Verified { grants: Arc::new(grants), expiry, dialect, basis };
        Ok(Known { verified, not_before, key_id, issuer: index, keys: Arc::downgrade(&keys) })
    }

    /// How many tokens are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.publishers.len() + self.subscribers.len()
    }

    /// The issuers whose tokens are accepted.
    pub fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// Whose keys have to verify a token.
    fn claimed(&self, token: &Unverified<'_>) -> Result<Claimed, TokenError> {
        let claimed = token.claimed_issuer();
        let named = self.issuers.trusted.iter().position(|issuer| claimed.as_deref() == Some(&*issuer.id));
        match (token.is_access_token(), named, &claimed) {
            (true, Some(index), _) => Ok(Claimed { index, dialect: Dialect::V1, is_named: true }),
            (true, None, Some(claimed)) => Err(TokenError::IssuerUnknown { issuer: Shown::new(claimed) }),
            (true, None, None) => Err(TokenError::IssuerMissing),
            (false, named, _) => {
                let index = named.unwrap_or(0);
                Ok(Claimed { index, dialect: Dialect::Legacy, is_named: named.is_some() })
            }
        }
    }
}

/// Whose keys have to verify a token.
struct Claimed {
    /// The index of the issuer.
    index: usize,
    /// The version of the protocol that the token is written for.
    dialect: Dialect,
    /// Whether the token names the issuer itself.
    is_named: bool,
}

/// An issuer's keys for a role, and for a token that names its key `id`.
async fn keys(issuer: &Issuer, role: Role, id: Option<&str>) -> Result<Arc<KeySet>, TokenError> {
    issuer.keys(role).current(id).await.map_err(|problem| TokenError::KeysUnavailable {
        role,
        issuer: Shown::new(&issuer.id),
        problem: Shown::words(&problem.to_string()),
    })
}

/// Opens the claims of a token if one of the keys has signed it. Returns that key, too, and the algorithm.
fn verify_signature<'a>(
    token: Unverified<'_>,
    issuer: &Issuer,
    role: Role,
    keys: &'a KeySet,
) -> Result<(Claims, &'a Key, Algorithm), TokenError> {
    let issuer = Shown::new(&issuer.id);
    if keys.is_empty() {
        return Err(TokenError::NoKey { role, issuer });
    }
    let name = token.algorithm();
    let candidates = name.parse::<Algorithm>().ok().map(|each| (each, keys.candidates(each, token.key_id())));
    let Some((algorithm, candidates)) = candidates.filter(|(_, candidates)| !candidates.is_empty()) else {
        return Err(TokenError::Algorithm { algorithm: Shown::new(name), role, issuer });
    };
    let mut signed = None;
    let claims = token.verify(|input, signature| {
        signed = candidates.into_iter().find(|key| key.verifies(algorithm, input, signature));
        if signed.is_some() { Ok(()) } else { Err(TokenError::Signature { role, issuer }) }
    })?;
    Ok((claims, signed.expect("its signature has been verified"), algorithm))
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("issuers", &self.issuers)
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::topic::Topic;

    use super::*;
    use crate::{Key, Keys, Signer};

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

    fn verifier(issuers: Issuers) -> Verifier {
        Verifier::new(issuers, HubUrl::default(), Limits::default())
    }

    /// All that can be told of an outcome.
    fn told(outcome: &Result<Verified, TokenError>) -> String {
        match outcome {
            Ok(Verified { grants, expiry, dialect, basis }) => {
                format!("{grants:?} {:?} {expiry:?} {dialect:?} {basis:?}", grants.payloads)
            }
            Err(reason) => format!("{reason:?}"),
        }
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
            let known = verifier(issuers());
            let first = known.verify(&token, Role::Subscriber, 1_200.0).await.expect("valid");
            assert_eq!(known.remembered(), 1);
            for now in [0.0, 999.9, 1_000.0, 1_200.0, 1_500.4, 1_500.5, 1_999.9, 2_000.0, 1e12, 1_200.0] {
                let again = known.verify(&token, Role::Subscriber, now).await;
                let anew = verifier(issuers()).verify(&token, Role::Subscriber, now).await;
                assert_eq!(told(&again), told(&anew), "{claims} at {now}");
                if let Ok(again) = again {
                    assert!(Arc::ptr_eq(&first.grants, &again.grants), "{claims} at {now}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_token_that_is_known_to_one_role_is_unknown_to_the_other() {
        let apart = verifier(issuers());
        let token = sign("s1", "at+jwt", &in_force(FIRST));
        apart.verify(&token, Role::Subscriber, 1_200.0).await.expect("valid");
        for _ in 0..2 {
            let refused = apart.verify(&token, Role::Publisher, 1_200.0).await;
            assert!(matches!(refused, Err(TokenError::Signature { role: Role::Publisher, .. })));
        }
        // Even with the same keys.
        let mut one = issuers();
        one.trusted[0].publisher = one.trusted[0].subscriber.clone();
        let one = verifier(one);
        let subscriber = one.verify(&token, Role::Subscriber, 1_200.0).await.expect("valid");
        let publisher = one.verify(&token, Role::Publisher, 1_200.0).await.expect("valid");
        assert!(!Arc::ptr_eq(&subscriber.grants, &publisher.grants));
        assert_eq!((one.publishers.len(), one.subscribers.len()), (1, 1));
    }

    #[tokio::test]
    async fn nothing_that_is_refused_is_remembered() {
        let verifier = verifier(issuers());
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
                let refused = verifier.verify(&bad, Role::Subscriber, 1_200.0).await;
                assert!(refused.is_err(), "{bad}: {refused:?}");
            }
        }
        assert_eq!(verifier.remembered(), 0);
        verifier.verify(&good, Role::Subscriber, 1_200.0).await.expect("valid");
        assert_eq!(verifier.remembered(), 1);
    }

    /// Verifiers share keys, and nothing else: each applies its own terms to a token that another has accepted.
    #[tokio::test]
    async fn what_another_verifier_remembers_is_not_remembered_here() {
        let here = issuers();
        let accepting = verifier(here.clone());
        let legacy = sign("s1", "JWT", LEGACY);
        let access = sign("s1", "at+jwt", &in_force(FIRST));
        for token in [&legacy, &access] {
            accepting.verify(token, Role::Subscriber, 1_200.0).await.expect("valid");
        }
        let with = |change: fn(&mut Issuers)| {
            let mut there = here.clone();
            change(&mut there);
            there
        };
        // Whether the two tokens are accepted.
        for (there, expected) in [
            (with(|_| {}), [true, true]),
            (with(|there| there.compat = false), [false, true]),
            (with(|there| there.resource = "https://other.example/m".to_owned()), [true, false]),
            (with(|there| there.trusted[0].id = "https://third.example".to_owned()), [true, false]),
            (with(|there| there.trusted.truncate(1)), [true, true]),
            (with(|there| there.trusted.reverse()), [false, true]),
            (with(|there| there.trusted[0].subscriber = keys("s2")), [false, false]),
            (with(|there| there.trusted.clear()), [false, false]),
        ] {
            let there = verifier(there);
            for (token, expected) in [(&legacy, expected[0]), (&access, expected[1])] {
                for _ in 0..2 {
                    let outcome = there.verify(token, Role::Subscriber, 1_200.0).await;
                    assert_eq!(outcome.is_ok(), expected, "{there:?} {outcome:?}");
                }
            }
        }
        let prefixes = verifier(with(|there| there.prefixes = true));
        let topic = Topic::unchecked("/b/1", &HubUrl::default());
        for (verifier, may_read) in [(&accepting, false), (&prefixes, true), (&accepting, false)] {
            let verified = verifier.verify(&legacy, Role::Subscriber, 1_200.0).await.expect("valid");
            assert_eq!(verified.grants.may_read(&topic), may_read);
        }
    }

    #[tokio::test]
    async fn a_relative_pattern_is_resolved_against_the_url_of_the_hub() {
        let pattern = r#"/b/:id","match_type":"urlpattern"#;
        let token = sign("s1", "at+jwt", &access(FIRST, pattern, r#""exp":2000,"#));
        let hub = HubUrl::parse("https://hub.example/m").expect("a URL");
        let topic = Topic::unchecked("https://hub.example/b/1", &hub);
        for (hub, may_read) in [(hub.clone(), true), (HubUrl::default(), false)] {
            let verifier = Verifier::new(issuers(), hub, Limits::default());
            let verified = verifier.verify(&token, Role::Subscriber, 1_200.0).await.expect("valid");
            assert_eq!(verified.grants.may_read(&topic), may_read);
        }
    }

    #[tokio::test]
    async fn a_token_is_as_long_as_it_may_be() {
        let token = sign("s1", "JWT", LEGACY);
        let limited = |token_bytes_max| {
            let limits = Limits { token_bytes_max, ..Limits::default() };
            Verifier::new(issuers(), HubUrl::default(), limits)
        };
        limited(token.len()).verify(&token, Role::Subscriber, 1_200.0).await.expect("as long as it may be");
        let max = token.len() - 1;
        let refused = limited(max).verify(&token, Role::Subscriber, 1_200.0).await;
        assert_eq!(refused.err(), Some(TokenError::TooLong { max }));
    }

    #[tokio::test]
    async fn the_reason_names_what_is_missing() {
        let mut unset = issuers();
        unset.trusted[0].subscriber = Vec::new().into();
        let unset = verifier(unset);
        let legacy = sign("s1", "JWT", LEGACY);
        let no_key = unset.verify(&legacy, Role::Subscriber, 1_200.0).await.expect_err("no key");
        assert!(
            matches!(no_key, TokenError::NoKey { role: Role::Subscriber, .. })
                && no_key.to_string().contains(FIRST)
        );
        let mut nobody = issuers();
        nobody.trusted.clear();
        let no_issuer =
            verifier(nobody).verify(&legacy, Role::Subscriber, 1_200.0).await.expect_err("no issuer");
        assert!(no_issuer.to_string().contains("of 0.x tokens"), "{no_issuer}");
        let nameless = sign("s1", "at+jwt", r#"{"exp":2000}"#);
        let refused = verifier(issuers()).verify(&nameless, Role::Subscriber, 1_200.0).await;
        assert_eq!(refused.err(), Some(TokenError::IssuerMissing));
        let eternal = sign("s1", "at+jwt", &access(FIRST, "a", ""));
        let refused = verifier(issuers()).verify(&eternal, Role::Subscriber, 1_200.0).await;
        assert_eq!(refused.err(), Some(TokenError::ExpiryMissing));
    }

    #[tokio::test]
    async fn no_token_is_shown() {
        let verifier = verifier(issuers());
        let token = sign("s1", "at+jwt", &in_force(FIRST));
        let verified = verifier.verify(&token, Role::Subscriber, 1_200.0).await.expect("valid");
        let (header, rest) = token.split_once('.').expect("three parts");
        let (claims, signature) = rest.split_once('.').expect("three parts");
        let shown = format!("{verifier:?} {verified:?}");
        assert!(![header, claims, signature].iter().any(|part| shown.contains(part)), "{shown}");
    }

    #[tokio::test]
    async fn a_basis_stays_while_its_key_issuer_and_terms_stay_and_no_longer() {
        let issuers = |ids: &[(&str, &[&str])], compat: bool, resource: &str| {
            let issuer = |(id, secrets): &(&str, &[&str])| Issuer {
                id: (*id).to_owned(),
                publisher: vec![].into(),
                subscriber: secrets
                    .iter()
                    .map(|secret| Key::parse(secret, &[]).expect("a secret"))
                    .collect::<Vec<_>>()
                    .into(),
                authorization_server: false,
            };
            let trusted = ids.iter().map(issuer).collect();
            Issuers { trusted, resource: resource.to_owned(), compat, prefixes: false }
        };
        let before = issuers(&[(FIRST, &["s1"]), (SECOND, &["s2"])], true, RESOURCE);
        let verifier = verifier(before.clone());
        let basis = async |secret: &str, typ: &str, claims: &str| {
            let token = sign(secret, typ, claims);
            verifier.verify(&token, Role::Subscriber, 1_200.0).await.expect("valid").basis
        };
        let unnamed = basis("s1", "JWT", LEGACY).await;
        let named = basis("s2", "JWT", &format!(r#"{{"iss":"{SECOND}","mercure":{{}}}}"#)).await;
        let v1 = basis("s1", "at+jwt", &in_force(FIRST)).await;
        let stay = |issuers: &Issuers| {
            let bases = issuers.bases(Role::Subscriber);
            [unnamed, named, v1].map(|basis| bases.contains(&basis))
        };
        let both: &[(&str, &[&str])] = &[(FIRST, &["new", "s1"]), (SECOND, &["s2"])];
        for (after, expected) in [
            (before.clone(), [true; 3]),
            (issuers(both, true, RESOURCE), [true; 3]),
            (issuers(both, false, RESOURCE), [false, false, true]),
            (issuers(both, true, "https://elsewhere.example"), [true, true, false]),
            (issuers(&[(FIRST, &["new"]), (SECOND, &["s2"])], true, RESOURCE), [false, true, false]),
            (issuers(&[(FIRST, &["s1"])], true, RESOURCE), [true, false, true]),
            (issuers(&[(SECOND, &["s2"]), (FIRST, &["s1"])], true, RESOURCE), [false, true, true]),
        ] {
            assert_eq!(stay(&after), expected, "{after:?}");
        }
        assert!(before.bases(Role::Publisher).is_empty());
        assert!(before.are_same(&before.clone()) && !before.are_same(&issuers(both, true, RESOURCE)));
        assert!(!format!("{v1:?}").contains("s1"));
    }

    #[tokio::test]
    async fn a_key_that_moves_into_a_set_and_gets_a_name_keeps_its_tokens() {
        let alone = Key::parse("s1", &[]).expect("a secret");
        let json = r#"{"keys":[{"kty":"oct","k":"czE","kid":"a"}]}"#;
        let in_set = Key::parse_set(json.as_bytes(), &[], true).expect("a set");
        let with = |keys: Vec<Key>| {
            let issuer = Issuer {
                id: FIRST.to_owned(),
                publisher: vec![].into(),
                subscriber: keys.into(),
                authorization_server: false,
            };
            Issuers { trusted: vec![issuer], resource: RESOURCE.to_owned(), compat: true, prefixes: false }
        };
        let token = sign("s1", "JWT", LEGACY);
        let verified = verifier(with(vec![alone])).verify(&token, Role::Subscriber, 1_200.0).await;
        assert!(with(in_set).bases(Role::Subscriber).contains(&verified.expect("valid").basis));
    }

    #[tokio::test]
    async fn keys_of_an_address_stay_known_and_their_tokens_have_one_basis() {
        let with = |urls: &[&str]| {
            let issuer = |url: &&str| Issuer {
                id: (*url).to_owned(),
                publisher: vec![].into(),
                subscriber: crate::RemoteKeys::at(url, &[]).expect("an address").into(),
                authorization_server: false,
            };
            let trusted = urls.iter().map(issuer).collect();
            Issuers { trusted, resource: RESOURCE.to_owned(), compat: false, prefixes: false }
        };
        let (one, two) = ("http://localhost:1/a.json", "http://localhost:1/b.json");
        let (former, mut new) = (with(&[one]), with(&[two, one]));
        let shared = former.bases(Role::Subscriber);
        assert!(!shared.is_empty() && shared.is_subset(&new.bases(Role::Subscriber)));
        assert!(shared.is_disjoint(&with(&[two]).bases(Role::Subscriber)));
        new.adopt(&former);
        assert_eq!(new.remote().len(), 2);
        assert!(shared.is_subset(&new.bases(Role::Subscriber)));
    }
}
