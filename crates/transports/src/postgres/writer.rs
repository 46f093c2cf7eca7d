//! The one writer of a process: whatever waits is one statement and one commit.

use std::{collections::VecDeque, sync::Arc};

use futures_util::future::join3;
use petasos_hub::{TransportError, transport::Position};
use petasos_protocol::update::{Origin, Update};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tokio_postgres::types::ToSql;

use super::{
    core::{Core, position},
    failure::Failure,
    link::{Lane, Session},
};
use crate::codec;

/// Where appends are handed in.
pub(super) struct Writer {
    core: Arc<Core>,
    queue: mpsc::Sender<Pending>,
    room: Arc<Semaphore>,
}

/// An entry that waits to be written, and who waits for it.
struct Pending {
    is_event: bool,
    id: Box<[u8]>,
    record: Vec<u8>,
    done: oneshot::Sender<Result<Position, TransportError>>,
    _room: OwnedSemaphorePermit,
}

/// Entries that wait to be written: some batches.
const QUEUE_ENTRIES: usize = 2_048;

/// Their kibibytes: 64 MiB.
const QUEUE_KIB: usize = 64 * 1024;

/// One statement: more would not make a commit much cheaper for each, and keep other nodes waiting.
const BATCH_ENTRIES: usize = 512;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// How often a batch is written again that the server gave up for another transaction's sake.
const ATTEMPTS: usize = 3;

impl Writer {
    /// A writer and its task, which ends with the value.
    pub(super) fn new(core: Arc<Core>, lane: Lane) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::channel(QUEUE_ENTRIES);
        let writer = Self { core: Arc::clone(&core), queue, room: Arc::new(Semaphore::new(QUEUE_KIB)) };
        (writer, write_all(core, lane, waiting))
    }

    pub(super) async fn append(&self, update: Update) -> Result<Position, TransportError> {
        let Self { core, queue, room } = self;
        tokio::select! {
            () = core.window.room(core.known()) => {}
            () = core.is_away() => return Err(Failure::silent(core.timeout).into()),
        }
        let deadline = Instant::now() + core.timeout;
        let record = codec::encode(&update);
        let write = async {
            let kib = (record.len() / 1024 + 1).min(QUEUE_KIB) as u32;
            let room = Arc::clone(room).acquire_many_owned(kib).await.map_err(|_| TransportError::Closed)?;
            let (done, written) = oneshot::channel();
            let pending = Pending {
                is_event: update.origin() == Origin::Hub,
                id: update.id().as_str().as_bytes().into(),
                record,
                done,
                _room: room,
            };
            queue.send(pending).await.map_err(|_| TransportError::Closed)?;
            written.await.map_err(|_| TransportError::Closed)?
        };
        timeout_at(deadline, write).await.map_err(|_| Failure::silent(core.timeout))?
    }
}

/// Probes for room whenever an append found none: writes as many bytes and rolls back. Never ends.
pub(super) async fn look_for_room(core: Arc<Core>, lane: Lane) {
    loop {
        let bytes = i32::try_from(core.capacity.is_due().await).unwrap_or(i32::MAX);
        let bytes = &bytes;
        let looked = lane.ask(|session: Arc<Session>| async move {
            let Session { client, statements, .. } = &*session;
            let parameters: [&(dyn ToSql + Sync); 1] = [bytes];
            // Each sends when it is polled first, which happens in this order.
            let (begun, tried, undone) = join3(
                client.batch_execute("BEGIN"),
                client.execute(&statements.try_room, &parameters),
                client.batch_execute("ROLLBACK"),
            )
            .await;
            begun?;
            tried?;
            undone?;
            Ok(())
        });
        match looked.await {
            Ok(()) => core.capacity.took(),
            Err(error) => tracing::debug!(%error, "{} has no room yet", core.shown()),
        }
    }
}

async fn write_all(core: Arc<Core>, lane: Lane, mut waiting: mpsc::Receiver<Pending>) {
    let mut queue = VecDeque::new();
    let mut arrived = Vec::new();
    loop {
        if queue.is_empty() && waiting.recv_many(&mut arrived, BATCH_ENTRIES).await == 0 {
            return;
        }
        while arrived.len() + queue.len() < BATCH_ENTRIES
            && let Ok(pending) = waiting.try_recv()
        {
            arrived.push(pending);
        }
        queue.extend(arrived.drain(..));
        // Waited for first, so that whoever gives up meanwhile is left out.
        let session = lane.session(Instant::now() + core.timeout).await;
        let mut bytes = 0;
        let mut batch = Vec::new();
        while batch.len() < BATCH_ENTRIES
            && let Some(pending) =
                queue.pop_front_if(|next| batch.is_empty() || bytes + next.record.len() <= BATCH_BYTES)
        {
            // Whoever does not wait any more has been told that it failed, and may have published it again.
            if !pending.done.is_closed() {
                bytes += pending.record.len();
                batch.push(pending);
            }
        }
        if batch.is_empty() {
            continue;
        }
        let written = match session {
            Ok(session) => write(&core, &session, &batch).await,
            Err(_) => Err(Failure::new("there is no connection to the server")),
        };
        match &written {
            Ok(_) => core.capacity.took(),
            Err(failure) if failure.is_full() => {
                let largest = batch.iter().map(|pending| pending.record.len()).max();
                core.capacity.refused(largest.unwrap_or_default(), failure);
            }
            Err(_) => {}
        }
        if let Ok(first) = written {
            core.has_appended(batch.len());
            let last = Position { sequence: first.sequence + batch.len() as u64 - 1, ..first };
            core.learn(last);
            core.tell(last);
        }
        for (pending, at) in batch.into_iter().zip(0..) {
            let place = |first: &Position| Position { sequence: first.sequence + at, ..*first };
            // An error means that nobody waits for it.
            let _ = pending.done.send(written.as_ref().map(place).map_err(|failure| failure.clone().into()));
        }
    }
}

/// Writes a batch and says where its first entry is.
async fn write(core: &Core, session: &Session, batch: &[Pending]) -> Result<Position, Failure> {
    let (mut is_event, mut nth, mut before) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ids, mut records): (Vec<&[u8]>, Vec<&[u8]>) = (Vec::new(), Vec::new());
    let (mut updates, mut update_bytes, mut events) = (0_i64, 0_i64, 0_i64);
    for pending in batch {
        is_event.push(pending.is_event);
        before.push(update_bytes);
        let count = if pending.is_event { &mut events } else { &mut updates };
        *count += 1;
        nth.push(*count);
        if !pending.is_event {
            update_bytes += pending.record.len() as i64;
        }
        ids.push(&pending.id);
        records.push(&pending.record);
    }
    let last: Option<&&[u8]> = ids.last();
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&is_event, &nth, &before, &ids, &records, &updates, &update_bytes, &events, &last];
    let mut attempt = 1;
    loop {
        let deadline = Instant::now() + core.timeout;
        let warnings = session.warnings();
        let append = session.client.query_opt(&session.statements.append, &parameters);
        let failure = match timeout_at(deadline, append).await {
            Ok(Ok(Some(_))) if session.warnings() != warnings => {
                return Err(Failure::new("the server has not waited for its stand-by servers"));
            }
            Ok(Ok(Some(row))) => {
                session.has_answered();
                let (epoch, head): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
                return Ok(position(epoch, head + 1));
            }
            Ok(Ok(None)) => Failure::new("the log's meta row is gone"),
            Ok(Err(error)) => error.into(),
            Err(_) => Failure::silent(core.timeout),
        };
        // A batch that had no effect would be sent again, and must not hold the update of a publisher that has given up.
        let is_waited_for = || !batch.iter().any(|pending| pending.done.is_closed());
        if failure.is_conflict() && attempt < ATTEMPTS && is_waited_for() {
            attempt += 1;
            continue;
        }
        if !failure.is_of_statement() {
            // What was sent may be written nevertheless, so it is not sent again.
            session.break_with(failure.clone());
        }
        return Err(failure);
    }
}
