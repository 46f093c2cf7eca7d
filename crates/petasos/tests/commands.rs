//! The commands about settings and health, as a black box.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

const KEY: &str = "a key of this test, of at least 32 bytes";
const OTHER: &str = "another key of this test, of at least 32 bytes";
const KEYS: [&str; 4] = ["--publisher-key", KEY, "--subscriber-key", OTHER];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_petasos"));
    command.args(arguments).env_clear().env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Whether it succeeds, and all that it prints.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        command(arguments).envs(environment.iter().copied()).output().expect("the binary runs");
    (status.success(), [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat())
}

/// A hub that is killed on drop.
struct Hub {
    child: Child,
    address: String,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hub {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(&[&["--listen", "127.0.0.1:0", "--admin-listen", "off"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let url = line.trim().strip_prefix("Serving on http://").unwrap_or_else(|| panic!("{line:?}"));
        let address = url.split('/').next().expect("an address").to_owned();
        Self { child, address }
    }
}

/// An address at which nothing listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn settings_that_would_start_are_said_to_and_warnings_do_not_count() {
    let check = |more: &[&str]| run(&[&["check"], &KEYS[..], more].concat(), &[]);
    assert_eq!(check(&[]), (true, "The hub would start with these settings.\n".to_owned()));
    let (ok, text) = run(&["check", "--publisher-key", KEY, "--subscriber-key", KEY], &[]);
    assert!(ok && text.starts_with("warning: subscriber_key: publishers and subscribers share"), "{text}");
    let (ok, text) = run(&["check"], &[]);
    assert!(ok && text.contains("the hub makes random ones"), "{text}");
    assert!(!text.contains(KEY));
}

#[test]
fn all_that_is_wrong_is_said_with_its_place_and_no_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("petasos.toml");
    fs::write(&file, format!("keep_alive = \"soon\"\npublisher_key = \"{KEY}\"\n")).expect("written");
    let file = file.to_str().expect("UTF-8");
    let variables = [("PETASOS_MAX_TOPICS", "0"), ("PETASOS_SUBSCRIBER_KEY", OTHER)];
    let (ok, text) = run(&["check", "--config", file, "--history", "x"], &variables);
    assert!(!ok);
    for problem in [
        "petasos.toml: keep_alive: write seconds",
        "error: PETASOS_MAX_TOPICS: 0 would refuse",
        "error: --history: write a whole number",
        "The hub would not start",
    ] {
        assert!(text.contains(problem), "{problem}: {text}");
    }
    assert!(!text.contains(KEY) && !text.contains(OTHER), "{text}");
    // What only all settings together show.
    let (ok, text) = run(&["check", "--publisher-key", KEY], &[]);
    assert!(!ok && text.contains("error: nobody could subscribe"), "{text}");
    let (ok, text) = run(&["check", "--config", "/nowhere"], &[]);
    assert!(!ok && text.contains("error: /nowhere cannot be read"), "{text}");
}

#[test]
fn what_the_settings_name_is_tried_and_told_in_json() {
    let at = nowhere();
    let (store, keys) = (format!("redis://user:word@{at}/?timeout=1s"), format!("http://{at}/jwks.json"));
    let arguments = ["check", "--json", "--connect", "--anonymous", "--listen", "127.0.0.1:1"];
    let further = ["--transport", &store, "--publisher-jwks-url", &keys];
    let output = command(&[&arguments[..], &further].concat()).output().expect("the binary runs");
    let (ok, text) = (output.status.success(), String::from_utf8(output.stdout).expect("UTF-8"));
    let found: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("word"));
    assert!(!ok && found["ok"] == false && found["errors"] == serde_json::json!([]), "{text}");
    let tried = |setting: &str| {
        let all = found["connections"].as_array().expect("an array");
        all.iter().find(|each| each["setting"] == setting).cloned().expect("tried")
    };
    assert_eq!(tried("listen")["ok"], true);
    assert_eq!((&tried("transport")["ok"], &tried("issuers")["ok"]), (&false.into(), &false.into()));
    assert!(tried("transport")["problem"].is_string() && !text.contains("word"), "{text}");
    // A directory that is there, one that can be made, and one that cannot be used.
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    let transport = |path: &Path| {
        let url = format!("durable://{}", path.display());
        run(
            &[&["check", "--connect", "--listen", "127.0.0.1:1", "--transport", &url][..], &KEYS].concat(),
            &[],
        )
    };
    assert!(transport(directory.path()).0 && transport(&directory.path().join("new/one")).0);
    let (ok, text) = transport(&file);
    assert!(!ok && text.contains("it is no directory"), "{text}");
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1, "nothing was made");
}

#[test]
fn health_asks_where_the_hub_listens_or_at_a_url() {
    let hub = Hub::start(&KEYS);
    let by_settings = ["health", "--listen", &hub.address];
    let url = format!("http://{}", hub.address);
    for arguments in [&by_settings[..], &["health", &url], &["health", "--live", &url]] {
        assert_eq!(run(arguments, &[]), (true, "200: ok\n".to_owned()), "{arguments:?}");
    }
    let (ok, text) = run(&["health", &format!("{url}/elsewhere")], &[]);
    assert!(!ok && text.starts_with("404: "), "{text}");
    let address = hub.address.clone();
    drop(hub);
    let (ok, text) = run(&["health"], &[("PETASOS_LISTEN", &address)]);
    assert!(!ok && text.starts_with(&format!("petasos: {address}: ")), "{text}");
}

#[test]
fn health_needs_nothing_but_the_address_of_a_hub_that_goes_on_with_its_former_settings() {
    let hub = Hub::start(&KEYS);
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("petasos.toml");
    let health = |text: &str, environment: &[(&str, &str)]| {
        fs::write(&file, text).expect("written");
        run(&["health", "--config", file.to_str().expect("UTF-8")], environment)
    };
    let listen = format!("listen = \"{}\"\n", hub.address);
    for wrong in ["", "keep_alive = \"soon\"", "publisher_key_file = \"/nowhere\"", "no_setting = 1"] {
        assert_eq!(health(&format!("{listen}{wrong}"), &[]), (true, "200: ok\n".to_owned()), "{wrong}");
    }
    let (ok, text) = health(&format!("publisher_key = \"{KEY}\n{listen}"), &[]);
    assert!(ok && text.contains(&format!("is no TOML: asking {}", hub.address)), "{text}");
    assert!(!text.contains(KEY), "{text}");
    let by_variable = [("PETASOS_LISTEN", hub.address.as_str())];
    assert_eq!(health("publisher_key = \"", &by_variable), (true, "200: ok\n".to_owned()));
    let (ok, text) = health("listen = \"here\"", &[]);
    assert!(!ok && text.contains("listen: "), "{text}");
}

#[test]
fn the_settings_are_shown_as_a_file_that_can_be_used_and_without_secrets() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("petasos.toml");
    let (ok, defaults) = run(&["config", "--default"], &[]);
    assert!(ok && defaults.contains("\n#keep_alive = \"15s\"\n"), "{defaults}");
    fs::write(&file, &defaults).expect("written");
    let file = file.to_str().expect("UTF-8");
    assert!(run(&[&["check", "--config", file], &KEYS[..]].concat(), &[]).0);
    let (ok, shown) = run(&[&["config", "--show", "--config", file], &KEYS[..]].concat(), &[]);
    assert!(ok && shown.contains("publisher_key = \"(set)\"  # --publisher-key\n"), "{shown}");
    assert!(!shown.contains(KEY) && !shown.contains(OTHER));
    let (ok, docs) = run(&["config", "--docs"], &[]);
    assert!(ok && docs.starts_with("## Hub\n\n| Setting |"), "{docs}");
    assert!(!run(&["config"], &[]).0);
}

#[test]
fn completions_and_the_manual_know_every_setting() {
    for shell in ["bash", "zsh", "fish"] {
        let (ok, text) = run(&["completions", shell], &[]);
        assert!(ok && text.contains("keep-alive") && text.contains("health"), "{shell}");
    }
    let (ok, text) = run(&["man"], &[]);
    assert!(ok && text.contains(".TH petasos 1") && text.contains("keep\\-alive"), "{text}");
    assert!(!run(&["completions", "tcsh"], &[]).0);
}
