//! HTTP/2: what every request must get as over HTTP/1.1, with and without TLS, and how connections begin and end.

use std::sync::Arc;

use bytes::Bytes;
use h2::{Reason, RecvStream, client::SendRequest};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use petasos_hub::MemoryTransport;
use petasos_protocol::{Limits, topic::Topics, update::Draft};
use petasos_server::{AlternativeServices, Listener, Origins, Settings, StreamLimits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    client::{FORM, HUB, PATIENCE, Server, Wire, publisher, settings, subscriber},
    frames::{self, GOAWAY, HEADERS, PREFACE, RST_STREAM, Raw},
    tls,
};

/// A server that speaks TLS or not, whatever the other tests do.
pub(crate) async fn serve(is_tls: bool, settings: Settings) -> Server {
    let mut listener = Listener::bind("127.0.0.1", 0).await.expect("bind");
    if is_tls {
        listener = listener.with_tls(tls::offer());
    }
    let hub = petasos_hub::Settings { keep_alive: None, ..Default::default() };
    Server::start_with_listener(listener, Arc::new(MemoryTransport::new(1_000)), settings, hub).await
}

/// What is sent to a client before it reads.
const ROOM: u32 = 64 * 1024 * 1024;

/// A connection.
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    /// Ends with the connection.
    driver: JoinHandle<Result<(), h2::Error>>,
    /// Its drop is a word, too.
    pause: Option<oneshot::Sender<()>>,
}

/// An answer that has begun.
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: RecvStream,
}

impl Client {
    pub(crate) async fn open(server: &Server, is_tls: bool) -> Self {
        let socket = TcpStream::connect(server.address).await.expect("connect");
        let wire: Wire = match is_tls {
            true => {
                let stream = tls::Client::default().with_http2().shake(socket).await.expect("a handshake");
                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                Box::new(stream)
            }
            false => Box::new(socket),
        };
        Self::on(wire).await
    }

    async fn on(wire: Wire) -> Self {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(ROOM).initial_connection_window_size(ROOM);
        let (requests, mut connection) = builder.handshake(wire).await.expect("a connection");
        let requests = requests.ready().await.expect("room");
        let (pause, paused) = oneshot::channel();
        let driver = tokio::spawn(async move {
            tokio::select! {
                end = &mut connection => return end,
                Ok(()) = paused => {}
            }
            // It is neither polled nor dropped.
            std::future::pending().await
        });
        Self { requests, driver, pause: Some(pause) }
    }

    /// Sends a request with its content.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[&str],
        content: impl Into<Bytes>,
    ) -> Answer {
        let content = content.into();
        let request = request(method, target, headers);
        let (answer, mut stream) = self.requests.send_request(request, content.is_empty()).expect("sent");
        if !content.is_empty() {
            stream.send_data(content, true).expect("sent");
        }
        answered(answer.await.expect("an answer"))
    }

    async fn get(&mut self, target: &str, headers: &[&str]) -> Answer {
        self.request("GET", target, headers, "").await
    }

    /// The status of the answer to a publish, for which nothing waits.
    pub(crate) fn begin_publish(&self, form: Bytes) -> impl Future<Output = StatusCode> + Send + use<> {
        let requests = self.requests.clone();
        async move {
            let mut requests = requests.ready().await.expect("room");
            let request = request("POST", HUB, &[&publisher(), FORM]);
            let (answer, mut stream) = requests.send_request(request, false).expect("sent");
            stream.send_data(form, true).expect("sent");
            answer.await.expect("an answer").status()
        }
    }

    /// Reads and writes nothing any more.
    pub(crate) fn stop_reading(&mut self) {
        let _ = self.pause.take().expect("once").send(());
    }

    pub(crate) async fn publish(&mut self, form: impl Into<Bytes>) -> Answer {
        self.request("POST", HUB, &[&publisher(), FORM], form).await
    }

    pub(crate) async fn subscribe(&mut self, query: &str, headers: &[&str]) -> Answer {
        let answer = self.get(&format!("{HUB}?{query}"), headers).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "text/event-stream"));
        answer
    }
}

fn request(method: &str, target: &str, headers: &[&str]) -> Request<()> {
    let method: Method = method.parse().expect("a method");
    let mut request = Request::builder().method(method).uri(format!("http://localhost{target}"));
    for header in headers {
        let (name, value) = header.split_once(": ").expect("a field");
        request = request.header(name, value);
    }
    request.body(()).expect("a request")
}

fn answered(response: Response<RecvStream>) -> Answer {
    let (head, body) = response.into_parts();
    Answer { status: head.status, headers: head.headers, body }
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// Everything up to the bytes that end with that.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        while !text.ends_with(end) {
            let part = timeout(PATIENCE, self.body.data()).await.unwrap_or_else(|_| panic!("{text}"));
            let part = part.unwrap_or_else(|| panic!("the end after {text}")).expect("no error");
            self.body.flow_control().release_capacity(part.len()).expect("room");
            text.push_str(std::str::from_utf8(&part).expect("UTF-8"));
        }
        text
    }

    /// Everything up to the end.
    pub(crate) async fn rest(&mut self) -> Result<String, h2::Error> {
        let mut text = String::new();
        while let Some(part) = timeout(PATIENCE, self.body.data()).await.expect("an end") {
            let part = part?;
            self.body.flow_control().release_capacity(part.len()).expect("room");
            text.push_str(std::str::from_utf8(&part).expect("UTF-8"));
        }
        Ok(text)
    }
}

#[tokio::test]
async fn every_kind_of_request_gets_the_answer_that_it_gets_over_http_1() {
    for is_tls in [false, true] {
        let cors = Origins::parse(["https://a.example"]).expect("origins");
        let server = serve(is_tls, Settings { cors, ..settings() }).await;
        let client = &mut Client::open(&server, is_tls).await;
        let mut answer = client.publish("topic=a&data=1&id=one").await;
        assert_eq!((answer.status.as_u16(), answer.rest().await.expect("text")), (200, "one".to_owned()));
        let (publisher, subscriber) = (publisher(), subscriber());
        let origin = "Origin: https://a.example";
        for (method, target, headers, content, status) in [
            ("GET", "/healthz", &[][..], "", 200),
            ("HEAD", "/healthz", &[], "", 200),
            ("GET", "/readyz", &[], "", 200),
            ("GET", "/nothing", &[], "", 404),
            ("PUT", HUB, &[], "", 405),
            ("GET", HUB, &[], "", 400),
            ("HEAD", "/.well-known/mercure?topic=a", &[], "", 200),
            ("POST", HUB, &[FORM], "topic=a", 401),
            ("POST", HUB, &[FORM, &*publisher], "data=a", 400),
            ("POST", HUB, &[&*publisher], "topic=a", 400),
            ("POST", HUB, &[FORM, &*publisher, "Content-Encoding: gzip"], "topic=a", 415),
            ("OPTIONS", HUB, &[origin, "Access-Control-Request-Method: POST"], "", 204),
            ("GET", "/.well-known/mercure/subscriptions", &[origin], "", 401),
            ("GET", "/.well-known/mercure/subscriptions", &[&*subscriber], "", 200),
        ] {
            let mut answer = client.request(method, target, headers, content).await;
            let text = answer.rest().await.expect("whole");
            assert_eq!(answer.status.as_u16(), status, "{method} {target}: {text}");
            assert_eq!(text.is_empty(), method == "HEAD" || status == 204, "{method} {target}: {text}");
            for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
                assert_eq!(answer.header(name), "", "{method} {target}");
            }
            assert!(answer.header("date").ends_with(" GMT"), "{method} {target}");
            if headers.contains(&origin) {
                assert_eq!(answer.header("access-control-allow-origin"), "https://a.example");
            }
            if method == "GET" {
                assert_eq!(answer.header("content-length"), text.len().to_string(), "{target}");
            }
        }
        let head = client.request("HEAD", "/healthz", &[], "").await;
        assert_eq!(head.header("content-length"), "3");
        assert_eq!(
            client.request("PUT", HUB, &[], "").await.header("allow"),
            "GET, HEAD, OPTIONS, POST, QUERY"
        );
    }
}

#[tokio::test]
async fn fields_of_a_connection_are_in_no_answer() {
    let streams = StreamLimits { total: 1, ..StreamLimits::default() };
    let server = serve(false, Settings { streams, ..settings() }).await;
    let client = &mut Client::open(&server, false).await;
    let _stream = client.subscribe("topic=a", &[]).await;
    // Over HTTP/1.1, this answer ends its connection.
    let browser = ["Accept: text/event-stream", "Cache-Control: no-cache", "User-Agent: Mozilla/5.0"];
    let mut refused = client.subscribe("topic=a", &browser).await;
    assert!(refused.rest().await.expect("whole").starts_with("retry: "));
    for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
        assert_eq!(refused.header(name), "");
    }
}

#[tokio::test]
async fn streams_are_live_together_replay_and_hide_private_updates() {
    for is_tls in [false, true] {
        let server = serve(is_tls, settings()).await;
        let client = &mut Client::open(&server, is_tls).await;
        client.publish("topic=a&data=1&id=one").await;
        client.publish("topic=a&data=2&id=two").await;
        let mut all = client.subscribe("topic=a&lastEventID=earliest", &[]).await;
        assert!(all.until("data: 2\n\n").await.contains("data: 1\n\n"));
        let mut later = client.subscribe("topic=a", &["Last-Event-ID: one"]).await;
        assert!(!later.until("data: 2\n\n").await.contains("data: 1\n\n"));
        let mut query = client.request("QUERY", HUB, &[FORM], "topic=a").await;
        query.until("\n").await;
        let mut granted = client.subscribe("topic=a", &[&subscriber()]).await;
        granted.until("\n").await;
        // Of several records and frames.
        let long = "x".repeat(200_000);
        client.publish(format!("topic=a&data={long}")).await;
        client.publish("topic=a&private=on&data=secret").await;
        client.publish("topic=a&data=end").await;
        for stream in [&mut all, &mut later, &mut query] {
            let text = stream.until("data: end\n\n").await;
            assert!(text.contains(&long) && !text.contains("secret"));
        }
        assert!(granted.until("data: end\n\n").await.contains("data: secret\n\n"));
        let metrics = server.metrics().await;
        assert_eq!(metrics[r#"petasos_http_streams{protocol="http/2"}"#], 4.0);
        assert_eq!(metrics[r#"petasos_http_connections{protocol="http/2"}"#], 1.0);
        assert_eq!(metrics[r#"petasos_http_connections{protocol="http/1.1"}"#], 0.0);
        assert_eq!(metrics[r#"petasos_http_requests_total{protocol="http/2"}"#], 9.0);
        // Its stream is reset when nobody wants it any more.
        drop(query);
        let metrics = server.metrics_with("mercure_subscribers_connected", 3.0).await;
        assert_eq!(metrics[r#"petasos_streams_closed_total{reason="client_left"}"#], 1.0);
        client.publish("topic=a&data=after").await;
        all.until("data: after\n\n").await;
    }
}

#[tokio::test]
async fn a_page_has_thirty_streams_and_a_long_list_on_one_connection() {
    let server = serve(true, settings()).await;
    let client = &mut Client::open(&server, true).await;
    let mut streams = Vec::new();
    for number in 0..30 {
        let mut stream = client.subscribe(&format!("topic=t{number}&topic={}", "y".repeat(900)), &[]).await;
        stream.until("\n").await;
        streams.push(stream);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        client.publish(format!("topic=t{number}&data={number}")).await;
        stream.until(&format!("data: {number}\n\n")).await;
    }
    let mut list = client.get(&format!("{HUB}/subscriptions"), &[&subscriber()]).await;
    let list = list.rest().await.expect("whole");
    assert!(list.len() > 30_000 && list.matches("\"active\":true").count() == 60, "{list}");
}

#[tokio::test]
async fn the_preface_may_come_in_pieces_and_is_told_from_http_1() {
    let server = serve(false, settings()).await;
    let begun =
        [PREFACE, &frames::settings(&[]), &frames::frame(HEADERS, 5, 1, &frames::get("/healthz"))].concat();
    for at in [1, 3, 4, 10, PREFACE.len(), PREFACE.len() + 5] {
        let mut raw = Raw(TcpStream::connect(server.address).await.expect("connect"));
        raw.0.set_nodelay(true).expect("an option");
        raw.send(&begun[..at]).await;
        // It has read that when its settings come, or when others have been served since.
        let other = &mut Client::open(&server, false).await;
        assert_eq!(other.get("/healthz", &[]).await.status, 200);
        raw.send(&begun[at..]).await;
        assert_eq!(raw.next_of(&[HEADERS]).await.expect("an answer").stream, 1, "{at}");
    }
    for method in ["P", "PR"] {
        let mut stream = TcpStream::connect(server.address).await.expect("connect");
        stream.write_all(method.as_bytes()).await.expect("write");
        Client::open(&server, false).await.get("/healthz", &[]).await;
        let rest = &"PROPFIND / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"[method.len()..];
        stream.write_all(rest.as_bytes()).await.expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("UTF-8");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
    // A client that begins so over TLS without saying it there is believed.
    let server = serve(true, settings()).await;
    let socket = TcpStream::connect(server.address).await.expect("connect");
    let wire: Wire = Box::new(tls::Client::default().shake(socket).await.expect("a handshake"));
    assert_eq!(Client::on(wire).await.get("/healthz", &[]).await.status, 200);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    let server = serve(false, Settings { http2: false, ..settings() }).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connect");
    stream.write_all(PREFACE).await.expect("write");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an end").expect("UTF-8");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{answer}");
    let server = serve(true, Settings { http2: false, ..settings() }).await;
    let socket = TcpStream::connect(server.address).await.expect("connect");
    let stream = tls::Client::default().with_http2().shake(socket).await.expect("a handshake");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn the_host_is_the_authority_and_there_is_one() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    let mut stream = 1;
    let base = [(":method", "GET"), (":scheme", "http"), (":path", "/healthz")];
    for (more, status) in [
        (&[(":authority", "a.example")][..], 200),
        (&[("host", "a.example")], 200),
        (&[(":authority", "a.example"), ("host", "A.example")], 200),
        (&[(":authority", "a.example"), ("host", "b.example")], 400),
        (&[("host", "a.example"), ("host", "a.example")], 400),
        (&[], 400),
    ] {
        let fields = frames::fields(&[&base, more].concat());
        raw.send(&frames::frame(HEADERS, 5, stream, &fields)).await;
        let answer = raw.next_of(&[HEADERS, RST_STREAM]).await.expect("an answer");
        assert_eq!((answer.kind, answer.stream), (HEADERS, stream), "{more:?}");
        // The static table has both statuses (RFC 7541, appendix A).
        let expected = if status == 200 { 0x88 } else { 0x8c };
        assert_eq!(answer.payload[0], expected, "{more:?}");
        stream += 2;
    }
    // Cookies that publish come from pages of the host.
    let token = publisher().replace("Authorization: Bearer ", "Cookie: mercureAuthorization=");
    let client = &mut Client::open(&server, false).await;
    for (origin, status) in [("http://localhost", 200), ("http://evil.example", 403)] {
        let origin = format!("Origin: {origin}");
        let answer = client.request("POST", HUB, &[&token, &origin, FORM], "topic=a").await;
        assert_eq!(answer.status.as_u16(), status, "{origin}");
    }
}

#[tokio::test]
async fn a_refused_body_ends_its_stream_and_no_other() {
    for is_tls in [false, true] {
        let server = serve(is_tls, settings()).await;
        let client = &mut Client::open(&server, is_tls).await;
        let mut stream = client.subscribe("topic=a", &[]).await;
        for (headers, status) in [(&[FORM, "X-None: 1"][..], 401), (&[FORM, &*publisher()], 413)] {
            let (answer, mut sending) =
                client.requests.send_request(request("POST", HUB, headers), false).expect("sent");
            let mut answer = Box::pin(answer);
            // More than the window, so that it cannot all be taken.
            let reset = async {
                loop {
                    sending.reserve_capacity(16 * 1024);
                    match std::future::poll_fn(|cx| sending.poll_capacity(cx)).await {
                        Some(Ok(room)) if sending.send_data(vec![b'x'; room].into(), false).is_ok() => {}
                        _ => return std::future::poll_fn(|cx| sending.poll_reset(cx)).await,
                    }
                }
            };
            let reason = timeout(PATIENCE, reset).await.expect("it is told to stop");
            assert_eq!(reason.expect("a reset"), Reason::NO_ERROR, "{status}");
            assert_eq!((&mut answer).await.expect("an answer").status().as_u16(), status);
        }
        client.publish("topic=a&data=1").await;
        stream.until("data: 1\n\n").await;
    }
}

#[tokio::test]
async fn a_body_that_waits_for_100_continue_is_asked_for_when_it_is_wanted() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    let (publisher, nobody) = (publisher(), "X: none".to_owned());
    for (stream, header, statuses) in [(1, &publisher, &[100, 200][..]), (3, &nobody, &[401])] {
        let (name, value) = header.split_once(": ").expect("a field");
        let more = [
            (&*name.to_lowercase(), value),
            ("content-type", "application/x-www-form-urlencoded"),
            ("expect", "100-continue"),
            ("content-length", "7"),
        ];
        raw.send(&frames::frame(HEADERS, 4, stream, &frames::request("POST", HUB, &more))).await;
        let mut found = Vec::new();
        for _ in statuses {
            let answer = raw.next_of(&[HEADERS, RST_STREAM]).await.expect("an answer");
            assert_eq!((answer.kind, answer.stream), (HEADERS, stream));
            found.push(match answer.payload[0] {
                0x88 => 200,
                // Names of the static table with a value of their own, perhaps in the dynamic table.
                0x08 | 0x48 if answer.payload.ends_with(b"100") || answer.payload.len() < 8 => 100,
                _ => 401,
            });
            if found == [100] {
                raw.send(&frames::frame(frames::DATA, 1, stream, b"topic=a")).await;
            }
        }
        assert_eq!(found, statuses, "{header}");
    }
}

#[tokio::test]
async fn alternative_services_are_named_in_every_answer() {
    let alt_svc = AlternativeServices::parse(r#"h3=":443"; ma=3600"#).ok();
    let server = serve(false, Settings { alt_svc, ..settings() }).await;
    let client = &mut Client::open(&server, false).await;
    for (target, status) in [("/healthz", 200), ("/nothing", 404), ("/.well-known/mercure?topic=a", 200)] {
        let answer = client.get(target, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.header("alt-svc")), (status, r#"h3=":443"; ma=3600"#));
    }
}

#[tokio::test]
async fn the_end_of_a_token_ends_its_stream_and_no_other() {
    let server = serve(false, settings()).await;
    let client = &mut Client::open(&server, false).await;
    let mut other = client.subscribe("topic=a", &[]).await;
    other.until("\n").await;
    let expiry = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a time").as_secs_f64() + 1.0;
    let claims = format!(r#"{{"exp":{expiry},"mercure":{{"subscribe":["*"]}}}}"#);
    let token = petasos_auth::Signer::parse("subscriber", None).expect("a key").sign("JWT", &claims);
    let mut stream = client.subscribe("topic=a", &[&format!("Authorization: Bearer {token}")]).await;
    stream.rest().await.expect("a proper end");
    client.publish("topic=a&data=1").await;
    other.until("data: 1\n\n").await;
}

#[tokio::test]
async fn streams_end_properly_when_the_hub_stops_and_the_connection_with_them() {
    for is_tls in [false, true] {
        let server = serve(is_tls, settings()).await;
        let mut client = Client::open(&server, is_tls).await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = client.subscribe("topic=a", &[]).await;
            stream.until("\n").await;
            streams.push(stream);
        }
        let mut idle = Client::open(&server, is_tls).await;
        assert_eq!(idle.get("/healthz", &[]).await.status, 200);
        server.connections.stop().await;
        for stream in &mut streams {
            stream.rest().await.expect("a proper end");
        }
        for driver in [client.driver, idle.driver] {
            let end = timeout(PATIENCE, driver).await.expect("an end").expect("no panic");
            assert!(end.is_ok(), "{end:?}");
        }
        timeout(PATIENCE, server.connections.drained()).await.expect("nothing is left");
    }
}

#[tokio::test]
async fn a_connection_that_is_to_go_elsewhere_is_told_so_and_its_streams_go_on() {
    let server = serve(false, settings()).await;
    let mut raw = Raw::open(&server, &[]).await;
    raw.send(&frames::frame(HEADERS, 5, 1, &frames::get(&format!("{HUB}?topic=a")))).await;
    raw.next_of(&[HEADERS]).await.expect("a stream");
    server.connections.close();
    let first = raw.next_of(&[GOAWAY]).await.expect("it is told to go");
    assert_eq!((first.code(), &first.payload[..4]), (frames::NO_ERROR, &[0x7f, 0xff, 0xff, 0xff][..]));
    // A request that is on its way.
    raw.send(&frames::frame(HEADERS, 5, 3, &frames::get("/healthz"))).await;
    let ping = raw.next_of(&[frames::PING]).await.expect("how long that may be");
    raw.send(&frames::frame(frames::PING, 1, 0, &ping.payload)).await;
    let mut last = None;
    let mut is_answered = false;
    while last.is_none() || !is_answered {
        let frame = raw.next_of(&[GOAWAY, HEADERS]).await.expect("both");
        is_answered |= frame.kind == HEADERS && frame.stream == 3;
        last = last.or((frame.kind == GOAWAY).then(|| frame.payload[3]));
    }
    assert_eq!(last, Some(3), "requests up to this one are answered");
    let hub = server.connections.service().hub();
    let topics = Topics::parse(["a"], hub.url(), &Limits::default());
    let draft = Draft {
        topics: topics.expect("topics"),
        data: "1".to_owned(),
        private: false,
        id: None,
        event_type: None,
        retry: None,
    };
    hub.publish(draft).await.expect("published");
    // The content of the answer may come behind the last word.
    while raw.next_of(&[frames::DATA]).await.expect("an event").stream != 1 {}
    raw.send(&frames::frame(RST_STREAM, 0, 1, &frames::CANCEL.to_be_bytes())).await;
    assert_eq!(raw.end().await, None, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn connections_without_requests_are_closed_after_their_time() {
    let hub = petasos_hub::Settings { keep_alive: None, ..Default::default() };
    let hub = petasos_hub::Hub::start(Arc::new(MemoryTransport::new(100)), hub).await.expect("start");
    let connections = petasos_server::Connections::new(petasos_server::Service::new(hub, settings()));
    for (has_asked, seconds) in [(false, 10), (true, 75)] {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (serving, permit) = (connections.clone(), connections.admit().expect("room"));
        let served = tokio::spawn(async move { serving.serve(server, None, permit).await });
        let (mut requests, connection) = h2::client::handshake(client).await.expect("a connection");
        let driver = tokio::spawn(connection);
        if has_asked {
            let (answer, _) = requests.send_request(request("GET", "/healthz", &[]), true).expect("sent");
            assert_eq!(answer.await.expect("an answer").status(), 200);
        }
        let begun = tokio::time::Instant::now();
        driver.await.expect("no panic").expect("a proper end");
        assert_eq!(begun.elapsed().as_secs(), seconds);
        served.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_connection_without_requests_makes_room_and_is_told_so() {
    let server = serve(false, Settings { connections_max: 1, ..settings() }).await;
    let mut first = Client::open(&server, false).await;
    assert_eq!(first.get("/healthz", &[]).await.status, 200);
    let mut second = loop {
        // Until the first one waits, there is no room.
        let socket = TcpStream::connect(server.address).await.expect("connect");
        let Ok((mut requests, connection)) = h2::client::handshake(socket).await else { continue };
        let driver = tokio::spawn(connection);
        let sent = requests.send_request(request("GET", &format!("{HUB}?topic=a"), &[]), true);
        let Ok((answer, _)) = sent else { continue };
        if let Ok(answer) = answer.await {
            break (requests, driver, answered(answer));
        }
    };
    let end = timeout(PATIENCE, first.driver).await.expect("an end").expect("no panic");
    assert!(end.is_ok(), "{end:?}");
    // The second one has a stream, and makes no room.
    second.2.until("\n").await;
    let mut refused = TcpStream::connect(server.address).await.expect("connect");
    assert_eq!(timeout(PATIENCE, refused.read(&mut [0])).await.expect("an end").unwrap_or_default(), 0);
}

#[tokio::test]
async fn a_publisher_sends_thousands_of_requests_on_one_connection() {
    let server = serve(true, settings()).await;
    let mut client = Client::open(&server, true).await;
    let mut stream = client.subscribe("topic=a", &[]).await;
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..2_000 {
        waiting.spawn(client.begin_publish(format!("topic=a&data={number}").into()));
        if waiting.len() >= 100 {
            assert_eq!(waiting.join_next().await.expect("one").expect("no panic"), 200);
        }
    }
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    let mut found = String::new();
    while found.matches("data: ").count() < 2_000 {
        found.push_str(&stream.until("\n\n").await);
    }
}
