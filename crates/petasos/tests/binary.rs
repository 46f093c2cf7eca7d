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

#[path = "../../auth/tests/keys/spellings.rs"]
mod spellings;

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
    // The default port belongs to one process at a time, and the others would warn of it.
    command.args(arguments).env_clear().env("PETASOS_ADMIN_LISTEN", "off").stdin(Stdio::null());
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
    #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
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
    while !line.starts_with("retry: ") {
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
        let signer = petasos_auth::Signer::parse(secret, None).expect("a key");
        signer.sign("JWT", r#"{"mercure":{"publish":["*"]}}"#)
    };
    assert!(publish(&address, &token("p")).starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(publish(&address, &token("s")).starts_with("HTTP/1.1 401 Unauthorized\r\n"));
}

#[test]
fn a_termination_signal_ends_streams_and_the_process_with_success() {
    let keys = ["--publisher-key", "p", "--subscriber-key", "s"];
    let mut binary =
        Binary::start(&[&["--anonymous", "--drain-delay", "0", "--drain", "0"], &keys[..]].concat());
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
            "--publisher-algorithms: ",
        ),
        (&["--listen", "nonsense"], "--listen: write HOST:PORT"),
        (
            &["--anonymous", "--publisher-jwks-url", "http://auth.example/set"],
            "--publisher-jwks-url: keys are fetched over https only",
        ),
        (
            &["--anonymous", "--publisher-key", "p", "--publisher-jwks-url", "discover"],
            "give one of publisher_key, publisher_jwks and publisher_jwks_url",
        ),
        (&["--cors-origins", "example.com"], "--cors-origins: \"example.com\" is no origin"),
        (
            &["--publisher-key=-----BEGIN X", "--subscriber-key", "s"],
            "--publisher-key: the PEM document holds no",
        ),
        (&["--cookie-name", "a b"], "--cookie-name: use letters"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: another start would not mend it");
        assert!(text.contains(expected) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = taken.local_addr().expect("bound").to_string();
    let output = run(&["--listen", &address]);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(text.contains(&format!("cannot listen on {address}")), "{text}");
    assert_eq!(output.status.code(), Some(1), "another start may find the port free");
    let output = run(&["--transport", &format!("redis://{address}/?timeout=1s")]);
    assert_eq!(output.status.code(), Some(1), "another start may find the store available");
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
        "PETASOS_LOG",
        "/healthz",
        "/readyz",
        "SIGTERM",
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
    for part in
        ["\"typ\": \"at+jwt\"", "\"iss\": \"https://hub.example\"", url, "exp: 20", "(in 11months 30days"]
    {
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
fn a_token_to_publish_lasts_a_year_and_one_to_subscribe_an_hour_unless_told_otherwise() {
    let mint = |arguments: &[&str]| {
        let output = command(&[&["token", "mint", "--compat"][..], arguments].concat())
            .envs([("PETASOS_PUBLISHER_KEY", LONG), ("PETASOS_SUBSCRIBER_KEY", OTHER)])
            .output()
            .expect("runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        assert!(output.status.success(), "{}", text(output.stderr));
        let shown = run(&["token", "inspect", text(output.stdout).trim_end()]);
        (text(shown.stdout), text(output.stderr))
    };
    for (arguments, claim, said) in [
        (&["--publish", "a"][..], "(in 11months 30days", "The token expires on 20"),
        (&["--publish-pattern", "/a/:b"], "(in 11months 30days", "The token expires on 20"),
        (&["--publish", "a", "--legacy"], "(in 11months 30days", "The token expires on 20"),
        (&["--subscribe", "a"], "(in 59m", "The token expires on 20"),
        (&["--subscribe", "a", "--expires-in", "2h"], "(in 1h 59m", "The token expires on 20"),
        (&["--publish", "a", "--expires-in", "never", "--legacy"], "", "The token never expires."),
    ] {
        let (shown, log) = mint(arguments);
        assert!(
            shown.contains(claim) && shown.contains("\"exp\"") != claim.is_empty(),
            "{arguments:?}: {shown}"
        );
        assert!(log.starts_with(said), "{arguments:?}: {log}");
    }
    let keys = [("PETASOS_PUBLISHER_KEY", LONG)];
    let text = refusal(&["token", "mint", "--publish", "a", "--expires-in", "never"], &keys);
    assert!(text.contains("a token of protocol 1.0 expires") && text.contains("--legacy"), "{text}");
}

#[test]
fn the_help_of_a_command_shows_its_own_options_only() {
    for (arguments, own) in [
        (
            &["token", "mint", "--help"][..],
            &["--publish ", "--subscribe-pattern", "--expires-in", "--config"][..],
        ),
        (&["explain", "-h"], &["--token", "--publish ", "--config"]),
    ] {
        let text = String::from_utf8(run(arguments).stdout).expect("UTF-8");
        assert!(own.iter().all(|flag| text.contains(flag)), "{text}");
        assert!(text.contains("Every setting of the hub counts here, too"), "{text}");
        assert!(!text.contains("--max-") && !text.contains("[env: PETASOS_KEEP"), "{text}");
    }
}

#[test]
fn for_development_everybody_on_this_machine_may_read_and_the_rest_is_as_given() {
    let mut binary = Binary::start(&["--dev"]);
    for name in ["Publisher key: ", "Subscriber key: "] {
        assert_eq!(binary.line(name).len(), 64);
    }
    let token = binary.line("Publisher JWT: ");
    let address = binary.address();
    // Protocol 0.x, without a token, from a page of another port with its cookies.
    let head = |address: &str, fields: &str| {
        let mut stream = connect(address);
        let target = "/.well-known/mercure?topic=a";
        write!(stream, "HEAD {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{fields}\r\n")
            .expect("write");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    let answer = head(&address, "Origin: http://localhost:5000\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: http://localhost:5000\r\n"), "{answer}");
    assert!(answer.contains("access-control-allow-credentials: true\r\n"), "{answer}");
    assert!(publish(&address, &token).starts_with("HTTP/1.1 200 OK\r\n"));

    let mut binary =
        Binary::start(&["--dev", "--anonymous=false", "--publisher-key", LONG, "--subscriber-key", OTHER]);
    let address = binary.address();
    let answer = head(&address, "");
    assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n"), "{answer}");
}

#[test]
fn a_hub_for_development_is_not_opened_to_other_machines_by_mistake() {
    for exposed in [&["--listen", "0.0.0.0:0"][..], &["--public-url", "https://hub.example/x"]] {
        let text = refusal(&[&["--dev"][..], exposed].concat(), &[]);
        assert!(text.contains("--dev lets everybody read") && text.contains("--anonymous"), "{text}");
    }
    let keys = ["--dev", "--public-url", "https://hub.example/x", "--publisher-key", LONG];
    let mut binary = Binary::start_with(&keys, &[], Stdio::piped());
    let _address = binary.line("Serving on http://");
    let mut log = BufReader::new(binary.child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains("--dev lets everybody read, and other machines reach this hub")));
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

#[test]
fn a_command_that_lacks_something_says_what_to_add() {
    let keys = [("PETASOS_PUBLISHER_KEY", LONG), ("PETASOS_SUBSCRIBER_KEY", OTHER)];
    let legacy = refusal(&["token", "mint", "--legacy", "--publish", "a"], &keys);
    assert!(legacy.contains("protocol 0.x, which this hub does not serve: add --compat"), "{legacy}");
    let output = run(&["explain", "--token", "x"]);
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(text.contains("--publish <TOPIC>|--subscribe <TOPIC>"), "{text}");
    let both = run(&["explain", "--token", "x", "--publish", "a", "--subscribe", "b"]);
    assert!(!both.status.success());
}

#[test]
fn a_misspelt_variable_is_named_and_keeps_no_hub_from_starting() {
    let text = warnings(&[], &[KEYS[0], ("PETASOS_ANONYMUS", "true")]);
    assert!(
        text.contains("PETASOS_ANONYMUS is no setting") && text.contains("PETASOS_ANONYMOUS meant?"),
        "{text}"
    );
}

/// A file that is gone after the test.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, content: impl AsRef<[u8]>) -> Self {
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
    let port = key_server(include_str!("../../auth/tests/keys/set.json"));
    let url = format!("https://localhost:{port}/set.json");
    let hub = "https://hub.example/.well-known/mercure";
    let settings = ["--public-url", hub, "--publisher-jwks-url", &url];
    let signing_key = format!("{}/../auth/tests/keys/p256.pem", env!("CARGO_MANIFEST_DIR"));
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

    let mut binary = Binary::start_with(&serve, &[("SSL_CERT_FILE", &other)], Stdio::piped());
    let address = binary.address();
    let answer = publish(&address, &token);
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 5\r\n") && !answer.contains("www-authenticate"), "{answer}");
    // The log never delays an answer, so its line may come later.
    let mut log = BufReader::new(binary.child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("keys cannot be fetched")).expect("a line");
    assert!(line.contains("invalid peer certificate") && !line.contains(&token), "{line}");
}

/// The output of a hub that does not start.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = command(arguments).envs(environment.iter().copied()).output().expect("runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(!output.status.success() && text.lines().count() == 1, "{arguments:?}: {text}");
    text
}

/// As a secret, a public key would let everybody sign tokens.
#[test]
fn a_public_key_in_any_spelling_is_refused_wherever_it_is_given() {
    let all = spellings::spellings(include_str!("../../auth/tests/keys/rsa.pub.pem"));
    assert!(all.len() > 40);
    for (name, spelled) in all {
        let file = File::new("spelled.key", &spelled);
        let text = refusal(&["--anonymous", "--publisher-key-file", file.path()], &[]);
        assert!(text.contains("--publisher-key-file: this is a "), "{name}: {text}");
        // Neither a flag nor a variable can hold the others.
        let Ok(spelled) = String::from_utf8(spelled) else { continue };
        if spelled.contains('\0') {
            continue;
        }
        let text = refusal(&["--anonymous"], &[("PETASOS_SUBSCRIBER_KEY", &spelled)]);
        assert!(text.contains("PETASOS_SUBSCRIBER_KEY: this is a "), "{name}: {text}");
        let is_of_key = |part: &&[u8]| part.iter().all(u8::is_ascii_alphanumeric);
        let shown = |part: &[u8]| text.as_bytes().windows(part.len()).any(|window| window == part);
        assert!(!spelled.as_bytes().windows(14).filter(is_of_key).any(shown), "{name}: {text}");
    }
    let pem = include_str!("../../auth/tests/keys/p256.pub.pem");
    let digits = spellings::body(pem).concat();
    let flag = format!("--publisher-key={digits}");
    assert!(refusal(&["--anonymous", &flag], &[]).contains("this is a public key and no secret"));
    let file = File::new("spelled.toml", format!("anonymous = true\npublisher_key = \"{digits}\""));
    assert!(refusal(&["--config", file.path()], &[]).contains("this is a public key and no secret"));
    let table = format!(
        "anonymous = true\n[[issuers]]\nissuer = \"https://b.example\"\nsubscriber_key = \"{digits}\""
    );
    let file = File::new("spelled.toml", table);
    assert!(
        refusal(&["--config", file.path()], &[])
            .contains("spelled.toml: issuers: subscriber_key of \"https://b.example\": this is a public key")
    );
    let secret = spellings::spellings(pem).swap_remove(0).1;
    let k = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, secret);
    let set = File::new("spelled.json", format!(r#"{{"keys":[{{"kty":"oct","k":"{k}"}}]}}"#));
    let text = refusal(&["--anonymous", "--publisher-jwks", set.path()], &[]);
    assert!(text.contains("--publisher-jwks: this is a public key"), "{text}");
    let text = refusal(&["token", "mint", "--publish", "a"], &[("PETASOS_PUBLISHER_KEY", &digits)]);
    assert!(text.contains("this is a public key and no secret"), "{text}");
    let private = spellings::body(include_str!("../../auth/tests/keys/p256.pem")).concat();
    let file = File::new("private.key", &private);
    let environment = [("PETASOS_PUBLISHER_KEY", pem)];
    let text = refusal(&["token", "mint", "--publish", "a", "--signing-key-file", file.path()], &environment);
    assert!(
        text.contains("the key cannot sign: this is a private key") && !text.contains(&private[..20]),
        "{text}"
    );
}

#[test]
fn a_pem_document_with_written_line_breaks_is_taken() {
    let signing_key = format!("{}/../auth/tests/keys/ed25519.pem", env!("CARGO_MANIFEST_DIR"));
    let mint = ["token", "mint", "--publish", "a", "--signing-key-file", &signing_key];
    let public = include_str!("../../auth/tests/keys/ed25519.pub.pem");
    let written = public.replace('\n', "\\n");
    for spelled in [
        public.to_owned(),
        written.clone(),
        public.replace('\n', "\\r\\n"),
        format!("\"{written}\""),
        public.replace('\n', " "),
    ] {
        let environment = [("PETASOS_PUBLISHER_KEY", &*spelled)];
        let token = output(&mint, &environment);
        let explain = ["explain", "--publish", "a", "--token", &token];
        let explained = output(&explain, &environment);
        assert!(explained.contains("granted by exact \"a\""), "{explained}");
        // Its hyphens begin no flag, which would be quoted in an error.
        let explained = output(&[&explain[..], &["--publisher-key", &spelled]].concat(), &[]);
        assert!(explained.contains("granted by exact \"a\""), "{explained}");
    }
}

/// The warnings about settings, logged before a token is made with them.
fn warnings(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mint = [&["token", "mint", "--publish", "a"][..], arguments].concat();
    let output = command(&mint).envs(environment.iter().copied()).output().expect("runs");
    let text = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {text}");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("The token expires on ")).collect();
    lines.join("\n")
}

const LONG: &str = "0123456789abcdef0123456789abcdef-1";
const OTHER: &str = "0123456789abcdef0123456789abcdef-2";

#[test]
fn a_published_secret_is_refused_unless_only_this_machine_reaches_the_hub() {
    for example in ["!ChangeThisMercureHubJWTSecretKey!", "!ChangeMe!", "your-256-bit-secret", "SECRET"] {
        for more in [
            &["--listen", "0.0.0.0:0"][..],
            &["--listen", "[::]:0"],
            &["--listen", "127.0.0.1:0", "--public-url", "https://hub.example/.well-known/mercure"],
        ] {
            let text = refusal(&[&["--anonymous", "--publisher-key", example], more].concat(), &[]);
            assert!(text.contains("--publisher-key: the secret is an example"), "{text}");
            assert!(text.contains("openssl rand -hex 32") && !text.contains(example), "{text}");
        }
        let mut binary =
            Binary::start_with(&["--anonymous", "--publisher-key", example], &[], Stdio::piped());
        binary.address();
        let mut log = BufReader::new(binary.child.stderr.take().expect("piped")).lines();
        let warned = log.find(|line| line.as_ref().is_ok_and(|line| line.contains("publisher_key")));
        assert!(warned.expect("a warning").expect("UTF-8").contains("the secret is an example"));
    }
}

#[test]
fn what_is_probably_not_meant_is_said_with_the_setting_and_the_remedy() {
    let pair = |publisher, subscriber| {
        [("PETASOS_PUBLISHER_KEY", publisher), ("PETASOS_SUBSCRIBER_KEY", subscriber)]
    };
    assert_eq!(warnings(&[], &pair(LONG, OTHER)), "");
    let same = warnings(&[], &pair(LONG, LONG));
    assert!(same.contains("share one secret") && same.contains("subscriber_key"), "{same}");
    assert!(!same.contains(LONG));
    let short = warnings(&[], &pair("p", LONG));
    assert!(short.contains("shorter than 32 bytes") && short.contains("publisher_key"), "{short}");
    let algorithm =
        [pair(LONG, OTHER)[0], ("PETASOS_PUBLISHER_ALGORITHMS", "HS512"), ("PETASOS_ANONYMOUS", "1")];
    let outcome =
        command(&["explain", "--token", "x", "--publish", "a"]).envs(algorithm).output().expect("runs");
    let short = String::from_utf8(outcome.stderr).expect("UTF-8");
    assert!(short.contains("shorter than 64 bytes") && short.contains("openssl rand -hex 64"), "{short}");
    for networks in ["0.0.0.0/0", "::/0", "0.0.0.0/1,128.0.0.0/1", "10.0.0.1 ::/1 8000::/1"] {
        let text = warnings(&["--trusted-proxies", networks], &pair(LONG, OTHER));
        assert!(
            text.contains("nearly every address is a proxy") && text.contains("trusted_proxies"),
            "{text}"
        );
        let limited = ["--anonymous", "--trusted-proxies", networks, "--max-subscribers-per-address", "3"];
        assert!(refusal(&limited, &[]).contains("would limit nobody"));
    }
    assert_eq!(warnings(&["--trusted-proxies", "10.0.0.0/8,fd00::/8"], &pair(LONG, OTHER)), "");
}

#[test]
fn a_file_with_secrets_that_everybody_may_read_is_named_with_the_remedy() {
    use std::os::unix::fs::PermissionsExt;
    let oct = r#"{"keys":[{"kty":"oct","kid":"one","alg":"HS512","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYtMQ"}]}"#;
    let public = include_str!("../../auth/tests/keys/p256.pub.pem");
    let issuers = format!("[[issuers]]\nissuer = \"https://b.example\"\npublisher_key = \"{LONG}\"");
    let others = [("PETASOS_SUBSCRIBER_KEY", OTHER), ("PETASOS_PUBLISHER_KEY", LONG)];
    for (name, content, flag, setting, secret) in [
        ("key", LONG, "--publisher-key-file", "publisher_key_file", true),
        ("pem", public, "--subscriber-key-file", "subscriber_key_file", false),
        ("json", oct, "--subscriber-jwks", "subscriber_jwks", true),
        ("toml", &*format!("publisher_key = \"{LONG}\""), "--config", "config", true),
        ("toml", "transport = \"redis://user:hidden@localhost\"", "--config", "config", true),
        ("toml", &*issuers, "--config", "config", true),
        ("toml", "keep_alive = 20", "--config", "config", false),
    ] {
        let file = File::new(&format!("open.{name}"), content);
        let given: &[_] = match flag {
            "--publisher-key-file" => &[],
            "--config" => &others,
            _ => &others[1..],
        };
        let said = |mode: u32| {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), mode).expect("changed");
            warnings(&[flag, file.path()], given)
        };
        let text = said(0o644);
        let expected = format!("every user of this machine may read {0}: run chmod o-rwx '{0}'", file.path());
        assert_eq!(text.contains(&expected) && text.contains(setting), secret, "{setting}: {text}");
        assert!(!text.contains(LONG) && !text.contains("hidden"), "{text}");
        assert!(!said(0o640).contains("every user"));
        assert!(said(0o646).contains("every user"));
        assert_eq!(
            text.contains("the key \"one\": the secret is shorter than 64 bytes"),
            name == "json",
            "{text}"
        );
    }
}
