//! The directory of a log: made for the hub alone, and held by one process at a time.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{checkpoints::WAL_BYTES, link, settings::Users};
use crate::{OpenError, forks};

/// A log's directory. The lock ends with the value, and with the process however that ends.
pub(crate) struct Directory {
    path: PathBuf,
    name: String,
    users: Users,
    lock: File,
}

/// The outcome of an attempt to lock a directory.
pub(crate) enum Lock {
    /// The turn is to be kept until the log is open and other processes can ask for it.
    Taken(Directory, Turn),
    Held(Holder),
    /// Another process is taking the lock, or opens the log.
    Busy,
}

/// Who holds a lock: its file, and what that says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    number: (u64, u64),
    text: String,
}

/// The turn of one process to take the lock and to open the log. While a process has it, nobody takes the lock over.
pub(crate) struct Turn(#[expect(dead_code, reason = "it is a lock as long as it is open")] File);

/// The files that must not be replaced while the log is open.
pub(super) struct Files {
    /// Device and inode of each, in the order of [`FILES`].
    known: [(u64, u64); FILES.len()],
    /// The directory at a look that found all files. While it has this stamp, the files need no look.
    stamp: Option<Stamp>,
}

/// What the system changes about a directory whenever a file in it is added, removed or renamed, and what tells it from
/// another directory at the same path.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    /// Seconds and nanoseconds since 1970.
    changed: (i64, i64),
    modified: (i64, i64),
}

/// A stamp counts only when it is older than this. Clocks of file systems tick, every 10 ms or finer on those of Linux
/// and every 2 s on FAT: of two changes within a tick the second one leaves the stamp as it is.
const STAMP_AGE_MIN: Duration = Duration::from_secs(2);

/// Suffix and name of each: the database, its write-ahead log, and the lock that excludes other processes. If one of
/// them is missing, a restart may lose acknowledged updates, or another process may write to the log, too.
const FILES: [(&str, &str); 3] = [(DATABASE, "database"), (WAL, "write-ahead log"), (LOCK, "lock file")];

/// The suffixes of these.
const DATABASE: &str = "sqlite3";
const WAL: &str = "sqlite3-wal";
const LOCK: &str = "lock";

/// A complete copy of the database that is to replace it.
const NEXT: &str = "sqlite3-next";

/// The word in a lock file that was taken from another process, until the database is a copy.
const COPY: &str = "copy";

/// How long a new process waits for the one that it replaces: a hub that drains takes some seconds.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
const HAND_OVER_POLL: Duration = Duration::from_millis(20);

/// The owner's alone: updates may be private.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The largest update, as the limits of the hub are by default.
const PROBE_BYTES: usize = 1024 * 1024;

/// What is kept free for the trimming of a log on a full disk, which has to write before it makes room: some thousand
/// changed pages.
const BALLAST_BYTES: usize = 4 * 1024 * 1024;

/// The error for a directory that cannot be used.
fn refused(path: &Path, doing: &str, error: &io::Error) -> OpenError {
    OpenError::Refused(format!(
        "the directory \"{}\" of the log cannot be {doing}: {error}: it must be a directory that the hub's user may \
         create or write to",
        path.display()
    ))
}

impl Turn {
    fn take(path: &Path, name: &str) -> io::Result<Option<Self>> {
        let file = open_file(&path.join(format!("{name}.turn")))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Holder {
    fn read(mut lock: &File) -> io::Result<Self> {
        let mut text = String::new();
        lock.rewind()?;
        lock.read_to_string(&mut text)?;
        Ok(Self { number: number(&lock.metadata()?), text })
    }

    /// The first word of the file.
    fn word(&self) -> &str {
        self.text.split_whitespace().next().unwrap_or_default()
    }
}

impl Directory {
    /// Makes the directory if it is not there, and waits a while for another process to leave it.
    pub(super) async fn lock(path: &Path, name: &str) -> Result<(Self, Turn), OpenError> {
        let deadline = Instant::now() + HAND_OVER_MAX;
        loop {
            match Self::try_lock(path, name, Users::Process)? {
                Lock::Taken(directory, turn) => return Ok((directory, turn)),
                Lock::Busy | Lock::Held(_) if Instant::now() < deadline => {
                    tokio::time::sleep(HAND_OVER_POLL).await;
                }
                Lock::Busy | Lock::Held(_) => {
                    return Err(OpenError::Refused(format!(
                        "another process holds the log \"{name}\" in the directory \"{}\": a durable log belongs to \
                         one hub process. Stop the other one, give each a directory of its own, or use host, redis, \
                         nats or postgres for several",
                        path.display()
                    )));
                }
            }
        }
    }

    /// Makes the directory if it is not there, and locks it if nobody has.
    pub(crate) fn try_lock(path: &Path, name: &str, users: Users) -> Result<Lock, OpenError> {
        let refused = |doing: &str, error: io::Error| refused(path, doing, &error);
        DirBuilder::new()
            .recursive(true)
            .mode(DIRECTORY_MODE)
            .create(path)
            .map_err(|error| refused("made", error))?;
        let Some(turn) = Turn::take(path, name).map_err(|error| refused("written to", error))? else {
            return Ok(Lock::Busy);
        };
        let lock = path.join(format!("{name}.lock"));
        let file = open_file(&lock).map_err(|error| refused("written to", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = Holder::read(&file).map_err(|error| refused("read", error))?;
                return Ok(Lock::Held(holder));
            }
            Err(TryLockError::Error(error)) => return Err(refused("locked", error)),
        }
        let directory =
            Self::locked(path, name, file, users).map_err(|error| refused("written to", error))?;
        Ok(Lock::Taken(directory, turn))
    }

    /// Takes the lock from a process that does not answer and may only be stopped. That process notices before it answers
    /// anybody that its lock file is gone. `None`: the lock is not that holder's any more, the log belongs to a process that
    /// uses it alone, or another process is taking it.
    #[cfg(feature = "host")]
    pub(crate) fn take_over(
        path: &Path,
        name: &str,
        holder: &Holder,
    ) -> Result<Option<(Self, Turn)>, OpenError> {
        let refused = |error: io::Error| refused(path, "taken over", &error);
        let Some(turn) = Turn::take(path, name).map_err(refused)? else { return Ok(None) };
        let taken = || {
            let lock = path.join(format!("{name}.lock"));
            let present = Holder::read(&File::open(&lock)?)?;
            if present != *holder || ![Users::Host.mark(), COPY].contains(&present.word()) {
                return Ok(None);
            }
            has_room_for_copy(path, name)?;
            let new = path.join(format!("{name}.lock-new"));
            remove(&new)?;
            let file = open_file(&new)?;
            file.lock()?;
            mark(&file, COPY)?;
            fs::rename(&new, &lock)?;
            Self::locked(path, name, file, Users::Host).map(Some)
        };
        Ok(taken().map_err(refused)?.map(|directory| (directory, turn)))
    }

    /// Finishes a lock whose file is in its place: replaces the database if it has to be a copy.
    fn locked(path: &Path, name: &str, lock: File, users: Users) -> io::Result<Self> {
        let must_copy = Holder::read(&lock)?.word() == COPY;
        let directory = Self { path: path.to_owned(), name: name.to_owned(), users, lock };
        // A complete copy has everything that was acknowledged.
        if must_copy && !directory.file(NEXT).try_exists()? {
            directory.copy()?;
        }
        directory.replace()?;
        mark(&directory.lock, users.mark())?;
        // SQLite would let others read it, and gives its other files the same mode.
        open_file(&directory.database())?;
        // A directory that was made just now is in its parent only after this.
        directory.sync()?;
        Ok(directory)
    }

    /// Copies what is committed to a new database. The process that had the log may have stopped in the middle of a
    /// transaction, with SQLite's locks. If it goes on, it still commits to the old one.
    fn copy(&self) -> io::Result<()> {
        let copy = self.file("sqlite3-copy");
        remove(&copy)?;
        let _work = forks::work();
        link::copy(&self.database(), &copy).map_err(|error| {
            let _ = remove(&copy);
            io::Error::other(error)
        })?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(FILE_MODE))?;
        fs::rename(&copy, self.file(NEXT))
    }

    /// Puts a complete copy of the database in its place, if there is one. The write-ahead log goes first: the copy has all of
    /// it.
    fn replace(&self) -> io::Result<()> {
        let next = self.file(NEXT);
        if !next.try_exists()? {
            return Ok(());
        }
        for suffix in [WAL, "sqlite3-shm"] {
            remove(&self.file(suffix))?;
        }
        fs::rename(next, self.database())
    }

    /// Names of new files are on disk. A host's log does not have to be.
    pub(super) fn sync(&self) -> io::Result<()> {
        if self.users == Users::Host {
            return Ok(());
        }
        File::open(&self.path)?.sync_all()?;
        match self.path.canonicalize()?.parent() {
            // It may be one that we must not read.
            Some(parent) => File::open(parent).map_or(Ok(()), |parent| parent.sync_all()),
            None => Ok(()),
        }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.file(DATABASE)
    }

    fn file(&self, suffix: &str) -> PathBuf {
        self.path.join(format!("{}.{suffix}", self.name))
    }

    /// Whether SQLite makes none of the files when the database is opened.
    pub(super) fn is_complete(&self) -> bool {
        let length = |suffix| fs::metadata(self.file(suffix)).ok().map(|file| file.len());
        length(DATABASE).is_some_and(|length| length > 0) && length(WAL).is_some()
    }

    /// The files that have the names of the log's files now. To be asked before the database is opened: a connection has
    /// opened these files, and no others, if they have their names still when it is open.
    ///
    /// Opens none of them: closing a descriptor of the database would end the locks that SQLite holds on it.
    pub(super) fn files(&self) -> io::Result<Files> {
        let mut known = [(0, 0); FILES.len()];
        for ((suffix, _), file) in FILES.iter().zip(&mut known) {
            *file = number(&fs::metadata(self.file(suffix))?);
        }
        // The one that this process has locked, even if another one is there by now.
        known[FILES.len() - 1] = number(&self.lock.metadata()?);
        Ok(Files { known, stamp: None })
    }

    /// The name of the first file that was removed, moved or replaced, if any. Costs one call of the system while the
    /// directory stays as it is, and one more for each file otherwise.
    pub(super) fn missing(&self, files: &mut Files) -> Option<&'static str> {
        // Before the files are looked at, so that a change after that makes another stamp.
        let stamp = Stamp::read(&self.path);
        if stamp.is_some() && stamp == files.stamp {
            return None;
        }
        let missing = self.missing_now(files);
        files.stamp = stamp.filter(|_| missing.is_none());
        missing
    }

    /// The same, without a look at the stamp: a mount over one of the files leaves that as it is.
    pub(super) fn missing_now(&self, files: &Files) -> Option<&'static str> {
        FILES.iter().zip(files.known).find_map(|((suffix, what), (device, inode))| {
            let metadata = fs::metadata(self.file(suffix));
            let is_same = metadata.is_ok_and(|found| number(&found) == (device, inode));
            (!is_same).then_some(*what)
        })
    }

    /// Whether a restart finds the database, and no file beside it that is not this log's. Files that are gone are made again.
    pub(super) fn has_database_alone(&self, files: &Files) -> bool {
        FILES.iter().zip(files.known).all(|((suffix, _), known)| match fs::metadata(self.file(suffix)) {
            // A program that reads the database makes a write-ahead log that is not there, and writes nothing to it.
            Ok(found) => number(&found) == known || *suffix == WAL && found.len() == 0,
            Err(error) => *suffix != DATABASE && error.kind() == io::ErrorKind::NotFound,
        })
    }

    /// Whether another process has put its lock in the place of this one.
    pub(super) fn is_taken_over(&self, files: &Files) -> bool {
        let found = fs::metadata(self.file(LOCK));
        found.is_ok_and(|found| number(&found) != files.known[FILES.len() - 1])
    }

    /// Makes the write-ahead log as long as it will be: to overwrite takes a disk a fraction of what it takes to grow a
    /// file, and needs no room on a full one. Zeros in it are no frames.
    ///
    /// A host's log takes no more of the memory than it has to: there it only looks for room.
    pub(super) fn extend_log(&self, files: &Files) -> io::Result<()> {
        if self.users == Users::Host {
            return self.probe_room();
        }
        // Not made if it is gone, and left as it is if it is another one: SQLite writes to the one that it has opened.
        let mut file = OpenOptions::new().append(true).open(self.file(WAL))?;
        let metadata = file.metadata()?;
        if number(&metadata) != files.known[1] {
            return Err(io::ErrorKind::NotFound.into());
        }
        let length = metadata.len();
        let missing = WAL_BYTES.saturating_sub(length);
        let missing = usize::try_from(missing).expect("the whole of it is some megabytes");
        file.write_all(&vec![0; missing]).and_then(|()| file.sync_all()).inspect_err(|_| {
            // Half of it would take the room that the database needs.
            let _ = file.set_len(length);
        })
    }

    /// Whether the largest update finds room.
    pub(super) fn probe_room(&self) -> io::Result<()> {
        let path = self.ballast();
        let written = write_zeros(&path, PROBE_BYTES, self.users);
        let _ = fs::remove_file(&path);
        written
    }

    fn ballast(&self) -> PathBuf {
        self.file("ballast")
    }

    /// Sets room aside, unless that has been done. A host's log has none.
    pub(super) fn load_ballast(&self) -> io::Result<()> {
        if self.users == Users::Host {
            return Ok(());
        }
        let path = self.ballast();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == BALLAST_BYTES as u64) {
            return Ok(());
        }
        write_zeros(&path, BALLAST_BYTES, self.users).inspect_err(|_| drop(fs::remove_file(&path)))
    }

    /// Gives the room that was set aside back.
    pub(super) fn drop_ballast(&self) {
        // An error means that there was none.
        let _ = fs::remove_file(self.ballast());
    }
}

impl Stamp {
    /// The stamp of the directory at a path. `None`: there is none that counts.
    fn read(path: &Path) -> Option<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        let latest = now.checked_sub(STAMP_AGE_MIN)?.as_secs().cast_signed();
        let metadata = fs::metadata(path).ok()?;
        let stamp = Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        (stamp.changed.0.max(stamp.modified.0) < latest).then_some(stamp)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(FILE_MODE).open(path)
}

/// Device and inode.
pub(crate) fn number(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Says who holds the lock, to other processes and to people. Each time is another one, also in the same process.
fn mark(mut lock: &File, word: &str) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{word} {} {}", std::process::id(), Uuid::new_v4())
}

/// Refuses to copy the database where the copy finds no room.
#[cfg(feature = "host")]
fn has_room_for_copy(path: &Path, name: &str) -> io::Result<()> {
    let length =
        |suffix: &str| fs::metadata(path.join(format!("{name}.{suffix}"))).map_or(0, |file| file.len());
    let needed = length(DATABASE) + length(WAL) + PROBE_BYTES as u64;
    let system = rustix::fs::statvfs(path)?;
    match system.f_bavail.saturating_mul(system.f_frsize) >= needed {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("a copy of the log needs {needed} bytes: make room"),
        )),
    }
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_zeros(path: &Path, length: usize, users: Users) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(FILE_MODE).open(path)?;
    file.write_all(&vec![0; length])?;
    match users {
        Users::Process => file.sync_all(),
        Users::Host => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// With a stamp that counts: right after the directory was made, each look is at the files.
    #[tokio::test]
    async fn a_directory_that_has_not_changed_for_long_still_shows_what_is_taken_away() {
        type Harm = fn(&Path);
        let harms: [Harm; 4] = [
            |log| fs::remove_file(log.join("log.sqlite3-wal")).expect("removed"),
            |log| fs::rename(log.join("log.lock"), log.join("other")).expect("renamed"),
            |log| {
                fs::copy(log.join("log.sqlite3"), log.join("copy")).expect("copied");
                fs::rename(log.join("copy"), log.join("log.sqlite3")).expect("renamed");
            },
            |log| {
                fs::rename(log, log.with_extension("old")).expect("renamed");
                fs::create_dir(log).expect("made");
            },
        ];
        let outside = TempDir::new().expect("a directory");
        let mut logs = Vec::new();
        for number in 0..harms.len() {
            let directory = Directory::lock(&outside.path().join(number.to_string()), "log").await;
            let (directory, _) = directory.expect("locked");
            fs::write(directory.file(WAL), b"").expect("written");
            let files = directory.files().expect("they are there");
            logs.push((directory, files));
        }
        for ((directory, files), harm) in logs.iter_mut().zip(harms) {
            while files.stamp.is_none() {
                assert_eq!(directory.missing(files), None);
                tokio::task::yield_now().await;
            }
            assert_eq!(directory.missing(files), None);
            harm(&directory.path);
            assert!(directory.missing(files).is_some());
        }
    }

    fn take(path: &Path) -> Lock {
        Directory::try_lock(path, "log", Users::Host).expect("the directory is there")
    }

    fn taken(path: &Path) -> (Directory, Turn) {
        match take(path) {
            Lock::Taken(directory, turn) => (directory, turn),
            Lock::Busy | Lock::Held(_) => panic!("nobody holds it"),
        }
    }

    fn held(path: &Path) -> Holder {
        match take(path) {
            Lock::Held(holder) => holder,
            Lock::Busy | Lock::Taken(..) => panic!("it is held"),
        }
    }

    #[cfg(feature = "host")]
    #[test]
    fn a_lock_is_taken_over_only_from_the_holder_that_did_not_answer() {
        let outside = TempDir::new().expect("a directory");
        let path = outside.path();
        let (first, turn) = taken(path);
        assert!(matches!(take(path), Lock::Busy), "it is still opening the log");
        drop(turn);
        let silent = held(path);
        drop(first);
        let (second, turn) = taken(path);
        assert!(
            Directory::take_over(path, "log", &silent).expect("no error").is_none(),
            "it is opening the log"
        );
        drop(turn);
        assert!(Directory::take_over(path, "log", &silent).expect("no error").is_none(), "another one leads");
        fs::write(second.file("sqlite3-wal"), b"").expect("written");
        let files = second.files().expect("they are there");
        let silent = held(path);
        let (third, _turn) = Directory::take_over(path, "log", &silent).expect("no error").expect("taken");
        assert!(second.missing_now(&files).is_some(), "the second one finds out");
        assert!(matches!(take(path), Lock::Busy));
        drop(third);
    }

    #[cfg(feature = "host")]
    #[test]
    fn a_complete_copy_is_not_made_again() {
        let outside = TempDir::new().expect("a directory");
        let path = outside.path();
        let (directory, turn) = taken(path);
        // A process was killed after it had copied the database, and had removed the write-ahead log.
        mark(&directory.lock, COPY).expect("written");
        fs::write(directory.file(NEXT), "the copy").expect("written");
        fs::write(directory.database(), "without what was in the write-ahead log").expect("written");
        drop((directory, turn));
        let (directory, _turn) = taken(path);
        assert_eq!(fs::read_to_string(directory.database()).expect("there"), "the copy");
        assert!(!directory.file(NEXT).exists());
    }
}
