//! A hub whose settings change while it runs, as a black box: by SIGHUP, and because a key file has changed.

mod hub;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use hub::{HUB, Hub, PATIENCE, SETTINGS_FILE};
use petasos_auth::Signer;

/// Writes the settings and reloads them. Returns the line of the log that says what came of it.
fn reload(hub: &mut Hub, settings: &str) -> String {
    hub.reload(settings, "settings ")
}

fn publish(hub: &Hub, key: &str, data: &str) -> u16 {
    Client::connect(&hub.address).publish(&token(key, "publish"), data)
}

fn subscribe(hub: &Hub, key: Option<&str>) -> Stream {
    Stream::open(&hub.address, key).expect("a stream")
}

fn token(key: &str, action: &str) -> String {
    let signer = Signer::parse(key, None).expect("a key");
    signer.sign("JWT", &format!(r#"{{"mercure":{{"{action}":["*"]}}}}"#))
}

/// Asks the port for operators, and returns the status and the body of the answer.
fn ask(operators: &str, method: &str, path: &str) -> (u16, String) {
    let mut client = Client::connect(operators);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {operators}\r\nConnection: close\r\n\r\n");
    client.0.get_mut().write_all(request.as_bytes()).expect("sent");
    let head = client.head();
    let mut body = String::new();
    client.0.read_to_string(&mut body).expect("UTF-8");
    (status(&head), body)
}

/// A connection that carries one request after the other.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: &str) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        stream.set_nodelay(true).expect("an option");
        Self(BufReader::new(stream))
    }

    fn publish(&mut self, token: &str, data: &str) -> u16 {
        let body = format!("topic=a&data={data}");
        let request = format!(
            "POST {HUB} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("sent");
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
        self.0.read_exact(&mut body).expect("a body");
        status(&head)
    }

    fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("an answer"), 0, "the connection ends: {head:?}");
        }
        head
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// A stream of events.
struct Stream(Client);

impl Stream {
    /// # Errors
    /// The status of the refusal.
    fn open(address: &str, key: Option<&str>) -> Result<Self, u16> {
        let mut client = Client::connect(address);
        let header = key
            .map(|key| format!("Authorization: Bearer {}\r\n", token(key, "subscribe")))
            .unwrap_or_default();
        let request = format!("GET {HUB}?topic=a HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        client.0.get_mut().write_all(request.as_bytes()).expect("sent");
        match status(&client.head()) {
            200 => Ok(Self(client)),
            status => Err(status),
        }
    }

    /// Waits for an event with that data.
    fn receives(&mut self, data: &str) {
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the stream ends before {data:?}"));
            if line == format!("data: {data}") {
                return;
            }
        }
    }

    /// Waits for its end.
    fn ends(&mut self) {
        while self.line().is_some() {}
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.0.read_line(&mut line).expect("a line");
        // The last chunk is empty.
        (read > 0 && line != "0\r\n").then(|| line.trim_end().to_owned())
    }
}

const OLD: &str = "the old key of this test, of at least 32 bytes";
const NEW: &str = "the new key of this test, of at least 32 bytes";
const READER: &str = "the key of subscribers, of at least 32 bytes";
const OTHER: &str = "the other key of subscribers, at least 32 bytes";

fn settings(publisher: &str, subscriber: &str, more: &str) -> String {
    format!("publisher_key = \"{publisher}\"\nsubscriber_key = \"{subscriber}\"\n{more}\n")
}

#[test]
fn a_signal_puts_new_settings_into_force_and_ends_no_stream_of_a_good_token() {
    let mut hub = Hub::start(&settings(OLD, READER, "anonymous = true"), |_| ());
    let (mut anonymous, mut reader) = (subscribe(&hub, None), subscribe(&hub, Some(READER)));
    let line = reload(&mut hub, &settings(NEW, READER, "anonymous = true\nmax_topics = 5"));
    assert!(line.contains("settings reloaded") && line.contains("\"publisher_key, max_topics\""), "{line}");
    assert_eq!((publish(&hub, OLD, "x"), publish(&hub, NEW, "first")), (401, 200));
    anonymous.receives("first");
    reader.receives("first");
    // The key of subscribers goes, and its streams go with it.
    let line = reload(&mut hub, &settings(NEW, OTHER, "anonymous = true\nmax_topics = 5"));
    assert!(line.contains("changed=\"subscriber_key\""), "{line}");
    reader.ends();
    assert_eq!(Stream::open(&hub.address, Some(READER)).err(), Some(401));
    let mut other = subscribe(&hub, Some(OTHER));
    assert_eq!(publish(&hub, NEW, "second"), 200);
    anonymous.receives("second");
    other.receives("second");
    // Anonymous subscribers go, too.
    reload(&mut hub, &settings(NEW, OTHER, ""));
    anonymous.ends();
    assert_eq!(Stream::open(&hub.address, None).err(), Some(401));
    assert!(reload(&mut hub, &settings(NEW, OTHER, "")).contains("none has changed"));
    let output = hub.output();
    for secret in [OLD, NEW, READER, OTHER] {
        assert!(!output.contains(secret), "{output}");
    }
}

#[test]
fn a_wrong_value_leaves_everything_as_it_was() {
    let mut hub = Hub::start(&settings(OLD, READER, ""), |_| ());
    let mut reader = subscribe(&hub, Some(READER));
    for (wrong, named) in [
        (settings(NEW, OTHER, "keep_alive = \"soon\""), "keep_alive: write seconds"),
        (settings(NEW, OTHER, "max_topicz = 1"), "is \"max_topics\" meant?"),
        (settings(NEW, OTHER, "publisher_algorithms = [\"none\"]"), "publisher_algorithms: "),
        (settings(NEW, OTHER, "transport = \"x://y\"\nmax_topics = 3"), "transport"),
        ("publisher_key = \"".to_owned() + NEW, "line 1"),
        (String::new(), "nobody could subscribe"),
    ] {
        let line = reload(&mut hub, &wrong);
        assert!(line.contains("all stay as they were: ") && line.contains(named), "{named}: {line}");
        assert_eq!((publish(&hub, NEW, "x"), publish(&hub, OLD, named.trim())), (401, 200), "{named}");
    }
    assert_eq!(publish(&hub, OLD, "last"), 200);
    reader.receives("last");
    let output = hub.output();
    assert!(!output.contains(NEW) && !output.contains(OTHER), "{output}");
}

#[test]
fn an_operator_who_asks_for_a_reload_gets_what_came_of_it() {
    let mut hub = Hub::start(&settings(OLD, READER, "anonymous = true"), |_| ());
    let asked = || ask(&hub.operators, "POST", "/reload");
    let metric = || {
        let (_, text) = ask(&hub.operators, "GET", "/metrics");
        let line = text.lines().find(|line| line.starts_with("petasos_config_last_reload_successful "));
        line.map(ToOwned::to_owned).expect("a metric")
    };
    hub.write(SETTINGS_FILE, &settings(NEW, READER, "anonymous = true\nhistory = 7\ncookie_name = \"a\""));
    let (status, body) = asked();
    let report: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let expected = serde_json::json!({
        "changed": ["publisher_key", "cookie_name"],
        "needs_restart": ["history"],
        "warnings": [],
    });
    assert_eq!((status, report), (200, expected));
    assert_eq!((publish(&hub, OLD, "x"), publish(&hub, NEW, "x")), (401, 200));
    assert!(metric().ends_with(" 1"), "{}", metric());
    hub.write(SETTINGS_FILE, &settings(OLD, READER, "keep_alive = \"soon\""));
    let (status, body) = asked();
    assert!(status == 422 && body.contains("keep_alive: write seconds") && !body.contains(OLD), "{body}");
    assert!(metric().ends_with(" 0"), "{}", metric());
    assert_eq!(publish(&hub, NEW, "x"), 200);
    assert_eq!(ask(&hub.operators, "GET", "/reload").0, 405);
    // The times of a stop are those in force when it begins: the tests' own are flags, so they stay.
    hub.logged("not reloaded");
    hub.output();
}

#[test]
fn a_setting_that_needs_a_restart_is_named_and_the_others_count() {
    let mut hub = Hub::start(&settings(OLD, READER, "anonymous = true"), |_| ());
    let mut stream = subscribe(&hub, None);
    let more = "anonymous = true\nhistory = 3\nsubscriptions = false\nlog = \"debug\"";
    hub.write(SETTINGS_FILE, &settings(NEW, READER, more));
    hub.signal("HUP");
    let lines = [hub.logged("needs a restart"), hub.logged("needs a restart")].join("\n");
    assert!(lines.contains("setting=\"history\"") && lines.contains("setting=\"subscriptions\""), "{lines}");
    let line = hub.logged("settings reloaded");
    assert!(line.contains("changed=\"log, publisher_key\""), "{line}");
    assert_eq!(publish(&hub, NEW, "x"), 200);
    stream.receives("x");
    // They are named as long as they differ.
    hub.signal("HUP");
    hub.logged("setting=\"history\"");
    assert!(hub.logged("settings reloaded").contains("none has changed"));
    drop(stream);
    hub.logged("DEBUG");
}

#[test]
fn a_key_file_that_changes_is_read_again_and_a_wrong_one_is_said_once() {
    let files =
        "publisher_key_file = \"publisher\"\nsubscriber_jwks = \"set.json\"\nkey_files_interval = \"20ms\"";
    let set = |key: &str| format!(r#"{{"keys":[{{"kty":"oct","k":"{key}"}}]}}"#);
    // The secrets in base64url.
    let (first, second) =
        ("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE", "QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI");
    let mut hub = Hub::start(files, |directory| {
        fs::write(directory.join("publisher"), OLD).expect("written");
        fs::write(directory.join("set.json"), set(first)).expect("written");
    });
    let (a, b) = ("A".repeat(32), "B".repeat(32));
    let mut reader = subscribe(&hub, Some(&a));
    hub.write("publisher", &format!("{NEW}\n"));
    let line = hub.logged("keys reloaded");
    assert!(line.contains("changed=\"publisher_key_file\""), "{line}");
    assert_eq!((publish(&hub, OLD, "x"), publish(&hub, NEW, "first")), (401, 200));
    reader.receives("first");
    // A part of a set, and no file at all: the former keys stay.
    hub.write("set.json", &set(second)[..20]);
    let line = hub.logged("cannot be used");
    assert!(line.contains("WARN") && line.contains("subscriber_jwks"), "{line}");
    fs::remove_file(hub.path("publisher")).expect("removed");
    assert!(hub.logged("cannot be used").contains("publisher"));
    assert_eq!(publish(&hub, NEW, "second"), 200);
    reader.receives("second");
    hub.write("publisher", NEW);
    hub.logged("cannot be used");
    hub.write("set.json", &set(second));
    hub.logged("keys reloaded");
    reader.ends();
    let mut reader = subscribe(&hub, Some(&b));
    assert_eq!(publish(&hub, NEW, "third"), 200);
    reader.receives("third");
    let output = hub.output();
    assert_eq!(output.matches("cannot be used").count(), 3, "{output}");
    assert!(!output.contains(second) && !output.contains(NEW), "{output}");
}

#[test]
fn the_metric_says_whether_all_that_was_read_last_is_in_force() {
    let with = |more: &str| {
        let files = "publisher_key_file = \"publisher\"\nsubscriber_jwks = \"set.json\"";
        format!("{files}\nkey_files_interval = \"20ms\"\n{more}\n")
    };
    let good = two_keys(0);
    let mut hub = Hub::start(&with(""), |directory| {
        fs::write(directory.join("publisher"), OLD).expect("written");
        fs::write(directory.join("set.json"), &good).expect("written");
    });
    let (operators, value) = (hub.operators.clone(), |is_successful: bool| u8::from(is_successful));
    let holds = |is_successful: bool| {
        let line = format!("\npetasos_config_last_reload_successful {}\n", value(is_successful));
        let deadline = Instant::now() + PATIENCE;
        // The line of the log comes just before.
        while !ask(&operators, "GET", "/metrics").1.contains(&line) {
            assert!(Instant::now() < deadline, "{line}");
            thread::yield_now();
        }
    };
    holds(true);
    hub.write("set.json", &good[..20]);
    hub.logged("cannot be used");
    holds(false);
    // What was there before is there again.
    hub.write("set.json", &good);
    hub.logged("again as they were");
    holds(true);
    // A key file that is right does not mend a settings file.
    assert!(reload(&mut hub, &with("keep_alive = \"soon\"")).contains("not reloaded"));
    holds(false);
    hub.write("publisher", NEW);
    hub.logged("keys reloaded");
    hub.write("publisher", OLD);
    hub.logged("keys reloaded");
    holds(false);
    assert!(reload(&mut hub, &with("")).contains("settings reloaded"));
    holds(true);
}

/// How often keys are rotated.
const ROTATIONS: usize = 100;

fn key_of(number: usize) -> String {
    format!("key number {number:03}, of at least 32 bytes")
}

/// A JWK Set with the keys of two numbers.
fn two_keys(number: usize) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let key = |number: usize| {
        let secret = URL_SAFE_NO_PAD.encode(key_of(number));
        format!(r#"{{"kty":"oct","kid":"{number}","k":"{secret}"}}"#)
    };
    format!(r#"{{"keys":[{},{}]}}"#, key(number), key(number + 1))
}

#[test]
fn a_hundred_rotations_under_load_cut_no_stream_and_refuse_no_publisher_of_a_good_token() {
    let files = "publisher_jwks = \"set.json\"\nsubscriber_jwks = \"set.json\"\nanonymous = true\nkey_files_interval = 0";
    let mut hub = Hub::start(files, |directory| {
        fs::write(directory.join("set.json"), two_keys(0)).expect("written");
    });
    let mut anonymous = subscribe(&hub, None);
    // The key that is in the set before and after the next rotation.
    let good = AtomicUsize::new(1);
    let is_over = AtomicBool::new(false);
    // How far each publisher has come: the number of the newest good key with which it has published.
    let published = [(); 2].map(|()| AtomicUsize::new(0));
    let count = AtomicUsize::new(0);
    let address = hub.address.clone();
    thread::scope(|scope| {
        // Also if an assertion fails: the publishers end then.
        struct OnDrop<'a>(&'a AtomicBool);
        impl Drop for OnDrop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let over = OnDrop(&is_over);
        let publishers: Vec<_> = published
            .iter()
            .map(|reached| {
                scope.spawn(|| {
                    let mut client = Client::connect(&address);
                    while !is_over.load(Ordering::SeqCst) {
                        let number = good.load(Ordering::SeqCst);
                        let status = client.publish(&token(&key_of(number), "publish"), "load");
                        assert_eq!(status, 200, "with key {number}");
                        count.fetch_add(1, Ordering::SeqCst);
                        reached.store(number, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        for number in 1..=ROTATIONS {
            let mut streams = [(); 3].map(|()| subscribe(&hub, Some(&key_of(number))));
            hub.write("set.json", &two_keys(number));
            hub.signal("HUP");
            hub.logged("settings reloaded");
            good.store(number + 1, Ordering::SeqCst);
            let deadline = Instant::now() + PATIENCE;
            for reached in &published {
                while reached.load(Ordering::SeqCst) <= number {
                    assert!(Instant::now() < deadline && !publishers.iter().any(|each| each.is_finished()));
                    thread::yield_now();
                }
            }
            let marker = format!("after-rotation-{number}");
            assert_eq!(publish(&hub, &key_of(number), &marker), 200);
            for stream in &mut streams {
                stream.receives(&marker);
            }
            assert_eq!(publish(&hub, &key_of(number - 1), "x"), 401);
            assert_eq!(Stream::open(&hub.address, Some(&key_of(number - 1))).err(), Some(401));
            anonymous.receives(&marker);
        }
        drop(over);
    });
    assert!(count.load(Ordering::SeqCst) > 2 * ROTATIONS);
}
