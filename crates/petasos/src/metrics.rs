//! The metrics that only the program knows: its version, its settings, its log lines and its process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use petasos_server::{
    Facts,
    metrics::{
        Samples,
        table::{
            BUILD_INFO, CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS, CONFIG_LAST_RELOAD_SUCCESSFUL,
            LOG_LINES_DROPPED_TOTAL,
        },
    },
};
use petasos_transports::Dsn;

use crate::{process::Process, telemetry};

/// The version of the hub.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The metrics that only the program knows.
#[derive(Debug)]
pub struct Program {
    started: Instant,
    process: Process,
    reloads: Arc<Reloads>,
}

/// How the last reload of the settings went. The start counts as the first one, which succeeded.
#[derive(Debug)]
pub struct Reloads {
    has_succeeded: AtomicBool,
    /// In milliseconds since 1970.
    succeeded_at: AtomicU64,
}

impl Program {
    /// For a program that starts now.
    pub fn new() -> Self {
        Self { started: Instant::now(), process: Process::new(), reloads: Arc::new(Reloads::new()) }
    }

    /// Records the results of reloads.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// Adds the values.
    pub fn add(&self, samples: &mut Samples) {
        samples.push(&BUILD_INFO, &[VERSION], true);
        samples.push(&LOG_LINES_DROPPED_TOTAL, &[], telemetry::lines_dropped());
        samples.push(&CONFIG_LAST_RELOAD_SUCCESSFUL, &[], self.reloads.has_succeeded.load(Ordering::Relaxed));
        let succeeded_at = self.reloads.succeeded_at.load(Ordering::Relaxed) as f64 / 1e3;
        samples.push(&CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS, &[], succeeded_at);
        self.process.add(samples);
    }

    /// What the operators' port needs to know of the program. `log`: the URL of the log.
    pub fn into_facts(self, log: &Dsn) -> Facts {
        let (started, log) = (self.started, log.scheme().to_owned());
        Facts { version: VERSION, log, started, add: Box::new(move |samples| self.add(samples)) }
    }
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Reloads {
    fn new() -> Self {
        let reloads = Self { has_succeeded: AtomicBool::new(true), succeeded_at: AtomicU64::new(0) };
        reloads.succeeded();
        reloads
    }

    /// The settings in force are those that were read just now.
    pub fn succeeded(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.succeeded_at.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.has_succeeded.store(true, Ordering::Relaxed);
    }

    /// A reload has failed: the settings in force are the former ones.
    pub fn failed(&self) {
        self.has_succeeded.store(false, Ordering::Relaxed);
    }
}
