//! The log that the processes of a host share: what it guarantees, to a process that leads and to one that does not.
#![cfg(feature = "host")]

mod kit;

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use async_trait::async_trait;
use kit::{
    until,
    updates::{
        append, append_again, ends_with_trimmed, follow, kept, kept_ids, open_log, take_to, try_open, update,
    },
};
use petasos_hub::{
    TransportError,
    conformance::{CHECKS, Subject},
    transport::Transport,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    task::JoinSet,
};

/// Logs in directories of their own.
#[derive(Default)]
struct Host {
    /// Whether another process, which is there already, leads what is checked.
    is_led: bool,
    made: Mutex<Vec<Made>>,
}

struct Made {
    url: String,
    history_max: usize,
    _directory: TempDir,
    _leader: Option<Arc<dyn Transport>>,
}

#[async_trait]
impl Subject for Host {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        let directory = TempDir::new().expect("a directory");
        let url = format!("host://{}?lease=2s", directory.path().display());
        let leader = match self.is_led {
            true => Some(open_log(&url, history_max).await),
            false => None,
        };
        let log = open_log(&url, history_max).await;
        let made = Made { url, history_max, _directory: directory, _leader: leader };
        self.made.lock().expect("no panic").push(made);
        log
    }

    async fn peer(&self) -> Option<Arc<dyn Transport>> {
        let (url, history_max) = {
            let made = self.made.lock().expect("no panic");
            let made = made.last()?;
            (made.url.clone(), made.history_max)
        };
        Some(open_log(&url, history_max).await)
    }
}

async fn conform(subject: &Host) {
    for (name, check) in CHECKS {
        let start = Instant::now();
        eprintln!("{name}");
        check(subject).await;
        eprintln!("    took {:?}", start.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leads_keeps_the_contract() {
    conform(&Host::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_keeps_the_contract() {
    conform(&Host { is_led: true, ..Host::default() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_do_not_notice_that_leaders_leave() {
    let directory = TempDir::new().expect("a directory");
    let url = format!("host://{}", directory.path().display());
    let leader = open_log(&url, ENTRIES_MAX).await;
    let log = open_log(&url, ENTRIES_MAX).await;
    let mut follower = log.follow(log.head().await.expect("head").position).await.expect("follow");
    let count = Arc::new(AtomicUsize::new(0));
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let count = Arc::clone(&count);
        // Each by a member of its own, some of which lead in their turn.
        let log = open_log(&url, ENTRIES_MAX).await;
        publishers.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..50 + 15 * publisher {
                let id = format!("{publisher}-{number}");
                acknowledged.push((append(&*log, &id).await, id));
                count.fetch_add(1, Ordering::Relaxed);
            }
            acknowledged
        });
    }
    until("they publish", || count.load(Ordering::Relaxed) > 50).await;
    drop(leader);
    let mut acknowledged = HashMap::new();
    while let Some(published) = publishers.join_next().await {
        acknowledged.extend(published.expect("no panic").into_iter().map(|(position, id)| (id, position)));
    }
    append(&*log, "end").await;
    let followed = take_to(&mut *follower, "end").await;
    assert_eq!(followed.len(), acknowledged.len() + 1, "nothing is there twice");
    for entry in &followed[..followed.len() - 1] {
        assert_eq!(acknowledged.get(entry.update.id().as_str()), Some(&entry.position));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_of_another_version_is_told() {
    let directory = TempDir::new().expect("a directory");
    let log = open_log(&format!("host://{}", directory.path().display()), 10).await;
    let socket = directory.path().join("mercure.socket");
    let mut stream = tokio::net::UnixStream::connect(&socket).await.expect("it listens");
    // A hello of version 99: its length, no number, the kind and the version, no member.
    let hello = [&11_u32.to_le_bytes()[..], &[0; 8], &[0, 99, 0]].concat();
    stream.write_all(&hello).await.expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("it ends");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("version 1, and this one 99: run one version of petasos"), "{answer}");
    append(&*log, "goes on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_one_process_uses_alone_is_left_to_it() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().display();
    let alone = open_log(&format!("durable://{path}"), 10).await;
    let error =
        try_open(&format!("host://{path}?timeout=4s"), 10).await.err().expect("it is held").to_string();
    assert!(error.contains("holds the lock of the log \"mercure\""), "{error}");
    append(&*alone, "goes on").await;
    drop(alone);
    let shared = open_log(&format!("host://{path}"), 10).await;
    assert_eq!(kept_ids(&*shared).await, ["goes on"]);
    let error = try_open(&format!("durable://{path}"), 10).await.err().expect("it is held").to_string();
    assert!(error.contains("another process holds the log"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_taken_away_begins_a_new_log() {
    let outside = TempDir::new().expect("a directory");
    let directory = outside.path().join("log");
    let url = format!("host://{}", directory.display());
    let (leader, member) = (open_log(&url, 10).await, open_log(&url, 10).await);
    let mut followers = [follow(&*leader).await, follow(&*member).await];
    let before = append(&*member, "before").await;
    std::fs::remove_dir_all(&directory).expect("removed");
    let after = append_again(&*member, "after").await;
    assert!(after.epoch > before.epoch);
    for follower in &mut followers {
        ends_with_trimmed(&mut **follower).await;
    }
    assert_eq!(kept_ids(&*leader).await, ["after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_is_taken_away_takes_nothing_with_it() {
    let directory = TempDir::new().expect("a directory");
    let url = format!("host://{}", directory.path().display());
    let (leader, member) = (open_log(&url, 10).await, open_log(&url, 10).await);
    let mut follower = follow(&*member).await;
    let before = append(&*member, "before").await;
    std::fs::remove_file(directory.path().join("mercure.sqlite3-wal")).expect("removed");
    let after = append_again(&*member, "after").await;
    assert_eq!(after.epoch, before.epoch);
    let followed = take_to(&mut *follower, "after").await;
    assert_eq!(followed.first().map(|entry| entry.position), Some(before));
    let kept = kept_ids(&*leader).await;
    assert_eq!(
        (kept.first().map(String::as_str), kept.last().map(String::as_str)),
        (Some("before"), Some("after"))
    );
}

/// A process of the host that publishes and follows, until its standard input ends. It prints what it was answered and
/// what it has followed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by other tests as a process of its own"]
async fn a_process() {
    let url = std::env::var(URL).expect("the test sets it");
    let name = std::env::var(NAME).expect("the test sets it");
    let log = open_log(&url, ENTRIES_MAX).await;
    let head = log.head().await.expect("head").position;
    let mut follower = log.follow(head).await.expect("follow");
    say("opened");
    let (seen, is_over) = (Arc::new(watch::Sender::new(head.sequence)), Arc::new(AtomicBool::new(false)));
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (log, seen, is_over) = (Arc::clone(&log), seen.subscribe(), Arc::clone(&is_over));
        let name = format!("{name}-{publisher}");
        publishers.spawn(publish(log, name, seen, is_over));
    }
    let following = tokio::spawn(async move {
        loop {
            for entry in follower.next().await.expect("follow") {
                say(&format!("followed {} {}", entry.position.sequence, entry.update.id().as_str()));
                if entry.update.id().as_str() == "end" {
                    return;
                }
                seen.send_replace(entry.position.sequence);
            }
        }
    });
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()))
        .await
        .expect("no panic")
        .expect("it ends");
    is_over.store(true, Ordering::Relaxed);
    publishers.join_all().await;
    say("published");
    following.await.expect("no panic");
    say("over");
}

/// Publishes one update after the other, each when the one before has come back.
async fn publish(
    log: Arc<dyn Transport>,
    name: String,
    mut seen: watch::Receiver<u64>,
    is_over: Arc<AtomicBool>,
) {
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("{name}-{number}");
        match log.append(update(&id)).await {
            Ok(position) => {
                say(&format!("acknowledged {} {id}", position.sequence));
                seen.wait_for(|seen| *seen >= position.sequence).await.expect("it is followed");
            }
            Err(TransportError::Unavailable(reason)) => say(&format!("unknown {id} {reason}")),
            Err(error) => panic!("{error}"),
        }
    }
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("the test reads it");
}

const URL: &str = "HOST_LOG_URL";
const NAME: &str = "HOST_LOG_NAME";
const ENTRIES_MAX: usize = 1_000_000;
const PUBLISHERS: usize = 3;

/// A process that runs [`a_process`].
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    fn start(url: &str, name: &str) -> Self {
        let program = std::env::current_exe().expect("this test");
        let mut child = Command::new(program)
            .args(["--ignored", "--exact", "--nocapture", "a_process"])
            .envs([(URL, url), (NAME, name)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let reader = std::thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                for line in output.lines().map_while(Result::ok) {
                    lines.lock().expect("no panic").push(line);
                }
            }
        });
        Self { child, lines, reader: Some(reader) }
    }

    fn count(&self, part: &str) -> usize {
        self.lines.lock().expect("no panic").iter().filter(|line| line.starts_with(part)).count()
    }

    async fn prints(&self, part: &str, more: usize) {
        let wanted = self.count(part) + more;
        until(part, || self.count(part) >= wanted).await;
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Kills it, and returns what it has printed.
    fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.child.wait().expect("it has ended");
        self.reader.take().expect("once").join().expect("no panic");
        std::mem::take(&mut *self.lines.lock().expect("no panic"))
    }
}

/// A directory, its URL and some processes that use it.
struct Processes {
    directory: TempDir,
    url: String,
    running: Vec<Process>,
    /// What those that have been killed have printed.
    ended: Vec<Vec<String>>,
    started: usize,
}

impl Processes {
    async fn start(count: usize) -> Self {
        let directory = TempDir::new().expect("a directory");
        let url = format!("host://{}", directory.path().display());
        let mut all = Self { directory, url, running: Vec::new(), ended: Vec::new(), started: 0 };
        for _ in 0..count {
            all.add();
        }
        for process in &all.running {
            process.prints("acknowledged", 20).await;
        }
        all
    }

    fn add(&mut self) {
        self.running.push(Process::start(&self.url, &format!("process-{}", self.started)));
        self.started += 1;
    }

    /// The process that leads.
    async fn leader(&self) -> usize {
        let mut wait = kit::Wait::new("one of them leads");
        loop {
            let lock =
                std::fs::read_to_string(self.directory.path().join("mercure.lock")).unwrap_or_default();
            let leader = lock.split_whitespace().nth(1).and_then(|number| number.parse::<u32>().ok());
            if let Some(at) = self.running.iter().position(|each| Some(each.child.id()) == leader) {
                return at;
            }
            wait.goes_on().await;
        }
    }

    /// Each of them goes on publishing.
    async fn go_on(&self) {
        for process in &self.running {
            process.prints("acknowledged", 20).await;
        }
    }

    /// Ends them, and checks that each has seen one order, in which everything that was acknowledged is once.
    async fn check(mut self) {
        for process in &mut self.running {
            process.child.stdin.take();
        }
        for process in &self.running {
            until("it has published", || process.count("published") == 1).await;
        }
        let log = open_log(&self.url, ENTRIES_MAX).await;
        append(&*log, "end").await;
        for process in &self.running {
            until("it has followed all", || process.count("over") == 1).await;
        }
        let entries = kept(&*log).await;
        let order: HashMap<_, _> = entries
            .iter()
            .map(|entry| (entry.update.id().as_str().to_owned(), entry.position.sequence))
            .collect();
        assert_eq!(order.len(), entries.len(), "nothing is there twice");
        let mut acknowledged = 0;
        let finished: Vec<_> = self.running.into_iter().map(Process::end).collect();
        for lines in finished.iter().chain(&self.ended) {
            let mut last = None;
            for line in lines {
                let words: Vec<_> = line.split(' ').collect();
                match words[..] {
                    ["acknowledged", sequence, id] => {
                        let sequence: u64 = sequence.parse().expect("a number");
                        assert_eq!(order.get(id), Some(&sequence), "{id} was acknowledged");
                        acknowledged += 1;
                    }
                    ["followed", sequence, id] => {
                        let sequence: u64 = sequence.parse().expect("a number");
                        assert!(last.is_none_or(|last| last + 1 == sequence), "{sequence} after {last:?}");
                        assert_eq!(order.get(id), Some(&sequence), "{id} was followed");
                        last = Some(sequence);
                    }
                    _ => {}
                }
            }
        }
        for lines in &finished {
            assert!(lines.iter().any(|line| line.ends_with(" end")), "it has followed all");
        }
        eprintln!("{acknowledged} of {} updates were acknowledged", entries.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_takes_nothing_with_it() {
    let mut all = Processes::start(4).await;
    for _ in 0..5 {
        let leader = all.leader().await;
        let killed = all.running.swap_remove(leader);
        killed.signal("KILL");
        all.ended.push(killed.end());
        all.go_on().await;
        all.add();
        all.go_on().await;
    }
    all.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_stops_is_replaced_and_joins_the_others_later() {
    let all = Processes::start(3).await;
    for _ in 0..2 {
        let leader = all.leader().await;
        all.running[leader].signal("STOP");
        for (at, process) in all.running.iter().enumerate() {
            if at != leader {
                process.prints("acknowledged", 20).await;
            }
        }
        assert_ne!(all.leader().await, leader);
        all.running[leader].signal("CONT");
        all.go_on().await;
    }
    all.check().await;
}
