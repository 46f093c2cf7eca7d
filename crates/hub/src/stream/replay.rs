//! Comparing history with the matchers and grants of subscribers, shared out fairly.
//!
//! A cheap page of the log, as nearly all are, is compared where it is read. A page is costly if its subscriber brought
//! costly patterns; it goes into the queue here. A few tasks take the queued pages by turns, a slice of the work at a
//! time. So no subscriber keeps another from its history, and all of them leave the other threads of the runtime to
//! publishers. Nothing is refused or lost: a costly replay is slow. After its subscriber has left, a page costs one
//! more slice at most.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};

use crate::{
    interest::{Interest, SLICE_COST, Search},
    log::transport::Entry,
};

/// The tasks that compare costly pages for all replays of a hub, and their queue. Dropping it ends them.
pub(crate) struct Replays {
    queue: Arc<Queue>,
    tasks: Box<[JoinHandle<()>]>,
}

/// The pages that wait for their turn. A subscriber has one page at most, so the number of streams bounds the queue.
#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    handed_in: Notify,
}

/// A page that is being compared.
struct Job {
    interest: Arc<Interest>,
    entries: std::vec::IntoIter<Entry>,
    /// How far the first of the entries has been compared.
    search: Search,
    wanted: Vec<Entry>,
    /// Closed when the subscriber has left.
    reply: oneshot::Sender<Vec<Entry>>,
}

/// The entries of a page that a subscriber wants and may have.
pub(crate) enum Compared {
    /// The page was cheap.
    AtOnce(Vec<Entry>),
    /// The page is costly: the entries come when it has had its turns. An error means that the hub has ended.
    Later(oneshot::Receiver<Vec<Entry>>),
}

impl Replays {
    /// Starts the tasks on the current tokio runtime: half as many as there are cores, at least one.
    pub(crate) fn start() -> Self {
        let queue = Arc::<Queue>::default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let task = |_| tokio::spawn(run(Arc::clone(&queue)));
        Self { tasks: (0..(cores / 2).max(1)).map(task).collect(), queue }
    }

    /// Finds the entries of a page that a subscriber wants, with its grants of now, not those of the time when the
    /// updates were published.
    pub(crate) fn compare(&self, interest: &Arc<Interest>, mut entries: Vec<Entry>) -> Compared {
        let costs = interest.costs();
        let mut cost = 0_usize;
        let is_cheap = entries.iter().all(|entry| {
            cost = cost.saturating_add(costs.update(&entry.update));
            cost <= SLICE_COST
        });
        if is_cheap {
            entries.retain(|entry| interest.wants(&entry.update));
            return Compared::AtOnce(entries);
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job {
            interest: Arc::clone(interest),
            entries: entries.into_iter(),
            search: Search::default(),
            wanted: Vec::new(),
            reply,
        });
        Compared::Later(answer)
    }
}

impl Drop for Replays {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Works until it is aborted.
async fn run(queue: Arc<Queue>) {
    loop {
        let Some(job) = queue.pop() else {
            queue.handed_in.notified().await;
            continue;
        };
        if let Some(unfinished) = job.work() {
            queue.push(unfinished);
        }
        // Other tasks of this thread have their turn, too.
        tokio::task::yield_now().await;
    }
}

impl Queue {
    fn push(&self, job: Job) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.handed_in.notify_one();
    }

    fn pop(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Job {
    /// Does a slice of the work. `Some`: there is more to do.
    fn work(mut self) -> Option<Self> {
        if self.reply.is_closed() {
            return None;
        }
        let mut budget = SLICE_COST;
        while let Some(entry) = self.entries.as_slice().first() {
            let is_wanted = self.interest.search(&entry.update, &mut self.search, &mut budget);
            let Some(is_wanted) = is_wanted else { return Some(self) };
            self.search = Search::default();
            let entry = self.entries.next();
            self.wanted.extend(entry.filter(|_| is_wanted));
        }
        // An error means that the subscriber has left meanwhile.
        let _ = self.reply.send(self.wanted);
        None
    }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{
        Limits,
        matcher::{Matcher, MatcherType},
        request,
        token::Grants,
        topic::HubUrl,
        update::Update,
    };

    use super::*;
    use crate::log::transport::Position;

    fn entries(count: u64) -> Vec<Entry> {
        let entry = |sequence| {
            let body = format!("topic=https://example.com/{}/{sequence}&id={sequence}", "a".repeat(100));
            let draft =
                request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
            let update = Arc::new(Update::publish(draft, || unreachable!("an id is given")));
            Entry::now(Position { epoch: 1, sequence }, update)
        };
        (1..=count).map(entry).collect()
    }

    fn interest(patterns: &[&str]) -> Arc<Interest> {
        let parse = |text: &&str| {
            Matcher::parse(MatcherType::UrlPattern, text, &HubUrl::default(), &Limits::default())
                .expect("valid")
        };
        Arc::new(Interest::new(patterns.iter().map(parse).collect(), Arc::new(Grants::default())))
    }

    /// Every topic is compared to its end, and one of 256 meets.
    const COSTLY: [&str; 2] =
        ["https://example.com/(a?a?a?a?a?a?a?a?a?a*)/x:id", "https://example.com/(a*)/7"];

    fn ids(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.position.sequence).collect()
    }

    #[tokio::test]
    async fn cheap_pages_are_compared_at_once_and_costly_ones_in_turns_with_one_outcome() {
        let replays = Replays::start();
        let exact = Arc::new(Interest::new(
            vec![Matcher::Exact(entries(7)[6].update.topics().canonical().as_str().into())],
            Arc::new(Grants::default()),
        ));
        let Compared::AtOnce(found) = replays.compare(&exact, entries(256)) else { panic!("it is cheap") };
        assert_eq!(ids(&found), [7]);
        let Compared::Later(found) = replays.compare(&interest(&COSTLY), entries(256)) else {
            panic!("it is costly")
        };
        assert_eq!(ids(&found.await.expect("the hub runs")), [7]);
    }

    /// Without tasks: each turn is taken by hand.
    #[tokio::test]
    async fn a_slice_is_bounded_and_a_subscriber_that_has_left_costs_nothing_more() {
        let replays = Replays { queue: Arc::default(), tasks: Box::default() };
        let Compared::Later(mut found) = replays.compare(&interest(&COSTLY), entries(256)) else {
            panic!("it is costly")
        };
        let mut turns = 0;
        while let Some(job) = replays.queue.pop() {
            turns += 1;
            let before = job.entries.len();
            if let Some(unfinished) = job.work() {
                assert!(before - unfinished.entries.len() < 128, "a slice is a part of the page");
                replays.queue.push(unfinished);
            }
        }
        assert!(turns > 2, "{turns} turns");
        assert_eq!(ids(&found.try_recv().expect("it is done")), [7]);

        let Compared::Later(left) = replays.compare(&interest(&COSTLY), entries(256)) else {
            panic!("it is costly")
        };
        let job = replays.queue.pop().and_then(Job::work).expect("more to do");
        drop(left);
        assert!(job.work().is_none(), "nothing is done for it");
    }

    /// A page that came later and has little to do is not kept waiting by those before it.
    #[tokio::test]
    async fn replays_take_turns() {
        let replays = Replays { queue: Arc::default(), tasks: Box::default() };
        let long = replays.compare(&interest(&COSTLY), entries(256));
        let short = replays.compare(&interest(&COSTLY), entries(64));
        let (Compared::Later(mut long), Compared::Later(mut short)) = (long, short) else {
            panic!("both are costly")
        };
        while short.try_recv().is_err() {
            let job = replays.queue.pop().expect("the short one waits");
            if let Some(unfinished) = job.work() {
                replays.queue.push(unfinished);
            }
        }
        assert!(long.try_recv().is_err(), "the long one is not done");
    }
}
