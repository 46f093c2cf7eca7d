//! The queue between a shard and a stream that is polled. It is bounded, so a subscriber that reads slowly costs the
//! others nothing.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use petasos_protocol::{
    event::EventId,
    sse::{self, Remark},
};

use crate::{
    Admission, Closed,
    fanout::{
        key::MemberKey,
        ring::{EntryNumber, Ring},
        sink::{Eviction, Gone},
    },
    interest::Interest,
    log::transport::Position,
    stream::{subscriber::Naming, topics::Rendered},
};

/// A bounded queue with one writer, the shard, and one reader, the session.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    waker: Option<Waker>,
    /// The member whose outbox it is, once its shard has admitted it.
    key: Option<MemberKey>,
    /// Whether the reader is gone.
    is_abandoned: bool,
    /// Sends frames before they wait.
    through: Option<Box<Through>>,
}

/// See [`Session::write_through`](super::session::Session::write_through).
struct Through {
    writer: Box<dyn Writer>,
    /// When it took something last, unless the reader knows.
    written_at: Option<Instant>,
}

/// Sends frames of a live stream on the thread of its shard, so that its reader is not woken for them.
pub trait Writer: Send {
    /// Takes whole frames from the front, and returns how many bytes that are. It must not wait for anything. What it leaves
    /// goes to the reader of the stream.
    fn write(&mut self, frames: &mut VecDeque<Bytes>) -> usize;
}

/// Why nothing follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything up to this position was in the queue or was not wanted. What follows is in the log.
    Behind(Position),
    /// The stream is over.
    Closed(Closed),
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Frame(Bytes),
    End(End),
}

/// Bounds of one queue. A frame that alone is larger passes when the queue is empty.
const FRAMES_MAX: usize = 256;
const BYTES_MAX: usize = 1024 * 1024;

impl Outbox {
    /// Adds frames; each comes with the position before it. False: the queue was full, or its end had been reached, and
    /// the shard has nothing more to do with it.
    pub(crate) fn push(&self, frames: impl IntoIterator<Item = (Position, Bytes)>) -> bool {
        let mut queue = self.lock();
        if queue.end.is_some() {
            return false;
        }
        for (before, frame) in frames {
            let fits = queue.frames.len() < FRAMES_MAX && queue.bytes + frame.len() <= BYTES_MAX;
            if !fits && !queue.frames.is_empty() {
                queue.end = Some(End::Behind(before));
                break;
            }
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
        }
        let is_open = queue.end.is_none();
        if is_open {
            queue.write_through();
        }
        if !queue.frames.is_empty() || !is_open {
            wake(queue);
        }
        is_open
    }

    /// From now on frames go through a writer first, if they do not already.
    pub(crate) fn write_through(&self, writer: impl FnOnce() -> Box<dyn Writer>) {
        let mut queue = self.lock();
        queue.through.get_or_insert_with(|| Box::new(Through { writer: writer(), written_at: None }));
    }

    /// When frames went through a writer last, once.
    pub(crate) fn take_written_at(&self) -> Option<Instant> {
        self.lock().through.as_mut()?.written_at.take()
    }

    /// Ends the queue after the frames that are in it, unless it has an end already.
    pub(crate) fn end(&self, end: End) {
        let mut queue = self.lock();
        queue.end.get_or_insert(end);
        wake(queue);
    }

    /// The next frame, or why there is none.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut queue = self.lock();
        if let Some(frame) = queue.frames.pop_front() {
            queue.bytes -= frame.len();
            return Poll::Ready(Next::Frame(frame));
        }
        if let Some(end) = queue.end {
            return Poll::Ready(Next::End(end));
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// The shard has admitted the member. False: its reader is gone already.
    fn admit(&self, key: MemberKey) -> bool {
        let mut queue = self.lock();
        queue.key = Some(key);
        !queue.is_abandoned
    }

    /// Whether the shard has admitted the member. What the member missed before is in the queue then.
    pub(crate) fn is_admitted(&self) -> bool {
        self.lock().key.is_some()
    }

    /// The reader is gone. `Some`: the shard has admitted the member, which has to leave.
    pub(crate) fn abandon(&self) -> Option<MemberKey> {
        let mut queue = self.lock();
        queue.is_abandoned = true;
        queue.through = None;
        queue.key
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn write_through(&mut self) {
        let Self { frames, bytes, through: Some(through), .. } = self else { return };
        let written = through.writer.write(frames);
        *bytes -= written;
        if written > 0 {
            through.written_at = Some(Instant::now());
        }
    }
}

/// Wakes the reader once the lock is free.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The shard's side of an outbox. However a shard ends, the queues that it feeds end, too.
pub(crate) struct Polled {
    interest: Arc<Interest>,
    admission: Option<Admission>,
    /// Of a stream that says where it is: see [`Subscriber::passed`](crate::stream::subscriber::Subscriber::passed).
    whereabouts: Option<(Naming, Box<str>)>,
    outbox: Arc<Outbox>,
}

impl Polled {
    pub(crate) fn new(
        interest: Arc<Interest>,
        admission: Option<Admission>,
        whereabouts: Option<(Naming, Box<str>)>,
        outbox: Arc<Outbox>,
    ) -> Self {
        Self { interest, admission, whereabouts, outbox }
    }

    pub(crate) fn interest(&self) -> &Arc<Interest> {
        &self.interest
    }

    pub(crate) fn admission(&self) -> Option<Admission> {
        self.admission
    }

    /// The shard admits the member.
    ///
    /// # Errors
    /// If the reader is gone already.
    pub(crate) fn admit(&mut self, key: MemberKey) -> io::Result<()> {
        if self.outbox.admit(key) { Ok(()) } else { Err(io::ErrorKind::NotConnected.into()) }
    }

    /// Puts entries of the ring into the queue. If it is full, the reader reads on in the log.
    pub(crate) fn push(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        ring: &Ring,
    ) -> Result<(), Gone> {
        let frame = |entry| (ring.before(entry), self.event(ring, entry));
        if self.outbox.push(entries.map(frame)) { Ok(()) } else { Err(Gone) }
    }

    fn event(&self, ring: &Ring, entry: EntryNumber) -> Bytes {
        let topics_known = self.whereabouts.as_ref().map(|_| &*self.interest);
        let rendered = Rendered::new(topics_known, ring, entry);
        match rendered.lines() {
            None => rendered.frame().event(),
            Some(lines) => sse::with_topics(lines, rendered.frame()).event(),
        }
    }

    /// Puts into the queue that the stream has everything, if it says so.
    pub(crate) fn caught_up(&self, ring: &Ring, after: Position) -> Result<(), Gone> {
        let Some((naming, passed)) = &self.whereabouts else { return Ok(()) };
        let newest = naming.choose(ring.newest_after(after));
        let live = sse::cursor(newest.map_or(passed, EventId::as_str), Remark::Live).event();
        if self.outbox.push([(after.max(ring.end()), live)]) { Ok(()) } else { Err(Gone) }
    }

    /// Ends the queue after what is in it.
    pub(crate) fn evict(self, eviction: Eviction) {
        self.outbox.end(match eviction {
            Eviction::Behind(position) => End::Behind(position),
            Eviction::Ended(reason) => End::Closed(reason),
        });
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        self.outbox.end(End::Closed(Closed::LogLost));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64) -> Position {
        Position { epoch: 1, sequence }
    }

    fn next(outbox: &Outbox) -> Poll<Next> {
        outbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn frames(count: u64, frame: &Bytes) -> Vec<(Position, Bytes)> {
        (0..count).map(|sequence| (at(sequence), frame.clone())).collect()
    }

    #[test]
    fn frames_come_out_in_order_and_then_the_end() {
        let outbox = Outbox::default();
        assert!(next(&outbox).is_pending());
        let (a, b) = (Bytes::from("a"), Bytes::from("b"));
        assert!(outbox.push([(at(0), a.clone()), (at(1), b.clone())]));
        outbox.end(End::Closed(Closed::Stopping));
        assert!(!outbox.push([(at(2), a.clone())]), "nothing follows the end");
        assert_eq!(next(&outbox), Poll::Ready(Next::Frame(a)));
        assert_eq!(next(&outbox), Poll::Ready(Next::Frame(b)));
        assert_eq!(next(&outbox), Poll::Ready(Next::End(End::Closed(Closed::Stopping))));
    }

    #[test]
    fn a_full_queue_names_the_position_before_the_first_missing_frame() {
        let outbox = Outbox::default();
        let frame = Bytes::from("x");
        assert!(outbox.push(frames(256, &frame)));
        assert!(!outbox.push([(at(300), frame.clone()), (at(301), frame.clone())]));
        for _ in 0..256 {
            assert_eq!(next(&outbox), Poll::Ready(Next::Frame(frame.clone())));
        }
        assert_eq!(next(&outbox), Poll::Ready(Next::End(End::Behind(at(300)))));
    }

    /// Takes so many frames.
    struct Taker(usize);

    impl Writer for Taker {
        fn write(&mut self, frames: &mut VecDeque<Bytes>) -> usize {
            let count = self.0.min(frames.len());
            self.0 -= count;
            frames.drain(..count).map(|frame| frame.len()).sum()
        }
    }

    #[test]
    fn what_a_writer_leaves_goes_to_the_reader_and_nothing_else_wakes_it() {
        let outbox = Outbox::default();
        outbox.write_through(|| Box::new(Taker(2)));
        assert_eq!(outbox.take_written_at(), None);
        assert!(next(&outbox).is_pending());
        assert!(outbox.push([(at(0), Bytes::from("a"))]));
        assert!(outbox.lock().waker.is_some(), "it is not woken");
        assert!(outbox.take_written_at().is_some() && outbox.take_written_at().is_none());
        assert!(outbox.push([(at(1), Bytes::from("bc")), (at(2), Bytes::from("d"))]));
        assert!(outbox.lock().waker.is_none() && outbox.lock().bytes == 1);
        assert_eq!(next(&outbox), Poll::Ready(Next::Frame(Bytes::from("d"))));
        outbox.abandon();
        assert!(outbox.lock().through.is_none(), "what it holds is free");
    }

    #[test]
    fn bytes_are_bounded_and_one_large_frame_passes() {
        let outbox = Outbox::default();
        let large = Bytes::from(vec![0; BYTES_MAX + 1]);
        assert!(outbox.push([(at(0), large.clone())]));
        assert!(!outbox.push([(at(1), large.clone())]));
        assert_eq!(next(&outbox), Poll::Ready(Next::Frame(large)));
        assert_eq!(next(&outbox), Poll::Ready(Next::End(End::Behind(at(1)))));
    }
}
