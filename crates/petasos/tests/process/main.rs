//! The process of the hub with broken standard streams, signals and low limits: it serves, and it ends in time.
#![cfg(target_os = "linux")]

use std::{
    fs::File,
    io::{self, BufRead, BufReader, PipeReader, PipeWriter, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};

mod drain;
mod manager;
mod takeover;

const BINARY: &str = env!("CARGO_BIN_EXE_petasos");
const KEYS: [&str; 6] = ["--publisher-key", KEY, "--subscriber-key", OTHER, "--compat", "--anonymous"];
const KEY: &str = "a key of this test, of at least 32 bytes";
/// One secret for both roles would be warned of.
const OTHER: &str = "another key of this test, of at least 32 bytes";

/// How long the hub's drain is in these tests, in seconds.
const DRAIN: u64 = 1;

/// How long a test waits for what happens in milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed on drop.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How the hub is started: by a shell, which can close its streams and set its limits.
struct Start {
    script: String,
    delay: String,
    drain: String,
    arguments: Vec<String>,
    input: Stdio,
    output: Stdio,
    error: Stdio,
}

impl Start {
    fn new() -> Self {
        let arguments = [&["--listen", "127.0.0.1:0", "--admin-listen", "off"][..], &KEYS].concat();
        Self {
            script: "exec \"$0\" \"$@\"".to_owned(),
            delay: "0".to_owned(),
            drain: format!("{DRAIN}s"),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            input: Stdio::null(),
            output: Stdio::null(),
            error: Stdio::null(),
        }
    }

    fn script(self, script: &str) -> Self {
        Self { script: script.to_owned(), ..self }
    }

    fn drain(self, delay: &str, drain: &str) -> Self {
        Self { delay: delay.to_owned(), drain: drain.to_owned(), ..self }
    }

    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.arguments[1]);
        self
    }

    fn admin(mut self, address: &str) -> Self {
        address.clone_into(&mut self.arguments[3]);
        self
    }

    fn input(self, input: impl Into<Stdio>) -> Self {
        Self { input: input.into(), ..self }
    }

    fn output(self, output: impl Into<Stdio>) -> Self {
        Self { output: output.into(), ..self }
    }

    fn error(self, error: impl Into<Stdio>) -> Self {
        Self { error: error.into(), ..self }
    }

    fn start(self) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", &self.script, BINARY, "--drain-delay", &self.delay, "--drain", &self.drain]);
        command.args(self.arguments);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("NO_COLOR", "1");
        command.stdin(self.input).stdout(self.output).stderr(self.error);
        Process(command.spawn().expect("a shell"))
    }
}

impl Process {
    /// Where it listens, as the system says it: it may have no way to say it itself.
    fn address(&mut self) -> SocketAddr {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = listening_port(self.0.id()) {
                return SocketAddr::from(([127, 0, 0, 1], port));
            }
            assert!(self.0.try_wait().expect("a child").is_none(), "it has ended");
            assert!(Instant::now() < deadline, "it never listens");
            thread::yield_now();
        }
    }

    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().expect("kill").success());
    }

    /// Waits for the end, which must come in that time.
    fn ended_within(&mut self, time_max: Duration) -> ExitStatus {
        let deadline = Instant::now() + time_max;
        loop {
            match self.0.try_wait().expect("a child") {
                Some(status) => return status,
                None => assert!(Instant::now() < deadline, "it has not ended within {time_max:?}"),
            }
            thread::yield_now();
        }
    }

    /// Ends it with a signal, orderly and in time.
    fn stop(&mut self, name: &str) {
        self.signal(name);
        let status = self.ended_within(Duration::from_secs(DRAIN + 2));
        assert!(status.success(), "{status}");
    }
}

/// The port of the one socket on which the process listens.
fn listening_port(process: u32) -> Option<u16> {
    let links = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    let sockets: Vec<String> = links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_its_own = fields[3] == "0A" && sockets.iter().any(|inode| inode == fields[9]);
        let port = fields[1].split_once(':')?.1;
        is_its_own.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}

/// A pipe that takes nothing more.
fn full_pipe(is_blocking: bool) -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    set_blocking(&writer, false);
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    set_blocking(&writer, is_blocking);
    (reader, writer)
}

fn set_blocking(pipe: impl AsFd, is_blocking: bool) {
    let flags = rustix::fs::fcntl_getfl(&pipe).expect("flags");
    let flags = flags.difference(rustix::fs::OFlags::NONBLOCK);
    let flags = if is_blocking { flags } else { flags | rustix::fs::OFlags::NONBLOCK };
    rustix::fs::fcntl_setfl(&pipe, flags).expect("set");
}

/// A connection that carries one request after the other.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        stream.set_nodelay(true).expect("an option");
        Self(BufReader::new(stream))
    }

    /// Sends a request and reads the answer's status and body.
    fn ask(&mut self, request: &str) -> (u16, String) {
        self.0.get_mut().write_all(request.as_bytes()).expect("sent");
        self.answer()
    }

    fn answer(&mut self) -> (u16, String) {
        let head = self.head();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        self.0.read_exact(&mut body).expect("a body");
        (status, String::from_utf8(body).expect("UTF-8"))
    }

    /// A stream, of which the head has been read.
    fn subscribe(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        let request = "GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: x\r\n\r\n";
        client.0.get_mut().write_all(request.as_bytes()).expect("sent");
        assert!(client.head().starts_with("HTTP/1.1 200 OK"));
        client
    }

    /// Everything until the connection ends.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.0.read_to_string(&mut rest).expect("text");
        rest
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("an answer"), 0, "the connection ends: {head:?}");
        }
        head
    }
}

fn publish(token: &str) -> String {
    let body = "topic=a&data=hello";
    format!(
        "POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn valid_token() -> String {
    let signer = petasos_auth::Signer::parse(KEY, None).expect("a key");
    signer.sign("JWT", r#"{"mercure":{"publish":["*"]}}"#)
}

/// Has so many tokens refused, each of which is a line of the log.
fn refuse(address: SocketAddr, count: usize) {
    let mut client = Client::connect(address);
    let request = publish(&format!("{}AAAA", valid_token()));
    for number in 0..count {
        assert_eq!(client.ask(&request).0, 401, "number {number}");
    }
}

fn assert_it_serves(address: SocketAddr) {
    let mut client = Client::connect(address);
    assert_eq!(client.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 200);
    assert_eq!(client.ask(&publish(&valid_token())).0, 200);
    Client::subscribe(address);
}

#[test]
fn a_log_that_cannot_be_written_stops_no_request_and_no_end() {
    let (reader, unread) = io::pipe().expect("a pipe");
    let (full_reader, full) = full_pipe(true);
    let (other_reader, other) = full_pipe(false);
    let (gone, abandoned) = io::pipe().expect("a pipe");
    drop(gone);
    let device = File::options().write(true).open("/dev/full").expect("/dev/full");
    let starts = [
        ("a full device", Start::new().error(device)),
        ("a reader that has gone", Start::new().error(abandoned)),
        ("nobody reads", Start::new().error(unread)),
        ("nobody has read", Start::new().error(full)),
        ("nobody has read, in non-blocking mode", Start::new().error(other)),
        ("closed", Start::new().script("exec \"$0\" \"$@\" 2>&-")),
        ("all closed", Start::new().script("exec \"$0\" \"$@\" <&- >&- 2>&-")),
    ];
    for ((name, start), signal) in starts.into_iter().zip(["TERM", "INT"].into_iter().cycle()) {
        eprintln!("standard error: {name}");
        let mut hub = start.start();
        let address = hub.address();
        refuse(address, 2_000);
        assert_it_serves(address);
        hub.stop(signal);
    }
    drop((reader, full_reader, other_reader));
}

#[test]
fn output_that_cannot_be_written_stops_no_hub() {
    let (reader, full) = full_pipe(true);
    let (gone, abandoned) = io::pipe().expect("a pipe");
    drop(gone);
    let device = File::options().write(true).open("/dev/full").expect("/dev/full");
    let starts = [
        ("a full device", Start::new().output(device)),
        ("a reader that has gone", Start::new().output(abandoned)),
        ("nobody has read", Start::new().output(full)),
        ("closed", Start::new().script("exec \"$0\" \"$@\" >&-")),
    ];
    for (name, start) in starts {
        eprintln!("standard output: {name}");
        let mut hub = start.start();
        let address = hub.address();
        assert_it_serves(address);
        hub.stop("TERM");
    }
    drop(reader);
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    for arguments in [&["token", "mint", "--compat", "--legacy", "--publisher-key", KEY][..], &["--help"]] {
        let device = File::options().write(true).open("/dev/full").expect("/dev/full");
        let command = Command::new(BINARY).args(arguments).stdout(device).stderr(Stdio::piped()).output();
        let output = command.expect("it runs");
        assert!(!output.status.success(), "{arguments:?}");
    }
}

/// More lines than any process here writes, so that no process waits for its test.
const LINES_MAX: usize = 10_000;

/// Lines that a thread reads as they come.
fn lines_of(reader: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::sync_channel(LINES_MAX);
    thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

/// How many lines a report says were dropped.
fn dropped(line: &str) -> Option<usize> {
    let (before, _) = line.split_once(" log lines were dropped: standard error did not take them in time")?;
    before.rsplit(' ').next()?.parse().ok()
}

#[test]
fn dropped_lines_are_counted_and_the_count_is_logged_when_there_is_room_again() {
    let refused = 8_000;
    let (reader, unread) = io::pipe().expect("a pipe");
    let mut hub = Start::new().error(unread).start();
    let address = hub.address();
    refuse(address, refused);
    // More than fits into the pipe and the buffer. Now it is read.
    let lines = lines_of(reader);
    let (mut written, mut reported) = (0, 0);
    while written + reported < refused {
        let line = lines.recv_timeout(PATIENCE).expect("a line");
        written += usize::from(line.contains("a token was refused"));
        reported += dropped(&line).unwrap_or_default();
    }
    assert!(reported > 0 && written > 1_000, "{written} were written, {reported} dropped");
    assert_eq!(written + reported, refused);
    hub.stop("TERM");
}

/// A named pipe that is gone after the test.
struct NamedPipe(PathBuf);

impl NamedPipe {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("petasos-{}-{name}", std::process::id()));
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        Self(path)
    }
}

impl Drop for NamedPipe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_standard_error_that_takes_lines_again_gets_them() {
    let pipe = NamedPipe::new("log");
    let path = pipe.0.clone();
    let open = move || File::open(&path).expect("a reader");
    let first = thread::spawn(open.clone());
    let writer = File::options().write(true).open(&pipe.0).expect("a writer");
    let first = first.join().expect("opened");
    let mut hub = Start::new().with(&["--max-subscribers", "100"]).error(writer).start();
    let address = hub.address();
    drop(first);
    let refused = 300;
    refuse(address, refused);
    let lines = lines_of(open());
    // Nothing else is logged meanwhile: the report comes by itself.
    let (mut written, mut reported) = (0, 0);
    while written + reported < refused {
        let line = lines.recv_timeout(PATIENCE).expect("a line");
        let count = dropped(&line);
        assert!(count.is_some() || line.contains("a token was refused"), "{line:?}");
        reported += count.unwrap_or_default();
        written += usize::from(count.is_none());
    }
    assert!(reported > 0, "{written} were written");
    refuse(address, 1);
    assert!(lines.recv_timeout(PATIENCE).expect("a line").contains("a token was refused"));
    hub.stop("TERM");
}

#[test]
fn a_start_that_hangs_is_ended_by_a_signal() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let transport = format!("redis://{}", silent.local_addr().expect("bound"));
    let mut hub = Start::new().with(&["--transport", &transport]).start();
    // It waits for an answer that never comes.
    let connection = silent.accept().expect("the hub connects");
    hub.stop("TERM");
    drop(connection);
}

#[test]
fn the_second_signal_ends_everything_at_once_and_in_order() {
    let (reader, log) = io::pipe().expect("a pipe");
    let mut hub = Start::new().drain("1h", "1h").error(log).start();
    let address = hub.address();
    let mut stream = Client::subscribe(address);
    // A request whose body never comes.
    let mut client = Client::connect(address);
    let request = publish(&valid_token()).replace("Host: x", "Host: x\r\nExpect: 100-continue");
    let head = request.split_inclusive("\r\n\r\n").next().expect("a head");
    client.0.get_mut().write_all(head.as_bytes()).expect("sent");
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    hub.signal("TERM");
    let lines = lines_of(reader);
    while !lines.recv_timeout(PATIENCE).expect("a line").contains("stopping") {}
    hub.signal("INT");
    while !lines.recv_timeout(PATIENCE).expect("a line").contains("stopping at once") {}
    assert!(stream.rest().ends_with("\r\n0\r\n\r\n"), "the stream is whole");
    let status = hub.ended_within(Duration::from_secs(5));
    assert!(status.success(), "{status}");
}

/// Lets this process have as many files open as it may.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("raised");
}

#[test]
fn the_soft_limit_of_open_files_is_raised_to_the_hard_limit() {
    let script = "ulimit -S -n 100 && ulimit -H -n 4000 && exec \"$0\" \"$@\"";
    let mut hub = Start::new().script(script).start();
    hub.address();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.0.id())).expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["4000", "4000"]);
}

#[test]
fn streams_leave_open_files_for_publishers_and_probes() {
    raise_own_limit();
    let (reader, log) = io::pipe().expect("a pipe");
    let mut hub = Start::new().script("ulimit -n 1024 && exec \"$0\" \"$@\"").error(log).start();
    let lines = lines_of(reader);
    let warning = lines.recv_timeout(PATIENCE).expect("a line");
    for part in ["max_subscribers", "100000", "LimitNOFILE", "ulimit -n"] {
        assert!(warning.contains(part), "{warning}");
    }
    let address = hub.address();
    let (mut streams, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..1_500 {
        let mut client = Client::connect(address);
        let subscribe = "GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: x\r\n\r\n";
        client.0.get_mut().write_all(subscribe.as_bytes()).expect("sent");
        let head = client.head();
        if head.starts_with("HTTP/1.1 200 OK") {
            streams.push(client);
        } else {
            assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("\r\nretry-after: "), "{head}");
            refused.push(client);
        }
    }
    assert!(streams.len() > 700 && !refused.is_empty(), "{} streams", streams.len());
    let mut client = Client::connect(address);
    assert_eq!(client.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 200);
    assert_eq!(client.ask(&publish(&valid_token())).0, 200);
    for mut stream in streams {
        let mut line = String::new();
        while line != "data: hello\n" {
            line.clear();
            assert_ne!(stream.0.read_line(&mut line).expect("a line"), 0);
        }
    }
    hub.stop("TERM");
}

#[test]
fn a_limit_that_can_be_kept_is_no_reason_for_a_warning() {
    let (reader, log) = io::pipe().expect("a pipe");
    let start =
        Start::new().script("ulimit -n 1024 && exec \"$0\" \"$@\"").with(&["--max-subscribers", "500"]);
    let mut hub = start.error(log).start();
    hub.address();
    hub.stop("TERM");
    let log: Vec<_> = lines_of(reader).iter().collect();
    assert!(log.iter().all(|line| !line.contains("max_subscribers")), "{log:?}");
}

#[test]
fn a_hub_without_free_files_and_without_a_log_goes_on_when_there_are_some() {
    let (reader, log) = io::pipe().expect("a pipe");
    let mut hub = Start::new().error(log).start();
    let address = hub.address();
    let mut served = Client::connect(address);
    assert_eq!(served.ask("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").0, 200);
    let process = rustix::process::Pid::from_raw(hub.0.id().cast_signed());
    let limit = Rlimit { current: Some(1), maximum: getrlimit(Resource::Nofile).maximum };
    let limit = prlimit(process, Resource::Nofile, limit).expect("lowered");
    let mut waiting = Client::connect(address);
    waiting.0.get_mut().write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut log = BufReader::new(reader).lines();
    while !log.next().expect("a line").expect("UTF-8").contains("connections cannot be accepted") {}
    // From now on, what it says about that breaks, too.
    drop(log);
    let request = publish(&format!("{}AAAA", valid_token()));
    for _ in 0..1_000 {
        assert_eq!(served.ask(&request).0, 401);
    }
    prlimit(process, Resource::Nofile, limit).expect("raised");
    assert_eq!(waiting.answer().0, 200);
    assert_it_serves(address);
    hub.stop("TERM");
}
