//! The engine as its users see it: publish, subscribe, who is there, stop.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use petasos_protocol::{
    cursor::Cursor,
    form::SubscribeRequest,
    grants::Grants,
    topic::HubUrl,
    update::{Draft, EventId, EventType, Update},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};

use crate::{
    Closed, Session, StartError, SubscribeError, Subscriptions, TransportError,
    budget::Budget,
    history::Beginning,
    ids,
    interest::Interest,
    presence::Presence,
    replay::Replays,
    shard::Shard,
    tail,
    transport::{Head, Position, Transport},
};

/// How a hub behaves, whatever its transport.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the hub lives; its path is the reserved namespace.
    pub url: HubUrl,
    /// The time after which an idle stream sends a comment; `None`: never. Default 15 s, below the 30 to 60 s after
    /// which proxies cut idle connections.
    pub keep_alive: Option<Duration>,
    /// The longest that a stream may last, so that whoever holds it has to show again that it may; each ends up to a
    /// tenth earlier, so that those that began together do not come back together. `None`, the default: no bound.
    pub lifetime_max: Option<Duration>,
    /// Whether subscriptions are announced and listed. Default true.
    pub subscriptions: bool,
    /// The SSE `event` of 0.x subscription events. The specification gives none, which is the default.
    pub subscription_event_type: Option<EventType>,
    /// Parts that fan out side by side; default: one per core.
    pub shards: usize,
    /// Bytes that the matchers of all subscribers, the grants of their tokens and their payloads may take together.
    /// Beyond it, new subscribers are refused ([`SubscribeError::NoRoom`]). Half of it is kept for subscribers that
    /// bring 8 KiB or less. Default 128 MiB: 1.3 KB for each of 100,000 streams; one topic takes about half of that.
    pub subscribers_bytes_max: usize,
    /// How long a subscriber with a cursor waits for a log that is away before it is refused. Default 30 s: longer than
    /// most restarts, and below the minute after which proxies give up.
    pub log_wait_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: HubUrl::default(),
            keep_alive: Some(Duration::from_secs(15)),
            lifetime_max: None,
            subscriptions: true,
            subscription_event_type: None,
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            subscribers_bytes_max: 128 * 1024 * 1024,
            log_wait_max: Duration::from_secs(30),
        }
    }
}

/// Counters of one hub at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Updates that publishers have appended.
    pub published: u64,
    /// Open streams.
    pub subscribers: usize,
    /// Streams closed because their subscriber fell behind what the log holds.
    pub lagged: u64,
}

/// A running hub. Clones are the same hub.
#[derive(Clone)]
pub struct Hub {
    engine: Arc<Engine>,
    shards: Arc<[Shard]>,
}

/// What sessions need of the hub.
pub(crate) struct Engine {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) settings: Settings,
    pub(crate) presence: Option<Arc<Presence>>,
    pub(crate) replays: Replays,
    pub(crate) budget: Arc<Budget>,
    pub(crate) subscribers: AtomicUsize,
    pub(crate) lagged: AtomicU64,
    published: AtomicU64,
    arrivals: AtomicUsize,
    /// How far the tail has come.
    delivered: watch::Receiver<Head>,
    stopping: AtomicBool,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Hub {
    /// Starts shards, tail and presence on the current tokio runtime.
    ///
    /// # Errors
    /// If the log's head cannot be read, or the system has no room for a shard.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(transport: Arc<dyn Transport>, settings: Settings) -> Result<Self, StartError> {
        let (head, follower) = tail::follow_head(&*transport).await?;
        let shards: Arc<[Shard]> =
            (0..settings.shards.max(1)).map(|_| Shard::start(head.position)).collect::<io::Result<_>>()?;
        let (deliver, delivered) = watch::channel(head);
        let tail = tail::run(Arc::clone(&transport), follower, Arc::clone(&shards), deliver);
        let mut tasks = vec![tokio::spawn(tail)];
        let presence = settings.subscriptions.then(|| {
            let legacy_type = settings.subscription_event_type.clone();
            Presence::new(Arc::clone(&transport), settings.url.clone(), legacy_type)
        });
        if let Some(presence) = &presence {
            tasks.push(tokio::spawn(Arc::clone(presence).announce()));
        }
        let budget = Budget::new(settings.subscribers_bytes_max);
        let engine = Engine {
            transport,
            settings,
            presence,
            replays: Replays::start(),
            budget,
            subscribers: AtomicUsize::new(0),
            lagged: AtomicU64::new(0),
            published: AtomicU64::new(0),
            arrivals: AtomicUsize::new(0),
            delivered,
            stopping: AtomicBool::new(false),
            tasks: Mutex::new(tasks),
        };
        Ok(Self { engine: Arc::new(engine), shards })
    }

    /// Where the hub lives.
    pub fn url(&self) -> &HubUrl {
        &self.engine.settings.url
    }

    /// Appends an update to the log and returns its id. It is then as durable as the transport promises, and on its way
    /// to every subscriber. A dropped future publishes the update whole or not at all.
    ///
    /// An update that the log has taken is acknowledged even if the hub has begun to stop meanwhile, because other nodes
    /// deliver it, or this one after its restart. A log that ends with the process is the exception: its streams may have
    /// ended without the update.
    ///
    /// # Errors
    /// Those of [`Transport::append`]. [`TransportError::Closed`] once the hub stops.
    pub async fn publish(&self, draft: Draft) -> Result<EventId, TransportError> {
        if self.engine.is_stopping() {
            return Err(TransportError::Closed);
        }
        let update = Update::publish(draft, ids::event);
        let id = update.id().clone();
        let position = self.engine.transport.append(update).await?;
        self.pace(position).await;
        // The log may end with the process, and the streams may have ended without the update.
        if self.engine.is_stopping() && !self.engine.transport.outlives_process() {
            return Err(TransportError::Closed);
        }
        self.engine.published.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    /// Holds a publisher back who is far ahead of the fan-out: one who publishes again as soon as it is answered would
    /// otherwise fill every buffer on the way, and subscribers would receive seconds late what they could have in time.
    async fn pace(&self, position: Position) {
        let keep_up = async {
            for shard in &*self.shards {
                shard.keep_up(position, AHEAD_ENTRIES).await;
            }
        };
        // An end means that the update is on its way all the same.
        let _ = timeout(AHEAD_MAX, keep_up).await;
    }

    /// Begins a stream. Without a cursor it receives everything that is published after this returns; with one, also
    /// everything kept after that. It ends at `close_at` at the latest.
    ///
    /// # Errors
    /// If the log cannot be read or the hub stops.
    pub async fn subscribe(
        &self,
        request: SubscribeRequest,
        grants: Arc<Grants>,
        close_at: Option<Instant>,
    ) -> Result<Session, SubscribeError> {
        if self.engine.is_stopping() {
            return Err(SubscribeError::Stopping);
        }
        Session::open(Arc::clone(&self.engine), self.next_shard(), request, grants, close_at).await
    }

    /// A stream of the subscription events that follow, for the program that runs the hub: it is no subscription
    /// itself, needs no token, has no keep-alive and ends with the hub. Where subscriptions are not tracked, nothing
    /// comes.
    ///
    /// # Errors
    /// If the log cannot be read or the hub stops.
    pub async fn watch_subscriptions(&self) -> Result<Session, SubscribeError> {
        Session::watch(Arc::clone(&self.engine), self.next_shard(), Interest::in_subscriptions(self.url()))
            .await
    }

    fn next_shard(&self) -> Shard {
        let arrival = self.engine.arrivals.fetch_add(1, Ordering::Relaxed);
        self.shards[arrival % self.shards.len()].clone()
    }

    /// What [`Session::cursor`] would answer, without a stream.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn resolve(&self, cursor: &Cursor) -> Result<Box<str>, TransportError> {
        let shard = self.next_shard();
        Ok(Beginning::find(&self.engine, cursor, || shard.recent()).await?.answer)
    }

    /// Whether subscriptions are announced and listed.
    pub fn tracks_subscriptions(&self) -> bool {
        self.engine.presence.is_some()
    }

    /// Whether it takes updates, as far as is known without asking: false while the transport's backend does not answer
    /// or is full, when streams stay open, and once the hub stops.
    pub fn is_ready(&self) -> bool {
        self.engine.transport.is_ready() && !self.engine.is_stopping()
    }

    /// The active subscriptions on all nodes that share the log, those whose matcher has that text or all; none if they
    /// are not tracked. The result is read page by page.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn subscriptions(&self, text: Option<&str>) -> Result<Subscriptions, TransportError> {
        let presence = self.engine.presence.clone();
        if let Some(presence) = &presence {
            presence.settle().await;
        }
        let last_event_id = self.engine.transport.head().await?.id;
        Ok(Subscriptions::new(last_event_id, presence, text))
    }

    /// Counters as of now.
    pub fn stats(&self) -> Stats {
        Stats {
            published: self.engine.published.load(Ordering::Relaxed),
            subscribers: self.engine.subscribers.load(Ordering::Relaxed),
            lagged: self.engine.lagged.load(Ordering::Relaxed),
        }
    }

    /// Refuses new updates and streams, delivers what has been acknowledged, and ends all streams with
    /// [`Closed::Stopping`]. Streams end within two seconds, even if the transport hangs. After that this node still
    /// tells the other nodes that its subscribers have left.
    pub async fn stop(&self) {
        self.engine.stopping.store(true, Ordering::SeqCst);
        let delivery = async {
            let Ok(head) = self.engine.transport.head().await else { return false };
            let mut delivered = self.engine.delivered.clone();
            // An error means that the tail has ended: nothing more will be delivered.
            let _ = delivered.wait_for(|delivered| delivered.position >= head.position).await;
            true
        };
        let has_answered = timeout(DELIVERY_MAX, delivery).await.unwrap_or(false);
        // First the tail, wholly: to it, a shard that ends is a failure.
        let mut tasks = self.engine.tasks().into_iter();
        if let Some(tail) = tasks.next() {
            end(tail).await;
        }
        let close = async {
            for shard in &*self.shards {
                shard.close(Closed::Stopping).await;
            }
        };
        let _ = timeout(PART_MAX, close).await;
        // A log that did not answer takes no departures either. The lease of this node ends, and another node announces them.
        if let Some(presence) = &self.engine.presence
            && tasks.len() > 0
            && has_answered
        {
            presence.retire().await;
        }
        for task in tasks {
            end(task).await;
        }
    }
}

async fn end(task: JoinHandle<()>) {
    task.abort();
    let _ = timeout(PART_MAX, task).await;
}

/// Entries that may be under way on this node while publishers are answered at once. One round takes them along in one
/// write for each subscriber; measured with 1,000 subscribers and 16 publishers that never pause, twice as many make it a
/// quarter faster and twice as late.
const AHEAD_ENTRIES: u64 = 128;

/// The longest that a publisher is held back.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// The time that a stopping hub waits for its own tail, which is a matter of milliseconds.
const DELIVERY_MAX: Duration = Duration::from_secs(1);

/// The time that a stopping hub waits for one of its parts to end. A part ends at its next step, unless the step hangs.
const PART_MAX: Duration = Duration::from_millis(500);

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("url", self.url()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Where a stream begins that wants what comes: the end of the log, or of what this node has seen of it while its
    /// backend is away. Who comes then waits with the others.
    pub(crate) async fn head(&self) -> Result<Head, TransportError> {
        // A log that is known not to answer is not asked: that may take long.
        if self.transport.is_readable() {
            match self.transport.head().await {
                Err(TransportError::Unavailable(_)) => {}
                head => return head,
            }
        }
        Ok(self.delivered.borrow().clone())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The tail first, then the worker of presence; taken once.
    fn tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The hub lives as long as its last handle or session.
impl Drop for Engine {
    fn drop(&mut self) {
        for task in self.tasks() {
            task.abort();
        }
    }
}
