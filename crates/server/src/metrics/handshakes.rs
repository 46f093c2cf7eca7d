//! What became of handshakes of TLS.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of the handshakes of one service.
#[derive(Default)]
pub(crate) struct Handshakes {
    /// By [`Version`], and whether a session was resumed.
    done: [[AtomicU64; 2]; Version::ALL.len()],
    failed: AtomicU64,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// The value of the label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl Handshakes {
    pub(crate) fn completed(&self, version: Version, is_resumed: bool) {
        self.done[version as usize][usize::from(is_resumed)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// The values of the two labels, and a number for each.
    pub(crate) fn all_completed(&self) -> impl Iterator<Item = ([&'static str; 2], u64)> {
        Version::ALL.into_iter().flat_map(move |version| {
            ["full", "resumed"]
                .into_iter()
                .zip(&self.done[version as usize])
                .map(move |(kind, count)| ([version.name(), kind], count.load(Ordering::Relaxed)))
        })
    }

    pub(crate) fn all_failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
