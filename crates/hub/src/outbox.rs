//! The queue between a shard and one subscriber's connection: bounded, so that who reads slowly costs the others
//! nothing.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{Closed, transport::Position};

/// A bounded queue with one writer, the shard, and one reader, the session.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    end: Option<End>,
    waker: Option<Waker>,
}

/// Why nothing follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The queue was full: everything up to this position is in it or was not wanted, what follows is in the log.
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
        let open = queue.end.is_none();
        wake(queue);
        open
    }

    /// Ends the stream after what is queued, unless it has ended already.
    pub(crate) fn close(&self, reason: Closed) {
        let mut queue = self.lock();
        queue.end.get_or_insert(End::Closed(reason));
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

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        outbox.close(Closed::Stopping);
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
