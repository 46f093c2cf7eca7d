//! What is measured, and what all measurements share.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    crowd::{Crowd, Manner},
    ledger::Ledger,
    process::Server,
    publishers::{Plan, Published, Publishers},
    report::Report,
    request::Request,
    stamp::Clock,
    target::{Protocol, Selection, Target},
};

mod churn;
mod fanout;
mod idle;
mod routing;
mod slow;
mod storm;

pub use churn::Churn;
pub use fanout::Fanout;
pub use idle::Idle;
pub use routing::Routing;
pub use slow::Slow;
pub use storm::Storm;

/// The server under test, and how patient the run is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What is talked to.
    pub target: Target,
    /// Whose time and memory are measured.
    pub server: Option<Server>,
    /// How the crowd connects.
    pub manner: Manner,
    /// How long to look for what arrives twice, after everything has arrived.
    pub settle: Duration,
}

impl Setup {
    /// Nobody yet.
    fn crowd(&self, clock: Clock, ledger: Ledger) -> Result<Crowd, Failure> {
        Crowd::new(&self.target, clock, self.manner, ledger)
    }

    /// So many publishers on this run's topic.
    fn publishers(&self, clock: Clock, publishers: usize, bytes: usize) -> Result<Publishers, Failure> {
        let topics = vec![self.target.topic.clone(); publishers];
        Publishers::connect(&self.target, clock, self.manner.patience, &topics, bytes)
    }

    /// A subscriber's request for this run's topic.
    fn request(&self, subscriber: usize, cursor: &[u8]) -> Result<Request, Failure> {
        let topics = std::slice::from_ref(&self.target.topic);
        self.target.subscription(subscriber, topics, Selection::Exact, cursor)
    }

    /// Connections that so many subscribers have.
    fn connections(&self, subscribers: usize) -> usize {
        match self.target.protocol {
            Protocol::Http1 => subscribers,
            Protocol::Http2 { streams_per_connection } => subscribers.div_ceil(streams_per_connection),
        }
    }

    /// Publishes while the crowd receives, until each update has reached `audience` subscribers or nothing comes any
    /// more. What is missing then is lost; whom the server closes meanwhile misses the rest.
    fn exchange(
        &self,
        crowd: &mut Crowd,
        publishers: &mut Publishers,
        plan: Plan,
        audience: usize,
    ) -> Result<Published, Failure> {
        let before = crowd.ledger.delivered;
        let published = thread::scope(|scope| {
            let publisher = scope.spawn(|| publishers.publish(plan));
            while !publisher.is_finished() {
                crowd.turn(LOOK)?;
            }
            publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        self.await_delivered(crowd, before + published.updates * audience as u64)?;
        Ok(published)
    }

    /// Receives until so many updates have been delivered, or nothing comes any more.
    fn await_delivered(&self, crowd: &mut Crowd, expected: u64) -> Result<(), Failure> {
        let (mut seen, mut progress) = (crowd.ledger.delivered, Instant::now());
        while seen < expected && progress.elapsed() < self.manner.patience {
            crowd.turn(LOOK)?;
            if crowd.ledger.delivered > seen {
                (seen, progress) = (crowd.ledger.delivered, Instant::now());
            }
        }
        Ok(())
    }

    /// Receives a little longer: what comes twice comes after all else.
    fn settle(&self, crowd: &mut Crowd) -> Result<(), Failure> {
        let started = Instant::now();
        while started.elapsed() < self.settle {
            crowd.turn(self.settle)?;
        }
        Ok(())
    }

    /// Waits until the server does nothing any more: what it has begun for those who came is not what is measured.
    fn rest(&self, crowd: &mut Crowd) -> Result<(), Failure> {
        let Some(server) = self.server else { return Ok(()) };
        let started = Instant::now();
        let mut before = server.cpu();
        while started.elapsed() < self.manner.patience {
            let look = Instant::now();
            while look.elapsed() < REST {
                crowd.turn(REST)?;
            }
            let now = server.cpu();
            if now.saturating_sub(before) <= REST / 20 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Waits until the server has closed the connections beyond those it had.
    fn await_files(&self, files: usize) {
        let Some(server) = self.server else { return };
        let started = Instant::now();
        while server.files() > files && started.elapsed() < self.manner.patience {
            thread::sleep(LOOK);
        }
    }

    /// The server's processor time so far.
    fn cpu(&self) -> Duration {
        self.server.map_or(Duration::ZERO, Server::cpu)
    }

    /// The server's memory now.
    fn memory(&self) -> u64 {
        self.server.map_or(0, Server::memory)
    }
}

/// How long nothing happens before the tool looks whether it is done.
const LOOK: Duration = Duration::from_millis(10);
/// A server is at rest when it uses less than a twentieth of this: keep-alive comments go on.
const REST: Duration = Duration::from_millis(200);

/// Lost, duplicated, reordered, refused, closed by the server: all must be zero.
fn report_order(report: &mut Report, crowd: &mut Crowd, subscribers: usize, published: &Published) {
    let sequences = &crowd.ledger.sequences;
    report.must_be_zero("lost", sequences.lost(0..subscribers, &published.accepted));
    report.must_be_zero("duplicated", sequences.duplicated());
    report.must_be_zero("reordered", sequences.reordered());
    report.must_be_zero("refused", published.refused);
    if let Some(status) = published.refusal {
        report.faults.push(format!("publishes were refused with status {status}"));
    }
    let (closed, problem) = crowd.take_closed();
    report.must_be_zero("closed_by_server", closed.len() as u64);
    report.faults.extend(problem);
}

/// Units of work for each second.
fn per_second(count: u64, nanoseconds: u64) -> f64 {
    count as f64 / (nanoseconds.max(1) as f64 / 1e9)
}
