//! The origins whose scripts may use the hub (Fetch standard, section "CORS protocol").
//!
//! Only listed origins get credentials. With `*`, or if the hub reflected any origin, every site could read what the cookies
//! of its visitors allow.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use petasos_protocol::topic::HubUrl;
use url::Url;

use crate::{
    http::body::Body,
    http::origin::{Entry, Origin},
};

/// The origins whose scripts may read answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    any: bool,
    any_loopback_credentials: bool,
    listed: Vec<Entry>,
}

/// Header fields that a script may always send: those that the hub reads.
const REQUEST_HEADERS: &str = "authorization, cache-control, content-type, if-none-match, last-event-id";

/// The most names that a preflight may ask for beside these. Libraries for tracing and forms add a few.
const REQUEST_HEADERS_MAX: usize = 64;

/// The longest of these names.
const REQUEST_HEADER_BYTES_MAX: usize = 128;

impl Origins {
    /// From a list of origins such as `https://example.com`, or `https://*.example.com` for all hosts below
    /// `example.com`; `*` stands for all, without credentials.
    ///
    /// # Errors
    /// A sentence that names the wrong entry, which could never match, and says what to write instead.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut origins = Self::default();
        for value in values {
            match value {
                "*" => origins.any = true,
                value => origins.listed.push(Entry::parse(value)?),
            }
        }
        Ok(origins)
    }

    /// The same without `*`, for origins that may publish with a cookie.
    ///
    /// # Errors
    /// As [`Origins::parse`], and for `*`: it would let every site publish with its visitors' cookies.
    pub fn parse_listed<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let origins = Self::parse(values)?;
        match origins.any {
            true => Err(
                "\"*\" would let every site publish with its visitors' cookies: list the origins, such as \
                         https://example.com or https://*.example.com"
                    .to_owned(),
            ),
            false => Ok(origins),
        }
    }

    /// With `*`: also allows credentials where hub and page are both on this machine's loopback names, as in
    /// development, where the page and the hub have different ports.
    #[must_use]
    pub fn with_loopback_credentials(mut self) -> Self {
        self.any_loopback_credentials = true;
        self
    }

    /// Whether the origin is listed, or below a listed one.
    fn lists(&self, origin: &Origin) -> bool {
        self.listed.iter().any(|entry| entry.matches(origin))
    }

    /// The access of a script of the request's origin to the answer.
    pub(crate) fn access(&self, request: &HeaderMap) -> Access {
        let Some(origin) = request.get(header::ORIGIN) else { return Access::None };
        let text = origin.to_str().unwrap_or_default();
        let is_listed = Origin::parse(text).is_some_and(|origin| self.lists(&origin));
        let is_development = self.any
            && self.any_loopback_credentials
            && is_loopback_origin(text)
            && is_loopback_host(request);
        match is_listed || is_development {
            true => Access::WithCredentials(origin.clone()),
            false if self.any => Access::WithoutCredentials,
            false => Access::None,
        }
    }

    /// Adds the header fields with which a browser gives the answer to a script that has that access.
    pub(crate) fn apply(&self, access: Access, response: &mut HeaderMap) {
        if !self.any && self.listed.is_empty() {
            return;
        }
        match access {
            Access::WithCredentials(origin) => {
                response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            // Also for a request without an origin: a cache may give this answer to scripts of any origin.
            _ if self.any => {
                response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            _ => {}
        }
        response.append(header::VARY, HeaderValue::from_static("origin"));
        response.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(
                "etag, last-event-id, link, mercure-last-event-id, retry-after, www-authenticate",
            ),
        );
    }

    /// The answer to a preflight request, for a resource that has the methods `allow`; [`Origins::apply`] adds the origin.
    ///
    /// A script of an allowed origin may send all header fields that it asks for: libraries add fields to each request
    /// (`HX-Request`, `traceparent`), and the hub ignores those that it does not know. The names are given one by one:
    /// `*` would not cover `Authorization`, and stands for itself where credentials are sent. An origin that is not
    /// allowed learns nothing.
    pub(crate) fn preflight(&self, request: &HeaderMap, allow: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        let access = self.access(request);
        if matches!(access, Access::None) {
            return response;
        }
        headers.append(
            header::VARY,
            HeaderValue::from_static(
                "access-control-request-headers, access-control-request-private-network",
            ),
        );
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(allow));
        if let Ok(names) = HeaderValue::try_from(allowed_headers(request)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        }
        // A day, the longest that any browser honours.
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        // A page of the public network asks for a hub in a private one. Only listed origins may: with "*", any page
        // could read data that is meant for the private network.
        if matches!(access, Access::WithCredentials(_)) && request.contains_key(&REQUEST_PRIVATE_NETWORK) {
            headers.insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        }
        response
    }

    /// Whether a request that a browser sends with a cookie comes from a page that may publish: one of the hub's own
    /// origin, or of a listed one. `Origin` counts before `Referer`; with neither the answer is no. Where the hub's URL
    /// is not known, its origin is what the request went to.
    pub(crate) fn may_publish(&self, headers: &HeaderMap, hub: Option<&HubUrl>) -> bool {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let claimed = match headers.get(header::ORIGIN) {
            Some(origin) => origin.to_str().ok(),
            None => text(header::REFERER),
        };
        let Some(url) = claimed.and_then(|claimed| Url::parse(claimed).ok()) else { return false };
        let same = || {
            if let Some(hub) = hub {
                return hub.as_url().origin() == url.origin();
            }
            // The hub may stand behind a proxy that ends TLS: the host must be its own, the scheme it cannot know.
            let host =
                text(header::HOST).and_then(|host| Url::parse(&format!("{}://{host}", url.scheme())).ok());
            host.is_some_and(|host| host.origin() == url.origin())
        };
        Origin::from_url(&url).is_some_and(|origin| self.lists(&origin) || same())
    }
}

/// The access of a script of another origin.
pub(crate) enum Access {
    /// It may read answers to requests with its visitor's cookies. Holds its origin.
    WithCredentials(HeaderValue),
    /// It may read answers to requests without cookies.
    WithoutCredentials,
    None,
}

const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The names that are always allowed, and then those that a preflight asks for. Malformed names are left out.
fn allowed_headers(request: &HeaderMap) -> String {
    let mut allowed: Vec<_> = REQUEST_HEADERS.split(", ").map(HeaderName::from_static).collect();
    let max = allowed.len() + REQUEST_HEADERS_MAX;
    let asked = request.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = asked.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    // "*" would allow names that the preflight does not ask for.
    for name in names.filter(|name| name.len() <= REQUEST_HEADER_BYTES_MAX && *name != b"*") {
        if allowed.len() == max {
            break;
        }
        if let Some(name) = HeaderName::from_bytes(name).ok().filter(|name| !allowed.contains(name)) {
            allowed.push(name);
        }
    }
    allowed.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ")
}

fn is_loopback_origin(origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| url.origin().is_tuple() && is_loopback(&url))
}

fn is_loopback_host(request: &HeaderMap) -> bool {
    let host = request.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Url::parse(&format!("http://{host}")).is_ok_and(|url| is_loopback(&url))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    /// What the browser is told: the allowed origin and whether credentials are.
    fn allowed(origins: &Origins, request: &[(HeaderName, &'static str)]) -> (Option<String>, bool) {
        let mut response = HeaderMap::new();
        origins.apply(origins.access(&headers(request)), &mut response);
        let origin = response.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        let origin = origin.map(|value| value.to_str().expect("ASCII").to_owned());
        (origin, response.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS))
    }

    #[test]
    fn a_listed_origin_gets_credentials_and_others_get_nothing() {
        let origins = Origins::parse(["https://a.example", "http://b.example:8080"]).expect("origins");
        assert_eq!(
            allowed(&origins, &[(header::ORIGIN, "https://a.example")]),
            (Some("https://a.example".to_owned()), true)
        );
        for other in ["https://evil.example", "http://a.example", "null", "https://a.example.evil.example"] {
            assert_eq!(allowed(&origins, &[(header::ORIGIN, other)]), (None, false), "{other}");
        }
    }

    #[test]
    fn the_wildcard_never_reflects_and_gives_no_credentials() {
        let origins = Origins::parse(["*"]).expect("origins");
        for origin in ["https://a.example", "null", "http://localhost:5000"] {
            let request = [(header::ORIGIN, origin), (header::HOST, "localhost:5500")];
            assert_eq!(allowed(&origins, &request), (Some("*".to_owned()), false), "{origin}");
        }
    }

    #[test]
    fn loopback_credentials_need_loopback_on_both_sides() {
        let origins = Origins::parse(["*"]).expect("origins").with_loopback_credentials();
        let both = [(header::ORIGIN, "http://localhost:5000"), (header::HOST, "127.0.0.1:5500")];
        assert_eq!(allowed(&origins, &both), (Some("http://localhost:5000".to_owned()), true));
        for (origin, host) in [
            ("http://localhost:5000", "hub.example"),
            ("https://evil.example", "localhost:5500"),
            ("http://localhost.evil.example", "localhost:5500"),
            ("null", "localhost:5500"),
        ] {
            let request = [(header::ORIGIN, origin), (header::HOST, host)];
            assert_eq!(allowed(&origins, &request), (Some("*".to_owned()), false), "{origin} {host}");
        }
    }

    #[test]
    fn subdomains_of_a_listed_origin_get_credentials() {
        let origins = Origins::parse(["https://*.example.com", "*"]).expect("origins");
        for (origin, expected) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://a.b.example.com", "https://a.b.example.com"),
            ("https://example.com", "*"),
            ("https://evilexample.com", "*"),
            ("http://app.example.com", "*"),
        ] {
            let found = allowed(&origins, &[(header::ORIGIN, origin)]);
            assert_eq!(found, (Some(expected.to_owned()), expected != "*"), "{origin}");
        }
    }

    #[test]
    fn a_star_does_not_let_every_site_publish() {
        assert!(
            Origins::parse_listed(["https://a.example", "*"]).expect_err("any").contains("list the origins")
        );
        let origins = Origins::parse_listed(["https://*.example.com"]).expect("origins");
        let from = |origin| origins.may_publish(&headers(&[(header::ORIGIN, origin)]), None);
        assert!(from("https://app.example.com"));
        assert!(!from("https://example.com") && !from("https://evilexample.com"));
    }

    /// The fields of the answer to a preflight.
    fn preflight(origins: &Origins, request: &HeaderMap) -> HeaderMap {
        let mut response = origins.preflight(request, "GET");
        origins.apply(origins.access(request), response.headers_mut());
        response.headers().clone()
    }

    #[test]
    fn a_preflight_allows_the_names_that_an_allowed_origin_asks_for() {
        let asked =
            "HX-Request,hx-target, baggage,sentry-trace ,traceparent,X-CSRF-Token,authorization,,baggage";
        for (origins, origin) in
            [(vec!["https://a.example"], "https://a.example"), (vec!["*"], "https://b.example")]
        {
            let origins = Origins::parse(origins).expect("origins");
            let asked = [(header::ORIGIN, origin), (header::ACCESS_CONTROL_REQUEST_HEADERS, asked)];
            let answer = preflight(&origins, &headers(&asked));
            assert_eq!(
                answer[header::ACCESS_CONTROL_ALLOW_HEADERS],
                format!(
                    "{REQUEST_HEADERS}, hx-request, hx-target, baggage, sentry-trace, traceparent, x-csrf-token"
                )
            );
            assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
            let vary: Vec<_> =
                answer.get_all(header::VARY).iter().map(|value| value.to_str().expect("ASCII")).collect();
            assert!(vary.join(", ").contains("access-control-request-headers") && vary.contains(&"origin"));
        }
    }

    #[test]
    fn a_preflight_tells_other_origins_nothing() {
        let listed = Origins::parse(["https://a.example"]).expect("origins");
        let asked = (header::ACCESS_CONTROL_REQUEST_HEADERS, "x-secret");
        for (origins, origin) in [
            (&listed, Some("https://evil.example")),
            (&listed, Some("null")),
            (&listed, None),
            (&Origins::default(), Some("https://a.example")),
        ] {
            let origin = origin.map(|origin| (header::ORIGIN, origin));
            let request: Vec<_> = origin.into_iter().chain([asked.clone()]).collect();
            let answer = preflight(origins, &headers(&request));
            for name in [
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                header::ACCESS_CONTROL_ALLOW_METHODS,
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            ] {
                assert!(!answer.contains_key(&name), "{name}");
            }
        }
    }

    #[test]
    fn a_preflight_reflects_valid_names_only_and_not_too_many() {
        let origins = Origins::parse(["https://a.example"]).expect("origins");
        let ask = |names: &[u8]| {
            let mut request = headers(&[(header::ORIGIN, "https://a.example")]);
            request.insert(
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                HeaderValue::from_bytes(names).expect("a value"),
            );
            let names = preflight(&origins, &request)[header::ACCESS_CONTROL_ALLOW_HEADERS].clone();
            let names = names.to_str().expect("ASCII").to_owned();
            names.strip_prefix(REQUEST_HEADERS).expect("the fixed names").trim_start_matches(", ").to_owned()
        };
        assert_eq!(ask(b"x-a, x b, x\xff, x:y, <x>, x/y, (x), \"x\", x\t, x-b;q=1, *"), "x-a, x");
        let longest = "x".repeat(REQUEST_HEADER_BYTES_MAX);
        assert_eq!(ask(longest.as_bytes()), longest);
        assert_eq!(ask(format!("{longest}x").as_bytes()), "");
        let all: Vec<_> = (0..REQUEST_HEADERS_MAX).map(|number| format!("x-{number}")).collect();
        assert_eq!(ask(all.join(",").as_bytes()), all.join(", "));
        let many: Vec<_> = (0..1_000).map(|number| format!("x-{number}")).collect();
        assert_eq!(ask(many.join(",").as_bytes()).split(", ").count(), REQUEST_HEADERS_MAX);
    }

    #[test]
    fn the_private_network_is_open_to_listed_origins() {
        let ask = |origins: &[&str]| {
            let origins = Origins::parse(origins.iter().copied()).expect("origins");
            let request =
                headers(&[(header::ORIGIN, "https://a.example"), (REQUEST_PRIVATE_NETWORK, "true")]);
            preflight(&origins, &request).contains_key(ALLOW_PRIVATE_NETWORK)
        };
        assert!(ask(&["https://a.example"]));
        assert!(!ask(&["*"]) && !ask(&["https://b.example"]));
    }

    #[test]
    fn a_cookie_publishes_from_the_own_or_a_listed_origin_only() {
        let origins = Origins::parse(["https://app.example"]).expect("origins");
        let may = |pairs: &[(HeaderName, &'static str)]| origins.may_publish(&headers(pairs), None);
        let host = (header::HOST, "hub.example");
        assert!(may(&[host.clone(), (header::ORIGIN, "https://hub.example")]));
        assert!(may(&[host.clone(), (header::ORIGIN, "http://hub.example")]));
        assert!(may(&[host.clone(), (header::ORIGIN, "https://app.example")]));
        assert!(may(&[host.clone(), (header::REFERER, "https://app.example/page?x")]));
        assert!(!may(std::slice::from_ref(&host)));
        assert!(!may(&[host.clone(), (header::ORIGIN, "null")]));
        assert!(!may(&[host.clone(), (header::ORIGIN, "https://hub.example:444")]));
        assert!(!may(&[
            host.clone(),
            (header::ORIGIN, "https://evil.example"),
            (header::REFERER, "https://app.example")
        ]));
        assert!(!may(&[(header::ORIGIN, "https://hub.example")]));
    }
}
