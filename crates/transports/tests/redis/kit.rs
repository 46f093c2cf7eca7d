//! What the tests of the log in Redis have in common.

#![allow(unreachable_pub, reason = "a test is a crate of its own")]

use std::{path::Path, process::Command, sync::Arc};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::Fact,
    transport::{Follower, Position, Transport},
};

pub use crate::kit::{Server, Wait, disk::Disk, lines::Lines, until, updates::*};
use crate::kit::{output, store::Store};

/// A server that writes everything before it answers. With "everysec", Redis answers before it has written when the disk
/// is busy.
pub struct Redis(Server);

#[async_trait]
impl Store for Redis {
    const ENDS: &'static [&'static str] = &["TERM", "KILL"];

    async fn start() -> Self {
        Self(Server::start(|directory, port| {
            let mut command = redis(directory, port);
            command.args(["--appendfsync", "always"]);
            command
        }))
    }

    fn url(&self, parameters: &str) -> String {
        format!("redis://127.0.0.1:{}?{parameters}", self.0.port)
    }

    fn pause(&self) {
        self.0.pause();
    }

    fn resume(&self) {
        self.0.resume();
    }

    fn end(&mut self, signal: &str) {
        self.0.end(signal);
    }

    fn come_back(&mut self) {
        self.0.restart();
    }

    fn lose_everything(&mut self) {
        self.0.kill();
        std::fs::remove_dir_all(self.0.directory().join("appendonlydir")).expect("its files");
    }
}

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

/// What redis-cli prints, without the line end.
pub fn cli(server: &Server, command: &[&str]) -> String {
    let output = output(Command::new("redis-cli").args(["-p", &server.port.to_string()]).args(command));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub async fn open_at(server: &Server, parameters: &str) -> Arc<dyn Transport> {
    let url = format!("redis://127.0.0.1:{}?lease=2s{parameters}", server.port);
    open_log(&url, 1_000).await
}

pub fn arrival() -> Fact {
    fact(1, true)
}

/// The follower of a log that was lost ends, and the new log can be used at once.
pub async fn lost_and_found(log: &dyn Transport, mut follower: Box<dyn Follower>, before: Position) {
    ends_with_trimmed(&mut *follower).await;
    until("it is ready by itself", || log.is_ready()).await;
    let head = log.head().await.expect("head");
    assert!(head.position.epoch > before.epoch && head.id.is_none(), "{head:?}");
    assert!(log.locate("before").await.expect("locate").is_none());
    assert!(matches!(log.follow(before).await.err(), Some(TransportError::Trimmed)));
    let mut follower = log.follow(head.position).await.expect("follow");
    append(log, "after").await;
    assert_eq!(ids(&next(&mut *follower).await), ["after"]);
    let page = log.read(before, 10).await.expect("read");
    assert!(page.trimmed.updates > before && page.trimmed.events > before);
    assert_eq!(ids(&page.entries), ["after"]);
}
