//! The queue between a shard and a stream that is polled. It is bounded. Entries that have no room in it stay in the ring of
//! the shard, as those do that a socket has not taken; the reader says when there is room again.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    Closed,
    fanout::key::MemberKey,
    log::transport::Position,
    stream::pulse::{Pulse, Rhythm},
};

/// A bounded queue with one writer, the shard, and one reader, the session.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    rhythm: Rhythm,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    /// Boxed: it comes once.
    end: Option<Box<End>>,
    waker: Option<Waker>,
    /// The member whose outbox it is, once its shard has admitted it.
    key: Option<MemberKey>,
    /// Whether the reader is gone.
    is_abandoned: bool,
    /// Sends frames before they wait.
    through: Option<Box<dyn Writer>>,
    /// While the shard has more for the stream than there is room for. The queue is not empty when that begins.
    late: Option<Box<Late>>,
}

/// A reader for which more waits in the shard.
struct Late {
    /// When it took something last, at the earliest when this began.
    taken_at: Instant,
    /// Whether it has said that there is room again.
    has_asked: bool,
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
    /// Everything up to this position was in the queue or was not wanted. What follows has been trimmed, and is in the log.
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

/// Bounds of one queue. A frame that alone is larger passes when the queue is empty. Less in the tests of this crate, so that
/// simulated readers are often late.
const FRAMES_MAX: usize = if cfg!(test) { 8 } else { 256 };
pub(crate) const BYTES_MAX: usize = 1024 * 1024;

impl Outbox {
    /// Empty. `rhythm`: of its stream.
    pub(crate) fn new(rhythm: Rhythm) -> Self {
        Self { queue: Mutex::default(), rhythm }
    }

    /// The pulse of its stream.
    pub(crate) fn pulse(&self) -> Pulse {
        self.rhythm.pulse()
    }

    /// Adds frames. `Some`: the first one that has no room, and its length; the others are not taken, either. The reader says
    /// when there is room: see [`Outbox::poll_next`]. Not called after the end.
    pub(crate) fn push<T>(
        &self,
        frames: impl Iterator<Item = (T, Bytes)>,
        now: Instant,
    ) -> Option<(T, usize)> {
        let mut queue = self.lock();
        let mut left = None;
        for (part, frame) in frames {
            if !queue.has_room(frame.len()) {
                queue.write_through(now);
                if !queue.has_room(frame.len()) {
                    left = Some((part, frame.len()));
                    break;
                }
            }
            queue.add(frame);
        }
        if left.is_none() {
            queue.write_through(now);
            queue.late = None;
        } else {
            let late = queue.late.get_or_insert_with(|| Box::new(Late { taken_at: now, has_asked: false }));
            late.has_asked = false;
        }
        if !queue.frames.is_empty() {
            wake(queue);
        }
        left
    }

    /// From now on frames go through a writer first, if they do not already.
    pub(crate) fn write_through(&self, writer: impl FnOnce() -> Box<dyn Writer>) {
        let mut queue = self.lock();
        queue.through.get_or_insert_with(writer);
    }

    /// Adds a sign of life, unless the reader has something to read.
    pub(crate) fn push_sign(&self, sign: Bytes, now: Instant) {
        let mut queue = self.lock();
        if queue.frames.is_empty() {
            queue.add(sign);
            queue.write_through(now);
            if !queue.frames.is_empty() {
                wake(queue);
            }
        }
    }

    /// Ends the queue after the frames that are in it and those, for which there need be no room, unless it has an end already.
    pub(crate) fn end(&self, frames: impl Iterator<Item = Bytes>, end: End) {
        let mut queue = self.lock();
        if queue.end.is_none() {
            frames.for_each(|frame| queue.add(frame));
            queue.late = None;
            queue.end = Some(Box::new(end));
            wake(queue);
        }
    }

    /// The next frame, or why there is none. `Some`: the shard has to be told that there is room for more of this member.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> (Poll<Next>, Option<MemberKey>) {
        let mut queue = self.lock();
        let next = queue.frames.pop_front();
        if let Some(frame) = &next {
            queue.bytes -= frame.len();
            if let Some(late) = &mut queue.late {
                late.taken_at = tokio::time::Instant::now().into_std();
            }
        }
        let asks = queue.ask();
        if let Some(frame) = next {
            return (Poll::Ready(Next::Frame(frame)), asks);
        }
        if let Some(end) = &queue.end {
            return (Poll::Ready(Next::End(**end)), asks);
        }
        match &mut queue.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        (Poll::Pending, asks)
    }

    /// The shard has admitted the member. False: its reader is gone already.
    pub(crate) fn admit(&self, key: MemberKey) -> bool {
        let mut queue = self.lock();
        queue.key = Some(key);
        let is_there = !queue.is_abandoned;
        if queue.late.is_some() {
            // It may have made room when it did not know whom to ask for.
            wake(queue);
        }
        is_there
    }

    /// When a reader for which more waits in the shard took something last.
    pub(crate) fn taken_at(&self) -> Option<Instant> {
        self.lock().late.as_ref().map(|late| late.taken_at)
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
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn has_room(&self, bytes: usize) -> bool {
        self.frames.is_empty() || self.frames.len() < FRAMES_MAX && self.bytes + bytes <= BYTES_MAX
    }

    fn add(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Whom the shard has to be told that there is room, once for each time that it finds too little.
    fn ask(&mut self) -> Option<MemberKey> {
        let late = self.late.as_mut()?;
        // Half: the shard is not asked for each frame, and the reader has something meanwhile.
        if late.has_asked || self.frames.len() > FRAMES_MAX / 2 || self.bytes > BYTES_MAX / 2 {
            return None;
        }
        late.has_asked = self.key.is_some();
        self.key
    }

    fn write_through(&mut self, now: Instant) {
        let Self { frames, bytes, through: Some(through), late, .. } = self else { return };
        let written = through.write(frames);
        *bytes -= written;
        if written > 0
            && let Some(late) = late
        {
            late.taken_at = now;
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
