//! The log in NATS JetStream, against real servers.

#![cfg(feature = "nats")]

mod kit;
#[path = "nats/subscribers.rs"]
mod subscribers;

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use kit::{
    PATIENCE, Port, Server, Wait, certificate,
    store::{Logs, Store},
    until,
    updates::*,
};
use petasos_hub::{
    TransportError,
    conformance::CHECKS,
    registry::{Fact, Lease, NodeId, Registry},
    transport::{Position, Transport},
};
use petasos_protocol::{
    Dialect,
    event::EventId,
    matcher::{MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    topic::HubUrl,
    update::Update,
};
use petasos_transports::OpenError;
use serde_json::{Value, json, value::RawValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn nats(configuration: &'static str) -> Server {
    Server::start(move |directory, port| {
        let store = directory.join("store");
        let text = format!("jetstream {{ store_dir: {store:?} }}\n{configuration}");
        command(directory, port, &text)
    })
}

fn command(directory: &Path, port: u16, configuration: &str) -> Command {
    let file = directory.join("nats.conf");
    std::fs::write(&file, format!("listen: 127.0.0.1:{port}\n{configuration}\n")).expect("a configuration");
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(file);
    command
}

fn url(server: &Server) -> String {
    format!("nats://127.0.0.1:{}?lease=2s&timeout=2s", server.port)
}

async fn refusal(url: &str) -> String {
    match try_open(url, 10).await.err().expect("refused") {
        OpenError::Refused(text) => text,
        other => panic!("{other:?}"),
    }
}

/// What an operator asks the server.
async fn api(server: &Server, subject: &str, request: &Value) -> Value {
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.expect("connect");
    let request = if request.is_null() { String::new() } else { request.to_string() };
    let answer = client.request(format!("$JS.API.{subject}"), request.into()).await;
    serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON")
}

/// A server alone, or a cluster.
struct Nats(Vec<Server>);

#[async_trait]
impl Store for Nats {
    const ENDS: &'static [&'static str] = &["TERM", "KILL"];

    async fn start() -> Self {
        Self(vec![nats("")])
    }

    fn url(&self, parameters: &str) -> String {
        let hosts: Vec<_> = self.0.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("nats://{}?{parameters}", hosts.join(","))
    }

    fn pause(&self) {
        self.0.iter().for_each(Server::pause);
    }

    fn resume(&self) {
        self.0.iter().for_each(Server::resume);
    }

    fn end(&mut self, signal: &str) {
        self.0.iter_mut().for_each(|server| server.end(signal));
    }

    fn come_back(&mut self) {
        self.0.iter_mut().for_each(Server::restart);
    }

    fn lose_everything(&mut self) {
        for server in &mut self.0 {
            server.kill();
            std::fs::remove_dir_all(server.directory().join("store")).expect("a store");
        }
    }
}

kit::stories::stories!(Nats);

/// Publishers wait for a follower that waits for the server.
#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_wait_for_a_follower_do_not_wait_for_a_server_that_is_unavailable() {
    let mut server = nats("");
    let log = open_log(&url(&server), 10_000).await;
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let follower = follow(&*log).await;
    append_many(&log, "a", 1_000).await;
    for number in 0..24 {
        append(&*log, &number.to_string()).await;
    }
    // Nobody waits for more than the index has.
    log.head().await.expect("head");
    let mut appends = tokio::task::JoinSet::new();
    for number in 0..10 {
        let log = Arc::clone(&log);
        appends.spawn(async move { log.append(update(&format!("waits-{number}"))).await });
    }
    let recorded = tokio::spawn({
        let log = Arc::clone(&log);
        async move { log.registry().expect("a registry").record(node, &[fact(1, true)]).await }
    });
    while registry.list(None).await.expect("list").is_empty() {
        tokio::task::yield_now().await;
    }
    server.stop();
    let ends = async {
        let recorded = recorded.await.expect("no panic");
        assert!(matches!(recorded, Err(TransportError::Unavailable(_))), "{recorded:?}");
        while let Some(appended) = appends.join_next().await {
            let appended = appended.expect("no panic");
            assert!(matches!(appended, Err(TransportError::Unavailable(_))), "{appended:?}");
        }
    };
    tokio::time::timeout(PATIENCE / 4, ends).await.expect("they end");
    drop(follower);
}

/// As after a loss of power, for a server alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_lost_its_end_is_known_as_it_is() {
    let mut server = nats("");
    let log = open_log(&url(&server), 100_000).await;
    append_many(&log, "kept", 5_000).await;
    let end = append(&*log, "end").await;
    server.stop();
    copy(&server, "store", "copy");
    server.restart();
    until("it is known to be back", || log.is_ready()).await;
    append_many(&log, "lost", 100).await;
    let lost = append(&*log, "lost").await;
    // The index has it.
    while log.locate("lost").await.ok() != Some(Some(lost)) {}
    server.stop();
    std::fs::remove_dir_all(server.directory().join("store")).expect("a store");
    copy(&server, "copy", "store");
    server.restart();
    // Asked from the first moment on, while the index is made anew.
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let log = Arc::clone(&log);
        asking.spawn(async move {
            let (deadline, mut answers) = (Instant::now() + PATIENCE, 0);
            while answers < 200 {
                assert!(Instant::now() < deadline, "it answers");
                if let Ok(head) = log.head().await {
                    assert_eq!((head.position, head.id.as_ref().map(EventId::as_str)), (end, Some("end")));
                    answers += 1;
                }
                if let Ok(place) = log.locate("end").await {
                    assert_eq!(place, Some(end));
                }
                if let Ok(page) = log.read(Position { sequence: end.sequence - 2, ..end }, 10).await {
                    assert_eq!(page.entries.len(), 2);
                }
                assert_eq!(log.locate("lost").await.ok().flatten(), None);
            }
        });
    }
    asking.join_all().await;
    let mut follower = follow(&*log).await;
    append_again(&*log, "new").await;
    assert_eq!(names(&take_to(&mut *follower, "new").await), ["new"]);
    // It lies behind the end.
    assert!(matches!(log.follow(lost).await.err(), Some(TransportError::Trimmed)));
}

fn copy(server: &Server, from: &str, to: &str) {
    let path = |name: &str| server.directory().join(name);
    let status = Command::new("cp").arg("-a").arg(path(from)).arg(path(to)).status().expect("cp");
    assert!(status.success());
}

/// Deleted while the server runs: nothing is disconnected.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_made_again() {
    let server = nats("");
    // On a busy machine it takes a while until the new one is read.
    let log = open_log(&format!("nats://127.0.0.1:{}?timeout=20s", server.port), 100).await;
    let mut follower = follow(&*log).await;
    let old = append(&*log, "old").await;
    take_to(&mut *follower, "old").await;
    api(&server, "STREAM.DELETE.mercure", &Value::Null).await;
    let end = tokio::time::timeout(PATIENCE, follower.next()).await.expect("it ends");
    assert!(matches!(end, Err(TransportError::Trimmed)), "{end:?}");
    append_again(&*log, "new").await;
    let entries = kept(&*log).await;
    assert_eq!(names(&entries), ["new"]);
    assert!(entries[0].position.epoch > old.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_purges_counts_as_trimmed() {
    let server = nats("");
    let log = open_log(&url(&server), 100).await;
    for number in 0..10 {
        append(&*log, &number.to_string()).await;
    }
    api(&server, "STREAM.PURGE.mercure", &json!({"keep": 3})).await;
    let page = log.read(Position::EARLIEST, 100).await.expect("read");
    assert_eq!(names(&page.entries), ["7", "8", "9"]);
    assert!(page.trimmed.updates.sequence == page.entries[0].position.sequence - 1);
    assert_eq!(log.locate("6").await.expect("locate"), None);
    // One in the midst: what is older counts as gone with it.
    let sequence = page.entries[1].position.sequence;
    api(&server, "STREAM.MSG.DELETE.mercure", &json!({"seq": sequence})).await;
    let page = log.read(Position::EARLIEST, 100).await.expect("read");
    assert_eq!((names(&page.entries), page.trimmed.updates.sequence), (vec!["9"], sequence));
    assert_eq!(append(&*log, "10").await.sequence, sequence + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_later_sees_what_others_see() {
    let server = nats("");
    let one = open_log(&url(&server), 3).await;
    for number in 0..10 {
        append(&*one, &number.to_string()).await;
    }
    let other = open_log(&url(&server), 3).await;
    assert_eq!(names(&kept(&*other).await), ["7", "8", "9"]);
    assert_eq!(one.head().await.expect("head"), other.head().await.expect("head"));
    let page = |log: Arc<dyn Transport>| async move {
        log.read(Position::EARLIEST, 10).await.expect("read").trimmed.updates
    };
    assert_eq!(page(one).await, page(other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_bounded() {
    let server = nats("");
    let log = open_log(&url(&server), 10).await;
    let mut appends = tokio::task::JoinSet::new();
    for appender in 0..64 {
        let log = Arc::clone(&log);
        appends.spawn(async move {
            for number in 0..400 {
                append(&*log, &format!("{appender}-{number}")).await;
            }
        });
    }
    appends.join_all().await;
    let info = api(&server, "STREAM.INFO.mercure", &Value::Null).await;
    let messages = info["state"]["messages"].as_u64().expect("a number");
    assert_eq!(messages, 1_024 + 16_384, "the server removes the others");
    let page = log.read(Position::EARLIEST, 100).await.expect("read");
    assert_eq!(page.entries.len(), 10);
    assert_eq!(page.trimmed.updates.sequence, page.entries[0].position.sequence - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_skipped() {
    let server = nats("");
    let log = open_log(&url(&server), 100).await;
    let mut follower = follow(&*log).await;
    append(&*log, "a").await;
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.expect("connect");
    for payload in ["", "nonsense", "\u{1}nonsense"] {
        client.request("mercure.updates", payload.into()).await.expect("an answer");
    }
    append(&*log, "b").await;
    assert_eq!(names(&kept(&*log).await), ["a", "b"]);
    let page = log.read(Position::EARLIEST, 1).await.expect("read");
    let page = log.read(page.through, 1).await.expect("read");
    assert_eq!((names(&page.entries), page.at_end), (vec!["b"], true));
    assert_eq!(names(&take_to(&mut *follower, "b").await), ["a", "b"]);
    let head = log.head().await.expect("head");
    assert_eq!(head.id.as_ref().map(EventId::as_str), Some("b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_and_not_shown() {
    let server = nats("authorization { user: hub, password: \"s e/cret\" }");
    for user in ["", "hub:wrongwrong@", "wrongwrong@"] {
        let text = refusal(&format!("nats://{user}127.0.0.1:{}", server.port)).await;
        assert!(text.contains("credentials") && !text.contains("wrongwrong"), "{text}");
    }
    append(&*open_log(&format!("nats://hub:s%20e%2Fcret@127.0.0.1:{}", server.port), 10).await, "a").await;
    let server = nats("authorization { token: secret }");
    append(&*open_log(&format!("nats://secret@127.0.0.1:{}", server.port), 10).await, "a").await;
}

/// The client gives up for good when it is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_comes_back_when_its_credentials_are_valid_again() {
    let mut server = Server::start(|directory, port| {
        let store = directory.join("store");
        let password = std::fs::read_to_string(directory.join("password")).unwrap_or("secret".to_owned());
        let text = format!(
            "jetstream {{ store_dir: {store:?} }}\nauthorization {{ user: hub, password: {password:?} }}"
        );
        command(directory, port, &text)
    });
    let url = format!("nats://hub:secret@127.0.0.1:{}?timeout=1s", server.port);
    let log = open_log(&url, 10).await;
    let mut follower = follow(&*log).await;
    append(&*log, "a").await;
    std::fs::write(server.directory().join("password"), "another").expect("a file");
    server.stop();
    server.restart();
    until("it is known to be away", || !log.is_ready()).await;
    // The client is refused, and tries again.
    server.writes("authentication error", 2);
    std::fs::remove_file(server.directory().join("password")).expect("a file");
    server.stop();
    server.restart();
    until("it is known to be back", || log.is_ready()).await;
    append_again(&*log, "b").await;
    assert_eq!(names(&take_to(&mut *follower, "b").await), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked_against_an_own_authority() {
    let server = Server::start(|directory, port| {
        let path = |name: &str| directory.join(name);
        if !path("cert.pem").exists() {
            certificate::make(directory, false);
        }
        let (cert, key, store) = (path("cert.pem"), path("key.pem"), path("store"));
        let text =
            format!("jetstream {{ store_dir: {store:?} }}\ntls {{ cert_file: {cert:?}, key_file: {key:?} }}");
        command(directory, port, &text)
    });
    let url = format!("tls://localhost:{}", server.port);
    let text = refusal(&url).await;
    assert!(text.contains("ca=FILE"), "{text}");
    let ca = server.directory().join("cert.pem");
    append(&*open_log(&format!("{url}?ca={}", ca.display()), 10).await, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named() {
    let server = nats(
        "authorization { users: [{ user: hub, password: secret, permissions: {
            publish: [\"$JS.API.INFO\", \"$JS.API.STREAM.INFO.>\"], subscribe: [\"_INBOX.>\"] } }] }",
    );
    let text = refusal(&format!("nats://hub:secret@127.0.0.1:{}?timeout=500ms", server.port)).await;
    assert!(text.contains("STREAM.CREATE") && text.contains("$JS.API.>"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_is_named() {
    let server = Server::start(|directory, port| command(directory, port, ""));
    let text = refusal(&url(&server)).await;
    assert!(text.contains("JetStream is not enabled"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_without_a_cluster_are_refused() {
    let server = nats("");
    let text = refusal(&format!("{}&replicas=3", url(&server))).await;
    assert!(text.contains("replicas"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_would_lose_updates_is_refused() {
    let server = nats("");
    let subjects = json!(["mercure.updates", "mercure.events"]);
    for (settings, part) in [
        (json!({"retention": "workqueue"}), "retention"),
        (json!({"max_msgs": 10, "discard": "old"}), "discard"),
        (json!({"max_age": 60_000_000_000_u64}), "max_age"),
        (json!({"no_ack": true}), "confirms"),
        (json!({"subjects": ["mercure.updates"]}), "subjects"),
    ] {
        let mut config = json!({"name": "mercure", "subjects": subjects, "storage": "file"});
        for (name, value) in settings.as_object().expect("an object") {
            config[name] = value.clone();
        }
        let made = api(&server, "STREAM.CREATE.mercure", &config).await;
        assert!(made["error"].is_null(), "{made}");
        let text = refusal(&url(&server)).await;
        assert!(text.contains(part), "{text}");
        api(&server, "STREAM.DELETE.mercure", &Value::Null).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_stream_grow_with_the_history() {
    let server = nats("");
    append(&*open_log(&url(&server), 10).await, "a").await;
    let log = open_log(&url(&server), 5_000).await;
    assert_eq!(names(&kept(&*log).await), ["a"]);
    let info = api(&server, "STREAM.INFO.mercure", &Value::Null).await;
    assert_eq!(info["config"]["max_msgs_per_subject"], 5_000 + 16_384);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_without_a_bound_is_kept() {
    let server = nats("");
    append(&*open_log(&url(&server), usize::MAX).await, "a").await;
    assert_eq!(names(&kept(&*open_log(&url(&server), usize::MAX).await).await), ["a"]);
    let info = api(&server, "STREAM.INFO.mercure", &Value::Null).await;
    assert_eq!(info["config"]["max_msgs_per_subject"], i64::MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_says_so() {
    // The account, then the stream.
    let server = Server::start(|directory, port| {
        let store = directory.join("store");
        command(directory, port, &format!("jetstream {{ store_dir: {store:?}, max_file: 1MB }}"))
    });
    fills(&server).await;
    let server = nats("");
    drop(open_log(&url(&server), 1_000).await);
    let mut config = api(&server, "STREAM.INFO.mercure", &Value::Null).await["config"].take();
    config["max_bytes"] = 1_000_000.into();
    let updated = api(&server, "STREAM.UPDATE.mercure", &config).await;
    assert!(updated["error"].is_null(), "{updated}");
    fills(&server).await;
}

async fn fills(server: &Server) {
    let log = open_log(&url(server), 1_000).await;
    let mut count = 0;
    let error = loop {
        match log.append(sized(&count.to_string(), 100_000)).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 100, "it is full some time");
    };
    assert!(matches!(error, TransportError::Full(_)), "{error:?}");
    assert!(!log.is_ready() && log.is_readable());
    assert_eq!(kept(&*log).await.len(), count, "what is kept can be read");
    // An operator makes room, and nobody publishes to a node that is not ready.
    let purged = api(server, "STREAM.PURGE.mercure", &json!({"keep": 1})).await;
    assert!(purged["error"].is_null(), "{purged}");
    until("it is ready by itself", || log.is_ready()).await;
    append(&*log, "room").await;
    let leases = api(server, "STREAM.INFO.mercure+leases", &Value::Null).await;
    assert_eq!(leases["state"]["messages"], 0, "nothing is left of the look for room");
}

/// Updates that a node has not read yet are purged, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_does_not_change_whether_the_log_is_ready() {
    let server = nats("");
    let log = open_log(&url(&server), 1_000).await;
    let mut follower = follow(&*log).await;
    append_many(&log, "a", 100).await;
    append(&*log, "last").await;
    take_to(&mut *follower, "last").await;
    let mut followed = tokio::spawn(async move {
        let next = follower.next().await;
        (follower, next)
    });
    let was_away = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            let becomes_unavailable = async {
                while log.is_ready() {
                    looks.tick().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(15), becomes_unavailable).await.is_ok()
        }
    });
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.expect("connect");
    for round in 0..20 {
        // As an operator would do by hand, removed at once.
        for _ in 0..10 {
            client.publish("mercure.updates", "nonsense".into()).await.expect("publish");
        }
        client.flush().await.expect("flush");
        api(&server, "STREAM.PURGE.mercure", &json!({})).await;
        let info = api(&server, "STREAM.INFO.mercure", &Value::Null).await;
        let last = info["state"]["last_seq"].as_u64().expect("a number");
        assert_eq!(log.head().await.expect("head").position.sequence, last, "round {round}");
    }
    assert!(!was_away.await.expect("no panic"), "it is ready all the time");
    append(&*log, "after").await;
    let end =
        tokio::time::timeout(PATIENCE, &mut followed).await.expect("it ends or goes on").expect("no panic");
    match end {
        (_, Ok(entries)) => assert_eq!(names(&entries), ["after"]),
        (_, Err(error)) => assert!(matches!(error, TransportError::Trimmed), "{error}"),
    }
}

/// The work of a node every third of its lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_costs_the_same_whatever_the_number_of_subscribers() {
    const SUBSCRIBERS: u128 = 5_000;
    let server = Server::start(|directory, port| {
        let (store, ports) = (directory.join("store"), directory);
        let text = format!(
            "jetstream {{ store_dir: {store:?} }}\nhttp: \"127.0.0.1:-1\"\nports_file_dir: {ports:?}"
        );
        command(directory, port, &text)
    });
    let mut costs = Vec::new();
    for subscribers in [1, SUBSCRIBERS] {
        let url = format!("nats://127.0.0.1:{}?lease=10m&name=of-{subscribers}", server.port);
        let (log, node) = (open_log(&url, 10).await, NodeId::new(subscribers));
        let registry = log.registry().expect("a registry");
        registry.renew(node).await.expect("renew");
        let facts: Vec<_> = (0..subscribers).map(|number| fact(number, true)).collect();
        for facts in facts.chunks(100) {
            registry.record(node, facts).await.expect("record");
        }
        // The first look is at everything.
        let begin = traffic(&server).await;
        assert!(registry.abandoned(32).await.expect("abandoned").is_empty());
        let before = traffic(&server).await;
        eprintln!(
            "{subscribers} subscribers, the first look: {} messages, {} bytes",
            before[0] - begin[0],
            before[1] - begin[1]
        );
        for _ in 0..RENEWALS {
            assert_eq!(registry.renew(node).await.expect("renew"), Lease::Kept);
            assert!(registry.abandoned(32).await.expect("abandoned").is_empty());
        }
        let after = traffic(&server).await;
        costs.push([after[0] - before[0], after[1] - before[1]]);
        eprintln!("{subscribers} subscribers, {RENEWALS} renewals: {:?} messages and bytes", costs.last());
    }
    for cost in costs {
        // A renewal and a look are a question and an answer each; the rest is what else goes on meanwhile.
        assert!(cost[0] < RENEWALS * 8 && cost[1] < RENEWALS * 4_096, "{cost:?}");
    }
}

const RENEWALS: u64 = 20;

/// The address of a server's monitoring, at a port that the server chose.
fn monitor(server: &Server) -> String {
    let file = server.directory().join(format!("nats-server_{}.ports", server.id()));
    let ports: Value = serde_json::from_slice(&std::fs::read(file).expect("written")).expect("JSON");
    let url = ports["monitoring"][0].as_str().expect("a URL");
    url.strip_prefix("http://").expect("HTTP").to_owned()
}

/// Messages and bytes that a server has taken and given.
async fn traffic(server: &Server) -> [u64; 2] {
    let mut request = tokio::net::TcpStream::connect(monitor(server)).await.expect("connect");
    request.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.expect("asked");
    let mut answer = String::new();
    request.read_to_string(&mut answer).await.expect("answered");
    let answer: Value =
        serde_json::from_str(answer.split_once("\r\n\r\n").expect("an answer").1).expect("JSON");
    let number = |name: &str| answer[name].as_u64().expect("a number");
    [number("in_msgs") + number("out_msgs"), number("in_bytes") + number("out_bytes")]
}

/// A server that is killed may not have written yet that they are gone.
#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_have_left_do_not_come_back_with_a_server_that_was_killed() {
    let mut server = nats("");
    let log = open_log(&format!("nats://127.0.0.1:{}?lease=10m&timeout=2s", server.port), 1_000).await;
    let (registry, node) = (log.registry().expect("a registry"), NodeId::new(1));
    registry.renew(node).await.expect("renew");
    let facts = |numbers: std::ops::Range<u128>, active| {
        numbers.map(|number| fact(number, active)).collect::<Vec<_>>()
    };
    registry.record(node, &facts(0..100, true)).await.expect("record");
    registry.record(node, &facts(0..90, false)).await.expect("record");
    for _ in 0..2 {
        server.kill();
        server.restart();
        let mut wait = Wait::new("the node has looked at the registry");
        while registry.abandoned(10).await.is_err() {
            wait.goes_on().await;
        }
        assert_eq!(registry.list(None).await.expect("list").len(), 10, "those that have not left");
    }
}

/// A node that left subscribers behind is found from the leases alone.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_others_have_seen_alive_or_not_are_found_when_they_are_gone() {
    let server = nats("");
    let url = format!("nats://127.0.0.1:{}?lease=2s", server.port);
    let (log, other) = (open_log(&url, 100).await, open_log(&url, 100).await);
    let (registry, others) = (log.registry().expect("one"), other.registry().expect("one"));
    assert!(registry.abandoned(10).await.expect("abandoned").is_empty(), "everything has been looked at");
    // A node that comes and resigns its lease between two looks.
    let short = NodeId::new(1);
    others.renew(short).await.expect("renew");
    others.record(short, &[fact(1, true)]).await.expect("record");
    others.resign(short).await.expect("resign");
    assert_eq!(registry.abandoned(10).await.expect("abandoned").len(), 1);
    registry.expire(short, &[fact(1, false)]).await.expect("expire");
    assert!(registry.abandoned(10).await.expect("abandoned").is_empty());
    // A node that dies.
    let dies = NodeId::new(2);
    others.renew(dies).await.expect("renew");
    others.record(dies, &[fact(2, true)]).await.expect("record");
    assert!(registry.abandoned(10).await.expect("abandoned").is_empty());
    let mut wait = Wait::new("its lease ends");
    while registry.abandoned(10).await.expect("abandoned").is_empty() {
        wait.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_is_larger_than_the_server_takes_is_refused() {
    let server = nats("max_payload: 10000");
    let log = open_log(&url(&server), 10).await;
    let error = log.append(sized("a", 20_000)).await.expect_err("too large");
    assert!(matches!(error, TransportError::Full(_)), "{error:?}");
    assert!(log.is_ready(), "others fit");
    append(&*log, "b").await;
}

/// Three servers on loopback, of which each may be killed.
fn cluster() -> Vec<Server> {
    let ports: Vec<_> = (0..3).map(|_| Port::hold()).collect();
    let routes: Vec<_> =
        ports.iter().map(|port| format!("\"nats-route://127.0.0.1:{}\"", port.number())).collect();
    let routes = routes.join(", ");
    let start = |held: Port| {
        let routes = routes.clone();
        Server::start(move |directory, client| {
            let port = held.number();
            let store = directory.join("store");
            let text = format!(
                "server_name: n{port}\njetstream {{ store_dir: {store:?} }}\n\
                 cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
            );
            command(directory, client, &text)
        })
    };
    ports.into_iter().map(start).collect()
}

async fn open_when_ready(url: &str) -> Arc<dyn Transport> {
    let mut wait = Wait::new("the cluster has a leader");
    loop {
        if let Ok(log) = try_open(url, 1_000).await {
            return log;
        }
        wait.goes_on().await;
    }
}

/// The time-out is for a busy machine, on which a leader is chosen slowly.
#[tokio::test(flavor = "multi_thread")]
async fn conformance_in_a_cluster() {
    let servers = cluster();
    let servers = Nats(servers);
    drop(open_when_ready(&servers.url("replicas=3")).await);
    Logs::new(servers, "&replicas=3&timeout=10s").conform().await;
}

/// Two nodes that replace the same record at once do not meet each time.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_cluster_agree_whether_a_subscriber_stands_or_departs() {
    let servers = Nats(cluster());
    drop(open_when_ready(&servers.url("replicas=3")).await);
    let logs = Logs::new(servers, "&replicas=3&timeout=10s");
    let name = "a node comes back while others expire it";
    let (_, check) = CHECKS.iter().find(|(each, _)| *each == name).expect("it is on the list");
    for _ in 0..MEETINGS {
        check(&logs).await;
    }
}

const MEETINGS: usize = 10;

/// As while a cluster chooses a leader for a stream: its state is known, and nobody receives its messages. The publisher waits,
/// however often that was found.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_receives_is_sent_again_while_there_is_time() {
    let server = nats("trace: true");
    let url = format!("nats://127.0.0.1:{}?lease=10m&timeout=30s", server.port);
    let log = open_log(&url, 100).await;
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    append(&*log, "before").await;
    registry.renew(node).await.expect("renew");
    let deaf = Deaf { server: &server };
    deaf.during("mercure", "mercure.updates", append(&*log, "after")).await;
    let facts = [fact(1, true), fact(2, true)];
    for (stream, subject, fact) in
        [("mercure", "mercure.events", &facts[0]), ("mercure+subscribers", "mercure.subscribers", &facts[1])]
    {
        let recorded = deaf.during(stream, subject, registry.record(node, std::slice::from_ref(fact))).await;
        assert_eq!(recorded.expect("record"), Lease::Kept);
    }
    let renewed = deaf.during("mercure+leases", "mercure.leases", registry.renew(node)).await;
    assert_eq!(renewed.expect("renew"), Lease::Kept);
    let entries = kept(&*log).await;
    assert_eq!(names(&entries)[..2], ["before", "after"]);
    assert_eq!(entries.len(), 4, "each once");
    assert_eq!(registry.list(None).await.expect("list").len(), 2);
}

/// Makes streams of a server deaf to their own subjects.
struct Deaf<'a> {
    server: &'a Server,
}

impl Deaf<'_> {
    /// Runs `write` against a deaf stream, which hears again when it was written to in vain several times.
    async fn during<T>(&self, stream: &str, subject: &str, write: impl Future<Output = T>) -> T {
        let (info, update) = (format!("STREAM.INFO.{stream}"), format!("STREAM.UPDATE.{stream}"));
        let config = api(self.server, &info, &Value::Null).await["config"].take();
        let mut deaf = config.clone();
        deaf["subjects"] = json!([format!("elsewhere.{subject}")]);
        assert!(api(self.server, &update, &deaf).await["error"].is_null());
        let written = || self.server.count(&format!("[HPUB {subject}"));
        let before = written();
        let hears_again = async {
            until("it is sent again and again", || written() >= before + 3).await;
            assert!(api(self.server, &update, &config).await["error"].is_null());
        };
        tokio::join!(write, hears_again).0
    }
}

/// Leaders step down all the time, of all three streams.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_fails_while_a_cluster_chooses_its_leaders() {
    let servers = Nats(cluster());
    let url = servers.url("replicas=3&lease=10m&timeout=30s");
    let log = open_when_ready(&url).await;
    let node = NodeId::new(1);
    let registry = log.registry().expect("a registry");
    registry.renew(node).await.expect("renew");
    let mut follower = follow(&*log).await;
    let operator = async_nats::connect(format!("127.0.0.1:{}", servers.0[0].port)).await.expect("connect");
    for round in 0..ELECTIONS {
        for stream in ["mercure", "mercure+subscribers", "mercure+leases"] {
            step_down(&operator, stream).await;
        }
        let id = format!("a-{round}");
        append(&*log, &id).await;
        registry.record(node, &[fact(round as u128, true)]).await.expect("record");
        registry.renew(node).await.expect("renew");
        assert_eq!(registry.list(None).await.expect("list").len(), round + 1);
        assert!(registry.abandoned(10).await.expect("abandoned").is_empty());
        assert!(log.locate(&id).await.expect("locate").is_some());
    }
    append(&*log, "end").await;
    let followed = take_to(&mut *follower, "end").await;
    assert_eq!(followed.len(), 2 * ELECTIONS + 1, "nothing twice");
    let updates: Vec<_> = names(&followed).into_iter().filter(|id| id.starts_with("a-")).collect();
    let expected: Vec<_> = (0..ELECTIONS).map(|round| format!("a-{round}")).collect();
    assert_eq!(updates, expected);
}

const ELECTIONS: usize = 20;

/// Has the leader of a stream step down, and waits for its word: it acknowledges nothing that it takes at that moment. There
/// may be no leader just now, so it is asked again.
async fn step_down(operator: &async_nats::Client, stream: &str) {
    let mut wait = Wait::new("a leader steps down");
    let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
    let ask = || async_nats::Request::new().timeout(Some(Duration::from_secs(1)));
    while operator.send_request(subject.clone(), ask()).await.is_err() {
        wait.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_its_leader() {
    let servers = Nats(cluster());
    let url = servers.url("replicas=3&lease=2m&timeout=2s");
    let Nats(mut servers) = servers;
    let (one, other) = (open_when_ready(&url).await, open_when_ready(&url).await);
    let mut followers = [follow(&*one).await, follow(&*other).await];
    let registry = one.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    for number in 0..100 {
        append_again(&*one, &format!("before-{number}")).await;
    }
    let info = api(&servers[0], "STREAM.INFO.mercure", &Value::Null).await;
    let leader = info["cluster"]["leader"].as_str().expect("a leader").to_owned();
    let is_leader = |server: &Server| {
        let file = std::fs::read_to_string(server.directory().join("nats.conf")).expect("a configuration");
        file.contains(&format!("server_name: {leader}\n"))
    };
    let at = servers.iter().position(is_leader).expect("the leader");
    servers[at].kill();
    for number in 0..100 {
        append_again(&*other, &format!("after-{number}")).await;
    }
    append_again(&*one, "end").await;
    let mut expected: Vec<_> = (0..100).map(|number| format!("before-{number}")).collect();
    expected.extend((0..100).map(|number| format!("after-{number}")));
    expected.push("end".to_owned());
    let mut seen = Vec::new();
    for follower in &mut followers {
        let followed = take_to(&mut **follower, "end").await;
        // An append whose answer was lost has been repeated.
        let mut ids: Vec<_> = names(&followed).into_iter().map(str::to_owned).collect();
        ids.dedup();
        assert_eq!(ids, expected);
        seen.push(followed.iter().map(|entry| entry.position).collect::<Vec<_>>());
    }
    assert_eq!(seen[0], seen[1]);
    until("it is known to be back", || one.is_ready() && other.is_ready()).await;
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Kept);
    servers[at].restart();
    append_again(&*one, "all are back").await;
}
