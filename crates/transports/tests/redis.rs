//! The log in Redis against real servers.

#![cfg(feature = "redis")]

#[path = "redis/faults.rs"]
mod faults;
mod kit;
#[path = "redis/proxy.rs"]
mod proxy;
#[path = "redis/kit.rs"]
mod store;
#[path = "redis/topologies.rs"]
mod topologies;

use petasos_hub::{
    TransportError,
    registry::{Lease, NodeId},
    transport::Position,
};
use petasos_transports::OpenError;

use self::{proxy::Proxy, store::*};

kit::stories::stories!(Redis);

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_begins_a_new_log() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    let before = append(&*log, "before").await;
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
        let before = append(&*log, "before").await;
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
    let before = append(&*log, "before").await;
    assert_eq!(ids(&next(&mut *follower).await), ["before"]);
    cli(&server, &["XADD", "{mercure}:updates", "*", "a", "b"]);
    let after = append(&*log, "after").await;
    assert!(after.epoch > before.epoch);
    ends_with_trimmed(&mut *follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_left_out() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    append(&*log, "1").await;
    // What the script does, with a record that nobody can read.
    let script = "redis.call('XADD', '{mercure}:updates', '2-0', 'id', '2', 'record', 'nonsense') \
                  redis.call('ZADD', '{mercure}:ids', 0, '2\\2550000000000000002') \
                  redis.call('HSET', '{mercure}:log', 'sequence', 2, 'updates', 2, 'id', '2')";
    cli(&server, &["EVAL", script, "0"]);
    let third = append(&*log, "3").await;
    assert_eq!(third.sequence, 3);
    assert_eq!(ids(&take(&mut *follower, 2).await), ["1", "3"]);
    let page = log.read(Position::EARLIEST, 1).await.expect("read");
    assert_eq!(ids(&page.entries), ["1"]);
    let page = log.read(page.through, 1).await.expect("read");
    assert_eq!((ids(&page.entries), page.at_end), (vec!["3".to_owned()], true));
    assert_eq!(cli(&server, &["XLEN", "{mercure}:updates"]), "3", "it is still there");
}

/// On one thread, whose log is listened to.
#[tokio::test]
async fn what_happens_is_told_once() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let mut server = Server::start(|directory, port| {
        let mut command = forgetful(directory, port);
        command.args(["--requirepass", "secret"]);
        command
    });
    let url = format!("redis://:secret@127.0.0.1:{}?timeout=1s", server.port);
    let log = try_open(&url, 10).await.expect("open");
    assert_eq!(lines.count("no append-only file"), 1);
    let mut follower = follow(&*log).await;
    append(&*log, "payload").await;
    assert_eq!(ids(&next(&mut *follower).await), ["payload"]);
    server.kill();
    for _ in 0..3 {
        try_append(&*log, "lost").await.expect_err("it is not there");
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
        assert_eq!(lines.count(part), 1, "{part}: {lines:?}");
    }
    assert_eq!(lines.count("secret") + lines.count("payload"), 0, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_updates_and_is_read() {
    let server = durable();
    let log = open_at(&server, "").await;
    append(&*log, "before").await;
    cli(&server, &["CONFIG", "SET", "maxmemory", "1mb"]);
    let full = try_append(&*log, "full").await;
    assert!(matches!(full, Err(TransportError::Full(_))), "{full:?}");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!(ids(&page.entries), ["before"]);
    let other = open_at(&server, "").await;
    assert!(other.locate("before").await.expect("locate").is_some());
    assert!(!log.is_ready() && log.is_readable());
    cli(&server, &["CONFIG", "SET", "maxmemory", "0"]);
    // Nobody publishes to a node that is not ready.
    until("it is ready by itself", || log.is_ready()).await;
    append(&*log, "after").await;
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
        let text = match try_open(&url, 10).await {
            Err(OpenError::Refused(text)) => text,
            Err(error) => panic!("{url}: {error:?}"),
            Ok(_) => panic!("{url} opens"),
        };
        assert!(text.contains(part), "{url}: {text}");
        assert!(!text.contains("pass@") && !text.contains("wrong"), "{text}");
    }
    let url = format!("redis://127.0.0.1:{}/99", server.port);
    let error = try_open(&url, 10).await.err().expect("no such database").to_string();
    assert!(error.contains("number"), "{error}");
    // The user of the documentation.
    cli(&server, &[&["ACL", "SETUSER", "petasos", "on", ">pass", "~{mercure}:*"][..], &PERMISSIONS].concat());
    let log = try_open(&format!("redis://petasos:pass@127.0.0.1:{}", server.port), 10).await.expect("open");
    let mut follower = follow(&*log).await;
    append(&*log, "1").await;
    assert_eq!(ids(&next(&mut *follower).await), ["1"]);
    let registry = log.registry().expect("a registry");
    registry.renew(NodeId::new(1)).await.expect("renew");
    registry.record(NodeId::new(1), &[arrival()]).await.expect("record");
    assert_eq!(registry.list(None).await.expect("list").len(), 1);
    cli(&server, &["CONFIG", "SET", "requirepass", "pass"]);
    let url = format!("redis://127.0.0.1:{}", server.port);
    let error = try_open(&url, 10).await.err().expect("no password").to_string();
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
    let log = try_open(&url, 10_000).await.expect("open");
    for number in 0..5_000 {
        append(&*log, &number.to_string()).await;
    }
    let log = try_open(&url, 3).await.expect("open");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!(ids(&page.entries), ["4997", "4998", "4999"]);
    assert!(log.locate("4996").await.expect("locate").is_none());
    let log = try_open(&url, 0).await.expect("open");
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert!(page.entries.is_empty() && page.at_end);
    assert_eq!(log.head().await.expect("head").id.expect("an id").as_str(), "4999");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_to_a_paused_server_are_given_up() {
    let server = durable();
    let proxy = Proxy::start(server.port).await;
    let log = open_log(&format!("redis://127.0.0.1:{}?timeout=1s", proxy.port), 1_000).await;
    append(&*log, "before").await;
    server.pause();
    let connections = proxy.connections();
    let paused = try_append(&*log, "paused").await;
    assert!(matches!(paused, Err(TransportError::Unavailable(_))), "{paused:?}");
    until("the connections are given up", || proxy.connections().is_disjoint(&connections)).await;
    server.resume();
    until("it is ready by itself", || log.is_ready()).await;
    append(&*log, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_kept_for_followers_that_lag_up_to_a_bound() {
    let server = durable();
    let log = open_log(&format!("redis://127.0.0.1:{}", server.port), 10).await;
    append_many(&log, "many", 25_600).await;
    // Trimming goes in blocks, so that it may lag behind.
    let kept: usize = cli(&server, &["XLEN", "{mercure}:updates"]).parse().expect("a number");
    assert!((16_384..18_000).contains(&kept), "{kept} of 25,600 are still there");
}
