//! What is kept, by each bound, for readers and on disk.

use std::time::Duration;

use petasos_hub::TransportError;
use petasos_transports::{Options, Retention};

use crate::{
    kit::{Wait, updates::*},
    server::Postgres,
};

fn keeping(entries_max: usize, bytes_max: Option<u64>, age_max: Option<Duration>) -> Options {
    Options { retention: Retention { entries_max, bytes_max, age_max }, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_bounded() {
    let server = Postgres::durable().await;
    let log = server.open("", &keeping(1_000, Some(10_000), None)).await;
    let mut positions = Vec::new();
    for number in 0..20 {
        positions.push(log.append(sized(&number.to_string(), 1_900)).await.expect("append"));
    }
    assert_eq!(kept_ids(&*log).await, ["15", "16", "17", "18", "19"]);
    let page = log.read(positions[14], 10).await.expect("read");
    assert_eq!(page.trimmed.updates, positions[14]);
    assert_eq!(log.locate("14").await.expect("locate"), None);
    assert_eq!(log.locate("15").await.expect("locate"), Some(positions[15]));
    // One that is larger than all may be.
    log.append(sized("large", 20_000)).await.expect("append");
    assert!(kept_ids(&*log).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn age_is_bounded() {
    let server = Postgres::durable().await;
    let log = server.open("", &keeping(1_000, None, Some(Duration::from_secs(2)))).await;
    let old = append(&*log, "old").await;
    let mut wait = Wait::new("it grows old");
    while !kept_ids(&*log).await.is_empty() {
        wait.goes_on().await;
    }
    append(&*log, "new").await;
    assert_eq!(kept_ids(&*log).await, ["new"]);
    let page = log.read(old, 10).await.expect("read");
    assert_eq!(page.trimmed.updates, old);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_deleted_and_followers_that_missed_them_end() {
    let server = Postgres::durable().await;
    let log = server.open("", &keeping(10, None, None)).await;
    let first = append(&*log, "first").await;
    // A node that does not read: nobody waits for it.
    let peer = server.open("", &keeping(10, None, None)).await;
    let mut slow = peer.follow(first).await.expect("follow");
    let publish = |publisher: usize| {
        let log = std::sync::Arc::clone(&log);
        tokio::spawn(async move {
            for number in 0..400 {
                log.append(update(&format!("{publisher}-{number}"))).await.expect("append");
            }
        })
    };
    for task in (0..64).map(publish).collect::<Vec<_>>() {
        task.await.expect("publisher");
    }
    let client = server.client().await;
    let count = || async {
        client.query_one("SELECT count(*) FROM mercure_log", &[]).await.expect("query").get::<_, i64>(0)
    };
    let mut wait = Wait::new("rows are deleted");
    while count().await > 10 + 16_384 + 1_024 {
        wait.goes_on().await;
    }
    assert!(count().await >= 10 + 16_384);
    assert_eq!(kept_ids(&*log).await.len(), 10);
    assert!(matches!(end(&mut *slow).await, TransportError::Trimmed));
    let head = peer.head().await.expect("head").position;
    assert!(peer.follow(head).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_apart() {
    let server = Postgres::durable().await;
    let log = server.open("", &keeping(10, None, None)).await;
    append(&*log, "first").await;
    let fill = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON mercure_log FOR EACH ROW EXECUTE FUNCTION full_disk()";
    let client = server.client().await;
    client.batch_execute(fill).await.expect("it works");
    assert!(matches!(log.append(update("second")).await, Err(TransportError::Full(_))));
    assert_eq!(kept_ids(&*log).await, ["first"]);
    client.batch_execute("DROP TRIGGER full_disk ON mercure_log").await.expect("it works");
    append(&*log, "third").await;
    assert_eq!(kept_ids(&*log).await, ["first", "third"]);
}
