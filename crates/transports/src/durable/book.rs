//! The book of a log: which log it is, how far it has come, and what of it is kept. Written with every commit.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use petasos_hub::transport::{Extent, HUB_EVENTS_MIN};
use petasos_protocol::update::Origin;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::{
    damage::{Damage, Walk},
    records::{Buckets, ORIGINS, sizes_sql},
};
use crate::Retention;

/// As it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Book {
    /// When the log was created, in milliseconds since 1970.
    pub(super) epoch: u64,
    /// Of the hash of ids.
    pub(super) key: (u64, u64),
    /// The newest sequence that was ever given.
    pub(super) head: u64,
    /// Its id.
    pub(super) head_id: Option<String>,
    pub(super) updates: Tally,
    pub(super) events: Tally,
}

/// What there is of one origin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Entries ever.
    pub(super) added: u64,
    /// Entries that are kept, and their bytes.
    pub(super) kept: u64,
    pub(super) bytes: u64,
    /// Places of ids that were left out, as their bucket is damaged.
    #[serde(default)]
    pub(super) skipped: u64,
    /// The newest sequence that readers do not see any more.
    pub(super) trimmed: u64,
}

impl Book {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let mut select = connection.prepare_cached("SELECT checksum, text FROM book WHERE one = 1")?;
        let mut rows = select.query([])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (checksum, text): (i64, String) = (row.get(0)?, row.get(1)?);
        let book = serde_json::from_str(&text).ok().filter(|_| checksum == self::checksum(&text));
        book.map(Some).ok_or_else(|| {
            let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            rusqlite::Error::SqliteFailure(error, Some("the book of the log is damaged".to_owned()))
        })
    }

    pub(super) fn store(&self, connection: &Connection) -> rusqlite::Result<()> {
        let text = serde_json::to_string(self).expect("numbers and strings always serialize");
        let sql = "INSERT INTO book (one, checksum, text) VALUES (1, ?1, ?2)
            ON CONFLICT (one) DO UPDATE SET checksum = excluded.checksum, text = excluded.text";
        connection.prepare_cached(sql)?.execute(params![checksum(&text), text])?;
        Ok(())
    }

    /// The bytes of a kept entry, about.
    pub(super) fn entry_bytes(&self) -> u64 {
        let (kept, bytes) = (self.updates.kept + self.events.kept, self.updates.bytes + self.events.bytes);
        bytes / kept.max(1)
    }

    /// What there is of publishers' updates. `oldest`: when the oldest one was added, in milliseconds since 1970.
    pub(super) fn extent(&self, oldest: Option<i64>) -> Extent {
        let since = oldest.and_then(|at| u64::try_from(at).ok()).map(Duration::from_millis);
        Extent {
            updates: Some(self.updates.kept),
            bytes: Some(self.updates.bytes),
            oldest: since.map(|since| SystemTime::UNIX_EPOCH + since),
        }
    }

    pub(super) fn trimmed(&self) -> [u64; 2] {
        [self.updates.trimmed, self.events.trimmed]
    }

    pub(super) fn buckets(&self) -> [Buckets; 2] {
        [&self.updates, &self.events].map(|tally| Buckets::new(tally.added, tally.kept + tally.skipped))
    }

    /// Lets the next ids go into other parts of the index than the last ones.
    pub(super) fn skip_buckets(&mut self) {
        for tally in [&mut self.updates, &mut self.events] {
            let added = Buckets::next(tally.added);
            tally.skipped += added - tally.added;
            tally.added = added;
        }
    }

    /// Restores the book to `before`, when some entries had not been added. The index keeps the ids of these entries,
    /// which lead nowhere, so the count of ids goes on.
    pub(super) fn take_back(&mut self, before: &Self) {
        let added = [self.updates.added, self.events.added];
        *self = before.clone();
        for (tally, added) in [&mut self.updates, &mut self.events].into_iter().zip(added) {
            tally.skipped += added - tally.added;
            tally.added = added;
        }
    }

    pub(super) fn tally(&mut self, origin: Origin) -> &mut Tally {
        match origin {
            Origin::Publisher => &mut self.updates,
            Origin::Hub => &mut self.events,
        }
    }
}

fn checksum(text: &str) -> i64 {
    i64::from(crc32fast::hash(text.as_bytes()))
}

/// What decides how much of one origin is kept.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    entries_max: u64,
    bytes_max: u64,
    age_max: Option<Duration>,
    /// Entries that bytes do not evict.
    entries_min: u64,
}

impl Bounds {
    pub(super) fn new(origin: Origin, retention: &Retention) -> Self {
        let entries_max = retention.entries_max as u64;
        let bytes_max = retention.bytes_max.unwrap_or(u64::MAX);
        match origin {
            Origin::Publisher => Self { entries_max, bytes_max, age_max: retention.age_max, entries_min: 0 },
            Origin::Hub => {
                let entries_min = if entries_max == 0 { 0 } else { HUB_EVENTS_MIN as u64 };
                let entries_max = entries_max.max(entries_min);
                Self { entries_max, bytes_max, age_max: None, entries_min }
            }
        }
    }
}

/// The oldest entries of one origin, as far as they have been looked up: what is trimmed next.
pub(super) struct Oldest {
    origin: Origin,
    bounds: Bounds,
    sql: String,
    ahead: VecDeque<Item>,
    /// Up to where entries have been looked up.
    looked_up: u64,
    /// Whether those are all there are.
    is_all: bool,
    /// Bytes that were counted out since that was asked last.
    released: u64,
}

struct Item {
    sequence: u64,
    at: i64,
    bytes: u64,
}

/// How many are looked up at once: 24 KiB.
const AHEAD: usize = 1_024;

impl Oldest {
    pub(super) fn new(origin: Origin, retention: &Retention, trimmed: u64) -> Self {
        let bounds = Bounds::new(origin, retention);
        let sql = sizes_sql(origin);
        Self { origin, bounds, sql, ahead: VecDeque::new(), looked_up: trimmed, is_all: false, released: 0 }
    }

    /// Both origins' after `book`.
    pub(super) fn both(retention: &Retention, book: &Book) -> [Self; 2] {
        let [updates, events] = book.trimmed();
        let [publisher, hub] = ORIGINS;
        [Self::new(publisher, retention, updates), Self::new(hub, retention, events)]
    }

    /// An entry was added.
    pub(super) fn add(&mut self, tally: &mut Tally, sequence: u64, at: i64, bytes: u64) {
        tally.added += 1;
        tally.kept += 1;
        tally.bytes += bytes;
        if self.is_all && self.ahead.len() < AHEAD {
            self.ahead.push_back(Item { sequence, at, bytes });
            self.looked_up = sequence;
        } else {
            self.is_all = false;
        }
    }

    /// Counts out what is over a bound. The rows stay where they are.
    pub(super) fn trim(
        &mut self,
        connection: &Connection,
        damage: &Damage,
        tally: &mut Tally,
        (head, now): (u64, i64),
    ) -> rusqlite::Result<()> {
        let Bounds { entries_max, bytes_max, entries_min, .. } = self.bounds;
        loop {
            let age_max = self.bounds.age_max;
            let is_over = tally.kept > entries_max || tally.bytes > bytes_max && tally.kept > entries_min;
            if !is_over && (age_max.is_none() || tally.kept == 0) {
                return Ok(());
            }
            let Some(oldest) = self.peek(connection, damage, head)? else {
                // Damage took what was counted.
                (tally.kept, tally.bytes) = (0, 0);
                return Ok(());
            };
            let is_old = age_max.is_some_and(|age_max| oldest.at <= now.saturating_sub(millis(age_max)));
            if !is_over && !is_old {
                return Ok(());
            }
            let Item { sequence, bytes, .. } = *oldest;
            self.ahead.pop_front();
            tally.kept = tally.kept.saturating_sub(1);
            tally.bytes = tally.bytes.saturating_sub(bytes);
            tally.trimmed = sequence;
            self.released += bytes;
        }
    }

    /// The bytes of what was counted out since this was asked last.
    pub(super) fn take_released(&mut self) -> u64 {
        std::mem::take(&mut self.released)
    }

    /// When the oldest entry was added, in milliseconds since 1970.
    pub(super) fn at(
        &mut self,
        connection: &Connection,
        damage: &Damage,
        head: u64,
    ) -> rusqlite::Result<Option<i64>> {
        Ok(self.peek(connection, damage, head)?.map(|oldest| oldest.at))
    }

    /// When the oldest entry gets too old, if that can happen.
    pub(super) fn expires(
        &mut self,
        connection: &Connection,
        damage: &Damage,
        head: u64,
    ) -> rusqlite::Result<Option<i64>> {
        let Some(age_max) = self.bounds.age_max else { return Ok(None) };
        let oldest = self.peek(connection, damage, head)?;
        Ok(oldest.map(|oldest| oldest.at.saturating_add(millis(age_max))))
    }

    fn peek(
        &mut self,
        connection: &Connection,
        damage: &Damage,
        head: u64,
    ) -> rusqlite::Result<Option<&Item>> {
        if self.ahead.is_empty() && !self.is_all {
            let after = self.looked_up;
            let (ahead, looked_up) = (&mut self.ahead, &mut self.looked_up);
            let visit = |sequence, row: &rusqlite::Row<'_>| {
                let (at, bytes) = (row.get(1)?, row.get::<_, i64>(2)? as u64);
                ahead.push_back(Item { sequence, at, bytes });
                *looked_up = sequence;
                Ok(if ahead.len() < AHEAD { Walk::On } else { Walk::Stop })
            };
            self.is_all = damage.walk(connection, self.origin, &self.sql, (after, head), visit)?;
        }
        Ok(self.ahead.front())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
