//! Whether the server answers, said once when it changes.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// What is known of the server.
pub(super) struct Health {
    name: String,
    ready: watch::Sender<bool>,
    /// What the server refused last: it drops such requests without an answer, which would look as if it were away.
    refused: Mutex<Option<String>>,
}

/// Of what a server says; it quotes subjects, which are short.
const SAID_BYTES_MAX: usize = 512;

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ready: watch::Sender::new(true), refused: Mutex::new(None) }
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until the server answers, as far as is known.
    pub(super) async fn answers(&self) {
        // The sender is ours.
        let _ = self.ready.subscribe().wait_for(|is_ready| *is_ready).await;
    }

    /// It does not answer.
    pub(super) fn is_away(&self, reason: &str) {
        if self.ready.send_replace(false) {
            tracing::warn!(log = self.name, reason, "NATS JetStream does not answer");
        }
    }

    /// It has answered.
    pub(super) fn is_back(&self) {
        if !self.ready.send_replace(true) {
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
