//! Subscribers who come and go at once, while something is published: what a connect costs, and whether anything breaks.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Failure,
    crowd::Reading,
    ledger::Ledger,
    publishers::Plan,
    report::Report,
    scenario::{LOOK, Setup, per_second},
    stamp::Clock,
};

/// Places that are taken again as soon as they are free.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    /// How many subscribers come at a time.
    pub subscribers: usize,
    /// Subscribers who come each second; `None`: the next comes when one has gone.
    pub rate: Option<usize>,
    /// What is published meanwhile; its extent is that of the run.
    pub plan: Plan,
    /// Bytes of data of each update.
    pub bytes: usize,
}

/// The shortest wait: the system waits for whole milliseconds.
const TURN: Duration = Duration::from_millis(1);

impl Churn {
    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be run to its end; subscribers who are refused or closed are faults instead.
    pub fn run(self, setup: &Setup) -> Result<Report, Failure> {
        let clock = Clock::start();
        let files = setup.server.map_or(0, |server| server.files());
        let memory_before = setup.memory();
        let mut crowd = setup.crowd(clock, Ledger::new(self.subscribers, 1, usize::MAX))?;
        let mut publishers = setup.publishers(clock, 1, self.bytes)?;
        let (mut connects, mut errors) = (0, 0);
        let cpu = setup.cpu();
        let published = thread::scope(|scope| {
            let publisher = scope.spawn(|| publishers.publish(self.plan));
            let mut free: Vec<usize> = (0..self.subscribers).collect();
            let (began, mut begun) = (Instant::now(), 0);
            while !publisher.is_finished() {
                while self.until_next(begun, began.elapsed()).is_zero()
                    && let Some(subscriber) = free.pop()
                {
                    begun += 1;
                    crowd.ledger.sequences.join(subscriber);
                    crowd.connect(subscriber, Reading::Always, &setup.request(subscriber, b"")?)?;
                }
                let until_next = self.until_next(begun, began.elapsed());
                crowd.turn(self.rate.map_or(LOOK, |_| until_next.clamp(TURN, LOOK)))?;
                for subscriber in crowd.take_opened() {
                    connects += 1;
                    crowd.close(subscriber);
                    free.push(subscriber);
                }
                for subscriber in crowd.take_closed().0 {
                    errors += 1;
                    if !free.contains(&subscriber) {
                        free.push(subscriber);
                    }
                }
            }
            publisher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let cpu = setup.cpu().saturating_sub(cpu);
        let elapsed = published.ended_nanoseconds - published.began_nanoseconds;
        let mut report = Report::new("churn");
        report.figure("connects", connects as f64);
        report.figure("connects_per_second", per_second(connects, elapsed));
        report.figure("updates", published.updates as f64);
        report.figure("deliveries", crowd.ledger.delivered as f64);
        report.milliseconds("answer_p50", published.answers.quantile(0.5));
        report.milliseconds("answer_p99", published.answers.quantile(0.99));
        report.must_be_zero("errors", errors);
        report.must_be_zero("lost", crowd.ledger.sequences.skipped());
        report.must_be_zero("duplicated", crowd.ledger.sequences.duplicated());
        report.must_be_zero("reordered", crowd.ledger.sequences.reordered());
        report.must_be_zero("refused", published.refused);
        crowd.close_all();
        if setup.server.is_some() {
            drop(publishers);
            setup.await_files(files);
            setup.rest(&mut crowd)?;
            report.figure("cpu_per_connect_us", cpu.as_secs_f64() * 1e6 / connects.max(1) as f64);
            report.figure("memory_before_kb", memory_before as f64 / 1_024.0);
            report.figure("memory_after_kb", setup.memory() as f64 / 1_024.0);
        }
        Ok(report)
    }

    /// The time until the next subscriber may come.
    fn until_next(&self, begun: usize, elapsed: Duration) -> Duration {
        let at = self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(begun as f64 / rate as f64));
        at.saturating_sub(elapsed)
    }
}
