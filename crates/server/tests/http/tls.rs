//! TLS: what every other test does not ask for. [`all_others_pass_over_tls`](super::all_others_pass_over_tls) runs those.

use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use petasos_hub::MemoryTransport;
use petasos_server::{Certificate, CertificateError, ChallengeAnswer, Challenges, Listener, Settings, Tls};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, SupportedCipherSuite,
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
        Self::with(aws_lc_rs::DEFAULT_CIPHER_SUITES, &[&OWN], "localhost")
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

    /// The same client, which offers HTTP/2.
    pub(crate) fn with_http2(mut self) -> Self {
        self.config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self
    }

    pub(crate) async fn shake(self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host).expect("a name");
        TlsConnector::from(Arc::new(self.config)).connect(name, socket).await
    }
}

async fn serve(tls: &Tls, settings: Settings) -> Server {
    let listener = Listener::bind("127.0.0.1", 0).await.expect("bind").with_tls(tls.clone());
    let hub = petasos_hub::Settings { keep_alive: None, ..Default::default() };
    Server::start_with_listener(listener, Arc::new(MemoryTransport::new(100)), settings, hub).await
}

impl Server {
    async fn shake(&self, client: Client) -> io::Result<TlsStream<TcpStream>> {
        client.shake(TcpStream::connect(self.address).await.expect("connect")).await
    }

    /// The certificate that a client gets.
    async fn certificate_for(&self, host: &'static str, trusted: &[&Own]) -> CertificateDer<'static> {
        let client = Client::with(aws_lc_rs::DEFAULT_CIPHER_SUITES, trusted, host);
        let stream = self.shake(client).await.expect("a certificate for the name");
        stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone()
    }
}

#[tokio::test]
async fn every_version_and_cipher_carries_requests_and_streams() {
    let server = serve(&offer(), settings()).await;
    for suite in aws_lc_rs::ALL_CIPHER_SUITES {
        if format!("{:?}", suite.suite()).contains("_RSA_") {
            // Needs a certificate with such a key.
            continue;
        }
        let connect = || async {
            let client = Client::with(&[*suite], &[&OWN], "localhost");
            server.shake(client).await.expect("a handshake")
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
            publish(&mut publishing, &format!("topic=a&data={number}{data}")).await;
        }
        let received = read_until(&mut stream, &format!("data: 2{data}\n\n")).await;
        assert!(
            received.contains(&format!("data: 0{data}\n\n"))
                && received.contains(&format!("data: 1{data}\n\n"))
        );
    }
}

async fn publish(stream: &mut TlsStream<TcpStream>, form: &str) {
    let head = format!(
        "POST {HUB} HTTP/1.1\r\nHost: localhost\r\n{FORM}\r\n{}\r\nContent-Length: {}\r\n\r\n{form}",
        publisher(),
        form.len()
    );
    stream.write_all(head.as_bytes()).await.expect("write");
    read_until(stream, "urn:uuid:").await;
}

/// Everything up to the bytes that end with that.
async fn read_until(stream: &mut TlsStream<TcpStream>, end: &str) -> String {
    let mut all = Vec::new();
    let mut part = vec![0; 16 * 1024];
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

#[tokio::test]
async fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let (first, second) = (Own::new(&["a.example", "127.0.0.1"]), Own::new(&["b.example", "*.c.example"]));
    let tls = Tls::new(vec![first.certificate(), second.certificate()]).expect("an offer");
    let server = serve(&tls, settings()).await;
    let both = [&first, &second];
    for (host, expected) in
        [("a.example", &first), ("127.0.0.1", &first), ("b.example", &second), ("x.c.example", &second)]
    {
        assert_eq!(server.certificate_for(host, &both).await, expected.der, "{host}");
    }
    assert!(second.certificate().is_for("x.c.example") && !second.certificate().is_for("c.example"));
    // Whoever asks for another name gets the first one, and refuses it.
    let client = Client::with(aws_lc_rs::DEFAULT_CIPHER_SUITES, &both, "d.example");
    assert_eq!(
        server.shake(client).await.map_err(|error| error.kind()).err(),
        Some(io::ErrorKind::InvalidData)
    );
}

#[tokio::test]
async fn another_certificate_cuts_no_stream() {
    let (former, next) = (Own::new(&["localhost"]), Own::new(&["localhost"]));
    let tls = Tls::new(vec![former.certificate()]).expect("an offer");
    let server = serve(&tls, settings()).await;
    let both = [&former, &next];
    let client = Client::with(aws_lc_rs::DEFAULT_CIPHER_SUITES, &both, "localhost");
    let mut stream = server.shake(client).await.expect("a handshake");
    let head = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("write");
    read_until(&mut stream, "retry: ").await;
    assert!(tls.set_certificates(Vec::new()).is_err(), "TLS needs one");
    assert_eq!(server.certificate_for("localhost", &both).await, former.der);
    tls.set_certificates(vec![next.certificate()]).expect("one");
    assert_eq!(server.certificate_for("localhost", &both).await, next.der);
    let client = Client::with(aws_lc_rs::DEFAULT_CIPHER_SUITES, &both, "localhost");
    publish(&mut server.shake(client).await.expect("a handshake"), "topic=a&data=later").await;
    read_until(&mut stream, "data: later\n\n").await;
}

/// One challenge, for `a.example`.
struct OneChallenge(Certificate);

impl Challenges for OneChallenge {
    fn certificate<'a>(&'a self, name: &'a str) -> ChallengeAnswer<'a> {
        Box::pin(async move { (name == "a.example").then(|| self.0.clone()) })
    }
}

#[tokio::test]
async fn a_challenge_gets_its_certificate_and_nobody_else_does() {
    const PROTOCOL: &[u8] = b"acme-tls/1";
    let (own, challenge) = (Own::new(&["a.example"]), Own::new(&["a.example", "challenge.example"]));
    let tls = Tls::waiting(Vec::new()).expect("an offer");
    let tls = tls.with_challenges(Arc::new(OneChallenge(challenge.certificate())));
    let server = serve(&tls, settings()).await;
    let both = [&own, &challenge];
    let client = |host, protocols: &[&[u8]]| {
        let mut client = Client::with(aws_lc_rs::DEFAULT_CIPHER_SUITES, &both, host);
        client.config.alpn_protocols = protocols.iter().map(|each| each.to_vec()).collect();
        client
    };
    let refused = |result: io::Result<TlsStream<TcpStream>>| result.expect_err("an alert").to_string();
    assert!(
        refused(server.shake(client("a.example", &[])).await).contains("AccessDenied"),
        "it has none yet"
    );
    tls.set_certificates(vec![own.certificate()]).expect("one");
    for _ in 0..2 {
        let mut stream = server.shake(client("a.example", &[PROTOCOL])).await.expect("a handshake");
        let (_, connection) = stream.get_ref();
        assert_eq!(connection.alpn_protocol(), Some(PROTOCOL));
        assert_eq!(connection.peer_certificates().expect("one")[0], challenge.der);
        let read = timeout(PATIENCE, stream.read(&mut [0])).await.expect("an end");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    for (host, protocols) in [("challenge.example", &[PROTOCOL][..]), ("a.example", &[PROTOCOL, b"other"])] {
        let text = refused(server.shake(client(host, protocols)).await);
        assert!(text.contains("NoApplicationProtocol"), "{host}: {text}");
    }
    assert_eq!(server.certificate_for("a.example", &both).await, own.der);
    // A challenge is no client.
    let done = r#"petasos_tls_handshakes_total{version="1.3",kind="full"}"#;
    let metrics = server.metrics_with(done, 1.0).await;
    assert_eq!(metrics["petasos_tls_handshakes_failed_total"], 3.0);
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let server = serve(&offer(), settings()).await;
    for suite in [
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ] {
        let client = Client::with(&[suite], &[&OWN], "localhost");
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let again = Client { config: client.config.clone(), host: client.host };
            let mut stream = server.shake(again).await.expect("a handshake");
            // Tickets come behind the handshake.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
            read_until(&mut stream, "ok\n").await;
            kinds.push(stream.get_ref().1.handshake_kind());
        }
        assert_eq!(kinds, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{suite:?}");
    }
    let metrics = server.metrics().await;
    for labels in [r#"version="1.2",kind="full""#, r#"version="1.3",kind="resumed""#] {
        assert_eq!(metrics[&format!("petasos_tls_handshakes_total{{{labels}}}")], 1.0, "{labels}");
    }
    assert_eq!(metrics["petasos_tls_handshakes_failed_total"], 0.0);
}

#[tokio::test]
async fn a_request_without_tls_is_told_so() {
    let server = serve(&offer(), settings()).await;
    let mut client = TcpStream::connect(server.address).await.expect("connect");
    client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("an end").expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("https"), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    server.metrics_with("petasos_tls_handshakes_failed_total", 1.0).await;
}

#[tokio::test]
async fn half_open_handshakes_are_bounded_in_number_and_in_time() {
    let server = serve(&offer(), Settings { stalled_max: 3, ..settings() }).await;
    let mut waiting = Vec::new();
    for number in 0..5 {
        let mut client = TcpStream::connect(server.address).await.expect("connect");
        // The beginning of a record that never comes whole.
        client.write_all(&[22, 3, 1, 2, 0, 1]).await.expect("write");
        waiting.push(client);
        // They begin in this order.
        while server.connections.open() < (number + 1).min(3) {
            tokio::task::yield_now().await;
        }
    }
    let mut byte = [0];
    for client in &mut waiting[..2] {
        let end = timeout(PATIENCE, client.read(&mut byte)).await.expect("it makes room");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    assert!(server.shake(Client::default()).await.is_ok(), "others still get in");
    let hasty = serve(&offer(), Settings { head_timeout: Duration::from_millis(20), ..settings() }).await;
    for begun in [&[][..], &[22, 3, 1]] {
        let mut client = TcpStream::connect(hasty.address).await.expect("connect");
        client.write_all(begun).await.expect("write");
        let end = timeout(PATIENCE, client.read(&mut byte)).await.expect("its time is over");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn whatever_is_no_handshake_ends_the_connection() {
    let server = serve(&offer(), settings()).await;
    let mut failures = 0.0;
    for bytes in [
        &[0; 64][..],
        // A message behind a wrong one, not whole.
        &[22, 3, 1, 0, 6, 0, 0, 0, 0, 1, 0],
        &[22, 3, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0],
        &[22, 3, 1, 0xff, 0xff, 1],
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
        &[23, 3, 3, 0, 1, 1],
        &[0x80; 300],
    ] {
        let mut client = TcpStream::connect(server.address).await.expect("connect");
        client.write_all(bytes).await.expect("write");
        let mut answer = Vec::new();
        // With an alert, or by a reset.
        let _ = timeout(PATIENCE, client.read_to_end(&mut answer)).await.expect("an end");
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
        failures += 1.0;
        server.metrics_with("petasos_tls_handshakes_failed_total", failures).await;
    }
}

/// What a client gets that says everything it has to say with its last word of the handshake. It leaves its socket open.
async fn answer_in_one_flight(server: &Server, last: impl Fn(&mut ClientConnection), end: &[u8]) {
    let Client { config, host } = Client::default();
    let name = ServerName::try_from(host).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut socket = TcpStream::connect(server.address).await.expect("connect");
    let mut is_asked = false;
    let mut received = Vec::new();
    let mut part = vec![0; 16 * 1024];
    while end.is_empty() || !received.ends_with(end) {
        if !client.is_handshaking() && !std::mem::replace(&mut is_asked, true) {
            last(&mut client);
        }
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).expect("in memory");
        }
        socket.write_all(&sent).await.expect("write");
        let read = timeout(PATIENCE, socket.read(&mut part)).await.expect("an answer").expect("no error");
        if read == 0 && end.is_empty() {
            assert!(received.starts_with(b"HTTP/1.1 200 "), "{}", received.escape_ascii());
            return;
        }
        assert_ne!(read, 0, "{}", received.escape_ascii());
        let mut part = &part[..read];
        while !part.is_empty() {
            client.read_tls(&mut part).expect("in memory");
            client.process_new_packets().expect("records that it can read");
        }
        let _ = client.reader().read_to_end(&mut received);
    }
}

#[tokio::test]
async fn a_client_may_ask_for_new_keys_with_its_last_word_of_the_handshake() {
    let server = serve(&offer(), settings()).await;
    let asks = |client: &mut ClientConnection| {
        client.refresh_traffic_keys().expect("TLS 1.3");
        client.writer().write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("in memory");
    };
    answer_in_one_flight(&server, asks, b"ok\n").await;
}

#[tokio::test]
async fn a_subscriber_that_ends_its_side_with_its_request_has_left() {
    let server = serve(&offer(), settings()).await;
    let asks = |client: &mut ClientConnection| {
        let request = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: x\r\n\r\n");
        client.writer().write_all(request.as_bytes()).expect("in memory");
        client.send_close_notify();
    };
    answer_in_one_flight(&server, asks, b"").await;
}

#[tokio::test]
async fn whoever_breaks_a_rule_gets_one_alert_and_nothing_behind_it() {
    let server = serve(&offer(), settings()).await;
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    for (request, answer) in
        [(String::new(), ""), (request("/healthz"), "ok\n"), (request(&format!("{HUB}?topic=a")), "retry: ")]
    {
        let mut stream = server.shake(Client::default()).await.expect("a handshake");
        stream.write_all(request.as_bytes()).await.expect("write");
        if !answer.is_empty() {
            read_until(&mut stream, answer).await;
        }
        // A record that nobody has sealed.
        let (socket, _) = stream.get_mut();
        socket.write_all(&[&[23, 3, 3, 0, 20][..], &[0; 20]].concat()).await.expect("write");
        let end = timeout(PATIENCE, stream.read(&mut [0])).await.expect("an end");
        let error = end.expect_err("an alert").to_string();
        assert!(error.contains("BadRecordMac"), "{request:?}: {error}");
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, stream.get_mut().0.read_to_end(&mut rest)).await.expect("an end");
        assert!(rest.is_empty(), "{request:?}: {} bytes", rest.len());
    }
}

#[test]
fn a_certificate_that_cannot_be_used_says_what_is_wrong() {
    let (own, other) = (Own::new(&["localhost"]), Own::new(&["localhost"]));
    let parse = |chain: &str, key: &str| Certificate::parse(chain.as_bytes(), key.as_bytes()).map(drop);
    assert!(parse(&own.chain, &own.key).is_ok());
    assert!(parse(&format!("{}{}", own.chain, other.chain), &own.key).is_ok(), "a chain");
    assert!(
        parse(&format!("{}{}", own.key, own.chain), &format!("{}{}", own.chain, own.key)).is_ok(),
        "one file"
    );
    assert!(matches!(parse("", &own.key), Err(CertificateError::NoCertificate)));
    assert!(matches!(parse(&own.key, &own.key), Err(CertificateError::NoCertificate)));
    assert!(matches!(parse(&own.chain[..200], &own.key), Err(CertificateError::BadCertificate(_))));
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(parse(empty, &own.key), Err(CertificateError::BadCertificate(_))));
    assert!(matches!(parse(&own.chain, &own.chain), Err(CertificateError::NoKey)));
    let damaged = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(parse(&own.chain, damaged), Err(CertificateError::BadKey)));
    assert!(matches!(parse(&own.chain, &other.key), Err(CertificateError::Mismatch)));
    let secret: String = own.key.lines().nth(1).expect("a line").chars().take(20).collect();
    let shown = format!("{:?} {:?}", own.certificate(), parse(&other.chain, &own.key));
    assert!(!shown.contains(&secret));
}
