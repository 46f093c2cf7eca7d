//! A live stream whose socket its shard owns.
//!
//! `H` is what the stream needs to come back to a shard. It is only kept here.

use std::{
    any::Any,
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::{Interest as Readiness, Registry, Token, event::Event};
use petasos_protocol::sse::{self, Remark};

use super::{
    framing::{Framing, Rendering},
    line::Line,
    unsent::Unsent,
    waiting::{Waiting, bytes, pieces},
};
use crate::{
    Admission,
    fanout::{
        key::MemberKey,
        ring::{EntryNumber, Newest, Ring},
        sink::{Eviction, Gone, Tick},
    },
    interest::Interest,
    log::transport::Position,
    stream::{
        pulse::{Beat, Pulse},
        subscriber::Subscriber,
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

impl<H> Stream<H> {
    /// How its events look.
    fn rendering(&self, framing: Framing) -> Rendering<'_> {
        Rendering { framing, topics_known: self.subscriber.topics_known() }
    }
}

/// A live stream, whose socket its shard owns.
pub(crate) struct Parked<H> {
    line: Line<mio::net::TcpStream>,
    framing: Framing,
    /// Bytes that the peer has sent though nothing was asked of it.
    unasked: u16,
    /// What the socket has not taken; `None` while it takes everything.
    waiting: Option<Box<Waiting>>,
    /// When the socket took something last.
    last_sent: Instant,
    stream: Box<Stream<H>>,
}

/// A stream that has left its shard.
pub(crate) struct Evicted<H> {
    pub(crate) line: Line<mio::net::TcpStream>,
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
        line: Line<mio::net::TcpStream>,
        framing: Framing,
        begun: Bytes,
        last_sent: Instant,
        stream: Box<Stream<H>>,
    ) -> Self {
        let waiting = (!begun.is_empty())
            .then(|| Box::new(Waiting { bytes: begun.len(), begun, ..Waiting::default() }));
        Self { line, framing, unasked: 0, waiting, last_sent, stream }
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
        readiness.register(&mut self.line.socket, Token(key.slot as usize), both)
    }

    pub(crate) fn withdraw(&mut self, readiness: &Registry) {
        // It fails for a socket that is not registered, which this one is.
        let _ = readiness.deregister(&mut self.line.socket);
    }

    /// Writes entries of the ring and keeps those that the socket does not take.
    pub(crate) fn push<'ring>(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        ring: &'ring Ring,
        scratch: &mut Scratch<'ring>,
        now: Instant,
    ) -> Result<(), Gone> {
        let rendering = self.stream.rendering(self.framing);
        if let Some(waiting) = &mut self.waiting {
            let Waiting { entries: unsent, bytes, .. } = &mut **waiting;
            unsent.extend(entries.inspect(|entry| *bytes += rendering.length(ring, *entry)));
            return Ok(());
        }
        let Scratch { entries: numbers, slices: events } = scratch;
        numbers.clear();
        numbers.extend(entries);
        events.clear();
        let is_one_piece_each = numbers.iter().all(|entry| {
            let rendered = rendering.render(ring, *entry);
            events.push(IoSlice::new(rendering.framing.bytes(rendered.frame())));
            rendered.lines().is_none()
        });
        let (written, whole) = if is_one_piece_each {
            let whole = bytes(events);
            (self.write(events, now)?, whole)
        } else {
            let rendered: Vec<_> = numbers.iter().map(|entry| rendering.render(ring, *entry)).collect();
            let mut pieces: Vec<_> = pieces(rendering.framing, &rendered).collect();
            let whole = bytes(&pieces);
            (self.write(&mut pieces, now)?, whole)
        };
        if written == whole {
            return Ok(());
        }
        let entries = numbers.iter().copied().collect();
        let mut waiting = Waiting { entries, bytes: whole, ..Waiting::default() };
        waiting.advance(written, self.stream.rendering(self.framing), ring);
        self.waiting = Some(Box::new(waiting));
        Ok(())
    }

    /// Says that the stream has everything, if it says where it is: at once, or behind what is unsent.
    pub(crate) fn caught_up(&mut self, ring: &Ring, after: Position, now: Instant) -> Result<(), Gone> {
        let Subscriber { naming, passed: Some(passed), .. } = &mut self.stream.subscriber else {
            return Ok(());
        };
        if let Some(id) = naming.choose(ring.newest_after(after)) {
            *passed = id.as_str().into();
        }
        let live = self.framing.share(&sse::cursor(passed, Remark::Live), 0);
        match &mut self.waiting {
            Some(waiting) => {
                waiting.bytes += live.len();
                waiting.live = Some(Box::new((waiting.entries.len(), live)));
                Ok(())
            }
            None => self.send(&live, now),
        }
    }

    /// Does what the readiness of the socket allows.
    pub(crate) fn ready(&mut self, event: &Event, ring: &Ring, now: Instant) -> Result<(), Gone> {
        if event.is_readable() || event.is_error() {
            self.line.discard(&mut self.unasked).map_err(|error| self.gone(&error))?;
        }
        if event.is_writable() {
            self.flush(ring, now)?;
        }
        Ok(())
    }

    /// Writes what the socket has not taken yet.
    pub(crate) fn flush(&mut self, ring: &Ring, now: Instant) -> Result<(), Gone> {
        while let Some(waiting) = &mut self.waiting {
            let rendering = self.stream.rendering(self.framing);
            let rendered = waiting.render(rendering, ring);
            let mut slices = waiting.slices(self.framing, &rendered);
            let whole = bytes(&slices);
            let written = match self.line.write(&mut slices) {
                Ok(written) => written,
                Err(error) => {
                    drop(slices);
                    return Err(self.gone(&error));
                }
            };
            drop(slices);
            if written.any {
                self.last_sent = now;
            }
            if waiting.advance(written.bytes, rendering, ring) {
                self.waiting = None;
            } else if written.bytes < whole {
                return Ok(());
            }
        }
        if self.line.flush().map_err(|error| self.gone(&error))? {
            self.last_sent = now;
        }
        Ok(())
    }

    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.is_some() || self.line.rest_bytes() > 0
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes) + self.line.rest_bytes()
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
        if self.is_behind() && self.stalled_at(self.last_sent).is_some_and(|end| now >= end) {
            return Err(self.gone(&io::ErrorKind::TimedOut.into()));
        }
        let beat = pulse.beat(self.last_sent, now);
        match beat {
            Beat::Over => return Ok(Tick::Over),
            Beat::Comment if !self.is_behind() => {
                let Subscriber { naming, passed, .. } = &self.stream.subscriber;
                let sign = self.framing.sign(naming.cursor(newest, passed.as_deref()));
                self.send(&sign, now)?;
            }
            Beat::Comment | Beat::None => {}
        }
        let next = pulse.next_look(beat, now);
        Ok(Tick::Next(next.into_iter().chain(self.stalled_at(now)).min()))
    }

    /// Writes bytes, of which nothing is unsent, and keeps the rest.
    fn send(&mut self, part: &Bytes, now: Instant) -> Result<(), Gone> {
        let written = self.write(&mut [IoSlice::new(part)], now)?;
        if written < part.len() {
            let waiting = self.waiting.get_or_insert_default();
            waiting.begun = part.slice(written..);
            waiting.bytes = waiting.begun.len();
        }
        Ok(())
    }

    fn write(&mut self, slices: &mut [IoSlice<'_>], now: Instant) -> Result<usize, Gone> {
        let written = self.line.write(slices).map_err(|error| self.gone(&error))?;
        if written.any {
            self.last_sent = now;
        }
        Ok(written.bytes)
    }

    /// The peer has left, as the error says.
    fn gone(&mut self, error: &io::Error) -> Gone {
        self.stream.subscriber.leaves(error);
        if self.waiting.is_none() {
            // An error means that it reads nothing, either.
            let _ = self.line.end();
        }
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
                let rendering = evicted.stream.rendering(evicted.framing);
                evicted.unsent.push(rendering.share(ring, entry, 0));
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
        let Self { line, framing, waiting, stream, .. } = self;
        let Waiting { begun, entries, .. } = waiting.map_or_else(Waiting::default, |waiting| *waiting);
        let mut unsent = Unsent::default();
        unsent.push(begun);
        (Evicted { line, framing, unsent, stream, eviction }, entries)
    }
}
