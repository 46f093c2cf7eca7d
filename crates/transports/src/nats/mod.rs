//! The log as a stream in NATS JetStream, shared by all nodes.
//!
//! An entry is a message of one stream, its place the stream's sequence, and the epoch the time at which the stream was
//! made. The server keeps the newest messages of each origin by itself, some more than readers see; which those are,
//! and where an id stands, each node knows from an index that it builds from the headers of the stream. Before a node
//! answers from its index it asks the server where the log ends, so that nothing is missing that any node has appended.
//!
//! An append is acknowledged when the server has stored it, or a majority of replicas have. A server alone writes to
//! its disk at once and lets the system decide when that reaches the medium, at the latest after `sync_interval`.

mod api;
mod census;
mod consumer;
mod follower;
mod health;
mod index;
mod link;
mod log;
mod record;
mod registry;
mod settings;
mod streams;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use petasos_hub::{
    TransportError,
    registry::Registry,
    transport::{Entry, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::{
    Limits,
    update::{EventId, Update},
};

use self::{
    follower::LogFollower,
    link::Link,
    log::{Log, Tasks},
    registry::Subscribers,
    settings::Settings,
};
use crate::{Dsn, OpenError, Options};

pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    options.retention.has_only_entries(dsn)?;
    let link = Link::open(Settings::new(dsn)?).await?;
    let (log, tasks) = Log::open(link, options.hub.clone(), options.retention.entries_max).await?;
    let registry = Subscribers::new(Arc::clone(&log));
    Ok(Arc::new(NatsTransport { log, registry, _tasks: tasks }))
}

/// A log in JetStream. See the module.
struct NatsTransport {
    log: Arc<Log>,
    registry: Subscribers,
    _tasks: Tasks,
}

/// The bytes of one page, so that whoever holds one pins little.
const PAGE_BYTES: usize = 256 * 1024;

/// Messages of a page that are asked for at once: enough to hide the way to the server.
const PAGE_REQUESTS: usize = 32;

#[async_trait]
impl Transport for NatsTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        let (position, id) = self.log.ask(|index| (index.head(), index.head_id.clone())).await?;
        // What stands in the log has been checked by whoever put it there, perhaps under other limits.
        let limits = Limits { id_bytes_max: usize::MAX, ..Limits::default() };
        let id = id.and_then(|id| EventId::parse(&id, &limits).ok());
        Ok(Head { position, id })
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.log.append(&update).await
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let (epoch, places) = self.log.ask(|index| (index.epoch, index.places(id))).await?;
        for sequence in places {
            let position = Position { epoch, sequence };
            match self.update(position).await? {
                Found::Update(update) if update.id().as_str() == id => return Ok(Some(position)),
                _ => {}
            }
        }
        Ok(None)
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let mut after = after;
        loop {
            let (sequences, head, trimmed) = self
                .log
                .ask(|index| {
                    let head = index.head();
                    let after = if after.epoch == head.epoch { after.sequence } else { 0 };
                    (index.after(after, limit), head, index.trimmed())
                })
                .await?;
            let epoch = head.epoch;
            let Some(last) = sequences.last().copied() else {
                let through = if after.epoch == epoch { head.max(after) } else { head };
                return Ok(Page { entries: Vec::new(), through, at_end: true, trimmed });
            };
            let is_last = sequences.len() < limit || last == head.sequence;
            let (entries, reached) = match self.page(epoch, sequences).await? {
                Some(page) => page,
                None => continue,
            };
            after = Position { epoch, sequence: reached };
            // Of a stretch in which nothing can be read, the next one is the answer.
            if entries.is_empty() {
                continue;
            }
            let at_end = is_last && reached == last;
            return Ok(Page { entries, through: if at_end { head } else { after }, at_end, trimmed });
        }
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        let (trimmed, head) = self.log.ask(|index| (index.trimmed().updates, index.head())).await?;
        // What lies behind the end was of an end that the server has lost.
        if after < trimmed || after > head {
            return Err(TransportError::Trimmed);
        }
        Ok(Box::new(LogFollower::new(Arc::clone(&self.log), after)))
    }

    fn is_ready(&self) -> bool {
        self.log.link.health.is_ready() && self.log.capacity.has_room()
    }

    fn is_readable(&self) -> bool {
        self.log.link.health.is_ready()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }
}

impl NatsTransport {
    /// The messages with those sequences, in order, as far as the bytes of a page go; and up to where that is. `None`:
    /// somebody has removed one, which the index knows now.
    async fn page(
        &self,
        epoch: u64,
        sequences: Vec<u64>,
    ) -> Result<Option<(Vec<Entry>, u64)>, TransportError> {
        let mut entries = Vec::new();
        let (mut bytes, mut through) = (0, 0);
        let updates = sequences.into_iter().map(|sequence| async move {
            let position = Position { epoch, sequence };
            (position, self.update(position).await)
        });
        let mut updates = std::pin::pin!(stream::iter(updates).buffered(PAGE_REQUESTS));
        while bytes < PAGE_BYTES {
            let Some((position, update)) = updates.next().await else { break };
            through = position.sequence;
            match update? {
                Found::Update(update) => {
                    bytes += update.size();
                    entries.push(Entry { position, update: Arc::new(update) });
                }
                Found::Damaged => {}
                Found::Removed => return Ok(None),
            }
        }
        Ok(Some((entries, through)))
    }

    async fn update(&self, position: Position) -> Result<Found, TransportError> {
        let record = self.log.link.get(&self.log.streams.log, position.sequence).await?;
        match record {
            Some(record) => Ok(self.log.decode(position, &record).map_or(Found::Damaged, Found::Update)),
            None => {
                let (stream, sequence) = (&self.log.streams.log, position.sequence);
                tracing::warn!(
                    stream,
                    sequence,
                    "somebody has removed a message: what is older counts as trimmed"
                );
                self.log.index().removed(sequence);
                Ok(Found::Removed)
            }
        }
    }
}

/// What stands at a place of the index.
enum Found {
    Update(Update),
    /// Reported already.
    Damaged,
    Removed,
}
