//! Which of several messages of a subject counts.
//!
//! The leader of a stream with replicas looks at the last message of a subject before it proposes another one, and not again when
//! the replicas have agreed (NATS 2.9). So of several messages that expect the same last one, more than one may be stored. The last
//! of them counts.
//!
//! All of them were proposed before the first of them was stored, and messages are stored in the order of their proposals. So a node
//! that has seen one of them sends a mark, waits until that is stored, and looks then: if its message is still the last one, none of
//! the others can come behind it.

use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{failure::Failure, link::Link, write::Write};

/// The messages of one stream. See the module.
pub(super) struct Settled {
    stream: String,
    /// The subject of the marks, of which the stream keeps one.
    mark: String,
    /// Marks that have been sent, and the newest of them that was stored.
    sent: AtomicU64,
    stored: Mutex<u64>,
}

impl Settled {
    pub(super) fn new(stream: String, mark: String) -> Self {
        Self { stream, mark, sent: AtomicU64::new(0), stored: Mutex::new(0) }
    }

    /// Whether messages of this subject are marks.
    pub(super) fn is_mark(&self, subject: &str) -> bool {
        subject == self.mark
    }

    /// Waits for a write as [`Write::end`] does, and until it is sure that its message counts. `None`: another one does.
    pub(super) async fn end(&self, link: &Link, write: Write) -> Result<Option<u64>, Failure> {
        let subject = write.subject().to_owned();
        let Some(seq) = write.end(link).await? else { return Ok(None) };
        Ok(self.counts(link, &subject, seq).await?.then_some(seq))
    }

    /// Whether a stored message is the last of its subject, and only a message that expects this one can replace it.
    pub(super) async fn counts(&self, link: &Link, subject: &str, seq: u64) -> Result<bool, Failure> {
        self.wait(link).await?;
        Ok(link.last(&self.stream, subject).await?.is_some_and(|last| last.seq == seq))
    }

    /// Returns when everything is stored that the leader has proposed until now. Callers that come while a mark is on its way share
    /// the next one.
    async fn wait(&self, link: &Link) -> Result<(), Failure> {
        let before = self.sent.load(Ordering::SeqCst);
        let mut stored = self.stored.lock().await;
        if *stored > before {
            return Ok(());
        }
        let number = self.sent.fetch_add(1, Ordering::SeqCst) + 1;
        let attempts = link.attempts();
        loop {
            let sent = link.publish(&self.mark, HeaderMap::new(), Bytes::new(), &attempts).await;
            let result = match sent {
                Ok(sent) => link.published(sent).await,
                Err(failure) => Err(failure),
            };
            match result {
                Err(failure) if attempts.go_on(&failure) => {}
                result => {
                    result?;
                    *stored = number;
                    return Ok(());
                }
            }
        }
    }
}
