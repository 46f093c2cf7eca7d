//! The first request of a connection, read without hyper if it is what subscribers send: a GET without a body, whole in one
//! packet.
//!
//! A subscriber needs hyper for nothing else, and its buffers and tasks are most of what connecting costs. Whatever is
//! different in any way goes to hyper, byte for byte as it came, also what is malformed: this file refuses nothing.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::Empty;

/// The longest head that is read here; that of a browser with large cookies.
const HEAD_BYTES_MAX: usize = 4 * 1024;

const HEADERS_MAX: usize = 64;

/// Fields with which a request is more than its head, or asks for something else than an answer.
const UNUSUAL: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT, header::UPGRADE];

/// Takes what a read of a socket gives. `None`: nothing has come.
///
/// # Errors
/// The socket's; its end is one, too.
pub(crate) fn read(read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<Bytes>> {
    // Here, and not in a future: there would be one for each connection.
    let mut buffer = [0; HEAD_BYTES_MAX];
    let length = match read(&mut buffer) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(Bytes::copy_from_slice(&buffer[..length])))
}

/// The request, if the bytes are a plain one and nothing else.
pub(crate) fn plain(bytes: &[u8]) -> Option<Request<Empty<Bytes>>> {
    let mut fields = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let complete = parsed.parse(bytes).ok()?;
    let is_whole = complete.is_complete() && complete.unwrap() == bytes.len();
    if !is_whole || parsed.method? != "GET" {
        return None;
    }
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if UNUSUAL.contains(&name) {
            return None;
        }
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::try_from(parsed.path?).ok()?;
    *request.version_mut() = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_get_is_read_with_all_its_fields() {
        let request = plain(
            b"GET /.well-known/mercure?topic=a%20b HTTP/1.1\r\nHost: h\r\nCookie: a=\xe9\r\ncookie: b\r\n\r\n",
        );
        let request = request.expect("plain");
        assert_eq!((request.method(), request.version()), (&Method::GET, Version::HTTP_11));
        assert_eq!(request.uri(), "/.well-known/mercure?topic=a%20b");
        let cookies: Vec<_> =
            request.headers().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(cookies, [&b"a=\xe9"[..], b"b"]);
        let former = plain(b"GET /a HTTP/1.0\r\n\r\n").expect("plain");
        assert_eq!(former.version(), Version::HTTP_10);
    }

    #[test]
    fn everything_else_is_left_to_hyper() {
        for other in [
            "GET / HTTP/1.1\r\nHost: h\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET",
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
            "GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: h\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : h\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "\x16\x03\x01",
            "",
        ] {
            assert!(plain(other.as_bytes()).is_none(), "{other:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1));
        assert!(plain(many.as_bytes()).is_none());
    }
}
