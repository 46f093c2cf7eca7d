//! Reading the log, and noticing that it is not the log that it was: emptied, or gone back with a backup or a stand-by
//! server that had not got everything.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use petasos_hub::{
    TransportError,
    transport::{Extent, Head, Page, Position, Trimmed},
};
use tokio_postgres::{Row, types::ToSql};

use super::{
    core::{Core, position},
    failure::Failure,
    link::{Link, Session},
    statements::Statements,
};
use crate::codec::decode_id;

/// What reads the log, over one link.
pub(super) struct Log {
    pub(super) core: Arc<Core>,
    pub(super) link: Link,
}

/// How often a question is asked again because the log had to begin anew, which others may do at the same time.
const ATTEMPTS: usize = 3;

/// Entries of one page, whatever is asked for.
const PAGE_ENTRIES: usize = 4_096;

impl Log {
    /// Asks what begins with epoch, head and whether the log was emptied. At least one row.
    pub(super) async fn ask(
        &self,
        statement: impl Fn(&Statements) -> &tokio_postgres::Statement + Copy,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, TransportError> {
        for _ in 0..ATTEMPTS {
            let known = self.core.known();
            let rows = self.link.ask(|session| async move {
                let rows = session.client.query(statement(&session.statements), parameters).await?;
                match rows.is_empty() {
                    false => Ok(rows),
                    true => Err(Failure::new("the log's meta row is gone")),
                }
            });
            let rows = rows.await?;
            let (found, is_emptied) = read_head(&rows[0])?;
            if is_emptied || found < known {
                self.begin_epoch(found.epoch).await?;
                continue;
            }
            self.core.learn(found);
            return Ok(rows);
        }
        Err(Failure::new("the log is being emptied again and again").into())
    }

    /// Begins a new epoch after `epoch`, unless another node has.
    pub(super) async fn begin_epoch(&self, epoch: u64) -> Result<(), TransportError> {
        let (found, known) = (epoch.cast_signed(), self.core.known().epoch.cast_signed());
        let begun = self.link.ask(|session: Arc<Session>| async move {
            let Session { client, statements, .. } = &*session;
            let parameters: [&(dyn ToSql + Sync); 2] = [&found, &known];
            let work = client.execute(&statements.begin_epoch, &parameters);
            session.transaction(client.execute(&statements.lock_meta, &[]), work).await
        });
        if begun.await? > 0 {
            tracing::warn!(
                "entries of {} were lost: it was emptied, or is an older copy; it begins anew",
                self.core.shown()
            );
            self.core.look_again();
        }
        Ok(())
    }

    pub(super) async fn head(&self) -> Result<Head, TransportError> {
        let rows = self.ask(|statements| &statements.head, &[]).await?;
        let (position, _) = read_head(&rows[0])?;
        let id: Option<&[u8]> = field(&rows[0], 3)?;
        Ok(Head { position, id: id.and_then(|id| decode_id(str::from_utf8(id).ok()?)) })
    }

    pub(super) async fn extent(&self) -> Result<Extent, TransportError> {
        let bounds = self.core.bounds;
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&bounds.entries, &bounds.bytes, &bounds.age, &bounds.events];
        let rows = self.ask(|statements| &statements.extent, &parameters).await?;
        let updates: i64 = field(&rows[0], 3)?;
        let (bytes, oldest): (Option<i64>, Option<f64>) = (field(&rows[0], 4)?, field(&rows[0], 5)?);
        let oldest = oldest.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(Extent {
            updates: u64::try_from(updates).ok(),
            bytes: u64::try_from(bytes.unwrap_or_default()).ok(),
            oldest: oldest.map(|since| SystemTime::UNIX_EPOCH + since),
        })
    }

    pub(super) async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let bounds = self.core.bounds;
        let rows = self
            .ask(
                |statements| &statements.locate,
                &[&bounds.entries, &bounds.bytes, &bounds.age, &bounds.events, &id.as_bytes()],
            )
            .await?;
        let sequence: Option<i64> = field(&rows[0], 3)?;
        let epoch: i64 = field(&rows[0], 0)?;
        Ok(sequence.map(|sequence| position(epoch, sequence)))
    }

    pub(super) async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let bounds = self.core.bounds;
        let limit = limit.min(PAGE_ENTRIES) as i64;
        let (epoch, sequence) = (after.epoch.cast_signed(), after.sequence.cast_signed());
        let rows = self
            .ask(
                |statements| &statements.read,
                &[&bounds.entries, &bounds.bytes, &bounds.age, &bounds.events, &epoch, &sequence, &limit],
            )
            .await?;
        let (head, _) = read_head(&rows[0])?;
        let at = |column| {
            Ok::<_, TransportError>(Position {
                epoch: head.epoch,
                sequence: field::<i64>(&rows[0], column)?.cast_unsigned(),
            })
        };
        let trimmed = Trimmed { updates: at(3)?, events: at(4)? };
        let found = Found::from_rows(&self.core, &rows, 5)?;
        let through = match found.last {
            Some(last) if found.has_more => last,
            _ if after.epoch == head.epoch => head.max(after),
            _ => head,
        };
        Ok(Page { entries: found.entries, through, at_end: !found.has_more, trimmed })
    }
}

/// The entries of a page.
pub(super) struct Found {
    pub(super) entries: Vec<petasos_hub::transport::Entry>,
    /// The last one's place, damaged or not.
    pub(super) last: Option<Position>,
    /// Whether there are more than a page holds.
    pub(super) has_more: bool,
}

impl Found {
    /// `first` is the column of the number of candidates; sequence and record follow it.
    pub(super) fn from_rows(core: &Core, rows: &[Row], first: usize) -> Result<Self, TransportError> {
        let epoch: i64 = field(&rows[0], 0)?;
        let candidates: i64 = field(&rows[0], first)?;
        let mut found = Self { entries: Vec::with_capacity(rows.len()), last: None, has_more: false };
        let mut count = 0;
        for row in rows {
            // A row without an entry is there for the head's sake.
            let Some(sequence) = field::<Option<i64>>(row, first + 1)? else { continue };
            let place = position(epoch, sequence);
            found.entries.extend(core.decoder.entry(place, field(row, first + 2)?));
            found.last = Some(place);
            count += 1;
        }
        found.has_more = count < candidates;
        Ok(found)
    }
}

/// Epoch and head, and whether the oldest entries are gone that should be there.
pub(super) fn read_head(row: &Row) -> Result<(Position, bool), TransportError> {
    Ok((position(field(row, 0)?, field(row, 1)?), field(row, 2)?))
}

pub(super) fn field<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: usize,
) -> Result<T, TransportError> {
    row.try_get(column).map_err(|error| Failure::from(error).into())
}
