//! What a browser's own `EventSource` needs, which reads no field of an answer and gives up for ever after an error status.
//!
//! Libraries for the same protocol read fields and statuses. They get the plain forms.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Response, header};

use crate::http::{body::Body, refusal::Refusal};

/// Whether the request is that of a browser's own `EventSource`.
///
/// All engines send these fields, and no other ones for it (Chromium 156, Firefox 153 and WebKitGTK 2.50 were looked at).
/// `Sec-Fetch-Mode` is absent over plain HTTP, except on the machine itself. A call of `fetch` with the same `Accept` lacks
/// `Cache-Control`, unless its script, or a developer's "disable cache", sets it: only that cannot be told apart. Libraries
/// outside of browsers copy some of the fields, but not the name.
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    text(header::ACCEPT) == b"text/event-stream"
        && text(header::CACHE_CONTROL) == b"no-cache"
        && text(header::USER_AGENT).starts_with(b"Mozilla/")
        && !headers.contains_key(header::AUTHORIZATION)
        && matches!(text(header::HeaderName::from_static("sec-fetch-mode")), b"" | b"cors")
}

/// The answer to a browser in the place of a refusal that will pass: a stream that ends at once, and the time after which the
/// browser comes back. The reason stands in a comment, where the tools of developers show it.
pub(crate) fn come_back(refusal: &Refusal) -> Response<Body> {
    let (pause, request) = (pause().as_millis(), refusal.log().urn());
    let body = format!("retry: {pause}\n: {} ({request})\n", refusal.detail());
    let mut response = Response::new(Body::full(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Many browsers may be refused. If they kept their connections, none would be left for publishers.
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Between one and two times [`PAUSE`], so that browsers that were refused together do not come back together.
fn pause() -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    PAUSE.mul_f64(1.0 + f64::from(nanos % 1_000_000) / 1_000_000.0)
}

/// The same that `Retry-After` says to others.
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: [(&str, &str); 4] = [
        ("accept", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"),
        ("sec-fetch-mode", "cors"),
    ];

    fn fields<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> HeaderMap {
        let field = |(name, value): (&str, &str)| {
            (name.parse::<header::HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        pairs.into_iter().map(field).collect()
    }

    #[test]
    fn the_event_source_of_a_browser_is_told_from_everything_else() {
        assert!(is_browser(&fields(BROWSER)));
        let plain_http = BROWSER.into_iter().filter(|(name, _)| *name != "sec-fetch-mode");
        assert!(is_browser(&fields(plain_http)));
        for missing in ["accept", "cache-control", "user-agent"] {
            let others = BROWSER.into_iter().filter(|(name, _)| *name != missing);
            assert!(!is_browser(&fields(others)), "{missing}");
        }
        for (name, value) in [
            ("accept", "text/event-stream, */*"),
            ("cache-control", "no-store"),
            ("user-agent", "Go-http-client/1.1"),
            ("sec-fetch-mode", "navigate"),
            ("authorization", "Bearer a.b.c"),
        ] {
            let others = BROWSER.into_iter().filter(|(other, _)| *other != name);
            assert!(!is_browser(&fields(others.chain([(name, value)]))), "{name}: {value}");
        }
    }

    #[test]
    fn a_browser_comes_back_after_five_to_ten_seconds() {
        for _ in 0..100 {
            assert!((PAUSE..2 * PAUSE).contains(&pause()));
        }
    }
}
