//! More than one server, and TLS.

use std::{process::Command, sync::Arc};

use petasos_hub::{
    TransportError,
    registry::{Lease, NodeId},
};

use crate::{kit::Port, kit::certificate, store::*};

#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_a_certificate_that_is_trusted() {
    let server = Server::start(|directory, port| {
        if !directory.join("key.pem").exists() {
            certificate::make(directory, false);
        }
        let mut command = redis(directory, 0);
        command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", "no"]);
        for (option, file) in [
            ("--tls-cert-file", "cert.pem"),
            ("--tls-key-file", "key.pem"),
            ("--tls-ca-cert-file", "cert.pem"),
        ] {
            command.arg(option).arg(directory.join(file));
        }
        command
    });
    let certificate = server.directory().join("cert.pem");
    let url = format!("rediss://localhost:{}?ca={}", server.port, certificate.display());
    let log = try_open(&url, 10).await.expect("open");
    let mut follower = follow(&*log).await;
    append(&*log, "1").await;
    assert_eq!(ids(&next(&mut *follower).await), ["1"]);
    let plain = durable();
    for (url, part) in [
        (format!("rediss://localhost:{}?timeout=2s", server.port), "?ca="),
        (format!("redis://localhost:{}?timeout=2s", server.port), "localhost"),
        (format!("rediss://localhost:{}?timeout=2s", plain.port), "localhost"),
    ] {
        let error = try_open(&url, 10).await.err().expect("refused").to_string();
        assert!(error.contains(part), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_asked_which_of_its_nodes_has_the_log() {
    let start = |bus: u16| {
        Server::start(move |directory, port| {
            let mut command = redis(directory, port);
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]);
            command
        })
    };
    let buses = [Port::hold(), Port::hold()];
    let [one, other] = [&buses[0], &buses[1]].map(|bus| start(bus.number()));
    cli(&one, &["CLUSTER", "ADDSLOTSRANGE", "0", "8000"]);
    cli(&other, &["CLUSTER", "ADDSLOTSRANGE", "8001", "16383"]);
    let bus = buses[1].number().to_string();
    cli(&one, &["CLUSTER", "MEET", "127.0.0.1", &other.port.to_string(), &bus]);
    for server in [&one, &other] {
        until("the cluster works", || cli(server, &["CLUSTER", "INFO"]).contains("cluster_state:ok")).await;
        until("the other node is known", || cli(server, &["CLUSTER", "SLOTS"]).contains("8001")).await;
    }
    // The slots of these names lie on both nodes.
    for name in ["a", "b", "c", "d", "e", "f"] {
        for first in [&one, &other] {
            let url = format!("redis+cluster://127.0.0.1:{}?name={name}", first.port);
            let log = try_open(&url, 100).await.expect("open");
            let mut follower = follow(&*log).await;
            append(&*log, "1").await;
            assert_eq!(ids(&next(&mut *follower).await), ["1"]);
        }
    }
    let keys = [&one, &other].map(|server| cli(server, &["DBSIZE"]).parse::<usize>().expect("a number"));
    assert!(keys[0] > 0 && keys[1] > 0, "{keys:?}");
    let outside = try_open(&format!("redis://127.0.0.1:{}?name=a", one.port), 10).await;
    let inside = try_open(&format!("redis://127.0.0.1:{}?name=a", other.port), 10).await;
    assert!(outside.is_err() != inside.is_err(), "the other one does not have it");

    // The log moves to the other node while it is in use.
    let node = |server| cli(server, &["CLUSTER", "MYID"]);
    let (one_id, other_id) = (node(&one), node(&other));
    let slot = cli(&one, &["CLUSTER", "KEYSLOT", "{a}:log"]);
    let (from, to, from_id, to_id) = match cli(&one, &["EXISTS", "{a}:log"]) == "1" {
        true => (&one, &other, &one_id, &other_id),
        false => (&other, &one, &other_id, &one_id),
    };
    let log = try_open(&format!("redis+cluster://127.0.0.1:{}?name=a", to.port), 100).await.expect("open");
    let mut follower = follow(&*log).await;
    append(&*log, "before").await;
    cli(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", from_id]);
    cli(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", to_id]);
    let appender = tokio::spawn({
        let log = Arc::clone(&log);
        async move { try_append(&*log, "meanwhile").await }
    });
    let keys = cli(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
    for key in keys.lines() {
        cli(from, &["MIGRATE", "127.0.0.1", &to.port.to_string(), key, "0", "5000"]);
    }
    for server in [to, from] {
        assert_eq!(cli(server, &["CLUSTER", "SETSLOT", &slot, "NODE", to_id]), "OK");
    }
    appender.await.expect("appender").expect("append");
    append(&*log, "after").await;
    assert_eq!(ids(&take(&mut *follower, 3).await), ["before", "meanwhile", "after"]);
}

/// A primary, a replica, and a sentinel that promotes it.
struct Sentinels {
    primary: Server,
    replica: Server,
    sentinel: Server,
    /// A sentinel that is not there.
    missing: Port,
}

impl Sentinels {
    async fn start() -> Self {
        let primary = durable();
        let replica = replica_of(&primary).await;
        let sentinel = sentinel_of(
            &primary,
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n",
        );
        let knows_replica = || cli(&sentinel, &["SENTINEL", "REPLICAS", "main"]).contains("127.0.0.1");
        until("the sentinel knows the replica", knows_replica).await;
        Self { primary, replica, sentinel, missing: Port::hold() }
    }

    fn url(&self, parameters: &str) -> String {
        format!(
            "redis+sentinel://127.0.0.1:{},127.0.0.1:{}/main/0?lease=2s{parameters}",
            self.missing.number(),
            self.sentinel.port
        )
    }

    async fn promoted(&self) {
        until("the replica is promoted", || cli(&self.replica, &["ROLE"]).starts_with("master")).await;
    }
}

/// A sentinel that knows the server as "main".
fn sentinel_of(primary: &Server, settings: &'static str) -> Server {
    let of = primary.port;
    Server::start(move |directory, port| {
        let file = directory.join("sentinel.conf");
        // It writes into the file what it learns.
        if !file.exists() {
            let directory = directory.display();
            let first = format!(
                "port {port}\nbind 127.0.0.1\ndir {directory}\nsentinel monitor main 127.0.0.1 {of} 1\n"
            );
            std::fs::write(&file, first + settings).expect("write");
        }
        let mut command = Command::new("redis-server");
        command.arg(file).arg("--sentinel");
        command
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_may_have_a_password_of_their_own() {
    let primary = Server::start(|directory, port| {
        let mut command = redis(directory, port);
        command.args(["--requirepass", "one"]);
        command
    });
    let sentinel = sentinel_of(&primary, "sentinel auth-pass main one\nrequirepass two\n");
    let url = |one, two| {
        format!("redis+sentinel://:{one}@127.0.0.1:{}/main?sentinel_password={two}", sentinel.port)
    };
    let log = try_open(&url("one", "two"), 10).await.expect("open");
    append(&*log, "1").await;
    for (one, two) in [("wrong", "two"), ("one", "wrong")] {
        let error = try_open(&url(one, two), 10).await.err().expect("refused").to_string();
        assert!(error.contains("password"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_loses_and_repeats_nothing_that_replicas_have() {
    let mut servers = Sentinels::start().await;
    let log = try_open(&servers.url("&replicas=1"), 1_000).await.expect("open");
    let mut follower = follow(&*log).await;
    for number in 0..50 {
        append(&*log, &number.to_string()).await;
    }
    servers.primary.kill();
    until("the server is known to be away", || !log.is_ready()).await;
    servers.promoted().await;
    until("the server is known to be back", || log.is_ready()).await;
    // There is no replica now.
    let missed = try_append(&*log, "unconfirmed").await;
    let Err(TransportError::Unavailable(reason)) = missed else { panic!("{missed:?}") };
    assert!(reason.to_string().contains("replicas"), "{reason}");
    let again = try_open(&servers.url(""), 1_000).await.expect("open");
    append(&*again, "after").await;
    let mut expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    expected.extend(["unconfirmed".to_owned(), "after".to_owned()]);
    assert_eq!(ids(&take(&mut *follower, 52).await), expected);
    assert!(try_open(&servers.url("").replace("/main/", "/other/"), 10).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_over_that_loses_updates_is_noticed() {
    let mut primary = durable();
    let replica = replica_of(&primary).await;
    let url = format!("redis://127.0.0.1:{},127.0.0.1:{}", primary.port, replica.port);
    let log = try_open(&url, 1_000).await.expect("open");
    let registry = log.registry().expect("a registry");
    let node = NodeId::new(1);
    registry.renew(node).await.expect("renew");
    let kept = append(&*log, "kept").await;
    let url = format!("redis://127.0.0.1:{}", replica.port);
    until("the replica has it", || cli(&replica, &["XLEN", "{mercure}:updates"]) == "1").await;
    // It becomes a primary without what follows.
    cli(&replica, &["REPLICAOF", "NO", "ONE"]);
    let mut follower = follow(&*log).await;
    for id in ["lost 1", "lost 2"] {
        append(&*log, id).await;
    }
    assert_eq!(ids(&take(&mut *follower, 2).await), ["lost 1", "lost 2"]);
    // Somebody else is faster: the sequences of what was lost are in use again.
    let other = try_open(&url, 1_000).await.expect("open");
    for id in ["new 1", "new 2", "new 3"] {
        append(&*other, id).await;
    }
    primary.kill();
    ends_with_trimmed(&mut *follower).await;
    let mut follower = follow(&*log).await;
    append(&*log, "after").await;
    assert_eq!(ids(&next(&mut *follower).await), ["after"]);
    let found = log.locate("kept").await.expect("locate").expect("kept");
    assert!(found.epoch > kept.epoch);
    let page = log.read(found, 10).await.expect("read");
    assert_eq!(ids(&page.entries), ["new 1", "new 2", "new 3", "after"]);
    assert!(page.trimmed.updates <= found, "nothing is missing after what was kept");
    let page = log.read(kept, 10).await.expect("read");
    assert!(page.trimmed.updates > kept, "a place in the former log");
    assert_eq!(registry.renew(node).await.expect("renew"), Lease::Ended, "it records all anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_refused() {
    let primary = durable();
    let replica = replica_of(&primary).await;
    let error = try_open(&format!("redis://127.0.0.1:{}", replica.port), 10).await.err();
    assert!(error.expect("refused").to_string().contains("replica"));
    // One that becomes a replica is let go of.
    let log = open_at(&primary, "&timeout=1s").await;
    cli(&primary, &["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    let refused = try_append(&*log, "refused").await;
    assert!(matches!(refused, Err(TransportError::Unavailable(_))), "{refused:?}");
    until("the server is known to be away", || !log.is_ready()).await;
    cli(&primary, &["REPLICAOF", "NO", "ONE"]);
    until("the server is known to be back", || log.is_ready()).await;
    append(&*log, "taken").await;
}
