//! Subscribers that join while updates go out see each matching update once and in order, over HTTP/1.1 and over HTTP/2, where
//! they share a connection or have one each. [`joining.rs`](../../../hub/tests/joining.rs) of the hub has more moments and updates.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use petasos_hub::MemoryTransport;
use tokio::{net::TcpStream, sync::watch, time::timeout};

use crate::{
    client::{FORM, HUB, PATIENCE, Server, Stream, Wire, publisher, settings, subscriber},
    tls,
};

const UPDATES: usize = 1_500;
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 60;

/// What a stream may be sent before it is read: less than what goes by while it is not read.
const STREAM_ROOM: u32 = 8 * 1024;
/// A stream that is not read holds up no other one.
const CONNECTION_ROOM: u32 = 16 * 1024 * 1024;

/// A small generator with a seed that a failure prints.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// How subscribers are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Http1,
    /// One connection, and all streams on it.
    Shared,
    /// A connection for each stream.
    Each,
}

/// A connection of HTTP/2. It ends when nobody has anything of it.
#[derive(Clone)]
struct Connection(SendRequest<Bytes>);

impl Connection {
    async fn open(server: &Server) -> Self {
        let socket = TcpStream::connect(server.address).await.expect("connect");
        let wire: Wire = match crate::is_tls() {
            true => Box::new(tls::Client::default().with_http2().shake(socket).await.expect("a handshake")),
            false => Box::new(socket),
        };
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(STREAM_ROOM).initial_connection_window_size(CONNECTION_ROOM);
        let (requests, connection) = builder.handshake(wire).await.expect("a connection");
        tokio::spawn(connection);
        Self(requests)
    }

    async fn ask(&self, method: &str, target: &str, headers: &[&str], content: String) -> RecvStream {
        let mut request = http::Request::builder().method(method).uri(format!("http://localhost{target}"));
        for header in headers {
            let (name, value) = header.split_once(": ").expect("a field");
            request = request.header(name, value);
        }
        let mut requests = self.0.clone().ready().await.expect("room");
        let request = request.body(()).expect("a request");
        let (answer, mut sending) = requests.send_request(request, content.is_empty()).expect("sent");
        if !content.is_empty() {
            sending.send_data(content.into(), true).expect("sent");
        }
        let answer = timeout(PATIENCE, answer).await.expect("an answer").expect("an answer");
        assert_eq!(answer.status(), 200);
        answer.into_body()
    }

    async fn publish(&self, form: String) {
        let mut id = self.ask("POST", HUB, &[&publisher(), FORM], form).await;
        while let Some(piece) = timeout(PATIENCE, id.data()).await.expect("an end") {
            piece.expect("no error");
        }
    }
}

/// A stream, and what of it was not looked at yet.
struct Reader {
    from: Source,
    text: String,
    ids: VecDeque<String>,
}

enum Source {
    Http1(Stream),
    Http2(RecvStream),
}

impl Reader {
    async fn next_id(&mut self) -> String {
        loop {
            if let Some(id) = self.ids.pop_front() {
                return id;
            }
            let piece = match &mut self.from {
                Source::Http1(stream) => stream.event().await,
                Source::Http2(body) => {
                    let piece = timeout(PATIENCE, body.data()).await.expect("something comes");
                    let piece = piece.expect("the stream does not end").expect("no error");
                    body.flow_control().release_capacity(piece.len()).expect("room");
                    String::from_utf8(piece.to_vec()).expect("UTF-8")
                }
            };
            self.text.push_str(&piece);
            while let Some(end) = self.text.find('\n') {
                let line: String = self.text.drain(..=end).collect();
                self.ids.extend(line.trim_end().strip_prefix("id: ").map(str::to_owned));
            }
        }
    }
}

/// How far publishers are.
struct Published {
    accepted: watch::Sender<usize>,
    joined: watch::Sender<usize>,
    /// How many of its updates each publisher has begun to publish.
    begun: [AtomicUsize; PUBLISHERS],
    ids: Mutex<Vec<String>>,
}

/// What an update is, by its publisher and number: its topic, and whether it is private.
fn update(publisher: usize, number: usize) -> (String, bool) {
    let mut random = Random((publisher * UPDATES + number) as u64);
    random.below(2);
    (format!("t{}", random.below(4)), random.below(4) == 0)
}

fn parse(id: &str) -> (usize, usize) {
    let (publisher, number) = id.split_once('-').expect("an id of this test");
    (publisher.parse().expect("a number"), number.parse().expect("a number"))
}

async fn publish(connection: Connection, publisher: usize, published: Arc<Published>) {
    for number in 0..UPDATES / PUBLISHERS {
        let id = format!("{publisher}-{number}");
        let (topic, is_private) = update(publisher, number);
        let private = if is_private { "&private=on" } else { "" };
        published.begun[publisher].store(number + 1, Ordering::SeqCst);
        connection.publish(format!("topic={topic}&id={id}&data={}{private}", "x".repeat(100))).await;
        published.ids.lock().expect("no panic").push(id);
        published.accepted.send_modify(|accepted| *accepted += 1);
    }
}

/// What a subscriber asked for, and what it got.
struct Seen {
    seed: u64,
    topics: [String; 2],
    is_granted: bool,
    cursor: Option<String>,
    /// How many updates each publisher had begun when the answer was here: all later ones must come.
    begun: [usize; PUBLISHERS],
    ids: Vec<String>,
}

impl Seen {
    fn wants(&self, id: &str) -> bool {
        let (publisher, number) = parse(id);
        let (topic, is_private) = update(publisher, number);
        self.topics.contains(&topic) && (self.is_granted || !is_private)
    }
}

async fn subscribe(
    server: Arc<Server>,
    shared: Option<Connection>,
    carrier: Carrier,
    seed: u64,
    published: Arc<Published>,
) -> Seen {
    let mut random = Random(seed);
    let mut progress = published.accepted.subscribe();
    let begin = random.below(UPDATES);
    progress.wait_for(|accepted| *accepted >= begin).await.expect("publishing");
    let topics = [0, 1].map(|_| format!("t{}", random.below(4)));
    let is_granted = random.below(2) == 0;
    let cursor = match random.below(4) {
        0 => None,
        1 => Some("earliest".to_owned()),
        _ => {
            let ids = published.ids.lock().expect("no panic");
            Some(ids.get(random.below(ids.len().max(1))).map_or("earliest", |id| id).to_owned())
        }
    };
    let query = format!("topic={}&topic={}&topic=end", topics[0], topics[1]);
    let query = query + &cursor.as_ref().map_or(String::new(), |cursor| format!("&lastEventID={cursor}"));
    let token = subscriber();
    let headers = if is_granted { vec![token.as_str()] } else { Vec::new() };
    let from = match (carrier, shared) {
        (Carrier::Http1, _) => Source::Http1(server.subscribe(&query, &headers).await),
        (_, connection) => {
            let connection = match connection {
                Some(connection) => connection,
                None => Connection::open(&server).await,
            };
            let target = format!("{HUB}?{query}");
            Source::Http2(connection.ask("GET", &target, &headers, String::new()).await)
        }
    };
    let begun = published.begun.each_ref().map(|begun| begun.load(Ordering::SeqCst));
    published.joined.send_modify(|joined| *joined += 1);
    // What comes before all events may have the first ones behind it.
    let text = match &from {
        Source::Http1(stream) => stream.first.clone(),
        Source::Http2(_) => String::new(),
    };
    let mut reader = Reader { from, text, ids: VecDeque::new() };
    let mut seen = Seen { seed, topics, is_granted, cursor, begun, ids: Vec::new() };
    let lags = random.below(3) == 0;
    loop {
        if lags && random.below(100) == 0 {
            let until = (*progress.borrow() + random.below(800)).min(UPDATES);
            progress.wait_for(|accepted| *accepted >= until).await.expect("publishing");
        }
        match reader.next_id().await {
            id if id == "end" => return seen,
            id => seen.ids.push(id),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_sees_every_matching_update_exactly_once_in_order() {
    if crate::is_http2() {
        // It goes over HTTP/2 by itself.
        return;
    }
    for carrier in [Carrier::Http1, Carrier::Shared, Carrier::Each] {
        let log = Arc::new(MemoryTransport::new(UPDATES + 1));
        let hub = petasos_hub::Settings { keep_alive: None, subscriptions: false, ..Default::default() };
        let server = Arc::new(Server::start_on(log, settings(), hub).await);
        let published = Arc::new(Published {
            accepted: watch::Sender::new(0),
            joined: watch::Sender::new(0),
            begun: Default::default(),
            ids: Mutex::default(),
        });
        let publishing = Connection::open(&server).await;
        let shared = match carrier {
            Carrier::Shared => Some(Connection::open(&server).await),
            Carrier::Http1 | Carrier::Each => None,
        };
        let subscribers: Vec<_> = (1..=SUBSCRIBERS as u64)
            .map(|seed| {
                let (server, published) = (Arc::clone(&server), Arc::clone(&published));
                tokio::spawn(subscribe(server, shared.clone(), carrier, seed, published))
            })
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| tokio::spawn(publish(publishing.clone(), number, Arc::clone(&published))))
            .collect();
        for publisher in publishers {
            publisher.await.expect("a publisher");
        }
        published.joined.subscribe().wait_for(|joined| *joined == SUBSCRIBERS).await.expect("joining");
        let connections = server.metrics().await[r#"petasos_http_connections{protocol="http/2"}"#];
        let expected = match carrier {
            Carrier::Http1 => 1,
            Carrier::Shared => 2,
            Carrier::Each => SUBSCRIBERS + 1,
        };
        assert_eq!(connections, expected as f64, "{carrier:?}");
        publishing.publish("topic=end&id=end&data=x".to_owned()).await;
        let whole = everything(&publishing).await;
        assert_eq!(whole.len(), UPDATES, "{carrier:?}");
        for each in subscribers {
            check(&each.await.expect("a subscriber"), &whole, carrier);
        }
    }
}

/// The ids of all updates, in the order of the log.
async fn everything(connection: &Connection) -> Vec<String> {
    let target = format!("{HUB}?topic=*&lastEventID=earliest");
    let body = connection.ask("GET", &target, &[&subscriber()], String::new()).await;
    let mut reader = Reader { from: Source::Http2(body), text: String::new(), ids: VecDeque::new() };
    let mut ids = Vec::new();
    loop {
        match reader.next_id().await {
            id if id == "end" => return ids,
            id => ids.push(id),
        }
    }
}

fn check(seen: &Seen, whole: &[String], carrier: Carrier) {
    let matching =
        |ids: &[String]| -> Vec<String> { ids.iter().filter(|id| seen.wants(id)).cloned().collect() };
    let expected = match seen.cursor.as_deref() {
        Some("earliest") => matching(whole),
        Some(cursor) => {
            let at = whole.iter().position(|id| id == cursor).expect("it was published");
            matching(&whole[at + 1..])
        }
        None => {
            let all = matching(whole);
            let missed = all.len().checked_sub(seen.ids.len()).expect("nothing twice");
            let is_later = |id: &String| {
                let (publisher, number) = parse(id);
                number >= seen.begun[publisher]
            };
            let first = all.iter().position(is_later).unwrap_or(all.len());
            assert!(missed <= first, "{carrier:?}, seed {}: missed what came after it joined", seen.seed);
            all[missed..].to_vec()
        }
    };
    assert_eq!(seen.ids, expected, "{carrier:?}, seed {}", seen.seed);
}
