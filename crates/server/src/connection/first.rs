//! The first request of a connection, read without hyper if it is what subscribers send: a GET without a body, whole in one
//! packet.
//!
//! A subscriber needs hyper for nothing else, and hyper's buffers and tasks are most of what connecting costs. Any other
//! request goes to hyper, byte for byte as it came, and so does a malformed one: this file refuses nothing.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header};
use http_body_util::Empty;

/// The longest head that is read here: the head of a browser with large cookies.
const HEAD_BYTES_MAX: usize = 4 * 1024;

/// The most header fields of a request that is read here. Browsers send about twenty.
const HEADERS_MAX: usize = 64;

/// Fields of requests that have a body, or that ask for something else than an answer.
const UNUSUAL: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT, header::UPGRADE];

/// The bytes that one call of `read` gives, which reads a socket. `None`: nothing has come.
///
/// # Errors
/// The socket's; its end is one, too.
pub(crate) fn read(read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<Bytes>> {
    // On the stack, and not in a future: there would be one for each connection.
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
        let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(plain(fields(HEADERS_MAX).as_bytes()).is_some());
        assert!(plain(fields(HEADERS_MAX + 1).as_bytes()).is_none());
    }

    #[test]
    fn one_read_takes_as_much_as_a_head_may_have() {
        let give = |bytes: usize| {
            let taken = read(|buffer| {
                let length = bytes.min(buffer.len());
                buffer[..length].fill(b'x');
                Ok(length)
            });
            taken.expect("no error").expect("bytes").len()
        };
        assert_eq!((give(1), give(HEAD_BYTES_MAX)), (1, HEAD_BYTES_MAX));
        assert_eq!(give(HEAD_BYTES_MAX + 1), HEAD_BYTES_MAX);
        let failing = |kind: io::ErrorKind| read(|_| Err(kind.into())).map_err(|error| error.kind());
        assert_eq!(failing(io::ErrorKind::WouldBlock), Ok(None), "nothing has come");
        assert_eq!(failing(io::ErrorKind::ConnectionReset), Err(io::ErrorKind::ConnectionReset));
        assert_eq!(read(|_| Ok(0)).map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
    }
}
