//! Finding the server that takes writes, and connecting to it.
//!
//! All keys of a log live in one place of a cluster, so its clients need one node of it at a time, as with sentinels.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ::redis::{AsyncConnectionConfig, Client, ConnectionInfo, Value, aio::MultiplexedConnection, cmd};
use tokio::time;

use super::{
    failure::Failure,
    settings::{Settings, Topology},
};
use crate::hosts::Host;

/// The way to the server.
pub(super) struct Endpoint {
    settings: Arc<Settings>,
    /// The host of the URL that has led there last: others may be silent, which costs time.
    preferred: AtomicUsize,
}

impl Endpoint {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, preferred: AtomicUsize::new(0) }
    }

    /// A new connection to the server that takes writes. Nothing is waited for longer than the time-out, for each host
    /// of the URL.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        let hosts = &self.settings.hosts;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failed = None;
        for at in (first..first + hosts.len()).map(|at| at % hosts.len()) {
            let attempt = time::timeout(self.settings.timeout, self.connect_through(&hosts[at])).await;
            match attempt.unwrap_or(Err(Failure::Silence)) {
                Ok(connection) => {
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(failure) => failed = Some(failure),
            }
        }
        Err(failed.unwrap_or(Failure::Silence))
    }

    async fn connect_through(&self, host: &Host) -> Result<MultiplexedConnection, Failure> {
        let server = match &self.settings.topology {
            Topology::Alone => host.clone(),
            Topology::Sentinel(name) => self.ask_sentinel(host, name).await?,
            Topology::Cluster => self.ask_cluster(host).await?,
        };
        let mut connection = connect(self.settings.server(&server)?).await?;
        is_primary(&mut connection).await?;
        Ok(connection)
    }

    async fn ask_sentinel(&self, sentinel: &Host, name: &str) -> Result<Host, Failure> {
        let mut connection = connect(self.settings.guide(sentinel)?).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let answer: Option<(String, u16)> = question.query_async(&mut connection).await?;
        answer.map(|(name, port)| Host { name, port }).ok_or_else(|| {
            Failure::Other(format!("the sentinel {sentinel} knows no primary of the name \"{name}\""))
        })
    }

    async fn ask_cluster(&self, node: &Host) -> Result<Host, Failure> {
        let mut connection = connect(self.settings.guide(node)?).await?;
        let mut question = cmd("CLUSTER");
        question.arg("KEYSLOT").arg(self.settings.key("log"));
        let slot: i64 = question.query_async(&mut connection).await?;
        let slots: Vec<Value> = cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        let owner = slots.iter().find_map(|range| owner_of(slot, range, node));
        owner.ok_or_else(|| Failure::Other(format!("no node of the cluster serves the log's slot, {slot}")))
    }
}

/// The primary of a range of `CLUSTER SLOTS`, if the slot lies in it: `[first, last, [host, port, …], …]`.
fn owner_of(slot: i64, range: &Value, asked: &Host) -> Option<Host> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else { return None };
    let [name, Value::Int(port), ..] = &primary[..] else { return None };
    if !(*first..=*last).contains(&slot) {
        return None;
    }
    let name = match name {
        Value::BulkString(name) if !name.is_empty() => String::from_utf8(name.clone()).ok()?,
        // It does not know its own address: the one that it was asked at is right.
        _ => asked.name.clone(),
    };
    Some(Host { name, port: u16::try_from(*port).ok()? })
}

async fn connect(info: ConnectionInfo) -> Result<MultiplexedConnection, Failure> {
    // Its own time-outs would end commands that wait for entries. Callers have time-outs of their own.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?)
}

/// A replica would answer what was true some time ago, and take nothing.
pub(super) async fn is_primary(connection: &mut MultiplexedConnection) -> Result<(), Failure> {
    let role: Result<Vec<Value>, _> = cmd("ROLE").query_async(connection).await;
    match role {
        Ok(role) => match role.first() {
            Some(Value::BulkString(role)) if role != b"master" => Err(Failure::Other(
                "this Redis is a replica: name the primary, or sentinels as redis+sentinel://".to_owned(),
            )),
            _ => Ok(()),
        },
        // Users that may not ask find out when they write.
        Err(error) if error.kind() == ::redis::ErrorKind::Server(::redis::ServerErrorKind::NoPerm) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
