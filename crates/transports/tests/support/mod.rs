//! Real servers for tests: each on a free port, in a directory of its own, gone with the value.

#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Makes the command of a server that keeps everything in the directory and listens on the port.
type Start = Box<dyn Fn(&Path, u16) -> Command + Send + Sync>;

/// A running server.
pub struct Server {
    child: Child,
    command: Start,
    directory: TempDir,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

/// Far above what any of them needs to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

impl Server {
    /// Starts what `command` makes of an empty directory and a free port, and waits until it listens.
    pub fn start(command: impl Fn(&Path, u16) -> Command + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().expect("a directory");
        // Whoever takes the port in between makes the test fail to start, which says so.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = spawn(&mut command(directory.path(), port), port);
        Self { child, command: Box::new(command), directory, port }
    }

    /// The directory, which it keeps over a restart.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it as an operator would, and waits for it.
    pub fn stop(&mut self) {
        self.signal("TERM");
        self.wait();
    }

    /// Ends it with a signal by its name, and waits for it.
    pub fn end(&mut self, signal: &str) {
        self.signal(signal);
        self.wait();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as the system would.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.wait();
    }

    /// It answers nothing until it is resumed.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Starts it again after a stop, in the same directory and on the same port.
    pub fn restart(&mut self) {
        self.child = spawn(&mut (self.command)(self.directory.path(), self.port), self.port);
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().expect("kill");
        assert!(status.success(), "{name} {id}");
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("wait").is_none() {
            assert!(Instant::now() < deadline, "the server ends");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(command: &mut Command, port: u16) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{:?} does not start: {error}: run \"make system-packages\" as root", command.get_program())
    });
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.try_wait().expect("wait");
        assert!(ended.is_none(), "{:?} ended: {ended:?}", command.get_program());
        assert!(Instant::now() < deadline, "the server listens");
        thread::sleep(Duration::from_millis(10));
    }
    child
}
