//! The facade of the engine: publish, subscribe, list the subscriptions, stop. Nothing in this crate imports it.

use std::{
    collections::HashSet,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use petasos_protocol::{
    event::EventId,
    request::{Cursor, SubscribeRequest},
    token::Grants,
    topic::HubUrl,
    update::{Draft, Update},
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Admission, Closed, Session, Settings, StartError, SubscribeError, Subscriptions, TransportError,
    admission::Accepted,
    delivered::Delivered,
    fanout::{
        delivery::Evict,
        drain::DrainOrder,
        shard::{Shard, are_taken, order_all},
    },
    health::Health,
    ids,
    log::{
        documents::Documents,
        transport::{Position, Transport},
    },
    metrics::{
        node::Metrics,
        outcome::EndReason,
        snapshot::{Check, Snapshot},
    },
    node::Node,
    presence::Presence,
    stream::{beginning::Beginning, carrier::Carrier, opening, socket::carried::Carried},
    tail,
};

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

/// A running hub. Clones are the same hub, which runs until its last clone and its last stream are dropped.
#[derive(Clone)]
pub struct Hub {
    node: Arc<Node>,
    presence: Option<Arc<Presence>>,
    shards: Arc<[Shard<Carrier>]>,
    arrivals: Arc<AtomicUsize>,
}

impl Hub {
    /// Starts shards, tail and presence on the current tokio runtime.
    ///
    /// # Errors
    /// - [`StartError::Transport`]: the log's head cannot be read.
    /// - [`StartError::Resources`]: the system has no room for a thread or a file descriptor.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn start(transport: Arc<dyn Transport>, settings: Settings) -> Result<Self, StartError> {
        Self::start_with(transport, settings, Shard::start_all).await
    }

    /// The same with all shards as tasks, in the time of the current runtime.
    #[cfg(test)]
    pub(crate) async fn simulate(
        transport: Arc<dyn Transport>,
        settings: Settings,
    ) -> Result<Self, StartError> {
        Self::start_with(transport, settings, Shard::simulate_all).await
    }

    async fn start_with(
        transport: Arc<dyn Transport>,
        settings: Settings,
        start_shards: StartShards,
    ) -> Result<Self, StartError> {
        let health = Arc::<Health>::default();
        let (head, follower) = tail::follow_head(&*transport).await?;
        let metrics = Arc::new(Metrics::new(settings.shards.max(1), &settings.metrics_groups));
        let shards = start_shards(&metrics, head.position, &health, || {
            let runtime = Handle::current();
            Box::new(move |evicted| drop(runtime.spawn(Carried::resume(evicted))))
        })?;
        let (deliver, delivered) = watch::channel(Delivered::begin(head));
        let tail =
            tail::run(Arc::clone(&transport), follower, Arc::clone(&shards), deliver, Arc::clone(&health));
        let mut tasks = vec![
            health.guard("the reader of the log has ended", tail),
            tokio::spawn(end_streams_of_failed(Arc::clone(&health), Arc::clone(&shards))),
        ];
        let presence = settings.subscriptions.then(|| {
            let legacy_type = settings.subscription_event_type.clone();
            Presence::new(Arc::clone(&transport), settings.url.clone(), legacy_type)
        });
        if let Some(presence) = &presence {
            let announce = Arc::clone(presence).announce();
            tasks.push(health.guard("the announcement of subscriptions has ended", announce));
        }
        let node = Node::new(transport, settings, health, metrics, delivered, tasks);
        Ok(Self { node, presence, shards, arrivals: Arc::default() })
    }

    /// The URL of the hub.
    pub fn url(&self) -> &HubUrl {
        &self.node.settings.url
    }

    /// Appends an update to the log and returns its id. It is then as durable as the transport promises, and on its way
    /// to every subscriber. A dropped future publishes the update whole or not at all.
    ///
    /// An update that the log has taken is acknowledged even if the hub has begun to stop meanwhile, because other nodes
    /// deliver it, or this one after its restart. A log that ends with the process is the exception: its streams may have
    /// ended without the update.
    ///
    /// # Errors
    /// Those of [`Transport::append`]. [`TransportError::Closed`] once the hub stops or has failed.
    pub async fn publish(&self, draft: Draft) -> Result<EventId, TransportError> {
        let Node { transport, health, metrics, .. } = &*self.node;
        if !health.is_alive() {
            metrics.failed.fetch_add(1, Ordering::Relaxed);
            return Err(TransportError::Closed);
        }
        let update = Update::publish(draft, ids::event);
        let id = update.id().clone();
        let groups: Vec<_> = metrics.groups.select(&update).collect();
        let began = Instant::now();
        let position = transport.append(update).await.inspect_err(|_| {
            metrics.failed.fetch_add(1, Ordering::Relaxed);
        })?;
        metrics.appends.record_duration(began.elapsed());
        self.node.has_appended(position, &id);
        self.pace(position).await;
        // The log may end with the process, and the streams may have ended without the update.
        if !health.is_alive() && !transport.outlives_process() {
            metrics.failed.fetch_add(1, Ordering::Relaxed);
            return Err(TransportError::Closed);
        }
        metrics.published.fetch_add(1, Ordering::Relaxed);
        metrics.groups.published(&groups);
        Ok(id)
    }

    /// Holds a publisher back that is far ahead of the fan-out. A publisher that publishes again as soon as it is answered
    /// would otherwise fill every buffer on the way, and subscribers would receive everything seconds late.
    async fn pace(&self, position: Position) {
        if self.shards.iter().all(|shard| shard.is_near(position, AHEAD_ENTRIES)) {
            return;
        }
        self.node.metrics.held.fetch_add(1, Ordering::Relaxed);
        let keep_up = async {
            for shard in &*self.shards {
                shard.keep_up(position, AHEAD_ENTRIES).await;
            }
        };
        // A time-out means that the update is on its way all the same.
        let _ = timeout(AHEAD_MAX, keep_up).await;
    }

    /// Begins a stream. Without a cursor it receives everything that is published after this returns; with one, also
    /// everything kept after that. It ends at `close_at` at the latest.
    ///
    /// # Errors
    /// - [`SubscribeError::Transport`]: the log cannot be read.
    /// - [`SubscribeError::Stopping`]: the hub stops or has failed.
    /// - [`SubscribeError::NoRoom`]: [`Settings::subscribers_bytes_max`] is used up.
    pub async fn subscribe(
        &self,
        request: SubscribeRequest,
        grants: Arc<Grants>,
        close_at: Option<Instant>,
    ) -> Result<Session, SubscribeError> {
        if !self.node.health.is_alive() {
            return Err(SubscribeError::Stopping);
        }
        let presence = self.presence.as_ref();
        opening::open(Arc::clone(&self.node), self.next_shard(), presence, request, grants, close_at).await
    }

    /// A stream of the subscription events that follow, for the program that runs the hub: it is no subscription
    /// itself, needs no token, has no keep-alive and ends with the hub. Where subscriptions are not tracked, nothing
    /// comes.
    ///
    /// # Errors
    /// [`SubscribeError::Transport`]: the log cannot be read.
    pub async fn watch_subscriptions(&self) -> Result<Session, SubscribeError> {
        opening::watch(Arc::clone(&self.node), self.next_shard()).await
    }

    fn next_shard(&self) -> Shard<Carrier> {
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        self.shards[arrival % self.shards.len()].clone()
    }

    /// What [`Session::cursor`] would be, without a stream. [`Cursor::Blank`]: the newest id, of a publisher's update where
    /// this node knows it.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn resolve(&self, cursor: &Cursor) -> Result<Box<str>, TransportError> {
        let shard = self.next_shard();
        Ok(Beginning::find(&self.node, cursor, false, false, &shard).await?.cursor)
    }

    /// The id of the newest update, as a cursor: a stream that begins after it gets everything that is published
    /// after this returns. [`Cursor::EARLIEST`] if the log is empty.
    ///
    /// It asks no store. If the log is in a store, the update is the newest that this node has published or delivered: what
    /// other nodes publish is known some milliseconds later.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn last_event_id(&self) -> Result<Box<str>, TransportError> {
        let head = self.node.known_head().await?;
        Ok(self.node.delivered().cursor(&head, false).into())
    }

    /// Whether subscriptions are announced and listed.
    pub fn tracks_subscriptions(&self) -> bool {
        self.presence.is_some()
    }

    /// Small documents that all nodes of the log share. `None`: the log is this process's alone.
    pub fn documents(&self) -> Option<Arc<dyn Documents>> {
        self.node.transport.documents()
    }

    /// Whether it takes updates, as far as is known without asking: false while the transport's backend does not answer
    /// or is full, when streams stay open, and once the hub is about to stop, stops or has failed.
    pub fn is_ready(&self) -> bool {
        self.node.transport.is_ready() && self.node.health.is_alive() && !self.is_leaving()
    }

    /// Says that the hub is about to stop. Only [`Hub::is_ready`] changes, so that load balancers send their requests to other
    /// nodes; updates and streams are taken as before.
    pub fn leave(&self) {
        self.node.leave();
    }

    /// Whether the hub has been told that it is about to stop ([`Hub::leave`]).
    pub fn is_leaving(&self) -> bool {
        self.node.is_leaving()
    }

    /// Whether a part of the hub has ended though it was not stopped: a shard has panicked, or the log cannot be followed
    /// any more. Such a hub delivers nothing, and refuses updates and subscribers. Start another one; a process that is
    /// only a hub ends with an error.
    pub fn has_failed(&self) -> bool {
        self.node.health.has_failed()
    }

    /// Whether only a restart of the process lets the hub do its work again: it has failed ([`Hub::has_failed`]), or its log
    /// takes no updates any more ([`Transport::needs_restart`]). In the second case its streams are open still.
    pub fn needs_restart(&self) -> bool {
        self.has_failed() || self.node.transport.needs_restart()
    }

    /// Waits until [`Hub::has_failed`]. Cancel-safe. Does not keep the hub running.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + use<> {
        let health = Arc::clone(&self.node.health);
        async move { health.failed().await }
    }

    /// The active subscriptions on all nodes that share the log, those whose matcher has that text or all; none if they
    /// are not tracked. The result is read page by page.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn subscriptions(&self, text: Option<&str>) -> Result<Subscriptions, TransportError> {
        let presence = self.presence.clone();
        if let Some(presence) = &presence {
            presence.settle().await;
        }
        let last_event_id = self.node.transport.head().await?.id;
        Ok(Subscriptions::new(last_event_id, presence, text))
    }

    /// Counters as of now.
    pub fn stats(&self) -> Stats {
        let metrics = &self.node.metrics;
        Stats {
            published: metrics.published.load(Ordering::Relaxed),
            subscribers: metrics.open_streams(),
            lagged: metrics.closed()[EndReason::Lagged as usize].1,
        }
    }

    /// All numbers as of now, for metrics. It waits a tenth of a second at most, for a look at the log.
    pub async fn snapshot(&self) -> Snapshot {
        self.node.survey().await;
        self.node.snapshot()
    }

    /// All numbers as of now, without a look at the log: what is said of it may be old.
    pub fn counted(&self) -> Snapshot {
        self.node.snapshot()
    }

    /// What the hub needs to do its work, each with what was found, without asking the log. [`Hub::is_ready`] is whether all
    /// of it is met.
    pub fn checks(&self) -> Vec<Check> {
        let Node { transport, health, .. } = &*self.node;
        let (is_readable, is_ready) = (transport.is_readable(), transport.is_ready());
        let check = |name, is_ok, found: &str| Check { name, is_ok, found: found.to_owned() };
        vec![
            check("hub", health.is_alive(), health.as_str()),
            check("log", is_readable, if is_readable { "it answers" } else { "it does not answer" }),
            check(
                "capacity",
                is_ready || !is_readable,
                match (is_readable, is_ready) {
                    (false, _) => "not known while the log does not answer",
                    (true, true) => "the log takes updates",
                    (true, false) if transport.needs_restart() => {
                        "the log has failed: see to its disk; the hub has to be started again"
                    }
                    (true, false) => "the log takes no updates: it is full, or it has failed",
                },
            ),
            check(
                "drain",
                !self.is_leaving(),
                if self.is_leaving() { "it is about to stop" } else { "none" },
            ),
        ]
    }

    /// Ends the streams that the hub writes to sockets by itself ([`Session::carry`](crate::Session::carry)), with
    /// [`Closed::Stopping`] and after what they have been sent, also those that begin later. The hub goes on, and so do other
    /// streams.
    pub async fn end_carried(&self) {
        let ends = Instant::now().into_std();
        self.close_members(DrainOrder { reason: Closed::Stopping, ends, with_polled: false }).await;
    }

    /// Ends all streams with [`Closed::Drained`], evenly over that time: idle ones first, those that read the history last. The
    /// last line of each is a `retry` of half of the time at most, at random, so that they do not come back together. Updates
    /// and new streams are taken as before, and new streams end within the time, too. Call [`Hub::stop`] next.
    ///
    /// Returns when no stream is left, when the time is over, or when the hub fails. A further call waits for the same end.
    pub async fn drain(&self, over: Duration) {
        self.leave();
        let ends = self.node.begin_drain(over.min(TIME_MAX));
        let order = DrainOrder { reason: Closed::Drained, ends: ends.into_std(), with_polled: true };
        let close = async {
            self.close_members(order).await;
            self.node.emptied().await;
        };
        tokio::select! {
            // What the last streams have unsent may take a moment.
            _ = timeout_at(ends + LAST_BYTES_MAX, close) => {}
            () = self.failed() => {}
        }
    }

    async fn close_members(&self, order: DrainOrder) {
        let mut orders = order_all(&self.shards, |shard| async move { shard.drain(order).await });
        are_taken(&mut orders).await;
    }

    /// Takes over what may change while the hub runs: `keep_alive`, `retry`, `lifetime_max` and `subscribers_bytes_max`. All
    /// else stays as it was.
    ///
    /// An open stream has its new keep-alive after its next sign of life; one that had none gets none. A new `retry` or
    /// `lifetime_max` is for streams that begin later.
    pub fn tune(&self, settings: &Settings) {
        self.node.timing.set(settings);
        self.node.budget.set_max(settings.subscribers_bytes_max);
    }

    /// Ends the streams whose admission ([`Session::set_admission`](crate::Session::set_admission)) is not among these, with
    /// [`Closed::Revoked`]: live streams evenly over that time, so that their subscribers do not come back together, and
    /// others, which begin or read the history, at their next step. `None`: all admissions are accepted.
    ///
    /// The answer to a former call does not count any more: a stream that is accepted again stays.
    pub async fn revoke(&self, accepted: Option<HashSet<Admission>>, within: Duration) {
        let accepted = accepted.map(Accepted::new);
        // First: a stream that is not a member yet is looked at later.
        self.node.admissions.set(accepted.clone());
        let within = within.min(TIME_MAX);
        let mut orders = order_all(&self.shards, |shard| {
            let accepted = accepted.clone();
            async move { shard.revoke(accepted, within).await }
        });
        if timeout(REVOKE_TAKEN_MAX, are_taken(&mut orders)).await.is_err() {
            tracing::warn!(
                shards = orders.len(),
                "shards are late: they end revoked streams when they go on"
            );
            orders.detach_all();
        }
    }

    /// Refuses new updates and streams, delivers what has been acknowledged, and ends all streams with
    /// [`Closed::Stopping`]. Streams end within two seconds, even if the transport hangs. After that this node still
    /// announces to the other nodes that its subscribers have left.
    pub async fn stop(&self) {
        let Node { transport, health, .. } = &*self.node;
        health.stop();
        let delivery = async {
            let Ok(head) = transport.head().await else { return false };
            if !health.has_failed() {
                self.node.has_delivered(&head).await;
            }
            true
        };
        let has_answered = timeout(DELIVERY_MAX, delivery).await.unwrap_or(false);
        // First the tail, wholly: to it, a shard that ends is a failure.
        let mut tasks = self.node.take_tasks().into_iter();
        let is_first_stop = match tasks.next() {
            Some(tail) => {
                end(tail).await;
                true
            }
            None => false,
        };
        let mut orders = order_all(&self.shards, |shard| async move { shard.close(Closed::Stopping).await });
        let _ = timeout(PART_MAX, are_taken(&mut orders)).await;
        // A log that did not answer takes no departures either. The lease of this node ends, and another node announces them.
        if let Some(presence) = &self.presence
            && is_first_stop
            && has_answered
        {
            presence.retire().await;
        }
        for task in tasks {
            end(task).await;
        }
    }
}

/// Starts a shard for each that the metrics have. The last argument makes what takes the streams that leave a shard.
type StartShards =
    fn(&Arc<Metrics>, Position, &Arc<Health>, fn() -> Evict<Carrier>) -> io::Result<Arc<[Shard<Carrier>]>>;

/// Waits until the hub has failed, and ends all streams then. Their subscribers come back with their cursors, to another hub.
async fn end_streams_of_failed(health: Arc<Health>, shards: Arc<[Shard<Carrier>]>) {
    health.failed().await;
    let mut orders = order_all(&shards, |shard| async move { shard.close(Closed::LogLost).await });
    are_taken(&mut orders).await;
}

async fn end(task: JoinHandle<()>) {
    task.abort();
    let _ = timeout(PART_MAX, task).await;
}

/// Entries that may be under way on this node while publishers are answered at once. One round takes them along in one
/// write for each subscriber. Measured with 1,000 subscribers and 16 publishers that never pause, twice as many make it a
/// quarter faster and twice as late.
const AHEAD_ENTRIES: u64 = 128;

/// The longest that a publisher is held back.
const AHEAD_MAX: Duration = Duration::from_secs(1);

/// The time that a stopping hub waits for its own tail, which is a matter of milliseconds.
const DELIVERY_MAX: Duration = Duration::from_secs(1);

/// The longest time over which streams can be asked to end: as good as for ever, and no clock overflows.
const TIME_MAX: Duration = Duration::from_hours(365 * 24);

/// The time that a caller waits for shards to take note of a revocation. They do so at their next step.
const REVOKE_TAKEN_MAX: Duration = Duration::from_secs(5);

/// The time that the last streams of a drain have to send what is unsent.
const LAST_BYTES_MAX: Duration = Duration::from_millis(250);

/// The time that a stopping hub waits for one of its parts to end. A part ends at its next step, unless the step hangs.
const PART_MAX: Duration = Duration::from_millis(500);

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("url", self.url()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
