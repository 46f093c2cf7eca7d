//! Some subscribers never read: whether the others notice.

use crate::{
    Failure,
    crowd::Reading,
    ledger::Ledger,
    process::Kernel,
    publishers::Plan,
    report::Report,
    scenario::{Setup, report_order},
    stamp::Clock,
};

/// A crowd of which a part stalls.
#[derive(Debug, Clone, Copy)]
pub struct Slow {
    /// How many there are, with those who stall.
    pub subscribers: usize,
    /// Of a hundred, how many stall.
    pub stalled_percent: usize,
    /// The receive buffer of those: the smaller, the sooner the server has to keep what they do not take.
    pub stalled_buffer_bytes: usize,
    /// How many publish.
    pub publishers: usize,
    /// What is published, first without those who stall, then with them.
    pub plan: Plan,
    /// Bytes of data of each update.
    pub bytes: usize,
}

impl Slow {
    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be run to its end.
    pub fn run(self, setup: &Setup) -> Result<Report, Failure> {
        let clock = Clock::start();
        let stalled = self.subscribers * self.stalled_percent / 100;
        let readers = self.subscribers - stalled;
        let mut crowd = setup.crowd(clock, Ledger::new(self.subscribers, self.publishers, readers))?;
        crowd.open(0..readers, Reading::Always, &mut |number| setup.request(number, b""))?;
        let mut publishers = setup.publishers(clock, self.publishers, self.bytes)?;
        let mut report = Report::new("slow");
        report.figure("readers", readers as f64);
        report.figure("stalled", stalled as f64);
        let mut quantiles = Vec::new();
        for name in ["without", "with"] {
            if name == "with" {
                let reading = Reading::Never(self.stalled_buffer_bytes);
                crowd.open(readers..self.subscribers, reading, &mut |number| setup.request(number, b""))?;
            }
            setup.rest(&mut crowd)?;
            crowd.ledger.begin_phase();
            let cpu = setup.cpu();
            let published = setup.exchange(&mut crowd, &mut publishers, self.plan, readers)?;
            let cpu = setup.cpu().saturating_sub(cpu);
            let each = &crowd.ledger.each;
            let (p50, p99) = (each.quantile(0.5), each.quantile(0.99));
            report.figure(&format!("{name}_deliveries"), crowd.ledger.delivered as f64);
            report.milliseconds(&format!("{name}_latency_p50"), p50);
            report.milliseconds(&format!("{name}_latency_p99"), p99);
            report.milliseconds(&format!("{name}_latency_max"), each.max());
            if setup.server.is_some() {
                let millions = crowd.ledger.delivered.max(1) as f64 / 1e6;
                report.figure(&format!("{name}_cpu_seconds_per_million"), cpu.as_secs_f64() / millions);
                report.figure(&format!("{name}_memory_kb"), setup.memory() as f64 / 1_024.0);
            }
            report.figure(&format!("{name}_kernel_queues_kb"), Kernel::read().queues as f64 / 1_024.0);
            quantiles.push((p50.as_secs_f64(), p99.as_secs_f64()));
            if name == "with" {
                setup.settle(&mut crowd)?;
                report_order(&mut report, &mut crowd, readers, &published);
            }
        }
        report.figure("latency_p50_ratio", quantiles[1].0 / quantiles[0].0);
        report.figure("latency_p99_ratio", quantiles[1].1 / quantiles[0].1);
        Ok(report)
    }
}
