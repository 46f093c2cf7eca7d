//! One open stream, in the hands of the one that answers its request.

use std::sync::MutexGuard;

use super::{endpoint::Endpoint, shared::Shared};

/// An open stream. Dropping it ends what is not at its end.
pub(super) struct OpenStream {
    pub(super) shared: Shared,
    pub(super) id: u32,
}

impl OpenStream {
    pub(super) fn lock(&self) -> MutexGuard<'_, Endpoint> {
        self.shared.lock()
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.lock().abandon(self.id);
    }
}
