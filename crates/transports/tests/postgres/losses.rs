//! The log is lost, or comes back as it once was, while the hub runs.

use std::sync::Arc;

use petasos_hub::{
    TransportError,
    transport::{Position, Transport},
};
use petasos_transports::{Options, Retention};
use tokio_postgres::Client;

use crate::{
    kit::{lines::Lines, updates::*},
    server::Postgres,
};

fn options() -> Options {
    Options { retention: Retention { entries_max: 1_000, ..Retention::default() }, ..Options::default() }
}

/// What all losses have in common: followers end, positions of before are trimmed, and it goes on.
async fn is_noticed(server: &Postgres, database: &str, loss: impl AsyncFnOnce(&Client)) -> Vec<String> {
    let url = server.url_of(database, "timeout=10s");
    let log = crate::server::try_open(&url, &options()).await.expect("it opens");
    let peer = crate::server::try_open(&url, &options()).await.expect("it opens");
    for number in 0..20 {
        append(&*log, &number.to_string()).await;
    }
    let head = log.head().await.expect("head").position;
    let mut followers = Vec::new();
    for node in [&log, &peer] {
        followers.push(node.follow(head).await.expect("follow"));
    }
    loss(&server.client().await).await;
    for follower in &mut followers {
        assert!(matches!(end(&mut **follower).await, TransportError::Trimmed));
    }
    goes_on(&log, head).await;
    goes_on(&peer, head).await;
    kept_ids(&*log).await
}

async fn goes_on(log: &Arc<dyn Transport>, before: Position) {
    let head = log.head().await.expect("head").position;
    assert!(head.epoch > before.epoch, "{head:?} {before:?}");
    let page = log.read(before, 10).await.expect("read");
    assert!(page.trimmed.updates > before && page.trimmed.events > before, "cursors of before are trimmed");
    assert!(matches!(log.follow(before).await.err(), Some(TransportError::Trimmed)));
    let mut follower = log.follow(head).await.expect("follow");
    let position = append(&**log, "new").await;
    assert!(position > head);
    assert_eq!(follow_to(&mut *follower, "new").await, ["new"]);
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_and_dropped_tables_are_noticed() {
    let server = Postgres::durable().await;
    let run =
        |sql: &'static str| async move |client: &Client| client.batch_execute(sql).await.expect("it works");
    let all = "\"mercure_meta\", \"mercure_log\", \"mercure_records\", \"mercure_leases\"";
    let emptied = is_noticed(
        &server,
        "postgres",
        run("TRUNCATE mercure_meta, mercure_log, mercure_records, mercure_leases"),
    )
    .await;
    assert_eq!(emptied, ["new", "new"]);
    let emptied = is_noticed(&server, "postgres", run("TRUNCATE mercure_log")).await;
    assert_eq!(emptied, ["new", "new"]);
    // Nothing is lost but the place, so what there is can be read.
    let kept = is_noticed(&server, "postgres", run("TRUNCATE mercure_meta")).await;
    assert_eq!(kept[kept.len() - 22..kept.len() - 2], numbers(0..20));
    let dropped = is_noticed(&server, "postgres", async |client: &Client| {
        client.batch_execute(&format!("DROP TABLE {all}")).await.expect("it works");
    })
    .await;
    assert_eq!(dropped, ["new", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_made_anew_is_noticed() {
    let server = Postgres::durable().await;
    server.client().await.batch_execute("CREATE DATABASE hub").await.expect("created");
    let read = is_noticed(&server, "hub", async |client: &Client| {
        client.batch_execute("DROP DATABASE hub WITH (FORCE)").await.expect("dropped");
        // The nodes come back as often as they can.
        client.batch_execute("CREATE DATABASE hub").await.expect("created");
    })
    .await;
    assert_eq!(read, ["new", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_noticed() {
    let server = Postgres::durable().await;
    let gone_back = "BEGIN; DELETE FROM mercure_log WHERE sequence > 10;
        UPDATE mercure_meta SET head = 10, updates = 10; COMMIT;
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'petasos'";
    let read = is_noticed(&server, "postgres", async |client: &Client| {
        client.batch_execute(gone_back).await.expect("it works");
    })
    .await;
    assert_eq!(read, [&numbers(0..10)[..], &["new".to_owned(), "new".to_owned()]].concat());
}

/// It has overtaken what was seen of it before anybody looked.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_with_other_entries_is_noticed() {
    let server = Postgres::durable().await;
    let read = is_noticed(&server, "postgres", async |client: &Client| {
        let other = "BEGIN; UPDATE mercure_log SET created_at = created_at + interval '1 second' WHERE sequence > 10; COMMIT;
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'petasos'";
        client.batch_execute(other).await.expect("it works");
    });
    assert_eq!(read.await.len(), 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_update_is_left_out() {
    let server = Postgres::durable().await;
    let log = server.open("", &options()).await;
    let before = log.head().await.expect("head").position;
    for id in ["a", "b", "c"] {
        append(&*log, id).await;
    }
    let damage = "UPDATE mercure_log SET record = set_byte(record, 20, 0) WHERE id = 'b'";
    assert_eq!(server.client().await.execute(damage, &[]).await.expect("it works"), 1);
    assert_eq!(kept_ids(&*log).await, ["a", "c"]);
    let mut follower = log.follow(before).await.expect("follow");
    assert_eq!(follow_to(&mut *follower, "c").await, ["a", "c"]);
    let damaged = server.client().await.query("SELECT FROM mercure_log WHERE id = 'b'", &[]).await;
    assert_eq!(damaged.expect("query").len(), 1, "it is kept for whoever can read it");
    append_again(&*log, "d").await;
    assert_eq!(follow_to(&mut *follower, "d").await, ["d"]);
}

/// On one thread, whose log is listened to. The newest is read first.
#[tokio::test]
async fn each_damaged_record_is_reported_once_in_whatever_order_they_are_read() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let server = Postgres::durable().await;
    let log = server.open("", &options()).await;
    let mut places = Vec::new();
    for id in ["a", "b", "c", "d"] {
        places.push(append(&*log, id).await);
    }
    let damage = "UPDATE mercure_log SET record = set_byte(record, 20, 0) WHERE id IN ('b', 'd')";
    assert_eq!(server.client().await.execute(damage, &[]).await.expect("it works"), 2);
    for _ in 0..2 {
        for after in [places[2], places[0], Position::EARLIEST] {
            log.read(after, 10).await.expect("read");
        }
    }
    let mut follower = log.follow(places[0]).await.expect("follow");
    append(&*log, "e").await;
    assert_eq!(follow_to(&mut *follower, "e").await, ["c", "e"]);
    for place in [places[1], places[3]] {
        assert_eq!(lines.count(&format!("sequence={} ", place.sequence)), 1, "{lines:?}");
    }
}
