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
    second.write_all(b"petasos-takeover 1\n").expect("sent");
    let mut answer = String::new();
    second.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "busy\n");
    drop(waiting);
    wait_for(&log, "this one goes on");
    assert_eq!(Client::connect(address).ask(&publish(&valid_token())).0, 200);
    old.stop("TERM");
    assert!(stream.rest().contains("data: hello\n\n"), "its stream went on");
}

/// Starts a hub that takes over from the one at the address, and returns what it logs.
fn next(place: &Place, listen: &str) -> (Process, mpsc::Receiver<String>) {
    let (errors, logs) = io::pipe().expect("a pipe");
    let path = place.socket();
    let start = Start::new().drain("0", "1s").with(&["--takeover", path.to_str().expect("UTF-8")]);
    (start.listen(listen).error(logs).start(), lines_of(errors))
}

#[test]
fn a_new_hub_whose_own_offer_cannot_be_made_leaves_the_old_one_alone() {
    let place = Place::new();
    let (mut old, address, _log) = place.start("memory:");
    let mut stream = Client::subscribe(address);
    // It leads to the old hub, and a hub does not replace what is no socket.
    let link = place.0.path().join("link");
    std::os::unix::fs::symlink(place.socket(), &link).expect("a link");
    let (errors, logs) = io::pipe().expect("a pipe");
    let mut new = Start::new().with(&["--takeover", link.to_str().expect("UTF-8")]).error(logs).start();
    assert!(!new.ended_within(PATIENCE).success());
    wait_for(&lines_of(errors), "takeover: ");
    assert_eq!(Client::connect(address).ask(&publish(&valid_token())).0, 200);
    old.stop("TERM");
    assert!(stream.rest().contains("data: hello\n\n"), "its stream went on");
}

/// A hub that passes its socket, and then does what the test wants.
fn pretend(place: &Place) -> (std::os::unix::net::UnixListener, std::net::TcpListener) {
    let offer = std::os::unix::net::UnixListener::bind(place.socket()).expect("bind");
    (offer, std::net::TcpListener::bind("127.0.0.1:0").expect("bind"))
}

fn greet(offer: &std::os::unix::net::UnixListener, socket: &std::net::TcpListener) -> UnixStream {
    let (mut connection, _) = offer.accept().expect("a hub asks");
    let mut greeting = [0; 19];
    connection.read_exact(&mut greeting).expect("a greeting");
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = rustix::net::SendAncillaryBuffer::new(&mut space);
    let descriptors = [std::os::fd::AsFd::as_fd(socket)];
    assert!(ancillary.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors)));
    let flags = rustix::net::SendFlags::empty();
    rustix::net::sendmsg(&connection, &[io::IoSlice::new(b"sockets\n")], &mut ancillary, flags)
        .expect("sent");
    connection
}

#[test]
fn a_hub_that_waits_no_longer_goes_on_alone_and_one_that_has_ended_is_replaced() {
    for has_ended in [false, true] {
        let place = Place::new();
        let (offer, socket) = pretend(&place);
        let (mut new, log) = next(&place, "127.0.0.1:0");
        drop(greet(&offer, &socket));
        if has_ended {
            drop(offer);
            wait_for(&log, "has ended by itself");
            assert_eq!(
                Client::connect(socket.local_addr().expect("bound")).ask(&publish(&valid_token())).0,
                200
            );
            new.stop("TERM");
            assert!(!place.socket().exists());
        } else {
            drop(greet(&offer, &socket));
            wait_for(&log, "no longer waits for this one");
            assert!(!new.ended_within(PATIENCE).success());
            assert!(place.socket().exists(), "it is the other hub's");
        }
    }
}

#[test]
fn a_hub_that_was_told_to_listen_elsewhere_takes_over_nothing() {
    let place = Place::new();
    let (mut old, address, _log) = place.start("memory:");
    let other = if address.port() == 1 { 2 } else { 1 };
    for (listen, part) in
        [(format!("127.0.0.1:{other}"), "to change the address"), ("0.0.0.0:0".to_owned(), "0.0.0.0:0")]
    {
        let (mut new, log) = next(&place, &listen);
        wait_for(&log, part);
        assert!(!new.ended_within(PATIENCE).success());
    }
    assert_eq!(Client::connect(address).ask(&publish(&valid_token())).0, 200);
    old.stop("TERM");
}

#[test]
fn a_socket_for_operators_is_taken_from_the_manager_if_the_old_hub_has_none() {
    let place = Place::new();
    let (mut old, address, old_log) = place.start("memory:");
    let operators = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=admin; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let path = place.socket();
    let start = Start::new().admin("127.0.0.1:0").with(&["--takeover", path.to_str().expect("UTF-8")]);
    let copy = std::os::fd::OwnedFd::from(operators.try_clone().expect("a copy"));
    let mut new = start.script(script).input(copy).start();
    wait_for(&old_log, "a new hub has taken over");
    assert!(old.ended_within(PATIENCE).success());
    for (address, path) in [(address, "/healthz"), (operators.local_addr().expect("bound"), "/status")] {
        assert_eq!(
            Client::connect(address).ask(&format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).0,
            200
        );
    }
    new.stop("TERM");
}

#[test]
fn the_first_signal_after_a_takeover_ends_all_streams_at_once() {
    let place = Place::new();
    let path = place.socket();
    let start = Start::new().drain("0", "1h").with(&["--takeover", path.to_str().expect("UTF-8")]);
    let (errors, logs) = io::pipe().expect("a pipe");
    let mut old = start.error(logs).start();
    let log = lines_of(errors);
    let mut streams = [Client::subscribe(old.address()), Client::subscribe(old.address())];
    let mut new = loop {
        // The old one offers its socket just after it has begun to listen.
        if path.exists() {
            break next(&place, "127.0.0.1:0").0;
        }
        thread::yield_now();
    };
    wait_for(&log, "a new hub has taken over");
    old.signal("TERM");
    wait_for(&log, "stopping at once");
    assert!(old.ended_within(std::time::Duration::from_secs(5)).success());
    for stream in &mut streams {
        assert!(stream.rest().ends_with("\r\n0\r\n\r\n"), "it is whole");
    }
    new.stop("TERM");
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
