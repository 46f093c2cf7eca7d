//! A request, before it is known whether it travels over HTTP/1.1 or HTTP/2.

use crate::Failure;

/// A request with its whole content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host, and the port if the URL has one.
    pub authority: String,
    /// The path and the query.
    pub path: String,
    /// All fields but the host.
    pub fields: Vec<(&'static str, Vec<u8>)>,
    /// What follows the head.
    pub content: Vec<u8>,
}

impl Request {
    /// The bytes of HTTP/1.1; the content is at their end.
    pub fn to_http1(&self) -> Vec<u8> {
        let Self { method, authority, path, fields, content, .. } = self;
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        for (name, value) in fields {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(content);
        bytes
    }

    /// The head of HTTP/2.
    ///
    /// # Errors
    /// If a path or a value has a character that no head may have.
    pub fn to_http2(&self) -> Result<http::Request<()>, Failure> {
        let uri = format!("{}://{}{}", self.scheme, self.authority, self.path);
        let mut request =
            http::Request::builder().method(self.method).uri(uri).version(http::Version::HTTP_2);
        for (name, value) in &self.fields {
            request = request.header(*name, value.as_slice());
        }
        Ok(request.body(())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Request {
        Request {
            method: "POST",
            scheme: "https",
            authority: "a.example:1".to_owned(),
            path: path.to_owned(),
            fields: vec![("Content-Length", b"2".to_vec()), ("X", b"\xe9".to_vec())],
            content: b"ab".to_vec(),
        }
    }

    #[test]
    fn both_versions_say_the_same() {
        let request = request("/b?c");
        assert_eq!(
            request.to_http1().escape_ascii().to_string(),
            r"POST /b?c HTTP/1.1\r\nHost: a.example:1\r\nContent-Length: 2\r\nX: \xe9\r\n\r\nab"
        );
        let head = request.to_http2().expect("a head");
        assert_eq!(head.method(), "POST");
        assert_eq!(head.uri().to_string(), "https://a.example:1/b?c");
        assert_eq!(head.headers()["content-length"], "2");
        assert_eq!(head.headers()["x"].as_bytes(), b"\xe9");
    }

    #[test]
    fn what_no_head_may_have_is_an_error() {
        assert!(request("/b c").to_http2().is_err());
    }
}
