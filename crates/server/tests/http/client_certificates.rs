//! Certificates of clients: who is asked for one, who is refused, and what one means for a publisher.

use std::{io, sync::Arc};

use petasos_hub::MemoryTransport;
use petasos_server::{
    Certificate, CertificateError, ClientAuthorities, Listener, PublisherCertificate, Settings, Tls,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client::{FORM, HUB, PATIENCE, Server, publisher, settings};

/// An authority, and certificates that it has signed.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn trusted(&self) -> ClientAuthorities {
        ClientAuthorities::parse(self.0.pem().as_bytes()).expect("an authority")
    }

    /// A certificate and its key, in PEM.
    fn sign(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }

    fn client(&self) -> Identity {
        Some(self.sign(ExtendedKeyUsagePurpose::ClientAuth))
    }
}

/// The certificate and the key that a client shows; `None`: it has none.
type Identity = Option<(String, String)>;

/// A hub whose own certificate one authority has signed.
struct Hub {
    server: Server,
    tls: Tls,
    own: Authority,
}

impl Hub {
    async fn start(clients: &Authority, publisher_certificate: PublisherCertificate) -> Self {
        let own = Authority::new();
        let (chain, key) = own.sign(ExtendedKeyUsagePurpose::ServerAuth);
        let certificate = Certificate::parse(chain.as_bytes(), key.as_bytes()).expect("a certificate");
        let tls = Tls::new(vec![certificate]).expect("an offer");
        tls.set_client_authorities(Some(&clients.trusted())).expect("authorities");
        let listener = Listener::bind("127.0.0.1", 0).await.expect("bind").with_tls(tls.clone());
        let settings = Settings { publisher_certificate, ..settings() };
        let log = Arc::new(MemoryTransport::new(100));
        let server =
            Server::start_with_listener(listener, log, settings, petasos_hub::Settings::default()).await;
        Self { server, tls, own }
    }

    /// A client that shows a certificate. Its sessions are resumed by the next connection with the same configuration.
    fn client(&self, identity: &Identity, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.own.0.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_protocol_versions(&[version]).expect("a version");
        let config = config.with_root_certificates(roots);
        Arc::new(match identity {
            None => config.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                config.with_client_auth_cert(chain.expect("a chain"), key).expect("an identity")
            }
        })
    }

    async fn connect(&self, client: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.server.address).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::clone(client)).connect(name, socket).await
    }

    /// The answer to a request; a client learns of a refused certificate when it reads.
    async fn ask(&self, client: &Arc<ClientConfig>, request: &str) -> io::Result<(String, bool)> {
        let mut stream = self.connect(client).await?;
        stream.write_all(request.as_bytes()).await?;
        let (mut answer, mut part) = (Vec::new(), [0; 4096]);
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            let read = timeout(PATIENCE, stream.read(&mut part)).await.expect("an answer")?;
            assert_ne!(read, 0, "it ends");
            answer.extend_from_slice(&part[..read]);
        }
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        Ok((String::from_utf8(answer).expect("UTF-8"), is_resumed))
    }

    /// The status of a publish of that client with those header fields.
    async fn publish(&self, identity: &Identity, fields: &[&str]) -> u16 {
        let client = self.client(identity, &TLS13);
        let (answer, _) = self.ask(&client, &publishing(fields)).await.expect("an answer");
        answer[9..12].parse().expect("a status")
    }
}

fn publishing(fields: &[&str]) -> String {
    let form = "topic=a&data=b";
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!(
        "POST {HUB} HTTP/1.1\r\nHost: localhost\r\n{FORM}\r\n{fields}Content-Length: {}\r\n\r\n{form}",
        form.len()
    )
}

#[tokio::test]
async fn a_publisher_that_needs_a_certificate_needs_its_token_too() {
    let clients = Authority::new();
    let hub = Hub::start(&clients, PublisherCertificate::Needed).await;
    let (known, token) = (clients.client(), publisher());
    assert_eq!(hub.publish(&known, &[&token]).await, 200);
    assert_eq!(hub.publish(&known, &[]).await, 401);
    assert_eq!(hub.publish(&None, &[&token]).await, 403);
    assert_eq!(hub.publish(&None, &[]).await, 403);
    let client = hub.client(&None, &TLS13);
    let (answer, _) = hub.ask(&client, &publishing(&[&token])).await.expect("an answer");
    assert!(!answer.contains("WWW-Authenticate"), "another token would not help: {answer}");
}

#[tokio::test]
async fn a_publisher_whose_certificate_is_enough_needs_no_token() {
    let clients = Authority::new();
    let hub = Hub::start(&clients, PublisherCertificate::Enough).await;
    let (known, token) = (clients.client(), publisher());
    assert_eq!(hub.publish(&known, &[]).await, 200);
    assert_eq!(hub.publish(&known, &[&token]).await, 200);
    assert_eq!(hub.publish(&None, &[&token]).await, 200);
    assert_eq!(hub.publish(&None, &[]).await, 401);
    assert_eq!(hub.publish(&known, &["Authorization: Bearer a.b.c"]).await, 401, "a token counts");
}

#[tokio::test]
async fn a_page_of_another_site_cannot_publish_with_its_visitors_certificate() {
    let clients = Authority::new();
    let hub = Hub::start(&clients, PublisherCertificate::Enough).await;
    let known = clients.client();
    for origin in ["https://evil.example", "null"] {
        assert_eq!(hub.publish(&known, &[&format!("Origin: {origin}")]).await, 403, "{origin}");
    }
    assert_eq!(hub.publish(&known, &["Origin: https://localhost"]).await, 200);
}

#[tokio::test]
async fn a_subscriber_needs_no_certificate() {
    let clients = Authority::new();
    let hub = Hub::start(&clients, PublisherCertificate::Needed).await;
    for identity in [None, clients.client()] {
        let client = hub.client(&identity, &TLS13);
        let request = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let (answer, _) = hub.ask(&client, &request).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_a_server_ends_the_handshake() {
    let clients = Authority::new();
    let hub = Hub::start(&clients, PublisherCertificate::Enough).await;
    let for_servers = Some(clients.sign(ExtendedKeyUsagePurpose::ServerAuth));
    for identity in [Authority::new().client(), for_servers] {
        for version in [&TLS12, &TLS13] {
            let client = hub.client(&identity, version);
            let refused = hub.ask(&client, &publishing(&[])).await.expect_err("it is refused");
            assert!(refused.to_string().contains("alert"), "{refused}");
        }
    }
    hub.server.metrics_with("petasos_tls_handshakes_failed_total", 4.0).await;
}

#[tokio::test]
async fn a_resumed_session_keeps_its_certificate_until_the_authorities_change() {
    for version in [&TLS12, &TLS13] {
        let (clients, others) = (Authority::new(), Authority::new());
        let hub = Hub::start(&clients, PublisherCertificate::Enough).await;
        let client = hub.client(&clients.client(), version);
        let ask = async || hub.ask(&client, &publishing(&[])).await.expect("an answer");
        let (answer, is_resumed) = ask().await;
        assert!(answer.starts_with("HTTP/1.1 200") && !is_resumed, "{answer}");
        let (answer, is_resumed) = ask().await;
        assert!(answer.starts_with("HTTP/1.1 200") && is_resumed, "{version:?}: {answer}");
        hub.tls.set_client_authorities(Some(&others.trusted())).expect("authorities");
        assert!(hub.ask(&client, &publishing(&[])).await.is_err(), "its authority is gone");
        hub.tls.set_client_authorities(None).expect("none");
        let (answer, is_resumed) = hub.ask(&client, &publishing(&[])).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401") && !is_resumed, "nobody asks: {answer}");
    }
}

#[tokio::test]
async fn a_certificate_on_an_open_connection_counts_while_its_authority_does() {
    let (clients, others) = (Authority::new(), Authority::new());
    let hub = Hub::start(&clients, PublisherCertificate::Needed).await;
    let mut stream = hub.connect(&hub.client(&clients.client(), &TLS13)).await.expect("a handshake");
    let mut publish = async || {
        stream.write_all(publishing(&[&publisher()]).as_bytes()).await.expect("write");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(timeout(PATIENCE, stream.read_u8()).await.expect("an answer").expect("a byte"));
        }
        let answer = String::from_utf8(answer).expect("UTF-8").to_lowercase();
        let length = answer.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        timeout(PATIENCE, stream.read_exact(&mut body)).await.expect("a body").expect("all of it");
        answer[9..12].to_owned()
    };
    assert_eq!(publish().await, "200");
    hub.tls.set_client_authorities(Some(&others.trusted())).expect("authorities");
    assert_eq!(publish().await, "403");
    hub.tls.set_client_authorities(Some(&clients.trusted())).expect("authorities");
    assert_eq!(publish().await, "200", "the former ones are back");
}

#[test]
fn authorities_that_cannot_be_used_say_what_is_wrong() {
    let nothing = ClientAuthorities::parse(b"").expect_err("nothing");
    assert!(matches!(nothing, CertificateError::NoCertificate));
    let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let damaged = ClientAuthorities::parse(damaged).expect_err("damaged");
    assert!(matches!(damaged, CertificateError::BadCertificate(_)));
}
