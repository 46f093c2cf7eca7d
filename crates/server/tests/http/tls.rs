//! TLS: what every other test does not ask for. [`all_others_pass_over_tls`](super::all_others_pass_over_tls) runs those.

use std::{io, sync::Arc};

use petasos_hub::MemoryTransport;
use petasos_server::{Certificate, Listener, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedCipherSuite,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client::{FORM, HUB, PATIENCE, Server, publisher, settings};

/// A certificate that nobody has signed, and its key, for the names of a host.
struct Own {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Own {
    fn new(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a certificate");
        Self { chain: cert.pem(), key: signing_key.serialize_pem(), der: cert.der().clone() }
    }

    fn certificate(&self) -> Certificate {
        Certificate::parse(self.chain.as_bytes(), self.key.as_bytes()).expect("a certificate")
    }
}

/// What the servers of all tests offer.
pub(crate) fn offer() -> Tls {
    Tls::new(vec![OWN.certificate()]).expect("an offer")
}

static OWN: std::sync::LazyLock<Own> = std::sync::LazyLock::new(|| Own::new(&["localhost"]));

/// A client that trusts some certificates.
pub(crate) struct Client {
    config: ClientConfig,
    host: &'static str,
}

impl Default for Client {
    fn default() -> Self {
        Self::with(&aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec(), &[&OWN], "localhost")
    }
}

impl Client {
    fn with(suites: &[SupportedCipherSuite], trusted: &[&Own], host: &'static str) -> Self {
        let provider = CryptoProvider { cipher_suites: suites.to_vec(), ..aws_lc_rs::default_provider() };
        let mut roots = RootCertStore::empty();
        for own in trusted {
            roots.add(own.der.clone()).expect("a certificate");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider));
        let config = config.with_safe_default_protocol_versions().expect("the versions");
        Self { config: config.with_root_certificates(roots).with_no_client_auth(), host }
    }

    pub(crate) async fn shake(self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host).expect("a name");
        TlsConnector::from(Arc::new(self.config)).connect(name, socket).await
    }
}

async fn serve(listener: Listener) -> Server {
    let hub = petasos_hub::Settings { keep_alive: None, ..Default::default() };
    Server::start_with_listener(listener, Arc::new(MemoryTransport::new(100)), settings(), hub).await
}

async fn listener(tls: &Tls) -> Listener {
    Listener::bind("127.0.0.1", 0).await.expect("bind").with_tls(tls.clone())
}

/// The subject alternative name of the certificate that a client gets.
async fn certificate_for(server: &Server, client: Client) -> io::Result<CertificateDer<'static>> {
    let socket = TcpStream::connect(server.address).await.expect("connect");
    let stream = client.shake(socket).await?;
    Ok(stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone())
}

#[tokio::test]
async fn every_version_and_cipher_carries_requests_and_streams() {
    let server = serve(listener(&offer()).await).await;
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        if format!("{:?}", suite.suite()).contains("_RSA_") {
            // Needs a certificate with such a key.
            continue;
        }
        let connect = || async {
            let socket = TcpStream::connect(server.address).await.expect("connect");
            let client = Client::with(&[*suite], &[&OWN], "localhost");
            client.shake(socket).await.expect("a handshake")
        };
        let mut stream = connect().await;
        let version = stream.get_ref().1.protocol_version().expect("a version");
        let is_13 = format!("{:?}", suite.suite()).starts_with("TLS13");
        assert_eq!(version, if is_13 { ProtocolVersion::TLSv1_3 } else { ProtocolVersion::TLSv1_2 });
        let head = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("write");
        read_until(&mut stream, "retry: ").await;
        let mut publishing = connect().await;
        // Larger than some records.
        let data = "x".repeat(70_000);
        for number in 0..3 {
            let body = format!("topic=a&data={number}{data}");
            let head = format!(
                "POST {HUB} HTTP/1.1\r\nHost: localhost\r\n{FORM}\r\n{}\r\nContent-Length: {}\r\n\r\n",
                publisher(),
                body.len()
            );
            publishing.write_all(head.as_bytes()).await.expect("write");
            publishing.write_all(body.as_bytes()).await.expect("write");
            read_until(&mut publishing, "urn:uuid:").await;
        }
        let received = read_until(&mut stream, &format!("data: 2{data}\n\n")).await;
        assert!(
            received.contains(&format!("data: 0{data}\n\n"))
                && received.contains(&format!("data: 1{data}\n\n"))
        );
    }
}

/// Everything up to the bytes that end with that.
async fn read_until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut all = Vec::new();
    let mut part = [0; 16 * 1024];
    loop {
        let read = timeout(PATIENCE, stream.read(&mut part)).await;
        let start = String::from_utf8_lossy(&all[..all.len().min(400)]).into_owned();
        let read = read.unwrap_or_else(|_| panic!("{} bytes: {start}", all.len())).expect("no error");
        assert_ne!(read, 0, "{start}");
        all.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&all);
        if text.contains(end) {
            return text.into_owned();
        }
    }
}
