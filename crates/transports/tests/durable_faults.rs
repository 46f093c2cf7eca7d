//! What the durable log survives: processes that are killed, power that is lost, disks that fail or are full. Each test
//! runs itself once more as a child process, as which it does what has to be survived.
#![cfg(feature = "durable")]

mod kit;

use std::{
    collections::HashMap,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    conformance::{CHECKS, Subject},
    transport::{Position, Transport},
};
use petasos_transports::{Options, Retention, open};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::kit::{
    PATIENCE,
    disk::{Disk, hangs, lose_power, order},
    lines::Lines,
    random::Random,
    until,
    updates::{kept_ids, sized},
};

/// Appenders of a child process.
const APPENDERS: usize = 6;

/// What a child keeps: more than one child appends, and little enough for its trimming to be killed, too.
const KEPT: usize = 5_000;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let rounds = number_from("PETASOS_CRASH_ROUNDS").unwrap_or(500);
    survive(rounds, |_, _| {});
}

#[test]
fn what_was_acknowledged_survives_a_loss_of_power() {
    let rounds = number_from("PETASOS_POWER_ROUNDS").unwrap_or(60);
    let disk = Disk::build();
    survive_on(rounds, Some(&disk), |journal, random| {
        // Nothing of what was not synchronized, all of it, or any part.
        match random.below(4) {
            0 => lose_power(journal, || false),
            1 => lose_power(journal, || true),
            _ => lose_power(journal, || random.below(2) == 0),
        }
        fs::remove_file(journal).expect("removed");
    });
}

#[test]
fn a_failed_synchronization_is_final() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    let child = run("child_whose_disk_fails", &directory, &disk);
    assert!(child, "see the child's output");
    // A later process finds all that was acknowledged.
    let log = block_on(open_in(directory.path(), 100_000));
    assert!(
        block_on(kept_ids(&*log)).starts_with(&(0..10).map(|number| number.to_string()).collect::<Vec<_>>())
    );
}

#[test]
fn a_failed_checkpoint_is_final() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_whose_checkpoint_fails", &directory, &disk), "see the child's output");
    let acknowledged: usize = fs::read_to_string(directory.path().join("acknowledged"))
        .expect("written")
        .parse()
        .expect("a number");
    let log = block_on(open_in(directory.path(), 100_000));
    let expected: Vec<_> = (0..acknowledged).map(|number| number.to_string()).collect();
    assert!(block_on(kept_ids(&*log)).starts_with(&expected));
}

#[test]
fn a_full_disk_refuses_updates_until_there_is_room() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_whose_disk_is_full", &directory, &disk), "see the child's output");
}

#[test]
fn a_disk_too_small_for_what_is_set_aside_is_ready_again_once_an_update_fits() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_whose_disk_is_small", &directory, &disk), "see the child's output");
}

#[test]
fn what_a_publisher_was_told_to_have_failed_is_not_there_when_the_disk_goes_on() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_whose_disk_hangs", &directory, &disk), "see the child's output");
}

#[test]
fn a_publisher_that_gets_an_error_at_the_last_moment_finds_its_update_refused() {
    for child in ["child_whose_disk_goes_on_late", "child_whose_disk_hangs_again"] {
        let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
        assert!(run(child, &directory, &disk), "see the child's output");
    }
}

#[test]
fn a_disk_that_hangs_keeps_the_contract() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_that_is_paused", &directory, &disk), "see the child's output");
}

#[test]
fn a_log_at_its_bound_goes_on_on_a_full_disk() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_at_its_bound", &directory, &disk), "see the child's output");
}

#[test]
fn what_is_acknowledged_after_a_file_was_taken_away_is_in_the_file_with_its_name() {
    std::thread::scope(|scope| {
        for harm in ["remove", "replace"] {
            for file in ["mercure.sqlite3", "mercure.sqlite3-wal"] {
                for is_new in [true, false] {
                    scope.spawn(move || take_away_while_it_opens(harm, file, is_new));
                }
            }
        }
    });
}

/// At each moment of the opening, one after the other.
fn take_away_while_it_opens(harm: &str, file: &str, is_new: bool) {
    let disk = Disk::build();
    let taken = disk.orders().with_extension("taken");
    let calls = (0..).find(|calls| {
        let told = format!("{harm} {file} after {calls} calls, a new log: {is_new}");
        let directory = TempDir::new().expect("a directory");
        if !is_new {
            let log = block_on(open_in(directory.path(), 100));
            block_on(append(&*log, "0", 100)).expect("append");
        }
        let _ = fs::remove_file(&taken);
        disk.order(&format!("{harm} {calls} {file}"));
        assert!(run("child_whose_file_is_taken_away", &directory, &disk), "{told}");
        if directory.path().join("acknowledged").exists() {
            let kept = block_on(async { kept_ids(&*open_in(directory.path(), 100).await).await });
            assert!(kept.contains(&"1".to_owned()), "{told}: {kept:?}");
        }
        directory.path().join("opened").exists()
    });
    assert!(calls.is_some_and(|calls| calls > 10), "{harm} {file}, a new log: {is_new}: {calls:?}");
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_file_is_taken_away() {
    let (directory, orders) = of_child();
    let taken = orders.with_extension("taken");
    block_on(async {
        let url = format!("durable://{}", directory.display());
        let opened = open(&url.parse().expect("a URL"), &Options::default()).await;
        if !taken.exists() {
            fs::write(directory.join("opened"), "").expect("written");
            return;
        }
        let answer = match opened {
            Ok(log) => append(&*log, "1", 100).await,
            Err(_) => return,
        };
        match answer {
            Ok(_) => fs::write(directory.join("acknowledged"), "").expect("written"),
            Err(error) => assert!(matches!(error, TransportError::Failed(_)), "{error}"),
        }
        // As a crash would be: nothing is moved into its place.
        std::process::exit(0);
    });
}

#[test]
fn files_that_are_taken_away_are_noticed_at_the_end_too() {
    let (disk, directory) = (Disk::build(), TempDir::new().expect("a directory"));
    assert!(run("child_that_ends_without_its_database", &directory, &disk), "see the child's output");
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_that_ends_without_its_database() {
    let (directory, _) = of_child();
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("the first");
    block_on(async {
        let log = open_in(&directory, 100).await;
        append(&*log, "0", 100).await.expect("append");
        fs::remove_file(directory.join("mercure.sqlite3")).expect("removed");
        drop(log);
        until("it is said", || lines.count("the database was removed, moved or replaced") == 1).await;
    });
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_disk_fails() {
    let (directory, orders) = of_child();
    block_on(async {
        let log = open_in(&directory, 100_000).await;
        for number in 0..10 {
            append(&*log, &number.to_string(), 100).await.expect("append");
        }
        order(&orders, "sync");
        let error = append(&*log, "lost", 100).await.expect_err("the disk fails");
        assert!(matches!(error, TransportError::Failed(_)), "{error}");
        assert!(!log.is_ready() && log.needs_restart());
        order(&orders, "");
        let error = append(&*log, "too late", 100).await.expect_err("it is final");
        assert!(matches!(error, TransportError::Failed(_)), "{error}");
        assert!(!log.is_ready());
        assert_eq!(kept_ids(&*log).await, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(log.locate("3").await.expect("locate").is_some());
        log.follow(Position::EARLIEST).await.expect("follow").next().await.expect("next");
    });
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_checkpoint_fails() {
    let (directory, orders) = of_child();
    block_on(async {
        let log = open_in(&directory, 100_000).await;
        order(&orders, "sync sqlite3");
        let mut acknowledged = 0;
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "a checkpoint comes");
            match append(&*log, &acknowledged.to_string(), 5_000).await {
                Ok(_) => acknowledged += 1,
                Err(error) => {
                    assert!(matches!(error, TransportError::Failed(_)), "{error}");
                    break;
                }
            }
        }
        order(&orders, "");
        assert!(append(&*log, "too late", 100).await.is_err() && !log.is_ready());
        assert_eq!(kept_ids(&*log).await.len(), acknowledged);
        fs::write(directory.join("acknowledged"), acknowledged.to_string()).expect("written");
    });
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_disk_is_full() {
    let (directory, orders) = of_child();
    block_on(async {
        let log = open_in(&directory, 100_000).await;
        let mut follower = log.follow(Position::EARLIEST).await.expect("follow");
        let mut acknowledged = Vec::new();
        for round in 0..3 {
            order(&orders, &format!("full {}", 1_000_000 + round));
            let error = loop {
                let id = format!("{round}-{}", acknowledged.len());
                match append(&*log, &id, 20_000).await {
                    Ok(_) => acknowledged.push(id),
                    Err(error) => break error,
                }
                assert!(acknowledged.len() < 10_000, "the disk is full at some time");
            };
            assert!(matches!(error, TransportError::Full(_)), "{error}");
            assert_eq!(kept_ids(&*log).await, acknowledged);
            for _ in 0..5 {
                let both = tokio::join!(append(&*log, "a", 200_000), append(&*log, "b", 200_000));
                assert!(both.0.is_err() && both.1.is_err());
            }
            assert!(!log.is_ready() && log.is_readable());
            order(&orders, "");
            // Nobody publishes to a node that is not ready.
            until("it is ready by itself", || log.is_ready()).await;
            let id = format!("{round}-again");
            append(&*log, &id, 20_000).await.expect("there is room");
            acknowledged.push(id);
            assert_eq!(kept_ids(&*log).await, acknowledged);
        }
        let mut followed = Vec::new();
        while followed.len() < acknowledged.len() {
            let batch =
                tokio::time::timeout(PATIENCE, follower.next()).await.expect("in time").expect("next");
            followed.extend(batch.iter().map(|entry| entry.update.id().as_str().to_owned()));
        }
        assert_eq!(followed, acknowledged, "the stream has seen all that, and nothing else");
        drop((log, follower));
        let log = open_in(&directory, 100_000).await;
        assert_eq!(kept_ids(&*log).await, acknowledged);
    });
}

/// The disk never has room for the ballast or the whole write-ahead log.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_disk_is_small() {
    let (directory, orders) = of_child();
    order(&orders, "full 2000000");
    block_on(async {
        let log = open_in(&directory, 100_000).await;
        let mut acknowledged = Vec::new();
        let error = loop {
            let id = acknowledged.len().to_string();
            match append(&*log, &id, 20_000).await {
                Ok(_) => acknowledged.push(id),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 1_000, "the disk is full at some time");
        };
        assert!(matches!(error, TransportError::Full(_)), "{error}");
        assert!(!log.is_ready());
        order(&orders, "full 4000000");
        until("it is ready by itself", || log.is_ready()).await;
        append(&*log, "again", 20_000).await.expect("there is room");
        acknowledged.push("again".to_owned());
        assert_eq!(kept_ids(&*log).await, acknowledged);
    });
}

/// Each append fails before the disk goes on, and is published again after that.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_disk_hangs() {
    let (directory, orders) = of_child();
    block_on(async {
        let url = format!("durable://{}?timeout=4s", directory.display());
        let log = open(&url.parse().expect("a URL"), &Options::default()).await.expect("open");
        append(&*log, "before", 100).await.expect("append");
        order(&orders, "hang 0");
        let publish = |ids: &'static [&'static str]| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let appends = ids.iter().map(|id| append(&*log, id, 100));
                futures_util::future::join_all(appends).await
            })
        };
        let refused = ["a", "b", "c", "d"];
        // The first is being written, and the others wait for that.
        let (first, others) = (publish(&["a"]), publish(&["b", "c", "d"]));
        for failed in first.await.expect("no panic").into_iter().chain(others.await.expect("no panic")) {
            assert!(matches!(failed, Err(TransportError::Unavailable(_))), "{failed:?}");
        }
        assert!(!log.is_ready());
        order(&orders, "");
        until("it is ready by itself", || log.is_ready()).await;
        let mut expected = vec!["before"];
        for id in refused {
            append(&*log, id, 100).await.expect("append");
            expected.push(id);
        }
        assert_eq!(kept_ids(&*log).await, expected, "each once");

        // Two updates are written together, and one of the publishers gives up.
        order(&orders, "hang 0");
        let first = publish(&["first"]);
        until("the disk hangs with it", || hangs(&orders)).await;
        // Polled once, an append is queued.
        let mut gone = Box::pin(append(&*log, "gone", 100));
        let mut stays = ["stays", "too"].map(|id| Box::pin(append(&*log, id, 100)));
        for queued in [&mut gone].into_iter().chain(&mut stays) {
            let polled = std::future::poll_fn(|cx| Poll::Ready(queued.as_mut().poll(cx).is_pending()));
            assert!(polled.await);
        }
        order(&orders, "hang 1");
        assert!(first.await.expect("no panic")[0].is_ok());
        drop(gone);
        until("the disk hangs with the others", || hangs(&orders)).await;
        let began = Instant::now();
        // The publisher of a slow commit may have given up.
        until("the commit is a slow one", || began.elapsed() > Duration::from_millis(1_100)).await;
        order(&orders, "");
        let stayed = futures_util::future::try_join_all(stays).await.expect("append");
        expected.extend(["first", "stays", "too"]);
        assert_eq!(kept_ids(&*log).await, expected);
        for (position, id) in stayed.iter().zip(["stays", "too"]) {
            assert_eq!(log.locate(id).await.expect("locate"), Some(*position));
        }
        append(&*log, "gone", 100).await.expect("append");
        expected.push("gone");
        let mut follower = log.follow(Position::EARLIEST).await.expect("follow");
        let followed = follower.next().await.expect("next");
        let followed: Vec<_> = followed.iter().map(|entry| entry.update.id().as_str()).collect();
        assert_eq!(followed, expected);
        drop((log, follower));
        let log = open_in(&directory, 500).await;
        assert_eq!(kept_ids(&*log).await, expected);
        assert!(log.locate("gone").await.expect("locate").is_some());
    });
}

/// An update that has waited is written half a second before its publisher gives up.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_disk_goes_on_late() {
    let (directory, orders) = of_child();
    block_on(async {
        let log = open_impatient(&directory).await;
        order(&orders, "hang 0");
        let first = publish(&log, "first");
        until("the disk hangs with it", || hangs(&orders)).await;
        let waits = publish(&log, "waits");
        pass(Duration::from_millis(3_500)).await;
        order(&orders, "hang 1");
        let first = first.await.expect("no panic");
        until("the disk hangs with the other", || hangs(&orders) || waits.is_finished()).await;
        let waits = waits.await.expect("no panic");
        assert!(matches!(waits, Err(TransportError::Unavailable(_))), "{waits:?}");
        order(&orders, "");
        append(&*log, "last", 100).await.expect("append");
        assert_answered(&*log, &[("first", first), ("waits", waits)]).await;
    });
}

/// A publisher gives up while the update of another one, who has given up before, is taken back.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_whose_disk_hangs_again() {
    let (directory, orders) = of_child();
    block_on(async {
        let log = open_impatient(&directory).await;
        order(&orders, "hang 0");
        let first = publish(&log, "first");
        until("the disk hangs with it", || hangs(&orders)).await;
        let early = publish(&log, "early");
        pass(Duration::from_secs(1)).await;
        let late = publish(&log, "late");
        pass(Duration::from_secs(1)).await;
        let stays = publish(&log, "stays");
        pass(Duration::from_secs(1)).await;
        order(&orders, "hang 1");
        let first = first.await.expect("no panic");
        let early = early.await.expect("no panic");
        order(&orders, "hang 01");
        let late = late.await.expect("no panic");
        order(&orders, "");
        let stays = stays.await.expect("no panic");
        append(&*log, "last", 100).await.expect("append");
        let answers = [("first", first), ("early", early), ("late", late), ("stays", stays)];
        assert_answered(&*log, &answers).await;
    });
}

/// Exactly the updates are there whose publishers got no error. On a busy machine those may be more than planned.
async fn assert_answered(log: &dyn Transport, answers: &[(&str, Result<Position, TransportError>)]) {
    let answered = answers.iter().filter(|(_, answer)| answer.is_ok()).map(|(id, _)| *id);
    let expected: Vec<_> = ["before"].into_iter().chain(answered).chain(["last"]).collect();
    assert_eq!(kept_ids(log).await, expected);
}

/// A log whose publishers wait four seconds. The beginning of the write-ahead log is synchronized, so that a commit
/// synchronizes once.
async fn open_impatient(directory: &Path) -> Arc<dyn Transport> {
    let url = format!("durable://{}?timeout=4s", directory.display());
    let log = open(&url.parse().expect("a URL"), &Options::default()).await.expect("open");
    append(&*log, "before", 100).await.expect("append");
    log
}

fn publish(log: &Arc<dyn Transport>, id: &'static str) -> JoinHandle<Result<Position, TransportError>> {
    let log = Arc::clone(log);
    tokio::spawn(async move { append(&*log, id, 100).await })
}

async fn pass(time: Duration) {
    let began = Instant::now();
    until("the time has passed", || began.elapsed() > time).await;
}

/// A log with a disk that hangs on command.
struct OnDisk(PathBuf);

#[async_trait]
impl Subject for OnDisk {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        let (directory, _) = of_child();
        let url = format!("durable://{}?timeout=1s", directory.join(Uuid::new_v4().to_string()).display());
        let retention = Retention { entries_max: history_max, ..Retention::default() };
        let options = Options { retention, ..Options::default() };
        open(&url.parse().expect("a URL"), &options).await.expect("open")
    }

    async fn pause(&self) -> bool {
        order(&self.0, "hang 0");
        true
    }

    async fn resume(&self) {
        order(&self.0, "");
    }
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_that_is_paused() {
    let (_, orders) = of_child();
    let is_of_pauses = |name: &str| name.starts_with("an append that failed");
    let (_, check) = CHECKS.iter().find(|(name, _)| is_of_pauses(name)).expect("the check");
    block_on(check(&OnDisk(orders)));
}

#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_at_its_bound() {
    let (directory, orders) = of_child();
    block_on(async {
        let log = open_in(&directory, 500).await;
        for number in 0..6_000 {
            append(&*log, &number.to_string(), 1_000).await.expect("append");
        }
        order(&orders, "full 0");
        for number in 6_000..12_000 {
            append(&*log, &number.to_string(), 1_000)
                .await
                .expect("trimming makes the room that appending takes");
        }
        assert_eq!(kept_ids(&*log).await.len(), 500);
    });
}

/// Appends until it is killed, and says what has been acknowledged.
#[test]
#[ignore = "run by other tests as a process of its own"]
fn child_that_is_killed() {
    let (directory, _) = of_child();
    let round = std::env::var("CHILD_ROUND").expect("given");
    block_on(async {
        let log = open_in(&directory, KEPT).await;
        let appenders: Vec<_> = (0..APPENDERS)
            .map(|appender| {
                let (log, round) = (Arc::clone(&log), round.clone());
                tokio::spawn(async move {
                    for number in 0_u64.. {
                        let id = format!("{round}/{appender}/{number}");
                        append(&*log, &id, size_of(number)).await.expect("append");
                        writeln!(io::stdout(), "\nacknowledged {id}").expect("written");
                    }
                })
            })
            .collect();
        for appender in appenders {
            appender.await.expect("it is killed");
        }
    });
}

/// Some updates are larger than a page, few than many.
fn size_of(number: u64) -> usize {
    match number % 16 {
        0 => 9_000,
        1 => 60_000,
        other => 40 * other as usize,
    }
}

fn survive(rounds: u64, harm: impl FnMut(&Path, &mut Random)) {
    survive_on(rounds, None, harm);
}

/// Kills children that append to one log, each after a random time, and checks the log after each.
fn survive_on(rounds: u64, disk: Option<&Disk>, mut harm: impl FnMut(&Path, &mut Random)) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
    let seed = number_from("PETASOS_SEED").unwrap_or(u64::from(now));
    let mut random = Random(seed);
    let outside = TempDir::new().expect("a directory");
    let directory = outside.path().join("log");
    let journal = outside.path().join("journal");
    let (mut checked, mut all) = (Position::EARLIEST, 0);
    for round in 0..rounds {
        let told = format!("seed {seed}, round {round}");
        let mut child = child("child_that_is_killed", &directory);
        child.env("CHILD_ROUND", round.to_string()).stdout(Stdio::piped());
        if let Some(disk) = disk {
            disk.give(&mut child, &directory);
            child.env("DISK_JOURNAL", &journal);
        }
        let mut child = child.spawn().expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        // An accident comes at any time: while some number of appends was being acknowledged.
        let is_acknowledged = |line: &String| line.starts_with("acknowledged ");
        let before: Vec<_> =
            lines.by_ref().filter(is_acknowledged).take(1 + random.below(100) as usize).collect();
        assert!(!before.is_empty(), "{told}");
        child.kill().expect("killed");
        let acknowledged: Vec<_> = before.into_iter().chain(lines).collect();
        child.wait().expect("ended");
        if disk.is_some() {
            let _ = fs::remove_file(directory.join("mercure.sqlite3-shm"));
        }
        harm(&journal, &mut random);
        let acknowledged = acknowledged.iter().filter_map(|line| line.strip_prefix("acknowledged "));
        all += check(&directory, round, &mut checked, acknowledged, &told);
    }
    assert!(all > rounds as usize, "{all}");
}

/// Whether all that was acknowledged in a round is there, in order, once, whole, and nothing is torn.
fn check<'a>(
    directory: &Path,
    round: u64,
    checked: &mut Position,
    acknowledged: impl Iterator<Item = &'a str>,
    told: &str,
) -> usize {
    block_on(async {
        let log = open_in(directory, KEPT).await;
        let mut numbers = HashMap::<String, u64>::new();
        loop {
            let page = log.read(*checked, 512).await.expect(told);
            for entry in &page.entries {
                assert!(
                    entry.position.sequence == checked.sequence + 1 || page.trimmed.updates >= *checked,
                    "{told}: {:?} after {checked:?}",
                    entry.position
                );
                *checked = entry.position;
                let id = entry.update.id().as_str();
                let parts: Vec<_> = id.split('/').collect();
                assert_eq!(parts[0], round.to_string(), "{told}: something old at the end");
                let number = parts[2].parse().expect("a number");
                assert_eq!(*entry.update, sized(id, size_of(number)), "{told}: {id} is whole");
                let next = numbers.entry(parts[1].to_owned()).or_default();
                assert_eq!(number, *next, "{told}: {id} in order and once");
                *next += 1;
            }
            if page.at_end {
                break;
            }
        }
        let mut count = 0;
        for id in acknowledged {
            count += 1;
            let (appender, number) = id.split_once('/').and_then(|(_, id)| id.split_once('/')).expect(told);
            let number: u64 = number.parse().expect(told);
            assert!(numbers.get(appender).is_some_and(|next| *next > number), "{told}: {id} is lost");
            if count % 50 == 1 {
                assert!(log.locate(id).await.expect(told).is_some(), "{told}: {id} is not in the index");
            }
        }
        if round.is_multiple_of(50) {
            let file = rusqlite::Connection::open(directory.join("mercure.sqlite3")).expect(told);
            let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect(told);
            assert_eq!(sound, "ok", "{told}");
        }
        count
    })
}

fn run(child_test: &str, directory: &TempDir, disk: &Disk) -> bool {
    let mut child = child(child_test, directory.path());
    disk.give(&mut child, directory.path());
    let ran = child.output().expect("a child");
    // Shown with the test that fails.
    eprintln!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    ran.status.success()
}

fn child(test: &str, directory: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().expect("this test"));
    child.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    child.env("CHILD_DIRECTORY", directory).stdin(Stdio::null());
    child
}

/// The directory of a child, and the orders of its disk.
fn of_child() -> (PathBuf, PathBuf) {
    let directory = std::env::var_os("CHILD_DIRECTORY").expect("it is run by another test");
    (directory.into(), std::env::var_os("DISK_ORDERS").unwrap_or_default().into())
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn open_in(directory: &Path, entries_max: usize) -> Arc<dyn Transport> {
    let url = format!("durable://{}", directory.display());
    let retention = Retention { entries_max, ..Retention::default() };
    let options = Options { retention, ..Options::default() };
    open(&url.parse().expect("a URL"), &options).await.expect("open")
}

async fn append(log: &dyn Transport, id: &str, bytes: usize) -> Result<Position, TransportError> {
    log.append(sized(id, bytes)).await
}
