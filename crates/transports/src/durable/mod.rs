//! The durable log: on a local disk, of one process.
//!
//! An append is answered when it is on disk, and neither read nor followed before. It is an SQLite database with a
//! write-ahead log: one thread commits whatever waits for it as one ([`writer`]); readers have connections of their own
//! ([`readers`]); what has just been committed reaches followers through memory ([`shared`]). Damage of the file is
//! reported and stepped over ([`damage`]). A disk that has failed gets no second chance, one that is full gets many.

mod book;
mod checkpoints;
mod chores;
mod damage;
mod directory;
mod follower;
mod leases;
mod link;
mod log;
mod readers;
mod records;
mod registry;
mod writer;

use std::{path::Path, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use petasos_hub::{
    TransportError,
    registry::Registry,
    transport::{Entry, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::{
    Limits,
    topic::HubUrl,
    update::{EventId, Update},
};
use rusqlite::{Connection, wal::CheckpointMode};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::AbortHandle,
};
use uuid::Uuid;

use self::{
    book::{Book, Oldest, Tally},
    checkpoints::{Checkpointer, checkpoint},
    chores::Chores,
    directory::Directory,
    follower::DurableFollower,
    leases::Leases,
    link::Fault,
    log::{Health, Published, Shared, index, now},
    readers::Readers,
    records::{Records, Span},
    writer::{Job, Pending, Writer},
};
use crate::{Dsn, OpenError, Options, Retention, codec};

/// A log on disk. Dropping it ends its followers, and its threads when they have done what was asked of them.
struct Durable {
    shared: Arc<Shared>,
    leases: Arc<Leases>,
    jobs: mpsc::Sender<Job>,
    /// Bytes that may wait for the writer.
    room: Arc<Semaphore>,
    ticker: AbortHandle,
    /// How long a publisher waits for its append to be on disk before it gets an error.
    timeout: Duration,
}

/// What may wait for the writer, beside what it is committing; more would only wait longer. Whoever comes then waits
/// outside.
const QUEUE_JOBS_MAX: usize = 4_096;
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The default of the parameter `timeout`: far above the time that a busy disk takes, and below the minute after which
/// proxies give up.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// How often the log is tidied when nobody publishes: updates that are too old leave the disk by then.
const TICK: Duration = Duration::from_secs(2);

/// Opens the log in a directory: `durable:///path?name=mercure&lease=30s&timeout=10s`.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    dsn.has_only(&["lease", "name", "timeout"])?;
    if !dsn.hosts().is_empty() || dsn.user().is_some() {
        return Err(OpenError::url(
            "a durable log has no host: write three slashes before an absolute path, as in durable:///var/lib/petasos",
        ));
    }
    let path =
        percent_decode_str(dsn.path()).decode_utf8().map_err(|_| OpenError::url("its path is not UTF-8"))?;
    if path.is_empty() || path == "/" {
        return Err(OpenError::url("it names no directory: write for example durable:///var/lib/petasos"));
    }
    let leases = Arc::new(Leases::new(dsn.lease()?));
    let timeout = timeout(dsn)?;
    let directory = Directory::lock(Path::new(&*path), dsn.name()?).await?;
    let (hub, retention) = (options.hub.clone(), options.retention.clone());
    let opening = {
        let leases = Arc::clone(&leases);
        tokio::task::spawn_blocking(move || prepare(directory, hub, retention, leases))
    };
    let writer = opening.await.map_err(TransportError::unavailable)??;
    let shared = Arc::clone(&writer.shared);
    let (jobs, received) = mpsc::channel(QUEUE_JOBS_MAX);
    thread::Builder::new()
        .name("petasos-log".to_owned())
        .spawn(move || writer.run(received))
        .map_err(TransportError::unavailable)?;
    let ticker = tokio::spawn(tick(jobs.clone())).abort_handle();
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX));
    Ok(Arc::new(Durable { shared, leases, jobs, room, ticker, timeout }))
}

fn timeout(dsn: &Dsn) -> Result<Duration, OpenError> {
    let Some(text) = dsn.parameter("timeout") else { return Ok(TIMEOUT) };
    let timeout = humantime::parse_duration(text).ok();
    let timeout = timeout.filter(|timeout| (TIMEOUT_MIN..=TIMEOUT_MAX).contains(timeout));
    timeout.ok_or_else(|| OpenError::url("timeout: write a time from 1s to 1m, such as 10s"))
}

/// Everything that blocks before the log can be used.
fn prepare(
    directory: Directory,
    hub: HubUrl,
    retention: Retention,
    leases: Arc<Leases>,
) -> Result<Writer, OpenError> {
    let path = directory.database();
    let shown = path.display();
    let connection = link::open(&path)?;
    let refused = |fault: Fault| {
        let text = fault.reason();
        OpenError::Refused(format!(
            "the log \"{shown}\" cannot be read: {text}: restore a copy, or move the file and its \"-wal\" away to begin \
             a new log"
        ))
    };
    let mut book = match Book::load(&connection).map_err(|error| refused(error.into()))? {
        Some(book) => book,
        None => begin(&connection, &directory).map_err(refused)?,
    };
    // Also what a process that died could not synchronize any more is written once more, and synchronized.
    match checkpoint(&connection, CheckpointMode::TRUNCATE) {
        Ok(_) => {}
        Err(Fault::Full(_)) => tracing::warn!(log = %shown, "the disk of the log is full"),
        Err(fault) => return Err(refused(fault)),
    }
    // Without room for either the log works for now.
    let _ = directory.extend_log().and_then(|()| directory.load_ballast());
    let files = directory.files().map_err(|error| refused(Fault::Fatal(error.to_string().into())))?;
    let records =
        Arc::new(Records { epoch: book.epoch, key: book.key, hub, damage: damage::Damage::default() });
    let mut oldest = Oldest::both(&retention, &book);
    let stored = book.trimmed();
    let head = book.head;
    for (origin, oldest) in records::ORIGINS.into_iter().zip(&mut oldest) {
        let trimmed = oldest.trim(&connection, &records.damage, book.tally(origin), (head, now()));
        trimmed.map_err(|error| refused(error.into()))?;
    }
    let expires =
        oldest[0].expires(&connection, &records.damage, head).map_err(|error| refused(error.into()))?;
    let limits = Limits { id_bytes_max: usize::MAX, ..Limits::default() };
    let head_id = book.head_id.as_deref().and_then(|id| EventId::parse(id, &limits).ok());
    let published = Published::new(&book, stored, head_id, expires);
    let shared = Arc::new(Shared::new(Readers::new(path.clone()), records, published));
    let checkpointer = Checkpointer::start(&path).map_err(refused)?;
    let chores = Chores::new(&connection);
    Ok(Writer {
        connection,
        shared,
        leases,
        directory,
        files,
        retention,
        book,
        oldest,
        checkpointer,
        chores,
        is_starved: false,
    })
}

/// The book of a new log.
fn begin(connection: &Connection, directory: &Directory) -> Result<Book, Fault> {
    let (tally, key) = (Tally::default(), Uuid::new_v4().as_u64_pair());
    let book = Book {
        epoch: now().max(1) as u64,
        key,
        head: 0,
        head_id: None,
        updates: tally.clone(),
        events: tally,
    };
    book.store(connection)?;
    directory.sync().map_err(|error| Fault::Fatal(error.to_string().into()))?;
    Ok(book)
}

async fn tick(jobs: mpsc::Sender<Job>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first one is at once.
    interval.tick().await;
    loop {
        interval.tick().await;
        // A full queue needs no reminder.
        if let Err(mpsc::error::TrySendError::Closed(_)) = jobs.try_send(Job::Tick) {
            return;
        }
    }
}

impl Durable {
    /// Has the writer do something that takes that many bytes, and waits until it is done.
    async fn ask<T>(
        &self,
        bytes: usize,
        job: impl FnOnce(OwnedSemaphorePermit, oneshot::Sender<Result<T, TransportError>>) -> Job,
    ) -> Result<T, TransportError> {
        let ended = || match self.shared.takes_appends() {
            Ok(()) => TransportError::Closed,
            Err(error) => error,
        };
        let answer = async {
            let bytes = u32::try_from(bytes.clamp(1, QUEUE_BYTES_MAX)).expect("the bound is far below");
            let room = Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| ended())?;
            let (reply, answer) = oneshot::channel();
            self.jobs.send(job(room, reply)).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        let limit = self.timeout;
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            self.shared.set_health(Health::Stalled);
            Err(TransportError::unavailable(format!("the disk did not confirm it within {limit:?}")))
        })
    }

    /// Lets go of updates that are too old, if there are any.
    async fn expire_updates(&self) {
        if self.shared.lock().expires.is_none_or(|expires| now() < expires) {
            return;
        }
        let (reply, answer) = oneshot::channel();
        let expired = async {
            if self.jobs.send(Job::Expire { reply }).await.is_ok() {
                // The writer may have ended.
                let _ = answer.await;
            }
        };
        // Whoever reads is better served late than not at all.
        let _ = tokio::time::timeout(self.timeout, expired).await;
    }
}

#[async_trait]
impl Transport for Durable {
    async fn head(&self) -> Result<Head, TransportError> {
        Ok(self.shared.head())
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        self.shared.takes_appends()?;
        let head = self.shared.lock().head;
        let room = self.shared.window.room(self.shared.records.position(head));
        if tokio::time::timeout(self.timeout, room).await.is_err() {
            return Err(TransportError::unavailable("what was published before cannot be delivered in time"));
        }
        let record = codec::encode(&update);
        let bytes = record.len();
        let update = Pending { update: Arc::new(update), record };
        let sequence = self.ask(bytes, |room, reply| Job::Append { update, room, reply }).await?;
        Ok(self.shared.records.position(sequence))
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.expire_updates().await;
        let (trimmed, buckets) = {
            let published = self.shared.lock();
            (published.trimmed, published.buckets)
        };
        let (records, id) = (Arc::clone(&self.shared.records), id.to_owned());
        let read = move |connection: &Connection| records.locate(connection, &id, trimmed, buckets);
        let found = self.shared.readers.run(read).await?;
        Ok(found.map(|sequence| self.shared.records.position(sequence)))
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.expire_updates().await;
        self.shared.is_open()?;
        let after = self.shared.records.sequence(after);
        let is_kept = |entry: &Entry, trimmed: &[u64; 2]| {
            entry.position.sequence > trimmed[index(entry.update.origin())]
        };
        let (head, trimmed, recent) = {
            let published = self.shared.lock();
            let trimmed = published.trimmed;
            let recent = published.recent(after, limit, |entry| is_kept(entry, &trimmed));
            (published.head, trimmed, recent)
        };
        let found = match recent {
            Some(found) => found,
            None => {
                let after = trimmed.map(|trimmed| trimmed.max(after));
                let dense_after = after[0].max(after[1]);
                let span = Span { after, dense_after, through: head, entries: limit };
                self.shared.read_rows(span).await?
            }
        };
        // What has been trimmed meanwhile may be missing, so it is left out and said to be.
        let trimmed = self.shared.trimmed();
        let bounds = [trimmed.updates.sequence, trimmed.events.sequence];
        let through = self.shared.records.position(found.through.max(after));
        let entries = found.entries.into_iter().filter(|entry| is_kept(entry, &bounds)).collect();
        Ok(Page { entries, through, at_end: found.through >= head, trimmed })
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.expire_updates().await;
        self.shared.is_open()?;
        let (sequence, seat) = self.shared.enter(after)?;
        Ok(Box::new(DurableFollower { shared: Arc::clone(&self.shared), seat, sequence }))
    }

    fn is_ready(&self) -> bool {
        self.shared.is_ready()
    }

    fn is_readable(&self) -> bool {
        self.shared.is_open().is_ok()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.ticker.abort();
        self.shared.close();
    }
}
