//! Nodes that deliver one log to subscribers: publishers publish, subscribers read at their own speed, lag, leave and come
//! back to any node, and the log fails. Then the faults end, and everybody has to catch up.
//!
//! What is checked:
//! - A stream is a run of the log without a gap: every update that its subscriber wants and may have, in order, once.
//! - It begins where the answer to its cursor says: right after the cursor, or somewhere if the answer is `earliest`.
//!   Without a cursor it misses nothing that was committed after it began.
//! - A subscriber that has received nothing comes back with the cursor that the hub has named, in the answer or, for half of
//!   the subscribers, in the stream.
//! - A stream that carries several subscriptions names the topics of each event. When it says that it is live, everything up to
//!   the id that it names has come, and nothing up to there follows.
//! - What has no room in the queue of a stream comes later, also if the stream falls behind the ring meanwhile.
//! - In the end every subscriber has come to the end of the log, and no node has failed.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use petasos_protocol::{
    Dialect, Limits,
    matcher::Matcher,
    request::{self, Cursor, SubscribeRequest},
    sse,
    token::Grants,
};
use tokio::{
    runtime,
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

use super::{
    log::{LATE_MAX, SimulatedLog, Weather},
    random::Random,
};
use crate::{Closed, Hub, Session, Settings, ids, interest::Interest, log::transport::Entry};

/// How often things happened that a simulation is there for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) delivered: u64,
    pub(super) reconnected: u64,
    pub(super) continued: u64,
    pub(super) earliest: u64,
    pub(super) lagged: u64,
    pub(super) lost: u64,
    pub(super) named: u64,
    pub(super) live: u64,
    pub(super) waited: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.reconnected += other.reconnected;
        self.continued += other.continued;
        self.earliest += other.earliest;
        self.lagged += other.lagged;
        self.lost += other.lost;
        self.named += other.named;
        self.live += other.live;
        self.waited += other.waited;
    }

    /// The number of what happened most rarely.
    pub(super) fn rarest(self) -> u64 {
        let Self { delivered, reconnected, continued, earliest, lagged, lost, named, live, waited } = self;
        [delivered, reconnected, continued, earliest, lagged, lost, named, live, waited]
            .into_iter()
            .min()
            .unwrap_or_default()
    }
}

/// The time with faults, and the time in which everybody must have caught up after it.
const FAULTS: Duration = Duration::from_secs(8);
const CAUGHT_UP: Duration = Duration::from_secs(60);

const TOPICS: [&str; 4] = ["a", "b", "/c/1", "/c/2"];
const SELECTORS: [&str; 5] = ["a", "b", "/c/{id}", "*", "/c/1"];

/// The last update of a run, which everybody wants and may have.
const LAST: &str = "topic=a&topic=b&topic=/c/1&id=last";

/// Runs one seed.
///
/// # Errors
/// What went wrong.
pub(super) fn run(seed: u64) -> Result<Counts, String> {
    let runtime =
        runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, Simulation::run(seed))
}

struct Simulation {
    log: SimulatedLog,
    nodes: Vec<Hub>,
    problem: RefCell<Option<String>>,
    counts: Cell<Counts>,
    until: Instant,
}

impl Simulation {
    async fn run(seed: u64) -> Result<Counts, String> {
        let mut random = Random::new(seed);
        ids::seed_fractions(seed);
        let kept_max = [3, 20, 100, 1_000][random.below(4)];
        let log = SimulatedLog::new(Random::new(seed ^ 0x5eed), kept_max);
        let mut nodes = Vec::new();
        for _ in 0..1 + random.below(3) {
            let settings = Settings {
                subscriptions: false,
                keep_alive: Some(Duration::from_millis(300)),
                shards: 1 + random.below(3),
                lifetime_max: random.percent(30).then_some(Duration::from_secs(2)),
                log_wait_max: Duration::from_secs(2),
                ..Settings::default()
            };
            nodes.push(Hub::simulate(Arc::new(log.clone()), settings).await.expect("the weather is fine"));
        }
        let until = Instant::now() + FAULTS;
        let simulation =
            Rc::new(Self { log, nodes, problem: RefCell::default(), counts: Cell::default(), until });
        let mut tasks = Vec::new();
        for number in 0..1 + random.below(4) {
            let publisher =
                Rc::clone(&simulation).publish(number, Random::new(seed + 1_000_003 * number as u64));
            tasks.push(tokio::task::spawn_local(publisher));
        }
        tasks.push(tokio::task::spawn_local(Rc::clone(&simulation).fail(Random::new(!seed))));
        let mut subscribers = Vec::new();
        for number in 0..2 + random.below(8) {
            let subscriber = Subscriber::new(Random::new(seed + 7_919 * number as u64 + 1));
            subscribers.push(tokio::task::spawn_local(subscriber.live(number, Rc::clone(&simulation))));
        }
        for task in tasks {
            task.await.map_err(|error| error.to_string())?;
        }
        simulation.log.set_weather(Weather::default());
        // Nothing is committed late after the last update.
        sleep(2 * LATE_MAX).await;
        // A node that has failed refuses all updates, for ever.
        while !simulation.has_failed() && simulation.publish_one(0, LAST).await.is_none() {}
        for subscriber in subscribers {
            match timeout(CAUGHT_UP, subscriber).await {
                Ok(ended) => ended.map_err(|error| error.to_string())?,
                Err(_) => simulation.report("a subscriber did not come to the end of the log".to_owned()),
            }
        }
        simulation.has_failed();
        for node in &simulation.nodes {
            node.stop().await;
        }
        match simulation.problem.take() {
            Some(problem) => Err(problem),
            None => Ok(simulation.counts.get()),
        }
    }

    fn report(&self, problem: String) {
        self.problem.borrow_mut().get_or_insert(problem);
    }

    /// Whether a node has failed, which is reported: an unavailable log is no failure, and no part of a node ends here.
    fn has_failed(&self) -> bool {
        let has_failed = self.nodes.iter().any(Hub::has_failed);
        if has_failed {
            self.report("a node has failed".to_owned());
        }
        has_failed
    }

    fn count(&self, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        count(&mut counts);
        self.counts.set(counts);
    }

    /// `None`: the publisher got an error.
    async fn publish_one(&self, node: usize, body: &str) -> Option<()> {
        let node = &self.nodes[node % self.nodes.len()];
        let draft = request::publish(body.as_bytes(), node.url(), &Limits::default()).expect("valid");
        node.publish(draft).await.ok().map(drop)
    }

    async fn publish(self: Rc<Self>, number: usize, mut random: Random) {
        let mut sequence = 0;
        while Instant::now() < self.until {
            let burst = if random.percent(5) { 300 } else { 1 + random.below(8) };
            for _ in 0..burst {
                sequence += 1;
                let topic = TOPICS[random.below(TOPICS.len())];
                let private = if random.percent(30) { "&private=on" } else { "" };
                let body = format!("topic={topic}&id={number}-{sequence}{private}");
                // An error leaves open whether the update was committed: streams show what the log has.
                self.publish_one(random.below(8), &body).await;
            }
            let waiting: usize = self.nodes.iter().map(|node| node.counted().waiting_streams).sum();
            self.count(|counts| counts.waited += waiting as u64);
            sleep(random.duration(Duration::from_millis(500))).await;
        }
    }

    async fn fail(self: Rc<Self>, mut random: Random) {
        let can_be_wiped = random.percent(30);
        while Instant::now() < self.until {
            sleep(random.duration(Duration::from_secs(2))).await;
            let failing_percent = if random.percent(50) { 10 } else { 0 };
            self.log.set_weather(Weather { is_unavailable: random.percent(30), failing_percent });
            if can_be_wiped && random.percent(30) {
                self.log.wipe();
            }
        }
    }
}

/// One subscriber, who comes back with its cursor until it has seen the last update.
struct Subscriber {
    random: Random,
    matchers: Vec<Matcher>,
    grants: Arc<Grants>,
    /// Whether its streams name cursors.
    is_browser: bool,
    /// Whether its streams name topics, and say when they are live.
    multiplex: bool,
    /// The cursor with which it comes back.
    last: Option<String>,
}

impl Subscriber {
    fn new(mut random: Random) -> Self {
        let parse = |text: &str| Matcher::selector(text, &Limits::default()).expect("valid");
        let matchers =
            (0..1 + random.below(2)).map(|_| parse(SELECTORS[random.below(SELECTORS.len())])).collect();
        let granted = random.percent(50).then(|| parse(SELECTORS[random.below(SELECTORS.len())]));
        let grants = Grants { subscribe: granted.into_iter().collect(), ..Grants::default() };
        let (is_browser, multiplex) = (random.percent(50), random.percent(40));
        Self { random, matchers, grants: Arc::new(grants), is_browser, multiplex, last: None }
    }

    async fn live(mut self, number: usize, simulation: Rc<Simulation>) {
        sleep(self.random.duration(FAULTS)).await;
        while self.last.as_deref() != Some("last") {
            if simulation.problem.borrow().is_some() {
                return;
            }
            let node = &simulation.nodes[self.random.below(simulation.nodes.len())];
            let cursor = self.last.as_deref().map(Cursor::parse);
            let known = simulation.log.committed().len();
            let (matchers, multiplex) = (self.matchers.clone(), self.multiplex);
            let request = SubscribeRequest { dialect: Dialect::V1, matchers, cursor, multiplex };
            let Ok(mut session) = node.subscribe(request, Arc::clone(&self.grants), None).await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            if self.is_browser {
                session.name_cursors();
            }
            let answer = session.cursor().expect("nothing is polled").to_owned();
            let first = match &self.last {
                Some(last) if *last == answer && last != Cursor::EARLIEST => {
                    simulation.count(|counts| counts.continued += 1);
                    First::After(last.clone())
                }
                Some(_) => {
                    simulation.count(|counts| counts.earliest += 1);
                    First::Anywhere
                }
                None => First::NotLaterThan(simulation.log.committed().len()),
            };
            let mut cursor = answer.clone();
            let (ids, named) = self.read(session, &mut cursor, &simulation).await;
            let committed = simulation.log.committed();
            // Without a cursor, a stream may begin where its node is while the log is unavailable.
            let known = if matches!(first, First::NotLaterThan(_)) { 0 } else { known };
            let checked = self
                .check(&committed, &first, &ids)
                .and_then(|()| self.check_lives(&committed, known, &ids, &named))
                .and_then(|()| self.check_named(&committed, &answer, &ids, &named));
            if let Err(problem) = checked {
                simulation.report(format!(
                    "subscriber {number}, cursor {:?}, answer {answer:?}: {problem}",
                    self.last
                ));
            }
            self.last = Some(cursor);
            simulation.count(|counts| {
                counts.delivered += ids.len() as u64;
                counts.reconnected += 1;
            });
        }
    }

    /// Reads until the stream ends, until the subscriber has enough, or until the last update. Moves its cursor on. Returns the
    /// ids, and the cursors that the stream has named.
    async fn read(
        &mut self,
        mut session: Session,
        cursor: &mut String,
        simulation: &Simulation,
    ) -> (Vec<String>, Vec<Named>) {
        let pause = match self.random.below(3) {
            0 => Duration::ZERO,
            1 => Duration::from_millis(5),
            _ => Duration::from_millis(60),
        };
        let enough = Instant::now() + self.random.duration(Duration::from_secs(5));
        let (mut ids, mut named) = (Vec::new(), Vec::new());
        loop {
            let has_enough = enough < Instant::now() && Instant::now() < simulation.until;
            let next = match timeout(Duration::from_secs(1), session.next()).await {
                _ if has_enough => return (ids, named),
                Err(_) => continue,
                Ok(next) => next,
            };
            let Some(frame) = next else {
                simulation.count(|counts| match session.closed() {
                    Some(Closed::Lagged) => counts.lagged += 1,
                    Some(Closed::LogLost) => counts.lost += 1,
                    _ => {}
                });
                return (ids, named);
            };
            let text = std::str::from_utf8(&frame).expect("UTF-8");
            if let Some(id) = text.lines().find_map(|line| line.strip_prefix("id: ")) {
                id.clone_into(cursor);
                if text.contains(sse::CURSOR_TYPE) {
                    simulation.count(|counts| counts.named += 1);
                    let is_live = text.contains("data: live");
                    named.push(Named { behind: ids.len(), id: id.to_owned(), is_live });
                    if is_live {
                        simulation.count(|counts| counts.live += 1);
                    }
                    continue;
                }
                let topics = text.lines().take_while(|line| line.starts_with("topic: ")).count();
                if (topics > 0) != self.multiplex {
                    simulation.report(format!("{topics} topics before {id}"));
                }
                ids.push(id.to_owned());
                if id == "last" {
                    return (ids, named);
                }
            }
            if Instant::now() < simulation.until {
                sleep(self.random.duration(pause)).await;
            }
        }
    }

    /// Whether the ids are a run of what the subscriber wants, of one log, without a gap.
    fn check(&self, committed: &[Entry], first: &First, ids: &[String]) -> Result<(), String> {
        let interest = Interest::new(self.matchers.clone(), Arc::clone(&self.grants));
        let wanted: Vec<_> =
            committed.iter().enumerate().filter(|(_, entry)| interest.wants(&entry.update)).collect();
        let Some(begin) = ids.first() else { return Ok(()) };
        let id = |entry: &Entry| entry.update.id().as_str().to_owned();
        let Some(start) = wanted.iter().position(|(_, entry)| id(entry) == *begin) else {
            return Err(format!("{begin} is not wanted, or was never committed"));
        };
        for (offset, received) in ids.iter().enumerate() {
            match wanted.get(start + offset) {
                Some((_, entry)) if id(entry) == *received => {}
                expected => {
                    let expected = expected.map(|(_, entry)| id(entry));
                    return Err(format!("{received} came instead of {expected:?}"));
                }
            }
        }
        let (_, entry) = wanted[start];
        match first {
            First::Anywhere => Ok(()),
            First::After(cursor) => {
                // An id of another log, or of another subscriber's update, stands nowhere among these.
                let at = committed.iter().position(|entry| id(entry) == *cursor);
                let next = wanted.iter().find(|(index, _)| at.is_none_or(|at| *index > at));
                match next {
                    Some((_, expected)) if expected.position == entry.position => Ok(()),
                    expected => {
                        Err(format!("it began at {begin} instead of {:?}", expected.map(|(_, e)| id(e))))
                    }
                }
            }
            First::NotLaterThan(after) => {
                let epoch = entry.position.epoch;
                let missed = wanted[..start]
                    .iter()
                    .filter(|(missed, entry)| *missed >= *after && entry.position.epoch == epoch);
                match missed.count() {
                    0 => Ok(()),
                    missed => Err(format!("it missed {missed} updates before {begin}")),
                }
            }
        }
    }

    /// Whether everything up to the cursors that the stream has named came before, and nothing after, and none goes back.
    /// `answer`: that of the hub to the cursor of the request.
    fn check_named(
        &self,
        committed: &[Entry],
        answer: &str,
        ids: &[String],
        named: &[Named],
    ) -> Result<(), String> {
        let interest = Interest::new(self.matchers.clone(), Arc::clone(&self.grants));
        let index = |id: &str| committed.iter().position(|entry| entry.update.id().as_str() == id);
        let behind_answer = index(answer).map(|at| at + 1);
        let mut former = behind_answer.unwrap_or(0);
        for Named { behind, id, .. } in named {
            let at = match (index(id), id.as_str()) {
                (Some(at), _) => at + 1,
                (None, Cursor::EARLIEST) => 0,
                (None, _) => return Err(format!("it named {id}, which was never committed")),
            };
            let (before, after) = ids.split_at(*behind);
            let last = before.last().and_then(|id| index(id)).map(|last| last + 1);
            if at < former || last.is_some_and(|last| at < last) {
                return Err(format!("it named {id}, and had come further, behind {:?}", before.last()));
            }
            former = at;
            if after.first().and_then(|id| index(id)).is_some_and(|next| next < at) {
                return Err(format!("it named {id}, and then {:?} came", after.first()));
            }
            let passed = last.or(behind_answer).map(|from| &committed[from.min(at)..at]);
            let missing = passed.and_then(|passed| passed.iter().find(|entry| interest.wants(&entry.update)));
            if let Some(missing) = missing {
                return Err(format!("it named {id}, and {:?} had not come", missing.update.id()));
            }
        }
        Ok(())
    }

    /// Whether everything up to the ids at which the stream was live came before, and nothing after. `known`: how many entries
    /// the log held when the stream was asked for.
    fn check_lives(
        &self,
        committed: &[Entry],
        known: usize,
        ids: &[String],
        named: &[Named],
    ) -> Result<(), String> {
        let interest = Interest::new(self.matchers.clone(), Arc::clone(&self.grants));
        let index = |id: &str| committed.iter().position(|entry| entry.update.id().as_str() == id);
        for Named { behind, id, .. } in named.iter().filter(|named| named.is_live) {
            let at = match (index(id), id.as_str()) {
                (Some(at), _) => at + 1,
                (None, Cursor::EARLIEST) => 0,
                (None, _) => return Err(format!("live at {id}, which was never committed")),
            };
            let (before, after) = ids.split_at(*behind);
            let last = before.last().and_then(|id| index(id)).map_or(at, |last| last + 1);
            if last > at {
                return Err(format!("live at {id}, before which {:?} had come", before.last()));
            }
            if after.first().and_then(|id| index(id)).is_some_and(|next| next < at) {
                return Err(format!("live at {id}, and then {:?} came", after.first()));
            }
            let is_missing = |entry: &&Entry| interest.wants(&entry.update);
            let missing = committed[last..at].iter().find(is_missing);
            let epoch = at.checked_sub(1).map(|at| committed[at].position.epoch);
            let later = committed[..known].iter().skip(at);
            let unseen = later.filter(|entry| Some(entry.position.epoch) == epoch).find(is_missing);
            if let Some(missing) = missing.or(unseen) {
                return Err(format!("live at {id}, and {:?} had not come", missing.update.id()));
            }
        }
        Ok(())
    }
}

/// A stream has named a cursor: behind so many ids, this one.
struct Named {
    behind: usize,
    id: String,
    /// It has said that it is live.
    is_live: bool,
}

/// Where a stream has to begin.
enum First {
    /// With the first update that it wants after this id.
    After(String),
    /// With any: the hub has said that it does not know the cursor.
    Anywhere,
    /// No update is missed that was committed after so many others. While the log is unavailable, a stream begins at the
    /// end of what its node has delivered, so earlier updates may come.
    NotLaterThan(usize),
}
