//! What the HTTP side counts: handshakes, requests that publish, and refusals.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use petasos_hub::metrics::{Distribution, Histogram, SECONDS};

use super::{handshakes::Handshakes, protocols::Protocols};

/// A status and a reason with which requests are refused.
pub(crate) type RefusalKind = (u16, &'static str);

/// The numbers of the HTTP side.
pub(crate) struct Requests {
    pub(crate) handshakes: Handshakes,
    pub(crate) protocols: Protocols,
    publishes: [Histogram; PublishResult::ALL.len()],
    kinds: Box<[RefusalKind]>,
    /// One for each kind, and one for all others.
    refused: Box<[AtomicU64]>,
}

/// What came of a request that publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishResult {
    Ok,
    /// It is the request's fault.
    Refused,
    /// It is the hub's fault.
    Failed,
}

impl PublishResult {
    pub(crate) const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Failed];

    /// The value of the label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A refusal that is in no list: a defect, which must not hide the refusal.
const OTHER: RefusalKind = (500, "other");

impl Requests {
    /// For refusals of these kinds.
    pub(crate) fn new(kinds: Vec<RefusalKind>) -> Self {
        Self {
            handshakes: Handshakes::default(),
            protocols: Protocols::default(),
            publishes: array::from_fn(|_| Histogram::new(&SECONDS)),
            refused: (0..=kinds.len()).map(|_| AtomicU64::new(0)).collect(),
            kinds: kinds.into(),
        }
    }

    /// A request that publishes was answered after so long.
    pub(crate) fn published(&self, result: PublishResult, time: Duration) {
        self.publishes[result as usize].record_duration(time);
    }

    /// A request was refused.
    pub(crate) fn refused(&self, kind: RefusalKind) {
        let index = self.kinds.iter().position(|known| *known == kind).unwrap_or(self.kinds.len());
        self.refused[index].fetch_add(1, Ordering::Relaxed);
    }

    /// How long requests that publish took.
    pub(crate) fn publishes(&self) -> impl Iterator<Item = (PublishResult, Distribution)> {
        PublishResult::ALL.into_iter().map(|result| (result, self.publishes[result as usize].snapshot()))
    }

    /// The refusals of each kind.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (RefusalKind, u64)> {
        let kinds = self.kinds.iter().chain([&OTHER]);
        kinds.zip(&self.refused).map(|(kind, count)| (*kind, count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_no_known_kind_counts_as_another_one() {
        let requests = Requests::new(vec![(400, "a"), (429, "b")]);
        for kind in [(429, "b"), (429, "b"), (418, "teapot")] {
            requests.refused(kind);
        }
        let counts: Vec<_> = requests.refusals().collect();
        assert_eq!(counts, [((400, "a"), 0), ((429, "b"), 2), (OTHER, 1)]);
    }
}
