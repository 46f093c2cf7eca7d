//! Entries as rows: how they are sealed, written, read as pages, and found by id.

use std::{hash::Hasher, sync::Arc};

use petasos_hub::transport::{Entry, Position};
use petasos_protocol::{
    topic::HubUrl,
    update::{Origin, Update},
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use super::{
    damage::{Damage, Walk},
    failure::{Failure, is_damage},
    link::table,
};
use crate::codec;

/// What reading needs beside a connection.
pub(super) struct Records {
    pub(super) epoch: u64,
    /// Of the hash of ids, so that nobody outside can make many alike.
    pub(super) key: (u64, u64),
    pub(super) hub: HubUrl,
    pub(super) damage: Damage,
}

/// Where a page begins and what it may hold.
#[derive(Clone, Copy)]
pub(super) struct Span {
    /// The first position that it does not hold, of each origin: updates, events.
    pub(super) after: [u64; 2],
    /// After this one every position has its entry in one of the tables.
    pub(super) dense_after: u64,
    /// The last one that it may hold.
    pub(super) through: u64,
    /// At most.
    pub(super) entries: usize,
}

/// What a page holds.
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    /// Everything readable up to here is in it.
    pub(super) through: u64,
}

/// Where a bucket of ids begins and ends, by how many entries of the origin there were before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The chunk that has not been folded into the last one.
    chunk: Option<u64>,
}

/// The bytes of one page, so that a task which holds one pins little.
pub(super) const PAGE_BYTES: usize = 256 * 1024;

/// Ids in one bucket, as a power of two: 2 MB of pages, which stay in memory while they are filled. Each bucket costs a
/// look-up a few microseconds, a million updates have eight.
const BUCKET_BITS: u32 = 17;

/// Ids that wait in a chunk, as a power of two, before they are folded into their bucket, in order. Ids come at random, so
/// each one that went into the bucket by itself would change a page of its own, with every commit; a chunk has 20 pages.
/// Measured with 256 appenders on disk: 1.5 times as many appends.
const CHUNK_BITS: u32 = 12;

/// The order in which arrays by origin are kept.
pub(super) const ORIGINS: [Origin; 2] = [Origin::Publisher, Origin::Hub];

impl Buckets {
    /// How many entries were added when the bucket after that of the `added`th begins.
    pub(super) fn next(added: u64) -> u64 {
        ((added >> BUCKET_BITS) + 1) << BUCKET_BITS
    }

    /// Of an origin of which `added` entries were ever added and `kept` are still there.
    pub(super) fn new(added: u64, kept: u64) -> Self {
        Self {
            first: added.saturating_sub(kept) >> BUCKET_BITS,
            last: added >> BUCKET_BITS,
            chunk: added.checked_sub(1).map(|last| last >> CHUNK_BITS),
        }
    }
}

/// How a bucket is called in the table, which both origins share.
pub(super) fn bucket_name(origin: Origin, bucket: u64) -> i64 {
    (bucket << 1) as i64 | i64::from(origin == Origin::Hub)
}

/// How a chunk is called there.
fn chunk_name(origin: Origin, chunk: u64) -> i64 {
    -1 - bucket_name(origin, chunk)
}

/// The first sequence of an origin that has a row. `None`: there is none, or it cannot be read.
pub(super) fn first(connection: &Connection, origin: Origin) -> Option<u64> {
    let sql = format!("SELECT min(seq) FROM {}", table(origin));
    let first: rusqlite::Result<Option<i64>> = connection.query_row(&sql, [], |row| row.get(0));
    first.ok().flatten().map(|first| first.max(1) as u64)
}

impl Records {
    pub(super) fn position(&self, sequence: u64) -> Position {
        Position { epoch: self.epoch, sequence }
    }

    /// A position of another epoch counts as before everything.
    pub(super) fn sequence(&self, position: Position) -> u64 {
        if position.epoch == self.epoch { position.sequence } else { 0 }
    }

    /// Adds a row for an update, which is the `added`th of its origin, and its id.
    pub(super) fn insert(
        &self,
        connection: &Connection,
        update: &Update,
        record: &[u8],
        (sequence, at, added): (u64, i64, u64),
    ) -> Result<(), Failure> {
        let origin = update.origin();
        let sql = match origin {
            Origin::Publisher => "INSERT INTO updates (seq, at, seal, record) VALUES (?1, ?2, ?3, ?4)",
            Origin::Hub => "INSERT INTO events (seq, at, seal, record) VALUES (?1, ?2, ?3, ?4)",
        };
        let mut insert = connection.prepare_cached(sql)?;
        insert.execute(params![sequence as i64, at, seal(sequence, at, record), record])?;
        self.index(connection, update, sequence, added).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => Failure::Index(format!("the index of ids: {error}").into()),
            _ => error.into(),
        })
    }

    fn index(
        &self,
        connection: &Connection,
        update: &Update,
        sequence: u64,
        added: u64,
    ) -> rusqlite::Result<()> {
        let origin = update.origin();
        let chunk = added >> CHUNK_BITS;
        if let Some(last) = chunk.checked_sub(1)
            && chunk << CHUNK_BITS == added
        {
            let (chunk, bucket) = (chunk_name(origin, last), bucket_name(origin, (added - 1) >> BUCKET_BITS));
            connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO ids (bucket, hash, seq)
                        SELECT ?2, hash, seq FROM ids WHERE bucket = ?1 ORDER BY hash, seq",
                )?
                .execute([chunk, bucket])?;
            connection.prepare_cached("DELETE FROM ids WHERE bucket = ?1")?.execute([chunk])?;
        }
        // The same row may be there already, of an update that was taken back.
        connection
            .prepare_cached("INSERT OR IGNORE INTO ids (bucket, hash, seq) VALUES (?1, ?2, ?3)")?
            .execute([chunk_name(origin, chunk), self.hash(update.id().as_str()), sequence as i64])?;
        Ok(())
    }

    /// The entries of a span, in order, as many as a page may have.
    pub(super) fn page(&self, connection: &Connection, span: Span) -> rusqlite::Result<Found> {
        let Found { mut entries, mut through } = self.collect(connection, span)?;
        // A page of the file in another one's place may have led past entries that are found when they are sought.
        for (before, end) in holes(&entries, span.dense_after, through) {
            let sought = Span { after: [before; 2], dense_after: before, through: end, entries: usize::MAX };
            entries.extend(self.collect(connection, sought)?.entries);
        }
        entries.sort_unstable_by_key(|entry| entry.position);
        entries.dedup_by_key(|entry| entry.position);
        let mut bytes = 0;
        let is_over = |entry: &Entry| {
            let over = bytes >= PAGE_BYTES;
            bytes += entry.update.size();
            over
        };
        let fitting = entries.iter().position(is_over).unwrap_or(entries.len()).min(span.entries);
        if fitting < entries.len() {
            entries.truncate(fitting);
            through = entries.last().map_or(through, |last| last.position.sequence);
        }
        Ok(Found { entries, through })
    }

    /// The entries of a span from both tables, in order, as many as either may add to a page.
    fn collect(&self, connection: &Connection, span: Span) -> rusqlite::Result<Found> {
        let mut through = span.through;
        let mut entries = Vec::new();
        for (origin, after) in ORIGINS.into_iter().zip(span.after) {
            let (mut count, mut bytes) = (0, 0);
            let sql = match origin {
                Origin::Publisher => {
                    "SELECT seq, at, seal, record FROM updates WHERE seq > ?1 AND seq <= ?2 ORDER BY seq"
                }
                Origin::Hub => {
                    "SELECT seq, at, seal, record FROM events WHERE seq > ?1 AND seq <= ?2 ORDER BY seq"
                }
            };
            let mut reached = 0;
            let visit = |sequence, row: &rusqlite::Row<'_>| {
                let (at, sealed, record) = (row.get(1)?, row.get::<_, i64>(2)?, row.get_ref(3)?.as_blob()?);
                if let Some(update) = self.open(origin, sequence, at, sealed, record) {
                    count += 1;
                    bytes += update.size();
                    entries.push(Entry::now(self.position(sequence), Arc::new(update)));
                }
                reached = sequence;
                Ok(if count < span.entries && bytes < PAGE_BYTES { Walk::On } else { Walk::Stop })
            };
            if !self.damage.walk(connection, origin, sql, (after, span.through), visit)? {
                through = through.min(reached);
            }
        }
        entries.sort_unstable_by_key(|entry| entry.position);
        entries.retain(|entry| entry.position.sequence <= through);
        Ok(Found { entries, through })
    }

    /// The update in a row, if it is what was stored there.
    fn open(&self, origin: Origin, sequence: u64, at: i64, sealed: i64, record: &[u8]) -> Option<Update> {
        let decoded = match seal(sequence, at, record) == sealed {
            true => codec::decode(record, &self.hub).map_err(|damaged| damaged.to_string()),
            false => Err("the checksum of its place does not fit".to_owned()),
        };
        let decoded = decoded.and_then(|update| match update.origin() == origin {
            true => Ok(update),
            false => Err("it is in the wrong table".to_owned()),
        });
        decoded.inspect_err(|reason| self.damage.report(Some(origin), sequence..=sequence, reason)).ok()
    }

    /// The earliest entry with that id after `trimmed`. A damaged index knows nothing.
    pub(super) fn locate(
        &self,
        connection: &Connection,
        id: &str,
        trimmed: [u64; 2],
        buckets: [Buckets; 2],
    ) -> rusqlite::Result<Option<u64>> {
        let mut earliest = None;
        for ((origin, trimmed), buckets) in ORIGINS.into_iter().zip(trimmed).zip(buckets) {
            let look = |name| match self.locate_in(connection, id, (origin, name), trimmed) {
                Err(error) if is_damage(&error) => {
                    self.damage.report_thing("index of ids", &error.to_string());
                    Ok(None)
                }
                found => found,
            };
            // The chunk is the last, and looked into first: it may be folded into a bucket meanwhile.
            let mut found = match buckets.chunk {
                Some(chunk) => look(chunk_name(origin, chunk))?,
                None => None,
            };
            for bucket in buckets.first..=buckets.last {
                if let Some(earlier) = look(bucket_name(origin, bucket))? {
                    found = Some(earlier);
                    break;
                }
            }
            earliest = earliest.into_iter().chain(found).min();
        }
        Ok(earliest)
    }

    fn locate_in(
        &self,
        connection: &Connection,
        id: &str,
        (origin, name): (Origin, i64),
        trimmed: u64,
    ) -> rusqlite::Result<Option<u64>> {
        let hash = self.hash(id);
        let mut index = connection.prepare_cached(
            "SELECT seq FROM ids WHERE bucket = ?1 AND hash = ?2 AND seq > ?3 ORDER BY seq",
        )?;
        let mut places = index.query([name, hash, trimmed as i64])?;
        while let Some(place) = places.next()? {
            let sequence = place.get::<_, i64>(0)? as u64;
            if self.has_id(connection, origin, sequence, id)? {
                return Ok(Some(sequence));
            }
        }
        Ok(None)
    }

    /// Whether the entry has that id, of which the hash fits. What is damaged has it: 48 bits of a keyed hash do not
    /// fit by chance, and a subscriber with that cursor wants what came after it.
    fn has_id(
        &self,
        connection: &Connection,
        origin: Origin,
        sequence: u64,
        id: &str,
    ) -> rusqlite::Result<bool> {
        let sql = match origin {
            Origin::Publisher => "SELECT at, seal, record FROM updates WHERE seq = ?1",
            Origin::Hub => "SELECT at, seal, record FROM events WHERE seq = ?1",
        };
        let mut select = connection.prepare_cached(sql)?;
        let row = select.query_row([sequence as i64], |row| {
            let (at, sealed, record) = (row.get(0)?, row.get(1)?, row.get_ref(2)?.as_blob()?);
            Ok(self
                .open(origin, sequence, at, sealed, record)
                .is_none_or(|update| update.id().as_str() == id))
        });
        match row.optional() {
            Err(error) if is_damage(&error) => {
                self.damage.report(Some(origin), sequence..=sequence, &error.to_string());
                Ok(true)
            }
            row => Ok(row?.unwrap_or(false)),
        }
    }

    /// 48 bits, which take less room in an index than 64.
    fn hash(&self, id: &str) -> i64 {
        #[expect(deprecated, reason = "the only hasher of the standard library whose algorithm is promised")]
        let mut hasher = std::hash::SipHasher::new_with_keys(self.key.0, self.key.1);
        hasher.write(id.as_bytes());
        (hasher.finish() >> 16) as i64
    }
}

/// Where positions are missing between `after` and `through`: before what, and up to what.
fn holes(entries: &[Entry], after: u64, through: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut last = after;
    let sequences = entries.iter().map(|entry| entry.position.sequence).filter(|sequence| *sequence > after);
    for sequence in sequences.chain([through.saturating_add(1)]) {
        if sequence > last.saturating_add(1) {
            holes.push((last, sequence - 1));
        }
        last = last.max(sequence);
    }
    holes
}

/// Binds a record to its place and time: its own checksum covers neither.
fn seal(sequence: u64, at: i64, record: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&at.to_le_bytes());
    hasher.update(&record[..record.len().min(codec::HEAD)]);
    i64::from(hasher.finalize())
}

/// How the rows of an origin are asked for their places and sizes alone.
pub(super) fn sizes_sql(origin: Origin) -> String {
    format!("SELECT seq, at, length(record) FROM {} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq", table(origin))
}
