//! The server goes away and comes back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use petasos_hub::{TransportError, transport::Transport};
use petasos_transports::{Options, Retention};

use crate::{
    faults::Disk,
    server::Postgres,
    support::{Wait, until},
    updates::{append, append_in_the_end, follow_to, large_update, read_all, update},
};

fn options() -> Options {
    Options { retention: Retention { entries_max: 1_000_000, ..Retention::default() }, ..Options::default() }
}

/// What publishers got through, while something happens to the server.
struct Publishers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Publishers {
    fn start(log: &Arc<dyn Transport>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicUsize::new(0));
        let publish = |publisher: usize| {
            let (log, stop, count) = (Arc::clone(log), Arc::clone(&stop), Arc::clone(&count));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("{publisher}-{number}");
                    match log.append(update(&id)).await {
                        Ok(_) => {
                            acknowledged.push(id);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(TransportError::Unavailable(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                acknowledged
            })
        };
        Self { tasks: (0..4).map(publish).collect(), stop, acknowledged: count }
    }

    /// Waits until they got some more through.
    async fn go_on(&self) {
        let before = self.acknowledged.load(Ordering::Relaxed);
        until("updates are taken", || self.acknowledged.load(Ordering::Relaxed) >= before + 50).await;
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.expect("publisher"));
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_followed_twice_over_restarts() {
    let mut server = Postgres::start().await;
    let log = server.open("timeout=2s", &options()).await;
    let mut follower = log.follow(log.head().await.expect("head").position).await.expect("follow");
    let followed = tokio::spawn(async move { follow_to(&mut *follower, "last").await });
    let publishers = Publishers::start(&log);
    // Fast, immediate, and as when all is killed.
    for signal in ["INT", "QUIT", "KILL"] {
        let before = log.head().await.expect("head").position.sequence;
        publishers.go_on().await;
        match signal {
            "KILL" => server.crash(),
            signal => server.0.end(signal),
        }
        until("it is noticed", || !log.is_ready()).await;
        server.0.restart();
        until("it comes back by itself", || log.is_ready()).await;
        publishers.go_on().await;
        assert!(log.head().await.expect("head").position.sequence > before);
    }
    let acknowledged = publishers.stop().await;
    append_in_the_end(&*log, "last").await;
    let (followed, read) = (followed.await.expect("follower"), read_all(&*log).await);
    assert_eq!(followed, read, "a follower sees what a reader sees");
    let mut kept = std::collections::HashMap::new();
    read.iter().for_each(|id| *kept.entry(id).or_insert(0) += 1);
    for id in &acknowledged {
        assert_eq!(kept.get(id), Some(&1), "{id} was acknowledged and is there once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_is_noticed_and_waited_for() {
    let server = Postgres::start().await;
    let log = server.open("timeout=2s", &options()).await;
    let mut follower = log.follow(log.head().await.expect("head").position).await.expect("follow");
    append(&*log, "before").await;
    assert_eq!(follow_to(&mut *follower, "before").await, ["before"]);
    server.signal_all("STOP");
    assert!(matches!(log.append(update("during")).await, Err(TransportError::Unavailable(_))));
    assert!(matches!(log.head().await, Err(TransportError::Unavailable(_))));
    assert!(matches!(log.locate("before").await, Err(TransportError::Unavailable(_))));
    let registry = log.registry().expect("there is one");
    assert!(matches!(registry.list(None).await, Err(TransportError::Unavailable(_))));
    until("it is known not to answer", || !log.is_ready()).await;
    server.signal_all("CONT");
    // Nobody publishes.
    until("it answers again", || log.is_ready()).await;
    append(&*log, "after").await;
    let followed = follow_to(&mut *follower, "after").await;
    // What was not confirmed may have been added.
    assert!(followed == ["after"] || followed == ["during", "after"], "{followed:?}");
    assert_eq!(followed, &read_all(&*log).await[1..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_log_notices_a_paused_server() {
    let server = Postgres::start().await;
    let log = server.open("timeout=1s", &options()).await;
    server.signal_all("STOP");
    until("nobody asks and it is noticed", || !log.is_ready()).await;
    server.signal_all("CONT");
    until("it answers again", || log.is_ready()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_that_takes_writes_is_found() {
    let (one, other) = (Postgres::start().await, Postgres::start().await);
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
    while append_in_the_end(&*log, "other").await.epoch == first.epoch {}
    // The other server has not got what the first had: for those who follow, the log was lost.
    assert!(matches!(crate::updates::end_of(&mut *follower).await, TransportError::Trimmed));
    assert_eq!(read_all(&*log).await.last().map(String::as_str), Some("other"));
    // A host that hangs does not keep it from the next.
    one.signal_all("STOP");
    let log = crate::server::try_open(&url, &options()).await.expect("it opens");
    append(&*log, "again").await;
    one.signal_all("CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_disk_is_full_is_not_ready_until_it_has_room() {
    let disk = Arc::new(Disk::build());
    let server = Postgres::on(&disk).await;
    let log = server.open("", &options()).await;
    append(&*log, "before").await;
    disk.order("full 0");
    let large = || large_update("large", 100_000);
    let full = log.append(large()).await;
    assert!(matches!(full, Err(TransportError::Full(_))), "{full:?}");
    assert!(!log.is_ready() && log.is_readable());
    assert_eq!(read_all(&*log).await, ["before"], "what is there can be read");
    disk.order("");
    // Nobody publishes to a node that is not ready.
    until("it is ready by itself", || log.is_ready()).await;
    log.append(large()).await.expect("there is room");
    assert_eq!(read_all(&*log).await, ["before", "large"], "nothing is left of the look for room");
}

/// A commit that stand-by servers have not confirmed is none, even where the server stops waiting for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stand_by_server_has_not_got_is_not_acknowledged() {
    let server = Postgres::start().await;
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
    append_in_the_end(&*log, "after").await;
}
