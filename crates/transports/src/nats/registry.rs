//! The subscribers of all nodes.
//!
//! A subscriber is a message of a stream of its own, whose subject names node and subscriber; its sequence is the
//! record's revision. A lease is a message that the server removes unless it is renewed: the server's clock decides.
//! JetStream changes no two messages as one. So:
//!
//! - An arrival is recorded first, and its events are appended then. This process remembers arrivals whose events may not
//!   have been appended, and appends them when the arrival is recorded again.
//! - The events of a departure are appended first, and its record is removed then.
//! - The ids of both are made of the record's revision, and the server takes each id once only: events that are sent again,
//!   after a crash or by another node, are not appended twice.
//! - The first node that expires a subscriber turns the record into a departing one, with its events, at exactly the
//!   revision that it has seen. A node that has come back has its records at later revisions, or finds them departing and
//!   finishes that first.
//! - In a cluster, a node that comes back and one that expires its subscribers may both replace the same record. [`Settled`] tells
//!   which of them has: a record that replaces another one, or that was found departing, counts only then.
//! - A server that was killed may bring removed records back. So each new connection removes again what this process has
//!   removed lately.
//! - What is larger than the server takes is reported and left out: it would be in the way of all others for ever.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use petasos_protocol::{
    subscription::{SubscriberId, Subscription},
    update::Update,
};

use super::{
    attempts::Attempts,
    census::Census,
    consumer::{Consumer, End, Raw},
    failure::{Failure, codes, fitting, is_too_large},
    link::Connection,
    log::Log,
    record::{Record, subscriber_token},
    removed::Removed,
    settled::Settled,
    write::{ARRIVAL, Write},
    writer::Writer,
};
use crate::{
    codec::{self, Damaged},
    retry::Backoff,
    shared::{facts, reported::Reported},
};

/// The subscribers of all nodes. See the module.
pub(super) struct Subscribers {
    log: Arc<Log>,
    writer: Arc<Writer>,
    settled: Settled,
    /// Subjects of subscribers that were larger than the server takes.
    oversized: Reported<String>,
    memory: Mutex<Memory>,
}

/// What this process has begun and does not know the end of.
#[derive(Default)]
struct Memory {
    /// Arrivals whose events may not have been appended, with those events. As many as failed at once, at most all
    /// subscribers of this process; an entry goes with its departure or when its events have been appended.
    unappended: HashMap<(NodeId, SubscriberId), Vec<Update>>,
    /// Nodes whose lease may have begun with a renewal whose answer did not arrive: the next one has to say so.
    begun: HashSet<NodeId>,
    /// Nodes whose last record did not succeed: events that it appended are not appended again.
    unfinished: HashSet<NodeId>,
    /// The leases that this process has renewed: the next renewal need not ask.
    leases: HashMap<NodeId, Renewed>,
    census: Census,
    removed: Removed,
    /// The connection on which removed records have been looked for.
    cleaned: Weak<Connection>,
}

/// A lease that this process has renewed.
#[derive(Clone, Copy)]
struct Renewed {
    revision: u64,
    /// When the renewal was sent: the lease did not begin before that.
    sent_at: Instant,
}

/// A record at its revision.
struct Revised {
    revision: u64,
    record: Record,
    /// The arrival that it was recorded with: the id of its first event, and its revision then.
    arrival: Option<(String, u64)>,
}

/// Requests of one call that are on their way at once.
const REQUESTS: usize = 128;

/// Another node may change a record between a look and a change: the look is repeated this often.
const ATTEMPTS: usize = 8;

/// No node and no subscriber has such a name.
const MARK: &str = "-mark";

/// Follows the name of a node in the subject of the mark that it has resigned its lease.
const RESIGNED: &str = "-resigned";

/// Records that are read for one page of subscribers, and their bytes. Many, because each page needs a consumer of its
/// own.
const PAGE_RECORDS: usize = 8_192;
const PAGE_BYTES: usize = 1024 * 1024;

impl Subscribers {
    pub(super) fn new(writer: Arc<Writer>) -> Self {
        let log = Arc::clone(&writer.log);
        let streams = &log.streams;
        let settled = Settled::new(streams.subscribers.clone(), streams.subscriber_subject(MARK, MARK));
        Self { log, writer, settled, oversized: Reported::default(), memory: Mutex::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn is_alive(&self, node: NodeId) -> Result<bool, TransportError> {
        Ok(self.lease_revision(node).await?.is_some())
    }

    async fn lease_revision(&self, node: NodeId) -> Result<Option<u64>, TransportError> {
        let streams = &self.log.streams;
        let last = self.log.link.last(&streams.leases, &streams.lease_subject(&node.to_string())).await;
        Ok(self.known(last)?.map(|kept| kept.seq))
    }

    /// Writes a lease, or the mark of a resigned one, if the last message of its subject is the one with that sequence; 0: if there
    /// is none. `None`: it is another one. Nobody but its node writes a lease.
    async fn write_lease(&self, subject: &str, expected: u64) -> Result<Option<u64>, TransportError> {
        let link = &self.log.link;
        let write = Write::begin(link, subject, expected, None, Bytes::new(), link.attempts()).await;
        self.known(write.end(link).await)
    }

    /// Replaces a record at exactly that revision. `None`: another node has changed it, or does so now.
    async fn replace(
        &self,
        subject: &str,
        revision: u64,
        arrival: Option<&str>,
        payload: Bytes,
    ) -> Result<Option<u64>, TransportError> {
        let link = &self.log.link;
        let write = Write::begin(link, subject, revision, arrival, payload, link.attempts()).await;
        self.known(self.settled.end(link, write).await)
    }

    /// Whether a record that was found at a revision is there, and no node has begun to replace it before it was.
    async fn counts(
        &self,
        node: NodeId,
        subscriber: SubscriberId,
        revision: u64,
    ) -> Result<bool, TransportError> {
        let subject = self.subject(node, subscriber);
        self.known(self.settled.counts(&self.log.link, &subject, revision).await)
    }

    /// A failure as the hub knows it; should a stream be gone, it is made again.
    fn known<T>(&self, result: Result<T, Failure>) -> Result<T, TransportError> {
        result.map_err(|failure| {
            if matches!(failure, Failure::NoResponders) || failure.is(codes::STREAM_NOT_FOUND) {
                self.log.doubt();
            }
            failure.into()
        })
    }

    fn subject(&self, node: NodeId, subscriber: SubscriberId) -> String {
        self.log.streams.subscriber_subject(&node.to_string(), &subscriber_token(subscriber))
    }

    async fn find(&self, node: NodeId, subscriber: SubscriberId) -> Result<Option<Revised>, TransportError> {
        let subject = self.subject(node, subscriber);
        let last = self.log.link.last(&self.log.streams.subscribers, &subject).await;
        let Some(kept) = self.known(last)? else { return Ok(None) };
        let record = Record::decode(&kept.payload).unwrap_or(Record::Damaged);
        let arrival = kept.header(ARRIVAL).map(|arrival| {
            let later =
                arrival.rsplit_once(' ').and_then(|(first, created)| Some((first, created.parse().ok()?)));
            let (first, created) = later.unwrap_or((arrival, kept.seq));
            (first.to_owned(), created)
        });
        Ok(Some(Revised { revision: kept.seq, record, arrival }))
    }

    /// Records facts of different subscribers, and appends the events of new facts in their order.
    async fn record_chunk(&self, node: NodeId, facts: &[Fact], repeats: bool) -> Result<(), TransportError> {
        let (mut changes, attempts) = (Vec::with_capacity(facts.len()), self.log.link.attempts());
        for fact in facts {
            // In their order, which is the order in which they are listed.
            let create = if fact.active { Some(self.create(node, fact, attempts).await) } else { None };
            changes.push(self.change(node, fact, create, repeats));
        }
        let found = all(changes).await?;
        let news = facts.iter().zip(&found).flat_map(|(fact, change)| change.news(node, fact)).collect();
        let news = if repeats { self.unappended(news).await? } else { news };
        self.writer.append_once(&news).await?;
        all(facts.iter().zip(&found).map(|(fact, change)| self.settle(node, fact, change)).collect()).await?;
        Ok(())
    }

    /// The last step of a fact, after its events have been appended.
    async fn settle(&self, node: NodeId, fact: &Fact, change: &Change) -> Result<(), TransportError> {
        if let Change::Departs(revision) = change {
            self.remove(node, fact.subscriber, *revision).await?;
        }
        self.memory().unappended.remove(&(node, fact.subscriber));
        Ok(())
    }

    /// What a fact changes. An arrival has been recorded then, unless it is too large.
    async fn change(
        &self,
        node: NodeId,
        fact: &Fact,
        create: Option<Write>,
        repeats: bool,
    ) -> Result<Change, TransportError> {
        let change = fitting(self.try_change(node, fact, create, repeats).await)?;
        Ok(change.unwrap_or_else(|| {
            let subscriber = fact.subscriber;
            if self.oversized.is_news(self.subject(node, subscriber)) {
                tracing::warn!(%subscriber, "a subscriber is larger than the NATS server takes: it is not recorded");
            }
            Change::Nothing
        }))
    }

    async fn try_change(
        &self,
        node: NodeId,
        fact: &Fact,
        mut create: Option<Write>,
        repeats: bool,
    ) -> Result<Change, TransportError> {
        for _ in 0..ATTEMPTS {
            let change = if fact.active {
                let create = match create.take() {
                    Some(create) => create,
                    None => self.create(node, fact, self.log.link.attempts()).await,
                };
                self.arrive(node, fact, create).await?
            } else {
                self.depart(node, fact, repeats).await?
            };
            if let Some(change) = change {
                return Ok(change);
            }
        }
        Err(busy())
    }

    /// Finds the record that departs. `None`: it was changed meanwhile. `repeats`: this node may have begun to replace it, without an
    /// answer.
    async fn depart(
        &self,
        node: NodeId,
        fact: &Fact,
        repeats: bool,
    ) -> Result<Option<Change>, TransportError> {
        match self.find(node, fact.subscriber).await? {
            None => Ok(Some(Change::Nothing)),
            Some(Revised { revision, record: Record::Departing { since, events, .. }, .. }) => {
                let is_finished = self.finish(node, fact.subscriber, revision, since, events).await?;
                Ok(is_finished.then_some(Change::Nothing))
            }
            Some(Revised { revision, .. })
                if repeats && !self.counts(node, fact.subscriber, revision).await? =>
            {
                Ok(None)
            }
            Some(Revised { revision, .. }) => Ok(Some(Change::Departs(revision))),
        }
    }

    /// The events of an arrival: those with which it was recorded first, if they may not have been appended.
    fn arrival(&self, node: NodeId, fact: &Fact) -> Vec<Update> {
        let mut memory = self.memory();
        memory.unappended.entry((node, fact.subscriber)).or_insert_with(|| fact.events.clone()).clone()
    }

    /// Begins to record an arrival.
    async fn create(&self, node: NodeId, fact: &Fact, attempts: Attempts) -> Write {
        // Remembered before the record may be there, and appended as it was first.
        let events = self.arrival(node, fact);
        let arrival = events.first().map(|event| event.id().as_str());
        let subject = self.subject(node, fact.subscriber);
        Write::begin(&self.log.link, &subject, 0, arrival, present(fact), attempts).await
    }

    /// Records an arrival. `None`: another node has changed the record meanwhile.
    async fn arrive(
        &self,
        node: NodeId,
        fact: &Fact,
        create: Write,
    ) -> Result<Option<Change>, TransportError> {
        let events = self.arrival(node, fact);
        if let Some(created) = self.known(create.end(&self.log.link).await)? {
            return Ok(Some(Change::Arrives(arrival_news(node, fact.subscriber, created, &events))));
        }
        let arrival = events.first().map(|event| event.id().as_str());
        match self.find(node, fact.subscriber).await? {
            None => Ok(None),
            Some(Revised { revision, record: Record::Departing { since, events, .. }, .. }) => {
                if self.finish(node, fact.subscriber, revision, since, events).await? {
                    // What comes now is another arrival.
                    self.memory().unappended.remove(&(node, fact.subscriber));
                }
                Ok(None)
            }
            // It stands. It gets another revision, so that no node which has seen it before can expire it.
            Some(Revised { revision, arrival: recorded, .. }) => {
                let subject = self.subject(node, fact.subscriber);
                let header = recorded.as_ref().map(|(first, created)| format!("{first} {created}"));
                if self.replace(&subject, revision, header.as_deref(), present(fact)).await?.is_none() {
                    return Ok(None);
                }
                let own = recorded.filter(|(first, _)| Some(first.as_str()) == arrival);
                let Some((_, created)) = own else { return Ok(Some(Change::Nothing)) };
                // Perhaps appended already, longer ago than the server remembers.
                let news = arrival_news(node, fact.subscriber, created, &events);
                Ok(Some(Change::Arrives(self.unappended(news).await?)))
            }
        }
    }

    /// Removes a record at exactly that revision. False: it is another one by now.
    async fn remove(
        &self,
        node: NodeId,
        subscriber: SubscriberId,
        revision: u64,
    ) -> Result<bool, TransportError> {
        self.memory().removed.add(node, subscriber, revision, Instant::now());
        self.delete(revision).await
    }

    async fn delete(&self, revision: u64) -> Result<bool, TransportError> {
        let removed = self.log.link.delete(&self.log.streams.subscribers, revision).await;
        self.known(removed)
    }

    /// Once for each connection, removes the records that this process has removed lately and that are there again.
    async fn remove_again(&self) -> Result<(), TransportError> {
        let connection = Arc::downgrade(&self.log.link.connection());
        let removed = {
            let memory = self.memory();
            if memory.cleaned.ptr_eq(&connection) {
                return Ok(());
            }
            memory.removed.lately(Instant::now())
        };
        if !removed.is_empty() {
            let newest: HashMap<_, _> = removed
                .iter()
                .map(|each| (self.subject(each.node, each.subscriber), each.revision))
                .collect();
            let mut back = Vec::new();
            self.scan(&self.log.streams.subscribers, None, true, 0, |raw| {
                // A later revision is another arrival.
                if newest.get(raw.subject.as_str()).is_some_and(|revision| raw.seq <= *revision) {
                    back.push(raw.seq);
                }
                true
            })
            .await?;
            all(back.into_iter().map(|revision| self.delete(revision)).collect()).await?;
        }
        self.memory().cleaned = connection;
        Ok(())
    }

    /// Finishes the departure of a departing record. False: it does not count, as its node came back at the same moment.
    async fn finish(
        &self,
        node: NodeId,
        subscriber: SubscriberId,
        revision: u64,
        since: u64,
        events: Vec<Vec<u8>>,
    ) -> Result<bool, TransportError> {
        if !self.counts(node, subscriber, revision).await? {
            return Ok(false);
        }
        self.complete(node, subscriber, revision, since, &events).await?;
        Ok(true)
    }

    /// Appends the events of a departing record that counts, and removes it.
    async fn complete(
        &self,
        node: NodeId,
        subscriber: SubscriberId,
        revision: u64,
        since: u64,
        events: &[Vec<u8>],
    ) -> Result<(), TransportError> {
        let news = self.departure(node, subscriber, since, events);
        self.writer.append_once(&self.unappended(news).await?).await?;
        self.remove(node, subscriber, revision).await?;
        Ok(())
    }

    /// The events of a departure, with the ids under which they are appended.
    fn departure(
        &self,
        node: NodeId,
        subscriber: SubscriberId,
        since: u64,
        events: &[Vec<u8>],
    ) -> Vec<(String, Update)> {
        let event = |(number, event): (usize, &Vec<u8>)| {
            let update = codec::decode(event, self.log.decoder.hub()).ok()?;
            Some((departure_id(node, subscriber, since, number), update))
        };
        events.iter().enumerate().filter_map(event).collect()
    }

    /// Those that the log does not have yet: the server may have forgotten them by now; the index has not unless they
    /// are trimmed.
    async fn unappended(&self, news: Vec<(String, Update)>) -> Result<Vec<(String, Update)>, TransportError> {
        self.log
            .ask(|index| news.into_iter().filter(|(event_id, _)| !index.has_event(event_id)).collect())
            .await
    }

    /// Ends a subscriber of a node without a lease, unless the node comes back.
    async fn expire_one(&self, node: NodeId, departure: &Fact) -> Result<(), TransportError> {
        let (subscriber, subject) = (departure.subscriber, self.subject(node, departure.subscriber));
        for _ in 0..ATTEMPTS {
            let (revision, record) = match self.find(node, subscriber).await? {
                None => return Ok(()),
                Some(Revised { revision, record: Record::Departing { since, events, .. }, .. }) => {
                    if self.finish(node, subscriber, revision, since, events).await? {
                        return Ok(());
                    }
                    continue;
                }
                Some(Revised { revision, record, .. }) => (revision, record),
            };
            // After the look at the record: a node that gets a lease from now on records at later revisions.
            if self.is_alive(node).await? {
                return Ok(());
            }
            let events: Vec<_> = departure.events.iter().map(codec::encode).collect();
            let departing = Record::Departing {
                since: revision,
                subscriber: record.subscriber().unwrap_or_default().to_owned(),
                events: events.clone(),
            };
            match fitting(self.claim(&subject, revision, departing).await)? {
                Some(Some(claimed)) => {
                    return self.complete(node, subscriber, claimed, revision, &events).await;
                }
                // The node has come back, or another one was faster.
                Some(None) => {}
                // Too large even without events: they are lost should they not be appended now.
                None if !self.remove(node, subscriber, revision).await? => {}
                None => {
                    let news = self.departure(node, subscriber, revision, &events);
                    return self.writer.append_once(&news).await;
                }
            }
        }
        Err(busy())
    }

    /// Turns a record into a departing one, with as many of its events as the server takes: the others are lost
    /// should this node stop before they are appended.
    async fn claim(
        &self,
        subject: &str,
        revision: u64,
        mut departing: Record,
    ) -> Result<Option<u64>, TransportError> {
        loop {
            let written = self.replace(subject, revision, None, departing.encode().into()).await;
            if is_too_large(&written) && departing.shrink() {
                continue;
            }
            return written;
        }
    }

    /// Gives the messages of a stream behind `after`, as it is now, to `each` in their order until that returns false.
    /// With a filter, only messages of these subjects.
    async fn scan(
        &self,
        stream: &str,
        filter: Option<String>,
        headers_only: bool,
        after: u64,
        mut each: impl FnMut(&Raw) -> bool + Send,
    ) -> Result<(), TransportError> {
        let link = &self.log.link;
        let epoch = self.known(link.info(stream).await.and_then(|info| info.epoch()))?;
        let mut each = |raw: &Raw| self.settled.is_mark(&raw.subject) || each(raw);
        let mut consumer = Consumer::new(Arc::clone(link), stream, headers_only, epoch, after);
        consumer = consumer.that_ends().with_filter(filter);
        let (deadline, mut backoff) = (Instant::now() + link.settings.timeout, Backoff::new());
        loop {
            match read_to_end(&mut consumer, &mut each).await {
                Ok(()) => return Ok(()),
                // It goes on where it was.
                Err(End::Unavailable(_)) if Instant::now() < deadline => backoff.wait().await,
                Err(End::Unavailable(reason) | End::Lost(reason)) => {
                    return Err(TransportError::unavailable(reason));
                }
            }
        }
    }

    /// Updates the census: which nodes have a lease, and which of the others may have left subscribers behind. A node
    /// that starts meanwhile may count as dead. Its subscribers stay, because `expire` checks the lease again.
    async fn look(&self) -> Result<(), TransportError> {
        let streams = &self.log.streams;
        let subjects = self.log.link.subjects(&streams.leases, &streams.lease_subject("*")).await;
        let (mut alive, mut resigned) = (HashSet::new(), HashSet::new());
        for subject in self.known(subjects)? {
            let token = subject.rsplit('.').next().unwrap_or_default();
            match token.strip_suffix(RESIGNED) {
                Some(node) => resigned.extend(NodeId::parse(node)),
                None => alive.extend(NodeId::parse(token)),
            }
        }
        if !self.memory().census.look(alive, resigned, Instant::now()) {
            return Ok(());
        }
        let mut nodes = BTreeSet::new();
        self.scan(&streams.subscribers, None, true, 0, |raw| {
            nodes.extend(raw.subject.rsplit('.').nth(1).and_then(NodeId::parse));
            true
        })
        .await?;
        let census = &mut self.memory().census;
        nodes.retain(|node| !census.is_alive(*node));
        census.counted(nodes, Instant::now());
        Ok(())
    }

    fn suspects(&self) -> Vec<NodeId> {
        self.memory().census.suspects()
    }

    /// Subscribers that a node has recorded, at most `limit`.
    async fn subscribers_of(&self, node: NodeId, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        let streams = &self.log.streams;
        let filter = streams.subscriber_subject(&node.to_string(), "*");
        // Damaged records must not hide the others: if the first ones are all damaged, all of the node's are read.
        for at_most in [limit, usize::MAX] {
            let mut sequences = Vec::new();
            self.scan(&streams.subscribers, Some(filter.clone()), true, 0, |raw| {
                sequences.push(raw.seq);
                sequences.len() < at_most
            })
            .await?;
            let is_all = sequences.len() < at_most;
            let found = sequences.into_iter().map(|seq| self.abandoned_at(node, seq)).collect();
            let mut found: Vec<_> = all(found).await?.into_iter().flatten().collect();
            if is_all || !found.is_empty() {
                found.truncate(limit);
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    async fn abandoned_at(&self, node: NodeId, seq: u64) -> Result<Option<Abandoned>, TransportError> {
        let record = self.log.link.get(&self.log.streams.subscribers, seq).await;
        let record = self.known(record)?.map(|record| Record::decode(&record).unwrap_or(Record::Damaged));
        let subscriptions = record.and_then(|record| self.subscriptions(&record, seq));
        Ok(subscriptions.map(|subscriptions| Abandoned { node, subscriptions }))
    }

    fn subscriptions(&self, record: &Record, seq: u64) -> Option<Arc<[Subscription]>> {
        let decoded = match record.subscriber() {
            Some(record) => codec::decode_subscriber(record.as_bytes()),
            None => Err(Damaged::Malformed),
        };
        self.log.decoder.subscriber(&seq, decoded)
    }
}

/// Gives what a consumer has not read yet to `each`, until that returns false.
async fn read_to_end(
    consumer: &mut Consumer,
    each: &mut (impl FnMut(&Raw) -> bool + Send),
) -> Result<(), End> {
    let mut pending = consumer.attach().await?.map_or(0, |start| start.pending);
    while pending > 0 {
        let batch = consumer.next().await?;
        pending = batch.last().map_or(0, |raw| raw.pending);
        // Leases may have ended that were still to come.
        if batch.is_empty() || !batch.iter().all(&mut *each) {
            break;
        }
    }
    Ok(())
}

/// A subscriber as it is recorded while it is there.
fn present(fact: &Fact) -> Bytes {
    Record::Present(codec::encode_subscriber(&fact.subscriptions)).encode().into()
}

/// Several at once, with what they give in the order in which they were begun.
async fn all<T>(
    futures: Vec<impl Future<Output = Result<T, TransportError>>>,
) -> Result<Vec<T>, TransportError> {
    stream::iter(futures).buffered(REQUESTS).try_collect().await
}

fn busy() -> TransportError {
    TransportError::unavailable("others change the same record all the time")
}

/// What a fact is, compared with what is recorded.
enum Change {
    /// It was recorded; these are its events, each with the id under which it is appended once only.
    Arrives(Vec<(String, Update)>),
    /// The record with this revision is to be removed when the events of the departure have been appended.
    Departs(u64),
    Nothing,
}

impl Change {
    /// Its events, and the ids under which they are appended once only.
    fn news(&self, node: NodeId, fact: &Fact) -> Vec<(String, Update)> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Arrives(news) => news.clone(),
            Self::Departs(revision) => {
                let id = |number| departure_id(node, fact.subscriber, *revision, number);
                fact.events.iter().enumerate().map(|(number, event)| (id(number), event.clone())).collect()
            }
        }
    }
}

/// The events of an arrival, with ids that are the same whenever the same record is announced: a subscriber that was
/// expired meanwhile and recorded again has another record.
fn arrival_news(
    node: NodeId,
    subscriber: SubscriberId,
    created: u64,
    events: &[Update],
) -> Vec<(String, Update)> {
    let id = |number| format!("{node}.{}.{created}.+{number}", subscriber_token(subscriber));
    events.iter().enumerate().map(|(number, event)| (id(number), event.clone())).collect()
}

/// The same on all nodes that announce the end of the same record.
fn departure_id(node: NodeId, subscriber: SubscriberId, revision: u64, number: usize) -> String {
    format!("{node}.{}.{revision}.{number}", subscriber_token(subscriber))
}

#[async_trait]
impl Registry for Subscribers {
    fn lease(&self) -> Duration {
        self.log.link.settings.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        let subject = self.log.streams.lease_subject(&node.to_string());
        // Forgotten if anything goes wrong.
        let mut remembered = self.memory().leases.remove(&node);
        for _ in 0..ATTEMPTS {
            let last = remembered.take();
            let revision = match last {
                Some(last) => Some(last.revision),
                None => self.lease_revision(node).await?,
            };
            if revision.is_none() {
                self.memory().begun.insert(node);
            }
            let sent_at = Instant::now();
            if let Some(renewed) = self.write_lease(&subject, revision.unwrap_or(0)).await? {
                // In a cluster the last lease may end between the leader's look at it and this one.
                let has_ended = last.is_some_and(|last| last.sent_at.elapsed() >= self.lease());
                let mut memory = self.memory();
                memory.leases.insert(node, Renewed { revision: renewed, sent_at });
                // A lease that began with a lost answer has not been reported yet.
                let begun = memory.begun.remove(&node);
                return Ok(if begun || has_ended { Lease::Ended } else { Lease::Kept });
            }
        }
        Err(busy())
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        if !self.is_alive(node).await? {
            return Ok(Lease::Ended);
        }
        let repeats = !self.memory().unfinished.insert(node);
        // Of one subscriber, each fact depends on the one before.
        for chunk in facts::chunks(facts, REQUESTS) {
            self.record_chunk(node, chunk, repeats).await?;
        }
        self.memory().unfinished.remove(&node);
        Ok(Lease::Kept)
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        self.remove_again().await?;
        self.look().await?;
        let mut abandoned = Vec::new();
        for node in self.suspects() {
            if abandoned.len() >= limit {
                break;
            }
            let found = self.subscribers_of(node, limit - abandoned.len()).await?;
            if found.is_empty() {
                self.memory().census.has_none(node);
            }
            abandoned.extend(found);
        }
        Ok(abandoned)
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        if self.is_alive(node).await? {
            return Ok(());
        }
        let mut expired = Vec::new();
        for departure in departures.iter().filter(|fact| !fact.active) {
            expired.push(self.expire_one(node, departure));
        }
        all(expired).await?;
        Ok(())
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        for _ in 0..ATTEMPTS {
            let Some(revision) = self.lease_revision(node).await? else { return Ok(()) };
            // Before the lease ends, so that every other node sees one of the two. The mark may be there already.
            let mark = self.log.streams.lease_subject(&format!("{node}{RESIGNED}"));
            self.write_lease(&mark, 0).await?;
            self.memory().leases.remove(&node);
            let removed = self.log.link.delete(&self.log.streams.leases, revision).await;
            if self.known(removed)? {
                return Ok(());
            }
        }
        Err(busy())
    }

    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        let mut page = Page::default();
        let (mut bytes, mut seen) = (0, 0);
        let subscribers = &self.log.streams.subscribers;
        self.scan(subscribers, None, false, after, |raw| {
            let record = Record::decode(&raw.payload).unwrap_or(Record::Damaged);
            if !matches!(record, Record::Departing { .. })
                && let Some(subscriptions) = self.subscriptions(&record, raw.seq)
                && text.is_none_or(|text| subscriptions.iter().any(|each| each.matcher.as_str() == text))
            {
                page.subscribers.push(subscriptions);
            }
            (bytes, seen) = (bytes + raw.payload.len(), seen + 1);
            let is_full = page.subscribers.len() == limit || bytes >= PAGE_BYTES || seen == PAGE_RECORDS;
            page.next = is_full.then_some(raw.seq);
            !is_full
        })
        .await?;
        Ok(page)
    }
}
