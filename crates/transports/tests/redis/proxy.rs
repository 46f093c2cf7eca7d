//! What stands between a node and its server, and deals with one command as a test wants it.

#![allow(unreachable_pub, reason = "a test is a crate of its own")]

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::JoinHandle,
};

/// Hands on what comes on any connection, in both directions.
pub struct Proxy {
    pub port: u16,
    rule: Arc<Mutex<Option<Rule>>>,
    /// Numbers of the connections that are open.
    open: Arc<Mutex<HashSet<u64>>>,
    task: JoinHandle<()>,
}

/// For the next command that has this argument.
struct Rule {
    argument: String,
    deed: Deed,
}

enum Deed {
    /// The server gets the command, and the connection breaks before the answer.
    LoseAnswer,
    /// The server gets another one.
    Replace(Vec<u8>),
}

impl Proxy {
    pub async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let rule = Arc::new(Mutex::new(None));
        let open = Arc::new(Mutex::new(HashSet::new()));
        let (rule_of_all, open_of_all) = (Arc::clone(&rule), Arc::clone(&open));
        let task = tokio::spawn(async move {
            for number in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                let (rule, open) = (Arc::clone(&rule_of_all), Arc::clone(&open_of_all));
                open.lock().expect("lock").insert(number);
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                        relay(client, server, &rule).await;
                    }
                    open.lock().expect("lock").remove(&number);
                });
            }
        });
        Self { port, rule, open, task }
    }

    pub fn lose_answer_to(&self, argument: &str) {
        self.set(argument, Deed::LoseAnswer);
    }

    /// The next command with the argument is answered with the error, and not done.
    pub fn refuse(&self, argument: &str, error: &str) {
        let script = format!("return redis.error_reply('{error}')");
        let command = format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len());
        self.set(argument, Deed::Replace(command.into_bytes()));
    }

    /// Numbers of the connections that are open.
    pub fn connections(&self) -> HashSet<u64> {
        self.open.lock().expect("lock").clone()
    }

    /// Whether there was such a command.
    pub fn is_done(&self) -> bool {
        self.rule.lock().expect("lock").is_none()
    }

    fn set(&self, argument: &str, deed: Deed) {
        *self.rule.lock().expect("lock") = Some(Rule { argument: argument.to_owned(), deed });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, server: TcpStream, rule: &Mutex<Option<Rule>>) {
    let (commands, mut to_client) = client.into_split();
    let (mut answers, mut to_server) = server.into_split();
    let is_cut = AtomicBool::new(false);
    let up = async {
        let mut commands = BufReader::new(commands);
        while let Some(command) = Command::read(&mut commands).await {
            let has =
                |rule: &mut Rule| command.arguments.iter().any(|each| *each == rule.argument.as_bytes());
            let rule = rule.lock().expect("lock").take_if(has);
            let sent = match rule.as_ref().map(|rule| &rule.deed) {
                Some(Deed::Replace(other)) => to_server.write_all(other).await,
                _ => to_server.write_all(&command.bytes).await,
            };
            if sent.is_err() {
                return;
            }
            let is_last = rule.is_some_and(|rule| matches!(rule.deed, Deed::LoseAnswer));
            is_cut.fetch_or(is_last, Ordering::Relaxed);
        }
    };
    let down = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = answers.read(&mut buffer).await {
            if is_cut.load(Ordering::Relaxed) || to_client.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// An array of strings, as clients send them.
struct Command {
    bytes: Vec<u8>,
    arguments: Vec<Vec<u8>>,
}

impl Command {
    async fn read(from: &mut BufReader<OwnedReadHalf>) -> Option<Self> {
        let mut command = Self { bytes: Vec::new(), arguments: Vec::new() };
        for _ in 0..command.number(from).await? {
            let length = command.number(from).await?;
            let begin = command.bytes.len();
            command.bytes.resize(begin + length + 2, 0);
            from.read_exact(&mut command.bytes[begin..]).await.ok()?;
            command.arguments.push(command.bytes[begin..begin + length].to_vec());
        }
        Some(command)
    }

    /// A line of a sign and a number.
    async fn number(&mut self, from: &mut BufReader<OwnedReadHalf>) -> Option<usize> {
        let begin = self.bytes.len();
        from.read_until(b'\n', &mut self.bytes).await.ok()?;
        str::from_utf8(self.bytes.get(begin + 1..)?).ok()?.trim_end().parse().ok()
    }
}
