//! A live stream whose socket its shard owns.
//!
//! `H` is what the stream needs to come back to a shard. It is only kept here.

use std::{
    any::Any,
    collections::VecDeque,
    io::{self, IoSlice, Read as _},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use mio::{Interest as Readiness, Registry, Token, event::Event};
use petasos_protocol::sse;

use super::{
    framing::Framing,
    unsent::Unsent,
    write::{SLICES_MAX, discard, write},
};
use crate::{
    Admission,
    fanout::{
        key::MemberKey,
        ring::{EntryNumber, Newest, Ring},
        sink::{Eviction, Gone, Tick},
    },
    interest::Interest,
    stream::{
        pulse::{Beat, Pulse},
        subscriber::{Naming, Subscriber},
    },
};

/// What a stream on a socket keeps, whether a task or a shard carries it.
pub(crate) struct Stream<H> {
    pub(crate) subscriber: Subscriber,
    pub(crate) home: H,
    /// See [`Wire::stall_max`](super::framing::Wire::stall_max).
    pub(crate) stall_max: Option<Duration>,
    pub(crate) held: Box<dyn Any + Send>,
}

/// A live stream, whose socket its shard owns.
pub(crate) struct Parked<H> {
    socket: mio::net::TcpStream,
    framing: Framing,
    /// Bytes that the peer has sent though nothing was asked of it.
    unasked: u16,
    /// What the socket has not taken; `None` while it takes everything.
    waiting: Option<Box<Waiting>>,
    /// When the socket took something last.
    last_sent: Instant,
    stream: Box<Stream<H>>,
}

/// What a socket has not taken: the rest of what has been begun, then entries of the shard's ring.
#[derive(Default)]
struct Waiting {
    begun: Bytes,
    entries: VecDeque<EntryNumber>,
    /// The bytes of both.
    bytes: usize,
}

/// A stream that has left its shard.
pub(crate) struct Evicted<H> {
    pub(crate) socket: mio::net::TcpStream,
    pub(crate) framing: Framing,
    pub(crate) unsent: Unsent,
    pub(crate) stream: Box<Stream<H>>,
    pub(crate) eviction: Eviction,
}

/// Room for the entries of one push, used again for the next.
#[derive(Default)]
pub(crate) struct Scratch<'ring> {
    entries: Vec<EntryNumber>,
    slices: Vec<IoSlice<'ring>>,
}

impl<H> Parked<H> {
    /// On its way to a shard, with the rest of what has been begun.
    pub(crate) fn new(
        socket: mio::net::TcpStream,
        framing: Framing,
        begun: Bytes,
        stream: Box<Stream<H>>,
    ) -> Self {
        let waiting = (!begun.is_empty())
            .then(|| Box::new(Waiting { bytes: begun.len(), begun, entries: VecDeque::new() }));
        Self { socket, framing, unasked: 0, waiting, last_sent: Instant::now(), stream }
    }

    /// What the stream needs to come back to a shard.
    pub(crate) fn home(&self) -> &H {
        &self.stream.home
    }

    pub(crate) fn interest(&self) -> &Arc<Interest> {
        &self.stream.subscriber.interest
    }

    pub(crate) fn admission(&self) -> Option<Admission> {
        self.stream.subscriber.admission
    }

    pub(crate) fn admit(&mut self, key: MemberKey, readiness: &Registry) -> io::Result<()> {
        // Edges: what a socket takes is always tried first.
        let both = Readiness::READABLE | Readiness::WRITABLE;
        readiness.register(&mut self.socket, Token(key.slot as usize), both)
    }

    pub(crate) fn withdraw(&mut self, readiness: &Registry) {
        // It fails for a socket that is not registered, which this one is.
        let _ = readiness.deregister(&mut self.socket);
    }

    /// Writes entries of the ring and keeps those that the socket does not take.
    pub(crate) fn push<'ring>(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        ring: &'ring Ring,
        scratch: &mut Scratch<'ring>,
        now: Instant,
    ) -> Result<(), Gone> {
        let framing = self.framing;
        if let Some(waiting) = &mut self.waiting {
            let Waiting { entries: unsent, bytes, .. } = &mut **waiting;
            unsent
                .extend(entries.inspect(|entry| *bytes += framing.bytes(ring.update(*entry).frame()).len()));
            return Ok(());
        }
        scratch.entries.clear();
        scratch.entries.extend(entries);
        scratch.slices.clear();
        scratch.slices.extend(
            scratch.entries.iter().map(|entry| IoSlice::new(framing.bytes(ring.update(*entry).frame()))),
        );
        let whole: usize = scratch.slices.iter().map(|slice| slice.len()).sum();
        let written = self.write(&mut scratch.slices, now)?;
        if written == whole {
            return Ok(());
        }
        let entries = scratch.entries.iter().copied().collect();
        let mut waiting = Waiting { begun: Bytes::new(), entries, bytes: whole };
        waiting.advance(written, framing, ring);
        self.waiting = Some(Box::new(waiting));
        Ok(())
    }

    /// Does what the readiness of the socket allows.
    pub(crate) fn ready(&mut self, event: &Event, ring: &Ring, now: Instant) -> Result<(), Gone> {
        if event.is_readable() || event.is_error() {
            let discarded = discard(&mut self.unasked, |buffer| self.socket.read(buffer));
            discarded.map_err(|error| self.gone(&error))?;
        }
        if event.is_writable() {
            self.flush(ring, now)?;
        }
        Ok(())
    }

    /// Writes what the socket has not taken yet.
    pub(crate) fn flush(&mut self, ring: &Ring, now: Instant) -> Result<(), Gone> {
        while let Some(waiting) = &mut self.waiting {
            let mut slices = waiting.slices(self.framing, ring);
            let whole: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = match write(&mut self.socket, &mut slices) {
                Ok(written) => written,
                Err(error) => {
                    drop(slices);
                    return Err(self.gone(&error));
                }
            };
            if written > 0 {
                self.last_sent = now;
            }
            if waiting.advance(written, self.framing, ring) {
                self.waiting = None;
            } else if written < whole {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.is_some()
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// The oldest entry of which nothing is written yet.
    pub(crate) fn oldest(&self) -> Option<EntryNumber> {
        self.waiting.as_ref()?.entries.front().copied()
    }

    pub(crate) fn last_sent(&self) -> Instant {
        self.last_sent
    }

    pub(crate) fn first_due(&self) -> Option<Instant> {
        let first = self.pulse().first_due(self.last_sent);
        first.into_iter().chain(self.stalled_at(self.last_sent)).min()
    }

    /// Sends the cursor, or a comment, if the stream has been silent. One that has unsent frames gets nothing: the socket takes
    /// nothing. If that has lasted too long, the stream is over.
    pub(crate) fn tick(&mut self, newest: Newest<'_>, now: Instant) -> Result<Tick, Gone> {
        let pulse = self.pulse();
        let mut silent_since = self.last_sent;
        if self.waiting.is_some() && self.stalled_at(self.last_sent).is_some_and(|end| now >= end) {
            return Err(self.gone(&io::ErrorKind::TimedOut.into()));
        }
        match pulse.beat(self.last_sent, now) {
            Beat::Over => return Ok(Tick::Over),
            Beat::Comment if self.waiting.is_none() => {
                let cursor = match self.stream.subscriber.naming {
                    Naming::None => None,
                    Naming::Updates => newest.update,
                    Naming::Entries => newest.entry,
                };
                let sign = match cursor {
                    None => Bytes::from_static(self.framing.comment()),
                    Some(id) => self.framing.share(&sse::cursor(id.as_str()), 0),
                };
                let written = self.write(&mut [IoSlice::new(&sign)], now)?;
                if written < sign.len() {
                    let waiting = self.waiting.get_or_insert_default();
                    waiting.begun = sign.slice(written..);
                    waiting.bytes = waiting.begun.len();
                }
                silent_since = now;
            }
            Beat::Comment => silent_since = now,
            Beat::None => {}
        }
        let next = pulse.next_due(silent_since);
        Ok(Tick::Next(next.into_iter().chain(self.stalled_at(now)).min()))
    }

    fn write(&mut self, slices: &mut [IoSlice<'_>], now: Instant) -> Result<usize, Gone> {
        let written = write(&mut self.socket, slices).map_err(|error| self.gone(&error))?;
        if written > 0 {
            self.last_sent = now;
        }
        Ok(written)
    }

    /// The peer has left, as the error says.
    fn gone(&mut self, error: &io::Error) -> Gone {
        self.stream.subscriber.leaves(error);
        Gone
    }

    /// When a socket that takes nothing since then is given up, if the system does not see to that.
    fn stalled_at(&self, since: Instant) -> Option<Instant> {
        self.stream.stall_max.map(|max| since + max)
    }

    fn pulse(&self) -> Pulse {
        self.stream.subscriber.pulse()
    }

    /// Leaves the shard. One that is behind reads its unsent entries out of the log. One that ends takes them along.
    pub(crate) fn evict(self, ring: &Ring, eviction: Eviction) -> Evicted<H> {
        let (mut evicted, entries) = self.release(eviction);
        if let Eviction::Ended(_) = eviction {
            for entry in entries {
                evicted.unsent.push(evicted.framing.share(ring.update(entry).frame(), 0));
            }
        }
        evicted
    }

    /// The same for a stream that has not become a member, so that nothing of a ring is unsent.
    pub(crate) fn refused(self, eviction: Eviction) -> Evicted<H> {
        self.release(eviction).0
    }

    /// The stream with the rest of what has been begun, and the entries that are unsent beside that.
    fn release(self, eviction: Eviction) -> (Evicted<H>, VecDeque<EntryNumber>) {
        let Self { socket, framing, waiting, stream, .. } = self;
        let Waiting { begun, entries, .. } = waiting.map_or_else(Waiting::default, |waiting| *waiting);
        let mut unsent = Unsent::default();
        unsent.push(begun);
        (Evicted { socket, framing, unsent, stream, eviction }, entries)
    }
}

impl Waiting {
    /// Removes what has been written. True: nothing is left.
    fn advance(&mut self, mut written: usize, framing: Framing, ring: &Ring) -> bool {
        self.bytes -= written;
        if written < self.begun.len() {
            self.begun.advance(written);
            return false;
        }
        written -= self.begun.len();
        self.begun = Bytes::new();
        while let Some(entry) = self.entries.front() {
            let frame = ring.update(*entry).frame();
            let length = framing.bytes(frame).len();
            if written < length {
                if written > 0 {
                    self.begun = framing.share(frame, written);
                    self.entries.pop_front();
                }
                return false;
            }
            written -= length;
            self.entries.pop_front();
        }
        true
    }

    fn slices<'a>(&'a self, framing: Framing, ring: &'a Ring) -> Vec<IoSlice<'a>> {
        let begun = (!self.begun.is_empty()).then(|| IoSlice::new(&self.begun));
        let entries =
            self.entries.iter().map(|entry| IoSlice::new(framing.bytes(ring.update(*entry).frame())));
        begun.into_iter().chain(entries).take(SLICES_MAX).collect()
    }
}
