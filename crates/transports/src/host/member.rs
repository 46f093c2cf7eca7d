//! The log of a process that does not lead: each call is a request to the process that does.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page as Subscribers, Registry},
    transport::{Entry, Extent, Follower, Head, Page, Position, Transport},
};
use petasos_protocol::{subscription::Subscription, update::Update};
use tokio::{io::BufReader, net::unix::OwnedReadHalf, sync::mpsc, task::AbortHandle, time::timeout};

use super::{
    link::{self, Broken, Link, Refusal},
    message::{self, Answer, RecordedFact, Request},
    settings::Settings,
};
use crate::{
    codec,
    shared::{decoder::Decoder, facts},
};

/// One connection's view of the log.
pub(super) struct Member {
    pub(super) link: Arc<Link>,
    path: PathBuf,
    decoder: Arc<Decoder>,
    lease: Duration,
    timeout: Duration,
}

/// Why an append of this process was not answered with a position.
pub(super) enum Unappended {
    Refused(TransportError),
    /// The connection has ended.
    Broken(Broken),
}

impl Member {
    /// Becomes a member of what another process leads. `number` is this process's for as long as it has the log. Returns the
    /// end of the log, too.
    pub(super) async fn join(
        settings: &Settings,
        number: u128,
        decoder: &Arc<Decoder>,
    ) -> Result<(Self, Position), Refusal> {
        let path = settings.socket();
        let (link, head) = Link::connect(&path, number).await?;
        let (lease, timeout) = (settings.lease, settings.timeout);
        Ok((Self { link: Arc::new(link), path, decoder: Arc::clone(decoder), lease, timeout }, head))
    }

    /// Appends a record of [`codec`].
    pub(super) async fn append_record(&self, record: &[u8]) -> Result<Position, Unappended> {
        let answer = self.link.ask(&Request::Append { record }).await.map_err(Unappended::Broken)?;
        match parse(&answer) {
            Ok(Answer::Appended(place)) => Ok(place.into()),
            Ok(_) => Err(Unappended::Refused(unexpected())),
            Err(error) => Err(Unappended::Refused(error)),
        }
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Vec<u8>, TransportError> {
        let answer = timeout(self.timeout, self.link.ask(request)).await;
        let broken = |Broken { .. }| TransportError::unavailable("the process that led the log has left");
        match answer {
            Ok(answer) => answer.map_err(broken),
            Err(_) => {
                Err(TransportError::unavailable("the process that leads the log has not answered in time"))
            }
        }
    }

    /// Records facts, whole or not at all in each chunk.
    async fn record_all(
        &self,
        node: NodeId,
        is_expiry: bool,
        facts: &[Fact],
    ) -> Result<Lease, TransportError> {
        let node = node.to_string();
        let mut answers = facts::Answers::default();
        let mut chunks: Vec<_> = facts::chunks(facts, facts::CHUNK_EVENTS).collect();
        if chunks.is_empty() {
            // Whether the node has a lease.
            chunks.push(&[]);
        }
        for chunk in chunks {
            let events: Vec<Vec<_>> =
                chunk.iter().map(|fact| fact.events.iter().map(codec::encode).collect()).collect();
            let facts = chunk
                .iter()
                .zip(&events)
                .map(|(fact, events)| RecordedFact {
                    is_active: fact.active,
                    subscriber: codec::encode_subscriber(&fact.subscriptions),
                    events: events.iter().map(|event| &event[..]).collect(),
                })
                .collect();
            let answer = self.ask(&Request::Record { node: &node, is_expiry, facts }).await?;
            let lease = lease(&parse(&answer)?)?;
            if !is_expiry && answers.has_ended(lease)? {
                return Ok(Lease::Ended);
            }
        }
        Ok(Lease::Kept)
    }

    fn subscriber(&self, record: &str) -> Option<Arc<[Subscription]>> {
        self.decoder.subscriber(&"of the host", codec::decode_subscriber(record.as_bytes()))
    }
}

/// The answer in a message.
///
/// # Errors
/// The error that the answer is, or that it is none.
fn parse(message: &[u8]) -> Result<Answer<'_>, TransportError> {
    match message::parse(message) {
        Ok(Answer::Failed(fault, text)) => Err(message::error(fault, text)),
        Ok(answer) => Ok(answer),
        Err(_) => Err(unexpected()),
    }
}

fn unexpected() -> TransportError {
    TransportError::unavailable("the process that leads the log gave an answer to something else")
}

fn lease(answer: &Answer<'_>) -> Result<Lease, TransportError> {
    match answer {
        Answer::Lease(true) => Ok(Lease::Kept),
        Answer::Lease(false) => Ok(Lease::Ended),
        _ => Err(unexpected()),
    }
}

#[async_trait]
impl Transport for Member {
    async fn head(&self) -> Result<Head, TransportError> {
        let answer = self.ask(&Request::Head).await?;
        parse(&answer)?.into_head().ok_or_else(unexpected)
    }

    async fn append(&self, update: Update) -> Result<Position, TransportError> {
        match self.append_record(&codec::encode(&update)).await {
            Ok(position) => Ok(position),
            Err(Unappended::Refused(error)) => Err(error),
            Err(Unappended::Broken(_)) => {
                Err(TransportError::unavailable("the process that led the log has left"))
            }
        }
    }

    async fn extent(&self) -> Result<Extent, TransportError> {
        let answer = self.ask(&Request::Extent).await?;
        match parse(&answer)? {
            Answer::Extent { updates, bytes, oldest } => {
                let oldest = oldest.map(|since| SystemTime::UNIX_EPOCH + Duration::from_millis(since));
                Ok(Extent { updates, bytes, oldest })
            }
            _ => Err(unexpected()),
        }
    }

    async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let answer = self.ask(&Request::Locate { id }).await?;
        match parse(&answer)? {
            Answer::Located(place) => Ok(place.map(Position::from)),
            _ => Err(unexpected()),
        }
    }

    async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let answer = self.ask(&Request::Read { after: after.into(), limit }).await?;
        parse(&answer)?.into_page(&self.decoder).ok_or_else(unexpected)
    }

    async fn follow(&self, after: Position) -> Result<Box<dyn Follower>, TransportError> {
        self.follow_from(after, false).await
    }

    fn is_ready(&self) -> bool {
        self.link.is_ready()
    }

    fn is_readable(&self) -> bool {
        self.link.is_open()
    }

    fn registry(&self) -> Option<&dyn Registry> {
        Some(self)
    }
}

impl Member {
    /// Follows what comes after a position. `resumes`: up to which this process has followed before.
    pub(super) async fn follow_from(
        &self,
        after: Position,
        resumes: bool,
    ) -> Result<Box<dyn Follower>, TransportError> {
        let left = |refusal: Refusal| match refusal {
            Refusal::Unreachable(error) => TransportError::unavailable(error),
            Refusal::Refused(text) => TransportError::unavailable(text),
        };
        let (mut read, mut write, _) = link::greet(&self.path, None).await.map_err(left)?;
        let followed = async {
            link::send(&mut write, &Request::Follow { after: after.into(), resumes }).await?;
            message::read(&mut read).await
        };
        let answer = match timeout(self.timeout, followed).await {
            Ok(answer) => answer.map_err(TransportError::unavailable)?.1,
            Err(_) => {
                return Err(TransportError::unavailable("the process that leads has not answered in time"));
            }
        };
        match parse(&answer)? {
            Answer::Done => {}
            _ => return Err(unexpected()),
        }
        // One that waits, one that is taken.
        let (batches, received) = mpsc::channel(1);
        let (link, decoder) = (Arc::clone(&self.link), Arc::clone(&self.decoder));
        let task = tokio::spawn(async move {
            // Held, because its end is what ends the other side.
            let _write = write;
            let end = tokio::select! {
                // The connection's own end may stay unseen, if the process has stopped or has left it to a child.
                () = link.ended() => TransportError::Closed,
                end = receive(&mut read, &batches, &decoder) => end,
            };
            let _ = batches.send(Err(end)).await;
        });
        Ok(Box::new(MemberFollower { batches: received, task: task.abort_handle() }))
    }
}

/// Hands batches on. Returns why there are no more.
async fn receive(
    read: &mut BufReader<OwnedReadHalf>,
    batches: &mpsc::Sender<Result<Vec<Entry>, TransportError>>,
    decoder: &Decoder,
) -> TransportError {
    loop {
        let Ok((_, batch)) = message::read(read).await else { return TransportError::Closed };
        let entries = match parse(&batch) {
            Ok(Answer::Batch { epoch, rows }) => message::entries(epoch, &rows, decoder),
            Ok(_) => return unexpected(),
            Err(error) => return error,
        };
        if !entries.is_empty() && batches.send(Ok(entries)).await.is_err() {
            return TransportError::Closed;
        }
    }
}

/// The end of a task's queue that is read, and the task.
struct MemberFollower {
    batches: mpsc::Receiver<Result<Vec<Entry>, TransportError>>,
    task: AbortHandle,
}

#[async_trait]
impl Follower for MemberFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        self.batches.recv().await.unwrap_or(Err(TransportError::Closed))
    }
}

impl Drop for MemberFollower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[async_trait]
impl Registry for Member {
    fn lease(&self) -> Duration {
        self.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        let answer = self.ask(&Request::Renew { node: &node.to_string() }).await?;
        lease(&parse(&answer)?)
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        self.record_all(node, false, facts).await
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let answer = self.ask(&Request::Abandoned { limit }).await?;
        let Answer::Abandoned(all) = parse(&answer)? else { return Err(unexpected()) };
        let abandoned = |(node, record): &(&str, &str)| {
            Some(Abandoned { node: NodeId::parse(node)?, subscriptions: self.subscriber(record)? })
        };
        Ok(all.iter().filter_map(abandoned).collect())
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        self.record_all(node, true, departures).await.map(drop)
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        let answer = self.ask(&Request::Resign { node: &node.to_string() }).await?;
        parse(&answer).map(drop)
    }

    async fn page(
        &self,
        text: Option<&str>,
        after: u64,
        limit: usize,
    ) -> Result<Subscribers, TransportError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let answer = self.ask(&Request::Subscribers { text, after, limit }).await?;
        let Answer::Subscribers { records, next } = parse(&answer)? else { return Err(unexpected()) };
        Ok(Subscribers {
            subscribers: records.iter().filter_map(|record| self.subscriber(record)).collect(),
            next,
        })
    }
}
