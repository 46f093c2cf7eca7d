//! Which other origins' scripts may use the hub (Fetch standard, section "CORS protocol").
//!
//! Credentials are allowed to listed origins only: with `*`, or by reflecting whatever origin comes, every site could
//! read what a visitor's cookie allows.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, header::HeaderName};
use petasos_protocol::topic::HubUrl;
use url::Url;

use crate::body::Body;

/// The origins whose scripts may read answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    any: bool,
    any_loopback_credentials: bool,
    listed: Vec<String>,
}

impl Origins {
    /// From a list of origins such as `https://example.com`; `*` stands for all, without credentials.
    ///
    /// # Errors
    /// A sentence that names the wrong entry.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut origins = Self::default();
        for value in values {
            if value == "*" {
                origins.any = true;
                continue;
            }
            let wrong = || {
                format!("\"{value}\" is no origin: write scheme://host or scheme://host:port, without a path")
            };
            let url = Url::parse(value).map_err(|_| wrong())?;
            let origin = url.origin();
            let bare = url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty();
            if !origin.is_tuple() || !bare {
                return Err(wrong());
            }
            origins.listed.push(origin.ascii_serialization());
        }
        Ok(origins)
    }

    /// With `*`: also allows credentials where hub and page are both on this machine's loopback names, as in
    /// development, where the page and the hub have different ports.
    #[must_use]
    pub fn with_loopback_credentials(mut self) -> Self {
        self.any_loopback_credentials = true;
        self
    }

    /// Whether the origin is listed by name.
    pub(crate) fn lists(&self, origin: &str) -> bool {
        self.listed.iter().any(|listed| listed == origin)
    }

    /// Adds what lets a browser hand the answer to a script of the request's origin.
    pub(crate) fn apply(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if !self.any && self.listed.is_empty() {
            return;
        }
        let origin = request.get(header::ORIGIN);
        let text = origin.and_then(|origin| origin.to_str().ok()).unwrap_or_default();
        let trusted = self.lists(text)
            || (self.any
                && self.any_loopback_credentials
                && is_loopback_origin(text)
                && is_loopback_host(request));
        match origin {
            Some(origin) if trusted => {
                response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
            _ if self.any => {
                response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            _ => {}
        }
        response.append(header::VARY, HeaderValue::from_static("origin"));
        response.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("etag, last-event-id, link, mercure-last-event-id, www-authenticate"),
        );
    }

    /// The answer to a preflight request; [`Origins::apply`] adds who is allowed.
    pub(crate) fn preflight(allow: &'static str) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let values: [(HeaderName, &'static str); 4] = [
            (header::ALLOW, allow),
            (header::ACCESS_CONTROL_ALLOW_METHODS, allow),
            (
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                "authorization, cache-control, content-type, if-none-match, last-event-id",
            ),
            // A day, the longest that any browser honours.
            (header::ACCESS_CONTROL_MAX_AGE, "86400"),
        ];
        for (name, value) in values {
            headers.insert(name, HeaderValue::from_static(value));
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
        let origin = url.origin();
        let same = || {
            if let Some(hub) = hub {
                return hub.as_url().origin() == origin;
            }
            // The hub may stand behind a proxy that ends TLS: the host must be its own, the scheme it cannot know.
            let host =
                text(header::HOST).and_then(|host| Url::parse(&format!("{}://{host}", url.scheme())).ok());
            host.is_some_and(|host| host.origin() == origin)
        };
        origin.is_tuple() && (self.lists(&origin.ascii_serialization()) || same())
    }
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
        origins.apply(&headers(request), &mut response);
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
    fn entries_that_are_no_origin_are_refused() {
        for bad in ["example.com", "https://example.com/path", "null", "", "https://u@example.com", "data:x"]
        {
            assert!(Origins::parse([bad]).is_err(), "{bad}");
        }
        assert!(Origins::parse(["https://example.com/"]).expect("origins").lists("https://example.com"));
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
