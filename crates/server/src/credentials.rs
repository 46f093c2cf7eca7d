//! From a request to the grants of whoever sent it.
//!
//! Section "Presenting the Access Token": the `Authorization` header before the cookie. With 0.x, also the
//! `authorization` query parameter, between them, and the former cookie after them. What comes later is ignored, valid
//! or not.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header};
use petasos_protocol::{
    Dialect,
    form::Form,
    grants::Grants,
    token::{Role, TokenError},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{Service, Settings, connection::GRACE, refusal::Refusal};

/// A token as presented, not verified.
pub(crate) struct Presented<'a> {
    pub(crate) token: &'a str,
    pub(crate) by_cookie: bool,
}

/// What a verified token gives.
pub(crate) struct Credentials {
    pub(crate) grants: Arc<Grants>,
    /// Before the token expires: when it does, the connection is gone.
    pub(crate) close_at: Option<Instant>,
    /// What the token is written in.
    pub(crate) dialect: Dialect,
}

impl<'a> Presented<'a> {
    /// Finds the token of a request; `Ok(None)` if it has none.
    ///
    /// # Errors
    /// [`Refusal::TokenMalformed`] for a presentation that RFC 6750 does not know; [`Refusal::TokenMissing`] for
    /// another authentication scheme, which this hub does not support.
    pub(crate) fn find(
        headers: &'a HeaderMap,
        query: &'a Form<'_>,
        settings: &Settings,
    ) -> Result<Option<Self>, Refusal> {
        let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
        if let Some(value) = authorization.next() {
            if authorization.next().is_some() {
                return Err(Refusal::TokenMalformed("there is more than one Authorization header: send one"));
            }
            let value = value.to_str().map_err(|_| Refusal::TokenMalformed(BAD_HEADER))?;
            let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(Refusal::TokenMissing);
            }
            return checked(token.trim_matches(' '), BAD_HEADER)
                .map(|token| Some(Self { token, by_cookie: false }));
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
            return checked(token, detail).map(|token| Some(Self { token, by_cookie: false }));
        }
        let legacy = || {
            let name = settings.legacy_cookie_name.as_deref().filter(|_| compat);
            name.and_then(|name| cookie(headers, name))
        };
        match cookie(headers, &settings.cookie_name).or_else(legacy) {
            Some(token) => {
                let detail =
                    "the hub's cookie holds no token: set it to a JWS in compact serialization, or delete it";
                checked(token, detail).map(|token| Some(Self { token, by_cookie: true }))
            }
            None => Ok(None),
        }
    }

    /// Verifies the token for a role.
    ///
    /// # Errors
    /// [`Refusal::TokenInvalid`]; the reason goes to the log under the request's id, the token goes nowhere.
    /// [`Refusal::Unavailable`] if the issuer's keys cannot be fetched.
    pub(crate) async fn verify(&self, service: &Service, role: Role) -> Result<Credentials, Refusal> {
        let Service { hub, settings, .. } = service;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let verified = settings.issuers.verify(self.token, role, hub.url(), now, &settings.limits).await;
        let verified = verified.map_err(|reason| {
            let request = Uuid::new_v4();
            tracing::info!(%role, %request, %reason, "a token was refused");
            match reason {
                TokenError::KeysUnavailable { .. } => Refusal::Unavailable { request: Some(request) },
                _ => Refusal::TokenInvalid { request },
            }
        })?;
        // An expiry beyond what the clock can count is none.
        let close_at = verified.expiry.and_then(|expiry| {
            let remaining = Duration::try_from_secs_f64(expiry - now).unwrap_or(Duration::MAX);
            Instant::now().checked_add(remaining.saturating_sub(GRACE).min(LONGEST))
        });
        Ok(Credentials { grants: verified.grants, close_at, dialect: verified.dialect })
    }
}

const BAD_HEADER: &str = "the Authorization header is malformed: send \"Bearer\", a space and the token";

/// Longer than any connection; keeps timers in their range.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The characters of a bearer token (RFC 6750, section 2.1).
fn checked<'a>(token: &'a str, detail: &'static str) -> Result<&'a str, Refusal> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if token.is_empty() || !token.bytes().all(valid) {
        return Err(Refusal::TokenMalformed(detail));
    }
    Ok(token)
}

/// The first cookie of that name (RFC 6265, section 5.4: the one with the longest path comes first).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(header::COOKIE).iter();
    // Bytes: another cookie of the site may hold anything.
    fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';')).find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let is_it = pair[..equals].trim_ascii() == name.as_bytes();
        // What is no text is no token either.
        is_it.then(|| std::str::from_utf8(&pair[equals + 1..]).unwrap_or_default().trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use petasos_protocol::{Limits, form::Part};

    use super::*;

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
        let found = Presented::find(&headers, &query, &settings)?;
        Ok(found.map(|presented| (presented.token.to_owned(), presented.by_cookie)))
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
        let own = (header::COOKIE, "mercureAuthorization=c.c.c; __Secure-mercure_access_token=d.d.d");
        let found = Some(("d.d.d".to_owned(), true));
        assert_eq!(find_with(std::slice::from_ref(&own), "authorization=q.q.q", false).expect("ok"), found);
        assert_eq!(find_with(&[own], "", true).expect("ok"), found);
    }

    #[test]
    fn other_cookies_may_hold_anything() {
        let mut headers = HeaderMap::new();
        let field = b"a=Jos\xE9; mercureAuthorization=c.c.c; b=Jos\xC3\xA9";
        headers.insert(header::COOKIE, HeaderValue::from_bytes(field).expect("a field"));
        assert_eq!(cookie(&headers, "mercureAuthorization"), Some("c.c.c"));
        assert_eq!(cookie(&headers, "a"), Some(""));
    }

    #[test]
    fn the_scheme_has_any_case_and_other_schemes_are_no_token() {
        for value in ["bearer x", "BEARER x", "Bearer  x"] {
            assert!(find(&[(header::AUTHORIZATION, value)], "").expect(value).is_some(), "{value}");
        }
        assert!(matches!(find(&[(header::AUTHORIZATION, "Basic eDp5")], ""), Err(Refusal::TokenMissing)));
    }

    #[test]
    fn malformed_presentations_are_refused_and_fall_back_to_nothing() {
        let cookie = (header::COOKIE, "mercureAuthorization=c.c.c");
        for value in ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b", "bearer \""] {
            let found = find(&[(header::AUTHORIZATION, value), cookie.clone()], "authorization=q");
            assert!(matches!(found, Err(Refusal::TokenMalformed(_))), "{value}");
        }
        let two = [(header::AUTHORIZATION, "Bearer a"), (header::AUTHORIZATION, "Bearer b")];
        assert!(matches!(find(&two, ""), Err(Refusal::TokenMalformed(_))));
        for query in ["authorization=", "authorization=a&authorization=b", "authorization=%20"] {
            assert!(
                matches!(find(std::slice::from_ref(&cookie), query), Err(Refusal::TokenMalformed(_))),
                "{query}"
            );
        }
        assert!(matches!(
            find(&[(header::COOKIE, "mercureAuthorization=")], ""),
            Err(Refusal::TokenMalformed(_))
        ));
    }
}
