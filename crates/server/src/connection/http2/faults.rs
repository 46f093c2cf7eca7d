//! What a peer may do as long as it is seldom, because each time costs the hub something.

use super::frame::ErrorCode;

/// The counts of one connection.
#[derive(Default)]
pub(super) struct Faults {
    errors: usize,
    resets: usize,
    empty: usize,
}

/// Streams that may end by errors of the peer, beyond those that were answered (CVE-2025-8671).
const ERRORS_MAX: usize = 256;

/// Requests that a peer may take back before they are answered, beyond those that were answered (CVE-2023-44487). A page that is
/// left at once takes back all that it has.
const RESETS_MAX: usize = 250;

/// Frames of content without content, one behind the other: they take no room in a window. Some clients send a few.
const EMPTY_MAX: usize = 128;

impl Faults {
    /// A stream has ended by an error of the peer.
    ///
    /// # Errors
    /// If that is too often; as in the others.
    pub(super) fn error(&mut self) -> Result<(), ErrorCode> {
        self.errors += 1;
        bounded(self.errors, ERRORS_MAX)
    }

    /// A request was taken back before it was answered.
    pub(super) fn reset(&mut self) -> Result<(), ErrorCode> {
        self.resets += 1;
        bounded(self.resets, RESETS_MAX)
    }

    /// A request was answered.
    pub(super) fn answered(&mut self) {
        self.errors = self.errors.saturating_sub(1);
        self.resets = self.resets.saturating_sub(1);
    }

    /// A frame of content has come.
    pub(super) fn content(&mut self, is_for_nothing: bool) -> Result<(), ErrorCode> {
        self.empty = if is_for_nothing { self.empty + 1 } else { 0 };
        bounded(self.empty, EMPTY_MAX)
    }
}

fn bounded(count: usize, max: usize) -> Result<(), ErrorCode> {
    if count > max { Err(ErrorCode::EnhanceYourCalm) } else { Ok(()) }
}
