//! Subscribers who wait: what each costs while nothing happens, how fast they come, and what remains when they go.

use crate::{
    Failure,
    crowd::Reading,
    ledger::Ledger,
    process::Kernel,
    report::Report,
    scenario::{Setup, per_second},
    stamp::Clock,
};

/// Subscribers who come, wait and go, several times over.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// How many wait.
    pub subscribers: usize,
    /// How often all come and go.
    pub rounds: usize,
}

impl Idle {
    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be run to its end.
    pub fn run(self, setup: &Setup) -> Result<Report, Failure> {
        let mut report = Report::new("idle");
        report.figure("subscribers", self.subscribers as f64);
        let each = |bytes: u64, before: u64| (bytes as f64 - before as f64) / self.subscribers as f64;
        // Memory is compared with that before the first round, so that what a round leaves behind counts in the next.
        let memory_before = setup.memory();
        let files = setup.server.map_or(0, |server| server.files());
        for round in 1..=self.rounds {
            let name = |name: &str| match round {
                round if round == self.rounds => name.to_owned(),
                round => format!("round_{round}_{name}"),
            };
            let kernel_before = Kernel::read();
            let clock = Clock::start();
            let mut crowd = setup.crowd(clock, Ledger::new(self.subscribers, 0, 0))?;
            let cpu = setup.cpu();
            crowd.open(0..self.subscribers, Reading::Always, &mut |number| setup.request(number, b""))?;
            let connected = clock.nanoseconds();
            setup.rest(&mut crowd)?;
            crowd.check()?;
            let cpu = setup.cpu().saturating_sub(cpu);
            let (memory, kernel) = (setup.memory(), Kernel::read());
            report.figure(&name("connects_per_second"), per_second(self.subscribers as u64, connected));
            report.figure(
                &name("kernel_objects_per_subscriber_bytes"),
                each(kernel.objects, kernel_before.objects),
            );
            report.figure(
                &name("kernel_queues_per_subscriber_bytes"),
                each(kernel.queues, kernel_before.queues),
            );
            crowd.close_all();
            if setup.server.is_some() {
                setup.await_files(files);
                setup.rest(&mut crowd)?;
                let microseconds = cpu.as_secs_f64() * 1e6 / self.subscribers as f64;
                report.figure(&name("cpu_per_connect_us"), microseconds);
                report.figure(&name("memory_per_subscriber_bytes"), each(memory, memory_before));
                report.figure(&name("memory_before_kb"), memory_before as f64 / 1_024.0);
                report.figure(&name("memory_open_kb"), memory as f64 / 1_024.0);
                report.figure(&name("memory_after_kb"), setup.memory() as f64 / 1_024.0);
            }
        }
        Ok(report)
    }
}
