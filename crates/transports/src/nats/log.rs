//! Reading the log, by what this node knows of it: the index.

use std::{
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use petasos_hub::{
    TransportError,
    transport::{Entry, Head, Page, Position},
};
use petasos_protocol::{topic::HubUrl, update::Update};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    api::Info,
    failure::Failure,
    index::Index,
    link::Link,
    streams::{Streams, kept_per_subject},
};
use crate::{
    codec::decode_id,
    shared::{capacity::Capacity, decoder::Decoder, pace::Pace},
};

/// What reads the log. See the module.
pub(super) struct Log {
    pub(super) link: Arc<Link>,
    pub(super) streams: Streams,
    pub(super) pace: Arc<Pace>,
    pub(super) decoder: Decoder,
    pub(super) capacity: Capacity,
    updates_max: usize,
    index: Mutex<Index>,
    /// The head of the index, for those that wait until it moves.
    reached: watch::Sender<Position>,
    /// Has the task that keeps the index check whether the log is still the same.
    doubted: Notify,
    questions: mpsc::Sender<Question>,
}

/// A caller that waits for the bounds of the log. One request answers all that wait.
type Question = oneshot::Sender<Result<Bounds, String>>;

/// The sequences that the stream holds.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    epoch: u64,
    first: u64,
    last: u64,
}

/// What stands at a place of the index.
enum Found {
    Update(Update),
    /// Reported already.
    Damaged,
    Removed,
}

/// Callers that wait for the bounds of the log; further ones queue behind them.
const QUESTIONS_MAX: usize = 1_024;

/// How often a server that has not answered is asked again.
pub(super) const PROBE: Duration = Duration::from_millis(500);

/// The bytes of one page, so that a task which holds one pins little.
const PAGE_BYTES: usize = 256 * 1024;

/// Messages of a page that are asked for at once: enough to hide the way to the server.
const PAGE_REQUESTS: usize = 32;

impl Log {
    /// A log whose index is empty, and the task that asks for its bounds.
    pub(super) fn new(
        link: Arc<Link>,
        streams: Streams,
        hub: HubUrl,
        updates_max: usize,
        info: &Info,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), Failure> {
        let shown = format!("the stream \"{}\" in NATS", streams.log);
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let task = answer(Arc::clone(&link), streams.log.clone(), asked);
        let index = new_index(info, updates_max, &streams)?;
        let log = Self {
            pace: Arc::default(),
            decoder: Decoder::new(shown.clone(), hub),
            capacity: Capacity::new(shown),
            updates_max,
            reached: watch::Sender::new(index.head()),
            index: Mutex::new(index),
            doubted: Notify::new(),
            questions,
            streams,
            link,
        };
        Ok((log, task))
    }

    pub(super) async fn head(&self) -> Result<Head, TransportError> {
        let (position, id) = self.ask(|index| (index.head(), index.head_id.clone())).await?;
        Ok(Head { position, id: id.as_deref().and_then(decode_id) })
    }

    pub(super) async fn locate(&self, id: &str) -> Result<Option<Position>, TransportError> {
        let (epoch, places) = self.ask(|index| (index.epoch, index.places(id))).await?;
        for sequence in places {
            let position = Position { epoch, sequence };
            match self.update(position).await? {
                Found::Update(update) if update.id().as_str() == id => return Ok(Some(position)),
                _ => {}
            }
        }
        Ok(None)
    }

    pub(super) async fn read(&self, after: Position, limit: usize) -> Result<Page, TransportError> {
        let mut after = after;
        loop {
            let (sequences, head, trimmed) = self
                .ask(|index| {
                    let head = index.head();
                    let after = if after.epoch == head.epoch { after.sequence } else { 0 };
                    (index.after(after, limit), head, index.trimmed())
                })
                .await?;
            let epoch = head.epoch;
            let Some(last) = sequences.last().copied() else {
                let through = if after.epoch == epoch { head.max(after) } else { head };
                return Ok(Page { entries: Vec::new(), through, at_end: true, trimmed });
            };
            let is_last = sequences.len() < limit || last == head.sequence;
            let (entries, reached) = match self.page(epoch, sequences).await? {
                Some(page) => page,
                None => continue,
            };
            after = Position { epoch, sequence: reached };
            // Of a stretch in which nothing can be read, the next one is the answer.
            if entries.is_empty() {
                continue;
            }
            let at_end = is_last && reached == last;
            return Ok(Page { entries, through: if at_end { head } else { after }, at_end, trimmed });
        }
    }

    /// The messages with those sequences, in order, as far as the bytes of a page go; and up to where that is. `None`:
    /// an operator has removed one, which the index knows now.
    async fn page(
        &self,
        epoch: u64,
        sequences: Vec<u64>,
    ) -> Result<Option<(Vec<Entry>, u64)>, TransportError> {
        let mut entries = Vec::new();
        let (mut bytes, mut through) = (0, 0);
        let updates = sequences.into_iter().map(|sequence| async move {
            let position = Position { epoch, sequence };
            (position, self.update(position).await)
        });
        let mut updates = pin!(stream::iter(updates).buffered(PAGE_REQUESTS));
        while bytes < PAGE_BYTES {
            let Some((position, update)) = updates.next().await else { break };
            through = position.sequence;
            match update? {
                Found::Update(update) => {
                    bytes += update.size();
                    entries.push(Entry::now(position, Arc::new(update)));
                }
                Found::Damaged => {}
                Found::Removed => return Ok(None),
            }
        }
        Ok(Some((entries, through)))
    }

    async fn update(&self, position: Position) -> Result<Found, TransportError> {
        let record = self.link.get(&self.streams.log, position.sequence).await?;
        match record {
            Some(record) => Ok(self.decoder.update(position, &record).map_or(Found::Damaged, Found::Update)),
            None => {
                let (stream, sequence) = (&self.streams.log, position.sequence);
                tracing::warn!(
                    stream,
                    sequence,
                    "an operator has removed a message: older messages count as trimmed"
                );
                self.index().removed(sequence);
                Ok(Found::Removed)
            }
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // Nothing under the lock panics half-way through a change.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the index when it holds everything that the log held when this was called.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(&Index) -> T) -> Result<T, TransportError> {
        let limit = self.link.settings.timeout;
        let asked = tokio::time::timeout(limit, async {
            let mut reached = self.reached.subscribe();
            loop {
                let known = *reached.borrow_and_update();
                let bounds = self.bounds().await?;
                let end = Position { epoch: bounds.epoch, sequence: bounds.last };
                if end < known {
                    // The server has lost its end, and the index is of what was there before.
                    self.doubted.notify_one();
                    // Should the index have been right after all, nothing changes: it is asked again.
                    let _ = tokio::time::timeout(PROBE, reached.changed()).await;
                    continue;
                }
                if end.epoch != known.epoch {
                    self.doubted.notify_one();
                }
                // The missing messages may have been removed: then only the task that keeps the index can tell.
                loop {
                    match tokio::time::timeout(PROBE, reached.wait_for(|head| *head >= end)).await {
                        Ok(head) => break head.map(drop).map_err(|_| TransportError::Closed)?,
                        Err(_) => self.doubted.notify_one(),
                    }
                }
                let mut index = self.index();
                // It may have been begun anew since.
                if index.epoch == end.epoch && index.head() >= end {
                    index.removed_before(bounds.first);
                    return Ok(question(&index));
                }
            }
        });
        asked.await.unwrap_or_else(|_| {
            let reason = format!("the index of the log is not up to date within {limit:?}");
            self.link.health.set_unavailable(&reason);
            self.doubted.notify_one();
            Err(TransportError::unavailable(reason))
        })
    }

    async fn bounds(&self) -> Result<Bounds, TransportError> {
        let (sender, bounds) = oneshot::channel();
        self.questions.send(sender).await.map_err(|_| TransportError::Closed)?;
        bounds.await.map_err(|_| TransportError::Closed)?.map_err(TransportError::unavailable)
    }

    /// The head of the index, which the log may have left behind.
    pub(super) fn known_head(&self) -> Position {
        *self.reached.borrow()
    }

    /// The head of the index, whenever it moves.
    pub(super) fn reached(&self) -> watch::Receiver<Position> {
        self.reached.subscribe()
    }

    /// Waits until an answer of the server or a caller doubts that the log is still the same.
    pub(super) async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Has the task that keeps the index check whether the log is still the same.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Publishes the head of the index.
    pub(super) fn index_moved(&self) {
        let index = self.index();
        self.reached.send_replace(index.head());
    }

    /// Begins the index of a log that is another one than before, or is read from its start again.
    pub(super) fn begin_epoch(&self, info: &Info) -> Result<(), Failure> {
        let mut index = self.index();
        *index = new_index(info, self.updates_max, &self.streams)?;
        // Still locked: an index that is empty must not count as up to date.
        self.reached.send_replace(index.head());
        Ok(())
    }
}

fn new_index(info: &Info, updates_max: usize, streams: &Streams) -> Result<Index, Failure> {
    Ok(Index::new(info.epoch()?, updates_max, streams.events_max(), kept_per_subject(info)))
}

/// Asks for the bounds of the log, once for all callers that wait.
async fn answer(link: Arc<Link>, stream: String, mut asked: mpsc::Receiver<Question>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, QUESTIONS_MAX).await > 0 {
        let info = link.info(&stream).await;
        let bounds = info.and_then(|info| {
            let epoch = info.epoch()?;
            Ok(Bounds { epoch, first: info.state.first_seq, last: info.state.last_seq })
        });
        let bounds = bounds.map_err(|failure| failure.to_string());
        for question in waiting.drain(..) {
            // An error means that the caller has gone.
            let _ = question.send(bounds.clone());
        }
    }
}
