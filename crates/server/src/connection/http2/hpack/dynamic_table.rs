//! The fields that a peer has sent before and may refer to (RFC 7541, section 2.3).

use std::collections::VecDeque;

use super::static_table::FIELDS;

/// The fixed fields, and those of this connection, the newest first.
pub(super) struct Table {
    entries: VecDeque<Entry>,
    /// As the specification counts.
    bytes: usize,
    max: usize,
}

struct Entry {
    /// Name and value.
    text: Box<[u8]>,
    name_bytes: usize,
}

/// What a table may hold, as the protocol has it before anything is said (RFC 9113, section 6.5.2). The hub says nothing.
pub(crate) const BYTES_MAX: usize = 4096;

/// What each entry counts beside its text.
pub(crate) const ENTRY_BYTES: usize = 32;

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, max: BYTES_MAX }
    }

    /// The field with an index.
    pub(super) fn get(&self, index: usize) -> Option<(&[u8], &[u8])> {
        let index = index.checked_sub(1)?;
        match FIELDS.get(index) {
            Some((name, value)) => Some((name.as_bytes(), value.as_bytes())),
            None => {
                let entry = self.entries.get(index - FIELDS.len())?;
                Some(entry.text.split_at(entry.name_bytes))
            }
        }
    }

    /// Adds a field, for which others make room. One that is larger than the table leaves it empty.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry { text: [name, value].concat().into(), name_bytes: name.len() };
        let bytes = entry.bytes();
        self.shrink(self.max.saturating_sub(bytes));
        if bytes <= self.max {
            self.bytes += bytes;
            self.entries.push_front(entry);
        }
    }

    /// The peer uses so much from now on. False: it may not.
    #[must_use]
    pub(super) fn set_max(&mut self, max: usize) -> bool {
        if max > BYTES_MAX {
            return false;
        }
        self.max = max;
        self.shrink(max);
        true
    }

    fn shrink(&mut self, max: usize) {
        while self.bytes > max
            && let Some(entry) = self.entries.pop_back()
        {
            self.bytes -= entry.bytes();
        }
        if self.entries.is_empty() {
            // Without its memory.
            self.entries = VecDeque::new();
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.text.len() + ENTRY_BYTES
    }
}
