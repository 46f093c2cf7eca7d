//! How a batch is appended: one call of a script, and a wait for replicas where the URL asks for them.

use std::sync::Arc;

use ::redis::cmd;
use petasos_hub::transport::{Position, events_max};
use petasos_protocol::update::Origin;
use tokio::time::Instant;

use super::{
    failure::Failure,
    link::{Lines, Link, within},
    script::APPEND,
};
use crate::shared::{
    capacity::Capacity,
    pace::{MARGIN_ENTRIES, Pace},
    writer::{Append, BatchStore, Bounds, WriteFailure},
};

/// The store of a [`crate::shared::writer::Writer`].
pub(super) struct Batches {
    pub(super) link: Arc<Link>,
    pub(super) kept: Arc<Kept>,
    pub(super) pace: Arc<Pace>,
}

/// The server does nothing else while it runs a script: for a batch, some milliseconds at most.
pub(super) const BOUNDS: Bounds =
    Bounds { entries_max: 1_024, batch_entries_max: 256, batch_bytes_max: 1024 * 1024 };

/// The bounds of the log as arguments of scripts: updates, subscription events, and the margin for followers that lag.
pub(super) struct Kept([String; 3]);

impl Kept {
    pub(super) fn new(updates_max: usize) -> Self {
        let events_max = events_max(updates_max);
        Self([updates_max, events_max, MARGIN_ENTRIES].map(|bound| bound.to_string()))
    }

    pub(super) fn as_arguments(&self) -> Vec<&[u8]> {
        self.0.iter().map(String::as_bytes).collect()
    }
}

impl BatchStore for Batches {
    type Connection = Lines;
    type Failure = Failure;

    async fn connection(&self, deadline: Instant) -> Result<Lines, Failure> {
        self.link.lines_that_answer(deadline).await
    }

    async fn write(
        &self,
        mut lines: Lines,
        batch: &[Append],
        deadline: Instant,
    ) -> Result<Position, Failure> {
        let last = self.append(&mut lines, batch, deadline).await;
        let last = last.inspect_err(|failure| self.link.doubt(failure))?;
        // From here on nothing is sent again, whatever fails: it would be appended twice.
        let confirmed = confirm(&self.link, &mut lines, deadline).await;
        confirmed.inspect_err(|failure| self.link.doubt(failure))?;
        Ok(last)
    }

    fn written(&self, last: Position, _: usize) {
        self.pace.appended(last);
    }

    fn capacity(&self) -> &Capacity {
        self.link.capacity()
    }
}

impl WriteFailure for Failure {
    fn may_be_sent_again(&self) -> bool {
        self.is_refusal()
    }

    fn refuses_appends(&self) -> bool {
        self.refuses_writes()
    }
}

impl Batches {
    /// Returns the position of the last entry.
    async fn append(
        &self,
        lines: &mut Lines,
        batch: &[Append],
        deadline: Instant,
    ) -> Result<Position, Failure> {
        let mut arguments = self.kept.as_arguments();
        for append in batch {
            let stream: &[u8] = match append.origin {
                Origin::Publisher => b"updates",
                Origin::Hub => b"events",
            };
            arguments.extend([stream, append.id.as_bytes(), &append.record]);
        }
        let answer = within(deadline, self.link.scripts.call(&mut lines.writes, &APPEND, arguments)).await?;
        Ok(answer.state.position)
    }
}

/// Waits until as many replicas as the URL asks for have what was appended on the connection.
async fn confirm(link: &Link, lines: &mut Lines, deadline: Instant) -> Result<(), Failure> {
    let wanted = link.settings.replicas;
    if wanted == 0 {
        return Ok(());
    }
    let mut wait = cmd("WAIT");
    // The answer has to be there before the time is up.
    let left = deadline.saturating_duration_since(Instant::now()).mul_f64(0.75).as_millis() as u64;
    wait.arg(wanted).arg(left.max(1));
    let wait = async { Ok(wait.query_async::<u32>(&mut lines.writes).await?) };
    match within(deadline, wait).await {
        Ok(reached) if reached >= wanted => Ok(()),
        Ok(reached) => Err(Failure::Other(format!(
            "only {reached} of {wanted} replicas have confirmed the update in time"
        ))),
        Err(Failure::Silence) => Err(Failure::Silence),
        // A refusal elsewhere means that nothing was done. Here the update is appended already.
        Err(failure) => Err(Failure::Other(format!(
            "the update is there, and replicas could not be asked to confirm it: {failure}"
        ))),
    }
}
