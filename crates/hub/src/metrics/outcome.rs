//! The ways in which a stream ends, and those in which a cursor is answered: the values of labels.

use crate::Closed;

/// Why a stream ended. Each stream ends for exactly one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The subscriber closed its connection, or the network did.
    ClientLeft,
    /// The token expired, or the stream reached its longest lifetime.
    Lifetime,
    /// The subscriber read too slowly, and the log no longer held what it missed.
    Lagged,
    /// The log or the hub failed, or the log was lost.
    LogLost,
    /// The hub stopped.
    Stopping,
    /// The subscriber acknowledged nothing for the write time-out.
    WriteTimeout,
    /// The hub sent the subscriber to another node or process before it stopped.
    Drained,
    /// The keys that had verified the token are not accepted any more.
    Revoked,
}

impl EndReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ClientLeft,
        Self::Lifetime,
        Self::Lagged,
        Self::LogLost,
        Self::Stopping,
        Self::WriteTimeout,
        Self::Drained,
        Self::Revoked,
    ];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::Lifetime => "lifetime",
            Self::Lagged => "lagged",
            Self::LogLost => "log_lost",
            Self::Stopping => "stopping",
            Self::WriteTimeout => "write_timeout",
            Self::Drained => "drained",
            Self::Revoked => "revoked",
        }
    }
}

impl From<Closed> for EndReason {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Lifetime => Self::Lifetime,
            Closed::Lagged => Self::Lagged,
            Closed::Stopping => Self::Stopping,
            Closed::LogLost => Self::LogLost,
            Closed::Drained => Self::Drained,
            Closed::Revoked => Self::Revoked,
        }
    }
}

/// What a stream with a cursor got of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Everything after the cursor.
    Complete,
    /// Not everything: the log had trimmed a part of what followed the cursor.
    Gap,
    /// Everything that is kept: the log does not hold the cursor's id.
    UnknownId,
}

impl ReplayOutcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Complete, Self::Gap, Self::UnknownId];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Gap => "gap",
            Self::UnknownId => "unknown_id",
        }
    }
}

/// What carries a stream to its subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamCarrier {
    /// The HTTP library, or the program that runs the hub, polls it.
    Polled,
    /// The hub writes to its socket by itself.
    Socket,
}

impl StreamCarrier {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Polled, Self::Socket];

    /// The value of the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Polled => "polled",
            Self::Socket => "socket",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_of_their_types_and_complete() {
        for (index, reason) in EndReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
        assert_eq!(EndReason::ALL.len(), EndReason::Revoked as usize + 1);
        for (index, outcome) in ReplayOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{outcome:?}");
        }
        for (index, carrier) in StreamCarrier::ALL.into_iter().enumerate() {
            assert_eq!(carrier as usize, index, "{carrier:?}");
        }
    }
}
