//! How a batch is appended: one statement and one commit.

use std::sync::Arc;

use petasos_hub::transport::Position;
use petasos_protocol::update::Origin;
use tokio::time::{Instant, timeout};
use tokio_postgres::types::ToSql;

use super::{
    core::{Core, position},
    failure::Failure,
    link::{Link, Session},
};
use crate::shared::{
    capacity::Capacity,
    writer::{Append, BatchStore, Bounds, WriteFailure},
};

/// The store of a [`crate::shared::writer::Writer`].
pub(super) struct Batches {
    pub(super) core: Arc<Core>,
    pub(super) link: Link,
}

/// Larger batches would not make a commit much cheaper for each entry, and other nodes wait for a commit.
pub(super) const BOUNDS: Bounds =
    Bounds { entries_max: 2_048, batch_entries_max: 512, batch_bytes_max: 2 * 1024 * 1024 };

impl BatchStore for Batches {
    type Connection = Arc<Session>;
    type Failure = Failure;

    async fn connection(&self, deadline: Instant) -> Result<Arc<Session>, Failure> {
        self.link.session(deadline).await
    }

    async fn write(&self, session: Arc<Session>, batch: &[Append], _: Instant) -> Result<Position, Failure> {
        let written = self.insert(&session, batch).await;
        written.inspect_err(|failure| {
            if !failure.leaves_connection_usable() {
                // The server may still write what was sent, so it is not sent again.
                session.break_with(failure.clone());
            }
        })
    }

    fn written(&self, last: Position, entries: usize) {
        self.core.has_appended(entries);
        self.core.pace.appended(last);
        self.core.learn(last);
        self.core.announce(last);
    }

    fn capacity(&self) -> &Capacity {
        &self.core.capacity
    }
}

impl WriteFailure for Failure {
    fn may_be_sent_again(&self) -> bool {
        self.is_conflict()
    }

    fn refuses_appends(&self) -> bool {
        self.is_full()
    }
}

impl Batches {
    /// Inserts a batch and returns the position of its last entry.
    async fn insert(&self, session: &Session, batch: &[Append]) -> Result<Position, Failure> {
        let (mut is_event, mut nth, mut before) = (Vec::new(), Vec::new(), Vec::new());
        let (mut ids, mut records): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
        let (mut updates, mut update_bytes, mut events) = (0_i64, 0_i64, 0_i64);
        for append in batch {
            is_event.push(append.origin == Origin::Hub);
            before.push(update_bytes);
            let count = match append.origin {
                Origin::Publisher => {
                    update_bytes += append.record.len() as i64;
                    &mut updates
                }
                Origin::Hub => &mut events,
            };
            *count += 1;
            nth.push(*count);
            ids.push(append.id.as_bytes());
            records.push(&append.record);
        }
        let last: Option<&&[u8]> = ids.last();
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&is_event, &nth, &before, &ids, &records, &updates, &update_bytes, &events, &last];
        let warnings = session.warnings();
        let insert = session.client.query_opt(&session.statements.append, &parameters);
        let inserted = timeout(self.core.timeout, insert).await;
        let row = inserted.map_err(|_| Failure::silent(self.core.timeout))??;
        let Some(row) = row else { return Err(Failure::new("the log's meta row is gone")) };
        if session.warnings() != warnings {
            return Err(Failure::new("the server has not waited for its stand-by servers"));
        }
        session.has_answered();
        let (epoch, head): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(position(epoch, head + batch.len() as i64))
    }
}
