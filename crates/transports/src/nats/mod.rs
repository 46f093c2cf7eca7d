//! The log as a stream in NATS JetStream, shared by all nodes.
//!
//! An entry is a message of one stream, its position the stream's sequence, and the epoch the time at which the stream was
//! made. The server keeps the newest messages of each origin by itself, some more than readers see; which those are,
//! and where an id stands, each node knows from an index that it builds from the headers of the stream. Before a node
//! answers from its index it asks the server where the log ends, so that nothing is missing that any node has appended.
//!
//! An append is acknowledged when the server has stored it, or a majority of replicas have. A server alone writes to
//! its disk at once and lets the system decide when that reaches the medium, at the latest after `sync_interval`.

mod api;
mod attempts;
mod census;
mod chores;
mod consumer;
mod documents;
mod failure;
mod follower;
mod index;
mod keeper;
mod link;
mod log;
mod record;
mod registry;
mod removed;
mod settings;
mod settled;
mod streams;
mod write;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    documents::Documents,
    registry::Registry,
    transport::{Extent, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::Update;
use tokio::task::JoinSet;

use self::{
    documents::SharedDocuments, failure::Failure, follower::NatsFollower, link::Link, log::Log,
    registry::Subscribers, settings::Settings, streams::Streams, writer::Writer,
};
use crate::{Dsn, OpenError, Options, retry::Backoff};

/// A log in JetStream. See the module.
struct NatsTransport {
    log: Arc<Log>,
    writer: Arc<Writer>,
    registry: Subscribers,
    /// Aborted with the value.
    _tasks: JoinSet<()>,
}

/// Opens the log, makes or checks its streams, and reads what it holds.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    options.retention.has_only_entries(dsn)?;
    let link = connect(dsn).await?;
    let updates_max = options.retention.entries_max;
    let streams = Streams::new(&link, updates_max);
    let info = streams.ensure(&link).await?;
    let unavailable = |failure: Failure| TransportError::from(failure);
    let (log, bounds) =
        Log::new(link, streams, options.hub.clone(), updates_max, &info).map_err(unavailable)?;
    let log = Arc::new(log);
    let mut tasks = JoinSet::new();
    tasks.spawn(bounds);
    let consumer = keeper::read_index(&log).await?;
    tasks.spawn(keeper::keep(Arc::clone(&log), consumer));
    tasks.spawn(chores::probe_room(Arc::clone(&log)));
    let writer = Arc::new(Writer::new(Arc::clone(&log)));
    let registry = Subscribers::new(Arc::clone(&writer));
    Ok(Arc::new(NatsTransport { log, writer, registry, _tasks: tasks }))
}

/// Connects, and asks for the account's JetStream. Changes nothing.
pub(crate) async fn probe(dsn: &Dsn) -> Result<(), OpenError> {
    connect(dsn).await.map(drop)
}

async fn connect(dsn: &Dsn) -> Result<Arc<Link>, OpenError> {
    let link = Arc::new(Link::open(Settings::parse(dsn)?).await?);
    if !link.connection().client.is_server_compatible(2, 9, 0) {
        return Err(OpenError::Refused("the NATS server is too old: it has to be 2.9 or later".to_owned()));
    }
    account(&link).await.map_err(|failure| match failure {
        Failure::NoResponders => streams::not_enabled(),
        failure => streams::refused(&link, &failure),
    })?;
    Ok(link)
}

/// Asks for the account's JetStream. A server that has JetStream may say that it has none while it starts, or while the
/// server that the account is on cannot be reached.
async fn account(link: &Link) -> Result<(), Failure> {
    let (attempts, mut backoff) = (link.attempts(), Backoff::new());
    loop {
        let result = link.account().await;
        let has_jetstream = link.connection().client.server_info().jetstream;
        match result {
            Err(failure) if has_jetstream && attempts.go_on(&failure) => backoff.wait().await,
            result => return result,
        }
    }
}

#[async_trait]
impl Transport for NatsTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        self.log.head().await
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.writer.append(&update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.log.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.log.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let (trimmed, head) = self.log.ask(|index| (index.trimmed().updates, index.head())).await?;
        // What lies behind the end was of an end that the server has lost.
        if after < trimmed || after > head {
            return Err(TransportError::Trimmed);
        }
        Ok(Box::new(NatsFollower::new(Arc::clone(&self.log), after)))
    }

    /// Of the stream, in which subscription events count, too.
    async fn extent(&self) -> Result<Extent, TransportError> {
        let info = self.log.link.info(&self.log.streams.log).await?;
        let oldest = info.oldest();
        Ok(Extent { updates: Some(info.state.messages), bytes: Some(info.state.bytes), oldest })
    }

    fn is_ready(&self) -> bool {
        self.log.link.health.is_available() && self.log.capacity.has_room()
    }

    fn is_readable(&self) -> bool {
        self.log.link.health.is_available()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }

    fn documents(&self) -> Option<Arc<dyn Documents>> {
        Some(Arc::new(SharedDocuments { log: Arc::clone(&self.log) }))
    }
}
