//! One reader of what is appended: from memory when it is near the end, from the database when it is behind.

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    transport::{Entry, Follower},
};

use super::{
    log::Log,
    records::{Found, Span},
};
use crate::{retry::Backoff, shared::pace::Seat};

pub(super) struct DurableFollower {
    pub(super) log: Arc<Log>,
    /// What it has not seen is not deleted, and publishers wait for it.
    pub(super) seat: Seat,
    pub(super) sequence: u64,
    /// Up to where subscription events were gone when it began.
    pub(super) forgiven: u64,
}

/// Entries of one batch.
const BATCH_ENTRIES: usize = 512;

#[async_trait]
impl Follower for DurableFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        let mut backoff = Backoff::new();
        loop {
            let appended = self.log.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let (head, trimmed, recent) = {
                let published = self.log.lock();
                if published.is_closed() {
                    return Err(TransportError::Closed);
                }
                if published.has_lost(self.sequence, self.forgiven) {
                    return Err(TransportError::Trimmed);
                }
                (published.head, published.trimmed, published.recent(self.sequence, BATCH_ENTRIES, |_| true))
            };
            let after = [self.sequence; 2];
            let dense_after = self.sequence.max(trimmed[0]).max(trimmed[1]);
            let span = Span { after, dense_after, through: head, entries: BATCH_ENTRIES };
            let found = match recent {
                Some(found) => Ok(found),
                None => self.log.read_rows(span).await,
            };
            let Found { entries, through } = match found {
                Ok(found) => found,
                Err(error) => {
                    tracing::debug!(%error, "the log is read again");
                    backoff.wait().await;
                    continue;
                }
            };
            if self.log.lock().has_lost(self.sequence, self.forgiven) {
                return Err(TransportError::Trimmed);
            }
            if through > self.sequence {
                self.sequence = through;
                self.seat.move_to(self.log.records.position(through));
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
            // Behind the head there may be nothing but damage.
            if through >= head {
                appended.await;
            }
        }
    }
}
