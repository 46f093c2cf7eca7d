//! The log and what this node knows of it. One task keeps the index: it reads the subjects and headers of everything,
//! makes what is missing, notices when the log was lost, and when the server answers again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::HeaderMap;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use petasos_hub::{TransportError, transport::Position};
use petasos_protocol::{
    topic::HubUrl,
    update::{Origin, Update},
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
};
use uuid::Uuid;

use super::{
    api::Info,
    consumer::{End, Raw, Reader, Start},
    index::Index,
    link::{Failure, Link, Sent},
    streams::{Streams, kept_per_subject},
};
use crate::{
    OpenError,
    codec::{self, Damaged},
    retry::Backoff,
    shared::capacity::Capacity,
    shared::pace::Window,
};

/// The log of a hub. See the module.
pub(super) struct Log {
    pub(super) link: Arc<Link>,
    pub(super) streams: Streams,
    pub(super) window: Arc<Window>,
    hub: HubUrl,
    updates_max: usize,
    index: Mutex<Index>,
    /// The head of the index, told to those who wait for it.
    reached: watch::Sender<Position>,
    /// Asks the task to look whether the log is still the same.
    doubted: Notify,
    /// The newest append of this process.
    newest: Mutex<Position>,
    soundings: mpsc::Sender<Sounding>,
    reported: Mutex<VecDeque<String>>,
    /// Whether appends find room.
    pub(super) capacity: Capacity,
}

/// Ends the tasks of a log when it is dropped.
pub(super) struct Tasks(Vec<JoinHandle<()>>);

/// Where the end of the log is, asked once for all who want to know at that time.
type Sounding = oneshot::Sender<Result<Depth, String>>;

#[derive(Debug, Clone, Copy)]
struct Depth {
    epoch: u64,
    first: u64,
    last: u64,
}

/// An update that has been sent.
struct Append {
    /// The head of the log, as far as was known before.
    before: Position,
    sent: Sent,
}

/// Updates that are appended one after the other and are on their way at once.
const APPENDS: usize = 256;

/// Who waits to know where the log ends. Others wait to wait.
const SOUNDINGS_MAX: usize = 1_024;

/// How often a server that has not answered is asked again.
const PROBE: Duration = Duration::from_millis(500);

/// What has been reported and is not reported again.
const REPORTED_MAX: usize = 1_024;

/// The header with an update's id, percent-encoded: from it the index is made without the update.
const ID: &str = "Petasos-Id";
/// The header by which the server tells repetitions.
const TOLD: &str = "Nats-Msg-Id";
/// The header that keeps a message out of any other stream.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// What a header loses or cannot hold.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b':');

impl Log {
    /// Makes or checks the streams, and reads what the log holds.
    pub(super) async fn open(
        link: Link,
        hub: HubUrl,
        updates_max: usize,
    ) -> Result<(Arc<Self>, Tasks), OpenError> {
        let link = Arc::new(link);
        if !link.connection().client.is_server_compatible(2, 9, 0) {
            return Err(OpenError::Refused(
                "the NATS server is too old: it has to be 2.9 or later".to_owned(),
            ));
        }
        let streams = Streams::new(&link, updates_max);
        link.account().await.map_err(|failure| super::streams::refused(&link, &failure))?;
        let info = streams.ensure(&link).await?;
        let epoch = info.epoch().map_err(TransportError::from)?;
        let index = Index::new(epoch, updates_max, streams.events_max(), kept_per_subject(&info));
        let (soundings, asked) = mpsc::channel(SOUNDINGS_MAX);
        let log = Arc::new(Self {
            window: Arc::default(),
            hub,
            updates_max,
            reached: watch::Sender::new(index.head()),
            index: Mutex::new(index),
            doubted: Notify::new(),
            newest: Mutex::new(Position::EARLIEST),
            soundings,
            reported: Mutex::default(),
            capacity: Capacity::new(format!("the stream \"{}\" in NATS", streams.log)),
            streams,
            link,
        });
        let mut reader = log.index_reader();
        log.load(&mut reader).await.map_err(|end| match end {
            End::Away(reason) | End::Lost(reason) => match log.link.health.refused() {
                Some(text) => OpenError::Refused(format!("the NATS server refuses a request: {text}")),
                None => TransportError::unavailable(reason).into(),
            },
        })?;
        let tasks = vec![
            tokio::spawn(keep_index(Arc::clone(&log), reader)),
            tokio::spawn(sound(Arc::clone(&log.link), log.streams.log.clone(), asked)),
            tokio::spawn(look_for_room(Arc::clone(&log))),
        ];
        Ok((log, Tasks(tasks)))
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
                let depth = self.depth().await?;
                let end = Position { epoch: depth.epoch, sequence: depth.last };
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
                    index.removed_before(depth.first);
                    return Ok(question(&index));
                }
            }
        });
        asked.await.unwrap_or_else(|_| {
            let reason = format!("the index of the log is not up to date within {limit:?}");
            self.link.health.is_away(&reason);
            self.doubted.notify_one();
            Err(TransportError::unavailable(reason))
        })
    }

    async fn depth(&self) -> Result<Depth, TransportError> {
        let (sender, depth) = oneshot::channel();
        self.soundings.send(sender).await.map_err(|_| TransportError::Closed)?;
        depth.await.map_err(|_| TransportError::Closed)?.map_err(TransportError::unavailable)
    }

    /// Adds an update.
    pub(super) async fn append(&self, update: &Update) -> Result<Position, TransportError> {
        self.room().await?;
        let begun = self.begin(update, None).await?;
        let (before, ack) = (begun.before, self.link.published(begun.sent).await);
        let ack = ack.inspect_err(|failure| {
            if failure.is_full() {
                self.capacity.refused(update.size(), failure);
            }
        })?;
        let mut position = Position { epoch: before.epoch, sequence: ack.seq };
        if ack.seq <= before.sequence {
            // Sequences grow unless the log was lost.
            self.doubted.notify_one();
            position.epoch = self.ask(|index| index.epoch).await?;
        }
        self.has_appended(position);
        Ok(position)
    }

    /// Adds updates one after the other, each once only under the id that stands before it. Those that are larger than
    /// the server takes are left out.
    pub(super) async fn append_once(&self, updates: &[(String, Update)]) -> Result<(), TransportError> {
        for updates in updates.chunks(APPENDS) {
            self.room().await?;
            let mut appends = Vec::with_capacity(updates.len());
            for (told, update) in updates {
                match self.begin(update, Some(told)).await {
                    Err(failure) if failure.is_too_large() => self.leaves_out(told, &failure),
                    append => appends.push((told, append?)),
                }
            }
            for (told, append) in appends {
                match self.link.published(append.sent).await {
                    Err(failure) if failure.is_too_large() => self.leaves_out(told, &failure),
                    ack => {
                        let sequence = ack?.seq;
                        self.has_appended(Position { epoch: append.before.epoch, sequence });
                    }
                }
            }
        }
        Ok(())
    }

    fn leaves_out(&self, told: &str, failure: &Failure) {
        if self.is_news(told) {
            tracing::warn!(log = self.link.settings.name, told, error = %failure, "an event is not told");
        }
    }

    /// Sends an update. `told`: the id by which the server takes it once only.
    async fn begin(&self, update: &Update, told: Option<&str>) -> Result<Append, Failure> {
        let before = *self.reached.borrow();
        let subject = match update.origin() {
            Origin::Publisher => &self.streams.updates,
            Origin::Hub => &self.streams.events,
        };
        let mut headers = HeaderMap::new();
        headers.insert(ID, utf8_percent_encode(update.id().as_str(), ENCODED).to_string());
        headers.insert(EXPECTED_STREAM, self.streams.log.as_str());
        if let Some(told) = told {
            headers.insert(TOLD, told);
        }
        let sent = self.link.publish(subject, headers, codec::encode(update).into()).await?;
        Ok(Append { before, sent })
    }

    fn has_appended(&self, position: Position) {
        self.capacity.took();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = position.max(*newest);
    }

    /// Waits for this process's followers, but not for a server that is away: nobody comes any further then.
    async fn room(&self) -> Result<(), TransportError> {
        let limit = self.link.settings.timeout;
        loop {
            let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            // Of a log that has lost its end, no follower would ever come to what was appended before.
            let newest = newest.min(*self.reached.borrow());
            if tokio::time::timeout(limit, self.window.room(newest)).await.is_ok() {
                return Ok(());
            }
            if !self.link.health.is_ready() {
                return Err(TransportError::unavailable("the followers wait for the server"));
            }
        }
    }

    /// An update as it was appended; `None`, and a line in the log, if it cannot be read.
    pub(super) fn decode(&self, position: Position, record: &[u8]) -> Option<Update> {
        match codec::decode(record, &self.hub) {
            Ok(update) => Some(update),
            Err(damage) => {
                self.report(&self.streams.log, position, damage);
                None
            }
        }
    }

    /// Says once that a record cannot be read.
    pub(super) fn report(&self, stream: &str, position: Position, damage: Damaged) {
        let Position { epoch, sequence } = position;
        if self.is_news(&format!("{stream} {epoch} {sequence}")) {
            tracing::error!(stream, sequence, error = %damage, "a record cannot be read and is skipped");
        }
    }

    /// Whether this has not been reported yet.
    pub(super) fn is_news(&self, what: &str) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.iter().any(|each| each == what) {
            return false;
        }
        if reported.len() == REPORTED_MAX {
            reported.pop_front();
        }
        reported.push_back(what.to_owned());
        true
    }

    /// The head of the index whenever it moves.
    pub(super) fn reached(&self) -> watch::Receiver<Position> {
        self.reached.subscribe()
    }

    /// Has it checked whether the log is still the same.
    pub(super) fn doubt(&self) {
        self.doubted.notify_one();
    }

    pub(super) fn hub(&self) -> &HubUrl {
        &self.hub
    }

    /// Reads on behind the index.
    fn index_reader(&self) -> Reader {
        let Position { epoch, sequence } = self.index().head();
        Reader::new(Arc::clone(&self.link), &self.streams.log, true, epoch, sequence)
    }

    /// Reads until the index holds everything that is there now.
    async fn load(&self, reader: &mut Reader) -> Result<(), End> {
        let Some(Start { last, mut pending }) = reader.attach().await? else { return Ok(()) };
        // An index that has just begun does not know what was trimmed before.
        let has_begun = self.index().through > 0;
        while pending > 0 && self.index().through < last {
            let batch = reader.next().await?;
            pending = batch.last().map_or(0, |raw| raw.pending);
            self.apply(batch, has_begun)?;
        }
        // What is still missing was removed by somebody.
        match has_begun {
            true => self.index().lost_through(last),
            false => self.index().skip_to(last),
        }
        self.tell();
        Ok(())
    }

    /// Adds what follows. `dense`: nothing may be missing before it.
    fn apply(&self, batch: Vec<Raw>, dense: bool) -> Result<(), End> {
        let mut index = self.index();
        let expected = index.through + 1;
        if dense && batch.first().is_some_and(|raw| raw.seq > expected) {
            return Err(End::Lost("messages that had not been read are gone".to_owned()));
        }
        for raw in batch {
            let origin = if raw.subject == self.streams.events { Origin::Hub } else { Origin::Publisher };
            let header = |name| raw.headers.as_ref().and_then(|headers| headers.get(name));
            let id = header(ID).map(|id| percent_decode_str(id.as_str()).decode_utf8_lossy().into_owned());
            index.push(raw.seq, origin, id, header(TOLD).map(|told| told.as_str()));
        }
        drop(index);
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let index = self.index();
        self.reached.send_replace(index.head());
    }

    /// Begins the index of a log that is another one than before, or is read from its start again.
    fn begin_anew(&self, info: &Info) -> Result<(), End> {
        let epoch = info.epoch().map_err(|failure| End::Away(failure.to_string()))?;
        let events_max = self.streams.events_max();
        let mut index = self.index();
        *index = Index::new(epoch, self.updates_max, events_max, kept_per_subject(info));
        // Before anybody else sees it: an index that is empty must not count as up to date.
        self.reached.send_replace(index.head());
        Ok(())
    }

    /// Fails if the log is not the one of the index, or ends before what the index has.
    fn is_same(&self, info: &Info) -> Result<(), End> {
        let epoch = info.epoch().map_err(|failure| End::Away(failure.to_string()))?;
        let (head, last) = (self.index().head(), info.state.last_seq);
        if epoch != head.epoch {
            return Err(End::Lost("the stream does not exist any more, or is another one".to_owned()));
        }
        if last < head.sequence {
            return Err(End::Lost(format!(
                "the stream ends at {last}, before {}: the server has lost what it acknowledged",
                head.sequence
            )));
        }
        Ok(())
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Keeps the index for as long as the log is open.
async fn keep_index(log: Arc<Log>, mut reader: Reader) {
    let mut backoff = Backoff::new();
    loop {
        let health = &log.link.health;
        match follow_index(&log, &mut reader, &mut backoff).await {
            End::Away(reason) => {
                health.is_away(&reason);
                backoff.wait().await;
            }
            End::Lost(reason) => {
                tracing::warn!(log = log.link.settings.name, reason, "the log is read anew");
                backoff.wait().await;
                match log.streams.ensure(&log.link).await {
                    Ok(info) => {
                        // A log that has lost its end only keeps its epoch; what was known of it is forgotten all the same.
                        if log.begin_anew(&info).is_ok() {
                            reader = log.index_reader();
                        }
                    }
                    Err(error) => {
                        health.is_away(&error.to_string());
                        backoff.wait().await;
                    }
                }
            }
        }
    }
}

/// Reads until something is wrong.
async fn follow_index(log: &Log, reader: &mut Reader, backoff: &mut Backoff) -> End {
    if let Err(end) = attach_index(log, reader).await {
        return end;
    }
    log.link.health.is_back();
    backoff.reset();
    // Where the log was known to end when somebody waited in vain, and how far the index was at the last look.
    let (mut awaited, mut seen) = (0, 0);
    let mut probe = tokio::time::interval(PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            batch = reader.next() => match batch {
                Ok(batch) => {
                    if let Err(end) = log.apply(batch, true) {
                        return end;
                    }
                }
                Err(end) => return end,
            },
            () = log.doubted.notified() => match reader.check().await {
                Ok(info) => match log.is_same(&info) {
                    Ok(()) => awaited = awaited.max(info.state.last_seq),
                    Err(end) => return end,
                },
                Err(end) => return end,
            },
            _ = probe.tick() => {
                let through = log.index().through;
                let is_stalled = awaited > through && std::mem::replace(&mut seen, through) == through;
                if is_stalled {
                    // The awaited messages may have been removed, or the consumer is stuck: a new consumer shows which.
                    reader.detach();
                    if let Err(end) = attach_index(log, reader).await {
                        return end;
                    }
                }
                if !log.link.health.is_ready() {
                    if let Err(end) = reader.check().await {
                        return end;
                    }
                    log.link.health.is_back();
                }
            }
        }
    }
}

/// Attaches the reader again, to the same log.
async fn attach_index(log: &Log, reader: &mut Reader) -> Result<(), End> {
    log.link.revive().await.map_err(|error| End::Away(error.to_string()))?;
    let info = log.streams.ensure(&log.link).await.map_err(|error| End::Away(error.to_string()))?;
    log.is_same(&info)?;
    log.load(reader).await
}

/// Probes for room whenever an append found none. Never ends.
async fn look_for_room(log: Arc<Log>) {
    loop {
        let bytes = log.capacity.is_due().await;
        match has_room(&log, bytes).await {
            Ok(true) => log.capacity.took(),
            Ok(false) => {}
            Err(failure) => tracing::debug!(%failure, "it is not known whether there is room"),
        }
    }
}

/// Whether the bounds of the stream, the account and the server leave room for so many bytes. Not every user may ask
/// for the bounds of account and server, so a message of that size is stored in the stream of leases, and removed at
/// once.
async fn has_room(log: &Log, bytes: usize) -> Result<bool, Failure> {
    let info = log.link.info(&log.streams.log).await?;
    let bound = |name: &str| info.config[name].as_u64().filter(|bound| *bound > 0).unwrap_or(u64::MAX);
    if info.state.messages >= bound("max_msgs")
        || info.state.bytes.saturating_add(bytes as u64) >= bound("max_bytes")
    {
        return Ok(false);
    }
    let subject = log.streams.lease_of(&format!("room-{}", Uuid::new_v4().simple()));
    let sent = log.link.publish(&subject, HeaderMap::new(), vec![0; bytes].into()).await?;
    match log.link.published(sent).await {
        Ok(ack) => log.link.delete(&log.streams.leases, ack.seq).await.map(|_| true),
        Err(failure) if failure.is_full() => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Asks where the log ends: one question for all who wait.
async fn sound(link: Arc<Link>, stream: String, mut asked: mpsc::Receiver<Sounding>) {
    let mut waiting = Vec::new();
    while asked.recv_many(&mut waiting, SOUNDINGS_MAX).await > 0 {
        let info = link.info(&stream).await;
        let depth = info.and_then(|info| {
            let epoch = info.epoch()?;
            Ok(Depth { epoch, first: info.state.first_seq, last: info.state.last_seq })
        });
        let depth = depth.map_err(|failure| failure.to_string());
        for sender in waiting.drain(..) {
            // Who asked may have gone.
            let _ = sender.send(depth.clone());
        }
    }
}
