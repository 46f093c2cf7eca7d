//! The one writer of a process: all appends that wait go to the store as one batch.
//!
//! Guards the rule of [`petasos_hub::transport::Transport::append`]: an update that still waits here when its publisher
//! gets an error, or goes away, is never written.

use std::{collections::VecDeque, fmt::Display, sync::Arc, time::Duration};

use petasos_hub::{
    TransportError,
    metrics::{Distribution, ENTRIES, Histogram},
    transport::Position,
};
use petasos_protocol::update::{Origin, Update};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    capacity::Capacity,
    room::{Permit, Room, WAITING_BYTES_MAX},
};
use crate::{codec, retry::Backoff};

/// Takes the appends of a process. The writer's task ends when this is dropped, after the appends that wait.
pub(crate) struct Writer {
    queue: mpsc::Sender<Append>,
    room: Room,
    timeout: Duration,
    /// The entries of each batch that was written.
    batches: Arc<Histogram>,
}

/// An update that waits to be written, and its publisher.
pub(crate) struct Append {
    pub(crate) origin: Origin,
    pub(crate) id: Box<str>,
    /// The update as the store keeps it.
    pub(crate) record: Vec<u8>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Position, TransportError>>,
    /// Held until the publisher is answered.
    _permit: Permit,
}

/// Bounds of one writer.
#[derive(Clone, Copy)]
pub(crate) struct Bounds {
    /// Appends that wait or are being written: some batches. Further publishers wait for the same time-out.
    pub(crate) entries_max: usize,
    /// Entries of one batch.
    pub(crate) batch_entries_max: usize,
    /// Bytes of the records of one batch. A larger record is a batch by itself.
    pub(crate) batch_bytes_max: usize,
}

/// A store that takes batches.
pub(crate) trait BatchStore: Send + Sync + 'static {
    type Connection: Send;
    type Failure: WriteFailure;

    /// A connection to a store that answers. Nothing is sent while the store is known not to answer.
    fn connection(
        &self,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Connection, Self::Failure>> + Send;

    /// Writes all of a batch or nothing, and returns the position of the last entry. The entries of a batch have
    /// consecutive sequences.
    fn write(
        &self,
        connection: Self::Connection,
        batch: &[Append],
        deadline: Instant,
    ) -> impl Future<Output = Result<Position, Self::Failure>> + Send;

    /// A batch of so many entries was written.
    fn written(&self, last: Position, entries: usize);

    fn capacity(&self) -> &Capacity;
}

/// Why a batch was not written.
pub(crate) trait WriteFailure: Clone + Display + Into<TransportError> + Send {
    /// Whether the batch surely had no effect and may be written if it is sent again.
    fn may_be_sent_again(&self) -> bool;

    /// Whether the store refuses all appends, mostly for want of room.
    fn refuses_appends(&self) -> bool;
}

impl Writer {
    /// A writer and its task, which may be aborted. An append has `timeout` from its begin to its answer.
    pub(crate) fn new<S: BatchStore>(
        store: S,
        bounds: Bounds,
        timeout: Duration,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, appends) = mpsc::channel(bounds.entries_max);
        let room = Room::new(bounds.entries_max, WAITING_BYTES_MAX);
        let queued = Queue { appends, arrived: Vec::new(), waiting: VecDeque::new(), bounds };
        let batches = Arc::new(Histogram::new(&ENTRIES));
        (Self { queue, room, timeout, batches: Arc::clone(&batches) }, run(store, queued, batches))
    }

    /// How many entries were written together.
    pub(crate) fn batches(&self) -> Distribution {
        self.batches.snapshot()
    }

    /// Returns when the store has the update.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`] after the time-out, and whatever the store answers. [`TransportError::Closed`] when
    /// the task has ended.
    pub(crate) async fn append(&self, update: &Update) -> Result<Position, TransportError> {
        let deadline = Instant::now() + self.timeout;
        let record = codec::encode(update);
        let answer = async {
            let permit = self.room.take(record.len()).await;
            let (reply, answer) = oneshot::channel();
            let (origin, id) = (update.origin(), update.id().as_str().into());
            let append = Append { origin, id, record, deadline, reply, _permit: permit };
            self.queue.send(append).await.map_err(|_| TransportError::Closed)?;
            answer.await.map_err(|_| TransportError::Closed)?
        };
        timeout_at(deadline, answer).await.unwrap_or_else(|_| {
            let timeout = humantime::format_duration(self.timeout);
            Err(TransportError::unavailable(format!("the store did not confirm it within {timeout}")))
        })
    }
}

/// Appends in the order in which they came.
struct Queue {
    appends: mpsc::Receiver<Append>,
    /// Room for what is taken from the channel; empty in between.
    arrived: Vec<Append>,
    /// Taken from the channel, and not in a batch yet.
    waiting: VecDeque<Append>,
    bounds: Bounds,
}

impl Queue {
    /// The next batch: at least one append, and all that wait as far as the bounds go. `None`: no more can come.
    async fn batch(&mut self) -> Option<Vec<Append>> {
        let Bounds { batch_entries_max, batch_bytes_max, .. } = self.bounds;
        let missing = batch_entries_max - self.waiting.len();
        if self.waiting.is_empty() {
            self.appends.recv_many(&mut self.arrived, missing).await;
        } else {
            while self.arrived.len() < missing
                && let Ok(append) = self.appends.try_recv()
            {
                self.arrived.push(append);
            }
        }
        self.waiting.extend(self.arrived.drain(..));
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(append) = self.waiting.pop_front_if(|next| {
            bytes += next.record.len();
            batch.is_empty() || bytes <= batch_bytes_max
        }) {
            batch.push(append);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

async fn run<S: BatchStore>(store: S, mut queue: Queue, batches: Arc<Histogram>) {
    let store = Arc::new(store);
    while let Some(batch) = queue.batch().await {
        write(&*store, batch, &batches).await;
    }
}

/// Writes a batch and answers everyone in it.
async fn write<S: BatchStore>(store: &S, mut batch: Vec<Append>, batches: &Histogram) {
    let mut backoff = Backoff::new();
    let written = loop {
        let Some(deadline) = batch.iter().map(|append| append.deadline).max() else { return };
        let connection = store.connection(deadline).await;
        // A publisher that got an error while its update waited here may publish it again.
        batch.retain(|append| !append.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let written = match connection {
            Ok(connection) => store.write(connection, &batch, deadline).await,
            Err(failure) => Err(failure),
        };
        match written {
            Err(failure) if failure.may_be_sent_again() => {
                if timeout_at(deadline, backoff.wait()).await.is_err() {
                    break Err(failure);
                }
            }
            written => break written,
        }
    };
    match &written {
        Ok(last) => {
            store.capacity().took();
            store.written(*last, batch.len());
            batches.record(batch.len() as u64);
        }
        Err(failure) if failure.refuses_appends() => {
            let largest = batch.iter().map(|append| append.record.len()).max();
            store.capacity().refused(largest.unwrap_or_default(), failure);
        }
        Err(_) => {}
    }
    let behind = (0..batch.len() as u64).rev();
    for (append, behind) in batch.into_iter().zip(behind) {
        let position = |last: Position| Position { sequence: last.sequence - behind, ..last };
        // An error means that the publisher has gone.
        let _ = append.reply.send(written.clone().map(position).map_err(Into::into));
    }
}
