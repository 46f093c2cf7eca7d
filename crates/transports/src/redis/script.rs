//! The scripts: everything that is done to the log, each whole or not at all, as the server runs one at a time.
//!
//! Every answer begins with the head of the log, so that every caller learns of a log that was lost.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use ::redis::{Cmd, ErrorKind, Script, ServerErrorKind, ToRedisArgs, Value, aio::MultiplexedConnection, cmd};
use petasos_hub::transport::{Head, Position, Trimmed};

use super::{failure::Failure, settings::Settings};
use crate::codec::decode_id;

macro_rules! scripts {
    ($($name:ident = $($file:literal)+;)+) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("scripts/", $file)), "\n"),+)));)+
    };
}

scripts! {
    APPEND = "log.lua" "write.lua" "append.lua";
    TRIM = "log.lua" "write.lua" "trim.lua";
    HEAD = "log.lua" "head.lua";
    EXTENT = "log.lua" "extent.lua";
    LOCATE = "log.lua" "locate.lua";
    READ = "log.lua" "read.lua";
    RENEW = "log.lua" "leases.lua" "renew.lua";
    RECORD = "log.lua" "write.lua" "leases.lua" "record.lua";
    RESIGN = "log.lua" "resign.lua";
    ABANDONED = "log.lua" "leases.lua" "abandoned.lua";
    LIST = "log.lua" "list.lua";
    PROBE = "probe.lua";
    DOCUMENT = "document.lua";
}

/// For scripts that take no arguments of their own.
pub(super) const NONE: &[&str] = &[];

/// The scripts of one log: its keys, and what this process knows of the log.
pub(super) struct Scripts {
    keys: Vec<String>,
    probe: String,
    known: Mutex<Known>,
}

/// The newest entry that an answer has named.
#[derive(Clone)]
struct Known {
    position: Position,
    id: Option<Box<str>>,
}

/// The log at the moment of an answer.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) position: Position,
    id: Option<Box<str>>,
    pub(super) trimmed: Trimmed,
}

/// An answer: the log, and what was asked for.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) state: State,
    pub(super) rest: std::vec::IntoIter<Value>,
}

/// Keys in the order of `log.lua`.
const KEYS: [&str; 8] = ["log", "updates", "events", "ids", "subscribers", "order", "owners", "leases"];

impl Scripts {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        Arc::new(Self {
            keys: KEYS.iter().map(|part| settings.key(part)).collect(),
            probe: settings.key("probe"),
            known: Mutex::new(Known { position: Position::EARLIEST, id: None }),
        })
    }

    /// The streams of updates and of events.
    pub(super) fn streams(&self) -> [&str; 2] {
        [&self.keys[1], &self.keys[2]]
    }

    /// Tries all that the user has to be allowed to do.
    pub(super) async fn probe(&self, connection: &mut MultiplexedConnection) -> Result<(), Failure> {
        let _: Value = PROBE.key(&self.probe).invoke_async(connection).await?;
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(1).arg("STREAMS").arg(&self.streams()).arg("$").arg("$");
        let _: Value = read.query_async(connection).await?;
        Ok(())
    }

    /// Runs a script. The caller bounds the time.
    pub(super) async fn call(
        &self,
        connection: &mut MultiplexedConnection,
        script: &Script,
        arguments: impl ToRedisArgs,
    ) -> Result<Answer, Failure> {
        self.run(connection, script, false, arguments).await
    }

    /// The same as the first on a connection: the newest entry that is known has to be the one that the server has.
    pub(super) async fn call_first(
        &self,
        connection: &mut MultiplexedConnection,
        script: &Script,
        arguments: impl ToRedisArgs,
    ) -> Result<Answer, Failure> {
        self.run(connection, script, true, arguments).await
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        script: &Script,
        compares: bool,
        arguments: impl ToRedisArgs,
    ) -> Result<Answer, Failure> {
        let command = self.command(script, compares, arguments);
        let answer: Value = match command.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                script.load_async(connection).await?;
                command.query_async(connection).await?
            }
            answer => answer?,
        };
        let answer = Answer::parse(answer)?;
        self.observe(&answer.state);
        Ok(answer)
    }

    fn command(&self, script: &Script, compares: bool, arguments: impl ToRedisArgs) -> Cmd {
        let known = self.lock().clone();
        let id = known.id.filter(|_| compares);
        let mut command = cmd("EVALSHA");
        command.arg(script.get_hash()).arg(self.keys.len()).arg(&self.keys);
        command.arg(known.position.epoch).arg(known.position.sequence).arg(id.as_deref().unwrap_or_default());
        command.arg(arguments);
        command
    }

    /// Learns from an answer. Answers on several connections come in any order.
    fn observe(&self, state: &State) {
        let mut known = self.lock();
        if state.position < known.position {
            return;
        }
        let before = known.position.epoch;
        *known = Known { position: state.position, id: state.id.clone() };
        drop(known);
        if before != 0 && before != state.position.epoch {
            tracing::warn!(
                before,
                now = state.position.epoch,
                "the log in Redis was lost, or has lost entries that this node had seen: it begins anew"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock panics.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The end of the log.
    pub(super) fn head(&self) -> Head {
        Head { position: self.position, id: self.id.as_deref().and_then(decode_id) }
    }

    /// A position in this log.
    pub(super) fn at(&self, sequence: u64) -> Position {
        Position { epoch: self.position.epoch, sequence }
    }

    fn parse(value: Value) -> Option<Self> {
        let Value::Array(parts) = value else { return None };
        let [epoch, sequence, id, updates, events] = <[Value; 5]>::try_from(parts).ok()?;
        let epoch = number(&epoch)?;
        let at = |value: &Value| Some(Position { epoch, sequence: number(value)? });
        let id = match id {
            Value::BulkString(id) => Some(String::from_utf8(id).ok()?.into_boxed_str()),
            _ => None,
        };
        Some(Self {
            position: at(&sequence)?,
            id,
            trimmed: Trimmed { updates: at(&updates)?, events: at(&events)? },
        })
    }
}

impl Answer {
    fn parse(value: Value) -> Result<Self, Failure> {
        let Value::Array(parts) = value else { return Err(unexpected()) };
        let mut rest = parts.into_iter();
        let state = rest.next().and_then(State::parse).ok_or_else(unexpected)?;
        Ok(Self { state, rest })
    }

    /// The next part.
    pub(super) fn next(&mut self) -> Result<Value, Failure> {
        self.rest.next().ok_or_else(unexpected)
    }

    /// The next part, a number; nothing if there is none.
    pub(super) fn next_number(&mut self) -> Result<Option<u64>, Failure> {
        Ok(number(&self.next()?))
    }

    /// The next part: whether something is so.
    pub(super) fn next_flag(&mut self) -> Result<bool, Failure> {
        Ok(self.next_number()? == Some(1))
    }

    /// The next part, pairs by turns.
    pub(super) fn next_pairs(&mut self) -> Result<Vec<(Value, Value)>, Failure> {
        let Value::Array(parts) = self.next()? else { return Err(unexpected()) };
        let mut parts = parts.into_iter();
        Ok(std::iter::from_fn(|| parts.next().zip(parts.next())).collect())
    }
}

pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

pub(super) fn unexpected() -> Failure {
    Failure::Other("Redis gave an answer that the log's scripts do not give".to_owned())
}
