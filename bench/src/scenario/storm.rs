//! Everyone is cut off at once and comes back at once: whether each gets exactly what it missed, and how soon.

use crate::{
    Failure,
    crowd::Reading,
    ledger::Ledger,
    process::Server,
    publishers::{Extent, Pace, Plan},
    report::Report,
    scenario::{Setup, per_second, report_order},
    stamp::Clock,
};

/// A crowd that reconnects with its cursors.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// How many are cut off.
    pub subscribers: usize,
    /// How many updates all have seen before.
    pub before: usize,
    /// How many are published while nobody is there.
    pub missed: usize,
    /// Bytes of data of each update.
    pub bytes: usize,
}

impl Storm {
    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be run to its end.
    pub fn run(self, setup: &Setup) -> Result<Report, Failure> {
        let clock = Clock::start();
        let ledger = Ledger::new(self.subscribers, 1, self.subscribers);
        let mut crowd = setup.crowd(clock, ledger)?;
        crowd.open(0..self.subscribers, Reading::Always, &mut |number| setup.request(number, b""))?;
        let mut publishers = setup.publishers(clock, 1, self.bytes)?;
        let plan = |updates| Plan { pace: Pace::Closed, extent: Extent::Updates(updates) };
        setup.exchange(&mut crowd, &mut publishers, plan(self.before), self.subscribers)?;
        let cursors: Vec<_> = (0..self.subscribers).map(|number| crowd.cursor(number).to_vec()).collect();
        if cursors.iter().any(Vec::is_empty) {
            return Err("the server gives its events no ids, so nobody can come back".into());
        }
        let files = setup
            .server
            .map_or(0, |server| server.files())
            .saturating_sub(setup.connections(self.subscribers));
        crowd.close_all();
        setup.await_files(files);
        let missed = publishers.publish(plan(self.missed))?;
        setup.rest(&mut crowd)?;
        let memory_before = setup.memory();
        if let Some(server) = setup.server {
            server.forget_peak();
        }
        crowd.ledger.begin_phase();
        let (cpu, back) = (setup.cpu(), clock.nanoseconds());
        crowd.open(0..self.subscribers, Reading::Always, &mut |number| {
            setup.request(number, &cursors[number])
        })?;
        let open = clock.nanoseconds();
        let expected = missed.updates * self.subscribers as u64;
        setup.await_delivered(&mut crowd, expected)?;
        let cpu = setup.cpu().saturating_sub(cpu);
        let caught_up = crowd.ledger.latest_nanoseconds.max(open) - back;
        setup.settle(&mut crowd)?;

        let mut report = Report::new("storm");
        report.figure("subscribers", self.subscribers as f64);
        report.figure("missed_updates", missed.updates as f64);
        report.figure("deliveries", crowd.ledger.delivered as f64);
        report.figure("reconnected_ms", (open - back) as f64 / 1e6);
        report.figure("caught_up_ms", caught_up as f64 / 1e6);
        report.figure("deliveries_per_second", per_second(crowd.ledger.delivered, caught_up));
        report_order(&mut report, &mut crowd, self.subscribers, &missed);
        if setup.server.is_some() {
            report.figure("cpu_seconds", cpu.as_secs_f64());
            report.figure("memory_before_kb", memory_before as f64 / 1_024.0);
            report.figure("memory_peak_kb", setup.server.map_or(0, Server::memory_peak) as f64 / 1_024.0);
            report.figure("memory_after_kb", setup.memory() as f64 / 1_024.0);
        }
        Ok(report)
    }
}
