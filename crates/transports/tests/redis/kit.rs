//! What the tests of the log in Redis have in common.

#![allow(unreachable_pub, reason = "a test is a crate of its own")]

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use petasos_hub::{
    TransportError,
    registry::Fact,
    transport::{Entry, Follower, Position, Transport},
};
use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::{MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    topic::{HubUrl, Topics},
    update::{Draft, Update},
};
use petasos_transports::{OpenError, Options, Retention, open};

pub use crate::support::{PATIENCE, told::Told, until};
use crate::support::{Server, output};

pub fn durable() -> Server {
    Server::start(redis)
}

/// Keeps everything it has acknowledged over a restart.
pub fn redis(directory: &Path, port: u16) -> Command {
    let mut command = forgetful(directory, port);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
    command
}

pub fn forgetful(directory: &Path, port: u16) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(directory);
    command
}

pub async fn replica_of(primary: &Server) -> Server {
    cli(primary, &["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    let of = primary.port.to_string();
    let replica = Server::start(move |directory, port| {
        let mut command = redis(directory, port);
        command.args(["--replicaof", "127.0.0.1", &of]);
        command
    });
    until("the replica follows", || {
        cli(&replica, &["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    replica
}

pub fn certificate(directory: &Path) {
    let mut command = Command::new("openssl");
    command
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(directory.join("key.pem"))
        .arg("-out")
        .arg(directory.join("cert.pem"));
    let made = output(&mut command);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// What redis-cli prints, without the line end.
pub fn cli(server: &Server, command: &[&str]) -> String {
    let output = output(Command::new("redis-cli").args(["-p", &server.port.to_string()]).args(command));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub async fn open_with(url: &str, entries_max: usize) -> Result<Arc<dyn Transport>, OpenError> {
    let retention = Retention { entries_max, ..Retention::default() };
    open(&url.parse()?, &Options { retention, ..Options::default() }).await
}

pub async fn open_at(server: &Server, parameters: &str) -> Arc<dyn Transport> {
    let url = format!("redis://127.0.0.1:{}?lease=2s{parameters}", server.port);
    open_with(&url, 1_000).await.expect("open")
}

pub async fn follow(log: &dyn Transport) -> Box<dyn Follower> {
    let head = log.head().await.expect("head").position;
    log.follow(head).await.expect("follow")
}

pub async fn append(log: &dyn Transport, id: &str) -> Result<Position, TransportError> {
    let append = log.append(update(id, &format!("data of {id}")));
    tokio::time::timeout(PATIENCE, append).await.expect("the append ends")
}

pub fn update(id: &str, data: &str) -> Update {
    let limits = Limits::default();
    let draft = Draft {
        topics: Topics::parse(["topic"], &HubUrl::default(), &limits).expect("topic"),
        data: data.to_owned(),
        private: false,
        id: Some(EventId::parse(id, &limits).expect("id")),
        event_type: None,
        retry: None,
    };
    Update::publish(draft, || unreachable!("an id was given"))
}

pub fn arrival() -> Fact {
    fact(1, true)
}

/// Each with another event.
pub fn fact(number: u128, active: bool) -> Fact {
    let subscription = Subscription {
        dialect: Dialect::V1,
        matcher: MatcherText::new(MatcherType::Exact, "topic"),
        subscriber: SubscriberId::from_uuid(number),
        payload: None,
    };
    static EVENTS: AtomicUsize = AtomicUsize::new(1);
    let id = EventId::from_uuid(&EVENTS.fetch_add(1, Ordering::Relaxed).to_string());
    let event = Update::announce(&subscription, active, &HubUrl::default(), None, id);
    Fact {
        subscriber: subscription.subscriber,
        active,
        subscriptions: [subscription].into(),
        events: vec![event],
    }
}

pub async fn next(follower: &mut dyn Follower) -> Vec<Entry> {
    let next = tokio::time::timeout(PATIENCE, follower.next()).await;
    next.expect("entries arrive").expect("follow")
}

pub async fn take(follower: &mut dyn Follower, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    while entries.len() < count {
        entries.extend(next(follower).await);
    }
    assert_eq!(entries.len(), count, "nothing twice");
    entries
}

pub fn ids(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| entry.update.id().as_str().to_owned()).collect()
}

pub async fn ends_with_trimmed(follower: &mut dyn Follower) {
    let end = async {
        loop {
            if let Err(error) = follower.next().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, end).await.expect("it ends");
    assert!(matches!(error, TransportError::Trimmed), "{error:?}");
}

/// The follower of a log that was lost ends, and the new log can be used at once.
pub async fn lost_and_found(log: &dyn Transport, mut follower: Box<dyn Follower>, before: Position) {
    ends_with_trimmed(&mut *follower).await;
    until("the server is known to be back", || log.is_ready()).await;
    let head = log.head().await.expect("head");
    assert!(head.position.epoch > before.epoch && head.id.is_none(), "{head:?}");
    assert!(log.locate("before").await.expect("locate").is_none());
    assert!(matches!(log.follow(before).await.err(), Some(TransportError::Trimmed)));
    let mut follower = log.follow(head.position).await.expect("follow");
    append(log, "after").await.expect("append");
    assert_eq!(ids(&next(&mut *follower).await), ["after"]);
    let page = log.read(before, 10).await.expect("read");
    assert!(page.trimmed.updates > before && page.trimmed.events > before);
    assert_eq!(ids(&page.entries), ["after"]);
}
