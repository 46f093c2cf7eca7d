//! The durable log: what it guarantees, what it keeps, what it survives. Faults of the disk have a file of their own.
#![cfg(feature = "durable")]

mod kit;

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use kit::{
    PATIENCE, Wait,
    random::Random,
    until,
    updates::{fact as numbered_fact, kept_ids, sized},
};
use petasos_hub::{
    TransportError,
    conformance::{CHECKS, Subject},
    registry::{Fact, Lease, NodeId},
    transport::{Position, Transport},
};
use petasos_protocol::update::Origin;
use petasos_transports::{OpenError, Options, Retention, open};
use tempfile::TempDir;

#[derive(Default)]
struct Durable {
    directories: Mutex<Vec<TempDir>>,
}

#[async_trait]
impl Subject for Durable {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        let directory = TempDir::new().expect("a directory");
        let url = format!("durable://{}?lease=2s", directory.path().display());
        self.directories.lock().expect("no panic").push(directory);
        open_url(&url, entries(history_max)).await.expect("open")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_the_contract() {
    let subject = Durable::default();
    for (name, check) in CHECKS {
        let start = Instant::now();
        check(&subject).await;
        eprintln!("{name}: {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_changes_nothing() {
    let directory = TempDir::new().expect("a directory");
    let (mut heads, mut pages) = (Vec::new(), Vec::new());
    for start in 0..3 {
        let log = open_in(directory.path(), entries(100)).await;
        if start == 0 {
            for number in 0..150 {
                append(&*log, &number.to_string(), 10).await;
            }
        }
        heads.push(log.head().await.expect("head"));
        let page = log.read(Position::EARLIEST, 1_000).await.expect("read");
        assert!(page.at_end);
        let entries = page.entries.iter();
        pages.push((
            entries.map(|each| (each.position, (*each.update).clone())).collect::<Vec<_>>(),
            page.trimmed,
        ));
        let located = log.locate("149").await.expect("locate").expect("kept");
        assert_eq!(located, heads[0].position);
        assert_eq!(log.locate("49").await.expect("locate"), None);
        assert!(log.locate("50").await.expect("locate").is_some());
    }
    assert_eq!(heads[0], heads[1]);
    assert_eq!(heads[1], heads[2]);
    assert_eq!(pages[0].0.len(), 100);
    assert_eq!(pages[0], pages[1]);
    assert_eq!(pages[1], pages[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_is_never_given_twice() {
    let directory = TempDir::new().expect("a directory");
    let mut last = Position::EARLIEST;
    for start in 0..4 {
        let log = open_in(directory.path(), entries(0)).await;
        let head = log.head().await.expect("head");
        assert_eq!(head.id.is_some(), start > 0, "what was appended last is known, even if nothing is kept");
        for _ in 0..3 {
            let position = append(&*log, "again", 10).await;
            assert!(position > last, "{position:?} after {last:?}");
            assert!(start == 0 || position.sequence == last.sequence + 1, "dense");
            last = position;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_directory_has_a_new_epoch() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("a/b c");
    let old = {
        let log = open_in(&path, entries(10)).await;
        append(&*log, "old", 10).await
    };
    let mode = fs::metadata(&path).expect("made").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    for file in fs::read_dir(&path).expect("made") {
        let file = file.expect("a file");
        let mode = file.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", file.path());
    }
    wait_until_left(&path).await;
    fs::remove_dir_all(&path).expect("removed");
    let log = open_in(&path, entries(10)).await;
    append(&*log, "new", 10).await;
    let page = log.read(old, 10).await.expect("read");
    assert_eq!(page.entries.len(), 1, "an old position counts as before everything");
    assert!(page.trimmed.updates > old && page.entries[0].position.epoch > old.epoch);
    assert!(matches!(log.follow(old).await.err(), Some(TransportError::Trimmed)));
    log.follow(Position::EARLIEST).await.expect("nothing of this log is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_belongs_to_one_process() {
    let directory = TempDir::new().expect("a directory");
    let first = open_in(directory.path(), entries(10)).await;
    let url = format!("durable://{}", directory.path().display());
    let error = open_url(&url, entries(10)).await.err().expect("it is held").to_string();
    assert!(error.contains(&directory.path().display().to_string()), "{error}");
    assert!(error.contains("another process") && error.contains("redis"), "{error}");
    open_url(&format!("{url}?name=other"), entries(10)).await.expect("another hub's log");
    let second = tokio::spawn(async move { open_url(&url, entries(10)).await });
    append(&*first, "1", 10).await;
    drop(first);
    let second = second.await.expect("no panic").expect("the first one has left");
    assert!(second.locate("1").await.expect("locate").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "text").expect("written");
    fs::write(directory.path().join("bad.sqlite3"), "text".repeat(1_000)).expect("written");
    let in_directory = |name| format!("durable://{}{name}", directory.path().display());
    for (url, parts) in [
        ("durable://var/lib".to_owned(), ["three slashes", "durable:///var/lib/petasos"]),
        ("durable:///".to_owned(), ["no directory", "durable:///var/lib/petasos"]),
        (in_directory("?names=a"), ["\"names\"", "name"]),
        (in_directory("/file"), ["directory", "hub's user"]),
        (in_directory("?name=bad"), ["bad.sqlite3", "restore a copy"]),
    ] {
        let error = open_url(&url, entries(1)).await.err().expect("refused").to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_bound_updates() {
    let directory = TempDir::new().expect("a directory");
    let retention = Retention { entries_max: 1_000, bytes_max: Some(10_000), age_max: None };
    let log = open_in(directory.path(), retention.clone()).await;
    for number in 0..50 {
        append(&*log, &number.to_string(), 950).await;
    }
    let kept = kept_ids(&*log).await;
    assert!((8..=10).contains(&kept.len()), "{kept:?}");
    assert_eq!(kept.last().map(String::as_str), Some("49"));
    append(&*log, "too large for the bound", 20_000).await;
    assert_eq!(kept_ids(&*log).await, [""; 0], "the bound is one");
    drop(log);
    let log = open_in(directory.path(), retention).await;
    assert_eq!(kept_ids(&*log).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn age_bounds_updates_when_they_are_read() {
    let directory = TempDir::new().expect("a directory");
    let age_max = Duration::from_millis(400);
    let retention = Retention { entries_max: 1_000, bytes_max: None, age_max: Some(age_max) };
    let log = open_in(directory.path(), retention.clone()).await;
    let start = Instant::now();
    let old = append(&*log, "old", 10).await;
    let kept = kept_ids(&*log).await;
    assert!(kept == ["old"] || start.elapsed() > age_max);
    let mut wait = Wait::new("it grows old");
    while !kept_ids(&*log).await.is_empty() {
        wait.goes_on().await;
    }
    assert!(start.elapsed() > age_max);
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!((page.entries.len(), page.trimmed.updates), (0, old));
    assert_eq!(log.locate("old").await.expect("locate"), None);
    drop(log);
    let longer = Retention { age_max: Some(PATIENCE), ..retention };
    let log = open_in(directory.path(), longer).await;
    assert_eq!(log.read(Position::EARLIEST, 10).await.expect("read").trimmed.updates, old, "it stays gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_leaves_the_disk_when_nobody_asks() {
    let directory = TempDir::new().expect("a directory");
    let age_max = Some(Duration::from_millis(100));
    let log = open_in(directory.path(), Retention { entries_max: 1_000, bytes_max: None, age_max }).await;
    for number in 0..20 {
        append(&*log, &number.to_string(), 100).await;
    }
    let file = rusqlite::Connection::open(directory.path().join("mercure.sqlite3")).expect("open");
    let rows =
        || file.query_row("SELECT count(*) FROM updates", [], |row| row.get::<_, i64>(0)).expect("rows");
    until("the rows are deleted", || rows() == 0).await;
}

/// What a crash leaves is what is in the files: a copy, taken while the log is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_a_smaller_bound_and_before_the_next_append_loses_nothing_more() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(5_000)).await;
    for number in 0..5_000 {
        append(&*log, &number.to_string(), 100).await;
    }
    drop(log);
    let log = open_in(directory.path(), entries(500)).await;
    let mut wait = Wait::new("the rows are deleted though nobody publishes");
    let crashed = loop {
        let copy = TempDir::new().expect("a directory");
        for file in ["mercure.sqlite3", "mercure.sqlite3-wal"] {
            fs::copy(directory.path().join(file), copy.path().join(file)).expect("copy");
        }
        let file = rusqlite::Connection::open(copy.path().join("mercure.sqlite3")).expect("open");
        // The copy may have caught it in between.
        let rows = file.query_row("SELECT count(*) FROM updates", [], |row| row.get::<_, i64>(0));
        if rows.is_ok_and(|rows| rows <= 500) {
            break copy;
        }
        wait.goes_on().await;
    };
    drop(log);
    let log = open_in(crashed.path(), entries(500)).await;
    let page = log.read(Position::EARLIEST, 1_000).await.expect("read");
    let read = page.entries.len() + log.read(page.through, 1_000).await.expect("read").entries.len();
    assert_eq!(read, 500);
    assert!(log.locate("4500").await.expect("locate").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smaller_bound_holds_at_once_and_gives_the_disk_back() {
    let directory = TempDir::new().expect("a directory");
    {
        let log = open_in(directory.path(), entries(1_000_000)).await;
        fill(&log, 30_000, 2_000).await;
    }
    wait_until_left(directory.path()).await;
    let file = directory.path().join("mercure.sqlite3");
    let before = fs::metadata(&file).expect("there").len();
    assert!(before > 50_000_000, "{before}");
    let log = open_in(directory.path(), entries(100)).await;
    assert_eq!(kept_ids(&*log).await.len(), 100);
    let mut wait = Wait::new("the file becomes smaller");
    while fs::metadata(&file).expect("there").len() > before / 4 {
        append(&*log, "more", 10).await;
        wait.goes_on().await;
    }
    assert_eq!(kept_ids(&*log).await.len(), 100);
    assert_eq!(check_file(&file), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steady_log_does_not_grow() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(1_000)).await;
    fill(&log, 20_000, 1_000).await;
    let size = || fs::metadata(directory.path().join("mercure.sqlite3")).expect("there").len();
    let before = size();
    fill(&log, 40_000, 1_000).await;
    assert!(size() <= before * 3 / 2, "{before}, then {}", size());
    assert_eq!(kept_ids(&*log).await.len(), 1_000);
    let wal = fs::metadata(directory.path().join("mercure.sqlite3-wal")).expect("there").len();
    assert!(wal <= 80_000_000, "{wal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_gets_everything() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(100_000)).await;
    let start = log.head().await.expect("head").position;
    fill(&log, 10_000, 100).await;
    let mut follower = log.follow(start).await.expect("follow");
    let mut expected = start.sequence;
    while expected < 10_000 {
        for entry in follower.next().await.expect("next") {
            expected += 1;
            assert_eq!(entry.position.sequence, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_end_with_the_log() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    let mut follower = log.follow(Position::EARLIEST).await.expect("follow");
    let waiting = tokio::spawn(async move { follower.next().await });
    tokio::task::yield_now().await;
    drop(log);
    let ended = tokio::time::timeout(PATIENCE, waiting).await.expect("it ends").expect("no panic");
    assert!(matches!(ended, Err(TransportError::Closed)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_left_behind_is_abandoned_at_once() {
    let directory = TempDir::new().expect("a directory");
    let (dead, alive) = (NodeId::new(1), NodeId::new(2));
    {
        let log = open_in(directory.path(), entries(10)).await;
        let registry = log.registry().expect("it has one");
        registry.renew(dead).await.expect("renew");
        assert_eq!(registry.record(dead, &[fact(true)]).await.expect("record"), Lease::Kept);
    }
    let log = open_in(directory.path(), entries(10)).await;
    let registry = log.registry().expect("it has one");
    registry.renew(alive).await.expect("renew");
    let abandoned = registry.abandoned(10).await.expect("abandoned");
    assert_eq!(abandoned.len(), 1);
    assert_eq!(abandoned[0].node, dead);
    assert_eq!(registry.list(Some("topic")).await.expect("list").len(), 1);
    registry.expire(dead, &[fact(false)]).await.expect("expire");
    assert!(registry.abandoned(10).await.expect("abandoned").is_empty());
    assert!(registry.list(Some("topic")).await.expect("list").is_empty());
    let page = log.read(Position::EARLIEST, 10).await.expect("read");
    assert_eq!(page.entries.len(), 2);
    assert!(page.entries.iter().all(|entry| entry.update.origin() == Origin::Hub));
}

/// Bits and pages of a closed log are overwritten, in many ways. Whatever that does, reading ends, in order, with
/// nothing that was not stored, and what lies in other pages is all there.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_stepped_over() {
    let directory = TempDir::new().expect("a directory");
    let intact = directory.path().join("intact");
    {
        let log = open_in(&intact, entries(100_000)).await;
        for number in 0..3_000_u32 {
            // Some are larger than a page.
            append(&*log, &number.to_string(), if number.is_multiple_of(100) { 20_000 } else { 300 }).await;
            if number % 50 == 0 {
                log.append(fact(true).events[0].clone()).await.expect("append");
            }
        }
    }
    wait_until_left(&intact).await;
    let name = "mercure.sqlite3";
    let content = fs::read(intact.join(name)).expect("read");
    let pages = content.len() / PAGE;
    let (mut random, mut damaged_reads, mut opened) = (Random(7), 0, 0);
    for round in 0..120 {
        let path = directory.path().join(format!("damaged-{round}"));
        fs::create_dir(&path).expect("made");
        fs::write(path.join(name), &content).expect("written");
        let file = fs::File::options().write(true).open(path.join(name)).expect("there");
        for _ in 0..=round % 3 {
            // The first pages hold the tables' names and roots: without them there is no log to read.
            let page = 12 + random.below(pages as u64 - 12);
            let at = page * PAGE as u64 + random.below(PAGE as u64);
            match round % 4 {
                0 => file.write_all_at(&[content[at as usize] ^ 1 << random.below(8)], at).expect("written"),
                1 => file.write_all_at(&[0; PAGE], page * PAGE as u64).expect("written"),
                2 => file.write_all_at(&[0xa5; PAGE], page * PAGE as u64).expect("written"),
                _ => {
                    let other = &content[random.below(pages as u64) as usize * PAGE..][..PAGE];
                    file.write_all_at(other, page * PAGE as u64).expect("written");
                }
            }
        }
        let url = format!("durable://{}", path.display());
        let Ok(log) = open_url(&url, entries(100_000)).await else { continue };
        opened += 1;
        let (mut after, mut found) = (Position::EARLIEST, Vec::new());
        loop {
            let page =
                tokio::time::timeout(PATIENCE, log.read(after, 256)).await.expect("it ends").expect("read");
            assert!(page.through >= after);
            after = page.through;
            found.extend(page.entries);
            if page.at_end {
                break;
            }
        }
        assert_eq!(after, log.head().await.expect("head").position);
        assert!(found.is_sorted_by(|a, b| a.position < b.position), "round {round}");
        let mut numbers = Vec::new();
        for entry in found.iter().filter(|entry| entry.update.origin() == Origin::Publisher) {
            let id = entry.update.id().as_str();
            let number: u32 = id.parse().expect("a number");
            assert_eq!(*entry.update, sized(id, if number.is_multiple_of(100) { 20_000 } else { 300 }));
            numbers.push(number);
        }
        // A page of a table takes with it what it holds, a page above it up to some thousand entries.
        damaged_reads += usize::from(numbers.len() < 3_000);
        assert!(numbers.len() >= 3_000 / 4 || round % 4 > 0, "round {round}: {}", numbers.len());
        for number in numbers.iter().step_by(97) {
            let located = log.locate(&number.to_string()).await.expect("locate");
            let entry = found.iter().find(|entry| entry.update.id().as_str() == number.to_string());
            assert!(located.is_none() || located == entry.map(|entry| entry.position), "round {round}");
        }
        let mut follower = log.follow(Position::EARLIEST).await.expect("follow");
        let mut followed = 0;
        while followed < found.len() {
            let batch = tokio::time::timeout(PATIENCE, follower.next()).await.expect("it goes on");
            followed += batch.expect("follow").len();
        }
        assert_eq!(followed, found.len(), "round {round}: a follower sees what a reader sees");
        // Most damage is where nothing is written any more.
        match log.append(sized("after", 10)).await {
            Ok(position) => assert_eq!(log.locate("after").await.expect("locate"), Some(position)),
            Err(error) => assert!(matches!(error, TransportError::Failed(_)), "{error}"),
        }
    }
    assert!(opened > 100 && damaged_reads > 20, "{opened} opened, {damaged_reads} had lost something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_trimmed_all_the_same() {
    let directory = TempDir::new().expect("a directory");
    {
        let log = open_in(directory.path(), entries(2_000)).await;
        fill(&log, 2_000, 300).await;
    }
    wait_until_left(directory.path()).await;
    let file = fs::File::options().read(true).write(true).open(directory.path().join("mercure.sqlite3"));
    let file = file.expect("there");
    for page in (40..60).step_by(5) {
        file.write_all_at(&[0xa5; PAGE], page * PAGE as u64).expect("written");
    }
    let log = open_in(directory.path(), entries(2_000)).await;
    let before = kept_ids(&*log).await.len();
    assert!((1_000..2_000).contains(&before), "{before}");
    fill(&log, 6_000, 300).await;
    let kept = kept_ids(&*log).await.len();
    assert!((1_000..=2_000).contains(&kept), "{kept}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_cut_off() {
    let directory = TempDir::new().expect("a directory");
    let torn = directory.path().join("torn");
    // Before the log is tidied for the first time, all of it is in the write-ahead log.
    let (database, wal) = loop {
        let (whole, start) = (TempDir::new().expect("a directory"), Instant::now());
        let log = open_in(whole.path(), entries(1_000)).await;
        for number in 0..50 {
            append(&*log, &number.to_string(), 300).await;
        }
        let read = |name| fs::read(whole.path().join(name)).expect("read");
        let files = (read("mercure.sqlite3"), read("mercure.sqlite3-wal"));
        if start.elapsed() < Duration::from_secs(1) {
            break files;
        }
    };
    let mut before = 51;
    for cut in (0..wal.len()).rev().step_by(wal.len() / 40) {
        let _ = fs::remove_dir_all(&torn);
        fs::create_dir(&torn).expect("made");
        fs::write(torn.join("mercure.sqlite3"), &database).expect("written");
        fs::write(torn.join("mercure.sqlite3-wal"), &wal[..cut]).expect("written");
        let log = open_in(&torn, entries(1_000)).await;
        let ids = kept_ids(&*log).await;
        assert_eq!(ids, (0..ids.len()).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(ids.len() <= before);
        before = ids.len();
        append(&*log, "next", 10).await;
        drop(log);
        wait_until_left(&torn).await;
    }
    assert_eq!(before, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_taken_away_are_noticed_before_anything_more_is_acknowledged() {
    type Harm = fn(&Path);
    // Each with whether a restart mends it: it does if the database is where it was, and nothing of another log beside it.
    let harms: [(&str, bool, Harm); 7] = [
        ("the database", false, |log| fs::remove_file(log.join("mercure.sqlite3")).expect("removed")),
        ("the write-ahead log", true, |log| {
            fs::remove_file(log.join("mercure.sqlite3-wal")).expect("removed")
        }),
        ("the write-ahead log, for another", false, |log| {
            let file = log.join("mercure.sqlite3-wal");
            fs::copy(&file, log.join("copy")).expect("copied");
            fs::rename(log.join("copy"), file).expect("renamed");
        }),
        ("the lock", true, |log| fs::remove_file(log.join("mercure.lock")).expect("removed")),
        ("everything", false, |log| fs::remove_dir_all(log).expect("removed")),
        ("the directory's name", false, |log| fs::rename(log, log.with_extension("old")).expect("renamed")),
        ("the database, for a copy", false, |log| {
            let file = log.join("mercure.sqlite3");
            fs::copy(&file, log.join("copy")).expect("copied");
            fs::rename(log.join("copy"), file).expect("renamed");
        }),
    ];
    for (what, is_mended, harm) in harms {
        let outside = TempDir::new().expect("a directory");
        let directory = outside.path().join("log");
        let log = open_in(&directory, entries(10)).await;
        append(&*log, "1", 10).await;
        assert!(!log.needs_restart(), "{what}");
        harm(&directory);
        let refused = log.append(sized("2", 10)).await;
        let Err(TransportError::Failed(reason)) = refused else { panic!("{what}: {refused:?}") };
        assert!(reason.to_string().contains("removed, moved or replaced"), "{what}: {reason}");
        assert!(!log.is_ready(), "{what}");
        assert_eq!(log.needs_restart(), is_mended, "{what}");
        assert_eq!(kept_ids(&*log).await, ["1"], "{what}: what is there can be read");
        assert!(matches!(log.append(sized("3", 10)).await, Err(TransportError::Failed(_))), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_being_written_when_a_file_was_taken_away_may_be_there_after_a_restart() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "1", 10).await;
    fs::remove_file(directory.path().join("mercure.sqlite3-wal")).expect("removed");
    for refused in ["2", "3"] {
        let answer = log.append(sized(refused, 10)).await;
        assert!(matches!(answer, Err(TransportError::Failed(_))), "{answer:?}");
    }
    drop(log);
    wait_until_left(directory.path()).await;
    let kept = kept_ids(&*open_in(directory.path(), entries(10)).await).await;
    assert!(kept == ["1"] || kept == ["1", "2"], "{kept:?}");
}

/// SQLite makes a write-ahead log that is not there when a connection is opened, in the middle of the log's life, too.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_makes_a_write_ahead_log_again_that_is_taken_away() {
    let directory = TempDir::new().expect("a directory");
    let wal = directory.path().join("mercure.sqlite3-wal");
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "1", 10).await;
    fs::remove_file(&wal).expect("removed");
    // More at once than there are connections, each of which needs the database.
    let found = locate_at_once(&log, "1", 8).await;
    assert!(found.iter().all(|found| matches!(found, Ok(Some(_)))), "{found:?}");
    assert!(!wal.exists());
    let refused = log.append(sized("2", 10)).await;
    assert!(matches!(refused, Err(TransportError::Failed(_))), "{refused:?}");
    assert!(log.needs_restart() && !wal.exists());
}

/// A program that reads the database keeps the index of the write-ahead log, also of one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_appended_behind_frames_that_are_gone() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "1", 10).await;
    let program = rusqlite::Connection::open(directory.path().join("mercure.sqlite3")).expect("open");
    program.execute_batch("BEGIN; SELECT count(*) FROM updates").expect("it reads");
    fs::remove_file(directory.path().join("mercure.sqlite3-wal")).expect("removed");
    until("it is noticed", || !log.is_ready()).await;
    assert!(log.needs_restart());
    drop(log);
    wait_until_left(directory.path()).await;
    let url = format!("durable://{}", directory.path().display());
    let refused = open_url(&url, entries(10)).await.err().expect("refused").to_string();
    assert!(refused.contains("end that program"), "{refused}");
    drop(program);
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "2", 10).await;
    assert_eq!(kept_ids(&*log).await, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_keeps_from_the_database_is_not_said_to_be_there() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "1", 10).await;
    let program = rusqlite::Connection::open(directory.path().join("mercure.sqlite3")).expect("open");
    program.execute_batch("BEGIN; SELECT count(*) FROM updates").expect("it reads");
    append(&*log, "2", 10).await;
    fs::remove_file(directory.path().join("mercure.sqlite3-wal")).expect("removed");
    let refused = log.append(sized("3", 10)).await;
    let Err(TransportError::Failed(reason)) = refused else { panic!("{refused:?}") };
    assert!(reason.to_string().contains("is not whole"), "{reason}");
    assert!(!log.needs_restart(), "only this process has the rest");
}

/// Programs that read the database make a write-ahead log that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_write_ahead_log_in_the_place_of_another_needs_no_operator() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "1", 10).await;
    fs::remove_file(directory.path().join("mercure.sqlite3-wal")).expect("removed");
    fs::write(directory.path().join("mercure.sqlite3-wal"), "").expect("written");
    until("it is noticed", || !log.is_ready()).await;
    assert!(log.needs_restart());
    drop(log);
    wait_until_left(directory.path()).await;
    assert_eq!(kept_ids(&*open_in(directory.path(), entries(10)).await).await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_taken_away_is_noticed_when_nobody_publishes() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    append(&*log, "1", 10).await;
    fs::remove_file(directory.path().join("mercure.sqlite3-wal")).expect("removed");
    until("it is noticed", || !log.is_ready()).await;
    // Its content was moved to the database.
    drop(log);
    wait_until_left(directory.path()).await;
    let log = open_in(directory.path(), entries(10)).await;
    assert_eq!(kept_ids(&*log).await, ["1"]);
    append(&*log, "2", 10).await;
}

/// Many more than a commit takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ends_while_facts_are_recorded_is_an_error() {
    let directory = TempDir::new().expect("a directory");
    let log = open_in(directory.path(), entries(10)).await;
    let node = NodeId::new(1);
    let registry = log.registry().expect("a registry");
    registry.renew(node).await.expect("renew");
    let recording = tokio::spawn({
        let log = Arc::clone(&log);
        let facts: Vec<_> = (1..=50_000).map(|number| numbered_fact(number, true)).collect();
        async move { log.registry().expect("a registry").record(node, &facts).await }
    });
    let mut wait = Wait::new("a part is recorded");
    while registry.list(None).await.expect("list").is_empty() {
        wait.goes_on().await;
    }
    registry.resign(node).await.expect("resign");
    let recorded = recording.await.expect("no panic");
    assert!(matches!(recorded, Err(TransportError::Unavailable(_))), "{recorded:?}");
}

const PAGE: usize = 4_096;

fn entries(entries_max: usize) -> Retention {
    Retention { entries_max, ..Retention::default() }
}

async fn open_url(url: &str, retention: Retention) -> Result<Arc<dyn Transport>, OpenError> {
    open(&url.parse()?, &Options { retention, ..Options::default() }).await
}

async fn open_in(directory: &Path, retention: Retention) -> Arc<dyn Transport> {
    let url = format!("durable://{}", directory.display()).replace(' ', "%20");
    open_url(&url, retention).await.expect("open")
}

/// The log's thread tidies up after the log has been dropped.
async fn wait_until_left(directory: &Path) {
    let file = fs::File::options().write(true).open(directory.join("mercure.lock")).expect("there");
    until("the log is left", || file.try_lock().is_ok()).await;
}

async fn locate_at_once(
    log: &Arc<dyn Transport>,
    id: &'static str,
    times: usize,
) -> Vec<Result<Option<Position>, TransportError>> {
    let tasks = (0..times).map(|_| {
        let log = Arc::clone(log);
        tokio::spawn(async move { log.locate(id).await })
    });
    let mut found = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        found.push(task.await.expect("no panic"));
    }
    found
}

/// With many appenders, as that is fast.
async fn fill(log: &Arc<dyn Transport>, count: usize, bytes: usize) {
    let appenders = (0..100).map(|appender| {
        let log = Arc::clone(log);
        tokio::spawn(async move {
            for number in (appender..count).step_by(100) {
                append(&*log, &format!("fill-{number}"), bytes).await;
            }
        })
    });
    for appender in appenders.collect::<Vec<_>>() {
        appender.await.expect("appender");
    }
}

async fn append(log: &dyn Transport, id: &str, bytes: usize) -> Position {
    log.append(sized(id, bytes)).await.expect("append")
}

fn fact(active: bool) -> Fact {
    numbered_fact(1, active)
}

fn check_file(path: &Path) -> String {
    let connection = rusqlite::Connection::open(path).expect("open");
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked")
}
