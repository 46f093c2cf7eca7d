//! What all streams of one node share: the log, how far the node has delivered it, its health and its numbers.
//!
//! A node knows neither its shards nor its streams. Each stream holds its node, so a node lives until its last handle and
//! its last stream are gone.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use petasos_protocol::{
    Dialect,
    event::{EventId, Retry},
    sse::{self, Frame},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    TransportError,
    admission::Admissions,
    budget::Budget,
    delivered::Delivered,
    health::Health,
    ids,
    log::transport::{Head, Position, Transport},
    metrics::{
        histogram::{Histogram, SECONDS},
        node::Metrics,
        outcome::{EndReason, StreamCarrier},
        snapshot::{LogSnapshot, Snapshot},
        survey::Survey,
    },
    settings::Settings,
    stream::replay::Replays,
    timing::Timing,
};

/// What all streams of one node share.
pub(crate) struct Node {
    pub(crate) transport: Arc<dyn Transport>,
    /// As the hub has started with them. What may change is in `timing` and `budget`.
    pub(crate) settings: Settings,
    pub(crate) timing: Arc<Timing>,
    pub(crate) admissions: Admissions,
    pub(crate) replays: Replays,
    pub(crate) budget: Arc<Budget>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    survey: Survey,
    delivered: watch::Receiver<Delivered>,
    /// The newest update that a publisher of this node has appended to a log in a store. It may not be delivered yet.
    appended: Mutex<Option<Head>>,
    is_leaving: AtomicBool,
    drain: OnceLock<Drain>,
    /// Notified when no stream is left.
    emptied: Notify,
    /// The tail first, then the worker of presence.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// The drain of a node's streams. There is at most one.
struct Drain {
    over: Duration,
    ends: Instant,
}

/// The shortest pause that a drained stream asks for: time for a proxy to notice that this node is not ready.
const PAUSE_MIN: Duration = Duration::from_millis(250);

/// The longest pause. The streams of a drain end evenly, so longer pauses would spread their return no further: they would
/// only keep subscribers waiting.
const PAUSE_MAX: Duration = Duration::from_millis(1_800);

/// A time between two others, at random.
pub(crate) fn retry(min: Duration, max: Duration) -> Retry {
    let time = min + max.saturating_sub(min).mul_f64(ids::fraction());
    Retry::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Node {
    /// `tasks`: the tail first. They end with the node. Starts the tasks that compare history on the current tokio runtime.
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        settings: Settings,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        delivered: watch::Receiver<Delivered>,
        tasks: Vec<JoinHandle<()>>,
    ) -> Arc<Self> {
        let budget = Budget::new(settings.subscribers_bytes_max);
        Arc::new(Self {
            transport,
            timing: Arc::new(Timing::new(&settings)),
            admissions: Admissions::default(),
            settings,
            replays: Replays::start(),
            budget,
            health,
            metrics,
            survey: Survey::default(),
            delivered,
            appended: Mutex::new(None),
            is_leaving: AtomicBool::new(false),
            drain: OnceLock::new(),
            emptied: Notify::new(),
            tasks: Mutex::new(tasks),
        })
    }

    /// Where a stream without a cursor begins: at the end of the log. While the store is unavailable, at the end of what
    /// this node has delivered, so that a new subscriber waits like those that are here.
    pub(crate) async fn head(&self) -> Result<Head, TransportError> {
        // An unavailable store is not asked: an answer may take long.
        if self.transport.is_readable() {
            match self.transport.head().await {
                Err(TransportError::Unavailable(_)) => {}
                head => return head,
            }
        }
        Ok(self.delivered.borrow().head.clone())
    }

    /// How far this node has delivered the log.
    pub(crate) fn delivered(&self) -> Delivered {
        self.delivered.borrow().clone()
    }

    /// The end of the log as far as it is known without asking a store: the end of a log in memory, else the end of what this
    /// node has delivered or appended.
    pub(crate) async fn known_head(&self) -> Result<Head, TransportError> {
        if !self.transport.outlives_process() {
            return self.transport.head().await;
        }
        let delivered = self.delivered.borrow().head.clone();
        let appended = self.appended().clone().filter(|appended| appended.position > delivered.position);
        Ok(appended.unwrap_or(delivered))
    }

    /// A publisher of this node has appended the update with that id.
    pub(crate) fn has_appended(&self, position: Position, id: &EventId) {
        if !self.transport.outlives_process() {
            return;
        }
        let mut appended = self.appended();
        if appended.as_ref().is_none_or(|newest| newest.position < position) {
            *appended = Some(Head { position, id: Some(id.clone()) });
        }
    }

    fn appended(&self) -> MutexGuard<'_, Option<Head>> {
        // Nothing under the lock can panic half-way through a change.
        self.appended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until this node has delivered everything up to `head`, or its tail has ended.
    pub(crate) async fn has_delivered(&self, head: &Head) {
        let mut delivered = self.delivered.clone();
        // An error means that the tail has ended: nothing more will be delivered.
        let _ = delivered.wait_for(|delivered| delivered.head.position >= head.position).await;
    }

    /// From now on the node is about to stop, though it works as before.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// The streams of the node are closed until the time that this returns. Only the first call decides.
    pub(crate) fn begin_drain(&self, over: Duration) -> Instant {
        self.drain.get_or_init(|| Drain { over, ends: Instant::now() + over }).ends
    }

    /// Whether the time of a drain is over: what still reads the log ends.
    pub(crate) fn is_drained(&self) -> bool {
        self.drain.get().is_some_and(|drain| Instant::now() >= drain.ends)
    }

    /// The last line of a drained stream: when its subscriber comes back. `None`: the subscriber decides.
    pub(crate) fn farewell(&self) -> Option<Frame> {
        let Drain { over, .. } = self.drain.get()?;
        let pause_max = (*over / 2).clamp(PAUSE_MIN, PAUSE_MAX);
        Some(sse::opening(Some(retry(PAUSE_MIN, pause_max)), None))
    }

    /// Counts the end of a stream.
    pub(crate) fn stream_closed(&self, dialect: Dialect, carrier: StreamCarrier, reason: EndReason) {
        self.metrics.stream_closed(dialect, carrier, reason);
        if self.metrics.open_streams() == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until no stream is open.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.metrics.open_streams() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// The tail first, then the worker of presence. Only the first call gets them.
    pub(crate) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the log for the next [`Node::snapshot`]; waits a tenth of a second at most.
    pub(crate) async fn survey(&self) {
        self.survey.look(&self.transport, &self.delivered).await;
    }

    /// All numbers as of now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let metrics = &self.metrics;
        let (mut deliveries, mut delivered_bytes, mut waiting_streams, mut waiting_bytes) = (0, 0, 0, 0);
        let mut delays = Histogram::new(&SECONDS).snapshot();
        for shard in &metrics.shards {
            let (streams, bytes) = shard.waiting();
            deliveries += shard.deliveries();
            delivered_bytes += shard.bytes();
            waiting_streams += streams;
            waiting_bytes += bytes;
            delays.add(&shard.delays.snapshot());
        }
        let (lag, extent) = self.survey.found();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            shards: metrics.shards.len(),
            published: count(&metrics.published),
            failed: count(&metrics.failed),
            held: count(&metrics.held),
            appends: metrics.appends.snapshot(),
            opened: metrics.opened(),
            streams: metrics.streams(),
            closed: metrics.closed(),
            replays: metrics.replays(),
            replayed: count(&metrics.replayed),
            deliveries,
            delivered_bytes,
            delays,
            waiting_streams,
            waiting_bytes,
            groups: metrics.groups(),
            log: LogSnapshot {
                is_readable: self.transport.is_readable(),
                is_ready: self.transport.is_ready(),
                lag,
                extent,
                batches: self.transport.batches(),
            },
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for task in self.take_tasks() {
            task.abort();
        }
    }
}
