//! The two families of failure that the engine knows. Errors of a peer are in `petasos_protocol::Reject`.

use crate::budget::NoRoom;

/// Why a transport could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The log was closed; nothing will work again on this value.
    #[error("the log is closed")]
    Closed,
    /// The position lies before what is kept, and what followed it is gone.
    #[error("the log no longer holds what followed the position")]
    Trimmed,
    /// The backend does not answer; trying again may help.
    #[error("the transport's backend is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no room for another update; what is kept can be read.
    #[error("there is no room in the log: {0}")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The log cannot promise any more that it keeps what it takes, so it takes nothing; what is kept can be read.
    #[error("the log has failed and takes no more updates: {0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TransportError {
    /// [`Self::Unavailable`], whatever the cause.
    pub fn unavailable(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(cause.into())
    }
}

impl From<NoRoom> for SubscribeError {
    fn from(_: NoRoom) -> Self {
        Self::NoRoom
    }
}

/// Why a stream ended. The peer may come back with its last event ID in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// The token expired, or the connection reached its maximum age.
    #[error("the stream reached the end of its lifetime")]
    Lifetime,
    /// The subscriber read too slowly, and the log no longer holds what it missed.
    #[error("the subscriber fell behind what the log holds")]
    Lagged,
    /// The hub stops.
    #[error("the hub stops")]
    Stopping,
    /// The hub closes its streams one after the other, before it stops ([`Hub::drain`](crate::Hub::drain)).
    #[error("the hub is drained")]
    Drained,
    /// What let the subscriber in is accepted no more, such as the key of its token.
    #[error("the subscriber's token is accepted no more")]
    Revoked,
    /// The log or the hub has failed, the log was lost, or it has trimmed more than this node had seen.
    #[error("the log, or a part of it, was lost")]
    LogLost,
}

/// Why a hub could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log could not be read.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The system has no room for a thread or a file descriptor.
    #[error("the system has no room for a hub: raise the limit of open files, of threads or of memory: {0}")]
    Resources(#[from] std::io::Error),
}

/// Why a subscription could not begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The log could not be read.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The hub stops.
    #[error("the hub stops")]
    Stopping,
    /// The subscribers of this hub take all the bytes that they may take together.
    #[error("there is no room for another subscriber: raise subscribers_bytes_max, or try again later")]
    NoRoom,
}
