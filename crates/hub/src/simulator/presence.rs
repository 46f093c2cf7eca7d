//! Nodes that announce who is subscribed: subscribers come, leave and come back, nodes die and stop, leases end, and the
//! store fails. Then the faults end, and the list and the events have to name the subscribers that are there.
//!
//! What is checked, always: the bounds of a node's state and of a batch; no departure of a subscriber that is here; no
//! second arrival of one that has left; nodes rest when there is nothing to do. In the end: the list names the subscribers
//! that are there, although subscribers of dead nodes cannot be expired yet; each subscriber has its events in turn, and no
//! subscriber lacks one unless it was dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use petasos_protocol::{
    Dialect,
    matcher::Matcher,
    subscription::{SubscriberId, Subscription},
};

use super::{
    clock::Clock,
    random::Random,
    report::{Counts, Report},
    store::{Change, Fate, Store},
};
use crate::{
    TransportError,
    budget::Budget,
    log::registry::NodeId,
    presence::{
        state::{Bounds, Census, Size, State},
        worker::{Answer, BATCH_ABANDONED, Expiry, Recording, Worker},
    },
};

const LEASE: Duration = Duration::from_secs(9);

/// Small, so that they are reached.
const BOUNDS: Bounds = Bounds {
    brief: Size { count: 5, bytes: 6_000 },
    batch: Size { count: 4, bytes: 3_000 },
    batch_subscriptions: 6,
};

/// The time with faults, and the times after it in which a node must have recorded its own subscribers, and all nodes must
/// have expired those of dead nodes.
const FAULTS: Duration = Duration::from_secs(30);
const RECORDED: Duration = Duration::from_secs(20);
const EXPIRED: Duration = Duration::from_secs(90);

/// What happens in one run, ten times as much as in the longest of 3,000.
const STEPS_MAX: u64 = 100_000;

/// Runs one seed.
///
/// # Errors
/// What went wrong.
pub(super) fn run(seed: u64, is_traced: bool) -> Result<Counts, String> {
    let mut simulation = Simulation::new(seed, is_traced);
    simulation.go();
    simulation.report.conclude()
}

struct Simulation {
    random: Random,
    clock: Clock<Happening>,
    store: Store,
    nodes: Vec<Node>,
    subscribers: BTreeMap<SubscriberId, Life>,
    report: Report,
    budget: Arc<Budget>,
    faults: Faults,
    steps: u64,
}

/// How the store of this seed fails.
struct Faults {
    /// Of a hundred requests, so many fail.
    failing_percent: usize,
    /// Until then every request is refused.
    is_away_until: Duration,
    cannot_expire: bool,
    can_be_wiped: bool,
    latency: Duration,
}

struct Node {
    id: NodeId,
    state: State,
    worker: Worker,
    /// Whether it runs: a dead node does nothing more.
    is_alive: bool,
    /// What is being recorded, as it was given to the store first.
    changes: Vec<Change>,
    /// Requests that have been answered with an error and take effect later.
    late: [Vec<Request>; 2],
    here: BTreeMap<u64, SubscriberId>,
}

/// What has become of a subscriber.
struct Life {
    node: usize,
    has_left: bool,
    is_dropped: bool,
    /// An attempt to record its arrival had no answer.
    is_unknown: bool,
}

#[derive(Clone)]
enum Request {
    Renew,
    Record(Vec<Change>),
    Find,
    Expire(NodeId, Vec<Arc<[Subscription]>>),
}

impl Request {
    /// The way of the request: recording or expiring.
    fn way(&self) -> usize {
        match self {
            Self::Renew | Self::Record(_) => 0,
            Self::Find | Self::Expire(..) => 1,
        }
    }
}

enum Happening {
    /// Subscribers do something.
    Turn,
    /// A node asked to be woken.
    Wake(usize),
    /// A request reaches the store.
    Reach(usize, Request, Fate),
    /// An answer reaches a node.
    Answer(usize, Answer),
    /// A late request takes effect, if it has not yet.
    Overdue(usize),
}

impl Simulation {
    fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let faults = Faults {
            failing_percent: [0, 10, 50][random.below(3)],
            is_away_until: Duration::ZERO,
            cannot_expire: random.percent(30),
            can_be_wiped: random.percent(20),
            latency: Duration::from_millis([1, 30, 400][random.below(3)]),
        };
        let mut simulation = Self {
            clock: Clock::new(),
            store: Store::new(LEASE),
            nodes: Vec::new(),
            subscribers: BTreeMap::new(),
            report: Report::new(is_traced),
            budget: Budget::new(usize::MAX / 4),
            faults,
            steps: 0,
            random,
        };
        for _ in 0..1 + simulation.random.below(3) {
            simulation.start_node();
        }
        simulation.clock.plan(Duration::ZERO, Happening::Turn);
        simulation
    }

    fn go(&mut self) {
        self.run_until(FAULTS);
        self.faults.failing_percent = 0;
        self.faults.is_away_until = Duration::ZERO;
        self.faults.latency = Duration::from_millis(1);
        self.report.note(|| "the faults end".to_owned());
        // If all others have died, somebody has to notice.
        self.start_node();
        self.run_until(FAULTS + RECORDED);
        let here = self.here();
        let is_listed = here.is_subset(&self.store.listed());
        self.report.check(is_listed, || "a subscriber that is here is not listed".to_owned());
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            let Census { due, .. } = node.state.census();
            self.report.check(due == 0, || format!("{due} facts of a node are still not recorded"));
        }
        self.faults.cannot_expire = false;
        self.run_until(FAULTS + RECORDED + EXPIRED);
        let listed = self.store.listed();
        self.report
            .check(listed == here, || format!("{} are listed and {} are here", listed.len(), here.len()));
        self.check_events(&here);
        for node in &self.nodes {
            self.report.counts.dropped += node.state.census().dropped;
        }
    }

    fn run_until(&mut self, end: Duration) {
        while !self.report.has_problem()
            && let Some(happening) = self.clock.next(end)
        {
            self.steps += 1;
            self.report.check(self.steps < STEPS_MAX, || "nodes never rest".to_owned());
            self.happen(happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Turn => {
                if self.clock.now() < FAULTS {
                    self.turn();
                    let pause = self.random.duration(Duration::from_millis(600));
                    // Sometimes much happens within the time in which facts are gathered.
                    let pause = if self.random.percent(50) { pause / 100 } else { pause };
                    self.clock.plan(self.clock.now() + pause, Happening::Turn);
                }
            }
            Happening::Wake(node) => self.drive(node),
            Happening::Reach(node, request, fate) => self.reach(node, request, fate),
            Happening::Answer(node, answer) => self.answer(node, answer),
            Happening::Overdue(node) => self.take_effect_late(node),
        }
    }

    /// Something happens that no node asked for.
    fn turn(&mut self) {
        let node = self.random.below(self.nodes.len());
        let now = self.clock.now();
        match self.random.below(100) {
            0..35 => {
                for _ in 0..=self.random.below(6) {
                    self.enter(node);
                }
            }
            35..70 => {
                for _ in 0..=self.random.below(6) {
                    self.leave_any(node);
                }
            }
            // Brief visits.
            70..85 => {
                for _ in 0..=self.random.below(10) {
                    let number = self.enter(node);
                    if let Some(number) = number {
                        self.leave(node, number);
                    }
                }
            }
            85..89 => {
                let away = self.random.duration(Duration::from_secs(6));
                self.faults.is_away_until = now + away;
                self.report.note(|| format!("{now:?} the store is unavailable for {away:?}"));
            }
            89..93 => {
                let id = self.nodes[node].id;
                self.store.end_lease(id);
                self.report.counts.leases_ended += 1;
                self.report.note(|| format!("{now:?} the lease of node {node} ends"));
            }
            93..95 => {
                self.nodes[node].state.hurry();
                self.drive(node);
            }
            95..97 if self.nodes.len() < 6 => self.start_node(),
            97..98 if self.faults.can_be_wiped => {
                self.store.wipe();
                self.report.counts.wiped += 1;
                self.report.note(|| format!("{now:?} the store is wiped"));
            }
            98 => {
                self.report.note(|| format!("{now:?} node {node} dies"));
                self.nodes[node].is_alive = false;
            }
            99 => {
                self.report.note(|| format!("{now:?} all leave node {node}"));
                for number in self.nodes[node].here.clone().into_keys() {
                    self.leave(node, number);
                }
            }
            _ => {}
        }
    }

    fn start_node(&mut self) {
        self.nodes.push(Node {
            id: NodeId::new(self.nodes.len() as u128),
            state: State::new(BOUNDS),
            worker: Worker::new(Some(LEASE)),
            is_alive: true,
            changes: Vec::new(),
            late: [Vec::new(), Vec::new()],
            here: BTreeMap::new(),
        });
        self.drive(self.nodes.len() - 1);
    }

    fn enter(&mut self, node: usize) -> Option<u64> {
        if !self.nodes[node].is_alive {
            return None;
        }
        let subscriber = SubscriberId::from_uuid(self.subscribers.len() as u128);
        let matchers: Vec<_> = (0..=self.random.below(3))
            .map(|number| {
                Matcher::Exact(format!("{number:0length$}", length = self.random.below(400) + 1).into())
            })
            .collect();
        let subscription = |matcher: &Matcher| Subscription {
            dialect: Dialect::V1,
            matcher: matcher.into(),
            subscriber,
            payload: None,
        };
        let subscriptions = matchers.iter().map(subscription).collect();
        let weight = self.budget.take_matchers(&matchers).expect("there is no bound");
        self.subscribers
            .insert(subscriber, Life { node, has_left: false, is_dropped: false, is_unknown: false });
        self.report.counts.arrivals += 1;
        let (number, wakes) = self.nodes[node].state.enter(subscriptions, weight);
        self.nodes[node].here.insert(number, subscriber);
        let now = self.clock.now();
        self.report.note(|| format!("{now:?} {subscriber} comes to node {node}"));
        if wakes {
            self.drive(node);
        }
        self.check_bounds(node);
        Some(number)
    }

    fn leave_any(&mut self, node: usize) {
        let count = self.nodes[node].here.len();
        let index = self.random.below(count);
        if let Some(number) = self.nodes[node].here.keys().nth(index).copied() {
            self.leave(node, number);
        }
    }

    fn leave(&mut self, node: usize, number: u64) {
        if !self.nodes[node].is_alive {
            return;
        }
        let dropped = self.nodes[node].state.census().dropped;
        let departure = self.nodes[node].state.leave(number);
        let Some(subscriber) = self.nodes[node].here.remove(&number) else { return };
        let is_dropped = self.nodes[node].state.census().dropped > dropped;
        let life = self.subscribers.get_mut(&subscriber).expect("it came");
        (life.has_left, life.is_dropped) = (true, is_dropped);
        let now = self.clock.now();
        self.report.note(|| format!("{now:?} {subscriber} leaves node {node}, dropped: {is_dropped}"));
        if departure.is_some_and(|departure| departure.wakes) {
            self.drive(node);
        }
        self.check_bounds(node);
    }

    fn check_bounds(&mut self, node: usize) {
        let Census { here, recorded, brief, brief_found, due, due_bytes, .. } =
            self.nodes[node].state.census();
        self.report.check(brief.count == brief_found, || format!("{brief:?} but {brief_found} are found"));
        let is_bounded = brief.count <= BOUNDS.brief.count + BOUNDS.batch.count
            && brief.bytes <= BOUNDS.brief.bytes + BOUNDS.batch.bytes.max(4_000);
        self.report.check(is_bounded, || format!("too many brief subscribers: {brief:?}"));
        self.report.check(due <= here + recorded + brief.count, || format!("{due} facts are due"));
        self.report.check((due == 0) == (due_bytes == 0), || format!("{due} facts of {due_bytes} bytes"));
    }

    /// A node makes the requests that it wants to make.
    fn drive(&mut self, index: usize) {
        let now = self.clock.now();
        let node = &mut self.nodes[index];
        if !node.is_alive {
            return;
        }
        let next = node.worker.next(&mut node.state, now);
        let recording = next.recording.map(|recording| {
            if recording == Recording::Renew {
                return Request::Renew;
            }
            let facts = node.worker.facts().iter();
            let changes: Vec<_> = facts
                .map(|fact| Change { subscriptions: Arc::clone(&fact.subscriptions), active: fact.active })
                .collect();
            if recording == Recording::Record {
                node.changes = changes;
            }
            Request::Record(node.changes.clone())
        });
        let expiring = next.expiring.map(|expiry| match expiry {
            Expiry::Find => Request::Find,
            Expiry::Expire(node, subscribers) => Request::Expire(node, subscribers),
        });
        if let Some(at) = next.wake_at {
            self.clock.plan(at, Happening::Wake(index));
        }
        if let Some(Request::Record(changes)) = &recording {
            self.check_batch(changes);
        }
        for request in recording.into_iter().chain(expiring) {
            let fate = match &request {
                _ if now < self.faults.is_away_until => Fate::Refused,
                Request::Expire(..) if self.faults.cannot_expire => Fate::Refused,
                _ => Fate::draw(&mut self.random, self.faults.failing_percent),
            };
            let at = now + self.random.duration(self.faults.latency);
            self.clock.plan(at, Happening::Reach(index, request, fate));
        }
    }

    fn check_batch(&mut self, changes: &[Change]) {
        let who: BTreeSet<_> = changes.iter().map(Change::subscriber).collect();
        self.report.check(who.len() == changes.len(), || "two facts of one subscriber in a batch".to_owned());
        let subscriptions: usize = changes.iter().map(|change| change.subscriptions.len()).sum();
        let fits = changes.len() <= BOUNDS.batch.count && subscriptions <= BOUNDS.batch_subscriptions;
        self.report.check(fits || changes.len() == 1, || format!("{} facts in a batch", changes.len()));
        for change in changes {
            let life = &self.subscribers[&change.subscriber()];
            self.report.check(change.active || life.has_left, || {
                format!("the departure of {} is recorded, who is here", change.subscriber())
            });
            let is_again = self.store.announced.contains(&change.subscriber()) && !life.is_unknown;
            self.report.check(!(change.active && life.has_left && is_again), || {
                format!("{} has left, and its arrival is recorded again", change.subscriber())
            });
        }
    }

    fn reach(&mut self, node: usize, request: Request, fate: Fate) {
        let now = self.clock.now();
        let error = || TransportError::unavailable("simulated");
        let way = request.way();
        if let (false, Request::Record(changes)) = (fate == Fate::Answered, &request) {
            for change in changes.iter().filter(|change| change.active) {
                if let Some(life) = self.subscribers.get_mut(&change.subscriber()) {
                    life.is_unknown = true;
                }
            }
        }
        let answer = match (fate, &request) {
            (Fate::Answered, _) => self.take_effect(node, &request),
            (_, Request::Renew) => Answer::Renewed(Err(error())),
            (_, Request::Record(_)) => Answer::Recorded(Err(error())),
            (_, Request::Find) => Answer::Found(Err(error())),
            (_, Request::Expire(..)) => Answer::Expired(Err(error())),
        };
        match (fate, request) {
            (Fate::Answered | Fate::Refused, _) => {}
            (Fate::Late, request) => {
                self.nodes[node].late[way].push(request);
                let late = self.random.duration(Duration::from_secs(3));
                self.clock.plan(now + late, Happening::Overdue(node));
            }
            (Fate::BrokenOff, Request::Record(mut changes)) => {
                let part = self.random.below(changes.len() + 1);
                changes.truncate(part);
                self.take_effect(node, &Request::Record(changes));
            }
            (Fate::BrokenOff, Request::Expire(dead, mut departures)) => {
                let part = self.random.below(departures.len() + 1);
                departures.truncate(part);
                self.take_effect(node, &Request::Expire(dead, departures));
            }
            (Fate::AnswerLost | Fate::BrokenOff, request) => {
                self.take_effect(node, &request);
            }
        }
        let at = now + self.random.duration(self.faults.latency);
        self.clock.plan(at, Happening::Answer(node, answer));
    }

    fn take_effect_late(&mut self, node: usize) {
        for way in 0..2 {
            for request in std::mem::take(&mut self.nodes[node].late[way]) {
                self.apply(node, &request);
            }
        }
    }

    /// What the store answers. Late requests of the same node come first.
    fn take_effect(&mut self, node: usize, request: &Request) -> Answer {
        for late in std::mem::take(&mut self.nodes[node].late[request.way()]) {
            self.apply(node, &late);
        }
        self.apply(node, request)
    }

    fn apply(&mut self, node: usize, request: &Request) -> Answer {
        let (now, id) = (self.clock.now(), self.nodes[node].id);
        let events = self.store.log.len();
        let answer = match request {
            Request::Renew => Answer::Renewed(Ok(self.store.renew(id, now))),
            Request::Record(changes) => {
                let again = |change: &&Change| change.active && self.store.is_listed(change.subscriber());
                self.report.counts.recorded_again += changes.iter().filter(again).count() as u64;
                Answer::Recorded(Ok(self.store.record(id, changes, now)))
            }
            Request::Find => Answer::Found(Ok(self.store.abandoned(BATCH_ABANDONED, now))),
            Request::Expire(dead, departures) => {
                self.store.expire(*dead, departures, now);
                self.report.counts.expired += (self.store.log.len() - events) as u64;
                Answer::Expired(Ok(()))
            }
        };
        for event in self.store.log.iter().skip(events) {
            let (subscriber, active) = (event.subscriber, event.active);
            self.report.note(|| format!("{now:?} the event of {subscriber}: {active}"));
        }
        answer
    }

    fn answer(&mut self, index: usize, answer: Answer) {
        let now = self.clock.now();
        let node = &mut self.nodes[index];
        if !node.is_alive {
            return;
        }
        self.report.note(|| format!("{now:?} node {index} is answered {answer:?}"));
        let answered = node.worker.answered(answer, &mut node.state, now);
        self.report.check(answered.is_ok(), || "a node has ended".to_owned());
        self.drive(index);
    }

    /// Subscribers that are connected to nodes that run.
    fn here(&self) -> BTreeSet<SubscriberId> {
        let alive = self.nodes.iter().filter(|node| node.is_alive);
        alive.flat_map(|node| node.here.values().copied()).collect()
    }

    fn check_events(&mut self, here: &BTreeSet<SubscriberId>) {
        let mut events: BTreeMap<SubscriberId, Vec<bool>> = BTreeMap::new();
        for event in &self.store.log {
            events.entry(event.subscriber).or_default().push(event.active);
        }
        for (subscriber, told) in &events {
            let in_turn = told.iter().enumerate().all(|(nth, active)| *active == (nth % 2 == 0));
            self.report.check(in_turn, || format!("{subscriber} is announced as {told:?}"));
            let is_here = here.contains(subscriber);
            self.report.check(told.last() == Some(&is_here), || {
                format!("{subscriber} is announced as {told:?}, here: {is_here}")
            });
            let is_once = told.len() <= 2 || self.store.disturbed.contains(subscriber);
            self.report.check(is_once, || format!("{subscriber} is announced as {told:?}"));
        }
        for (subscriber, life) in &self.subscribers {
            let is_announced = self.store.announced.contains(subscriber);
            let must_be = self.nodes[life.node].is_alive && !life.is_dropped;
            self.report.check(is_announced || !must_be, || format!("{subscriber} was never announced"));
            self.report.check(!(life.is_dropped && is_announced), || {
                format!("{subscriber} was dropped after it was announced")
            });
        }
    }
}
