//! Answers that do not come, and data that is not the log's.

use std::time::{Duration, Instant};

use petasos_hub::{
    TransportError,
    registry::{Lease, NodeId},
    transport::Position,
};

use crate::{proxy::Proxy, store::*};

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_whose_answer_is_lost_is_an_error() {
    let server = durable();
    let proxy = Proxy::start(server.port).await;
    let url = format!("redis://127.0.0.1:{}?timeout=1s", proxy.port);
    let log = try_open(&url, 10).await.expect("open");
    let registry = log.registry().expect("a registry");
    // The server has the script from now on.
    registry.renew(NodeId::new(2)).await.expect("renew");
    let node = NodeId::new(1);
    proxy.lose_answer_to(&node.to_string());
    let lost = registry.renew(node).await;
    assert!(proxy.is_done());
    assert!(matches!(lost, Err(TransportError::Unavailable(_))), "\"kept\" would hide the end: {lost:?}");
    // The node asks again, on another connection.
    let mut wait = Wait::new("it is renewed");
    while registry.renew(node).await.is_err() {
        wait.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn facts_whose_answer_is_lost_are_told_once() {
    let server = durable();
    let proxy = Proxy::start(server.port).await;
    let log = try_open(&format!("redis://127.0.0.1:{}", proxy.port), 10).await.expect("open");
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let facts = [fact(2, true), fact(3, true), fact(2, false), fact(1, false)];
    for lost in [&facts[0], &facts[2], &facts[3]] {
        let first = [fact(1, true), fact(2, false), fact(3, false)];
        registry.record(node, &first).await.expect("record");
        let begin = log.head().await.expect("head").position;
        proxy.lose_answer_to(lost.events[0].id().as_str());
        assert_eq!(registry.record(node, &facts).await.expect("record"), Lease::Kept);
        assert!(proxy.is_done());
        let page = log.read(begin, 10).await.expect("read");
        let expected: Vec<_> = facts.iter().map(|fact| fact.events[0].id().as_str()).collect();
        assert_eq!(ids(&page.entries), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_not_appended_again_when_replicas_cannot_be_asked() {
    let server = durable();
    let proxy = Proxy::start(server.port).await;
    let url = format!("redis://127.0.0.1:{}?replicas=1&timeout=1s", proxy.port);
    let log = try_open(&url, 10).await.expect("open");
    let mut expected = Vec::new();
    for code in ["BUSY", "LOADING", "OOM"] {
        proxy.refuse("WAIT", &format!("{code} not now"));
        let unconfirmed = try_append(&*log, code).await;
        assert!(proxy.is_done());
        let Err(TransportError::Unavailable(reason)) = unconfirmed else { panic!("{unconfirmed:?}") };
        assert!(reason.to_string().contains("not now"), "{reason}");
        expected.push(code);
        let page = log.read(Position::EARLIEST, 10).await.expect("read");
        assert_eq!(ids(&page.entries), expected);
    }
}

/// On one thread, whose log is listened to.
#[tokio::test]
async fn damaged_subscribers_do_not_keep_others_from_being_expired() {
    const DAMAGED: usize = 200;
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let server = durable();
    let log = open_at(&server, "").await;
    let registry = log.registry().expect("a registry");
    for (node, numbers) in [(1, 0..100), (2, 100..300), (3, 300..310)] {
        let node = NodeId::new(node);
        registry.renew(node).await.expect("renew");
        let facts: Vec<_> = numbers.map(|number| fact(number, true)).collect();
        registry.record(node, &facts).await.expect("record");
        registry.resign(node).await.expect("resign");
    }
    // The last two are readable, but one is of somebody else and one of another node.
    let script = "local owned = redis.call('ZRANGE', '{mercure}:owners', 0, ARGV[1] - 1) \
                  local function record(at) \
                    local known = redis.call('HGET', '{mercure}:subscribers', string.sub(owned[at], 34)) \
                    return string.sub(known, 33) \
                  end \
                  local other, own = record(1), record(#owned - 1) \
                  for at, each in ipairs(owned) do \
                    local damaged = string.sub(each, 1, 32) .. 'nonsense' \
                    if at == #owned then damaged = string.sub(each, 1, 32) .. other end \
                    if at == #owned - 1 then damaged = string.sub(owned[1], 1, 32) .. own end \
                    redis.call('HSET', '{mercure}:subscribers', string.sub(each, 34), damaged) \
                  end \
                  return #owned";
    assert_eq!(cli(&server, &["EVAL", script, "0", &DAMAGED.to_string()]), DAMAGED.to_string());
    let page = registry.abandoned(50).await.expect("abandoned");
    let who: Vec<_> = page.iter().map(|each| each.subscriptions[0].subscriber).collect();
    assert_eq!(who, (200..250).map(|number| fact(number, true).subscriber).collect::<Vec<_>>());
    assert!(page.iter().all(|each| each.node == NodeId::new(2)));
    for _ in 0..2 {
        assert_eq!(registry.abandoned(500).await.expect("abandoned").len(), 110);
        assert_eq!(
            registry.list(None).await.expect("list").len(),
            111,
            "the record of another node can be read"
        );
    }
    assert_eq!(lines.count("record of a subscriber"), DAMAGED, "each once");
    for (node, numbers) in [(2, 200..300), (3, 300..310)] {
        let departures: Vec<_> = numbers.map(|number| fact(number, false)).collect();
        registry.expire(NodeId::new(node), &departures).await.expect("expire");
    }
    assert!(registry.abandoned(1).await.expect("abandoned").is_empty());
    assert_eq!(cli(&server, &["HLEN", "{mercure}:subscribers"]), DAMAGED.to_string(), "they are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full_is_not_ready_until_it_has_room() {
    let disk = std::sync::Arc::new(Disk::build());
    let server = Server::start({
        let disk = std::sync::Arc::clone(&disk);
        move |directory, port| {
            let mut command = redis(directory, port);
            disk.give(&mut command, directory);
            command
        }
    });
    let log = open_at(&server, "&timeout=1s").await;
    append(&*log, "before").await;
    disk.order("full 0");
    // The server finds out when it has acknowledged one.
    while try_append(&*log, "full").await.is_ok() {}
    assert!(!log.is_ready() && log.is_readable());
    disk.order("");
    until("it is ready by itself", || log.is_ready()).await;
    append(&*log, "after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_living_nodes_hide_no_dead_one() {
    let server = durable();
    let log = try_open(&format!("redis://127.0.0.1:{}?lease=1m", server.port), 10).await.expect("open");
    let registry = log.registry().expect("a registry");
    for node in 1..=600 {
        registry.renew(NodeId::new(node)).await.expect("renew");
        registry.record(NodeId::new(node), &[fact(node, true)]).await.expect("record");
    }
    registry.resign(NodeId::new(600)).await.expect("resign");
    let abandoned = registry.abandoned(10).await.expect("abandoned");
    assert_eq!(abandoned.iter().map(|each| each.node).collect::<Vec<_>>(), [NodeId::new(600)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_beyond_the_log_neither_shows_nor_keeps_followers_busy() {
    let server = durable();
    let log = open_at(&server, "").await;
    let mut follower = follow(&*log).await;
    append(&*log, "before").await;
    assert_eq!(ids(&next(&mut *follower).await), ["before"]);
    // One that can be read, as after a restore of a part.
    let script = "local entry = redis.call('XRANGE', '{mercure}:updates', '-', '+')[1] \
                  redis.call('XADD', '{mercure}:updates', '*', unpack(entry[2])) \
                  return redis.call('XLEN', '{mercure}:updates')";
    assert_eq!(cli(&server, &["EVAL", script, "0"]), "2");
    let calls = |server: &Server| {
        let statistics = cli(server, &["INFO", "commandstats"]);
        let of = |name: &str| {
            let line =
                statistics.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
            line.and_then(|line| line.split(',').next()?.parse::<u64>().ok()).unwrap_or_default()
        };
        of("xread") + of("evalsha")
    };
    // Two calls for each look, and a pause of 100 ms between two looks: a slow machine makes it longer only.
    let (before, began) = (calls(&server), Instant::now());
    until("the follower looks again", || calls(&server) >= before + 20).await;
    assert!(began.elapsed() > Duration::from_millis(500), "20 calls within {:?}", began.elapsed());
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!((ids(&page.entries), page.at_end), (vec!["before".to_owned()], true));
    // Until the log begins anew, which the next update does, events come all the same.
    let event = arrival().events.remove(0);
    log.append(event.clone()).await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), [event.id().as_str()]);
    append(&*log, "after").await;
    ends_with_trimmed(&mut *follower).await;
}
