//! The log in Redis or Valkey: two streams of one order, which several nodes share.
//!
//! Everything that changes the log or looks at it is a script, which the server runs alone: an entry, its place in the
//! index, the trimming that it causes and the records that it announces are there together or not at all. Sequence,
//! index and streams live and die together. If only a part is left, after an eviction, the log begins again. If a new
//! primary lacks entries that this node has seen, the rest goes on under another epoch.
//!
//! This transport adds no durability to that of Redis: an update that was acknowledged is as durable as the server's
//! append-only file and its replicas are set up to be.

mod documents;
mod endpoint;
mod failure;
mod follower;
mod link;
mod log;
mod registry;
mod script;
mod server;
mod settings;
mod writer;

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    documents::Documents,
    metrics::Distribution,
    registry::Registry,
    transport::{Extent, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::Update;
use tokio::time;

use self::{
    documents::SharedDocuments,
    endpoint::Endpoint,
    failure::Failure,
    follower::RedisFollower,
    link::Link,
    log::Log,
    registry::Subscribers,
    script::{HEAD, NONE, Scripts, TRIM},
    settings::Settings,
    writer::{BOUNDS, Batches, Kept},
};
use crate::{
    Dsn, OpenError, Options,
    shared::{decoder::Decoder, pace::Pace, writer::Writer},
};

/// One node's end of the log.
struct RedisTransport {
    link: Arc<Link>,
    log: Arc<Log>,
    writer: Writer,
    registry: Subscribers,
    pace: Arc<Pace>,
}

/// Opens the log, and checks that the server and its user can do what it needs.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    let settings = Arc::new(Settings::parse(dsn)?);
    let at_open = |failure: Failure| failure.at_open(dsn);
    options.retention.has_only_entries(dsn)?;
    let kept = Arc::new(Kept::new(options.retention.entries_max));
    let scripts = Scripts::new(&settings);
    let endpoint = Arc::new(Endpoint::new(Arc::clone(&settings)));
    let mut connection = endpoint.connect().await.map_err(at_open)?;
    let check = time::timeout(settings.timeout, check(&mut connection, &scripts, dsn)).await;
    check.map_err(|_| at_open(Failure::Silence))??;
    let link = Link::open(settings, scripts, endpoint).await.map_err(at_open)?;
    let trimmed = async {
        // The bounds may have been higher. Each call trims a part, so that others are served in between.
        while link.call(&TRIM, kept.as_arguments()).await?.next_flag()? {}
        Ok(())
    };
    match trimmed.await {
        Err(failure) if Failure::is_full(&failure) => {}
        other => other.map_err(at_open)?,
    }
    let (pace, decoder) = (Arc::<Pace>::default(), Arc::new(Decoder::new("Redis", options.hub.clone())));
    let batches = Batches { link: Arc::clone(&link), kept: Arc::clone(&kept), pace: Arc::clone(&pace) };
    let (writer, task) = Writer::new(batches, BOUNDS, link.settings.timeout);
    tokio::spawn(task);
    Ok(Arc::new(RedisTransport {
        writer,
        log: Arc::new(Log { link: Arc::clone(&link), decoder: Arc::clone(&decoder) }),
        registry: Subscribers { link: Arc::clone(&link), kept, pace: Arc::clone(&pace), decoder },
        link,
        pace,
    }))
}

/// Connects, and looks at the settings of the server. Changes nothing.
pub(crate) async fn probe(dsn: &Dsn) -> Result<(), OpenError> {
    let settings = Arc::new(Settings::parse(dsn)?);
    let at_open = |failure: Failure| failure.at_open(dsn);
    let endpoint = Endpoint::new(Arc::clone(&settings));
    let mut connection = endpoint.connect().await.map_err(at_open)?;
    let check = time::timeout(settings.timeout, server::check(&mut connection)).await;
    check.map_err(|_| at_open(Failure::Silence))?
}

async fn check(
    connection: &mut ::redis::aio::MultiplexedConnection,
    scripts: &Scripts,
    dsn: &Dsn,
) -> Result<(), OpenError> {
    server::check(connection).await?;
    match scripts.probe(connection).await {
        // What is there can be read.
        Err(failure) if failure.is_full() => {
            tracing::warn!("Redis has no memory left: nothing can be published until it has");
            Ok(())
        }
        Err(Failure::Redis(error)) if error.detail().is_some_and(|text| text.contains("syntax error")) => {
            Err(OpenError::Refused(
                "this server does not trim streams by position: it takes Redis 6.2 or Valkey".to_owned(),
            ))
        }
        other => other.map_err(|failure| failure.at_open(dsn)),
    }
}

#[async_trait]
impl Transport for RedisTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        self.log.head().await
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.pace.turn(self.pace.newest(), self.link.settings.timeout).await?;
        self.writer.append(&update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.log.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.log.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let state = self.link.call(&HEAD, NONE).await?.state;
        // Before the beginning of any log is before the beginning of this one.
        let after = if after == Position::EARLIEST { state.at(0) } else { after };
        if after < state.trimmed.updates || after > state.position {
            return Err(TransportError::Trimmed);
        }
        let seat = self.pace.enter(after);
        Ok(Box::new(RedisFollower::start(Arc::clone(&self.log), after, &state, seat)))
    }

    async fn extent(&self) -> Result<Extent, TransportError> {
        self.log.extent().await
    }

    fn batches(&self) -> Option<Distribution> {
        Some(self.writer.batches())
    }

    fn is_ready(&self) -> bool {
        self.link.is_available() && self.link.capacity().has_room()
    }

    fn is_readable(&self) -> bool {
        self.link.is_available()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }

    fn documents(&self) -> Option<Arc<dyn Documents>> {
        Some(Arc::new(SharedDocuments { link: Arc::clone(&self.link) }))
    }
}
