//! What the fuzz targets of this crate assert: each function takes any input and panics if a rule does not hold for it.
//!
//! Compiled by `cargo fuzz` and by this crate's tests only, which give the functions the committed corpus.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use petasos_protocol::{
    Limits,
    request::{Form, Part},
};
use url::Url;

use crate::{
    Origins, Proxies, Settings,
    connection::{first, http2, passing},
    http::credentials::Presented,
    tls::{challenge, fields},
};

/// A name, which is also that of a folder of the corpus, and what is given its inputs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate.
pub const TARGETS: &[Target] = &[
    ("certificate", certificate),
    ("frames", frames),
    ("head", head),
    ("headers", headers),
    ("hello", hello),
    ("passing", passing),
];

/// What is found in a certificate stands in it.
pub fn certificate(input: &[u8]) {
    let name = fields::name(input).map(str::as_bytes);
    for found in [fields::serial(input), fields::authority_key(input), name].into_iter().flatten() {
        assert!(found.is_empty() || input.windows(found.len()).any(|part| part == found));
    }
}

/// A handshake that is a challenge of a certification authority names its protocol, and a host.
pub fn hello(input: &[u8]) {
    let Some(name) = challenge::asked_for(input) else { return };
    assert!(input.windows(challenge::PROTOCOL.len()).any(|part| part == challenge::PROTOCOL));
    assert!(!name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase()), "{name:?}");
}

/// Frames come to the same in pieces as at once, whatever they are. The preface and the settings come before the input.
pub fn frames(input: &[u8]) {
    let all = http2::fuzzed(&[input]);
    for pieces in [1, 7] {
        let pieces: Vec<_> = input.chunks(pieces).collect();
        assert_eq!(http2::fuzzed(&pieces), all);
    }
}

/// A request that is read without hyper is a GET with one head and nothing behind it, by a second, naive reading of its
/// lines; so nothing of it is taken for another request.
pub fn head(input: &[u8]) {
    let Some(request) = first::plain(input) else { return };
    let text = String::from_utf8_lossy(input).replace("\r\n", "\n");
    let text = text.trim_start_matches('\n');
    let lines: Vec<&str> = text.strip_suffix("\n\n").expect("one head, to its end").split('\n').collect();
    assert!(lines[0].starts_with("GET "), "{:?}", lines[0]);
    assert_eq!(lines.len() - 1, request.headers().len());
    for line in &lines[1..] {
        let (name, _) = line.split_once(':').expect("a field");
        let unusual = ["content-length", "transfer-encoding", "expect", "upgrade"];
        assert!(!unusual.contains(&name.trim().to_ascii_lowercase().as_str()), "{line:?}");
    }
}

/// The tokens of any header fields are tokens that stand in these fields, no more than are verified; the client's address
/// comes from a proxy or from the peer; no site but a listed one may publish. The first line is the query. The others are
/// fields: the first byte of a line chooses the name.
pub fn headers(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let query = lines.next().unwrap_or_default();
    let mut fields = HeaderMap::new();
    for line in lines {
        let Some((kind, value)) = line.split_first() else { continue };
        let name = match kind {
            b'a' => header::AUTHORIZATION,
            b'c' => header::COOKIE,
            b'o' => header::ORIGIN,
            b'h' => header::HOST,
            b'l' => header::ACCESS_CONTROL_REQUEST_HEADERS,
            _ => HeaderName::from_static("x-forwarded-for"),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.append(name, value);
        }
    }
    let settings = Settings::default();
    if let Ok(query) = Form::parse(query, Part::Query, &Limits::default())
        && let Ok(Presented::Tokens(tokens)) = Presented::find(&fields, &query, &settings)
    {
        let all: Vec<&str> = tokens.all().collect();
        assert!((1..=settings.limits.cookie_tokens_max).contains(&all.len()));
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        assert!(all.iter().all(|token| !token.is_empty() && token.bytes().all(valid)));
        let stands_in = |name: HeaderName, token: &str| {
            fields.get_all(name).iter().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(token))
        };
        let bearer = fields.contains_key(header::AUTHORIZATION);
        assert!(!tokens.by_cookie || all.iter().all(|token| stands_in(header::COOKIE, token)));
        assert!(
            tokens.by_cookie
                || !bearer
                || query.all("authorization").count() > 0
                || all.iter().all(|token| stands_in(header::AUTHORIZATION, token))
        );
    }
    let proxies = Proxies::parse(["10.0.0.0/8"]).expect("a network");
    let (proxy, peer) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
    assert_eq!(proxies.client(peer, &fields), peer);
    let client = proxies.client(proxy, &fields);
    assert!(client == proxy || fields.contains_key("x-forwarded-for"));
    let cors = Origins::parse(["https://example.com", "https://*.example.com"]).expect("origins");
    if cors.may_publish(&fields, None)
        && let Some(origin) = fields.get(header::ORIGIN)
        && let Ok(origin) = origin.to_str()
    {
        let url = Url::parse(origin).expect("a URL");
        let host = url.host_str().unwrap_or_default();
        let own = fields.get(header::HOST).is_some_and(|own| !own.is_empty());
        let is_listed = host == "example.com" || host.ends_with(".example.com");
        assert!(own || is_listed && url.scheme() == "https", "{origin:?}");
    }
    let _ = cors.access(&fields);
    let _ = cors.preflight(&fields, "GET");
}

/// A head that an application passes becomes one head, framed in one way, or is refused.
pub fn passing(input: &[u8]) {
    let Ok((_, head)) = passing::head(input) else { return };
    let mut fields = [httparse::EMPTY_HEADER; passing::FIELDS_MAX + 3];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = parsed.parse(&head).expect("a head");
    assert_eq!(length, httparse::Status::Complete(head.len()));
    assert_eq!(parsed.code, Some(200));
    let count =
        |name: &str| parsed.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
    assert_eq!((count("connection"), count("date"), count("content-length")), (1, 1, 0));
    assert_eq!(count("transfer-encoding"), usize::from(parsed.version == Some(1)));
}

#[cfg(test)]
#[path = "../../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{TARGETS, corpus::every_input_passes};

    #[test]
    fn every_input_of_the_corpus_passes() {
        every_input_passes(TARGETS);
    }
}
