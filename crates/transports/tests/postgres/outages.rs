//! Outages that only PostgreSQL has: a demoted primary, a full disk, a stand-by server that does not confirm.

use std::sync::Arc;

use petasos_hub::TransportError;
use petasos_transports::{Options, Retention};

use crate::{
    kit::{Wait, disk::Disk, store::Store, until, updates::*},
    server::Postgres,
};

fn options() -> Options {
    Options { retention: Retention { entries_max: 1_000_000, ..Retention::default() }, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_that_takes_writes_is_found() {
    let (one, other) = (Postgres::durable().await, Postgres::durable().await);
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", one.0.port, other.0.port);
    let url = format!("postgres://postgres:secret@{hosts}/postgres?timeout=2s");
    let log = crate::server::try_open(&url, &options()).await.expect("it opens");
    let first = append(&*log, "one").await;
    assert_eq!(
        other.client().await.query("SELECT to_regclass('mercure_log')::text", &[]).await.expect("query")[0]
            .get::<_, Option<String>>(0),
        None
    );
    let mut follower = log.follow(log.head().await.expect("head").position).await.expect("follow");
    // As a primary does that is demoted: sessions go on, and writes are refused.
    let client = one.client().await;
    client.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.expect("set");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("reload");
    // The sessions read their settings when they like.
    while append_again(&*log, "other").await.epoch == first.epoch {}
    // The other server has not got what the first had: for those who follow, the log was lost.
    assert!(matches!(end(&mut *follower).await, TransportError::Trimmed));
    assert_eq!(kept_ids(&*log).await.last().map(String::as_str), Some("other"));
    // A host that hangs does not keep it from the next.
    one.pause();
    let log = crate::server::try_open(&url, &options()).await.expect("it opens");
    append(&*log, "again").await;
    one.resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full_is_not_ready_until_it_has_room() {
    let disk = Arc::new(Disk::build());
    let server = Postgres::on(&disk).await;
    let log = server.open("", &options()).await;
    append(&*log, "before").await;
    disk.order("full 0");
    let large = || sized("large", 100_000);
    let full = log.append(large()).await;
    assert!(matches!(full, Err(TransportError::Full(_))), "{full:?}");
    assert!(!log.is_ready() && log.is_readable());
    assert_eq!(kept_ids(&*log).await, ["before"], "what is there can be read");
    disk.order("");
    // Nobody publishes to a node that is not ready.
    until("it is ready by itself", || log.is_ready()).await;
    log.append(large()).await.expect("there is room");
    assert_eq!(kept_ids(&*log).await, ["before", "large"], "nothing is left of the look for room");
}

/// A commit that stand-by servers have not confirmed is none, even where the server stops waiting for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stand_by_server_has_not_got_is_not_acknowledged() {
    let server = Postgres::durable().await;
    let log = server.open("timeout=3s", &options()).await;
    append(&*log, "before").await;
    let client = server.client().await;
    let wait = |for_whom: &str| format!("ALTER SYSTEM SET synchronous_standby_names = '{for_whom}'");
    client.batch_execute(&wait("nobody")).await.expect("set");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("reload");
    let is_set = "SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'";
    let mut reading = Wait::new("the server reads its settings");
    while client.query_one(is_set, &[]).await.expect("query").get::<_, String>(0) != "nobody" {
        reading.goes_on().await;
    }
    // The writer's session may read its settings later than ours.
    let mut appended = 0;
    loop {
        appended += 1;
        let waiting = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.append(update(&format!("waiting-{appended}"))).await }
        });
        let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let mut cancelled = 0;
        while !waiting.is_finished() && cancelled == 0 {
            cancelled = client.query(cancel, &[]).await.expect("query").len();
        }
        match waiting.await.expect("appended") {
            Err(TransportError::Unavailable(_)) => break,
            other => assert!(cancelled == 0 && appended < 1_000, "{other:?}"),
        }
    }
    client.batch_execute(&wait("")).await.expect("set");
    client.batch_execute("SELECT pg_reload_conf()").await.expect("reload");
    append_again(&*log, "after").await;
}
