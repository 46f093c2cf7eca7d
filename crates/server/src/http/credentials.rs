//! Finds the tokens in a request and has them verified (section "Presenting the Access Token").
//!
//! The `Authorization` header counts before cookies. With 0.x, the `authorization` query parameter counts between them, and
//! the cookie of 0.x after the one of 1.0. Once a token is found in one of these, the later ones are not searched, whether
//! the token is valid or not.
//!
//! Two things do not count as a presented token, because clients send them without intent. One is an `Authorization`
//! header with another scheme than Bearer: it belongs to a site in front of the hub. The other is a stale cookie beside one
//! that verifies: a browser keeps it for another path or domain.

use std::{
    iter,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, header};
use petasos_auth::{Basis, Verified, Verifier};
use petasos_protocol::{
    Dialect,
    request::Form,
    token::{Grants, Role, TokenError},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    Settings,
    http::{
        answer::GRACE,
        refusal::{Refusal, Tried},
    },
};

/// The tokens that a request presents, not verified.
pub(crate) enum Presented<'a> {
    Tokens(Tokens<'a>),
    Nothing {
        /// Whether there is an `Authorization` header with another scheme than Bearer.
        other_scheme: bool,
    },
}

/// The tokens of the header, of the query or of the cookies. Only cookies hold several.
pub(crate) struct Tokens<'a> {
    first: &'a str,
    /// Further different tokens; with the first, at most `Limits::cookie_tokens_max`.
    others: Vec<&'a str>,
    /// Whether there were still more. Those are not verified.
    has_more: bool,
    pub(crate) by_cookie: bool,
}

/// What a verified token gives.
pub(crate) struct Credentials<'a> {
    /// The token itself.
    pub(crate) token: &'a str,
    pub(crate) grants: Arc<Grants>,
    /// When its stream ends: [`GRACE`] before the token expires.
    pub(crate) close_at: Option<Instant>,
    /// The version of the protocol that the token is written for.
    pub(crate) dialect: Dialect,
    /// What the token was accepted by.
    pub(crate) basis: Basis,
}

impl<'a> Presented<'a> {
    /// Finds the tokens of a request.
    ///
    /// # Errors
    /// [`Refusal::TokenMalformed`] for a presentation that RFC 6750 does not know.
    pub(crate) fn find(
        headers: &'a HeaderMap,
        query: &'a Form<'_>,
        settings: &Settings,
    ) -> Result<Self, Refusal> {
        let (mut bearer, mut other_scheme) = (None, false);
        // Proxies and tools add a field with another scheme beside the one with the bearer token.
        for value in headers.get_all(header::AUTHORIZATION) {
            match credentials(value)? {
                Some(token) if bearer.replace(token).is_some() => {
                    return Err(Refusal::TokenMalformed(
                        "there is more than one Authorization header with a bearer token: send one",
                    ));
                }
                Some(_) => {}
                None => other_scheme |= !value.is_empty(),
            }
        }
        if let Some(token) = bearer {
            return checked(token, BAD_HEADER).map(|token| Self::Tokens(Tokens::one(token)));
        }
        let compat = settings.issuers.compat;
        let mut parameters = query.all("authorization").filter(|_| compat);
        if let Some(token) = parameters.next() {
            if parameters.next().is_some() {
                return Err(Refusal::TokenMalformed(
                    "there is more than one \"authorization\" parameter: send one",
                ));
            }
            let detail =
                "the \"authorization\" parameter holds no token: send a JWS in compact serialization";
            return checked(token, detail).map(|token| Self::Tokens(Tokens::one(token)));
        }
        let legacy = settings.legacy_cookie_name.as_deref().filter(|_| compat);
        let names = iter::once(&*settings.cookie_name).chain(legacy);
        let in_cookies = names.flat_map(|name| cookies(headers, name));
        Ok(match Tokens::in_cookies(in_cookies, settings.limits.cookie_tokens_max)? {
            Some(tokens) => Self::Tokens(tokens),
            None => Self::Nothing { other_scheme },
        })
    }

    /// The tokens, for a request that needs one.
    ///
    /// # Errors
    /// [`Refusal::TokenMissing`].
    pub(crate) fn needed(self) -> Result<Tokens<'a>, Refusal> {
        match self {
            Self::Tokens(tokens) => Ok(tokens),
            Self::Nothing { other_scheme } => Err(Refusal::TokenMissing { other_scheme, subscribes: false }),
        }
    }
}

impl<'a> Tokens<'a> {
    fn one(token: &'a str) -> Self {
        Self { first: token, others: Vec::new(), has_more: false, by_cookie: false }
    }

    /// The different tokens among the values of cookies, at most `max`. Values that cannot be a token are an error only
    /// if there is no token beside them.
    fn in_cookies(values: impl Iterator<Item = &'a str>, max: usize) -> Result<Option<Self>, Refusal> {
        let mut found: Option<Self> = None;
        let mut malformed = None;
        for value in values {
            let detail =
                "the hub's cookie holds no token: set it to a JWS in compact serialization, or delete it";
            match (checked(value, detail), &mut found) {
                (Err(refusal), _) => malformed = Some(refusal),
                (Ok(token), None) => found = Some(Self { by_cookie: true, ..Self::one(token) }),
                (Ok(token), Some(found)) if found.all().any(|known| known == token) => {}
                (Ok(_), Some(found)) if found.others.len() + 1 >= max => found.has_more = true,
                (Ok(token), Some(found)) => found.others.push(token),
            }
        }
        match (found, malformed) {
            (None, Some(refusal)) => Err(refusal),
            (found, _) => Ok(found),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'a str> {
        iter::once(self.first).chain(self.others.iter().copied())
    }

    /// Verifies the tokens for a role, one after the other, until one is valid.
    ///
    /// # Errors
    /// [`Refusal::TokenInvalid`] if none is valid; the log has the reason of the last under the request's id, and no token.
    /// [`Refusal::Unavailable`] if the keys of an issuer cannot be fetched and might verify one of them.
    pub(crate) async fn verify(&self, verifier: &Verifier, role: Role) -> Result<Credentials<'a>, Refusal> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let (mut refused, mut undecided) = (None, None);
        for token in self.all() {
            match verifier.verify(token, role, now).await {
                Ok(verified) => {
                    // An expiry beyond what the clock can count is none.
                    let close_at = verified.expiry.and_then(|expiry| {
                        let remaining = Duration::try_from_secs_f64(expiry - now).unwrap_or(Duration::MAX);
                        Instant::now().checked_add(remaining.saturating_sub(GRACE).min(LONGEST))
                    });
                    let Verified { grants, dialect, basis, .. } = verified;
                    return Ok(Credentials { token, grants, close_at, dialect, basis });
                }
                Err(reason @ TokenError::KeysUnavailable { .. }) => undecided = Some(reason),
                Err(reason) => refused = Some(reason),
            }
        }
        let request = Uuid::new_v4();
        let is_undecided = undecided.is_some();
        if let Some(reason) = undecided.or(refused) {
            let tokens = self.others.len() + 1;
            tracing::info!(%role, %request, tokens, %reason, "a token was refused");
        }
        if is_undecided {
            return Err(Refusal::Unavailable { request: Some(request) });
        }
        let presented = match (self.others.len(), self.has_more) {
            (others, true) => Tried::First(others + 1),
            (0, false) => Tried::One,
            (_, false) => Tried::Several,
        };
        Err(Refusal::TokenInvalid { request, presented })
    }
}

/// The bearer token of an `Authorization` header, not checked. `None`: the header is empty or has another scheme.
///
/// # Errors
/// [`Refusal::TokenMalformed`] if no space follows the scheme, and for a token without a scheme: both are mistakes of a client
/// that wants to present a token.
fn credentials(value: &HeaderValue) -> Result<Option<&str>, Refusal> {
    let value = value.as_bytes();
    let end = value.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(end);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        let is_bare_token = !value.contains(&b' ') && value.iter().filter(|byte| **byte == b'.').count() == 2;
        return if is_bare_token { Err(Refusal::TokenMalformed(BAD_HEADER)) } else { Ok(None) };
    }
    match std::str::from_utf8(rest) {
        Ok(rest) if rest.is_empty() || rest.starts_with(' ') => Ok(Some(rest.trim_matches(' '))),
        _ => Err(Refusal::TokenMalformed(BAD_HEADER)),
    }
}

const BAD_HEADER: &str = "the Authorization header is malformed: send \"Bearer\", a space and the token";

/// A year: longer than any connection, and within the range of timers.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The characters of a bearer token (RFC 6750, section 2.1).
fn checked<'a>(token: &'a str, detail: &'static str) -> Result<&'a str, Refusal> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(valid) {
        return Err(Refusal::TokenMalformed(detail));
    }
    Ok(token)
}

/// The values of all cookies of that name, in order (RFC 6265, section 5.4: those with longer paths come first).
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let fields = headers.get_all(header::COOKIE).iter();
    // Bytes: another cookie of the site may hold anything.
    fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let is_it = pair[..equals].trim_ascii() == name.as_bytes();
        // What is no text is no token either.
        is_it.then(|| std::str::from_utf8(&pair[equals + 1..]).unwrap_or_default().trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use petasos_protocol::{Limits, request::Part};

    use super::*;

    /// The tokens that are found, with a space between them, and whether they are those of cookies.
    fn find(pairs: &[(HeaderName, &'static str)], query: &str) -> Result<Option<(String, bool)>, Refusal> {
        find_with(pairs, query, true)
    }

    fn find_with(
        pairs: &[(HeaderName, &'static str)],
        query: &str,
        compat: bool,
    ) -> Result<Option<(String, bool)>, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        let query = Form::parse(query.as_bytes(), Part::Query, &Limits::default()).expect("a query");
        let mut settings = Settings::default();
        settings.issuers.compat = compat;
        Ok(match Presented::find(&headers, &query, &settings)? {
            Presented::Tokens(tokens) => Some((tokens.all().collect::<Vec<_>>().join(" "), tokens.by_cookie)),
            Presented::Nothing { .. } => None,
        })
    }

    #[test]
    fn header_wins_over_query_and_query_over_cookie() {
        let header = (header::AUTHORIZATION, "Bearer h.h.h");
        let cookie = (header::COOKIE, "a=b; mercureAuthorization=c.c.c; d=e");
        let query = "topic=a&authorization=q.q.q";
        let found = |token: &str, by_cookie| Some((token.to_owned(), by_cookie));
        assert_eq!(find(&[header.clone(), cookie.clone()], query).expect("ok"), found("h.h.h", false));
        assert_eq!(find(std::slice::from_ref(&cookie), query).expect("ok"), found("q.q.q", false));
        assert_eq!(find(&[cookie], "topic=a").expect("ok"), found("c.c.c", true));
        assert_eq!(find(&[], "topic=a").expect("ok"), None);
    }

    #[test]
    fn without_compat_only_header_and_own_cookie_count() {
        let legacy = (header::COOKIE, "mercureAuthorization=c.c.c");
        assert_eq!(find_with(&[legacy], "authorization=q.q.q", false).expect("ok"), None);
        let both = (header::COOKIE, "mercureAuthorization=c.c.c; __Secure-mercure_access_token=d.d.d");
        let found = |tokens: &str| Some((tokens.to_owned(), true));
        let own = find_with(std::slice::from_ref(&both), "authorization=q.q.q", false);
        assert_eq!(own.expect("ok"), found("d.d.d"));
        assert_eq!(find_with(&[both], "", true).expect("ok"), found("d.d.d c.c.c"), "the present name first");
    }

    #[test]
    fn different_cookies_are_found_in_order_and_no_more_than_are_verified() {
        let cookies = |text| (header::COOKIE, text);
        let found = |tokens: &str| Some((tokens.to_owned(), true));
        let several = [
            cookies("mercureAuthorization=; mercureAuthorization=a.a.a; mercureAuthorization=b b"),
            cookies("mercureAuthorization=b.b.b; mercureAuthorization=a.a.a;mercureAuthorization=\"c.c.c\""),
        ];
        assert_eq!(find(&several, "").expect("ok"), found("a.a.a b.b.b c.c.c"));
        let mut headers = HeaderMap::new();
        for number in 0..100 {
            let cookie = format!("mercureAuthorization={number}; mercureAuthorization={number}");
            headers.append(header::COOKIE, HeaderValue::try_from(cookie).expect("a field"));
        }
        let tokens = Tokens::in_cookies(cookies_of(&headers), 8).expect("tokens").expect("some");
        assert_eq!(tokens.all().collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert!(tokens.has_more);
        let tokens = Tokens::in_cookies(cookies_of(&headers), 100).expect("tokens").expect("some");
        assert!(tokens.all().count() == 100 && !tokens.has_more);
    }

    fn cookies_of(headers: &HeaderMap) -> impl Iterator<Item = &str> {
        cookies(headers, "mercureAuthorization")
    }

    #[test]
    fn other_cookies_may_hold_anything() {
        let mut headers = HeaderMap::new();
        let field = b"a=Jos\xE9; mercureAuthorization=c.c.c; b=Jos\xC3\xA9";
        headers.insert(header::COOKIE, HeaderValue::from_bytes(field).expect("a field"));
        assert_eq!(cookies_of(&headers).collect::<Vec<_>>(), ["c.c.c"]);
        assert_eq!(cookies(&headers, "a").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn the_scheme_has_any_case() {
        for value in ["bearer x", "BEARER x", "Bearer  x"] {
            assert!(find(&[(header::AUTHORIZATION, value)], "").expect(value).is_some(), "{value}");
        }
    }

    #[test]
    fn other_schemes_are_no_token_and_what_counts_after_the_header_does() {
        let cookie = (header::COOKIE, "mercureAuthorization=c.c.c");
        for value in [
            "Basic eDp5",
            "basic",
            "Negotiate YII=",
            "NTLM TlRM",
            "Digest username=\"a\", uri=\"/b.c.d\"",
            "ApiKey k",
            "JWT a.b.c",
            "Basic eDp5, Bearer a.b.c",
            "a.b",
            "",
        ] {
            let other = (header::AUTHORIZATION, value);
            let found = |token: &str, by_cookie| Some((token.to_owned(), by_cookie));
            assert_eq!(find(std::slice::from_ref(&other), "").expect(value), None, "{value}");
            let both = [other.clone(), cookie.clone()];
            assert_eq!(find(&both, "").expect(value), found("c.c.c", true), "{value}");
            assert_eq!(find(&both, "authorization=q.q.q").expect(value), found("q.q.q", false), "{value}");
            for bearer in [[other.clone(), bearer_of("h.h.h")], [bearer_of("h.h.h"), other.clone()]] {
                assert_eq!(find(&bearer, "").expect(value), found("h.h.h", false), "{value}");
            }
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(b"Basic \xE9").expect("a field"));
        let query = Form::parse(b"", Part::Query, &Limits::default()).expect("a query");
        let found = Presented::find(&headers, &query, &Settings::default()).expect("no token");
        assert!(matches!(found.needed(), Err(Refusal::TokenMissing { other_scheme: true, .. })));
    }

    fn bearer_of(token: &str) -> (HeaderName, &'static str) {
        (header::AUTHORIZATION, format!("Bearer {token}").leak())
    }

    #[test]
    fn malformed_presentations_are_refused_and_fall_back_to_nothing() {
        let cookie = (header::COOKIE, "mercureAuthorization=c.c.c");
        for value in
            ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "bearer \"", "Bearer: a", "Bearer\ta", "a.b.c"]
        {
            let found = find(&[(header::AUTHORIZATION, value), cookie.clone()], "authorization=q");
            assert!(matches!(found, Err(Refusal::TokenMalformed(_))), "{value}");
        }
        let two = [bearer_of("a"), (header::AUTHORIZATION, "Basic eDp5"), bearer_of("b")];
        assert!(matches!(find(&two, ""), Err(Refusal::TokenMalformed(_))));
        for query in ["authorization=", "authorization=a&authorization=b", "authorization=%20"] {
            assert!(
                matches!(find(std::slice::from_ref(&cookie), query), Err(Refusal::TokenMalformed(_))),
                "{query}"
            );
        }
        for empty in ["mercureAuthorization=", "mercureAuthorization=; mercureAuthorization=a b"] {
            assert!(
                matches!(find(&[(header::COOKIE, empty)], ""), Err(Refusal::TokenMalformed(_))),
                "{empty}"
            );
        }
    }
}
