//! The native binary as a black box: started, used over a socket, stopped by a signal.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// Killed on drop, whatever the test does.
struct Binary {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petasos"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

impl Binary {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(&[&["--listen", "127.0.0.1:0"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// What follows `name` on the next line of the output.
    fn line(&mut self, name: &str) -> String {
        let line = self.lines.next().expect("a line").expect("UTF-8");
        line.strip_prefix(name).unwrap_or_else(|| panic!("{name:?} expected, {line:?} found")).to_owned()
    }

    fn address(&mut self) -> String {
        let url = self.line("Serving on http://");
        url.strip_suffix("/.well-known/mercure").expect("the hub's path").to_owned()
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("time-out");
    stream
}

fn publish(address: &str, token: &str) -> String {
    let body = "topic=a&data=hello&id=1";
    let mut stream = connect(address);
    write!(
        stream,
        "POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn without_configuration_it_prints_a_token_that_publishes_to_a_subscriber() {
    let mut binary = Binary::start(&["--anonymous"]);
    assert_eq!(binary.line("Publisher key: ").len(), 64);
    assert_eq!(binary.line("Subscriber key: ").len(), 64);
    let token = binary.line("Publisher JWT: ");
    let address = binary.address();
    let mut subscriber = BufReader::new(connect(&address));
    write!(subscriber.get_mut(), "GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("write");
    let mut line = String::new();
    while line != ":\n" {
        line.clear();
        assert_ne!(subscriber.read_line(&mut line).expect("UTF-8"), 0);
    }
    assert!(publish(&address, &token).starts_with("HTTP/1.1 200 OK\r\n"));
    while line != "data: hello\n" {
        line.clear();
        assert_ne!(subscriber.read_line(&mut line).expect("UTF-8"), 0);
    }
}

#[test]
fn with_keys_it_prints_no_secret_and_takes_their_tokens_only() {
    let mut binary = Binary::start(&["--publisher-key", "p", "--subscriber-key", "s"]);
    let address = binary.address();
    let token = |secret: &str| {
        petasos_server::Key::secret(secret).expect("a key").sign(r#"{"mercure":{"publish":["*"]}}"#)
    };
    assert!(publish(&address, &token("p")).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(publish(&address, &token("s")).starts_with("HTTP/1.1 401 Unauthorized\r\n"));
}

#[test]
fn a_termination_signal_ends_streams_and_the_process_with_success() {
    let mut binary = Binary::start(&["--anonymous", "--publisher-key", "p", "--subscriber-key", "s"]);
    let address = binary.address();
    let mut subscriber = connect(&address);
    write!(subscriber, "GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
    let mut first = [0; 12];
    subscriber.read_exact(&mut first).expect("an answer");
    let kill = Command::new("kill").arg(binary.child.id().to_string()).status().expect("kill");
    assert!(kill.success());
    let mut rest = String::new();
    subscriber.read_to_string(&mut rest).expect("a proper end");
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "{rest:?}");
    assert!(binary.child.wait().expect("an end").success());
}

#[test]
fn what_cannot_work_is_said_in_one_line_that_names_the_flag() {
    for (arguments, expected) in [
        (&["--publisher-key", "p"][..], "give both --publisher-key and --subscriber-key"),
        (&["--listen", "nonsense"], "--listen nonsense: write HOST:PORT"),
        (&["--cors-origins", "example.com"], "--cors-origins: \"example.com\" is no origin"),
        (
            &["--publisher-key=-----BEGIN X", "--subscriber-key", "s"],
            "--publisher-key: the secret is a PEM document",
        ),
        (&["--cookie-name", "a b"], "--cookie-name: "),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(!output.status.success());
        assert!(text.contains(expected) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--listen", &address]);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
}

#[test]
fn help_names_every_flag_with_its_environment_variable_and_no_value_of_it() {
    let output = command(&["--help"]).env("PETASOS_PUBLISHER_KEY", "hidden-secret").output().expect("runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    for flag in
        ["--listen", "--publisher-key", "--anonymous", "--keep-alive", "--history", "PETASOS_SUBSCRIBER_KEY"]
    {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(!help.contains("hidden-secret"));
}
