//! A new process takes over the listening socket of the one that runs.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use crate::{Client, PATIENCE, Process, Start, lines_of, publish, valid_token};

/// A directory for the socket and the log that goes away with its test.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("takeover")
    }

    /// Starts a hub that offers its socket, and waits until it says that it serves.
    fn start(&self, log: &str) -> (Process, SocketAddr, mpsc::Receiver<String>) {
        let (output, says) = io::pipe().expect("a pipe");
        let (errors, logs) = io::pipe().expect("a pipe");
        let path = self.socket();
        let start = Start::new().drain("0", "1s").with(&["--takeover", path.to_str().expect("UTF-8")]);
        let hub = start.with(&["--transport", log]).output(says).error(logs).start();
        let line = lines_of(output).recv_timeout(PATIENCE).expect("it serves");
        let address = line.strip_prefix("Serving on http://").and_then(|rest| rest.split('/').next());
        (hub, address.expect("an address").parse().expect("an address"), lines_of(errors))
    }

    fn host_log(&self) -> String {
        let directory = self.0.path().join("log");
        std::fs::create_dir_all(&directory).expect("made");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700)).expect("changed");
        format!("host://{}", directory.display())
    }
}

fn wait_for(lines: &mpsc::Receiver<String>, part: &str) {
    while !lines.recv_timeout(PATIENCE).expect("a line").contains(part) {}
}

/// Connects as fast as it can, with a request each time, until it is told to end.
struct Knocking {
    ends: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Knocking {
    fn start(address: SocketAddr) -> Self {
        let (ends, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (ends, answered) = (Arc::clone(&ends), Arc::clone(&answered));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !ends.load(Ordering::Relaxed) {
                    match knock(address) {
                        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
                            let _ = answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failures.push(answer),
                        Err(error) => failures.push(error.to_string()),
                    }
                }
                failures
            })
        };
        Self { ends, answered, thread }
    }

    fn wait_for(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        while self.answered.load(Ordering::Relaxed) < wanted {
            assert!(!self.thread.is_finished());
            thread::yield_now();
        }
    }

    fn end(self) -> Vec<String> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("no panic")
    }
}

fn knock(address: SocketAddr) -> io::Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream
        .write_all(publish(&valid_token()).replace("Host: x", "Host: x\r\nConnection: close").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn no_connection_is_refused_while_one_hub_takes_over_from_another_and_back() {
    let place = Place::new();
    let log = place.host_log();
    let (mut old, address, old_log) = place.start(&log);
    let mode = std::fs::symlink_metadata(place.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let knocking: Vec<_> = (0..2).map(|_| Knocking::start(address)).collect();
    let mut stream = Client::subscribe(address);
    knocking[0].wait_for(50);
    let mut old_log = Some(old_log);
    for _ in 0..2 {
        let (new, same, new_log) = place.start(&log);
        assert_eq!(same, address);
        wait_for(&old_log.take().expect("a log"), "a new hub has taken over");
        assert!(old.ended_within(PATIENCE).success(), "it drains and ends");
        assert!(stream.rest().ends_with("\n\r\n0\r\n\r\n"), "its stream is whole");
        stream = Client::subscribe(address);
        knocking[0].wait_for(50);
        (old, old_log) = (new, Some(new_log));
    }
    for knocking in knocking {
        assert_eq!(knocking.end(), Vec::<String>::new());
    }
    old.stop("TERM");
    assert!(!place.socket().exists(), "the last one removes it");
}

#[test]
fn a_new_hub_that_does_not_start_leaves_the_old_one_alone() {
    let place = Place::new();
    let (mut old, address, log) = place.start("memory:");
    let mut stream = Client::subscribe(address);
    // It asks, gets the sockets, and cannot open its log.
    let path = place.socket();
    let new = Start::new().with(&[
        "--takeover",
        path.to_str().expect("UTF-8"),
        "--transport",
        "durable:///proc/none",
    ]);
    let mut new = new.start();
    assert!(!new.ended_within(PATIENCE).success());
    wait_for(&log, "this one goes on");
    // One that dies, one that says something else, and one that waits while another asks.
    drop(UnixStream::connect(&path).expect("connect"));
    wait_for(&log, "this one goes on");
    let mut strange = UnixStream::connect(&path).expect("connect");
    strange.write_all(b"GET / HTTP/1.1\n").expect("sent");
    wait_for(&log, "this one goes on");
    let mut waiting = UnixStream::connect(&path).expect("connect");
    waiting.write_all(b"petasos-takeover 1\n").expect("sent");
    let mut answer = [0; 8];
    waiting.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"sockets\n");
    let mut second = UnixStream::connect(&path).expect("connect");
    let mut answer = String::new();
    second.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "busy\n");
    drop(waiting);
    wait_for(&log, "this one goes on");
    assert_eq!(Client::connect(address).ask(&publish(&valid_token())).0, 200);
    old.stop("TERM");
    assert!(stream.rest().contains("data: hello\n\n"), "its stream went on");
}

#[test]
fn a_durable_log_is_not_taken_over_and_the_error_names_the_way_out() {
    let place = Place::new();
    let directory = place.0.path().join("durable");
    let log = format!("durable://{}", directory.display());
    let (mut old, address, _log) = place.start(&log);
    let (errors, logs) = io::pipe().expect("a pipe");
    let path = place.socket();
    let new =
        Start::new().with(&["--takeover", path.to_str().expect("UTF-8"), "--transport", &log]).error(logs);
    assert!(!new.start().ended_within(PATIENCE).success());
    wait_for(&lines_of(errors), "use host:///DIRECTORY");
    assert_eq!(Client::connect(address).ask(&publish(&valid_token())).0, 200);
    old.stop("TERM");
}

#[test]
fn something_else_at_the_path_is_left_as_it_is() {
    let place = Place::new();
    std::fs::write(place.socket(), "precious").expect("written");
    let path = place.socket();
    let mut hub = Start::new().with(&["--takeover", path.to_str().expect("UTF-8")]).start();
    assert!(!hub.ended_within(PATIENCE).success());
    assert_eq!(std::fs::read_to_string(place.socket()).expect("text"), "precious");
}
