//! History and live are joined exactly: whatever the moment of joining, and however slowly a subscriber reads, it sees
//! each matching update once and in order.

use std::{
    collections::HashSet,
    io::{self, IoSlice},
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use petasos_hub::{
    Closed, Framing, Hub, MemoryTransport, Seal, Session, Settings, Socket, Wire,
    transport::{Entry, Position, Transport},
};
use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::Matcher,
    request::{Cursor, SubscribeRequest},
    token::Grants,
    topic::{Topic, Topics},
    update::{Draft, Update},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpSocket, TcpStream},
    sync::{Barrier, watch},
    task::yield_now,
};

const UPDATES: usize = 30_000;
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 80;

/// Nothing in here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small generator with a seed that a failure prints.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn matcher(selector: &str) -> Matcher {
    Matcher::selector(selector, &Limits::default()).expect("valid selector")
}

fn draft(hub: &Hub, id: &str, topics: &[&str], private: bool) -> Draft {
    let limits = Limits::default();
    Draft {
        topics: Topics::parse(topics.iter().copied(), hub.url(), &limits).expect("valid topics"),
        data: "x".to_owned(),
        private,
        id: Some(EventId::parse(id, &limits).expect("valid id")),
        event_type: None,
        retry: None,
    }
}

/// Progress of publishing and joining, and the ids that a late subscriber may ask for.
struct Published {
    count: watch::Sender<usize>,
    joined: watch::Sender<usize>,
    ids: Mutex<Vec<String>>,
}

async fn publish(hub: Hub, publisher: usize, published: Arc<Published>) {
    let mut random = Random(publisher as u64);
    for number in 0..UPDATES / PUBLISHERS {
        let id = format!("{publisher}-{number}");
        let topics = [format!("/t/{}", random.below(5)), format!("alt-{}", random.below(3))];
        let topics: Vec<&str> = topics.iter().map(String::as_str).take(1 + random.below(2)).collect();
        let private = random.below(4) == 0;
        hub.publish(draft(&hub, &id, &topics, private)).await.expect("publish");
        published.ids.lock().expect("no panic").push(id);
        published.count.send_modify(|count| *count += 1);
    }
}

/// One subscriber's wishes, and what it got.
struct Seen {
    seed: u64,
    matchers: Vec<Matcher>,
    grants: Grants,
    /// The head when it had subscribed: everything after it must come.
    head: Position,
    cursor: Option<Cursor>,
    answer: Option<String>,
    ids: Vec<String>,
    closed: Option<Closed>,
}

impl Seen {
    fn wants(&self, update: &Update) -> bool {
        let selected = |topic: &Topic| self.matchers.iter().any(|matcher| matcher.matches(topic));
        update.topics().iter().any(selected)
            && (!update.is_private() || self.grants.may_receive(update.topics()))
    }
}

async fn subscribe(hub: Hub, transport: Arc<dyn Transport>, seed: u64, published: Arc<Published>) -> Seen {
    let mut random = Random(seed);
    let mut progress = published.count.subscribe();
    let begin = random.below(UPDATES);
    progress.wait_for(|count| *count >= begin).await.expect("publishing");
    let all = ["*", "/t/0", "/t/1", "/t/{n}", "alt-0", "{x}", "/t/3"];
    let matchers: Vec<_> =
        [all[random.below(all.len())], all[random.below(all.len())], "end"].map(matcher).to_vec();
    let granted = [vec![], vec![matcher("/t/1")], vec![matcher("*")], vec![matcher("alt-{n}")]];
    let grants = Grants { subscribe: granted[random.below(granted.len())].clone(), ..Grants::default() };
    let cursor = match random.below(4) {
        0 => None,
        1 => Some(Cursor::Earliest),
        _ => {
            let ids = published.ids.lock().expect("no panic");
            Some(
                ids.get(random.below(ids.len().max(1)))
                    .map_or(Cursor::Earliest, |id| Cursor::After(id.as_str().into())),
            )
        }
    };
    let request = SubscribeRequest {
        dialect: Dialect::Legacy,
        matchers: matchers.clone(),
        cursor: cursor.clone(),
        multiplex: false,
    };
    let session = hub.subscribe(request, Arc::new(grants.clone()), None).await.expect("subscribe");
    let head = transport.head().await.expect("head").position;
    published.joined.send_modify(|joined| *joined += 1);
    let answer = Some(session.cursor().expect("nothing is polled").to_owned());
    let mut seen = Seen { seed, matchers, grants, head, cursor, answer, ids: Vec::new(), closed: None };
    let mut reader = match random.below(5) {
        0 => Reader::Session(Box::new(session)),
        1 => Reader::Socket(carry(session, Framing::Chunked, false).await),
        2 => Reader::Socket(carry(session, Framing::UntilClose, false).await),
        3 => Reader::Socket(carry(session, Framing::Chunked, true).await),
        _ => Reader::Socket(carry(session, Framing::UntilClose, true).await),
    };
    let lags = random.below(3);
    loop {
        if lags > 0 && random.below(2_000) == 0 {
            // Let so many updates go by that they fit into no ring.
            let until = (*progress.borrow() + 6_000 * lags + random.below(3_000)).min(UPDATES);
            progress.wait_for(|count| *count >= until).await.expect("publishing");
        }
        match tokio::time::timeout(PATIENCE, reader.next_id()).await.expect("something comes") {
            Ok(id) if id == "end" => return seen,
            Ok(id) => seen.ids.push(id),
            Err(reason) => {
                seen.closed = Some(reason);
                return seen;
            }
        }
    }
}

/// However a stream is read.
enum Reader {
    /// Polled, as an HTTP library does it.
    Session(Box<Session>),
    /// Off a socket that the hub writes to by itself.
    Socket(BufReader<Plain>),
}

/// What a socket has brought, unsealed.
type Plain = Box<dyn AsyncRead + Unpin + Send>;

/// Records as TLS has them: each has its length, its number, and bytes that depend on the number. A record that is lost, doubled
/// or cut fails the test.
#[derive(Default)]
struct Records(u32);

/// Many records for what a socket takes at once, so that it takes parts of them.
const RECORD_BYTES_MAX: usize = 300;

impl Records {
    fn mask(number: u32, content: &mut [u8]) {
        content.iter_mut().for_each(|byte| *byte ^= number as u8);
    }

    fn seal_one(&mut self, mut content: Vec<u8>, sealed: &mut Vec<u8>) {
        Self::mask(self.0, &mut content);
        sealed.extend_from_slice(&(content.len() as u16).to_be_bytes());
        sealed.extend_from_slice(&self.0.to_be_bytes());
        sealed.extend_from_slice(&content);
        self.0 += 1;
    }

    /// The content of the records that come over a socket.
    fn read(mut socket: TcpStream) -> Plain {
        let (mut plain, reader) = tokio::io::duplex(RECORD_BYTES_MAX);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok(length) = socket.read_u16().await else { return };
                assert_eq!(socket.read_u32().await.expect("a number"), number);
                let mut content = vec![0; length.into()];
                socket.read_exact(&mut content).await.expect("a whole record");
                Self::mask(number, &mut content);
                // A record without content is the end; and nobody may read any more.
                if content.is_empty() || plain.write_all(&content).await.is_err() {
                    return;
                }
            }
        });
        Box::new(reader)
    }
}

impl Seal for Records {
    fn seal(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize> {
        let content: Vec<u8> =
            plain.iter().flat_map(|part| part.iter().copied()).take(RECORD_BYTES_MAX).collect();
        let length = content.len();
        self.seal_one(content, sealed);
        Ok(length)
    }

    fn open(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> io::Result<()> {
        Ok(())
    }

    fn end(&mut self, sealed: &mut Vec<u8>) {
        self.seal_one(Vec::new(), sealed);
    }
}

impl Reader {
    async fn next_id(&mut self) -> Result<String, Closed> {
        loop {
            let text = match self {
                Self::Session(session) => match session.next().await {
                    Some(frame) => String::from_utf8(frame.to_vec()).expect("UTF-8"),
                    None => return Err(session.closed().expect("it has ended")),
                },
                Self::Socket(socket) => {
                    let mut line = String::new();
                    let length = socket.read_line(&mut line).await.expect("UTF-8");
                    if length == 0 || line == "0\r\n" {
                        // A socket does not say why; nothing else ends streams here.
                        return Err(Closed::Lagged);
                    }
                    line
                }
            };
            if let Some(rest) = text.strip_prefix("id: ") {
                return Ok(rest.split('\n').next().unwrap_or_default().to_owned());
            }
        }
    }
}

/// Gives a stream to the hub to write it to a socket that holds little, in [`Records`] if it is sealed.
async fn carry(session: Session, framing: Framing, sealed: bool) -> BufReader<Plain> {
    let (listening, connecting) =
        (TcpSocket::new_v4().expect("a socket"), TcpSocket::new_v4().expect("a socket"));
    listening.set_send_buffer_size(4_096).expect("a size");
    connecting.set_recv_buffer_size(4_096).expect("a size");
    listening.bind("127.0.0.1:0".parse().expect("an address")).expect("bind");
    let listener = listening.listen(1).expect("listen");
    let address = listener.local_addr().expect("an address");
    let (client, accepted) = tokio::join!(connecting.connect(address), listener.accept());
    let socket = accepted.expect("accept").0.into_std().expect("a socket");
    let head = "HTTP\r\n\r\n".into();
    let socket = match sealed {
        true => Socket::sealed(socket, Box::new(Records::default()), Bytes::new()),
        false => socket.into(),
    };
    session.carry(Wire { socket, stall_max: None, framing, head, held: Box::new(()) }).await;
    let client = client.expect("connect");
    let mut reader = BufReader::new(if sealed { Records::read(client) } else { Box::new(client) as Plain });
    let mut head = String::new();
    for expected in ["HTTP\r\n", "\r\n"] {
        head.clear();
        reader.read_line(&mut head).await.expect("UTF-8");
        assert_eq!(head, expected);
    }
    reader
}

async fn run(history_max: usize, keep: bool) -> (Vec<Entry>, Vec<Seen>, Hub) {
    let transport: Arc<dyn Transport> = Arc::new(MemoryTransport::new(history_max));
    // A witness that sees all, for the order of the log when the log itself forgets.
    let mut witness = transport.follow(Position::EARLIEST).await.expect("follow");
    let hub = Hub::start(
        Arc::clone(&transport),
        Settings { shards: 3, subscriptions: false, ..Settings::default() },
    )
    .await
    .expect("start");
    let published = Arc::new(Published {
        count: watch::Sender::new(0),
        joined: watch::Sender::new(0),
        ids: Mutex::default(),
    });
    let witnessing = tokio::spawn(async move {
        let mut entries: Vec<Entry> = Vec::new();
        while entries.last().is_none_or(|entry| entry.update.id().as_str() != "end") {
            entries.extend(witness.next().await.expect("the log"));
        }
        entries
    });
    let subscribers: Vec<_> = (0..SUBSCRIBERS as u64)
        .map(|seed| {
            tokio::spawn(subscribe(hub.clone(), Arc::clone(&transport), seed + 1, Arc::clone(&published)))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| tokio::spawn(publish(hub.clone(), number, Arc::clone(&published))))
        .collect();
    for publisher in publishers {
        publisher.await.expect("publisher");
    }
    // The last to join may do so after the last update, but must still see the end.
    let mut joined = published.joined.subscribe();
    joined.wait_for(|joined| *joined == SUBSCRIBERS).await.expect("joining");
    hub.publish(draft(&hub, "end", &["end"], false)).await.expect("publish");
    let mut seen = Vec::new();
    for subscriber in subscribers {
        seen.push(subscriber.await.expect("subscriber"));
    }
    let entries = witnessing.await.expect("witness");
    assert_eq!(entries.len(), UPDATES + 1);
    assert!(
        !keep || seen.iter().all(|each| each.closed.is_none()),
        "nobody is closed while everything is kept"
    );
    (entries, seen, hub)
}

/// Where in the log a subscriber's stream must begin: an index, or a range for those without a cursor.
fn starts(entries: &[Entry], seen: &Seen) -> (usize, usize) {
    let index_after = |position: Position| entries.partition_point(|entry| entry.position <= position);
    match (&seen.cursor, seen.answer.as_deref()) {
        (None, _) => (0, index_after(seen.head)),
        (Some(Cursor::After(id)), Some(answer)) if answer == &**id => {
            let place = entries
                .iter()
                .position(|entry| entry.update.id().as_str() == answer)
                .expect("it was published");
            (place + 1, place + 1)
        }
        (Some(_), Some("earliest")) => (0, 0),
        other => panic!("seed {}: an answer that fits no request: {other:?}", seen.seed),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everyone_sees_every_matching_update_exactly_once_in_order() {
    let (entries, all, hub) = run(UPDATES + 1, true).await;
    for seen in &all {
        let matching = |from: usize| -> Vec<&str> {
            let wanted = entries[from..].iter().filter(|entry| seen.wants(&entry.update));
            wanted.map(|entry| entry.update.id().as_str()).filter(|id| *id != "end").collect()
        };
        let (first, last) = starts(&entries, seen);
        if first == last {
            assert_eq!(seen.ids, matching(first), "seed {}", seen.seed);
        } else {
            let whole = matching(0);
            let missed = whole.len().checked_sub(seen.ids.len()).expect("nothing twice");
            assert_eq!(seen.ids, whole[missed..], "seed {}", seen.seed);
            assert!(
                seen.ids.len() >= matching(last).len(),
                "seed {}: missed what came after it joined",
                seen.seed
            );
        }
    }
    assert_eq!(hub.stats().lagged, 0);
    // A shard notices in its own time that a socket is closed.
    while hub.stats().subscribers > 0 {
        yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_falls_behind_a_short_history_is_closed_and_never_skips() {
    let (entries, all, hub) = run(700, false).await;
    let lagged = all.iter().filter(|seen| seen.closed == Some(Closed::Lagged)).count();
    assert!(lagged > 0, "the test lets some fall behind");
    assert_eq!(hub.stats().lagged as usize, lagged);
    for seen in &all {
        let whole: Vec<&str> = entries
            .iter()
            .filter(|entry| seen.wants(&entry.update))
            .map(|entry| entry.update.id().as_str())
            .filter(|id| *id != "end")
            .collect();
        let Some(first) = seen.ids.first() else { continue };
        let start = whole.iter().position(|id| id == first).expect("it was published");
        assert_eq!(
            seen.ids,
            whole[start..start + seen.ids.len()],
            "seed {}: no gap, nothing twice",
            seen.seed
        );
        if seen.closed.is_none() {
            assert_eq!(
                start + seen.ids.len(),
                whole.len(),
                "seed {}: it was not closed, so it saw the rest",
                seen.seed
            );
        }
        let unique: HashSet<_> = seen.ids.iter().collect();
        assert_eq!(unique.len(), seen.ids.len());
    }
}

/// How a crowd reads.
#[derive(Clone, Copy)]
enum Crowd {
    OnSockets,
    Polled,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_wait_for_a_crowd_on_sockets_that_is_slow_as_a_whole() {
    publishers_wait_for(Crowd::OnSockets).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_wait_for_a_polled_crowd_that_is_slow_as_a_whole() {
    publishers_wait_for(Crowd::Polled).await;
}

async fn publishers_wait_for(readers: Crowd) {
    const BEFORE_READING: usize = 6_000;
    const MANY: usize = 24_000;
    let settings = Settings { shards: 1, subscriptions: false, ..Settings::default() };
    let hub = Hub::start(Arc::new(MemoryTransport::new(100)), settings).await.expect("start");
    let mut crowd = Vec::new();
    for number in 0..4 {
        let request = SubscribeRequest {
            dialect: Dialect::Legacy,
            matchers: vec![matcher("a")],
            cursor: None,
            multiplex: false,
        };
        let mut session = hub.subscribe(request, Arc::default(), None).await.expect("subscribe");
        crowd.push(match readers {
            Crowd::OnSockets => Reader::Socket(carry(session, Framing::Chunked, number % 2 == 1).await),
            Crowd::Polled => {
                // It goes to its shard when it is asked for more than its opening.
                let mut cx = Context::from_waker(Waker::noop());
                while session.poll_next(&mut cx).is_ready() {}
                Reader::Session(Box::new(session))
            }
        });
    }
    let (count, mut published) = watch::channel(0);
    let begun = Arc::new(Barrier::new(crowd.len() + 1));
    let (publisher, all_read) = (hub.clone(), Arc::clone(&begun));
    let publishing = tokio::spawn(async move {
        for number in 0..MANY {
            // The ring is not full yet. Who has read nothing by then would not be waited for.
            if number == BEFORE_READING {
                count.send_replace(number);
                all_read.wait().await;
            }
            publisher.publish(draft(&publisher, &number.to_string(), &["a"], false)).await.expect("publish");
        }
    });
    // Far more than their sockets or queues hold, and much of what the ring does: the history has let go of it long since.
    published.wait_for(|count| *count == BEFORE_READING).await.expect("publishing");
    let reading = crowd.into_iter().map(|mut reader| {
        let begun = Arc::clone(&begun);
        tokio::spawn(async move {
            for number in 0..MANY {
                let id = tokio::time::timeout(PATIENCE, reader.next_id()).await.expect("something comes");
                assert_eq!(id, Ok(number.to_string()));
                if number == 0 {
                    begun.wait().await;
                }
                if matches!(readers, Crowd::Polled) {
                    // A session is read faster than an update is published, unless the publisher has some turns for each.
                    for _ in 0..8 {
                        yield_now().await;
                    }
                }
            }
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("everything was received");
    }
    publishing.await.expect("all is published");
}
