//! The head of a request: from fields (RFC 9113, section 8.3) to what handlers know.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use super::hpack::dynamic_table::ENTRY_BYTES;

/// The longest head, as in HTTP/1.1.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Takes the fields of a head, one after the other.
#[derive(Default)]
pub(super) struct Fields {
    method: Option<Method>,
    scheme: Option<Scheme>,
    path: Option<PathAndQuery>,
    authority: Option<Authority>,
    headers: HeaderMap,
    /// A field without a colon has come. Those with one stand before.
    has_headers: bool,
    is_malformed: bool,
    /// It has a URL that is none. A proxy may pass that on from its client, which is no fault of the connection.
    has_bad_url: bool,
    bytes: usize,
}

/// What a head comes to.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A request, and the length of its content if the peer says it.
    Request(Box<Request<()>>, Option<u64>),
    /// No request of which handlers know, though it keeps the rules of HTTP/2.
    Refused(StatusCode),
    /// It breaks the rules.
    Malformed,
}

impl Fields {
    /// Takes a field. None of those beyond the longest head are kept.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        // As the protocol counts (section 6.5.2).
        self.bytes += name.len() + value.len() + ENTRY_BYTES;
        if self.bytes > HEAD_BYTES_MAX || self.is_malformed {
            return;
        }
        let is_taken = match name {
            [b':', ..] if self.has_headers => None,
            b":method" => set(&mut self.method, Method::from_bytes(value).ok()),
            b":scheme" => set(&mut self.scheme, Scheme::try_from(value).ok()),
            b":path" => self.set_path(value),
            // It has no user and no password (section 8.3.1).
            b":authority" if value.contains(&b'@') => None,
            // A proxy may have had none.
            b":authority" if value.is_empty() => Some(()),
            b":authority" => self.set_authority(value),
            [b':', ..] => None,
            _ => self.add_header(name, value),
        };
        self.is_malformed = is_taken.is_none();
    }

    fn set_path(&mut self, value: &[u8]) -> Option<()> {
        if value != b"*" && !value.starts_with(b"/") {
            return None;
        }
        let path = PathAndQuery::try_from(value);
        self.has_bad_url |= path.is_err();
        set(&mut self.path, path.ok().or(Some(PathAndQuery::from_static("/"))))
    }

    fn set_authority(&mut self, value: &[u8]) -> Option<()> {
        let authority = Authority::try_from(value);
        self.has_bad_url |= authority.is_err();
        set(&mut self.authority, authority.ok().or(Some(Authority::from_static("localhost"))))
    }

    fn add_header(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.has_headers = true;
        // Names in upper case are none.
        let name = HeaderName::from_lowercase(name).ok()?;
        let belongs_to_http_1 = [
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::UPGRADE,
            HeaderName::from_static("keep-alive"),
            HeaderName::from_static("proxy-connection"),
        ];
        if belongs_to_http_1.contains(&name) || name == header::TE && value != b"trailers" {
            return None;
        }
        let value = HeaderValue::from_bytes(value).ok()?;
        self.headers.try_append(name, value).ok().map(|_| ())
    }

    /// How long the head is, as the protocol counts.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether what stands behind the content of a request, and is not looked at, keeps the rules.
    pub(super) fn are_trailers(&self) -> bool {
        let has_pseudo =
            self.method.is_some() || self.scheme.is_some() || self.path.is_some() || self.authority.is_some();
        !has_pseudo && !self.is_malformed
    }

    /// The request. `has_content`: more than the head comes.
    pub(super) fn finish(self, has_content: bool) -> Parsed {
        if self.is_malformed {
            return Parsed::Malformed;
        }
        if self.bytes > HEAD_BYTES_MAX {
            return Parsed::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        let has_bad_url = self.has_bad_url;
        match self.request(has_content) {
            Some(_) if has_bad_url => Parsed::Refused(StatusCode::BAD_REQUEST),
            request => request.unwrap_or(Parsed::Malformed),
        }
    }

    fn request(self, has_content: bool) -> Option<Parsed> {
        let Self { method, scheme, path, authority, mut headers, .. } = self;
        let method = method?;
        let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter().map(length);
        let length = lengths.next().map_or(Some(None), |first| first.map(Some))?;
        if lengths.any(|other| other != length) || !has_content && length.is_some_and(|length| length > 0) {
            return None;
        }
        let mut uri = Uri::builder();
        if method == Method::CONNECT {
            // It has neither (section 8.5).
            if scheme.is_some() || path.is_some() {
                return None;
            }
            uri = uri.authority(authority.clone()?);
        } else {
            let (scheme, path) = (scheme?, path?);
            if path == "*" && method != Method::OPTIONS {
                return None;
            }
            if let Some(authority) = authority.clone() {
                uri = uri.scheme(scheme).authority(authority);
            }
            uri = uri.path_and_query(path);
        }
        set_host(&mut headers, authority);
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.build().ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        Some(Parsed::Request(Box::new(request), length))
    }
}

/// Sets what comes once.
fn set<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    let value = value.filter(|_| place.is_none())?;
    *place = Some(value);
    Some(())
}

fn length(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Writes the host down where HTTP/1.1 has it. A request that names two, by `:authority` and `Host` (section 8.3.1), gets
/// two, which is refused.
fn set_host(headers: &mut HeaderMap, authority: Option<Authority>) {
    let Some(authority) = authority else { return };
    let is_there = headers
        .get(header::HOST)
        .is_some_and(|host| authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()));
    if !is_there && let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.append(header::HOST, host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Parsed {
        let mut all = Fields::default();
        for (name, value) in fields {
            all.add(name.as_bytes(), value.as_bytes());
        }
        all.finish(true)
    }

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":path", "/a?b"), (":authority", "hub.example")];

    fn with(more: &[(&str, &str)]) -> Parsed {
        asked(&[&GET, more].concat())
    }

    #[test]
    fn a_request_has_what_handlers_look_at() {
        let Parsed::Request(request, length) =
            with(&[("cookie", "a=1"), ("cookie", "b=2"), ("content-length", "3")])
        else {
            panic!("a request")
        };
        assert_eq!((request.method(), request.version(), length), (&Method::GET, Version::HTTP_2, Some(3)));
        assert_eq!(request.uri(), "https://hub.example/a?b");
        assert_eq!(request.headers()[header::HOST], "hub.example");
        assert_eq!(request.headers().get_all(header::COOKIE).iter().count(), 2);
        for (fields, uri) in [
            (&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")][..], "*"),
            (&[(":method", "CONNECT"), (":authority", "a:1")], "a:1"),
            (&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "")], "/"),
        ] {
            let Parsed::Request(request, None) = asked(fields) else { panic!("{uri}") };
            assert_eq!(request.uri(), uri);
        }
    }

    #[test]
    fn a_head_that_breaks_rules_is_malformed() {
        for more in [
            ("Accept", "a"),
            ("a b", "c"),
            ("", "c"),
            ("a", "b\r\nc: d"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "a"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
            (":path", "/"),
            (":protocol", "websocket"),
            (":status", "200"),
            ("content-length", "+1"),
            ("content-length", "-1"),
            ("content-length", ""),
        ] {
            assert!(matches!(with(&[more]), Parsed::Malformed), "{more:?}");
        }
        for missing in 0..3 {
            let mut fields = GET.to_vec();
            fields.remove(missing);
            assert!(matches!(asked(&fields), Parsed::Malformed), "{missing}");
        }
        let late = [&GET[..3], &[("a", "b")], &GET[3..]].concat();
        assert!(matches!(asked(&late), Parsed::Malformed));
        assert!(matches!(with(&[("content-length", "1"), ("content-length", "2")]), Parsed::Malformed));
        assert!(matches!(
            with(&[("te", "trailers"), ("content-length", "1"), ("content-length", "1")]),
            Parsed::Request(..)
        ));
        for path in ["", "a", "*"] {
            let fields = [(":method", "GET"), (":scheme", "http"), (":path", path)];
            assert!(matches!(asked(&fields), Parsed::Malformed), "{path:?}");
        }
        let user = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a@b")];
        assert!(matches!(asked(&user), Parsed::Malformed));
        let mut fields = Fields::default();
        for (name, value) in GET {
            fields.add(name.as_bytes(), value.as_bytes());
        }
        fields.add(b"content-length", b"1");
        assert!(matches!(fields.finish(false), Parsed::Malformed), "content that does not come");
    }

    #[test]
    fn a_url_that_is_none_is_refused_with_an_answer() {
        for bad in [(":path", "/a b"), (":path", "/?\"x\""), (":authority", "a b"), (":authority", "[")] {
            let fields: Vec<_> =
                GET.iter().map(|field| if field.0 == bad.0 { bad } else { *field }).collect();
            assert!(matches!(asked(&fields), Parsed::Refused(StatusCode::BAD_REQUEST)), "{bad:?}");
        }
    }

    #[test]
    fn a_head_that_is_too_long_is_not_kept() {
        let mut fields = Fields::default();
        for (name, value) in GET {
            fields.add(name.as_bytes(), value.as_bytes());
        }
        for _ in 0..100_000 {
            fields.add(b"x", b"");
        }
        assert!(fields.headers.len() < 2_000 && fields.bytes() > 3_300_000);
        assert!(matches!(fields.finish(false), Parsed::Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
    }
}
