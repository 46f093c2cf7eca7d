//! The hub under a service manager: what it says to it, and the sockets that it gets from it.

use std::{
    collections::VecDeque,
    fs,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Instant,
};

use crate::{Client, PATIENCE, Start, assert_it_serves, lines_of};

/// What systemd would be: a socket that receives messages.
struct Manager {
    socket: UnixDatagram,
    /// Lines that have come and have not been looked at.
    lines: VecDeque<String>,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self { socket, lines: VecDeque::new() }
    }

    /// Waits for a line that begins so; others are skipped.
    fn wait_for(&mut self, start: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.next();
            if line.starts_with(start) {
                return line;
            }
            // Signs of life come for ever.
            assert!(Instant::now() < deadline, "waited in vain for {start}, at last: {line}");
        }
    }

    /// Waits for the next line.
    fn next(&mut self) -> String {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return line;
            }
            let mut message = [0; 4_096];
            let length = self.socket.recv(&mut message).expect("a message");
            let text = std::str::from_utf8(&message[..length]).expect("UTF-8");
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }
}

#[test]
fn the_manager_hears_of_the_start_the_streams_the_life_and_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let name = format!("petasos-test-{}", std::process::id());
    let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
    let sockets = [
        (path.display().to_string(), UnixDatagram::bind(&path).expect("bind")),
        (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name).expect("bind")),
    ];
    for (address, socket) in sockets {
        let mut manager = Manager::new(socket);
        let script =
            format!("NOTIFY_SOCKET={address} WATCHDOG_USEC=200000 WATCHDOG_PID=$$ exec \"$0\" \"$@\"");
        let script = script.replacen("NOTIFY", "export NOTIFY", 1).replacen(" exec", "; exec", 1);
        let mut hub = Start::new().drain("1h", "0").script(&script).start();
        manager.wait_for("READY=1");
        assert_eq!(manager.wait_for("STATUS="), "STATUS=0 streams; the log takes updates");
        let _stream = Client::subscribe(hub.address());
        assert_eq!(manager.wait_for("STATUS="), "STATUS=1 streams; the log takes updates");
        for _ in 0..3 {
            manager.wait_for("WATCHDOG=1");
        }
        hub.signal("TERM");
        manager.wait_for("STOPPING=1");
        assert_eq!(manager.wait_for("STATUS="), "STATUS=1 streams; the hub is about to stop");
        manager.wait_for("WATCHDOG=1");
        hub.signal("TERM");
        assert!(hub.ended_within(PATIENCE).success());
    }
}

#[test]
fn a_log_that_has_failed_for_good_ends_the_signs_of_life() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, log) = (directory.path().join("notify"), directory.path().join("log"));
    let mut manager = Manager::new(UnixDatagram::bind(&path).expect("bind"));
    let script = format!(
        "export NOTIFY_SOCKET={} WATCHDOG_USEC=200000 WATCHDOG_PID=$$; exec \"$0\" \"$@\"",
        path.display()
    );
    let transport = format!("durable://{}", log.display());
    let mut hub = Start::new().script(&script).with(&["--transport", &transport]).start();
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    fs::remove_file(log.join("mercure.sqlite3-wal")).expect("removed");
    assert_eq!(manager.wait_for("STATUS=0 streams; the log"), "STATUS=0 streams; the log has failed");
    let mut client = Client::connect(hub.address());
    assert_eq!(client.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 503);
    // The status is still told, in the same step as a sign of life would be.
    let _stream = Client::subscribe(hub.address());
    assert_eq!(manager.next(), "STATUS=1 streams; the log has failed");
    hub.stop("TERM");
}

#[test]
fn a_manager_that_is_away_or_meant_for_another_process_changes_nothing() {
    let script =
        "export NOTIFY_SOCKET=/nowhere LISTEN_PID=1 LISTEN_FDS=1 WATCHDOG_USEC=x; exec \"$0\" \"$@\"";
    let mut hub = Start::new().script(script).start();
    let address = hub.address();
    assert_it_serves(address);
    hub.stop("TERM");
}

#[test]
fn a_socket_of_the_manager_is_used_instead_of_another() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("bound");
    // The shell gives it the number that systemd would.
    let script =
        "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=petasos; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut hub =
        Start::new().script(script).input(OwnedFd::from(listener.try_clone().expect("a copy"))).start();
    assert_it_serves(address);
    assert_eq!(hub.address(), address, "there is no other");
    // It is still open here, so nothing is refused while the hub is away.
    hub.stop("TERM");
    let mut waiting = Client::connect(address);
    let mut hub = Start::new().script(script).input(OwnedFd::from(listener)).start();
    assert_eq!(waiting.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 200);
    hub.stop("TERM");
}

#[test]
fn a_socket_that_other_machines_reach_is_refused_unless_listen_says_so_too() {
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let listener = TcpListener::bind("0.0.0.0:0").expect("bind");
    let copy = || OwnedFd::from(listener.try_clone().expect("a copy"));
    // A proxy passes requests to the URL on. That does not open the port itself.
    for arguments in [&[][..], &["--public-url", "https://hub.example/.well-known/mercure"]] {
        let (errors, log) = std::io::pipe().expect("a pipe");
        let mut hub = Start::new().script(script).with(arguments).input(copy()).error(log).start();
        assert!(!hub.ended_within(PATIENCE).success(), "{arguments:?}");
        let lines: Vec<_> = lines_of(errors).iter().collect();
        assert!(
            lines.iter().any(|line| line.contains("give the address of the socket as listen")),
            "{lines:?}"
        );
    }
    let mut hub = Start::new().script(script).listen("0.0.0.0:0").input(copy()).start();
    assert_it_serves(([127, 0, 0, 1], listener.local_addr().expect("bound").port()).into());
    hub.stop("TERM");
}

#[test]
fn a_descriptor_that_is_no_listening_socket_is_an_error() {
    let file = fs::File::open("/dev/null").expect("a file");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" \"$@\" 3<&0 </dev/null";
    let mut hub = Start::new().script(script).input(file).start();
    assert!(!hub.ended_within(PATIENCE).success());
}
