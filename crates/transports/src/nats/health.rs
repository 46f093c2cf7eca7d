//! Whether the server answers, said once when it changes.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// What is known of the server.
pub(super) struct Health {
    name: String,
    ready: AtomicBool,
    /// What the server refused last: it drops such requests without an answer, which would look as if it were away.
    refused: Mutex<Option<String>>,
}

/// Of what a server says; it quotes subjects, which are short.
const SAID_BYTES_MAX: usize = 512;

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ready: AtomicBool::new(true), refused: Mutex::new(None) }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// It does not answer.
    pub(super) fn is_away(&self, reason: &str) {
        if self.ready.swap(false, Ordering::AcqRel) {
            tracing::warn!(log = self.name, reason, "NATS JetStream does not answer");
        }
    }

    /// It has answered.
    pub(super) fn is_back(&self) {
        if !self.ready.swap(true, Ordering::AcqRel) {
            tracing::info!(log = self.name, "NATS JetStream answers again");
        }
    }

    pub(super) fn server_said(&self, text: &str) {
        if text.to_ascii_lowercase().contains("permissions violation") {
            let text = text.chars().take(SAID_BYTES_MAX).collect();
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }

    /// What it refused since this was asked last.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
