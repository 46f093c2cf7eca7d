//! The native binary as a black box: started, used over a socket, stopped by a signal.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
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
        Self::start_with(arguments, &[], Stdio::null())
    }

    fn start_with(arguments: &[&str], environment: &[(&str, &str)], log: impl Into<Stdio>) -> Self {
        let mut child = command(&[&["--listen", "127.0.0.1:0"], arguments].concat())
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
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
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("time-out");
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
    write!(subscriber.get_mut(), "GET /.well-known/mercure?match=a HTTP/1.1\r\nHost: x\r\n\r\n")
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
    let mut binary = Binary::start(&["--compat", "--publisher-key", "p", "--subscriber-key", "s"]);
    let address = binary.address();
    let token = |secret: &str| {
        let signer = petasos_server::Signer::parse(secret, None).expect("a key");
        signer.sign("JWT", r#"{"mercure":{"publish":["*"]}}"#)
    };
    assert!(publish(&address, &token("p")).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(publish(&address, &token("s")).starts_with("HTTP/1.1 401 Unauthorized\r\n"));
}

#[test]
fn a_termination_signal_ends_streams_and_the_process_with_success() {
    let mut binary = Binary::start(&["--anonymous", "--publisher-key", "p", "--subscriber-key", "s"]);
    let address = binary.address();
    let mut subscriber = connect(&address);
    write!(subscriber, "GET /.well-known/mercure?match=a HTTP/1.1\r\nHost: x\r\n\r\n").expect("write");
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
        (&["--publisher-key", "p"][..], "nobody could subscribe: give --subscriber-key"),
        (&["--anonymous", "--keep-alive", "soon"], "--keep-alive: write seconds"),
        (&["--compat=maybe"], "--compat: write true or false"),
        (&["--config", "/nowhere.toml"], "/nowhere.toml cannot be read"),
        (
            &["--anonymous", "--publisher-key", "p", "--publisher-algorithms", "none"],
            "--publisher-algorithms (publisher_algorithms",
        ),
        (&["--listen", "nonsense"], "--listen nonsense: write HOST:PORT"),
        (
            &["--anonymous", "--publisher-jwks-url", "http://auth.example/set"],
            "--publisher-jwks-url (publisher_jwks_url in a file): keys are fetched over https only",
        ),
        (
            &["--anonymous", "--publisher-key", "p", "--publisher-jwks-url", "discover"],
            "give one of publisher_key, publisher_jwks and publisher_jwks_url",
        ),
        (
            &["--cors-origins", "example.com"],
            "--cors-origins (cors_origins in a file): \"example.com\" is no origin",
        ),
        (
            &["--publisher-key=-----BEGIN X", "--subscriber-key", "s"],
            "--publisher-key (publisher_key in a file): the PEM document holds no",
        ),
        (&["--cookie-name", "a b"], "--cookie-name (cookie_name in a file): "),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(!output.status.success());
        assert!(text.contains(expected) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--listen", &address]);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
}

#[test]
fn help_names_every_flag_with_its_environment_variable_and_no_value_of_it() {
    let output = command(&["--help"]).env("PETASOS_PUBLISHER_KEY", "hidden-secret").output().expect("runs");
    let help = String::from_utf8(output.stdout).expect("UTF-8");
    for flag in [
        "--listen",
        "--publisher-key",
        "--anonymous",
        "--keep-alive",
        "--history",
        "PETASOS_SUBSCRIBER_KEY",
        "MERCURE_PUBLISHER_JWT_KEY",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
    assert!(!help.contains("hidden-secret"));
}

/// What a run prints, if it ends well.
fn output(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = command(arguments).envs(environment.iter().copied()).output().expect("runs");
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8").trim_end().to_owned()
}

const KEYS: [(&str, &str); 2] = [("PETASOS_PUBLISHER_KEY", "p"), ("PETASOS_SUBSCRIBER_KEY", "s")];

#[test]
fn a_minted_token_is_looked_into_explained_and_accepted() {
    let url = "https://hub.example/.well-known/mercure";
    let token = output(
        &["token", "mint", "--public-url", url, "--publish", "a", "--publish-pattern", "/b/:c"],
        &KEYS,
    );
    let shown = output(&["token", "inspect", &token], &[]);
    for part in ["\"typ\": \"at+jwt\"", "\"iss\": \"https://hub.example\"", url, "exp: 20", "(in 59m"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains(&token));
    let explained = output(&["explain", "--public-url", url, "--token", &token, "--publish", "/b/1"], &KEYS);
    assert!(explained.contains("\"/b/1\": granted by urlpattern \"/b/:c\""), "{explained}");
    assert!(explained.ends_with("allowed (every topic of an update must be granted)"), "{explained}");
    let mut binary = Binary::start(&["--public-url", url, "--publisher-key", "p", "--subscriber-key", "s"]);
    let address = binary.address();
    assert!(publish(&address, &token).starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn a_refused_token_is_explained_precisely_and_never_shown() {
    let url = "https://hub.example/.well-known/mercure";
    let publisher = output(&["token", "mint", "--public-url", url, "--publish", "a"], &KEYS);
    let legacy = output(&["token", "mint", "--compat", "--legacy", "--publish", "a"], &KEYS);
    let explain = |url: &str, token: &str, action: &str, topic: &str| {
        let output = command(&["explain", "--public-url", url, "--token", token, action, topic])
            .envs(KEYS)
            .output()
            .expect("runs");
        assert!(!output.status.success());
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!text.contains(token));
        text
    };
    for (text, expected) in [
        (
            explain(url, &publisher, "--subscribe", "a"),
            "the signature does not match the subscriber key of issuer \"https://hub.example\"",
        ),
        (explain(url, &legacy, "--publish", "a"), "typ is \"JWT\", protocol 1.0 wants \"at+jwt\""),
        (
            explain("https://hub.example/other", &publisher, "--publish", "a"),
            "aud holds \"https://hub.example/.well-known/mercure\", this hub is \"https://hub.example/other\"",
        ),
        (
            explain("https://b.example/x", &publisher, "--publish", "a"),
            "iss is \"https://hub.example\", which is none of the issuers",
        ),
        (explain(url, &publisher, "--publish", "z"), "\"z\": granted by none of the 1 matchers"),
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// A file that is gone after the test.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("petasos-{}-{name}", std::process::id()));
        std::fs::write(&path, content).expect("written");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_flag_counts_before_a_variable_and_a_variable_before_the_file() {
    let file = File::new(
        "order.toml",
        "issuer = \"https://file.example\"\npublisher_key = \"p\"\nsubscriber_key = \"s\"\nsubscriptions = false\n\
         cors_origins = [\"https://a.example\"]\nkeep_alive = \"20s\"\nmax_topics = 7\n\
         [[issuers]]\nissuer = \"https://b.example\"\npublisher_key = \"q\"\n",
    );
    let issuer = |arguments: &[&str], environment: &[(&str, &str)]| {
        let all = [&["token", "mint", "--config", file.path(), "--publish", "a"][..], arguments].concat();
        output(&["token", "inspect", &output(&all, environment)], &[])
    };
    assert!(issuer(&[], &[]).contains("https://file.example"));
    // The reference hub's name counts, too, after our own.
    let reference = ("MERCURE_TRUSTED_ISSUERS", "https://reference.example");
    assert!(issuer(&[], &[reference]).contains("https://reference.example"));
    let own = ("PETASOS_ISSUER", "https://own.example");
    assert!(issuer(&[], &[reference, own]).contains("https://own.example"));
    assert!(issuer(&["--issuer", "https://flag.example"], &[own]).contains("https://flag.example"));
    assert!(issuer(&[], &[("PETASOS_ISSUER", "")]).contains("https://file.example"));
}

#[test]
fn what_is_wrong_in_a_file_is_named_without_its_secrets() {
    for (content, expected) in [
        ("publiser_key = \"hidden\"", "\"publiser_key\" is no setting: is \"publisher_key\" meant?"),
        ("xyz = 1", "\"xyz\" is no setting: petasos --help lists all"),
        ("anonymous = \"yes\"", "anonymous: write true or false"),
        ("cors_origins = \"https://a.example\"", "cors_origins: write an array of strings"),
        ("max_topics = \"many\"", "max_topics: write a whole number"),
        ("listen = true", "listen: write a string or a number"),
        ("anonymous = true\npublisher_key = hidden", "line 2: this is no TOML"),
        ("[[issuers]]\npublisher_key = \"hidden\"", "issuers: missing field `issuer`"),
        ("[[issuers]]\nissuer = \"x\"\nkey = \"hidden\"", "issuers: unknown field `key`"),
    ] {
        let file = File::new("wrong.toml", content);
        let output = run(&["--config", file.path()]);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(!output.status.success());
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(!text.contains("hidden"), "{text}");
        drop(file);
    }
}

/// Serves one document over TLS until the test ends.
fn key_server(document: &'static str) -> u16 {
    let pem = |text: &'static str| text.as_bytes();
    let certificate =
        CertificateDer::from_pem_slice(pem(include_str!("tls/server.pem"))).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(pem(include_str!("tls/server.key"))).expect("a key");
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key pair");
    let (listener, config) = (TcpListener::bind("127.0.0.1:0").expect("bind"), Arc::new(config));
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).expect("a connection");
            let mut stream = BufReader::new(StreamOwned::new(connection, stream));
            let mut line = String::new();
            // A client that does not trust the certificate leaves.
            while line != "\r\n" {
                line.clear();
                if stream.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", document.len());
            let _ = write!(stream.get_mut(), "{head}{document}");
        }
    });
    port
}

/// The way of a key set from another server: over TLS, checked, and used for its issuer's tokens.
#[test]
fn keys_are_fetched_from_an_issuer_that_its_certificate_proves() {
    let tls = |name: &str| format!("{}/tests/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    let (own, other) = (tls("ca.pem"), tls("other-ca.pem"));
    let port = key_server(include_str!("../../server/tests/keys/set.json"));
    let url = format!("https://localhost:{port}/set.json");
    let hub = "https://hub.example/.well-known/mercure";
    let settings = ["--public-url", hub, "--publisher-jwks-url", &url];
    let signing_key = format!("{}/../server/tests/keys/p256.pem", env!("CARGO_MANIFEST_DIR"));
    let mint =
        [&["token", "mint", "--publish", "a", "--signing-key-file", &signing_key][..], &settings].concat();
    let token = output(&mint, &[("SSL_CERT_FILE", &own)]);
    let explain = [&["explain", "--publish", "a", "--token", &token][..], &settings].concat();
    assert!(output(&explain, &[("SSL_CERT_FILE", &own)]).contains("granted by exact \"a\""));

    let serve = [&["--anonymous"][..], &settings].concat();
    let mut binary = Binary::start_with(&serve, &[("SSL_CERT_FILE", &own)], Stdio::null());
    let address = binary.address();
    assert!(publish(&address, &token).starts_with("HTTP/1.1 200 OK\r\n"));
    let bad = format!("{}AAAA", &token[..token.len() - 4]);
    assert!(publish(&address, &bad).starts_with("HTTP/1.1 401 Unauthorized\r\n"));

    let log = File::new("untrusted.log", "");
    let file = std::fs::File::create(log.path()).expect("a log");
    let mut binary = Binary::start_with(&serve, &[("SSL_CERT_FILE", &other)], file);
    let address = binary.address();
    let answer = publish(&address, &token);
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 5\r\n") && !answer.contains("www-authenticate"), "{answer}");
    let log = std::fs::read_to_string(log.path()).expect("a log");
    assert!(log.contains("keys cannot be fetched") && log.contains("invalid peer certificate"), "{log}");
    assert!(!log.contains(&token));
}
