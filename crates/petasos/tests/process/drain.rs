//! The end of a hub with open streams.

use std::{
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Client, PATIENCE, Process, Start, publish, raise_own_limit, valid_token};

const PROBE: &str = "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";

/// Streams of the test: enough for even parts, few enough for threads.
const STREAMS: usize = 240;

/// A stream that has been read to its end.
struct Ended {
    at: Instant,
    text: String,
}

/// Reads a stream to its end.
fn follow(mut stream: Client) -> JoinHandle<Ended> {
    thread::spawn(move || {
        let text = stream.rest();
        Ended { at: Instant::now(), text }
    })
}

impl Ended {
    /// The pause that its last line asks for.
    fn retry(&self) -> u64 {
        let end = self.text.strip_suffix("\n\r\n0\r\n\r\n").expect("the last chunk");
        let (_, retry) = end.rsplit_once("\r\nretry: ").expect("a last line, in a chunk of its own");
        retry.parse().expect("milliseconds")
    }
}

fn is_refused(address: SocketAddr) -> bool {
    #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
    TcpStream::connect(address).is_err()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn start(delay: &str, drain: &str) -> (Process, SocketAddr) {
    raise_own_limit();
    let mut hub = Start::new().drain(delay, drain).start();
    let address = hub.address();
    (hub, address)
}

#[test]
fn a_drain_ends_streams_evenly_and_each_says_when_to_come_back() {
    let (mut hub, address) = start("0", "4s");
    let streams: Vec<_> = (0..STREAMS).map(|_| follow(Client::subscribe(address))).collect();
    let mut publisher = Client::connect(address);
    assert_eq!(publisher.ask(&publish(&valid_token())).0, 200);
    hub.signal("TERM");
    wait_until("the socket is closed", || is_refused(address));
    // Its connection was there before. It is served, and then it ends.
    let (status, _) = publisher.ask(&publish(&valid_token()));
    assert_eq!((status, publisher.rest().as_str()), (200, ""));
    let mut ends: Vec<_> = streams.into_iter().map(|stream| stream.join().expect("read")).collect();
    ends.sort_by_key(|end| end.at);
    let (first, last) = (ends[0].at, ends[STREAMS - 1].at);
    let fifth = (last - first) / 5;
    let mut parts = [0; 5];
    for end in &ends {
        let part = (end.at - first).as_nanos() / fifth.as_nanos().max(1);
        parts[(part as usize).min(4)] += 1;
    }
    let even = STREAMS / 5;
    assert!(parts.iter().all(|part| (even / 2..=even * 3 / 2).contains(part)), "{parts:?} in {fifth:?}");
    let retries: Vec<_> = ends.iter().map(Ended::retry).collect();
    let (min, max) = (retries.iter().min().expect("some"), retries.iter().max().expect("some"));
    assert!(*min >= 250 && *max <= 2_000 && max - min > 1_000, "{min} to {max} ms");
    // The first ones have missed what was published later, and come back for it.
    assert!(ends.iter().all(|end| end.text.contains("data: hello\n\n")));
    assert!(ends[STREAMS - 1].text.matches("data: hello\n\n").count() == 2, "the last one has got both");
    assert!(hub.ended_within(PATIENCE).success());
}

#[test]
fn before_the_drain_everything_goes_on_but_for_readyz() {
    let (mut hub, address) = start("1h", "0");
    let stream = follow(Client::subscribe(address));
    assert_eq!(Client::connect(address).ask(PROBE).0, 200);
    hub.signal("TERM");
    let mut probe = Client::connect(address);
    wait_until("it is not ready", || probe.ask(PROBE).0 == 503);
    assert!(probe.ask(PROBE).1.contains("about to stop"));
    assert_eq!(probe.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 200);
    let later = follow(Client::subscribe(address));
    assert_eq!(Client::connect(address).ask(&publish(&valid_token())).0, 200);
    hub.signal("TERM");
    for stream in [stream, later] {
        let Ended { text, .. } = stream.join().expect("read");
        assert!(text.contains("data: hello\n\n") && text.ends_with("\r\n0\r\n\r\n"), "{text:?}");
        assert!(!text.contains("0\r\n\r\n0\r\n"), "one end");
    }
    assert!(hub.ended_within(PATIENCE).success());
}

#[test]
fn a_request_that_is_under_way_is_answered_in_a_drain() {
    let (mut hub, address) = start("0", "1h");
    let request = publish(&valid_token());
    let (head, body) = request.split_at(request.len() - 5);
    let mut publisher = Client::connect(address);
    std::io::Write::write_all(publisher.0.get_mut(), head.as_bytes()).expect("sent");
    hub.signal("TERM");
    wait_until("the socket is closed", || is_refused(address));
    assert_eq!(publisher.ask(body).0, 200);
    assert!(hub.ended_within(PATIENCE).success(), "nothing is left to wait for");
}

#[test]
fn a_connection_that_waits_for_a_request_is_answered_once_more_when_the_streams_have_ended() {
    let (reader, log) = std::io::pipe().expect("a pipe");
    let mut hub = Start::new().drain("0", "1h").error(log).start();
    let address = hub.address();
    let mut publisher = Client::connect(address);
    assert_eq!(publisher.ask(&publish(&valid_token())).0, 200);
    hub.signal("TERM");
    let lines = crate::lines_of(reader);
    while !lines.recv_timeout(PATIENCE).expect("a line").contains("streams are closed left=") {}
    assert_eq!(publisher.ask(&publish(&valid_token())).0, 200);
    assert!(hub.ended_within(PATIENCE).success());
}

#[test]
fn a_stream_without_chunks_ends_with_its_retry() {
    let (mut hub, address) = start("0", "1s");
    let mut stream = Client::connect(address);
    let request = "GET /.well-known/mercure?topic=a HTTP/1.0\r\nHost: x\r\n\r\n";
    std::io::Write::write_all(stream.0.get_mut(), request.as_bytes()).expect("sent");
    stream.head();
    let stream = follow(stream);
    hub.signal("TERM");
    let text = stream.join().expect("read").text;
    let retry =
        text.strip_suffix('\n').and_then(|text| text.rsplit_once("\nretry: ")).expect("a last line").1;
    assert!((250..=500).contains(&retry.parse::<u64>().expect("milliseconds")), "{text:?}");
    assert!(hub.ended_within(PATIENCE + Duration::from_secs(1)).success());
}
