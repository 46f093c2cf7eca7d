//! A server on a free port, and a client that knows nothing of the hub.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use petasos_auth::{Issuer, Issuers, Key, Signer};
use petasos_hub::{Hub, MemoryTransport, transport::Transport};
use petasos_server::{Connections, Listener, Service, Settings, metrics::Format};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, Empty,
        Join, Sink, empty, join, sink,
    },
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};

use tokio_rustls::client::TlsStream;

use crate::{exchange::exchange, tls};

pub(crate) const HUB: &str = "/.well-known/mercure";
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

/// A connection to a server.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {
    fn socket(&self) -> &TcpStream;
}

impl Duplex for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Duplex for Join<Empty, Sink> {
    fn socket(&self) -> &TcpStream {
        panic!("it is closed")
    }
}

impl Duplex for DuplexStream {
    fn socket(&self) -> &TcpStream {
        panic!("it is behind another connection")
    }
}

impl Duplex for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

pub(crate) type Wire = Box<dyn Duplex>;

pub(crate) async fn connect(address: SocketAddr) -> Wire {
    shake(TcpStream::connect(address).await.expect("connect")).await
}

pub(crate) async fn shake(socket: TcpStream) -> Wire {
    match crate::is_tls() {
        true => match tls::Client::default().shake(socket).await {
            Ok(stream) => Box::new(stream),
            // As a connection without TLS that is closed at once.
            Err(_) => Box::new(join(empty(), sink())),
        },
        false => Box::new(socket),
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Connections,
    pub(crate) task: JoinHandle<()>,
}

/// The values of metrics, by their names and labels as they are shown.
pub(crate) type Metrics = BTreeMap<String, f64>;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The header field with a 0.x token that may publish on every topic.
pub(crate) fn publisher() -> String {
    bearer("publisher", r#"{"publish":["*"]}"#)
}

/// The header field with a 0.x token that may read every topic.
pub(crate) fn subscriber() -> String {
    bearer("subscriber", r#"{"subscribe":["*"]}"#)
}

fn bearer(role: &str, claim: &str) -> String {
    let token = Signer::parse(role, None).expect("a key").sign("JWT", &format!(r#"{{"mercure":{claim}}}"#));
    format!("Authorization: Bearer {token}")
}

pub(crate) fn settings() -> Settings {
    Settings {
        issuers: Issuers {
            trusted: vec![Issuer {
                id: "https://example.com".to_owned(),
                publisher: vec![Key::parse("publisher", &[]).expect("a key")].into(),
                subscriber: vec![Key::parse("subscriber", &[]).expect("a key")].into(),
                authorization_server: false,
            }],
            resource: "https://example.com/.well-known/mercure".to_owned(),
            compat: true,
            prefixes: false,
        },
        anonymous: true,
        direct: crate::is_direct(),
        ..Settings::default()
    }
}

impl Server {
    pub(crate) async fn start(settings: Settings) -> Self {
        Self::start_with(settings, petasos_hub::Settings { keep_alive: None, ..Default::default() }).await
    }

    pub(crate) async fn start_with(settings: Settings, hub: petasos_hub::Settings) -> Self {
        Self::start_on(Arc::new(MemoryTransport::new(100)), settings, hub).await
    }

    pub(crate) async fn start_on(
        log: Arc<dyn Transport>,
        settings: Settings,
        hub: petasos_hub::Settings,
    ) -> Self {
        let mut listener = Listener::bind("127.0.0.1", 0).await.expect("bind");
        if crate::is_tls() {
            listener = listener.with_tls(tls::offer());
        }
        Self::start_with_listener(listener, log, settings, hub).await
    }

    pub(crate) async fn start_with_listener(
        listener: Listener,
        log: Arc<dyn Transport>,
        settings: Settings,
        hub: petasos_hub::Settings,
    ) -> Self {
        let hub = Hub::start(log, hub).await.expect("start");
        let connections = Connections::new(Service::new(hub, settings));
        let address = listener.address();
        let task = tokio::spawn(listener.serve(connections.clone(), PATIENCE));
        Self { address, connections, task }
    }

    /// All metrics: each with its labels, and its value.
    pub(crate) async fn metrics(&self) -> Metrics {
        let text = Format::Prometheus.render(&self.connections.metrics().await);
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        samples.collect()
    }

    /// The same once a metric has that value.
    pub(crate) async fn metrics_with(&self, name: &str, value: f64) -> Metrics {
        let changed = async {
            loop {
                let metrics = self.metrics().await;
                if metrics[name] == value {
                    return metrics;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, changed).await.unwrap_or_else(|_| panic!("{name} does not become {value}"))
    }

    /// Sends a request, whole.
    async fn ask(&self, head: &str, body: &[u8]) -> BufReader<Wire> {
        match crate::is_http2() {
            true => BufReader::new(exchange(connect(self.address).await, head, body).await),
            false => self.open(head, body).await,
        }
    }

    /// Sends bytes of HTTP/1.1 on a connection of their own.
    pub(crate) async fn open(&self, head: &str, body: &[u8]) -> BufReader<Wire> {
        let mut stream = connect(self.address).await;
        stream.write_all(head.as_bytes()).await.expect("write");
        stream.write_all(body).await.expect("write");
        BufReader::new(stream)
    }

    pub(crate) async fn request(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        let is_chunked = headers.iter().any(|header| header.starts_with("Transfer-Encoding"));
        if (method == "POST" || method == "QUERY") && !is_chunked {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let mut stream = self.ask(&format!("{head}\r\n"), body).await;
        let mut text = String::new();
        let read = timeout(PATIENCE, stream.read_to_string(&mut text)).await;
        read.expect("an answer").expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub(crate) async fn publish_with(&self, header: &str, body: &[u8]) -> Answer {
        let form = "Content-Type: application/x-www-form-urlencoded";
        self.request("POST", HUB, &[header, form], body).await
    }

    pub(crate) async fn subscribe(&self, query: &str, headers: &[&str]) -> Stream {
        self.stream("GET", &format!("{HUB}?{query}"), headers, b"").await
    }

    pub(crate) async fn stream(&self, method: &str, target: &str, headers: &[&str], body: &[u8]) -> Stream {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        let mut reader = self.ask(&format!("{head}\r\n"), body).await;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = timeout(PATIENCE, reader.read_line(&mut head)).await;
            assert_ne!(read.expect("a head").expect("UTF-8"), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut stream = Stream { head, first: String::new(), reader };
        stream.first = stream.chunk().await.expect("the first bytes flow at once");
        stream
    }
}

/// An open event stream.
pub(crate) struct Stream {
    pub(crate) head: String,
    /// The chunk that comes before all events.
    pub(crate) first: String,
    pub(crate) reader: BufReader<Wire>,
}

impl Stream {
    /// The next chunk of the chunked coding; `None` at its proper end.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        let mut size = String::new();
        timeout(PATIENCE, self.reader.read_line(&mut size)).await.expect("a chunk").expect("UTF-8");
        let size = usize::from_str_radix(size.trim(), 16).expect("a chunk size");
        let mut chunk = vec![0; size + 2];
        timeout(PATIENCE, self.reader.read_exact(&mut chunk)).await.expect("a chunk").expect("whole");
        chunk.truncate(size);
        (size > 0).then(|| String::from_utf8(chunk).expect("UTF-8"))
    }

    pub(crate) async fn event(&mut self) -> String {
        self.chunk().await.expect("an event")
    }
}
