//! The log in PostgreSQL, which several nodes share.
//!
//! The order is that of commits: a writer locks the one row of the meta table from taking a sequence to its commit, so a
//! reader that sees an entry sees all entries before it. A process writes all appends that wait as one statement. Nothing is
//! read from stand-by servers, and nothing is promised beyond what the server's settings make of a commit.

mod chores;
mod core;
mod documents;
mod failure;
mod follower;
mod link;
mod log;
mod registry;
mod schema;
mod settings;
mod statements;
mod tls;
mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    documents::Documents,
    metrics::Distribution,
    registry::Registry,
    transport::{Extent, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::Update;
use tokio::{task::JoinSet, time::Instant};

use self::{
    core::Core,
    documents::SharedDocuments,
    failure::Failure,
    follower::PostgresFollower,
    link::{Connector, Link},
    log::Log,
    registry::Subscribers,
    schema::Tables,
    settings::Settings,
    writer::{BOUNDS, Batches},
};
use crate::{Dsn, OpenError, Options, shared::writer::Writer};

/// Links that read: one waits while the other does.
const READERS: usize = 2;

/// Further links: those of the writer, of the registry and the chores, and of the followers.
const OTHERS: usize = 3;

struct PostgresTransport {
    core: Arc<Core>,
    writer: Writer,
    readers: [Log; READERS],
    reader: AtomicUsize,
    followers: Link,
    registry: Subscribers,
    documents: SharedDocuments,
    /// Aborted with the value.
    _tasks: JoinSet<()>,
}

/// Opens the log of a name in a database, and makes its tables if they are missing.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    let settings = Settings::parse(dsn)?;
    let shown = format!("the log \"{}\" at {dsn}", settings.name);
    let (hub, links) = (options.hub.clone(), READERS + OTHERS);
    let core = Arc::new(Core::new(&settings, shown, hub, &options.retention, links));
    let document_table = Tables::documents(&settings.name);
    let connector = Arc::new(Connector::new(settings));
    // By hand, so that an error is returned. Links would try again.
    let (_, _, greeting) = connector.connect(false).await?;
    for warning in greeting.warnings {
        tracing::warn!("{}: {warning}", core.shown());
    }
    let mut tasks = JoinSet::new();
    let mut link = |listens| {
        let (link, task) = Link::new(Arc::clone(&core), Arc::clone(&connector), listens);
        tasks.spawn(task);
        link
    };
    let (appends, others, followers) = (link(false), link(false), link(true));
    let readers = std::array::from_fn(|_| Log { core: Arc::clone(&core), link: link(false) });
    let deadline = Instant::now() + core.timeout;
    for link in [&appends, &others, &followers].into_iter().chain(readers.iter().map(|log| &log.link)) {
        let connected = link.session(deadline).await;
        connected.map_err(|_| Failure::new(format!("the server does not take {links} connections")))?;
    }
    let batches = Batches { core: Arc::clone(&core), link: appends };
    let (writer, task) = Writer::new(batches, BOUNDS, core.timeout);
    tasks.spawn(task);
    tasks.spawn(chores::trim(Arc::clone(&core), others.clone()));
    tasks.spawn(chores::probe_room(Arc::clone(&core), others.clone()));
    let documents = SharedDocuments { link: others.clone(), table: document_table };
    let registry = Subscribers { core: Arc::clone(&core), link: others };
    let reader = AtomicUsize::new(0);
    Ok(Arc::new(PostgresTransport {
        core,
        writer,
        readers,
        reader,
        followers,
        registry,
        documents,
        _tasks: tasks,
    }))
}

/// Logs in to the database. Changes nothing.
pub(crate) async fn probe(dsn: &Dsn) -> Result<(), OpenError> {
    let (_client, _wire) = Settings::parse(dsn)?.connect().await?;
    Ok(())
}

impl PostgresTransport {
    fn log(&self) -> &Log {
        &self.readers[self.reader.fetch_add(1, Ordering::Relaxed) % READERS]
    }
}

#[async_trait]
impl Transport for PostgresTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        self.log().head().await
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.core.pace.turn(self.core.pace.newest(), self.core.timeout).await?;
        self.writer.append(&update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.log().locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.log().read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let log = Log { core: Arc::clone(&self.core), link: self.followers.clone() };
        Ok(Box::new(PostgresFollower::start(log, after).await?))
    }

    async fn extent(&self) -> Result<Extent, TransportError> {
        self.log().extent().await
    }

    fn batches(&self) -> Option<Distribution> {
        Some(self.writer.batches())
    }

    fn is_ready(&self) -> bool {
        self.core.health.is_available() && self.core.capacity.has_room()
    }

    fn is_readable(&self) -> bool {
        self.core.health.is_available()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }

    fn documents(&self) -> Option<Arc<dyn Documents>> {
        Some(Arc::new(self.documents.clone()))
    }
}
