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
use petasos_protocol::{
    event::EventId,
    sse::{self, Remark},
};

use super::{
    framing::{Framing, Rendering},
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
    log::transport::Position,
    stream::{
        pulse::{Beat, Pulse},
        subscriber::Subscriber,
        topics::TopicLines,
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
    /// What stands between the entries, behind so many of them: that the stream has everything before it.
    live: Option<Box<(usize, Bytes)>>,
    /// The bytes of all of these.
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
            .then(|| Box::new(Waiting { bytes: begun.len(), begun, ..Waiting::default() }));
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
        let rendering = self.stream.rendering(self.framing);
        if let Some(waiting) = &mut self.waiting {
            let Waiting { entries: unsent, bytes, .. } = &mut **waiting;
            unsent.extend(entries.inspect(|entry| *bytes += rendering.length(ring, *entry)));
            return Ok(());
        }
        scratch.entries.clear();
        scratch.entries.extend(entries);
        let lines = rendering.topic_lines_of(ring, &scratch.entries);
        let (written, whole) = if lines.is_empty() {
            scratch.slices.clear();
            let frame = |entry: &EntryNumber| ring.update(*entry).frame();
            let events =
                scratch.entries.iter().map(|entry| IoSlice::new(rendering.framing.bytes(frame(entry))));
            scratch.slices.extend(events);
            let whole = bytes(&scratch.slices);
            (self.write(&mut scratch.slices, now)?, whole)
        } else {
            let mut slices: Vec<_> =
                slices(rendering.framing, ring, scratch.entries.iter().copied(), &lines).collect();
            let whole = bytes(&slices);
            (self.write(&mut slices, now)?, whole)
        };
        if written == whole {
            return Ok(());
        }
        let entries = scratch.entries.iter().copied().collect();
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
            let rendering = self.stream.rendering(self.framing);
            let lines = waiting.topic_lines(rendering, ring);
            let mut slices = waiting.slices(self.framing, ring, &lines);
            let whole = bytes(&slices);
            let written = match write(&mut self.socket, &mut slices) {
                Ok(written) => written,
                Err(error) => {
                    drop(slices);
                    return Err(self.gone(&error));
                }
            };
            drop(slices);
            if written > 0 {
                self.last_sent = now;
            }
            if waiting.advance(written, rendering, ring) {
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
                let Subscriber { naming, passed, .. } = &self.stream.subscriber;
                // Without an id in the ring, nothing has come since the stream was attached.
                let cursor = naming.choose(newest).map(EventId::as_str).or(passed.as_deref());
                let sign = match cursor {
                    None => Bytes::from_static(self.framing.comment()),
                    Some(id) => self.framing.share(&sse::cursor(id, Remark::None), 0),
                };
                self.send(&sign, now)?;
                silent_since = now;
            }
            Beat::Comment => silent_since = now,
            Beat::None => {}
        }
        let next = pulse.next_due(silent_since);
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
        let Self { socket, framing, waiting, stream, .. } = self;
        let Waiting { begun, entries, .. } = waiting.map_or_else(Waiting::default, |waiting| *waiting);
        let mut unsent = Unsent::default();
        unsent.push(begun);
        (Evicted { socket, framing, unsent, stream, eviction }, entries)
    }
}

impl Waiting {
    /// Removes what has been written. True: nothing is left.
    fn advance(&mut self, mut written: usize, rendering: Rendering<'_>, ring: &Ring) -> bool {
        self.bytes -= written;
        if written < self.begun.len() {
            self.begun.advance(written);
            return false;
        }
        written -= self.begun.len();
        self.begun = Bytes::new();
        loop {
            if let Some((_, live)) = self.live.take_if(|live| live.0 == 0).map(|live| *live) {
                if written < live.len() {
                    self.begun = live.slice(written..);
                    return false;
                }
                written -= live.len();
            }
            let Some(entry) = self.entries.front() else { return true };
            let length = rendering.length(ring, *entry);
            if written == 0 {
                return false;
            }
            if written < length {
                self.begun = rendering.share(ring, *entry, written);
            }
            self.entries.pop_front();
            if let Some(live) = &mut self.live {
                live.0 -= 1;
            }
            if written < length {
                return false;
            }
            written -= length;
        }
    }

    /// What stands before the next entries, if anything does.
    fn topic_lines<'ring>(&self, rendering: Rendering<'_>, ring: &'ring Ring) -> Vec<TopicLines<'ring>> {
        rendering.topic_lines_of(ring, self.entries.iter().take(SLICES_MAX))
    }

    fn slices<'a>(
        &'a self,
        framing: Framing,
        ring: &'a Ring,
        lines: &'a [TopicLines<'_>],
    ) -> Vec<IoSlice<'a>> {
        let before = self.live.as_ref().map_or(self.entries.len(), |live| live.0);
        let parts = |skipped: usize, taken: usize| {
            slices(
                framing,
                ring,
                self.entries.iter().copied().skip(skipped).take(taken),
                lines.get(skipped..).unwrap_or_default(),
            )
        };
        let live = self.live.as_ref().map(|live| IoSlice::new(&live.1));
        let begun = (!self.begun.is_empty()).then(|| IoSlice::new(&self.begun));
        let parts = begun.into_iter().chain(parts(0, before)).chain(live).chain(parts(before, usize::MAX));
        parts.take(SLICES_MAX).collect()
    }
}

/// The bytes of entries. `lines`: what stands before each of them, or nothing.
fn slices<'a>(
    framing: Framing,
    ring: &'a Ring,
    entries: impl Iterator<Item = EntryNumber>,
    lines: &'a [TopicLines<'_>],
) -> impl Iterator<Item = IoSlice<'a>> {
    entries.enumerate().flat_map(move |(at, entry)| {
        let lines = lines.get(at).map(|lines| IoSlice::new(framing.bytes(lines.frame())));
        lines.into_iter().chain([IoSlice::new(framing.bytes(ring.update(entry).frame()))])
    })
}

fn bytes(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{Limits, matcher::Matcher, token::Grants};
    use proptest::prelude::*;

    use super::*;
    use crate::fanout::fake::{at, entry};

    fn interest() -> Interest {
        let parse = |text: &str| Matcher::selector(text, &Limits::default()).expect("valid");
        let grants = Grants { subscribe: vec![parse("a")], ..Grants::default() };
        Interest::new(vec![parse("*")], Arc::new(grants))
    }

    /// Public ones, and private ones of whose topics one may be known.
    fn ring(entries: usize) -> Ring {
        let mut ring = Ring::new(at(0));
        for sequence in 1..=entries as u64 {
            let private = if sequence % 3 == 0 { "&private=on" } else { "" };
            ring.push(entry(sequence, &format!("topic=a&topic=hidden&data={sequence}{private}")));
        }
        ring
    }

    proptest! {
        #[test]
        fn whatever_a_socket_takes_at_once_all_bytes_go_out_in_order(
            entries in 0..300_usize,
            live in prop::option::of(0..300_usize),
            names_topics in any::<bool>(),
            chunked in any::<bool>(),
            writes in prop::collection::vec(1..2_000_usize, 1..40),
        ) {
            let (ring, interest) = (ring(entries), interest());
            let framing = if chunked { Framing::Chunked } else { Framing::UntilClose };
            let rendering = Rendering { framing, topics_known: names_topics.then_some(&interest) };
            let (begun, live) = (Bytes::from("begun"), live.map(|live| live.min(entries)));
            let mut expected = begun.to_vec();
            let mut waiting = Waiting { bytes: begun.len(), begun, ..Waiting::default() };
            for number in 0..=entries {
                if live == Some(number) {
                    waiting.live = Some(Box::new((number, Bytes::from("live"))));
                    waiting.bytes += 4;
                    expected.extend(b"live");
                }
                if number < entries {
                    let entry = number as EntryNumber;
                    waiting.entries.push_back(entry);
                    waiting.bytes += rendering.length(&ring, entry);
                    expected.extend(rendering.share(&ring, entry, 0));
                }
            }
            prop_assert_eq!(waiting.bytes, expected.len());
            let (mut written, mut writes) = (Vec::new(), writes.into_iter().cycle());
            let mut is_over = false;
            while !is_over {
                let lines = waiting.topic_lines(rendering, &ring);
                let offered: Vec<u8> =
                    waiting.slices(framing, &ring, &lines).iter().flat_map(|slice| slice.to_vec()).collect();
                drop(lines);
                let taken = writes.next().expect("a cycle").min(offered.len());
                written.extend(&offered[..taken]);
                is_over = waiting.advance(taken, rendering, &ring);
                prop_assert_eq!(waiting.bytes, expected.len() - written.len());
                prop_assert!(is_over || taken > 0);
            }
            let text = String::from_utf8(written.clone()).expect("UTF-8");
            prop_assert!(written == expected, "{}", text);
            let named = text.matches("topic: a\n").count();
            prop_assert_eq!(named, if names_topics { entries } else { 0 });
            prop_assert_eq!(text.matches("topic: hidden\n").count(), if names_topics { entries - entries / 3 } else { 0 });
        }
    }
}
