//! The subscribers of all nodes: a record for each subscriber, a lease for each node, by the server's clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join5;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use petasos_protocol::subscription::Subscription;
use tokio_postgres::{Row, types::ToSql};

use super::{
    core::{Core, micros},
    failure::Failure,
    link::{Link, Session},
    log::field,
};
use crate::{
    codec,
    shared::facts::{self, Answers, CHUNK_EVENTS},
};

pub(super) struct Subscribers {
    pub(super) core: Arc<Core>,
    pub(super) link: Link,
}

/// Records of one query.
const RECORDS: i64 = 1_024;

#[async_trait]
impl Registry for Subscribers {
    fn lease(&self) -> Duration {
        self.core.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        let (node, lease) = (node.to_string(), micros(self.core.lease));
        let (node, lease) = (&node, &lease);
        let attempts = AtomicUsize::new(0);
        let row = self.link.ask(|session| {
            attempts.fetch_add(1, Ordering::Relaxed);
            async move { Ok(session.client.query_one(&session.statements.renew, &[node, lease]).await?) }
        });
        let lease = facts::lease(field(&row.await?, 0)?);
        // The first attempt may have lost the only answer that says that the lease had ended.
        Ok(if attempts.into_inner() > 1 { Lease::Ended } else { lease })
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        let mut answers = Answers::default();
        for facts in facts::chunks(facts, CHUNK_EVENTS) {
            self.core.pace.turn(self.core.pace.newest(), self.core.timeout).await?;
            let recorded = Facts::new(node, facts);
            let recorded = &recorded;
            let row = self.link.ask(|session: Arc<Session>| async move {
                let Session { client, statements, .. } = &*session;
                let lock: [&(dyn ToSql + Sync); 1] = [&recorded.lock];
                let (lock, parameters) =
                    (client.execute(&statements.lock_node, &lock), recorded.parameters());
                let row =
                    session.transaction(lock, client.query_one(&statements.record, &parameters)).await?;
                has_meta(&row)?;
                Ok(row)
            });
            if answers.has_ended(facts::lease(field(&row.await?, 0)?))? {
                return Ok(Lease::Ended);
            }
            self.core.has_appended(recorded.events.len());
        }
        Ok(Lease::Kept)
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        let mut abandoned = Vec::new();
        let (mut node, mut subscriber) = (String::new(), String::new());
        loop {
            let (after_node, after) = (&node, &subscriber);
            let rows = self.link.ask(|session| async move {
                let statement = &session.statements.abandoned;
                Ok(session.client.query(statement, &[after_node, after, &RECORDS]).await?)
            });
            let rows = rows.await?;
            for row in &rows {
                let Some(found) = NodeId::parse(field(row, 0)?) else { continue };
                let subscriptions = self.subscriber(field(row, 2)?, field(row, 3)?);
                abandoned.extend(subscriptions.map(|subscriptions| Abandoned { node: found, subscriptions }));
                if abandoned.len() >= limit {
                    abandoned.truncate(limit);
                    return Ok(abandoned);
                }
            }
            match rows.last() {
                Some(last) if rows.len() as i64 == RECORDS => {
                    (node, subscriber) = (field(last, 0)?, field(last, 1)?);
                }
                _ => return Ok(abandoned),
            }
        }
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        for facts in facts::chunks(departures, CHUNK_EVENTS) {
            self.core.pace.turn(self.core.pace.newest(), self.core.timeout).await?;
            let recorded = Facts::new(node, facts);
            let recorded = &recorded;
            let expired = self.link.ask(|session: Arc<Session>| async move {
                let Session { client, statements, .. } = &*session;
                let (lock, end): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) =
                    ([&recorded.lock], [&recorded.node]);
                let parameters = recorded.parameters();
                // Polled in this order, as in `Session::transaction`.
                let (begun, locked, expired, ended, committed) = join5(
                    client.batch_execute("BEGIN"),
                    client.execute(&statements.lock_node, &lock),
                    client.query_one(&statements.expire, &parameters),
                    client.execute(&statements.end_lease, &end),
                    client.batch_execute("COMMIT"),
                )
                .await;
                begun?;
                locked?;
                let row = expired?;
                ended?;
                committed?;
                has_meta(&row)
            });
            expired.await?;
            self.core.has_appended(recorded.events.len());
        }
        Ok(())
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        let node = node.to_string();
        let node = &node;
        let resigned = self.link.ask(|session| async move {
            Ok(session.client.execute(&session.statements.resign, &[node]).await?)
        });
        resigned.await.map(drop)
    }

    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        let hashes = text.map(|text| vec![hash(text)]);
        let (after, limit) = (after.cast_signed(), limit as i64);
        let (hashes, after, limit) = (&hashes, &after, &limit);
        let rows = self.link.ask(|session: Arc<Session>| async move {
            let Session { client, statements, .. } = &*session;
            // Indexes of arrays are used in no other way.
            let (first, parameters) =
                (client.execute(&statements.use_bitmaps, &[]), [hashes as &(dyn ToSql + Sync), after, limit]);
            session.transaction(first, client.query(&statements.list, &parameters)).await
        });
        let mut page = Page::default();
        let rows = rows.await?;
        for row in &rows {
            page.subscribers.extend(self.subscriber(field(row, 0)?, field(row, 1)?));
        }
        if let Some(last) = rows.last().filter(|_| rows.len() as i64 == *limit) {
            let number: i64 = field(last, 0)?;
            page.next = Some(number.cast_unsigned());
        }
        Ok(page)
    }
}

impl Subscribers {
    /// The subscriptions of the record with that number. `None`: the record is damaged.
    fn subscriber(&self, number: i64, record: &[u8]) -> Option<Arc<[Subscription]>> {
        self.core.decoder.subscriber(&number, codec::decode_subscriber(record))
    }
}

/// Facts as the statements take them.
struct Facts {
    node: String,
    lock: i32,
    active: Vec<bool>,
    subscribers: Vec<String>,
    records: Vec<Vec<u8>>,
    texts: Vec<String>,
    /// The number of each event's fact, from 1.
    facts: Vec<i64>,
    ids: Vec<Vec<u8>>,
    events: Vec<Vec<u8>>,
}

impl Facts {
    fn new(node: NodeId, facts: &[Fact]) -> Self {
        let node = node.to_string();
        let lock = crc32fast::hash(node.as_bytes()).cast_signed();
        let events =
            || facts.iter().zip(1..).flat_map(|(fact, number)| fact.events.iter().map(move |e| (number, e)));
        Self {
            active: facts.iter().map(|fact| fact.active).collect(),
            subscribers: facts.iter().map(|fact| fact.subscriber.to_string()).collect(),
            records: facts
                .iter()
                .map(|fact| codec::encode_subscriber(&fact.subscriptions).into_bytes())
                .collect(),
            texts: facts.iter().map(|fact| hashes(&fact.subscriptions)).collect(),
            facts: events().map(|(number, _)| number).collect(),
            ids: events().map(|(_, event)| event.id().as_str().as_bytes().to_vec()).collect(),
            events: events().map(|(_, event)| codec::encode(event)).collect(),
            node,
            lock,
        }
    }

    fn parameters(&self) -> [&(dyn ToSql + Sync); 8] {
        let Self { node, lock: _, active, subscribers, records, texts, facts, ids, events } = self;
        [node, active, subscribers, records, texts, facts, ids, events]
    }
}

/// The hashes of what a subscriber's matchers say, as the text of an array.
fn hashes(subscriptions: &[Subscription]) -> String {
    let hashes: Vec<_> = subscriptions.iter().map(|each| hash(each.matcher.as_str()).to_string()).collect();
    format!("{{{}}}", hashes.join(","))
}

/// Texts may be longer than an index takes; what is found by a hash is compared.
fn hash(text: &str) -> i32 {
    crc32fast::hash(text.as_bytes()).cast_signed()
}

/// Nothing was recorded if the meta row was missing.
fn has_meta(row: &Row) -> Result<(), Failure> {
    match row.try_get(2)? {
        true => Ok(()),
        false => Err(Failure::new("the log's meta row is gone")),
    }
}
