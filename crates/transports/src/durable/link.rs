//! The database file: how it is opened, and what is in it.

use std::{fs::File, io::Read, path::Path, time::Duration};

use petasos_protocol::update::Origin;
use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig, wal::CheckpointMode};

use super::settings::Users;
use crate::OpenError;

/// "mrcl": tells the log from the databases of others.
const APPLICATION_ID: i32 = 0x6d72_636c;

/// Of the schema.
const VERSION: i32 = 1;

/// Updates and events have tables of their own, as each is trimmed from its own beginning, and a sequence is in one of
/// them. `ids` finds them: its buckets are filled one after the other, so that appends change the pages of one chunk of a
/// bucket only and trimming drops a bucket as a stretch of pages.
const SCHEMA: &str = "
    CREATE TABLE book (one INTEGER PRIMARY KEY CHECK (one = 1), checksum INTEGER NOT NULL, text TEXT NOT NULL);
    CREATE TABLE updates (
        seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, seal INTEGER NOT NULL, record BLOB NOT NULL
    );
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, seal INTEGER NOT NULL, record BLOB NOT NULL
    );
    CREATE TABLE ids (
        bucket INTEGER NOT NULL, hash INTEGER NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (bucket, hash, seq)
    ) WITHOUT ROWID;
    CREATE TABLE subscribers (
        arrival INTEGER PRIMARY KEY, subscriber TEXT NOT NULL UNIQUE, node TEXT NOT NULL, record TEXT NOT NULL
    );
    CREATE INDEX subscribers_by_node ON subscribers (node, arrival);
    CREATE TABLE matchers (
        text TEXT NOT NULL, arrival INTEGER NOT NULL, PRIMARY KEY (text, arrival)
    ) WITHOUT ROWID;
";

/// Memory of one connection for pages, in KiB: the bucket that is being filled, for the writer; the way down the trees,
/// for readers.
const WRITER_CACHE_KIB: i32 = 16 * 1024;
const READER_CACHE_KIB: i32 = 1024;

/// What a reader or a checkpoint waits for another connection: none holds a lock for more than moments.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// What remains of the write-ahead log on disk after a burst. On a full disk this is the room that appending goes on in.
const WAL_BYTES_KEPT: i32 = 16 * 1024 * 1024;

/// The first bytes of a write-ahead log, but for the byte that says how its checksums are made ("The WAL File Format").
const WAL_MAGIC: [u8; 3] = [0x37, 0x7f, 0x06];

/// The table of an origin.
pub(super) fn table(origin: Origin) -> &'static str {
    match origin {
        Origin::Publisher => "updates",
        Origin::Hub => "events",
    }
}

/// Opens the file for its only writer, and makes the tables in a new one.
pub(super) fn open(path: &Path, users: Users) -> Result<Connection, OpenError> {
    let shown = path.display();
    let refused = |error: rusqlite::Error| {
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                "its beginning is damaged: restore a copy, or move the file and its \"-wal\" away to begin a new log"
            }
            Some(ErrorCode::DiskFull) => "make room on the disk",
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                "the hub's user must be able to write to it and its directory, on a local disk"
            }
            _ => "see to the disk; the log must lie on a local one",
        };
        OpenError::Refused(format!("the log \"{shown}\" cannot be opened: {error}: {advice}"))
    };
    let connection =
        connect(path, OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(refused)?;
    if !has_its_log(&connection, path).map_err(refused)? {
        return Err(OpenError::Refused(format!(
            "the write-ahead log of \"{shown}\" was removed, moved or replaced, and another program still has the former one \
             open: end that program"
        )));
    }
    let number =
        |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(refused);
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(refused)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(OpenError::Refused(format!(
            "\"{shown}\" is another program's database: name another directory"
        )));
    }
    if version > VERSION {
        return Err(OpenError::Refused(format!(
            "the log \"{shown}\" was written by a later version: update petasos"
        )));
    }
    let prepare = || {
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        // Takes effect in an empty file only.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", users.synchronous())?;
        if tables == 0 {
            connection.execute_batch(&format!(
                "BEGIN; {SCHEMA}; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT"
            ))?;
        }
        // The first read opens the write-ahead log, and makes that of a copy, which has had none.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
    };
    prepare().map_err(refused)?;
    let mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).map_err(refused)?;
    if mode != "wal" {
        return Err(OpenError::Refused(format!(
            "the log \"{shown}\" cannot have a write-ahead log there: put it on a local disk"
        )));
    }
    Ok(connection)
}

/// Whether the write-ahead log is the one of which other connections have the index. If another program has one open that is
/// gone, frames would be written behind those of that one: into a file without a beginning, of which nothing is found after
/// a crash. And that program would move what its own file has in their place.
fn has_its_log(connection: &Connection, path: &Path) -> rusqlite::Result<bool> {
    // To read anything opens the write-ahead log. What is wrong with the file is said later.
    let _: rusqlite::Result<i32> = connection.pragma_query_value(None, "schema_version", |row| row.get(0));
    let (frames, _) = connection.wal_checkpoint_v2(Some(rusqlite::MAIN_DB), CheckpointMode::NOOP)?;
    if frames <= 0 {
        return Ok(true);
    }
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let mut start = [0; WAL_MAGIC.len()];
    let has_beginning = File::open(wal).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    Ok(has_beginning && start == WAL_MAGIC)
}

/// Copies everything that is committed to a new database. Another process may write meanwhile, or may have stopped while it
/// wrote.
pub(super) fn copy(path: &Path, to: &Path) -> rusqlite::Result<()> {
    let connection = open_for_reading(path)?;
    let to = to.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(to.to_owned()))?;
    connection.execute("VACUUM INTO ?1", [to]).map(drop)
}

/// Another connection that checkpoints.
pub(super) fn open_for_checkpoints(path: &Path, users: Users) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "synchronous", users.synchronous())?;
    connection.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_KEPT, |_| Ok(()))?;
    Ok(connection)
}

/// Another connection that reads.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_MAX)?;
    // Of a log that has failed nothing may be written any more, not even by closing it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn whatever_is_opened_has_its_write_ahead_log_by_then() {
        let directory = TempDir::new().expect("a directory");
        let [new, copied] = ["new", "copied"].map(|name| directory.path().join(format!("{name}.sqlite3")));
        drop(open(&new, Users::Host).expect("opened"));
        copy(&new, &copied).expect("copied");
        drop(open(&copied, Users::Host).expect("opened"));
        for name in ["new", "copied"] {
            assert!(directory.path().join(format!("{name}.sqlite3-wal")).exists(), "{name}");
        }
    }
}
