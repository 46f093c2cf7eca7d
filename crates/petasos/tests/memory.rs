//! The native binary in half a gigabyte of address space, flooded by subscribers that bring as much as they may.
#![cfg(target_os = "linux")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use petasos_auth::Signer;

/// Kilobytes of address space.
const ADDRESS_SPACE: usize = 500_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// Killed on drop, whatever the test does.
struct Hub {
    child: Child,
    address: String,
    _out: BufReader<ChildStdout>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Hub {
    fn start() -> Self {
        let script = format!("ulimit -v {ADDRESS_SPACE} && exec \"$@\"");
        let log = tempfile::NamedTempFile::new().expect("a file");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_petasos")])
            .args(["--listen", "127.0.0.1:0", "--compat", "--anonymous", "--admin-listen", "off"])
            .args(["--publisher-key", "publisher", "--subscriber-key", "subscriber"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.reopen().expect("the same file"))
            .spawn()
            .expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("UTF-8");
        let Some(url) = line.trim_end().strip_prefix("Serving on http://") else {
            panic!("it does not serve: {}", std::fs::read_to_string(log.path()).unwrap_or_default());
        };
        let address = url.strip_suffix("/.well-known/mercure").expect("the hub's path").to_owned();
        Self { child, address, _out: out }
    }

    fn send(&self, request: &[u8]) -> TcpStream {
        #[expect(clippy::disallowed_methods, reason = "a test without a runtime")]
        let mut stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        stream.write_all(request).expect("write");
        stream
    }

    /// The status of an answer, and whether it says when to come back.
    fn answer(&self, request: &[u8]) -> (u16, bool, TcpStream) {
        let mut stream = self.send(request);
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("the hub answers");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let status = head[9..12].parse().expect("a status");
        (status, head.contains("\r\nretry-after: "), stream)
    }

    fn publish(&self, body: &str) -> u16 {
        let claims = r#"{"mercure":{"publish":["*"]}}"#;
        let token = Signer::parse("publisher", None).expect("a key").sign("JWT", claims);
        self.answer(&request("POST", &token, body)).0
    }

    fn is_healthy(&self) -> bool {
        self.answer(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").0 == 200
    }
}

fn request(method: &str, token: &str, body: &str) -> Vec<u8> {
    let authorization =
        if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    format!(
        "{method} /.well-known/mercure HTTP/1.1\r\nHost: x\r\n{authorization}Content-Type: \
         application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// As many bytes of matchers as one subscriber may have, no two alike.
fn texts(number: usize) -> String {
    (0..58).map(|at| format!("topic={number}-{at}-{}&", "a".repeat(4_000))).collect()
}

/// Small texts that take much to match.
fn patterns(number: usize) -> String {
    (0..8).map(|at| format!("match_urlpattern=https://e/{number}/{at}/(a{{200}})/(b{{200}})&")).collect()
}

fn payload(number: usize) -> String {
    let claims = format!(
        r#"{{"mercure":{{"subscribe":["{number}"],"payload":{{"n":{number},"p":"{}"}}}}}}"#,
        "p".repeat(8_000)
    );
    Signer::parse("subscriber", None).expect("a key").sign("JWT", &claims)
}

#[test]
fn in_half_a_gigabyte_the_hub_survives_a_flood_of_matchers_and_payloads() {
    let mut hub = Hub::start();
    let (mut held, mut refused) = (Vec::new(), 0);
    let floods: [&dyn Fn(usize) -> Vec<u8>; 3] = [
        &|number| request("QUERY", "", &texts(number)),
        &|number| request("QUERY", "", &patterns(number)),
        &|number| request("QUERY", &payload(number), &texts(number)),
    ];
    for flood in floods {
        for number in 0..300 {
            let (status, says_when, stream) = hub.answer(&flood(number));
            match status {
                200 => held.push(stream),
                429 | 503 => {
                    assert!(says_when, "{status} without Retry-After");
                    refused += 1;
                }
                other => panic!("{other}"),
            }
            // And others that leave before they are answered.
            drop(hub.send(&flood(number + 1_000)));
        }
        assert!(hub.is_healthy());
        assert_eq!(hub.publish("topic=a&data=x"), 200);
    }
    assert!(held.len() > 100 && refused > 100, "{} held, {refused} refused", held.len());
    assert!(hub.child.try_wait().expect("a state").is_none(), "it is alive");
    // An ordinary subscriber gets in all the same.
    assert_eq!(hub.answer(&request("QUERY", "", "topic=a")).0, 200);

    drop(held);
    let deadline = Instant::now() + PATIENCE;
    while hub.answer(&request("QUERY", "", &texts(5_000))).0 != 200 {
        assert!(Instant::now() < deadline, "newcomers get in when the others have left");
    }
    assert!(hub.is_healthy());
}
