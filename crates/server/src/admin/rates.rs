//! How fast a hub worked within the last minute.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::connection::connections::Connections;

/// Totals of the last minute, some seconds apart.
pub(crate) struct Rates(Mutex<VecDeque<Totals>>);

/// What has happened until a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    at: Instant,
    published: u64,
    delivered: u64,
    delivered_bytes: u64,
    opened: u64,
    closed: u64,
    refused: u64,
}

/// The time between two totals.
const STEP: Duration = Duration::from_secs(5);

/// The time over which rates are taken.
const SPAN: Duration = Duration::from_secs(60);

impl Rates {
    /// Takes totals until the last `Arc` is dropped.
    pub(crate) fn start(connections: Connections) -> Arc<Self> {
        let rates = Arc::new(Self(Mutex::default()));
        let kept = Arc::downgrade(&rates);
        tokio::spawn(async move {
            let mut steps = interval(STEP);
            steps.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                steps.tick().await;
                let Some(rates) = kept.upgrade() else { return };
                rates.push(Totals::now(&connections));
            }
        });
        rates
    }

    fn push(&self, totals: Totals) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(totals);
        while kept.len() > 2 && totals.at.duration_since(kept[1].at) >= SPAN {
            kept.pop_front();
        }
    }

    /// The rates between the oldest total that is kept and now.
    pub(crate) fn until(&self, now: &Totals) -> Value {
        let oldest = self.0.lock().unwrap_or_else(PoisonError::into_inner).front().copied().unwrap_or(*now);
        let seconds = now.at.duration_since(oldest.at).as_secs_f64();
        let rate = |of: fn(&Totals) -> u64| match seconds > 0.0 {
            true => rounded(of(now).saturating_sub(of(&oldest)) as f64 / seconds),
            false => 0.0,
        };
        json!({
            "window_seconds": rounded(seconds),
            "published_per_second": rate(|totals| totals.published),
            "delivered_per_second": rate(|totals| totals.delivered),
            "delivered_bytes_per_second": rate(|totals| totals.delivered_bytes),
            "opened_per_second": rate(|totals| totals.opened),
            "closed_per_second": rate(|totals| totals.closed),
            "refused_per_second": rate(|totals| totals.refused),
        })
    }
}

/// With three digits behind the point: nobody reads more.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

impl Totals {
    pub(crate) fn now(connections: &Connections) -> Self {
        let service = connections.service();
        let snapshot = service.hub().counted();
        Self {
            at: Instant::now(),
            published: snapshot.published,
            delivered: snapshot.deliveries,
            delivered_bytes: snapshot.delivered_bytes,
            opened: snapshot.opened,
            closed: snapshot.closed.iter().map(|(_, count)| count).sum(),
            refused: service.requests().refusals().map(|(_, count)| count).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(at: Instant, count: u64) -> Totals {
        Totals {
            at,
            published: count,
            delivered: 10 * count,
            delivered_bytes: 0,
            opened: 0,
            closed: 0,
            refused: 0,
        }
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let (rates, began) = (Rates(Mutex::default()), Instant::now());
        assert_eq!(rates.until(&totals(began, 5))["published_per_second"], 0.0);
        for step in 0..100 {
            rates.push(totals(began + STEP * step, u64::from(step)));
        }
        assert_eq!(rates.0.lock().expect("no panic").len(), 13, "a minute and its ends");
        let now = rates.until(&totals(began + STEP * 100, 87 + 130));
        assert_eq!(now["window_seconds"], 65.0);
        assert_eq!((&now["published_per_second"], &now["delivered_per_second"]), (&json!(2.0), &json!(20.0)));
    }
}
