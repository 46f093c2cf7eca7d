//! The log in Redis or Valkey: two streams of one order, which several nodes share.
//!
//! Everything that changes the log or looks at it is a script, which the server runs alone: an entry, its place in the
//! index, the trimming that it causes and the records that it tells of are there together or not at all. Sequence,
//! index and streams live and die together. Where only a part is left, after an eviction, the log begins anew; where a
//! server took over that lacks entries which this node has seen, what is left goes on under another epoch.
//!
//! It does not make Redis keep more than Redis keeps: an update that was acknowledged is as durable as the server's
//! append-only file and its replicas are set up to be.

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

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::Registry,
    transport::{Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::Update;
use tokio::time::{self, Instant};

use self::{
    endpoint::Endpoint,
    failure::Failure,
    follower::RedisFollower,
    link::Link,
    log::Reader,
    script::{HEAD, LOCATE, Log, NONE, READ, TRIM},
    settings::Settings,
    writer::{Bounds, Writer},
};
use crate::{Dsn, OpenError, Options, codec::Damaged, shared::pace::Window, shared::reported::Reported};

/// One node's end of the log.
struct RedisTransport {
    link: Arc<Link>,
    writer: Writer,
    reader: Arc<Reader>,
    bounds: Arc<Bounds>,
    window: Arc<Window>,
    /// The newest entry that this node has appended.
    newest: Mutex<Position>,
    /// Subscribers with damaged records.
    damaged: Reported<Box<str>>,
}

/// The bytes of one page or batch, so that whoever holds one pins little.
const PAGE_BYTES: usize = 256 * 1024;

/// Opens the log, and checks that the server and its user can do what it needs.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    let settings = Arc::new(Settings::parse(dsn)?);
    let at_open = |failure: Failure| failure.at_open(dsn);
    options.retention.has_only_entries(dsn)?;
    let bounds = Arc::new(Bounds::new(options.retention.entries_max));
    let log = Log::new(&settings);
    let endpoint = Arc::new(Endpoint::new(Arc::clone(&settings)));
    let mut connection = endpoint.connect().await.map_err(at_open)?;
    let check = time::timeout(settings.timeout, check(&mut connection, &log, dsn)).await;
    check.map_err(|_| at_open(Failure::Silence))??;
    let link = Link::open(settings, log, endpoint).await.map_err(at_open)?;
    let trimmed = async {
        // Bounds may have been higher. Each call lets go of a part, so that others are served in between.
        while link.call(&TRIM, bounds.as_arguments()).await?.next_flag()? {}
        Ok(())
    };
    match trimmed.await {
        Err(failure) if Failure::is_full(&failure) => {}
        other => other.map_err(at_open)?,
    }
    Ok(Arc::new(RedisTransport {
        writer: Writer::start(Arc::clone(&link), Arc::clone(&bounds)),
        link,
        reader: Reader::new(options.hub.clone()),
        bounds,
        window: Arc::default(),
        newest: Mutex::new(Position::EARLIEST),
        damaged: Reported::default(),
    }))
}

async fn check(
    connection: &mut ::redis::aio::MultiplexedConnection,
    log: &Log,
    dsn: &Dsn,
) -> Result<(), OpenError> {
    server::check(connection).await?;
    match log.probe(connection).await {
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
        Ok(self.link.call(&HEAD, NONE).await?.state.head())
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.room().await?;
        let position = self.writer.append(&update, self.deadline()).await?;
        self.appended(position);
        Ok(position)
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let mut answer = self.link.call(&LOCATE, id).await?;
        let sequence = answer.next_number()?;
        Ok(sequence.map(|sequence| answer.state.at(sequence)))
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let mut from = after;
        loop {
            let arguments = (from.epoch, from.sequence, limit, PAGE_BYTES, "history");
            let answer = self.link.call(&READ, arguments).await?;
            let found = self.reader.found(answer, from, limit)?;
            // A page of nothing but damaged records is not the end.
            if found.entries.is_empty() && !found.at_end && limit > 0 {
                from = found.through;
                continue;
            }
            let (entries, through, at_end) = (found.entries, found.through, found.at_end);
            return Ok(Page { entries, through, at_end, trimmed: found.state.trimmed });
        }
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let state = self.link.call(&HEAD, NONE).await?.state;
        // Before the beginning of any log is before the beginning of this one.
        let after = if after == Position::EARLIEST { state.at(0) } else { after };
        if after < state.trimmed.updates || after > state.position {
            return Err(TransportError::Trimmed);
        }
        let (link, reader, seat) = (&self.link, &self.reader, self.window.enter(after));
        Ok(Box::new(RedisFollower::start(Arc::clone(link), Arc::clone(reader), after, &state, seat)))
    }

    fn is_ready(&self) -> bool {
        self.link.is_ready() && self.link.capacity().has_room()
    }

    fn is_readable(&self) -> bool {
        self.link.is_ready()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

impl RedisTransport {
    fn deadline(&self) -> Instant {
        Instant::now() + self.link.settings.timeout
    }

    /// Waits until no follower of this node is too far behind. While the server is away none of them can come nearer.
    async fn room(&self) -> Result<(), TransportError> {
        loop {
            let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            let room = time::timeout_at(self.deadline(), self.window.room(newest)).await;
            match room {
                Ok(()) => return Ok(()),
                Err(_) if self.link.is_ready() => {}
                Err(_) => return Err(Failure::Silence.into()),
            }
        }
    }

    fn appended(&self, position: Position) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = position.max(*newest);
    }

    fn report_subscriber(&self, subscriber: &str, damage: Damaged) {
        if self.damaged.is_news(subscriber.into()) {
            tracing::error!(
                subscriber,
                reason = %damage,
                "the record of a subscriber in Redis cannot be read: it is left out"
            );
        }
    }
}
