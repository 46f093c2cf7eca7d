//! The streams of a connection that are open, each for one request (RFC 9113, section 5.1).

use std::{collections::VecDeque, task::Waker};

use super::{
    content::Content,
    frame::ErrorCode,
    window::{INITIAL_BYTES, ReceiveWindow, STREAM_BYTES, SendWindow},
};

/// The open streams, in the order of their numbers.
pub(super) struct Streams {
    open: Vec<Stream>,
    /// The newest number of the peer.
    last: u32,
    /// Streams that ended here while the peer was sending: what is on its way is ignored.
    ended_early: VecDeque<u32>,
    /// What the peer takes on a stream that it opens.
    send_bytes: i32,
    /// What it may send on one.
    receive_window: ReceiveWindow,
    /// It has been told of another window, and has not said that it knows.
    is_told: bool,
}

/// An open stream.
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) window: SendWindow,
    pub(super) content: Content,
    /// Of the request, until it is answered.
    head_bytes: u32,
    /// The head of the answer is sent.
    pub(super) has_head: bool,
    /// All of the answer is sent.
    pub(super) is_answered: bool,
    /// Events may be sent past the one that answers.
    pub(super) is_direct: bool,
    /// Of the one that answers.
    waker: Option<Waker>,
}

/// Numbers of [`Streams::ended_early`] that are kept. What is on its way is seldom longer ago than all streams that may be open.
const ENDED_EARLY_MAX: usize = 256;

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            last: 0,
            ended_early: VecDeque::new(),
            send_bytes: INITIAL_BYTES,
            receive_window: ReceiveWindow::new(INITIAL_BYTES),
            is_told: true,
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// The newest number of the peer.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// Whether nothing was ever said of a stream. All streams are the peer's, which have odd numbers.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        id > self.last || id.is_multiple_of(2)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let index = self.index(id)?;
        self.open.get_mut(index)
    }

    fn index(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// A number that is newer than all others is used.
    pub(super) fn begin(&mut self, id: u32) {
        self.last = id;
    }

    /// Opens the newest stream. `has_content`: more comes than its head; of that length, as the peer says.
    pub(super) fn open(&mut self, id: u32, head_bytes: usize, has_content: bool, length: Option<u64>) {
        let content = Content::new(self.receive_window, has_content, length);
        self.open.push(Stream {
            id,
            window: SendWindow::new(self.send_bytes),
            content,
            head_bytes: head_bytes as u32,
            has_head: false,
            is_answered: false,
            is_direct: false,
            waker: None,
        });
    }

    /// The peer takes so much on each stream, as far as nothing has been sent.
    ///
    /// # Errors
    /// If that is more than the protocol can say.
    pub(super) fn set_send_bytes(&mut self, bytes: i32) -> Result<(), ErrorCode> {
        let change = i64::from(bytes) - i64::from(std::mem::replace(&mut self.send_bytes, bytes));
        if change == 0 {
            return Ok(());
        }
        for stream in &mut self.open {
            stream.window.change(change).ok_or(ErrorCode::FlowControlError)?;
            stream.wake();
        }
        Ok(())
    }

    /// The peer knows what it may send on each stream.
    pub(super) fn receive_window_known(&mut self) {
        if std::mem::take(&mut self.is_told) {
            self.receive_window = ReceiveWindow::new(STREAM_BYTES);
            for stream in &mut self.open {
                stream.content.change_window(STREAM_BYTES - INITIAL_BYTES);
            }
        }
    }

    /// Closes a stream, and wakes the one that answers.
    pub(super) fn close(&mut self, id: u32) -> Option<Stream> {
        let index = self.index(id)?;
        let stream = self.open.remove(index);
        if self.open.is_empty() {
            // Without its memory.
            self.open = Vec::new();
        }
        stream.wake();
        Some(stream)
    }

    /// What follows of a stream is to be ignored.
    pub(super) fn ignore(&mut self, id: u32) {
        if self.ended_early.len() == ENDED_EARLY_MAX {
            self.ended_early.pop_front();
        }
        self.ended_early.push_back(id);
    }

    /// Whether what comes of a stream is to be ignored.
    pub(super) fn is_ignored(&self, id: u32) -> bool {
        self.ended_early.contains(&id)
    }

    /// Nothing follows of a stream.
    pub(super) fn forget(&mut self, id: u32) {
        self.ended_early.retain(|ended| *ended != id);
    }

    /// Closes all of them.
    pub(super) fn clear(&mut self) {
        for stream in self.open.drain(..) {
            stream.wake();
        }
    }
}

impl Stream {
    /// Something has happened.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Wakes that one from now on.
    pub(super) fn watch(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(watching) => watching.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// The head of its request takes no memory any more.
    pub(super) fn take_head_bytes(&mut self) -> usize {
        std::mem::take(&mut self.head_bytes) as usize
    }

    /// Both sides have said everything.
    pub(super) fn is_over(&self) -> bool {
        self.is_answered && self.content.is_ended()
    }
}
