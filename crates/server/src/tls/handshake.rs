//! The handshake of one connection.

use std::io;

use rustls::server::ServerConnectionData;
use rustls::{
    HandshakeKind, ProtocolVersion,
    server::UnbufferedServerConnection,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, InsufficientSizeError, UnbufferedStatus},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::metrics::handshakes::Version;

use super::{
    direction::{ALERT, DATA, EXPANSION_MAX, Head, KINDS, PLAIN_BYTES_MAX},
    offer::{HTTP_2, Tls},
    records::Records,
    shown::ShownCertificate,
    stream::TlsStream,
};

/// What a client may send before the handshake is over: its messages with a chain of certificates, and its first request.
const RECEIVED_BYTES_MAX: usize = 64 * 1024;

/// One read.
const READ_BYTES: usize = 4 * 1024;

/// The answer to a request that is not encrypted. A browser shows it to whoever has typed the wrong address.
const NOT_ENCRYPTED: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 58\r\n\r\nThis port speaks TLS: ask for the same address with https\n";

/// A connection that has shaken hands.
pub(crate) struct Shaken {
    pub(crate) stream: TlsStream,
    pub(crate) version: Version,
    /// Whether it speaks HTTP/2. `None`: the client knows no ALPN.
    pub(crate) is_http2: Option<bool>,
    /// Whether the client has come back.
    pub(crate) is_resumed: bool,
    /// The certificate that the client has shown, now or in the session that it resumes.
    pub(crate) certificate: Option<ShownCertificate>,
}

/// Shakes hands, and offers HTTP/2 or not. `None`: it was a challenge of a certification authority, which has got its answer.
///
/// # Errors
/// The client has left or broken a rule, or the two have nothing in common. The client has been told.
pub(crate) async fn shake(mut socket: TcpStream, tls: &Tls, http2: bool) -> io::Result<Option<Shaken>> {
    let mut connection = UnbufferedServerConnection::new(tls.config(http2)).map_err(io::Error::other)?;
    let (mut received, mut sent) = (Vec::new(), Vec::new());
    let (mut is_first, mut is_hello, mut is_challenge) = (true, true, false);
    // rustls gets one record at a time, and none behind the handshake: what it answers to those would be lost with it.
    let mut given = 0;
    loop {
        let UnbufferedStatus { discard, state } = {
            // Messages of the client may cost a signature. Without one, rustls only says what comes next.
            let _turn = if given > 0 { tls.turns().next().await } else { None };
            connection.process_tls_records(&mut received[..given])
        };
        let mut is_done = false;
        let mut is_blocked = false;
        match state {
            Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, &mut sent)?,
            Ok(ConnectionState::TransmitTlsData(sending)) => {
                socket.write_all(&sent).await?;
                sent.clear();
                sending.done();
            }
            Ok(ConnectionState::BlockedHandshake) => is_blocked = true,
            Ok(ConnectionState::WriteTraffic(_)) => is_done = true,
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                // The alert comes before anything else. rustls knows where in these bytes it was, so it gets the rest of them.
                received.drain(..discard);
                given -= discard;
                // Messages in clear may wait before it. It is in clear, too, or sealed. Asking once more would be one alert too many.
                loop {
                    let begin = sent.len();
                    let UnbufferedStatus { state, .. } =
                        connection.process_tls_records(&mut received[..given]);
                    let Ok(ConnectionState::EncodeTlsData(mut message)) = state else { break };
                    encode(&mut message, &mut sent)?;
                    if matches!(sent.get(begin), Some(&(ALERT | DATA))) {
                        break;
                    }
                }
                // It may be gone already.
                let _ = socket.write_all(&sent).await;
                return Err(error);
            }
        }
        received.drain(..discard);
        given -= discard;
        if is_done {
            break;
        }
        if is_blocked {
            let length = loop {
                if let Some(length) = whole_record(&received[given..]) {
                    break length;
                }
                if received.len() >= RECEIVED_BYTES_MAX {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the handshake is too long"));
                }
                read(&mut socket, &mut received).await?;
                if std::mem::take(&mut is_first) && received[0].is_ascii_uppercase() {
                    let _ = socket.write_all(NOT_ENCRYPTED).await;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "it begins without TLS"));
                }
            };
            given += length;
            if std::mem::take(&mut is_hello)
                && let Some(config) = tls.answers().find(&received[..given]).await
            {
                // rustls has got nothing yet.
                connection = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
                is_challenge = true;
            }
        }
    }
    socket.write_all(&sent).await?;
    if is_challenge {
        return Ok(None);
    }
    let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    let certificate = connection.peer_certificates().map(|chain| ShownCertificate::new(chain, tls));
    let is_http2 = connection.alpn_protocol().map(|protocol| protocol == HTTP_2);
    let (secrets, kernel) = connection.dangerous_into_kernel_connection().map_err(io::Error::other)?;
    let version = match kernel.protocol_version() {
        ProtocolVersion::TLSv1_3 => Version::Tls13,
        _ => Version::Tls12,
    };
    let stream = TlsStream::new(socket, Records::new(secrets, kernel), received);
    Ok(Some(Shaken { stream, version, is_http2, is_resumed, certificate }))
}

fn encode(message: &mut EncodeTlsData<'_, ServerConnectionData>, sent: &mut Vec<u8>) -> io::Result<()> {
    let begin = sent.len();
    let mut room = READ_BYTES;
    loop {
        sent.resize(begin + room, 0);
        match message.encode(&mut sent[begin..]) {
            Ok(written) => {
                sent.truncate(begin + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room = required_size;
            }
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// The length of the first record, if it is whole. What is no record is given to rustls, which says so to the client.
fn whole_record(received: &[u8]) -> Option<usize> {
    let head = Head::parse(received)?;
    if !KINDS.contains(&head.kind) || head.content_bytes > PLAIN_BYTES_MAX + EXPANSION_MAX {
        return Some(received.len());
    }
    let length = head.record_bytes();
    (length <= received.len()).then_some(length)
}

async fn read(socket: &mut TcpStream, received: &mut Vec<u8>) -> io::Result<()> {
    let length = received.len();
    received.resize(length + READ_BYTES, 0);
    let read = socket.read(&mut received[length..]).await?;
    received.truncate(length + read);
    match read {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::tls::Certificate;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.expect("connect"), accepted.expect("accept").0)
    }

    #[tokio::test]
    async fn a_handshake_waits_for_its_turn_and_others_go_on() {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = signing_key.serialize_pem();
        let certificate = Certificate::parse(cert.pem().as_bytes(), key.as_bytes()).expect("a certificate");
        let tls = Tls::new(vec![certificate]).expect("an offer");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("the versions");
        let connector =
            TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));

        let mut turns = Vec::new();
        for _ in 0..tls.turns().available() {
            turns.push(tls.turns().next().await);
        }
        let (client, accepted) = pair().await;
        let (of_server, of_client) = (tls.clone(), connector.clone());
        let server = tokio::spawn(async move { shake(accepted, &of_server, true).await });
        let name = ServerName::try_from("localhost").expect("a name");
        let client = tokio::spawn(async move { of_client.connect(name, client).await });
        // Far more than a handshake takes.
        let (mut one, mut other) = pair().await;
        for _ in 0..1_000 {
            one.write_all(b"x").await.expect("write");
            other.read_exact(&mut [0]).await.expect("read");
        }
        assert!(!server.is_finished() && !client.is_finished());
        drop(turns);
        assert!(server.await.expect("no panic").expect("a handshake").is_some());
        client.await.expect("no panic").expect("a handshake");
    }
}
