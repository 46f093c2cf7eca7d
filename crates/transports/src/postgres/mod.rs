//! The log in PostgreSQL, which several nodes share.
//!
//! A commit is the order: whoever appends holds the one row of the meta table from taking a sequence to the commit, so
//! whoever sees an entry sees all before it. A process writes whatever waits as one statement. Nothing is read from
//! stand-by servers, and nothing is promised beyond what the server's settings make of a commit.

mod chores;
mod core;
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
    registry::Registry,
    transport::{Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::Update;
use tokio::task::JoinSet;

use self::{
    core::Core, failure::Failure, follower::PostgresFollower, link::Lane, log::Log,
    registry::PostgresRegistry, schema::Tables, settings::Address, writer::Writer,
};
use crate::{Dsn, OpenError, Options};

/// Connections that read: one waits while the other does.
const READERS: usize = 2;

/// Those of the writer, of the registry and the trimmer, and of the followers.
const OTHERS: usize = 3;

struct PostgresTransport {
    core: Arc<Core>,
    writer: Writer,
    readers: [Log; READERS],
    reader: AtomicUsize,
    followers: Lane,
    registry: PostgresRegistry,
    /// Ended with the value.
    _tasks: JoinSet<()>,
}

/// Opens the log of a name in a database, and makes its tables if they are missing.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    let address = Address::parse(dsn)?;
    let (name, lease) = (dsn.name()?, dsn.lease()?);
    let parts = (address, Tables::new(name), format!("the log \"{name}\" at {dsn}"));
    let core = Core::new(parts, options.hub.clone(), &options.retention, lease, READERS + OTHERS);
    let core = Arc::new(core);
    // By hand, so that whoever opens it is told what is wrong.
    let (_, _, greeting) = core.connect(false).await?;
    for warning in greeting.warnings {
        tracing::warn!("{}: {warning}", core.shown());
    }
    let mut tasks = JoinSet::new();
    let mut lane = |listens| {
        let (lane, task) = Lane::new(Arc::clone(&core), listens);
        tasks.spawn(task);
        lane
    };
    let (appends, others, followers) = (lane(false), lane(false), lane(true));
    let readers = std::array::from_fn(|_| Log { core: Arc::clone(&core), lane: lane(false) });
    let (writer, task) = Writer::new(Arc::clone(&core), appends);
    tasks.spawn(task);
    tasks.spawn(chores::trim(Arc::clone(&core), others.clone()));
    tasks.spawn(writer::look_for_room(Arc::clone(&core), others.clone()));
    let is_ready = tokio::time::timeout(core.timeout, core.until_ready()).await;
    is_ready
        .map_err(|_| Failure::new(format!("the server does not take {} connections", READERS + OTHERS)))?;
    let registry = PostgresRegistry { core: Arc::clone(&core), lane: others };
    let reader = AtomicUsize::new(0);
    Ok(Arc::new(PostgresTransport { core, writer, readers, reader, followers, registry, _tasks: tasks }))
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
        self.writer.append(update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.log().locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.log().read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let log = Log { core: Arc::clone(&self.core), lane: self.followers.clone() };
        Ok(Box::new(PostgresFollower::new(log, after).await?))
    }

    fn is_ready(&self) -> bool {
        self.core.is_ready() && self.core.capacity.has_room()
    }

    fn is_readable(&self) -> bool {
        self.core.is_ready()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }
}
