//! Who is subscribed, in the same file as the log: a fact and its events are one commit.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use petasos_protocol::subscription::Subscription;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Durable, leases::Leases, link::is_damage, records::Records, writer};
use crate::{codec, shared::facts::Chunks};

/// The facts of one node, as they are recorded.
pub(super) struct Facts {
    pub(super) node: NodeId,
    /// They are recorded for a node that is gone.
    pub(super) is_expiry: bool,
    pub(super) facts: Vec<Pending>,
}

/// A fact and how it is written down.
pub(super) struct Pending {
    subscriber: String,
    is_active: bool,
    record: String,
    texts: Vec<String>,
    pub(super) events: Vec<writer::Pending>,
}

impl Pending {
    fn new(fact: &Fact) -> Self {
        let event = |update: &petasos_protocol::update::Update| writer::Pending {
            record: codec::encode(update),
            update: Arc::new(update.clone()),
        };
        Self {
            subscriber: fact.subscriber.to_string(),
            is_active: fact.active,
            record: codec::encode_subscriber(&fact.subscriptions),
            texts: fact.subscriptions.iter().map(|each| each.matcher.as_str().to_owned()).collect(),
            events: fact.events.iter().map(event).collect(),
        }
    }

    fn bytes(&self) -> usize {
        self.record.len() + self.events.iter().map(|event| event.record.len()).sum::<usize>()
    }
}

/// Within a transaction: records a fact. True: it is new.
pub(super) fn apply(connection: &Connection, node: NodeId, fact: &Pending) -> rusqlite::Result<bool> {
    let node = node.to_string();
    let arrival: Option<(i64, String)> = connection
        .prepare_cached("SELECT arrival, node FROM subscribers WHERE subscriber = ?1")?
        .query_row([&fact.subscriber], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match arrival {
        None if fact.is_active => {
            let sql = "INSERT INTO subscribers (subscriber, node, record) VALUES (?1, ?2, ?3)";
            connection.prepare_cached(sql)?.execute(params![fact.subscriber, node, fact.record])?;
            let arrival = connection.last_insert_rowid();
            let mut insert = connection
                .prepare_cached("INSERT OR IGNORE INTO matchers (text, arrival) VALUES (?1, ?2)")?;
            for text in &fact.texts {
                insert.execute(params![text, arrival])?;
            }
            Ok(true)
        }
        Some((arrival, of)) if !fact.is_active && of == node => {
            connection.prepare_cached("DELETE FROM subscribers WHERE arrival = ?1")?.execute([arrival])?;
            let mut delete =
                connection.prepare_cached("DELETE FROM matchers WHERE text = ?1 AND arrival = ?2")?;
            for text in &fact.texts {
                delete.execute(params![text, arrival])?;
            }
            Ok(true)
        }
        // Its node was taken for dead, and is another one now.
        Some((arrival, of)) if fact.is_active && of != node => {
            connection
                .prepare_cached("UPDATE subscribers SET node = ?1 WHERE arrival = ?2")?
                .execute(params![node, arrival])?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

#[async_trait]
impl Registry for Durable {
    fn lease(&self) -> Duration {
        self.leases.length()
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        Ok(self.leases.renew(node))
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        self.record_facts(node, false, facts).await
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        let (records, leases) = (Arc::clone(&self.shared.records), Arc::clone(&self.leases));
        self.shared.readers.run(move |connection| abandoned(connection, &records, &leases, limit)).await
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        self.record_facts(node, true, departures).await.map(drop)
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        self.leases.resign(node);
        Ok(())
    }

    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        let (records, text) = (Arc::clone(&self.shared.records), text.map(str::to_owned));
        let read = move |connection: &Connection| page(connection, &records, text.as_deref(), after, limit);
        self.shared.readers.run(read).await
    }
}

/// Facts that one commit takes, so that others do not wait for a whole crowd.
const FACTS_MAX: usize = 256;

/// Bytes of records after which a page of subscribers ends: one read of the disk for each page stays short.
const PAGE_BYTES: usize = 256 * 1024;

impl Durable {
    async fn record_facts(
        &self,
        node: NodeId,
        is_expiry: bool,
        facts: &[Fact],
    ) -> Result<Lease, TransportError> {
        if facts.is_empty() {
            return Ok(if self.leases.is_live(node) { Lease::Kept } else { Lease::Ended });
        }
        let mut chunks = Chunks::default();
        for facts in facts.chunks(FACTS_MAX) {
            let facts: Vec<_> = facts.iter().map(Pending::new).collect();
            let bytes = facts.iter().map(Pending::bytes).sum();
            let ask =
                |room, reply| writer::Job::Record { facts: Facts { node, is_expiry, facts }, room, reply };
            let lease = self.ask(bytes, ask).await?;
            if !is_expiry && chunks.has_ended(lease)? {
                return Ok(Lease::Ended);
            }
        }
        Ok(Lease::Kept)
    }
}

fn abandoned(
    connection: &Connection,
    records: &Records,
    leases: &Leases,
    limit: usize,
) -> rusqlite::Result<Vec<Abandoned>> {
    let mut abandoned = Vec::new();
    let mut nodes =
        connection.prepare_cached("SELECT node FROM subscribers WHERE node > ?1 ORDER BY node LIMIT 1")?;
    let mut select =
        connection.prepare_cached("SELECT record FROM subscribers WHERE node = ?1 ORDER BY arrival")?;
    let mut last = String::new();
    while let Some(name) = nodes.query_row([&last], |row| row.get::<_, String>(0)).optional()? {
        // A name that cannot be read belongs to no live node, and cannot be expired either.
        if let Some(node) = NodeId::parse(&name).filter(|node| !leases.is_live(*node)) {
            let mut rows = select.query([&name])?;
            while abandoned.len() < limit
                && let Some(row) = rows.next()?
            {
                if let Some(subscriptions) = open(records, row.get_ref(0)?.as_str()?) {
                    abandoned.push(Abandoned { node, subscriptions });
                }
            }
        }
        last = name;
    }
    Ok(abandoned)
}

fn page(
    connection: &Connection,
    records: &Records,
    text: Option<&str>,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Page> {
    let mut page = Page::default();
    let (mut rows_read, mut bytes, mut last) = (0, 0, 0_i64);
    let mut walk = || {
        let mut statement = connection.prepare_cached(match text {
            None => "SELECT arrival, record FROM subscribers WHERE arrival > ?1 ORDER BY arrival",
            Some(_) => {
                "SELECT arrival, record FROM matchers JOIN subscribers USING (arrival)
                 WHERE arrival > ?1 AND text = ?2 ORDER BY arrival"
            }
        })?;
        let mut rows = match text {
            None => statement.query(params![after.cast_signed()])?,
            Some(text) => statement.query(params![after.cast_signed(), text])?,
        };
        while rows_read < limit
            && bytes < PAGE_BYTES
            && let Some(row) = rows.next()?
        {
            last = row.get(0)?;
            let record = row.get_ref(1)?.as_str()?;
            (rows_read, bytes) = (rows_read + 1, bytes + record.len());
            page.subscribers.extend(open(records, record));
        }
        Ok::<_, rusqlite::Error>(())
    };
    match walk() {
        Err(error) if is_damage(&error) => {
            records.damage.report_thing("list of subscribers", &error.to_string());
        }
        other => {
            other?;
            page.next = (rows_read == limit || bytes >= PAGE_BYTES).then_some(last.cast_unsigned());
        }
    }
    Ok(page)
}

fn open(records: &Records, record: &str) -> Option<Arc<[Subscription]>> {
    let subscriptions = codec::decode_subscriber(record);
    let report = |damaged: &codec::Damaged| {
        records.damage.report_thing("record of a subscriber", &damaged.to_string());
    };
    subscriptions.inspect_err(report).ok()
}
