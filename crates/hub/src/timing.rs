//! The times of streams that may change while a hub runs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Settings;

/// The times of a hub's streams. Each is read where it is used, so no stream keeps a copy.
pub(crate) struct Timing {
    keep_alive: Time,
    retry: Time,
    lifetime_max: Time,
}

/// In nanoseconds; 0: none.
struct Time(AtomicU64);

impl Timing {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            keep_alive: Time::new(settings.keep_alive),
            retry: Time::new(settings.retry),
            lifetime_max: Time::new(settings.lifetime_max),
        }
    }

    /// Takes over the times of other settings.
    pub(crate) fn set(&self, settings: &Settings) {
        self.keep_alive.set(settings.keep_alive);
        self.retry.set(settings.retry);
        self.lifetime_max.set(settings.lifetime_max);
    }

    /// See [`Settings::keep_alive`].
    pub(crate) fn keep_alive(&self) -> Option<Duration> {
        self.keep_alive.value()
    }

    /// See [`Settings::retry`].
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry.value()
    }

    /// See [`Settings::lifetime_max`].
    pub(crate) fn lifetime_max(&self) -> Option<Duration> {
        self.lifetime_max.value()
    }
}

impl Time {
    fn new(time: Option<Duration>) -> Self {
        Self(AtomicU64::new(nanoseconds(time)))
    }

    fn set(&self, time: Option<Duration>) {
        self.0.store(nanoseconds(time), Ordering::Relaxed);
    }

    fn value(&self) -> Option<Duration> {
        Some(self.0.load(Ordering::Relaxed)).filter(|time| *time > 0).map(Duration::from_nanos)
    }
}

/// At most 584 years.
fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
