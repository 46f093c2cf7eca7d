//! Which stream sends next, while the socket or the window of the connection has no room for all.

use std::collections::VecDeque;

/// Open streams that have something to send, each once, the next one first.
///
/// A stream that is woken for its turn sends, waits for its own window, or ends; each takes it out. So whoever is behind it
/// gets a turn.
#[derive(Default)]
pub(super) struct Turns(VecDeque<u32>);

impl Turns {
    /// Whether no other stream has to send before this one.
    pub(super) fn is_next(&self, id: u32) -> bool {
        self.0.front().is_none_or(|next| *next == id)
    }

    /// The stream waits for its turn.
    pub(super) fn wait(&mut self, id: u32) {
        if !self.0.contains(&id) {
            self.0.push_back(id);
        }
    }

    /// The next stream has sent something. If it has more, it waits behind the others.
    pub(super) fn sent(&mut self) {
        self.0.pop_front();
    }

    /// The stream does not wait any more.
    pub(super) fn leave(&mut self, id: u32) {
        self.0.retain(|waiting| *waiting != id);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
