//! Work that can be put off: deleting what was trimmed, in stretches so that whole pages become free, and giving room back
//! to the file system. None of it has to be on disk at once: it rides on the next commit.

use petasos_protocol::update::Origin;
use rusqlite::{Connection, OptionalExtension};

use super::{
    damage::Walk,
    failure::Failure,
    link::table,
    log::{Log, index},
    records::{ORIGINS, bucket_name, sizes_sql},
};

/// How far tidying has come.
pub(super) struct Chores {
    /// Up to where rows have been deleted, by origin.
    deleted: [u64; 2],
    /// The first bucket of ids that may be there, by origin.
    first_bucket: [u64; 2],
    /// Bytes of trimmed rows that are still there, about.
    bytes: u64,
    /// Free pages are being given back.
    is_shrinking: bool,
    /// The next step need not wait for a tick.
    is_waiting: bool,
    commits: u32,
}

/// What is worth a transaction, after which publishers wait a little longer.
const ROWS_MIN: u64 = 1_024;
const BYTES_MIN: u64 = 4 * 1024 * 1024;

/// What one transaction deletes at most.
const ROWS_MAX: usize = 2_048;
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Free pages stay in the file for what is appended next, unless they are a quarter of it and 16 MiB; they are given
/// back until they are an eighth. Fewer and all would move for every change of the load.
const FREE_PAGES_MIN: u64 = 4_096;
const FREE_PART_MAX: u64 = 4;
const FREE_PART_LEFT: u64 = 8;

/// Pages that one step gives back: some milliseconds.
const PAGES_OF_A_STEP: u64 = 256;

/// While nobody ever pauses: commits between two such steps.
const COMMITS_OF_A_STEP: u32 = 16;

/// Steps that free room on a full disk before appending is tried again.
const STEPS_MAX: usize = 256;

impl Chores {
    pub(super) fn new(connection: &Connection) -> Self {
        let first: rusqlite::Result<Option<i64>> =
            connection.query_row("SELECT min(bucket) FROM ids WHERE bucket >= 0", [], |row| row.get(0));
        // Damage is reported when it is read.
        let first = first.ok().flatten().unwrap_or(0) as u64 >> 1;
        Self {
            deleted: [0, 0],
            first_bucket: [first; 2],
            bytes: 0,
            is_shrinking: false,
            is_waiting: true,
            commits: 0,
        }
    }

    /// Whether there is something to do while nobody asks for anything.
    pub(super) fn are_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Nothing more until time has passed.
    pub(super) fn rest(&mut self) {
        self.is_waiting = false;
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, connection: &Connection, log: &Log) {
        self.is_waiting = self.could_delete(log);
        if let Ok((free, all)) = pages(connection) {
            self.is_shrinking |= free > (all / FREE_PART_MAX).max(FREE_PAGES_MIN);
            self.is_waiting |= self.is_shrinking;
        }
    }

    /// After a commit that trimmed so many bytes.
    pub(super) fn after_commit(
        &mut self,
        connection: &Connection,
        log: &Log,
        released: u64,
    ) -> Result<(), Failure> {
        self.bytes += released;
        self.commits = self.commits.wrapping_add(1);
        if self.rows(log) >= ROWS_MIN || self.bytes >= BYTES_MIN {
            self.delete(connection, log)?;
        } else if self.is_shrinking && self.commits.is_multiple_of(COMMITS_OF_A_STEP) {
            self.shrink(connection)?;
        }
        Ok(())
    }

    /// One step while nobody asks for anything.
    pub(super) fn step(&mut self, connection: &Connection, log: &Log) -> Result<(), Failure> {
        if self.could_delete(log) {
            self.delete(connection, log)?;
        } else if self.is_shrinking {
            self.shrink(connection)?;
        }
        self.is_waiting = self.is_shrinking || self.could_delete(log);
        Ok(())
    }

    /// Everything that can be deleted now.
    pub(super) fn all(&mut self, connection: &Connection, log: &Log) -> Result<(), Failure> {
        for _ in 0..STEPS_MAX {
            if !self.could_delete(log) {
                break;
            }
            self.delete(connection, log)?;
        }
        Ok(())
    }

    /// Whether deleting would free anything.
    pub(super) fn could_delete(&self, log: &Log) -> bool {
        self.rows(log) > 0 || self.has_old_buckets(log)
    }

    /// How many rows could be deleted, at most.
    fn rows(&self, log: &Log) -> u64 {
        let targets = log.deletable();
        targets.into_iter().zip(self.deleted).map(|(target, deleted)| target.saturating_sub(deleted)).sum()
    }

    fn has_old_buckets(&self, log: &Log) -> bool {
        let buckets = log.lock().buckets;
        buckets.into_iter().zip(self.first_bucket).any(|(buckets, first)| first < buckets.first)
    }

    fn delete(&mut self, connection: &Connection, log: &Log) -> Result<(), Failure> {
        let targets = log.deletable();
        self.bytes = 0;
        for (origin, target) in ORIGINS.into_iter().zip(targets) {
            let deleted = self.deleted[index(origin)];
            if deleted < target {
                // Said before it is done: a follower that lags must not take what is left for all there was.
                log.lock().deleted[index(origin)] = target;
                let end = end_of_stretch(connection, log, origin, (deleted, target))?;
                let sql = format!("DELETE FROM {} WHERE seq > ?1 AND seq <= ?2", table(origin));
                let result = unsynced(connection, |connection| {
                    connection.prepare_cached(&sql)?.execute([deleted as i64, end as i64])
                });
                past_damage(log, "what has been trimmed", result)?;
                self.deleted[index(origin)] = end;
            }
            let first = log.lock().buckets[index(origin)].first;
            let bucket = &mut self.first_bucket[index(origin)];
            if *bucket < first {
                let is_gone =
                    unsynced(connection, |connection| delete_ids(connection, bucket_name(origin, *bucket)));
                if past_damage(log, "index of ids", is_gone)?.unwrap_or(true) {
                    *bucket += 1;
                }
            }
        }
        Ok(())
    }

    fn shrink(&mut self, connection: &Connection) -> Result<(), Failure> {
        let (free, all) = pages(connection)?;
        if free <= all / FREE_PART_LEFT {
            self.is_shrinking = false;
            return Ok(());
        }
        // Where nothing moves, nothing will.
        self.is_shrinking = false;
        relaxed(connection, |connection| {
            connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_OF_A_STEP})"))
        })?;
        self.is_shrinking = pages(connection)?.0 < free;
        Ok(())
    }
}

/// Up to where one transaction deletes.
fn end_of_stretch(
    connection: &Connection,
    log: &Log,
    origin: Origin,
    (after, through): (u64, u64),
) -> Result<u64, Failure> {
    let (mut rows, mut bytes, mut end) = (0, 0, through);
    let visit = |sequence, row: &rusqlite::Row<'_>| {
        rows += 1;
        bytes += row.get::<_, i64>(2)? as u64;
        if rows < ROWS_MAX && bytes < BYTES_MAX {
            return Ok(Walk::On);
        }
        end = sequence;
        Ok(Walk::Stop)
    };
    log.records.damage.walk(connection, origin, &sizes_sql(origin), (after, through), visit)?;
    Ok(end)
}

/// Deletes a part of a bucket. True: it was the last.
fn delete_ids(connection: &Connection, bucket: i64) -> rusqlite::Result<bool> {
    let end: Option<i64> = connection
        .prepare_cached("SELECT hash FROM ids WHERE bucket = ?1 ORDER BY hash LIMIT 1 OFFSET ?2")?
        .query_row([bucket, ROWS_MAX as i64], |row| row.get(0))
        .optional()?;
    let mut delete = connection.prepare_cached("DELETE FROM ids WHERE bucket = ?1 AND hash <= ?2")?;
    delete.execute([bucket, end.unwrap_or(i64::MAX)])?;
    Ok(end.is_none())
}

/// What damage keeps from being deleted stays where it is.
fn past_damage<T>(
    log: &Log,
    thing: &'static str,
    result: Result<T, rusqlite::Error>,
) -> Result<Option<T>, Failure> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseCorrupt) => {
            log.records.damage.report_thing(thing, &error.to_string());
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// A transaction that is on disk with the next one that has to be.
pub(super) fn unsynced<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    relaxed(connection, |connection| {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let changed = change(connection)?;
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(changed)
    })
}

fn relaxed<T>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    // 2 is FULL. A log of a host never synchronizes, so there is nothing to put off.
    let is_synchronized =
        connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))? == 2;
    if is_synchronized {
        connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    }
    let result = change(connection);
    if !connection.is_autocommit() {
        // After some errors SQLite has done so itself.
        let _ = connection.execute_batch("ROLLBACK");
    }
    if is_synchronized {
        // It cannot fail outside of a transaction; if it did, no commit could be trusted any more.
        connection.execute_batch("PRAGMA synchronous = FULL")?;
    }
    result
}

/// Free pages and all pages of the file.
fn pages(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((number("freelist_count")? as u64, number("page_count")? as u64))
}
