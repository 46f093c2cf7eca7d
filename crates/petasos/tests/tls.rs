//! A hub that speaks TLS with certificates from files, as a black box: its clients, its start, its reload, and the commands.

mod hub;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use hub::{HUB, Hub, PATIENCE, SETTINGS_FILE, command, write};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};

/// A certificate that nobody has signed, and its key.
struct Own {
    chain: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Own {
    fn new(name: &str) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        Self { chain: cert.pem(), key: signing_key.serialize_pem(), der: cert.der().clone() }
    }
}

/// The exit code of a command, and all that it prints.
fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(directory, arguments).output().expect("the binary runs");
    let text = [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    (status.code(), text)
}

const SETTINGS: &str = "anonymous = true\npublisher_key = \"a key of this test, of at least 32 bytes\"\n";
const OF_TLS: &str = "tls_cert = [\"a.crt\", \"b.crt\"]\ntls_key = [\"a.key\", \"b.key\"]\n";

/// A hub with these certificates in files, and more settings.
fn start(certificates: &[(&str, &Own)], more: &str) -> Hub {
    Hub::start(&format!("{SETTINGS}{OF_TLS}{more}"), |directory| {
        for (name, own) in certificates {
            write(directory, &format!("{name}.crt"), &own.chain);
            write(directory, &format!("{name}.key"), &own.key);
        }
    })
}

/// Whether a client that trusts this certificate alone, and asks for that name, gets an answer.
fn answers(hub: &Hub, trusted: &Own, name: &str) -> bool {
    let mut client = Client::connect(&hub.address, trusted, name);
    client.ask("GET /healthz HTTP/1.1").is_ok_and(|head| head.starts_with("HTTP/1.1 200 "))
}

/// A client that trusts one certificate.
struct Client(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Client {
    fn connect(address: &str, trusted: &Own, name: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.der.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("the versions");
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
        #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
        let socket = TcpStream::connect(address).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Self(BufReader::new(StreamOwned::new(connection, socket)))
    }

    /// Sends a request without a body. Returns the head of the answer.
    fn ask(&mut self, line: &str) -> std::io::Result<String> {
        self.0.get_mut().write_all(format!("{line}\r\nHost: x\r\n\r\n").as_bytes())?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(head)
    }

    /// A stream of events.
    fn subscribe(hub: &Hub, trusted: &Own, name: &str) -> Self {
        let mut client = Self::connect(&hub.address, trusted, name);
        let head = client.ask(&format!("GET {HUB}?match=a HTTP/1.1")).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        client
    }

    /// Waits for a sign of life.
    fn lives(&mut self) {
        let mut line = String::new();
        while line != ":\n" {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).expect("a line"), 0, "the stream has ended");
        }
    }
}

#[test]
fn each_name_gets_its_certificate_and_another_name_the_first() {
    let (a, b) = (Own::new("a.example"), Own::new("b.example"));
    let hub = start(&[("a", &a), ("b", &b)], "");
    assert!(answers(&hub, &a, "a.example") && answers(&hub, &b, "b.example"));
    assert!(!answers(&hub, &b, "a.example") && !answers(&hub, &b, "c.example"));
    #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
    let mut plain = TcpStream::connect(&hub.address).expect("connect");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
    let mut answer = String::new();
    let _ = plain.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
}

#[test]
fn a_renewed_certificate_counts_at_once_a_wrong_one_changes_nothing_and_streams_stay() {
    let (old, new, b) = (Own::new("a.example"), Own::new("a.example"), Own::new("b.example"));
    let mut hub = start(&[("a", &old), ("b", &b)], "key_files_interval = \"20ms\"\nkeep_alive = \"100ms\"\n");
    let mut stream = Client::subscribe(&hub, &old, "a.example");
    // A tool that renews writes two files.
    hub.write("a.crt", &new.chain);
    let line = hub.logged("cannot be used");
    assert!(line.contains("WARN") && line.contains("the former ones stay"), "{line}");
    assert!(
        line.contains("petasos.toml: tls_key: a.key does not fit a.crt: ") && line.contains("give the key"),
        "{line}"
    );
    assert!(answers(&hub, &old, "a.example") && !answers(&hub, &new, "a.example"));
    hub.write("a.key", &new.key);
    let line = hub.logged("keys reloaded");
    assert!(line.contains("changed=\"tls_cert, tls_key\""), "{line}");
    assert!(
        answers(&hub, &new, "a.example")
            && !answers(&hub, &old, "a.example")
            && answers(&hub, &b, "b.example")
    );
    stream.lives();
    fs::remove_file(hub.directory().join("b.crt")).expect("removed");
    assert!(hub.logged("cannot be used").contains("tls_cert: b.crt cannot be read: No such file"));
    assert!(answers(&hub, &b, "b.example"));
    stream.lives();
}

#[test]
fn a_reload_takes_all_or_nothing_and_whether_there_is_tls_needs_a_restart() {
    let (a, b, c) = (Own::new("a.example"), Own::new("b.example"), Own::new("c.example"));
    let mut hub = start(&[("a", &a), ("b", &b)], "key_files_interval = 0\nkeep_alive = \"100ms\"\n");
    let mut stream = Client::subscribe(&hub, &a, "a.example");
    // Another setting is wrong.
    hub.write("c.crt", &c.chain);
    hub.write("c.key", &c.key);
    let of_c = "tls_cert = [\"c.crt\"]\ntls_key = [\"c.key\"]\n";
    assert!(hub.reload(&format!("{SETTINGS}{of_c}max_topics = 0\n"), "not reloaded").contains("max_topics"));
    // The key is missing.
    let line = hub.reload(&format!("{SETTINGS}tls_cert = [\"c.crt\"]\nmax_topics = 5\n"), "not reloaded");
    assert!(line.contains("tls_cert: tls_key is not given"), "{line}");
    assert!(answers(&hub, &a, "a.example") && !answers(&hub, &c, "c.example"));
    let line = hub.reload(&format!("{SETTINGS}{of_c}max_topics = 5\n"), "settings reloaded");
    assert!(line.contains("tls_cert, tls_key") && line.contains("max_topics"), "{line}");
    assert!(answers(&hub, &c, "c.example") && !answers(&hub, &a, "a.example"));
    hub.write(SETTINGS_FILE, &format!("{SETTINGS}max_topics = 6\n"));
    hub.signal("HUP");
    for setting in ["tls_cert", "tls_key"] {
        assert!(hub.logged("needs a restart").contains(&format!("setting=\"{setting}\"")));
    }
    assert!(hub.logged("settings reloaded").contains("changed=\"max_topics\""));
    assert!(answers(&hub, &c, "c.example"));
    stream.lives();
}

#[test]
fn a_hub_is_asked_for_its_health_over_tls_by_its_address() {
    let (a, b) = (Own::new("a.example"), Own::new("b.example"));
    let hub = start(&[("a", &a), ("b", &b)], "");
    let directory = hub.directory();
    let health = |arguments: &[&str]| run(directory, &[&["health"], arguments].concat());
    let well = (Some(0), "200: ok\n".to_owned());
    assert_eq!(health(&["--listen", &hub.address, "--config", "petasos.toml"]), well);
    assert_eq!(health(&["--listen", &hub.address, "--tls-cert", "a.crt", "--live"]), well);
    assert_eq!(health(&[&format!("https://{}", hub.address)]), well);
    let (code, text) = health(&["--listen", &hub.address]);
    assert!(code == Some(1) && text.contains("400: This port speaks TLS"), "{text}");
    // The hub goes on, so it is asked.
    hub.write("petasos.toml", "this is no TOML\ntls_cert = [\"missing\"]\n");
    assert_eq!(health(&["--listen", &hub.address, "--config", "petasos.toml"]), well);
}

#[test]
fn files_that_cannot_be_used_are_wrong_settings_and_said_by_a_check_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let (a, b) = (Own::new("a.example"), Own::new("b.example"));
    for (name, text) in [("a.crt", &a.chain), ("a.key", &a.key), ("b.key", &b.key)] {
        write(directory, name, text);
    }
    let with = |command: &[&str], more: &[&str]| {
        let keys = ["--publisher-key", "a key of this test, of at least 32 bytes", "--anonymous"];
        run(
            directory,
            &[command, &["--listen", "127.0.0.1:0", "--admin-listen", "off"], &keys, more].concat(),
        )
    };
    for (more, part) in [
        (&["--tls-cert", "a.crt"][..], "--tls-cert: tls_key is not given: "),
        (&["--tls-key", "a.key"], "--tls-key: tls_cert is not given: "),
        (&["--tls-cert", "a.crt", "--tls-key", "missing"], "--tls-key: missing cannot be read: No such file"),
        (&["--tls-cert", "a.crt", "--tls-key", "b.key"], "--tls-key: b.key does not fit a.crt: "),
        (&["--tls-cert", "a.crt", "--tls-key", "a.key", "--tls-key", "b.key"], "names 1 and tls_key 2"),
    ] {
        for (command, wanted) in [(&[][..], 2), (&["check"], 1)] {
            let (code, text) = with(command, more);
            assert!(code == Some(wanted) && text.contains(part), "{command:?} {part}: {code:?} {text}");
            assert!(!text.contains("PRIVATE"), "{text}");
        }
    }
    let files = ["--tls-cert", "a.crt", "--tls-key", "a.key"];
    let check = |more: &[&str]| with(&["check"], &[&files, more].concat());
    let would = "The hub would start with these settings.\n";
    assert_eq!(check(&[]), (Some(0), format!("ok: tls_cert: a.crt: until 4096-01-01\n{would}")));
    let url = ["--public-url", "https://a.example/.well-known/mercure"];
    let ok = "ok: tls_cert: a.crt: until 4096-01-01, for a.example, the host of public_url\n";
    assert_eq!(check(&url), (Some(0), format!("{ok}{would}")));
    let (code, text) = check(&["--public-url", "http://hub.example/.well-known/mercure"]);
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "warning: public_url: it begins with http, ",
        "warning: tls_cert: no certificate is for hub.example, ",
        "ok: tls_cert: a.crt: until 4096-01-01, not for hub.example, the host of public_url\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (_, text) = check(&["--json", url[0], url[1]]);
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let certificate = serde_json::json!({
        "file": "a.crt",
        "expires": "4096-01-01",
        "public_host": "a.example",
        "is_for_public_host": true,
    });
    assert_eq!(found["certificates"], serde_json::json!([certificate]));
}

#[test]
fn the_url_of_a_hub_that_is_not_named_begins_with_https() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuer = |more: &[&str]| {
        let mint = [
            "token",
            "mint",
            "--publish",
            "a",
            "--publisher-key",
            "a key of this test, of at least 32 bytes",
        ];
        let (code, text) = run(directory.path(), &[&mint, more].concat());
        assert_eq!(code, Some(0), "{text}");
        let token = text.lines().find(|line| line.starts_with("ey")).expect("a token").to_owned();
        let (_, claims) = run(directory.path(), &["token", "inspect", &token]);
        claims
    };
    assert!(issuer(&[]).contains("http://localhost:5500"));
    let files = ["--tls-cert", "missing", "--tls-key", "missing"];
    assert!(issuer(&files).contains("https://localhost:5500"), "who signs need not read the files");
}

#[test]
fn the_variables_and_flags_name_several_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let names: [PathBuf; 4] = ["a.crt", "b.crt", "a.key", "b.key"].map(Into::into);
    for (number, name) in ["a.example", "b.example"].iter().enumerate() {
        let own = Own::new(name);
        write(directory.path(), names[number].to_str().expect("UTF-8"), &own.chain);
        write(directory.path(), names[number + 2].to_str().expect("UTF-8"), &own.key);
    }
    let flags = ["--tls-cert", "a.crt", "--tls-cert", "b.crt", "--tls-key", "a.key,b.key"];
    let check =
        |mut command: Command| String::from_utf8(command.output().expect("it runs").stdout).expect("UTF-8");
    let by_flags = check(command(directory.path(), &[&["check"], &flags[..]].concat()));
    let mut by_variables = command(directory.path(), &["check"]);
    by_variables.env("PETASOS_TLS_CERT", "a.crt,b.crt").env("PETASOS_TLS_KEY", "a.key b.key");
    let by_variables = check(by_variables);
    assert!(
        by_flags.contains("ok: tls_cert: a.crt: until 4096-01-01\nok: tls_cert: b.crt: until"),
        "{by_flags}"
    );
    assert_eq!(by_flags, by_variables);
}
