//! Everyone receives everything: what a delivery costs, and how late it is.

use std::time::Duration;

use crate::{
    Failure,
    crowd::Reading,
    ledger::Ledger,
    process::{Server, machine_cpu},
    publishers::Plan,
    report::Report,
    scenario::{Setup, per_second, report_order},
    stamp::Clock,
};

/// Subscribers of one topic, and its publishers.
#[derive(Debug, Clone, Copy)]
pub struct Fanout {
    /// How many receive.
    pub subscribers: usize,
    /// How many publish.
    pub publishers: usize,
    /// What they publish.
    pub plan: Plan,
    /// Bytes of data of each update.
    pub bytes: usize,
}

impl Fanout {
    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be run to its end; what was delivered wrongly is a fault in the report instead.
    pub fn run(self, setup: &Setup) -> Result<Report, Failure> {
        let clock = Clock::start();
        let memory_before = setup.memory();
        let ledger = Ledger::new(self.subscribers, self.publishers, self.subscribers);
        let mut crowd = setup.crowd(clock, ledger)?;
        crowd.open(0..self.subscribers, Reading::Always, &mut |number| setup.request(number, b""))?;
        let connected = clock.nanoseconds();
        let mut publishers = setup.publishers(clock, self.publishers, self.bytes)?;
        setup.rest(&mut crowd)?;
        let tool = Server(std::process::id());
        let (cpu, tool_cpu, machine) = (setup.cpu(), tool.cpu(), machine_cpu());
        let published = setup.exchange(&mut crowd, &mut publishers, self.plan, self.subscribers)?;
        let (cpu, tool_cpu, machine) = (
            setup.cpu().saturating_sub(cpu),
            tool.cpu().saturating_sub(tool_cpu),
            machine_cpu().saturating_sub(machine),
        );
        setup.settle(&mut crowd)?;

        let ledger = &crowd.ledger;
        // Those who are closed before the end would make the others look fast.
        let ended = ledger.latest_nanoseconds.max(published.ended_nanoseconds);
        let elapsed = ended - published.began_nanoseconds;
        let share = |time: Duration| time.as_secs_f64() / (elapsed.max(1) as f64 / 1e9);
        let mut report = Report::new("fanout");
        report.figure("subscribers", self.subscribers as f64);
        report.figure("publishers", self.publishers as f64);
        report.figure("connects_per_second", per_second(self.subscribers as u64, connected));
        report.figure("updates", published.updates as f64);
        let publishing = published.ended_nanoseconds - published.began_nanoseconds;
        report.figure("updates_per_second", per_second(published.updates, publishing));
        report.figure("deliveries", ledger.delivered as f64);
        report.figure("deliveries_per_second", per_second(ledger.delivered, elapsed));
        report.milliseconds("latency_p50", ledger.each.quantile(0.5));
        report.milliseconds("latency_p99", ledger.each.quantile(0.99));
        report.milliseconds("latency_p99.9", ledger.each.quantile(0.999));
        report.milliseconds("latency_max", ledger.each.max());
        report.milliseconds("last_subscriber_p50", ledger.last.quantile(0.5));
        report.milliseconds("last_subscriber_p99", ledger.last.quantile(0.99));
        report.milliseconds("answer_p50", published.answers.quantile(0.5));
        report.milliseconds("answer_p99", published.answers.quantile(0.99));
        report.milliseconds("sent_late_p99", published.late.quantile(0.99));
        report_order(&mut report, &mut crowd, self.subscribers, &published);
        if setup.server.is_some() {
            let millions = crowd.ledger.delivered.max(1) as f64 / 1e6;
            report.figure("cpu_seconds_per_million", cpu.as_secs_f64() / millions);
            report.figure("cpu_share", share(cpu));
            report.figure("other_cpu_share", share(machine.saturating_sub(cpu + tool_cpu)));
            report.figure("memory_before_kb", memory_before as f64 / 1_024.0);
            report.figure("memory_after_kb", setup.memory() as f64 / 1_024.0);
        }
        report.figure("tool_cpu_share", share(tool_cpu));
        Ok(report)
    }
}
