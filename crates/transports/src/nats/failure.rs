//! Why a request failed, and what that means.

use std::sync::{Mutex, PoisonError};

use petasos_hub::TransportError;
use serde::Deserialize;

/// Why a request has no useful answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {0:?}")]
    Late(std::time::Duration),
    #[error("nobody answers: JetStream is not running, or the stream has no leader or does not exist")]
    NoResponders,
    /// Nobody has received what was to be sent.
    #[error("the connection is closed")]
    NotSent,
    /// The server may have received what was sent.
    #[error("the connection is closed")]
    Closed,
    #[error("{0}: raise \"max_payload\" of the server, or send less")]
    TooLarge(String),
    #[error("{0}")]
    Refused(Refusal),
    #[error("an answer cannot be understood: {0}")]
    Malformed(String),
}

/// An error of the JetStream API.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u16,
    #[serde(default)]
    pub(super) description: String,
}

/// Numbers of the server's errors, from its `errors.json`.
pub(super) mod codes {
    pub(crate) const CONSUMER_NOT_FOUND: u16 = 10_014;
    pub(crate) const MESSAGE_NOT_FOUND: u16 = 10_037;
    pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u16 = 10_039;
    pub(crate) const SEQUENCE_NOT_FOUND: u16 = 10_043;
    pub(crate) const STREAM_NOT_FOUND: u16 = 10_059;
    pub(crate) const WRONG_LAST_SEQUENCE: u16 = 10_071;
    pub(crate) const NOT_ENABLED: u16 = 10_076;

    /// The cluster or the stream has no leader.
    pub(crate) const NOT_AVAILABLE: u16 = 10_008;
    /// The server that received it is not the leader, or no longer.
    pub(crate) const NOT_LEADER: u16 = 10_009;

    /// More than the stream's `max_msg_size`.
    pub(crate) const MESSAGE_TOO_LARGE: u16 = 10_054;
    /// Resources of the account, of the server, its memory or storage; messages, consumers or bytes of a stream.
    pub(crate) const FULL: &[u16] = &[10_002, 10_023, 10_028, 10_047, 10_054, 10_122];
    /// The store could not take it: full, too, if the text says so.
    pub(crate) const STORE_FAILED: u16 = 10_077;
}

impl Refusal {
    /// The server could not even try: nobody leads at the moment.
    fn is_leaderless(&self) -> bool {
        // A leader that has just lost its office says so with no number of its own.
        let is_deposed = self.err_code == 0 && self.code == 503 && self.description.contains("not leader");
        is_deposed || [codes::NOT_AVAILABLE, codes::NOT_LEADER].contains(&self.err_code)
    }

    fn is_full(&self) -> bool {
        let says = |part| self.description.contains(part);
        codes::FULL.contains(&self.err_code)
            || self.err_code == codes::STORE_FAILED
                && (says("exceeded") || says("space") || says("resource") || says("quota"))
    }
}

impl Failure {
    /// Whether the server has no room, not only none for one large message.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_full()) && !self.is_too_large()
    }

    /// Whether the request was not done because nobody leads at the moment.
    pub(super) fn is_leaderless(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_leaderless())
    }

    /// Whether nobody has received a message that was to be stored: it may be sent again.
    pub(super) fn is_untaken(&self) -> bool {
        matches!(self, Self::NoResponders | Self::NotSent) || self.is_leaderless()
    }

    /// Whether the server answered with that number of [`codes`].
    pub(super) fn is(&self, err_code: u16) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.err_code == err_code)
    }

    /// What was sent is too large, whenever it is sent.
    pub(super) fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge(_)) || self.is(codes::MESSAGE_TOO_LARGE)
    }
}

/// Whether it failed because what was sent is too large, whenever it is sent.
pub(super) fn is_too_large<T>(result: &Result<T, TransportError>) -> bool {
    matches!(result, Err(TransportError::Full(cause))
        if cause.downcast_ref::<Failure>().is_some_and(Failure::is_too_large))
}

/// `None`: what was sent is too large.
pub(super) fn fitting<T>(result: Result<T, TransportError>) -> Result<Option<T>, TransportError> {
    if is_too_large(&result) { Ok(None) } else { result.map(Some) }
}

impl From<Failure> for TransportError {
    fn from(failure: Failure) -> Self {
        match &failure {
            Failure::TooLarge(_) => Self::Full(failure.into()),
            Failure::Refused(refusal) if refusal.is_full() => Self::Full(failure.into()),
            _ => Self::unavailable(failure),
        }
    }
}

/// The request that the server denied last. The server drops such a request without an answer, as if it were unavailable.
#[derive(Default)]
pub(super) struct Denials(Mutex<Option<String>>);

/// Characters of a denial; it quotes subjects, which are short.
const DENIAL_CHARS_MAX: usize = 512;

impl Denials {
    /// Takes an error that the server sent for no request.
    pub(super) fn hear(&self, text: &str) {
        if text.to_ascii_lowercase().contains("permissions violation") {
            let text = text.chars().take(DENIAL_CHARS_MAX).collect();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }

    /// What the server denied since the last call.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
