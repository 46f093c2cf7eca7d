//! One subscriber among many on other topics: whether finding it costs more the more there are.

use crate::{
    Failure,
    crowd::Reading,
    ledger::Ledger,
    publishers::{Plan, Publishers},
    report::Report,
    scenario::{Setup, report_order},
    stamp::Clock,
    target::Selection,
};

/// Topics with one subscriber each, of which one is published to.
#[derive(Debug, Clone)]
pub struct Routing {
    /// How many topics, one measurement for each number.
    pub topics: Vec<usize>,
    /// How many of them one connection subscribes to.
    pub topics_per_connection: usize,
    /// What is published to one of them.
    pub plan: Plan,
    /// How subscribers name what they want.
    pub selection: Selection,
    /// Bytes of data of each update.
    pub bytes: usize,
}

impl Routing {
    /// Runs it.
    ///
    /// # Errors
    /// If it cannot be run to its end.
    pub fn run(&self, setup: &Setup) -> Result<Report, Failure> {
        let mut report = Report::new("routing");
        let mut costs = Vec::new();
        for topics in &self.topics {
            costs.push(self.measure(setup, *topics, &mut report)?);
        }
        if let (Some(first), Some(last), true) = (costs.first(), costs.last(), setup.server.is_some()) {
            report.figure("cpu_per_publish_last_to_first", last / first);
        }
        Ok(report)
    }

    /// The server's microseconds for each publish.
    fn measure(&self, setup: &Setup, topics: usize, report: &mut Report) -> Result<f64, Failure> {
        let clock = Clock::start();
        let subscribers = topics.div_ceil(self.topics_per_connection);
        let memory_before = setup.memory();
        let files = setup.server.map_or(0, |server| server.files());
        let mut crowd = setup.crowd(clock, Ledger::new(subscribers, 1, 1))?;
        crowd.open(0..subscribers, Reading::Always, &mut |subscriber| {
            let start = subscriber * self.topics_per_connection;
            let end = topics.min(start + self.topics_per_connection);
            let selected: Vec<_> = (start..end).map(|number| self.selector(setup, number)).collect();
            setup.target.subscription(subscriber, &selected, self.selection, b"")
        })?;
        setup.rest(&mut crowd)?;
        crowd.check()?;
        let memory = setup.memory();
        let topic = self.topic(setup, topics / 2);
        let mut publishers =
            Publishers::connect(&setup.target, clock, setup.manner.patience, &[topic], self.bytes)?;
        let cpu = setup.cpu();
        let published = setup.exchange(&mut crowd, &mut publishers, self.plan, 1)?;
        let cpu = (setup.cpu().saturating_sub(cpu)).as_secs_f64() * 1e6 / published.updates.max(1) as f64;
        setup.settle(&mut crowd)?;

        // One subscriber has seen all, whoever it is: each other one has seen nothing.
        let subscriber = topics / 2 / self.topics_per_connection;
        let lost = crowd.ledger.sequences.lost(subscriber..subscriber + 1, &published.accepted);
        let elsewhere = crowd.ledger.delivered - (published.updates - lost.min(published.updates));
        let mut order = Report::default();
        report_order(&mut order, &mut crowd, 0, &published);
        order.must_be_zero("not_delivered", lost);
        order.must_be_zero("delivered_elsewhere", elsewhere);
        report.faults.extend(order.faults.into_iter().map(|fault| format!("{topics} topics: {fault}")));
        report.milliseconds(&format!("{topics}_topics_latency_p50"), crowd.ledger.each.quantile(0.5));
        report.milliseconds(&format!("{topics}_topics_latency_p99"), crowd.ledger.each.quantile(0.99));
        if setup.server.is_some() {
            report.figure(&format!("{topics}_topics_cpu_per_publish_us"), cpu);
            let each = (memory as f64 - memory_before as f64) / topics as f64;
            report.figure(&format!("{topics}_topics_memory_per_topic_bytes"), each);
        }
        drop(publishers);
        crowd.close_all();
        setup.await_files(files);
        setup.rest(&mut crowd)?;
        Ok(cpu)
    }

    fn topic(&self, setup: &Setup, number: usize) -> String {
        let base = &setup.target.topic;
        match self.selection {
            Selection::Exact => format!("{base}/{number}"),
            Selection::UrlPattern | Selection::Template => format!("{base}/{number}/1"),
        }
    }

    fn selector(&self, setup: &Setup, number: usize) -> String {
        let base = &setup.target.topic;
        match self.selection {
            Selection::Exact => format!("{base}/{number}"),
            Selection::UrlPattern => format!("{base}/{number}/:id"),
            Selection::Template => format!("{base}/{number}/{{id}}"),
        }
    }
}
