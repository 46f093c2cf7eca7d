//! A real server in a process of its own.

use std::{
    fs,
    io::{self, BufRead, BufReader, PipeReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    thread,
    time::Instant,
};

use tempfile::TempDir;

use super::{PATIENCE, Port};

/// Makes the command of a server that keeps everything in the directory and listens on the port.
type Start = Box<dyn Fn(&Path, u16) -> Command + Send + Sync>;

/// A running server. It ends with this value.
pub struct Server {
    child: Child,
    written: Arc<Written>,
    command: Start,
    directory: TempDir,
    /// The port remains the server's while the server is down.
    _held: Port,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl Server {
    /// Starts what `command` makes of an empty directory and a port, and waits until it says that it is ready.
    pub fn start(command: impl Fn(&Path, u16) -> Command + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().expect("a directory");
        let held = Port::hold();
        let port = held.number();
        let (child, written) = spawn(command(directory.path(), port));
        Self { child, written, command: Box::new(command), directory, _held: held, port }
    }

    /// The directory, which it keeps over a restart.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it as an operator would, and waits for it.
    pub fn stop(&mut self) {
        self.end("TERM");
    }

    /// Ends it as the system would.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// Ends it with a signal by its name, and waits for it.
    pub fn end(&mut self, name: &str) {
        self.signal(name);
        let (ended, end) = mpsc::sync_channel(1);
        let id = self.child.id();
        thread::scope(|scope| {
            scope.spawn(|| ended.send(self.child.wait()));
            if let Ok(status) = end.recv_timeout(PATIENCE) {
                status.expect("wait");
            } else {
                signal(id, "KILL");
                panic!("the server does not end after {name}");
            }
        });
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// It answers nothing until it is resumed. Returns when none of its threads runs any more: a signal takes effect some
    /// time after it was sent.
    pub fn pause(&self) {
        self.signal("STOP");
        let deadline = Instant::now() + PATIENCE;
        while !self.is_paused() {
            assert!(Instant::now() < deadline, "the server does not pause");
            thread::yield_now();
        }
    }

    /// Whether each thread has stopped (T). Where the system has no `/proc`, the signal must do.
    fn is_paused(&self) -> bool {
        let Ok(mut threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else { return true };
        // The state follows the name, which ends with the last parenthesis.
        threads.all(|thread| {
            let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
            stat.is_err()
                || stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
        })
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// Starts it again after its end, in the same directory and on the same port.
    pub fn restart(&mut self) {
        (self.child, self.written) = spawn((self.command)(self.directory.path(), self.port));
    }

    /// Waits until it has written so many lines with these words since it was started.
    pub fn writes(&self, words: &str, count: usize) {
        let is_said = |lines: &[String]| lines.iter().filter(|line| line.contains(words)).count() >= count;
        assert!(self.written.wait(is_said), "it writes {words:?}: {}", self.written.text());
    }

    /// How many lines with these words it has written since it was started.
    pub fn count(&self, words: &str) -> usize {
        self.written.lock().0.iter().filter(|line| line.contains(words)).count()
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(process: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &process.to_string()]).status().expect("kill");
    assert!(status.success(), "{name} {process}");
}

/// Runs a program to its end. Skips the test where the program is not installed.
pub fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| does_not_start(command, &error))
}

/// Ends the test. `make test` counts it as skipped, for this reason; `cargo test` alone shows a failure.
pub fn skip(reason: &str) -> ! {
    panic!("skipped: {reason}")
}

fn does_not_start(command: &Command, error: &io::Error) -> ! {
    let program = command.get_program().display();
    match error.kind() {
        io::ErrorKind::NotFound => skip(&format!("{program} is not installed")),
        _ => panic!("{program} does not start: {error}"),
    }
}

fn spawn(mut command: Command) -> (Child, Arc<Written>) {
    let (output, input) = io::pipe().expect("a pipe");
    command.stdin(Stdio::null()).stdout(input.try_clone().expect("a descriptor")).stderr(input);
    let mut child = command.spawn().unwrap_or_else(|error| does_not_start(&command, &error));
    let program = command.get_program().display().to_string();
    // With it goes our end of the pipe for writing, so that reading ends with the server.
    drop(command);
    let written = Arc::new(Written::default());
    thread::spawn({
        let written = Arc::clone(&written);
        move || written.read(output)
    });
    let is_ready = |lines: &[String]| lines.iter().any(|line| READY.iter().any(|words| line.contains(words)));
    if !written.wait(is_ready) {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{program} does not become ready: {}", written.text());
    }
    (child, written)
}

/// The output of a server, standard output and error.
#[derive(Default)]
struct Written {
    lines: Mutex<(Vec<String>, Ended)>,
    changed: Condvar,
}

type Ended = bool;

impl Written {
    /// Reads to the end, as the server would wait otherwise.
    fn read(&self, output: PipeReader) {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            self.lock().0.push(String::from_utf8_lossy(&line).into_owned());
            self.changed.notify_all();
        }
        self.lock().1 = true;
        self.changed.notify_all();
    }

    /// Whether something becomes so before the server ends.
    fn wait(&self, is_so: impl Fn(&[String]) -> bool) -> bool {
        let goes_on = |(lines, ended): &mut (Vec<String>, Ended)| !*ended && !is_so(lines);
        let (state, _) = self.changed.wait_timeout_while(self.lock(), PATIENCE, goes_on).expect("no panic");
        is_so(&state.0)
    }

    fn text(&self) -> String {
        self.lock().0.join("\n")
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<String>, Ended)> {
        self.lines.lock().expect("no panic")
    }
}

/// The lines that Redis and PostgreSQL, NATS, and a sentinel of Redis write when they accept connections.
const READY: [&str; 3] = ["eady to accept connections", "Server is ready", "+monitor master"];
