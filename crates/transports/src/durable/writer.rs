//! The only writer: a thread that commits whatever waits for it as one, and tidies up in between.
//!
//! Nothing is published before its commit is on disk, and nothing is answered before it is published. After a fault that
//! leaves open what the disk holds, nothing is written any more. A job whose caller has given up is not done.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use petasos_hub::{registry::Lease, transport::Entry};
use rusqlite::{Connection, wal::CheckpointMode};
use tokio::sync::mpsc;

use super::{
    book::{Book, Oldest},
    checkpoints::{Checkpointer, checkpoint},
    chores::{Chores, unsynced},
    directory::{Directory, Files},
    failure::Failure,
    jobs::{Encoded, Job, Outcome},
    leases::Leases,
    link::table,
    log::{Log, Remedy, index, now},
    records::ORIGINS,
    settings::Users,
    subscribers,
};
use crate::{Retention, codec, forks};

/// What one commit takes at most, so that the first in it does not wait for long.
const BATCH_ENTRIES_MAX: usize = 1_024;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) log: Arc<Log>,
    pub(super) leases: Arc<Leases>,
    pub(super) directory: Directory,
    pub(super) files: Files,
    pub(super) retention: Retention,
    pub(super) book: Book,
    pub(super) oldest: [Oldest; 2],
    pub(super) checkpointer: Checkpointer,
    pub(super) chores: Chores,
    /// Tidying had no room.
    pub(super) is_starved: bool,
}

/// The result of a commit, before it is published.
#[derive(Default)]
struct Written {
    entries: Vec<Entry>,
    /// For each job its outcome, and the number of the commit's entries up to and with those of this job.
    outcomes: Vec<(Outcome, usize)>,
}

/// After a commit that took this long, updates whose publishers are gone are taken back, too: a time-out outside of the
/// log may have given them an error. After a faster commit, the update of a publisher that is gone stays.
const SLOW: Duration = Duration::from_secs(1);

impl Writer {
    /// Serves until nobody can ask any more, then leaves the file tidy.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            let first = match self.chores.are_waiting() && self.can_write() {
                false => jobs.blocking_recv(),
                true => match jobs.try_recv() {
                    Ok(job) => Some(job),
                    Err(mpsc::error::TryRecvError::Disconnected) => None,
                    Err(mpsc::error::TryRecvError::Empty) => {
                        let _work = forks::work();
                        self.tidy();
                        continue;
                    }
                },
            };
            let Some(first) = first else { break };
            let _work = forks::work();
            self.serve(first, &mut jobs);
        }
        let _work = forks::work();
        self.finish();
    }

    fn serve(&mut self, first: Job, jobs: &mut mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        let (mut entries, mut bytes) = (0, 0);
        let mut next = Some(first);
        let mut ticked = false;
        let mut waiting = Vec::new();
        while let Some(job) = next.take() {
            match job {
                Job::TrimOld { reply } => waiting.push(reply),
                Job::Tick => ticked = true,
                job => {
                    entries += job.entries();
                    bytes += job.bytes();
                    batch.push(job);
                }
            }
            if entries < BATCH_ENTRIES_MAX && bytes < BATCH_BYTES_MAX {
                next = jobs.try_recv().ok();
            }
        }
        if !batch.is_empty() {
            self.commit(batch);
        }
        if ticked || !waiting.is_empty() {
            self.trim_old();
        }
        for reply in waiting {
            // An error means that the caller has gone.
            let _ = reply.send(());
        }
        if ticked {
            self.tick();
        }
        if self.can_write() && entries > 0 {
            self.tidy_behind();
        }
    }

    fn commit(&mut self, mut batch: Vec<Job>) {
        if let Some(reason) = self.log.failure() {
            return refuse(batch, &Failure::Fatal(Arc::clone(reason)));
        }
        let (began, before) = (Instant::now(), self.book.clone());
        let mut known = self.log.records.damage.count();
        let mut result = self.write(&mut batch);
        if let Err(Failure::Full(_)) = result
            && self.make_room()
        {
            result = self.write(&mut batch);
        }
        // Damage that was met while looking for what to trim spoils the transaction; the next one keeps away from it.
        while matches!(result, Err(Failure::Damaged(_))) && self.log.records.damage.count() > known {
            known = self.log.records.damage.count();
            result = self.write(&mut batch);
        }
        if let Err(Failure::Index(reason)) = &result {
            self.log.records.damage.report_thing("index of ids", reason);
            self.book.skip_buckets();
            result = self.write(&mut batch);
        }
        if batch.is_empty() {
            return;
        }
        let mut written = match result {
            Ok(written) => written,
            Err(fault) => {
                self.suffer(&fault);
                return refuse(batch, &fault);
            }
        };
        let is_gone = if began.elapsed() >= SLOW { Job::is_given_up } else { Job::is_refused };
        // Asked first, because publishers whose updates are kept wait for whatever the disk has to do after that. The disk may
        // be slow again, so that more publishers get an error meanwhile.
        while batch.iter().any(is_gone) || batch.iter().any(|job| !job.keep()) {
            if !self.take_back(&before, &mut batch, &mut written) {
                break;
            }
        }
        // The last thing before anybody gets to know of the commit.
        let missing = self.directory.missing(&mut self.files);
        if let Err(fault) = self.fail_if_missing(missing) {
            return refuse(batch, &fault);
        }
        if self.can_write() {
            self.log.take_appends();
        }
        self.log.lock().stored = self.book.trimmed();
        self.publish(written.entries);
        for (job, (outcome, _)) in batch.into_iter().zip(written.outcomes) {
            job.answer(outcome);
        }
    }

    /// Fails the log if one of its files is missing, which is named. Before that, it moves commits from the write-ahead log to the
    /// database, so that a restart finds as much as there is.
    fn fail_if_missing(&mut self, what: Option<&str>) -> Result<(), Failure> {
        let Some(what) = what else { return Ok(()) };
        if self.log.users == Users::Host && self.directory.is_taken_over(&self.files) {
            // The process that has put its lock there has copied what is committed.
            let reason: Arc<str> = format!("the {what} is another one by now").into();
            self.log.fail(&reason, Remedy::Operator);
            return Err(Failure::Fatal(reason));
        }
        // The index forgets the frames, too, so that a log that is opened beside connections that are open still starts anew.
        let moved = self.checkpointer.wait().and_then(|()| {
            checkpoint(&self.connection, CheckpointMode::TRUNCATE)?;
            // The first one says nothing if a reader is in its way.
            checkpoint(&self.connection, CheckpointMode::NOOP)
        });
        let is_moved = matches!(moved, Ok((frames, moved)) if frames == moved);
        let reason: Arc<str> = format!(
            "the {what} was removed, moved or replaced while it was in use; what was acknowledged is {} in the \
             database file that was opened",
            if is_moved { "whole" } else { "not whole" }
        )
        .into();
        // Else the end of the process may take away the only way to what was acknowledged.
        let is_kept = is_moved && self.directory.has_database_alone(&self.files);
        self.log.fail(&reason, if is_kept { Remedy::Restart } else { Remedy::Operator });
        Err(Failure::Fatal(reason))
    }

    /// One transaction of the jobs whose callers still wait, on disk when it returns; or nothing has changed.
    fn write(&mut self, batch: &mut Vec<Job>) -> Result<Written, Failure> {
        batch.retain(|job| !job.is_given_up());
        if batch.is_empty() {
            return Ok(Written::default());
        }
        let result = self.try_write(batch);
        if result.is_err() {
            self.roll_back();
        }
        result
    }

    /// Undoes the appends whose publishers got an error while the disk did not answer. No entry of the commit is
    /// published yet, so the remaining entries take the free sequences. False: the disk refuses that, and the commit stays
    /// as it is.
    fn take_back(&mut self, before: &Book, batch: &mut Vec<Job>, written: &mut Written) -> bool {
        let is_kept: Vec<_> = batch.iter().map(|job| !job.is_given_up()).collect();
        match self.try_take_back(before, &is_kept, written) {
            Ok(rest) => {
                *written = rest;
                let mut kept = is_kept.iter();
                batch.retain(|_| kept.next().copied().unwrap_or(true));
                tracing::warn!(
                    "the disk was slow: updates whose publishers had got an error meanwhile were not added"
                );
                true
            }
            Err(fault) => {
                self.roll_back();
                self.suffer(&fault);
                false
            }
        }
    }

    fn try_take_back(
        &mut self,
        before: &Book,
        is_kept: &[bool],
        written: &Written,
    ) -> Result<Written, Failure> {
        let now = now();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for origin in ORIGINS {
            let sql = format!("DELETE FROM {} WHERE seq > ?1", table(origin));
            self.connection.prepare_cached(&sql)?.execute([before.head as i64])?;
        }
        self.book.take_back(before);
        self.oldest = Oldest::both(&self.retention, &self.book);
        let (mut rest, mut start) = (Written::default(), 0);
        for ((mut outcome, end), is_kept) in written.outcomes.iter().copied().zip(is_kept) {
            let entries = &written.entries[start..end];
            start = end;
            // Facts stay recorded, even if their caller has given up: it gives them again, which makes no second event.
            if !is_kept && matches!(outcome, Outcome::Appended(_)) {
                continue;
            }
            for entry in entries {
                let record = codec::encode(&entry.update);
                let again = Encoded { update: Arc::clone(&entry.update), record };
                let sequence = self.add(&again, now, &mut rest.entries)?;
                if let Outcome::Appended(_) = outcome {
                    outcome = Outcome::Appended(sequence);
                }
            }
            if *is_kept {
                rest.outcomes.push((outcome, rest.entries.len()));
            }
        }
        self.conclude(now, &rest.entries)?;
        Ok(rest)
    }

    fn try_write(&mut self, batch: &[Job]) -> Result<Written, Failure> {
        let now = now();
        let (mut entries, mut outcomes) = (Vec::new(), Vec::with_capacity(batch.len()));
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for job in batch {
            match job {
                Job::Append { update, .. } => {
                    let sequence = self.add(update, now, &mut entries)?;
                    outcomes.push((Outcome::Appended(sequence), entries.len()));
                }
                Job::Record { facts, .. } => {
                    let is_live = self.leases.is_live(facts.node);
                    // An expiry is for nodes that have none.
                    if is_live != facts.is_expiry {
                        for fact in &facts.facts {
                            if subscribers::apply(&self.connection, facts.node, fact)? {
                                for event in &fact.events {
                                    self.add(event, now, &mut entries)?;
                                }
                            }
                        }
                    }
                    let lease = if is_live { Lease::Kept } else { Lease::Ended };
                    outcomes.push((Outcome::Recorded(lease), entries.len()));
                }
                Job::TrimOld { .. } | Job::Tick => {}
            }
        }
        self.conclude(now, &entries)?;
        Ok(Written { entries, outcomes })
    }

    /// Ends a transaction that adds entries: trims, stores the book and commits.
    fn conclude(&mut self, now: i64, entries: &[Entry]) -> Result<(), Failure> {
        self.trim(now)?;
        if let Some(last) = entries.last() {
            self.book.head_id = Some(last.update.id().as_str().to_owned());
        }
        self.book.store(&self.connection)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn add(&mut self, update: &Encoded, now: i64, entries: &mut Vec<Entry>) -> Result<u64, Failure> {
        let Encoded { update, record } = update;
        let origin = update.origin();
        let sequence = self.book.head + 1;
        let tally = self.book.tally(origin);
        let place = (sequence, now, tally.added);
        self.log.records.insert(&self.connection, update, record, place)?;
        self.oldest[index(origin)].add(tally, sequence, now, record.len() as u64);
        self.book.head = sequence;
        let position = self.log.records.position(sequence);
        entries.push(Entry::now(position, Arc::clone(update)));
        Ok(sequence)
    }

    fn trim(&mut self, now: i64) -> Result<(), Failure> {
        let head = self.book.head;
        let damage = &self.log.records.damage;
        for (origin, oldest) in ORIGINS.into_iter().zip(&mut self.oldest) {
            oldest.trim(&self.connection, damage, self.book.tally(origin), (head, now))?;
        }
        Ok(())
    }

    /// Back to what the file says.
    fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // After some errors SQLite has done so itself; after others it must not be trusted with anything.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match Book::load(&self.connection) {
            Ok(Some(book)) => {
                self.oldest = Oldest::both(&self.retention, &book);
                self.book = book;
            }
            Ok(None) => self.log.fail("its book is gone", Remedy::Operator),
            Err(error) => self.log.fail(&error.to_string(), self.remedy()),
        }
    }

    fn suffer(&self, fault: &Failure) {
        self.log.suffer(fault, self.remedy());
    }

    /// What mends a failure of the disk.
    fn remedy(&self) -> Remedy {
        match self.directory.missing_now(&self.files) {
            None => Remedy::Restart,
            Some(_) => Remedy::Operator,
        }
    }

    /// What has been committed becomes visible.
    fn publish(&mut self, entries: Vec<Entry>) {
        let damage = &self.log.records.damage;
        let expires = self.oldest[0].expires(&self.connection, damage, self.book.head);
        let oldest = self.oldest[0].at(&self.connection, damage, self.book.head);
        let extent = self.book.extent(oldest.unwrap_or(None));
        if !entries.is_empty() {
            self.log.batches.record(entries.len() as u64);
        }
        let mut published = self.log.lock();
        published.extend(entries);
        // After a failed commit the book is the one on disk again, which may know less.
        for (published, trimmed) in published.trimmed.iter_mut().zip(self.book.trimmed()) {
            *published = (*published).max(trimmed);
        }
        published.buckets = self.book.buckets();
        published.entry_bytes = self.book.entry_bytes();
        published.expires = expires.unwrap_or(None);
        published.extent = extent;
        drop(published);
        self.log.appended.notify_waiters();
    }

    /// Trims what has become too old, or is over a bound that was lowered. That is on disk with the next commit, and
    /// found out anew after a crash before that.
    fn trim_old(&mut self) {
        if let Err(fault) = self.trim(now()) {
            let reason = fault.reason();
            tracing::error!(%reason, "updates that are too old cannot be trimmed");
        }
        let trimmed = self.book.trimmed();
        if self.can_write() && self.log.lock().stored != trimmed {
            let stored = unsynced(&self.connection, |connection| self.book.store(connection));
            if stored.is_ok() {
                self.log.lock().stored = trimmed;
            }
            self.settle(stored.map_err(Failure::from));
        }
        self.publish(Vec::new());
    }

    fn can_write(&self) -> bool {
        self.log.failure().is_none()
    }

    /// One step of what can be put off.
    fn tidy(&mut self) {
        let result = self.chores.step(&self.connection, &self.log);
        self.settle(result);
    }

    /// After a commit: a step of what must not be put off for ever.
    fn tidy_behind(&mut self) {
        let released = self.oldest.iter_mut().map(Oldest::take_released).sum();
        let result = self.chores.after_commit(&self.connection, &self.log, released);
        self.settle(result);
        if self.can_write() {
            let result = self.checkpointer.tend(&self.connection, false);
            self.settle(result);
        }
    }

    fn settle(&mut self, result: Result<(), Failure>) {
        let Err(fault) = result else { return };
        if !self.connection.is_autocommit() {
            // After some errors SQLite has done so itself.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match fault {
            // Updates may still find room.
            Failure::Full(_) => self.is_starved = true,
            fault => self.suffer(&fault),
        }
        self.chores.rest();
    }

    /// Now and then, whether or not anybody publishes.
    fn tick(&mut self) {
        if !self.can_write() {
            return;
        }
        let missing = self.directory.missing_now(&self.files);
        if self.fail_if_missing(missing).is_err() {
            return;
        }
        let is_full = self.is_starved || !self.log.capacity.has_room();
        if is_full {
            self.is_starved = false;
            self.make_room();
        }
        let has_ballast = self.directory.load_ballast().is_ok();
        if !is_full || self.has_room(has_ballast) && !self.is_starved {
            self.log.take_appends();
        }
        self.chores.tick(&self.connection, &self.log);
        if self.can_write() {
            let result = self.checkpointer.tend(&self.connection, true);
            self.settle(result);
        }
    }

    /// Whether appends find room again: all earlier appends have moved to the database, so that the write-ahead log
    /// starts from its beginning, and the write-ahead log has its full length. On a disk that is too small for that and
    /// for the ballast, the largest update has to fit: a node that is not ready gets no publishes to find out with.
    fn has_room(&self, has_ballast: bool) -> bool {
        let moved = checkpoint(&self.connection, CheckpointMode::PASSIVE);
        if !matches!(moved, Ok((frames, moved)) if frames == moved) {
            return false;
        }
        if has_ballast {
            if self.directory.extend_log(&self.files).is_ok() {
                return true;
            }
            // The next tick sets room aside again, if there is some.
            self.directory.drop_ballast();
        }
        self.directory.probe_room().is_ok()
    }

    /// Frees what trimming left to be freed, with the room that was set aside for that. True: it is worth another try.
    fn make_room(&mut self) -> bool {
        let mut make = || {
            self.checkpointer.wait().or_else(past_full)?;
            checkpoint(&self.connection, CheckpointMode::PASSIVE).map(drop).or_else(past_full)?;
            if self.chores.could_delete(&self.log) {
                self.directory.drop_ballast();
                self.chores.all(&self.connection, &self.log)?;
                checkpoint(&self.connection, CheckpointMode::PASSIVE).map(drop).or_else(past_full)?;
                // Who needs the room now has it from what was deleted.
                let _ = self.directory.load_ballast();
            }
            Ok(())
        };
        let result: Result<(), Failure> = make();
        let is_worth = !matches!(result, Err(Failure::Fatal(_)));
        self.settle(result);
        is_worth
    }

    fn finish(mut self) {
        self.log.close();
        let result = self.checkpointer.stop();
        self.settle(result);
        if self.can_write() {
            // The last tick may have been long ago.
            let missing = self.directory.missing_now(&self.files);
            let _ = self.fail_if_missing(missing);
        }
        if self.can_write() {
            // What is not moved now is moved when the log is opened again.
            let stored = self.book.store(&self.connection).map_err(Failure::from);
            let moved = stored.and_then(|()| checkpoint(&self.connection, CheckpointMode::TRUNCATE));
            if let Err(fault) = moved {
                self.suffer(&fault);
            }
        }
        drop(self.connection);
    }
}

fn past_full(fault: Failure) -> Result<(), Failure> {
    match fault {
        Failure::Full(_) => Ok(()),
        other => Err(other),
    }
}

fn refuse(batch: Vec<Job>, fault: &Failure) {
    for job in batch {
        match job {
            Job::Append { reply, .. } => reply.send(Err(fault.into())),
            Job::Record { reply, .. } => reply.send(Err(fault.into())),
            Job::TrimOld { .. } | Job::Tick => {}
        }
    }
}
