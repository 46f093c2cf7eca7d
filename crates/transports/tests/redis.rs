//! The log in Redis against real servers.

#![cfg(feature = "redis")]

#[path = "redis/faults.rs"]
mod faults;
#[path = "faults/mod.rs"]
mod faults_of_disks;
#[path = "redis/kit.rs"]
mod kit;
#[path = "redis/proxy.rs"]
mod proxy;
mod support;
#[path = "redis/topologies.rs"]
mod topologies;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    conformance::{CHECKS, Subject},
    registry::{Lease, NodeId},
    transport::{Position, Transport},
};
use petasos_transports::OpenError;

use self::{kit::*, proxy::Proxy, support::Server};

struct Redis {
    server: Server,
    count: AtomicUsize,
    last: Mutex<Option<(String, usize)>>,
}

#[async_trait]
impl Subject for Redis {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let url = format!("redis://127.0.0.1:{}?name=log{number}&lease=2s", self.server.port);
        *self.last.lock().expect("lock") = Some((url.clone(), history_max));
        open_with(&url, history_max).await.expect("open")
    }

    async fn peer(&self) -> Option<Arc<dyn Transport>> {
        let (url, history_max) = self.last.lock().expect("lock").clone().expect("a log");
        Some(open_with(&url, history_max).await.expect("open"))
    }

    async fn pause(&self) -> bool {
        self.server.pause();
        true
    }

    async fn resume(&self) {
        self.server.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_what_every_transport_guarantees() {
    let subject = Redis { server: durable(), count: AtomicUsize::new(0), last: Mutex::new(None) };
    for (name, check) in CHECKS {
        eprintln!("{name}");
        check(&subject).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_server_loses_and_repeats_nothing() {
    let mut server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    let first = append(&*log, "0").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["0"]);
    server.stop();
    let unreachable = append(&*log, "lost").await;
    assert!(matches!(unreachable, Err(TransportError::Unavailable(_))), "{unreachable:?}");
    until("the server is known to be away", || !log.is_ready()).await;
    server.restart();
    // Without anything being published.
    until("the server is known to be back", || log.is_ready()).await;
    for number in 1..100 {
        append(&*log, &number.to_string()).await.expect("append");
    }
    let expected: Vec<_> = (1..100).map(|number| number.to_string()).collect();
    assert_eq!(ids(&take(&mut *follower, 99).await), expected);
    assert_eq!(log.locate("0").await.expect("locate"), Some(first), "the same log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_what_it_has_acknowledged() {
    // With "everysec", Redis answers before it has written when the disk is busy.
    let mut server = Server::start(|directory, port| {
        let mut command = redis(directory, port);
        command.args(["--appendfsync", "always"]);
        command
    });
    let log = open_at(&server, "&timeout=2s").await;
    let mut follower = follow(&*log).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let appenders: Vec<_> = (0..8)
        .map(|appender| {
            let (log, is_over) = (Arc::clone(&log), Arc::clone(&is_over));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("{appender}-{number}");
                    if let Ok(position) = append(&*log, &id).await {
                        acknowledged.push((position, id));
                    }
                }
                acknowledged
            })
        })
        .collect();
    let followed = tokio::spawn(async move {
        let mut followed = Vec::new();
        while followed.last().is_none_or(|(_, id)| id != "last") {
            let entries = next(&mut *follower).await;
            followed
                .extend(entries.iter().map(|entry| (entry.position, entry.update.id().as_str().to_owned())));
        }
        followed
    });
    for _ in 0..5 {
        // In the middle of what is being appended.
        let head = log.head().await.expect("head").position.sequence;
        while log.head().await.expect("head").position.sequence < head + 500 {}
        server.kill();
        until("the server is known to be away", || !log.is_ready()).await;
        server.restart();
        until("the server is known to be back", || log.is_ready()).await;
    }
    is_over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for appender in appenders {
        acknowledged.extend(appender.await.expect("appender"));
    }
    append(&*log, "last").await.expect("append");
    let followed = followed.await.expect("follower");
    let dense = followed.windows(2).all(|pair| pair[0].0.sequence + 1 == pair[1].0.sequence);
    assert!(dense, "nothing twice, nothing left out");
    assert!(acknowledged.len() >= 2_000, "{}", acknowledged.len());
    let followed: HashSet<_> = followed.into_iter().collect();
    for entry in &acknowledged {
        assert!(followed.contains(entry), "{entry:?} was acknowledged");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgets_everything_begins_a_new_log() {
    let mut server = Server::start(forgetful);
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    let before = append(&*log, "before").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["before"]);
    server.kill();
    server.restart();
    lost_and_found(&*log, follower, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_begins_a_new_log() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    let before = append(&*log, "before").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["before"]);
    cli(&server, &["FLUSHALL"]);
    lost_and_found(&*log, follower, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_a_part_is_gone_begins_anew() {
    let server = durable();
    for part in ["log", "updates", "events", "ids", "subscribers", "order", "owners"] {
        let log = open_at(&server, &format!("&name={part}")).await;
        let node = NodeId::new(1);
        let registry = log.registry().expect("a registry");
        registry.renew(node).await.expect("renew");
        registry.record(node, &[arrival()]).await.expect("record");
        let mut follower = follow(&*log).await;
        let before = append(&*log, "before").await.expect("append");
        assert_eq!(ids(&next(&mut *follower).await), ["before"]);
        // As an eviction does it.
        assert_eq!(cli(&server, &["DEL", &format!("{{{part}}}:{part}")]), "1");
        lost_and_found(&*log, follower, before).await;
        assert_eq!(registry.renew(node).await.expect("renew"), Lease::Ended, "it records all anew");
        assert!(registry.list(None).await.expect("list").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_something_else_writes_to_begins_anew() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    let before = append(&*log, "before").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["before"]);
    cli(&server, &["XADD", "{mercure}:updates", "*", "a", "b"]);
    let after = append(&*log, "after").await.expect("append");
    assert!(after.epoch > before.epoch);
    ends_with_trimmed(&mut *follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_left_out() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    append(&*log, "1").await.expect("append");
    // What the script does, with a record that nobody can read.
    let script = "redis.call('XADD', '{mercure}:updates', '2-0', 'id', '2', 'record', 'nonsense') \
                  redis.call('ZADD', '{mercure}:ids', 0, '2\\2550000000000000002') \
                  redis.call('HSET', '{mercure}:log', 'sequence', 2, 'updates', 2, 'id', '2')";
    cli(&server, &["EVAL", script, "0"]);
    let third = append(&*log, "3").await.expect("append");
    assert_eq!(third.sequence, 3);
    assert_eq!(ids(&take(&mut *follower, 2).await), ["1", "3"]);
    let page = log.read(Position::EARLIEST, 1).await.expect("read");
    assert_eq!(ids(&page.entries), ["1"]);
    let page = log.read(page.through, 1).await.expect("read");
    assert_eq!((ids(&page.entries), page.at_end), (vec!["3".to_owned()], true));
    assert_eq!(cli(&server, &["XLEN", "{mercure}:updates"]), "3", "it is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_fails_appends_in_time_and_goes_on() {
    let server = durable();
    let proxy = Proxy::start(server.port).await;
    let log = open_with(&format!("redis://127.0.0.1:{}?timeout=1s", proxy.port), 1_000).await.expect("open");
    let mut follower = follow(&*log).await;
    append(&*log, "before").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["before"]);
    server.pause();
    let connections = proxy.connections();
    let paused = append(&*log, "paused").await;
    assert!(matches!(paused, Err(TransportError::Unavailable(_))), "{paused:?}");
    until("the server is known to be away", || !log.is_ready()).await;
    assert!(matches!(log.head().await, Err(TransportError::Unavailable(_))));
    assert!(matches!(log.locate("before").await, Err(TransportError::Unavailable(_))));
    assert!(matches!(log.registry().expect("one").list(None).await, Err(TransportError::Unavailable(_))));
    until("the connections are given up", || proxy.connections().is_disjoint(&connections)).await;
    server.resume();
    until("the server is known to be back", || log.is_ready()).await;
    append(&*log, "after").await.expect("append");
    // What was paused may have been appended.
    let mut followed = Vec::new();
    while followed.last().is_none_or(|id| id != "after") {
        followed.extend(ids(&next(&mut *follower).await));
    }
    followed.retain(|id| id != "paused");
    assert_eq!(followed, ["after"]);
}

/// On one thread, whose log is listened to.
#[tokio::test]
async fn what_happens_is_told_once() {
    let told = Told::default();
    let _guard = tracing::subscriber::set_default(told.clone());
    let mut server = Server::start(|directory, port| {
        let mut command = forgetful(directory, port);
        command.args(["--requirepass", "secret"]);
        command
    });
    let url = format!("redis://:secret@127.0.0.1:{}?timeout=1s", server.port);
    let log = open_with(&url, 10).await.expect("open");
    assert_eq!(told.count("no append-only file"), 1);
    let mut follower = follow(&*log).await;
    append(&*log, "payload").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["payload"]);
    server.kill();
    for _ in 0..3 {
        append(&*log, "lost").await.expect_err("it is not there");
        log.head().await.expect_err("it is not there");
    }
    assert!(!log.is_ready());
    server.restart();
    until("the server is known to be back", || log.is_ready()).await;
    ends_with_trimmed(&mut *follower).await;
    for part in [
        "Redis is unavailable",
        "Redis is available again",
        "was lost, or has lost entries",
        "that was followed was lost",
    ] {
        assert_eq!(told.count(part), 1, "{part}: {told:?}");
    }
    assert_eq!(told.count("secret") + told.count("payload"), 0, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_updates_and_is_read() {
    let server = durable();
    let log = open_at(&server, "").await;
    append(&*log, "before").await.expect("append");
    cli(&server, &["CONFIG", "SET", "maxmemory", "1mb"]);
    let full = append(&*log, "full").await;
    assert!(matches!(full, Err(TransportError::Full(_))), "{full:?}");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!(ids(&page.entries), ["before"]);
    let other = open_at(&server, "").await;
    assert!(other.locate("before").await.expect("locate").is_some());
    assert!(!log.is_ready() && log.is_readable());
    cli(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    // Nobody publishes to a node that is not ready.
    until("it is ready by itself", || log.is_ready()).await;
    append(&*log, "after").await.expect("append");
    assert!(log.locate("full").await.expect("locate").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_at_open_say_what_to_do() {
    let server = durable();
    cli(&server, &["ACL", "SETUSER", "reader", "on", ">pass", "~*", "+@read", "+eval", "+evalsha"]);
    cli(&server, &["ACL", "SETUSER", "elsewhere", "on", ">pass", "~other*", "+@all"]);
    cli(&server, &["SET", "{taken}:log", "a string"]);
    cli(&server, &["HSET", "{later}:log", "format", "2", "epoch", "1"]);
    for (user, parameters, part) in [
        ("reader:wrong@", "", "before the \"@\""),
        ("reader:pass@", "", "may not do what the log needs"),
        ("elsewhere:pass@", "", "may not do what the log needs"),
        ("", "?name=taken", "?name="),
        ("", "?name=later", "later version"),
    ] {
        let url = format!("redis://{user}127.0.0.1:{}{parameters}", server.port);
        let text = match open_with(&url, 10).await {
            Err(OpenError::Refused(text)) => text,
            Err(error) => panic!("{url}: {error:?}"),
            Ok(_) => panic!("{url} opens"),
        };
        assert!(text.contains(part), "{url}: {text}");
        assert!(!text.contains("pass@") && !text.contains("wrong"), "{text}");
    }
    let url = format!("redis://127.0.0.1:{}/99", server.port);
    let error = open_with(&url, 10).await.err().expect("no such database").to_string();
    assert!(error.contains("number"), "{error}");
    // The user of the documentation.
    cli(&server, &[&["ACL", "SETUSER", "petasos", "on", ">pass", "~{mercure}:*"][..], &PERMISSIONS].concat());
    let log = open_with(&format!("redis://petasos:pass@127.0.0.1:{}", server.port), 10).await.expect("open");
    let mut follower = follow(&*log).await;
    append(&*log, "1").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["1"]);
    let registry = log.registry().expect("a registry");
    registry.renew(NodeId::new(1)).await.expect("renew");
    registry.record(NodeId::new(1), &[arrival()]).await.expect("record");
    assert_eq!(registry.list(None).await.expect("list").len(), 1);
    cli(&server, &["CONFIG", "SET", "requirepass", "pass"]);
    let url = format!("redis://127.0.0.1:{}", server.port);
    let error = open_with(&url, 10).await.err().expect("no password").to_string();
    assert!(error.contains("asks for a password"), "{error}");
}

/// As in the documentation.
const PERMISSIONS: [&str; 25] = [
    "+ping",
    "+info",
    "+role",
    "+wait",
    "+evalsha",
    "+script|load",
    "+config|get",
    "+time",
    "+del",
    "+xadd",
    "+xlen",
    "+xrange",
    "+xread",
    "+xtrim",
    "+hset",
    "+hget",
    "+hmget",
    "+hgetall",
    "+hlen",
    "+hdel",
    "+zadd",
    "+zrem",
    "+zcard",
    "+zrangebylex",
    "+zrangebyscore",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_that_was_lowered_holds_at_once() {
    let server = durable();
    let url = format!("redis://127.0.0.1:{}", server.port);
    let log = open_with(&url, 10_000).await.expect("open");
    for number in 0..5_000 {
        append(&*log, &number.to_string()).await.expect("append");
    }
    let log = open_with(&url, 3).await.expect("open");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!(ids(&page.entries), ["4997", "4998", "4999"]);
    assert!(log.locate("4996").await.expect("locate").is_none());
    let log = open_with(&url, 0).await.expect("open");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert!(page.entries.is_empty() && page.at_end);
    assert_eq!(log.head().await.expect("head").id.expect("an id").as_str(), "4999");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_far_behind_is_told_so() {
    let server = durable();
    let url = format!("redis://127.0.0.1:{}", server.port);
    let (log, other) = (open_with(&url, 10).await.expect("open"), open_with(&url, 10).await.expect("open"));
    let mut follower = follow(&*log).await;
    // Nobody waits for the followers of other nodes. What is trimmed goes in blocks, so that it may lag behind.
    let appenders: Vec<_> = (0..64)
        .map(|appender| {
            let other = Arc::clone(&other);
            tokio::spawn(async move {
                for number in 0..400 {
                    append(&*other, &format!("{appender}-{number}")).await.expect("append");
                }
            })
        })
        .collect();
    for appender in appenders {
        appender.await.expect("appender");
    }
    let kept: usize = cli(&server, &["XLEN", "{mercure}:updates"]).parse().expect("a number");
    assert!((16_384..18_000).contains(&kept), "{kept} of 25,600 are still there");
    ends_with_trimmed(&mut *follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_updates_come_in_small_pages() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    let data = "x".repeat(300_000);
    let mut expected = Vec::new();
    for number in 0..20 {
        let update = update(&number.to_string(), &data);
        tokio::time::timeout(PATIENCE, log.append(update)).await.expect("in time").expect("append");
        expected.push(number.to_string());
        // They come from another stream, in which there is room for more of them.
        for event in arrival().events {
            log.append(event.clone()).await.expect("append");
            expected.push(event.id().as_str().to_owned());
        }
    }
    let page = log.read(Position::EARLIEST, 100).await.expect("read");
    assert!((2..=8).contains(&page.entries.len()) && !page.at_end, "{}", page.entries.len());
    let mut read = Vec::new();
    let mut after = Position::EARLIEST;
    while read.len() < 40 {
        let page = log.read(after, 100).await.expect("read");
        after = page.through;
        assert!(!page.entries.is_empty());
        read.extend(ids(&page.entries));
        assert_eq!(page.at_end, read.len() == 40);
    }
    assert_eq!(read, expected);
    assert_eq!(ids(&take(&mut *follower, 40).await), expected);
}
