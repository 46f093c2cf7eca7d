//! What the queue of a polled stream has no room for.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    fanout::ring::{EntryNumber, Ring},
    stream::socket::framing::Rendering,
};

/// Entries of the shard's ring that come later.
#[derive(Default)]
pub(crate) struct Waiting {
    entries: VecDeque<EntryNumber>,
    /// What stands between the entries, behind so many of them: that the stream has everything before it.
    live: Option<(usize, Bytes)>,
    /// The bytes of all of these.
    bytes: usize,
}

/// The first of what waits.
pub(crate) enum Part {
    Entry(EntryNumber),
    Live(Bytes),
}

impl Waiting {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn oldest(&self) -> Option<EntryNumber> {
        self.entries.front().copied()
    }

    /// Adds entries behind all that waits.
    pub(crate) fn extend(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        rendering: Rendering<'_>,
        ring: &Ring,
    ) {
        let bytes = &mut self.bytes;
        self.entries.extend(entries.inspect(|entry| *bytes += rendering.length(ring, *entry)));
    }

    /// Adds behind all that waits that the stream has everything. It comes once.
    pub(crate) fn push_live(&mut self, live: Bytes) {
        self.bytes += live.len();
        self.live = Some((self.entries.len(), live));
    }

    /// Takes the first, with its bytes.
    pub(crate) fn pop(&mut self, rendering: Rendering<'_>, ring: &Ring) -> Option<(Part, Bytes)> {
        if let Some((_, live)) = self.live.take_if(|(before, _)| *before == 0) {
            self.bytes -= live.len();
            return Some((Part::Live(live.clone()), live));
        }
        let entry = self.entries.pop_front()?;
        if let Some((before, _)) = &mut self.live {
            *before -= 1;
        }
        let event = rendering.share(ring, entry, 0);
        self.bytes -= event.len();
        Some((Part::Entry(entry), event))
    }

    /// Puts back what has been taken last. `bytes`: its length.
    pub(crate) fn put_back(&mut self, part: Part, bytes: usize) {
        self.bytes += bytes;
        match part {
            Part::Live(live) => self.live = Some((0, live)),
            Part::Entry(entry) => {
                self.entries.push_front(entry);
                if let Some((before, _)) = &mut self.live {
                    *before += 1;
                }
            }
        }
    }
}
