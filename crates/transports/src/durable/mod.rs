//! The durable log: on a local disk, of one process.
//!
//! An append is answered when it is on disk, and neither read nor followed before. It is an SQLite database with a
//! write-ahead log: one thread commits whatever waits for it as one ([`writer`]); readers have connections of their own
//! ([`readers`]); what has just been committed reaches followers through memory ([`log`]). Damage of the file is
//! reported and stepped over ([`damage`]). After an error of the disk nothing
//! is written any more; a full disk is tried again.

mod book;
mod checkpoints;
mod chores;
mod damage;
pub(crate) mod directory;
mod failure;
mod follower;
mod jobs;
mod leases;
mod link;
mod log;
mod readers;
mod records;
mod registry;
pub(crate) mod settings;
mod subscribers;
mod writer;

use std::{fmt::Display, path::Path, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    metrics::Distribution,
    registry::Registry,
    transport::{Extent, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::{topic::HubUrl, update::Update};
use rusqlite::{Connection, wal::CheckpointMode};
use tokio::{sync::mpsc, task::AbortHandle};
use uuid::Uuid;

use self::{
    book::{Book, Oldest, Tally},
    checkpoints::{Checkpointer, checkpoint},
    chores::Chores,
    directory::Directory,
    failure::Failure,
    follower::DurableFollower,
    jobs::{Encoded, JOBS_MAX, Job, Jobs},
    leases::Leases,
    link::open_for_checkpoints,
    log::{Log, Published, now},
    readers::Readers,
    records::Records,
    registry::Subscribers,
    settings::{Settings, Users},
    writer::Writer,
};
use crate::{Dsn, OpenError, Options, Retention, blocking::blocking, codec::decode_id, forks};

/// A log on disk. Dropping it ends its followers, and its threads when they have done what was asked of them.
pub(crate) struct DurableTransport {
    log: Arc<Log>,
    jobs: Arc<Jobs>,
    registry: Subscribers,
    ticker: AbortHandle,
}

/// How often the log is tidied when nobody publishes: updates that are too old leave the disk by then.
const TICK: Duration = Duration::from_secs(2);

/// Checks a URL.
pub(crate) fn check(dsn: &Dsn) -> Result<(), OpenError> {
    Settings::parse(dsn).map(drop)
}

/// Opens the log in a directory.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    let Settings { directory, name, lease, timeout } = Settings::parse(dsn)?;
    let (directory, _turn) = Directory::lock(&directory, &name).await?;
    Ok(Arc::new(open_locked(directory, Users::Process, (lease, timeout), options).await?))
}

/// Opens the log in a directory that is locked. `lease` is that of a node; an append gets an error after `timeout`.
pub(crate) async fn open_locked(
    directory: Directory,
    users: Users,
    (lease, timeout): (Duration, Duration),
    options: &Options,
) -> Result<DurableTransport, OpenError> {
    let leases = Arc::new(Leases::new(lease));
    let (hub, retention) = (options.hub.clone(), options.retention.clone());
    let opening = {
        let leases = Arc::clone(&leases);
        blocking(move || {
            let _work = forks::work();
            prepare(directory, users, hub, retention, leases)
        })
    };
    let writer = opening.await.map_err(OpenError::Resources)??;
    let log = Arc::clone(&writer.log);
    let (queue, received) = mpsc::channel(JOBS_MAX);
    thread::Builder::new()
        .name("petasos-log".to_owned())
        .spawn(move || writer.run(received))
        .map_err(OpenError::Resources)?;
    let ticker = tokio::spawn(tick(queue.clone())).abort_handle();
    let jobs = Arc::new(Jobs::new(Arc::clone(&log), queue, timeout));
    let registry = Subscribers { log: Arc::clone(&log), leases, jobs: Arc::clone(&jobs) };
    Ok(DurableTransport { log, jobs, registry, ticker })
}

/// Everything that blocks before the log can be used.
fn prepare(
    directory: Directory,
    users: Users,
    hub: HubUrl,
    retention: Retention,
    leases: Arc<Leases>,
) -> Result<Writer, OpenError> {
    let path = directory.database();
    let shown = path.display();
    if !directory.is_complete() {
        // Makes what is not there, so that what is opened below is there before.
        drop(link::open(&path, users)?);
    }
    let files = directory.files().map_err(|error| gone(&path, &error))?;
    let connection = link::open(&path, users)?;
    let refused = |fault: Failure| match &fault {
        Failure::Full(_) | Failure::Passing(_) => TransportError::from(&fault).into(),
        Failure::Damaged(text) | Failure::Index(text) | Failure::Fatal(text) => OpenError::Refused(format!(
            "the log \"{shown}\" cannot be read: {text}: restore a copy, or move the file and its \"-wal\" away to begin \
             a new log"
        )),
    };
    let mut book = match Book::load(&connection).map_err(|error| refused(error.into()))? {
        Some(book) => book,
        None => begin(&connection, &directory).map_err(refused)?,
    };
    // Also what a process that died could not synchronize any more is written once more, and synchronized.
    match checkpoint(&connection, CheckpointMode::TRUNCATE) {
        Ok(_) => {}
        Err(Failure::Full(_)) => tracing::warn!(log = %shown, "the disk of the log is full"),
        Err(fault) => return Err(refused(fault)),
    }
    // Without room for either the log works for now.
    let _ = directory.extend_log(&files).and_then(|()| directory.load_ballast());
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
    let oldest_at =
        oldest[0].at(&connection, &records.damage, head).map_err(|error| refused(error.into()))?;
    let head_id = book.head_id.as_deref().and_then(decode_id);
    let first = records::ORIGINS.map(|origin| records::first(&connection, origin));
    let deleted =
        [0, 1].map(|origin| first[origin].map_or(stored[origin], |first| stored[origin].min(first - 1)));
    let published = Published::new(&book, (stored, deleted), head_id, (expires, oldest_at));
    let readers = Readers::open(&path).map_err(|error| refused(error.into()))?;
    let checkpoints = open_for_checkpoints(&path, users).map_err(|error| refused(error.into()))?;
    // From here on nothing is opened by its name.
    if let Some(what) = directory.missing_now(&files) {
        return Err(gone(&path, &format!("the {what} is not the one that was opened")));
    }
    let shown = format!("the log \"{}\"", path.display());
    let log = Arc::new(Log::new(&shown, readers, records, published, users));
    let checkpointer = Checkpointer::start(checkpoints).map_err(OpenError::Resources)?;
    if users == Users::Host {
        // Damage is reported when the list is read.
        for node in subscribers::nodes(&connection).unwrap_or_default() {
            leases.adopt(node);
        }
    }
    let chores = Chores::new(&connection);
    Ok(Writer {
        connection,
        log,
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

/// The error for a log whose files were taken away while it was opened.
fn gone(path: &Path, reason: &dyn Display) -> OpenError {
    OpenError::Refused(format!(
        "files of the log \"{}\" were removed, moved or replaced while it was opened: {reason}: start the hub again",
        path.display()
    ))
}

/// The book of a new log.
fn begin(connection: &Connection, directory: &Directory) -> Result<Book, Failure> {
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
    directory.sync().map_err(|error| Failure::Fatal(error.to_string().into()))?;
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

#[async_trait]
impl Transport for DurableTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        Ok(self.log.head())
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        let sequence = self.jobs.append(|| Encoded::new(update)).await?;
        Ok(self.log.records.position(sequence))
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        self.jobs.trim_old().await;
        self.log.locate(id).await
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        self.jobs.trim_old().await;
        self.log.read(after, limit).await
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.jobs.trim_old().await;
        self.log.is_open()?;
        let (sequence, seat) = self.log.enter(after)?;
        let forgiven = self.log.lock().deleted[1];
        Ok(Box::new(DurableFollower { log: Arc::clone(&self.log), seat, sequence, forgiven }))
    }

    async fn extent(&self) -> Result<Extent, TransportError> {
        Ok(self.log.lock().extent)
    }

    fn batches(&self) -> Option<Distribution> {
        Some(self.log.batches.snapshot())
    }

    fn is_ready(&self) -> bool {
        self.log.is_ready()
    }

    fn is_readable(&self) -> bool {
        self.log.is_open().is_ok()
    }

    fn needs_restart(&self) -> bool {
        self.log.needs_restart()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }
}

#[cfg(feature = "host")]
impl DurableTransport {
    /// Goes on following after a position, up to which somebody has followed before, perhaps in another process's log.
    ///
    /// # Errors
    /// [`TransportError::Trimmed`] if rows behind it are gone.
    pub(crate) fn resume(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.log.is_open()?;
        let (sequence, seat) = self.log.enter_again(after)?;
        Ok(Box::new(DurableFollower { log: Arc::clone(&self.log), seat, sequence, forgiven: sequence }))
    }

    /// Appends an update of which the record is known.
    ///
    /// # Errors
    /// As [`Transport::append`].
    pub(crate) async fn append_record(
        &self,
        update: Update,
        record: Vec<u8>,
    ) -> Result<Position, TransportError> {
        let sequence = self.jobs.append(|| Encoded { update: Arc::new(update), record }).await?;
        Ok(self.log.records.position(sequence))
    }

    /// Waits until the log takes nothing any more.
    pub(crate) async fn until_failed(&self) {
        self.log.until_failed().await;
    }

    /// Whether an append has a chance.
    pub(crate) fn takes_appends(&self) -> bool {
        self.log.takes_appends().is_ok()
    }

    /// The position of the newest entry.
    pub(crate) fn end(&self) -> Position {
        self.log.end()
    }
}

impl Drop for DurableTransport {
    fn drop(&mut self) {
        self.ticker.abort();
        self.log.close();
    }
}
