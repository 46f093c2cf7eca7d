//! Who is subscribed, and the updates that say so.
//!
//! The event follows the fact: a subscription is in the registry before its event is in the log, and out of it before
//! the event of its end. Registry and queue change under one lock, so the events tell the facts in their order; one
//! worker announces them. Where several nodes share the log, it records them in the transport's registry, which makes
//! the events; it keeps this node's lease and ends what dead nodes have left behind.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use petasos_protocol::{
    subscription::Subscription,
    topic::HubUrl,
    update::{EventType, Update},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    TransportError,
    budget::Weight,
    ids,
    log::registry::{Abandoned, Fact, Lease, NodeId, PAGE_SUBSCRIBERS, Page, Registry},
    log::transport::Transport,
};

/// The subscriptions of this node.
pub(crate) struct Presence {
    state: Mutex<State>,
    /// Wakes the worker.
    queued: Notify,
    /// Wakes subscribers that wait for the worker.
    drained: Notify,
    /// How many of all announcements that were ever queued have been made.
    announced: watch::Sender<u64>,
    node: NodeId,
    transport: Arc<dyn Transport>,
    hub: HubUrl,
    /// The type of 0.x events.
    legacy_type: Option<EventType>,
}

#[derive(Default)]
struct State {
    /// By arrival, which is the order in which they are listed.
    arrivals: BTreeMap<u64, Arrival>,
    arrived: u64,
    /// Arrivals and departures ever.
    revision: u64,
    by_selector: HashMap<Arc<str>, BTreeSet<u64>>,
    /// What the worker has still to announce. Newcomers wait when it is long, leavers never do: at most the threshold
    /// and two entries for each subscriber.
    queue: VecDeque<(Arrival, bool)>,
    /// Bytes that the subscribers in the queue take of the budget.
    queue_bytes: usize,
    /// Announcements that have ever been queued.
    queued: u64,
}

/// The subscriptions of a subscriber, and its part of the budget, held until its departure has been announced.
#[derive(Clone)]
struct Arrival {
    subscriptions: Arc<[Subscription]>,
    weight: Arc<Weight>,
}

impl State {
    fn page(&self, selector: Option<&str>, after: u64) -> Page {
        let arrivals = (Bound::Excluded(after), Bound::Unbounded);
        let share = |(number, arrival): (&u64, &Arrival)| (*number, Arc::clone(&arrival.subscriptions));
        let page: Vec<_> = match selector {
            None => self.arrivals.range(arrivals).take(PAGE_SUBSCRIBERS).map(share).collect(),
            Some(selector) => {
                let of_selector =
                    self.by_selector.get(selector).into_iter().flat_map(|all| all.range(arrivals));
                let known = |arrival| self.arrivals.get_key_value(arrival);
                of_selector.take(PAGE_SUBSCRIBERS).filter_map(known).map(share).collect()
            }
        };
        let next = page.last().map(|(arrival, _)| *arrival).filter(|_| page.len() == PAGE_SUBSCRIBERS);
        Page { subscribers: page.into_iter().map(|(_, all)| all).collect(), next }
    }

    fn queue(&mut self, arrival: Arrival, active: bool) {
        self.queue_bytes += arrival.weight.bytes();
        self.queue.push_back((arrival, active));
        self.queued += 1;
    }

    /// Takes the first `count` announcements from the queue.
    fn take(&mut self, count: usize) -> Vec<(Arrival, bool)> {
        let taken: Vec<_> = self.queue.drain(..count).collect();
        self.queue_bytes -= taken.iter().map(|(arrival, _)| arrival.weight.bytes()).sum::<usize>();
        taken
    }

    fn has_room(&self) -> bool {
        self.queue.len() < QUEUE_NEWCOMERS_MAX && self.queue_bytes < QUEUE_BYTES_MAX
    }
}

/// Announcements that may wait before newcomers do.
const QUEUE_NEWCOMERS_MAX: usize = 4_096;

/// Bytes that the subscribers of queued announcements may take before new subscribers wait.
const QUEUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Announcements that are recorded together, and the subscriptions in them, each of which is an event: a store takes them
/// as one message or statement.
const BATCH_FACTS: usize = 128;
const BATCH_SUBSCRIPTIONS: usize = 512;

/// Bytes that the subscribers of one batch may take: an event is several times as long as its matcher.
const BATCH_BYTES: usize = 1024 * 1024;

/// Subscribers of dead nodes that are ended together: few, as each may have a hundred subscriptions.
const BATCH_ABANDONED: usize = 32;

/// Renewals in one lease: one may be lost.
const RENEWALS: u32 = 3;

/// Between two attempts at what the transport did not do.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a listing waits for the announcements of this node, and a stopping hub for those of its end.
const ANNOUNCED_MAX: Duration = Duration::from_secs(2);

/// One subscriber's presence. Dropping it announces its end.
pub(crate) struct Guard {
    presence: Arc<Presence>,
    arrival: u64,
}

impl Presence {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        hub: HubUrl,
        legacy_type: Option<EventType>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            queued: Notify::new(),
            drained: Notify::new(),
            announced: watch::Sender::new(0),
            node: ids::node(),
            transport,
            hub,
            legacy_type,
        })
    }

    /// Registers a subscriber's subscriptions and announces them. Waits while announcements pile up.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        subscriptions: Arc<[Subscription]>,
        weight: Arc<Weight>,
    ) -> Guard {
        let entering = Arrival { subscriptions, weight };
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            {
                let mut state = self.lock();
                if state.has_room() {
                    // From 1: pages begin after 0.
                    state.arrived += 1;
                    let arrival = state.arrived;
                    state.revision += 1;
                    for subscription in &*entering.subscriptions {
                        let selector = subscription.matcher.shared();
                        state.by_selector.entry(selector).or_default().insert(arrival);
                    }
                    state.arrivals.insert(arrival, entering.clone());
                    state.queue(entering, true);
                    self.queued.notify_one();
                    return Guard { presence: Arc::clone(self), arrival };
                }
            }
            drained.await;
        }
    }

    fn leave(&self, arrival: u64) {
        let mut state = self.lock();
        let Some(left) = state.arrivals.remove(&arrival) else { return };
        state.revision += 1;
        for subscription in &*left.subscriptions {
            let selector = subscription.matcher.as_str();
            if let Some(arrivals) = state.by_selector.get_mut(selector) {
                arrivals.remove(&arrival);
                if arrivals.is_empty() {
                    state.by_selector.remove(selector);
                }
            }
        }
        state.queue(left, false);
        self.queued.notify_one();
    }

    /// Waits until the registry has recorded the subscribers of this node, if the transport has a registry; at most
    /// [`ANNOUNCED_MAX`].
    pub(crate) async fn settle(&self) {
        if self.transport.registry().is_some() {
            let queued = self.lock().queued;
            let mut announced = self.announced.subscribe();
            // On a time-out the registry is unavailable, and reading it fails, or it is busy, and the list is a moment
            // old.
            let _ = timeout(ANNOUNCED_MAX, announced.wait_for(|announced| *announced >= queued)).await;
        }
    }

    /// A number that changes with the subscriptions of this process. Where nodes share a log it stays 0: there, each
    /// change appends an event, because a fact and its events are recorded as one.
    pub(crate) fn revision(&self) -> u64 {
        match self.transport.registry() {
            Some(_) => 0,
            None => self.lock().revision,
        }
    }

    /// A page of subscribers after the arrival number `after`, those of one selector or all, in the order of arrival.
    /// The lock is held while one page is copied.
    ///
    /// # Errors
    /// If the transport has a registry that cannot be read.
    pub(crate) async fn page(&self, selector: Option<&str>, after: u64) -> Result<Page, TransportError> {
        match self.transport.registry() {
            Some(registry) => registry.page(selector, after, PAGE_SUBSCRIBERS).await,
            None => Ok(self.lock().page(selector, after)),
        }
    }

    /// Announces what is queued, in order, for ever.
    pub(crate) async fn announce(self: Arc<Self>) {
        match self.transport.registry() {
            Some(registry) => self.announce_to(registry).await,
            None => self.announce_alone().await,
        }
    }

    /// No other node is told and none is listened to: a log of this process alone.
    async fn announce_alone(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                let count = state.queue.len().min(1);
                state.take(count).pop()
            };
            let Some((Arrival { subscriptions, weight: _held }, active)) = next else {
                self.queued.notified().await;
                continue;
            };
            self.drained.notify_waiters();
            for update in self.events(&subscriptions, active) {
                if let Err(error) = self.transport.append(update).await {
                    tracing::warn!(%error, "a subscription event is lost: the log did not take it");
                }
            }
        }
    }

    async fn announce_to(&self, registry: &dyn Registry) {
        let mut work = Work {
            presence: self,
            registry,
            taken: 0,
            facts: Vec::new(),
            renew_at: Instant::now(),
            is_in_doubt: false,
            anew_until: 0,
            may_expire: false,
        };
        let mut fails = false;
        loop {
            match work.step().await {
                Ok(()) if fails => {
                    fails = false;
                    tracing::info!("subscriptions are announced again");
                }
                Ok(()) => {}
                Err(TransportError::Closed) => return,
                Err(error) => {
                    if !std::mem::replace(&mut fails, true) {
                        tracing::warn!(%error, "subscriptions cannot be announced: they are kept for later");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Announces that all have left and gives up the node's lease, within a bounded time. The worker still runs.
    pub(crate) async fn retire(&self) {
        let Some(registry) = self.transport.registry() else { return };
        let all: Vec<u64> = self.lock().arrivals.keys().copied().collect();
        for arrival in all {
            self.leave(arrival);
        }
        let queued = self.lock().queued;
        let mut announced = self.announced.subscribe();
        // Without an end the lease runs out, and another node announces the rest.
        let _ = timeout(ANNOUNCED_MAX, announced.wait_for(|announced| *announced >= queued)).await;
        let _ = timeout(ANNOUNCED_MAX, registry.resign(self.node)).await;
    }

    /// The updates that tell it.
    fn events(&self, subscriptions: &[Subscription], active: bool) -> Vec<Update> {
        let event = |subscription: &Subscription| {
            subscription.event(&self.hub, active, self.legacy_type.as_ref(), ids::event())
        };
        subscriptions.iter().map(event).collect()
    }

    fn fact(&self, subscriptions: Arc<[Subscription]>, active: bool) -> Option<Fact> {
        let subscriber = subscriptions.first()?.subscriber;
        let events = self.events(&subscriptions, active);
        Some(Fact { subscriber, active, subscriptions, events })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node does for the registry.
struct Work<'a> {
    presence: &'a Presence,
    registry: &'a dyn Registry,
    /// How many announcements were taken from the queue for the facts.
    taken: u64,
    /// Not known to be recorded: recorded again, as they are, until they are.
    facts: Vec<Fact>,
    renew_at: Instant,
    /// A renewal had no answer, which may have been the only one that says that the lease had ended.
    is_in_doubt: bool,
    /// When so many announcements have been made, everyone who was to be recorded anew has been.
    anew_until: u64,
    /// There may be subscribers of dead nodes.
    may_expire: bool,
}

impl Work<'_> {
    /// Renews the lease if it is time, ends some of what dead nodes have left behind, and records some of what is queued;
    /// waits if there is nothing to do. After an error the next step takes up where it ended.
    async fn step(&mut self) -> Result<(), TransportError> {
        if Instant::now() >= self.renew_at {
            let was_in_doubt = std::mem::replace(&mut self.is_in_doubt, true);
            let lease = self.registry.renew(self.presence.node).await?;
            self.renew_at = Instant::now() + self.registry.lease() / RENEWALS;
            (self.is_in_doubt, self.may_expire) = (false, true);
            if was_in_doubt || lease == Lease::Ended {
                self.record_anew();
            }
        }
        if self.may_expire {
            self.may_expire = self.expire().await?;
        }
        if self.facts.is_empty() && !self.take() {
            if !self.may_expire {
                tokio::select! {
                    () = self.presence.queued.notified() => {}
                    () = sleep_until(self.renew_at) => {}
                }
            }
            return Ok(());
        }
        match self.registry.record(self.presence.node, &self.facts).await {
            Ok(Lease::Kept) => self.done(),
            Ok(Lease::Ended) => self.renew_at = Instant::now(),
            Err(error @ TransportError::Failed(_)) => {
                tracing::warn!(%error, "subscription events are lost: the log did not take them");
                self.done();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn done(&mut self) {
        self.facts.clear();
        let taken = std::mem::take(&mut self.taken);
        self.presence.announced.send_modify(|announced| *announced += taken);
    }

    /// Takes the next from the queue. False: there is nothing to record.
    fn take(&mut self) -> bool {
        let taken: Vec<_> = {
            let mut state = self.presence.lock();
            let count = batch(&state.queue);
            state.take(count)
        };
        self.presence.drained.notify_waiters();
        self.taken = taken.len() as u64;
        let fact = |(arrival, active): (Arrival, bool)| self.presence.fact(arrival.subscriptions, active);
        self.facts = taken.into_iter().filter_map(fact).collect();
        !self.facts.is_empty()
    }

    /// The lease had ended, or begins: whoever is here is recorded before what is queued. Who still stands makes no event.
    fn record_anew(&mut self) {
        if *self.presence.announced.borrow() < self.anew_until {
            // They are on their way already.
            return;
        }
        let mut state = self.presence.lock();
        let here: Vec<_> = state.arrivals.values().cloned().collect();
        state.queued += here.len() as u64;
        self.anew_until = *self.presence.announced.borrow() + self.taken + here.len() as u64;
        state.queue_bytes += here.iter().map(|arrival| arrival.weight.bytes()).sum::<usize>();
        for arrival in here.into_iter().rev() {
            state.queue.push_front((arrival, true));
        }
    }

    /// Ends some of what dead nodes have left behind, and says whether there may be more. Every node does, as each may be
    /// the last.
    async fn expire(&self) -> Result<bool, TransportError> {
        let abandoned = self.registry.abandoned(BATCH_ABANDONED).await?;
        let mut departures: BTreeMap<NodeId, Vec<Fact>> = BTreeMap::new();
        for Abandoned { node, subscriptions } in &abandoned {
            departures.entry(*node).or_default().extend(self.presence.fact(Arc::clone(subscriptions), false));
        }
        for (node, departures) in departures {
            tracing::info!(%node, count = departures.len(), "subscribers of a node that is gone have ended");
            self.registry.expire(node, &departures).await?;
        }
        Ok(abandoned.len() == BATCH_ABANDONED)
    }
}

/// How many of the first announcements are recorded together. Nobody's arrival and departure are: recorded again after an
/// unknown end, both would be news again.
fn batch(queue: &VecDeque<(Arrival, bool)>) -> usize {
    let mut subscribers = HashSet::new();
    let (mut count, mut bytes) = (0, 0);
    let mut fits = |arrival: &Arrival| {
        let all = &arrival.subscriptions;
        let is_first = all.first().is_none_or(|first| subscribers.insert(first.subscriber));
        count += all.len();
        bytes += arrival.weight.bytes();
        let is_small = count <= BATCH_SUBSCRIPTIONS && bytes <= BATCH_BYTES;
        is_first && (is_small || subscribers.len() == 1)
    };
    queue.iter().take(BATCH_FACTS).take_while(|(arrival, _)| fits(arrival)).count()
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.presence.leave(self.arrival);
    }
}
