//! What a run has seen, and whether that may be.

use std::fmt::Write;

/// The problems of one run, and what happened in it.
#[derive(Default)]
pub(super) struct Report {
    /// What must not be. A run ends at the first.
    problem: Option<String>,
    /// What happened, in order; kept only where a run is looked at by itself.
    trace: Option<String>,
    pub(super) counts: Counts,
}

/// How often things happened that a simulation is there for: a simulation without them proves nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) arrivals: u64,
    pub(super) dropped: u64,
    pub(super) leases_ended: u64,
    pub(super) recorded_again: u64,
    pub(super) expired: u64,
    pub(super) wiped: u64,
}

impl Report {
    pub(super) fn new(is_traced: bool) -> Self {
        Self { trace: is_traced.then(String::new), ..Self::default() }
    }

    /// Notes a problem unless the condition holds.
    pub(super) fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds && self.problem.is_none() {
            self.problem = Some(problem());
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            // Writing to a text cannot fail.
            let _ = writeln!(trace, "{}", line());
        }
    }

    pub(super) fn has_problem(&self) -> bool {
        self.problem.is_some()
    }

    /// The counts of a run without a problem.
    ///
    /// # Errors
    /// What went wrong, after the trace.
    pub(super) fn conclude(self) -> Result<Counts, String> {
        match self.problem {
            None => Ok(self.counts),
            Some(problem) => Err(format!("{}{problem}", self.trace.unwrap_or_default())),
        }
    }
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.arrivals += other.arrivals;
        self.dropped += other.dropped;
        self.leases_ended += other.leases_ended;
        self.recorded_again += other.recorded_again;
        self.expired += other.expired;
        self.wiped += other.wiped;
    }
}
