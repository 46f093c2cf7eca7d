//! The process that leads: it has the log open and serves the other processes of the host.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use petasos_hub::{
    TransportError,
    registry::{Fact, Lease, NodeId},
    transport::{Extent, Transport},
};
use petasos_protocol::update::Update;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    message::{self, Answer, Fault, RecordedFact, Request},
    settings::Settings,
    visits::{Visiting, Visits},
};
use crate::{
    OpenError, Options, codec,
    durable::{
        self, DurableTransport,
        directory::{Directory, number, remove},
        settings::Users,
    },
    shared::decoder::Decoder,
};

/// An open log and the socket at which its members ask.
pub(super) struct Leader {
    pub(super) log: Arc<DurableTransport>,
    listener: UnixListener,
    path: PathBuf,
    decoder: Arc<Decoder>,
}

/// Members have two connections each.
const CONNECTIONS_MAX: usize = 1_024;

/// What one connection may have asked for and not been answered yet: requests, and bytes of them.
const REQUESTS_MAX: usize = 2_048;
const REQUEST_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// What an answer takes of that room at least: an append's is short, and a page may have 256 KiB.
const ANSWER_BYTES: usize = 16 * 1024;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// How long a process that connects may take for its greeting.
const HELLO_MAX: Duration = Duration::from_secs(3);

/// The pause after a failed accept, which mostly lacked a file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Leader {
    /// Opens the log in a directory that is locked, and listens.
    pub(super) async fn begin(
        directory: Directory,
        settings: &Settings,
        options: &Options,
        decoder: &Arc<Decoder>,
    ) -> Result<Self, OpenError> {
        let times = (settings.lease, settings.timeout);
        let log = durable::open_locked(directory, Users::Host, times, options).await?;
        let path = settings.socket();
        let listener = listen(&path).map_err(|error| {
            OpenError::Refused(format!("the socket \"{}\" cannot be made: {error}", path.display()))
        })?;
        Ok(Self { log: Arc::new(log), listener, path, decoder: Arc::clone(decoder) })
    }

    /// Serves until the log takes nothing any more, or `leave` returns. What has been asked is answered then.
    pub(super) async fn serve(self, leave: impl Future<Output = ()>) {
        let Self { log, listener, path, decoder } = self;
        let own = number_at(&path);
        let (mut connections, visits) = (JoinSet::new(), Visits::default());
        tokio::pin!(leave);
        let is_leaving = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    // Dropping the stream closes it; the member connects again.
                    Ok(_) if connections.len() >= CONNECTIONS_MAX => {}
                    Ok((stream, _)) => {
                        let (log, decoder) = (Arc::clone(&log), Arc::clone(&decoder));
                        connections.spawn(serve(stream, log, decoder, visits.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "processes of this host cannot be accepted: raise the limit of open files");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                () = log.until_failed() => break false,
                () = &mut leave => break true,
            }
        };
        // Nobody else connects. The file may be another process's already.
        drop(listener);
        if is_leaving && number_at(&path) == own {
            let _ = fs::remove_file(&path);
        }
        connections.shutdown().await;
    }
}

/// The device and the inode of the file at a path.
fn number_at(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|file| number(&file))
}

/// Listens at a path, which may be left from a process that has died. The lock of the log says that it has.
fn listen(path: &Path) -> io::Result<UnixListener> {
    remove(path)?;
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(stream: UnixStream, log: Arc<DurableTransport>, decoder: Arc<Decoder>, visits: Visits) {
    let own = rustix::process::geteuid().as_raw();
    if !stream.peer_cred().is_ok_and(|peer| [own, 0].contains(&peer.uid())) {
        return tracing::warn!("a process of another user has connected to the host's log: it gets nothing");
    }
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let ended = async {
        let greeting = timeout(HELLO_MAX, message::read(&mut read)).await;
        let (_, hello) = greeting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let visiting = match message::parse(&hello)? {
            Request::Hello { version: message::VERSION, member: Some(member) } => {
                // This process lives, even if what the member asked before takes its time.
                let pong = message::frame(0, &Answer::Pong { is_ready: log.is_ready() });
                write.write_all(&pong).await?;
                Some(visits.enter(member).await)
            }
            Request::Hello { version: message::VERSION, member: None } => None,
            Request::Hello { version, .. } => {
                let text = format!(
                    "the process that leads the log speaks version {}, and this one {version}: run one version of \
                     petasos on this host",
                    message::VERSION
                );
                return write.write_all(&message::frame(0, &Answer::Failed(Fault::Version, &text))).await;
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let welcome = Answer::Welcome { head: log.end().into() };
        write.write_all(&message::frame(0, &welcome)).await?;
        match visiting {
            Some(visiting) => requests(&mut read, write, &log, &decoder, &visiting).await,
            None => follow(&mut read, &mut write, &log).await,
        }
    };
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a connection of a process of this host has ended");
    }
}

/// Answers requests until the member leaves or comes again.
async fn requests(
    read: &mut BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    log: &Arc<DurableTransport>,
    decoder: &Arc<Decoder>,
    visiting: &Visiting,
) -> io::Result<()> {
    let (answers, mut answered) = mpsc::channel::<Vec<u8>>(REQUESTS_MAX);
    let mut tasks = JoinSet::new();
    let room = Arc::new(Semaphore::new(REQUEST_BYTES_MAX as usize));
    let asked = async {
        // Dropped with the last request, which ends the writing.
        let answers = answers;
        loop {
            let frame = tokio::select! {
                frame = message::read(read) => frame,
                () = visiting.is_over() => Err(io::ErrorKind::ConnectionReset.into()),
            };
            let (number, message) = frame?;
            match message::parse(&message)? {
                Request::Ping => {
                    let pong = message::frame(0, &Answer::Pong { is_ready: log.is_ready() });
                    if answers.send(pong).await.is_err() {
                        return Ok(());
                    }
                }
                _ => {
                    // An answer may be longer than what it answers.
                    let permit = room_for(&room, message.len().max(ANSWER_BYTES)).await;
                    while tasks.try_join_next().is_some() {}
                    if tasks.len() >= REQUESTS_MAX {
                        tasks.join_next().await;
                    }
                    let (log, decoder, answers) = (Arc::clone(log), Arc::clone(decoder), answers.clone());
                    tasks.spawn(async move {
                        let _permit = permit;
                        if let Some(frame) = answer(number, &message, &log, &decoder).await {
                            // An error means that the member has left.
                            let _ = answers.send(frame).await;
                        }
                    });
                }
            }
        }
    };
    let written = async {
        let mut buffer = Vec::new();
        while let Some(frame) = answered.recv().await {
            buffer.clear();
            buffer.extend(frame);
            while buffer.len() < WRITE_BYTES
                && let Ok(frame) = answered.try_recv()
            {
                buffer.extend(frame);
            }
            write.write_all(&buffer).await?;
        }
        Ok(())
    };
    let ended = tokio::try_join!(asked, written).map(drop);
    // What has been asked is done before the visit is over, so that the member finds it, or knows that it will not come.
    // Nobody waits for the answers any more; the log's time-out bounds the rest.
    drop(answered);
    while tasks.join_next().await.is_some() {}
    ended
}

async fn room_for(room: &Arc<Semaphore>, bytes: usize) -> OwnedSemaphorePermit {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(REQUEST_BYTES_MAX);
    Arc::clone(room).acquire_many_owned(bytes).await.expect("the semaphore is never closed")
}

/// Sends batches until the member leaves, lags too far, or the log ends.
async fn follow(
    read: &mut BufReader<OwnedReadHalf>,
    write: &mut OwnedWriteHalf,
    log: &DurableTransport,
) -> io::Result<()> {
    let wanted = timeout(HELLO_MAX, message::read(read)).await;
    let (_, wanted) = wanted.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let Request::Follow { after, resumes } = message::parse(&wanted)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let failed = |error: &TransportError| message::with_failed(error, |answer| message::frame(0, answer));
    let follower = match resumes {
        true => log.resume(after.into()),
        false => log.follow(after.into()).await,
    };
    let mut follower = match follower {
        Ok(follower) => follower,
        Err(error) => return write.write_all(&failed(&error)).await,
    };
    write.write_all(&message::frame(0, &Answer::Done)).await?;
    let batches = async {
        loop {
            let entries = match follower.next().await {
                Ok(entries) => entries,
                Err(error) => return write.write_all(&failed(&error)).await,
            };
            let Some(first) = entries.first() else { continue };
            let (epoch, records) = (first.position.epoch, message::records(&entries));
            let batch = Answer::Batch { epoch, rows: message::rows(&records) };
            write.write_all(&message::frame(0, &batch)).await?;
        }
    };
    tokio::select! {
        ended = batches => ended,
        // A member sends nothing more: this returns when it has left.
        ended = message::read(read) => ended.map(drop),
    }
}

/// The frame that answers a request. `None`: the log is another process's by now, which the member has to ask.
async fn answer(number: u64, message: &[u8], log: &DurableTransport, decoder: &Decoder) -> Option<Vec<u8>> {
    let frame = |answer: &Answer<'_>| message::frame(number, answer);
    match respond(message, log, decoder, frame).await {
        Ok(frame) => Some(frame),
        Err(_) if !log.takes_appends() => None,
        Err(error) => Some(message::with_failed(&error, frame)),
    }
}

async fn respond(
    message: &[u8],
    log: &DurableTransport,
    decoder: &Decoder,
    frame: impl Fn(&Answer<'_>) -> Vec<u8>,
) -> Result<Vec<u8>, TransportError> {
    let unreadable = || TransportError::unavailable("the request cannot be read");
    let registry = log.registry().expect("a durable log has one");
    let node = |text: &str| NodeId::parse(text).ok_or_else(unreadable);
    Ok(match message::parse(message).map_err(|_| unreadable())? {
        Request::Append { record } => {
            let update = decoder.update(log.end(), record).ok_or_else(unreadable)?;
            frame(&Answer::Appended(log.append_record(update, record.to_vec()).await?.into()))
        }
        Request::Head => {
            let head = log.head().await?;
            let id = head.id.as_ref().map(|id| id.as_str());
            frame(&Answer::Head { position: head.position.into(), id })
        }
        Request::Extent => {
            let Extent { updates, bytes, oldest } = log.extent().await?;
            let oldest = oldest.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            let oldest = oldest.and_then(|since| u64::try_from(since.as_millis()).ok());
            frame(&Answer::Extent { updates, bytes, oldest })
        }
        Request::Locate { id } => frame(&Answer::Located(log.locate(id).await?.map(Into::into))),
        Request::Read { after, limit } => {
            let page = log.read(after.into(), limit as usize).await?;
            let records = message::records(&page.entries);
            frame(&Answer::Page {
                rows: message::rows(&records),
                through: page.through.into(),
                at_end: page.at_end,
                updates_trimmed: page.trimmed.updates.into(),
                events_trimmed: page.trimmed.events.into(),
            })
        }
        Request::Renew { node: text } => {
            frame(&Answer::Lease(registry.renew(node(text)?).await? == Lease::Kept))
        }
        Request::Record { node: text, is_expiry, facts } => {
            let facts: Option<Vec<_>> = facts.iter().map(|each| fact(each, log, decoder)).collect();
            let (node, facts) = (node(text)?, facts.ok_or_else(unreadable)?);
            let lease = match is_expiry {
                false => registry.record(node, &facts).await?,
                true => registry.expire(node, &facts).await.map(|()| Lease::Kept)?,
            };
            frame(&Answer::Lease(lease == Lease::Kept))
        }
        Request::Abandoned { limit } => {
            let found = registry.abandoned(limit as usize).await?;
            let found: Vec<_> = found
                .iter()
                .map(|each| (each.node.to_string(), codec::encode_subscriber(&each.subscriptions)))
                .collect();
            let found = found.iter().map(|(node, record)| (&node[..], &record[..]));
            frame(&Answer::Abandoned(found.collect()))
        }
        Request::Resign { node: text } => {
            registry.resign(node(text)?).await?;
            frame(&Answer::Done)
        }
        Request::Subscribers { text, after, limit } => {
            let page = registry.page(text, after, limit as usize).await?;
            let records: Vec<_> = page
                .subscribers
                .iter()
                .map(|subscriptions| codec::encode_subscriber(subscriptions))
                .collect();
            let records = records.iter().map(|record| &record[..]);
            frame(&Answer::Subscribers { records: records.collect(), next: page.next })
        }
        Request::Hello { .. } | Request::Ping | Request::Follow { .. } => return Err(unreadable()),
    })
}

fn fact(recorded: &RecordedFact<'_>, log: &DurableTransport, decoder: &Decoder) -> Option<Fact> {
    let subscriptions = codec::decode_subscriber(recorded.subscriber.as_bytes()).ok()?;
    let subscriber = subscriptions.first()?.subscriber;
    let events: Option<Vec<Update>> =
        recorded.events.iter().map(|record| decoder.update(log.end(), record)).collect();
    Some(Fact { subscriber, active: recorded.is_active, subscriptions, events: events? })
}
