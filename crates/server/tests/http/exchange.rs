//! A request and an answer as the text of HTTP/1.1, carried by a connection of HTTP/2 of their own. So tests that know only that
//! text ask the hub over HTTP/2.

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, empty, join, sink};

use crate::client::Wire;

/// What a client that does not read holds.
const BUFFER: usize = 64 * 1024;

/// The longest frame that the hub sends: more of the same event follows.
const FRAME_MAX: usize = 16 * 1024;

/// Sends a request, whole with its content, and returns a connection that has the answer. Dropping it leaves.
pub(crate) async fn exchange(wire: Wire, head: &str, content: &[u8]) -> Wire {
    let (request, content) = (parse(head), Bytes::copy_from_slice(content));
    let (client, server) = duplex(BUFFER);
    let Ok((mut requests, connection)) = h2::client::handshake(wire).await else {
        // As a connection of HTTP/1.1 that is closed at once.
        return Box::new(join(empty(), sink()));
    };
    // It ends with the requests, and what it has read can still be taken then.
    tokio::spawn(connection);
    tokio::spawn(async move {
        let (mut left, mut answering) = tokio::io::split(server);
        let asked = async {
            let (answer, mut stream) = requests.send_request(request, content.is_empty())?;
            if !content.is_empty() {
                stream.send_data(content, true)?;
            }
            let (head, body) = answer.await?.into_parts();
            carry(&Response::from_parts(head, ()), body, &mut answering).await
        };
        // What is not at its end is closed without one.
        tokio::select! {
            _ = asked => {}
            _ = left.read_u8() => {}
        }
    });
    Box::new(client)
}

async fn carry(
    head: &Response<()>,
    mut body: RecvStream,
    to: &mut tokio::io::WriteHalf<DuplexStream>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let is_chunked = !head.headers().contains_key(header::CONTENT_LENGTH) && !body.is_end_stream();
    to.write_all(&text_of(head, is_chunked)).await?;
    let mut chunk = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        chunk.extend_from_slice(&part);
        if is_chunked && part.len() == FRAME_MAX && !chunk.ends_with(b"\n") {
            continue;
        }
        if is_chunked && !chunk.is_empty() {
            to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
            chunk.extend_from_slice(b"\r\n");
        }
        to.write_all(&chunk).await?;
        chunk.clear();
    }
    if is_chunked {
        to.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}

/// A head of HTTP/1.1 as a request of HTTP/2, without what is a connection's own.
fn parse(head: &str) -> Request<()> {
    let mut lines = head.trim_end().split("\r\n");
    let [method, target, _] = lines.next().expect("a line").split(' ').collect::<Vec<_>>()[..] else {
        panic!("{head}");
    };
    let mut fields = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').expect("a field");
        let name = header::HeaderName::try_from(name).expect("a name");
        fields.append(name, HeaderValue::from_bytes(value.trim().as_bytes()).expect("a value"));
    }
    let host = fields.remove(header::HOST).expect("a host");
    fields.remove(header::CONNECTION);
    let uri = format!("http://{}{target}", host.to_str().expect("text"));
    let mut request = Request::builder().method(method).uri(uri).body(()).expect("a request");
    *request.headers_mut() = fields;
    request
}

fn text_of(head: &Response<()>, is_chunked: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {}\r\n", head.status()).into_bytes();
    for (name, value) in head.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    if is_chunked {
        text.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}
