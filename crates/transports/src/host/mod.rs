//! The log that the processes of one host share, without a server: one of them leads.
//!
//! The process that holds the lock of the directory has a log of [`crate::durable`] open, which is not synchronized with the
//! disk and often lies in memory, and serves the others over a Unix socket. When it ends, however that is, another one
//! takes the lock and opens the same file: an update that was acknowledged is in it. An append that had no answer is looked
//! for in the log before it is sent again, so that none is there twice.

mod access;
mod election;
mod follower;
#[cfg(all(any(test, fuzzing), feature = "redis"))]
pub(crate) mod fuzzing;
mod leader;
mod link;
mod member;
mod message;
mod registry;
mod settings;
mod visits;

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    metrics::Distribution,
    registry::Registry,
    transport::{Extent, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::update::{Origin, Update};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use self::{
    access::{Access, CHANGE_MAX, Host, ask},
    follower::HostFollower,
    link::Broken,
    member::Unappended,
    registry::Subscribers,
    settings::Settings,
};
use crate::{Dsn, OpenError, Options, codec};

/// One process's view of the log. Dropping it lets another process lead.
struct HostTransport {
    host: Arc<Host>,
    registry: Subscribers,
}

/// Checks a URL.
pub(crate) fn check(dsn: &Dsn) -> Result<(), OpenError> {
    Settings::parse(dsn).map(drop)
}

/// Leads the log, or becomes a member.
pub(crate) async fn open(dsn: &Dsn, options: &Options) -> Result<Arc<dyn Transport>, OpenError> {
    let settings = Settings::parse(dsn)?;
    let shown = format!("the host's log \"{}\" in \"{}\"", settings.name, settings.directory.display());
    let host = Arc::new(Host::new(settings, options.clone(), &shown));
    let (opened, outcome) = oneshot::channel();
    let transport = HostTransport { host: Arc::clone(&host), registry: Subscribers(Arc::clone(&host)) };
    tokio::spawn(election::run(host, opened));
    outcome.await.map_err(|_| TransportError::Closed)??;
    Ok(Arc::new(transport))
}

#[async_trait]
impl Transport for HostTransport {
    async fn head(&self) -> Result<Head, TransportError> {
        ask!(self.host, |log| log.head().await)
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        let deadline = self.host.deadline();
        self.host.pace.turn(self.host.pace.newest(), self.host.settings.timeout).await?;
        let record = codec::encode(&update);
        let _permit = timeout_at(deadline, self.host.room.take(record.len())).await.map_err(|_| late())?;
        // Where the log ended before an attempt that had no answer.
        let mut unsure = None;
        loop {
            let access = self.host.open_by(deadline).await?;
            if let Some(after) = unsure {
                match find(&access, &update, after, deadline).await {
                    Ok(Some(position)) => return Ok(self.appended(position)),
                    Ok(None) => {}
                    Err(_) if !access.is_open() => continue,
                    Err(error) => return Err(error),
                }
            }
            let after = self.host.pace.newest();
            let answer = match &access {
                Access::Leader(log) => match log.append_record(update.clone(), record.clone()).await {
                    Err(_) if !access.is_open() => Err(Unappended::Broken(Broken { was_sent: true })),
                    answer => answer.map_err(Unappended::Refused),
                },
                Access::Member(member) => {
                    let answer = timeout_at(deadline, member.append_record(&record)).await;
                    answer.map_err(|_| late())?
                }
            };
            match answer {
                Ok(position) => return Ok(self.appended(position)),
                Err(Unappended::Refused(error)) => return Err(error),
                Err(Unappended::Broken(Broken { was_sent })) => unsure = was_sent.then_some(after),
            }
        }
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        ask!(self.host, |log| log.locate(id).await)
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        ask!(self.host, |log| log.read(after, limit).await)
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        Ok(Box::new(HostFollower::begin(&self.host, after, self.host.deadline()).await?))
    }

    async fn extent(&self) -> Result<Extent, TransportError> {
        ask!(self.host, |log| log.extent().await)
    }

    /// Of this process, while it leads.
    fn batches(&self) -> Option<Distribution> {
        self.host.current()?.log().batches()
    }

    fn is_ready(&self) -> bool {
        match self.host.current() {
            Some(access) => access.log().is_ready(),
            None => self.host.missing_for() < CHANGE_MAX,
        }
    }

    fn is_readable(&self) -> bool {
        match self.host.current() {
            Some(access) => access.log().is_readable(),
            None => self.host.missing_for() < CHANGE_MAX,
        }
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(&self.registry)
    }
}

impl HostTransport {
    fn appended(&self, position: Position) -> Position {
        self.host.saw(position);
        position
    }
}

impl Drop for HostTransport {
    fn drop(&mut self) {
        self.host.close();
    }
}

fn late() -> TransportError {
    TransportError::unavailable("the process that leads the log did not confirm it in time")
}

/// Looks for an update that may have been appended after the position. A process that leads takes nothing any more that was
/// asked for over an earlier connection of the same member, so what is not there now will not come.
///
/// # Errors
/// [`TransportError::Unavailable`] also if the log has trimmed what followed the position, so that nobody knows.
async fn find(
    access: &Access,
    update: &Update,
    after: Position,
    deadline: Instant,
) -> Result<Option<Position>, TransportError> {
    let log = access.log();
    let found = timeout_at(deadline, async {
        // Most ids are used once: an update that is not there is not looked for further.
        let located = log.locate(update.id().as_str()).await?;
        let mut from = after;
        loop {
            let page = log.read(from, PAGE_ENTRIES).await?;
            let trimmed = match update.origin() {
                Origin::Publisher => page.trimmed.updates,
                Origin::Hub => page.trimmed.events,
            };
            if trimmed > after {
                return Err(TransportError::unavailable(
                    "the process that led the log has left, and whether it had added the update is not known",
                ));
            }
            // Another one may have its id.
            if let Some(entry) = page.entries.iter().find(|entry| *entry.update == *update) {
                return Ok(Some(entry.position));
            }
            if page.at_end || located.is_none() {
                return Ok(None);
            }
            from = page.through;
        }
    });
    found.await.unwrap_or_else(|_| Err(late()))
}

/// Entries of one page, when an update is looked for.
const PAGE_ENTRIES: usize = 512;
