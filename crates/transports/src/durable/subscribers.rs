//! The tables of subscribers, in the same file as the log: a fact and its events are one commit.

use std::sync::Arc;

use petasos_hub::registry::{Abandoned, NodeId, Page};
use petasos_protocol::subscription::Subscription;
use rusqlite::{Connection, OptionalExtension, params};

use super::{failure::is_damage, jobs::RecordedFact, leases::Leases, records::Records};
use crate::codec;

/// Bytes of records after which a page of subscribers ends: one read of the disk for each page stays short.
const PAGE_BYTES: usize = 256 * 1024;

/// Within a transaction: records a fact. True: it is new.
pub(super) fn apply(connection: &Connection, node: NodeId, fact: &RecordedFact) -> rusqlite::Result<bool> {
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
        Some((arrival, owner)) if !fact.is_active && owner == node => {
            connection.prepare_cached("DELETE FROM subscribers WHERE arrival = ?1")?.execute([arrival])?;
            let mut delete =
                connection.prepare_cached("DELETE FROM matchers WHERE text = ?1 AND arrival = ?2")?;
            for text in &fact.texts {
                delete.execute(params![text, arrival])?;
            }
            Ok(true)
        }
        // Its node was taken for dead, and is another one now.
        Some((arrival, owner)) if fact.is_active && owner != node => {
            connection
                .prepare_cached("UPDATE subscribers SET node = ?1 WHERE arrival = ?2")?
                .execute(params![node, arrival])?;
            Ok(false)
        }
        _ => Ok(false),
    }
}

/// The nodes that have recorded subscribers.
pub(super) fn nodes(connection: &Connection) -> rusqlite::Result<Vec<NodeId>> {
    let mut select = connection.prepare("SELECT DISTINCT node FROM subscribers")?;
    let names = select.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.collect::<rusqlite::Result<Vec<_>>>()?.iter().filter_map(|name| NodeId::parse(name)).collect())
}

/// Subscribers of nodes that have no lease, at most `limit`.
pub(super) fn abandoned(
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
        // No living node has a name that cannot be read, and no other node can expire its subscribers.
        if let Some(node) = NodeId::parse(&name).filter(|node| !leases.is_live(*node)) {
            let mut rows = select.query([&name])?;
            while abandoned.len() < limit
                && let Some(row) = rows.next()?
            {
                if let Some(subscriptions) = open(records, row.get_ref(0)?.as_bytes()?) {
                    abandoned.push(Abandoned { node, subscriptions });
                }
            }
        }
        last = name;
    }
    Ok(abandoned)
}

/// A page of the subscribers, as [`petasos_hub::registry::Registry::page`] has it.
pub(super) fn page(
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
            let record = row.get_ref(1)?.as_bytes()?;
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

fn open(records: &Records, record: &[u8]) -> Option<Arc<[Subscription]>> {
    let subscriptions = codec::decode_subscriber(record);
    let report = |damaged: &codec::Damaged| {
        records.damage.report_thing("record of a subscriber", &damaged.to_string());
    };
    subscriptions.inspect_err(report).ok()
}
