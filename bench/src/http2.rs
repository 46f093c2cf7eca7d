//! A connection of HTTP/2 with several requests, driven by an event queue and by nothing else.
//!
//! The library is made for a runtime that wakes up tasks. Here a waker only notes its number, and [`Connection::turn`]
//! sees to the numbers that were noted: a connection costs no task, and a stream is looked at when it has something.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{self, ResponseFuture, SendRequest},
};
use slab::Slab;

use crate::{Failure, wire::Wire};

/// A connection and its streams.
pub struct Connection {
    stage: Stage,
    window: Window,
    streams: Slab<Stream>,
    calls: Arc<Calls>,
    /// An empty list, so that no turn makes one.
    noted: Vec<usize>,
    waker: Waker,
}

/// What the server may send before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    /// As much as a browser allows, and more as soon as it is read.
    Wide,
    /// So many bytes after the answer's head, which are never read.
    Shut(u32),
}

/// What a stream has brought.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The answer's head has this status.
    Status(u16),
    /// A piece of the body.
    Body(&'a [u8]),
    /// The body has ended.
    End,
    /// The stream has failed.
    Failed(&'a h2::Error),
}

enum Stage {
    Connecting(Box<Wire>),
    Greeting(Pin<Box<dyn Future<Output = Greeting> + Send>>),
    Open { requests: SendRequest<Bytes>, driver: Box<client::Connection<Wire, Bytes>> },
    Ended,
}

type Greeting = Result<(SendRequest<Bytes>, client::Connection<Wire, Bytes>), h2::Error>;

struct Stream {
    /// Whose it is.
    owner: usize,
    stage: StreamStage,
    waker: Waker,
}

enum StreamStage {
    /// The connection is not open yet.
    Waiting(Box<http::Request<()>>, Bytes),
    Asked(ResponseFuture),
    Answered(RecvStream),
    /// Kept and not read.
    Unread {
        _body: RecvStream,
    },
}

/// Who has something to do, as wakers have noted it.
#[derive(Default)]
struct Calls {
    connection: AtomicBool,
    streams: Mutex<Vec<usize>>,
}

struct StreamCall {
    calls: Arc<Calls>,
    stream: usize,
}

/// Those of Chromium.
const STREAM_WINDOW_BYTES: u32 = 6 * 1_024 * 1_024;
const CONNECTION_WINDOW_BYTES: u32 = 15 * 1_024 * 1_024;

impl Connection {
    /// On a connection that is on its way.
    pub fn new(wire: Wire, window: Window) -> Self {
        let calls = Arc::new(Calls::default());
        let waker = Waker::from(Arc::clone(&calls));
        let stage = Stage::Connecting(Box::new(wire));
        Self { stage, window, streams: Slab::new(), calls, noted: Vec::new(), waker }
    }

    /// Sends a request as soon as the connection stands and [`Self::turn`] is called. Its number, until it is heard of
    /// for the last time.
    pub fn ask(&mut self, owner: usize, head: http::Request<()>, content: Bytes) -> usize {
        let place = self.streams.vacant_entry();
        let stream = place.key();
        let waker = Waker::from(Arc::new(StreamCall { calls: Arc::clone(&self.calls), stream }));
        place.insert(Stream { owner, stage: StreamStage::Waiting(Box::new(head), content), waker });
        self.calls.add(stream);
        stream
    }

    /// Gives up a stream, which [`Self::turn`] then tells the server.
    pub fn reset(&mut self, stream: usize) {
        self.streams.try_remove(stream);
        self.calls.connection.store(true, Ordering::Relaxed);
    }

    /// Whose streams it has.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = usize> {
        self.streams.iter().map(|(_, stream)| stream.owner)
    }

    /// Does all that there is to do, and tells `hear` of what has come for whom. If it says no, the stream is given up.
    ///
    /// # Errors
    /// If the connection has ended.
    pub fn turn(
        &mut self,
        is_writable: bool,
        hear: &mut dyn FnMut(usize, Heard<'_>) -> bool,
    ) -> Result<(), Failure> {
        if !self.open(is_writable)? {
            return Ok(());
        }
        loop {
            let outcome = self.drive();
            let mut noted = std::mem::take(&mut self.noted);
            self.calls.swap(&mut noted);
            for stream in noted.drain(..) {
                self.look(stream, hear)?;
            }
            self.noted = noted;
            outcome?;
            if !self.calls.connection.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// Whether the connection is open.
    fn open(&mut self, is_writable: bool) -> Result<bool, Failure> {
        loop {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Ended) {
                Stage::Connecting(mut wire) => {
                    if !wire.advance(is_writable)? {
                        self.stage = Stage::Connecting(wire);
                        return Ok(false);
                    }
                    if wire.has_agreed_to_http2() == Some(false) {
                        return Err("the server does not speak HTTP/2".into());
                    }
                    Stage::Greeting(Box::pin(self.builder().handshake(*wire)))
                }
                Stage::Greeting(mut greeting) => {
                    match greeting.as_mut().poll(&mut Context::from_waker(&self.waker)) {
                        Poll::Pending => {
                            self.stage = Stage::Greeting(greeting);
                            return Ok(false);
                        }
                        Poll::Ready(greeted) => {
                            let (requests, driver) = greeted?;
                            Stage::Open { requests, driver: Box::new(driver) }
                        }
                    }
                }
                open @ Stage::Open { .. } => {
                    self.stage = open;
                    return Ok(true);
                }
                Stage::Ended => return Err("the connection has ended".into()),
            };
        }
    }

    fn builder(&self) -> client::Builder {
        let mut builder = client::Builder::new();
        builder.enable_push(false).initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        builder.initial_window_size(match self.window {
            Window::Wide => STREAM_WINDOW_BYTES,
            Window::Shut(bytes) => bytes,
        });
        builder
    }

    /// Reads and writes what the socket has and takes.
    fn drive(&mut self) -> Result<(), Failure> {
        let Stage::Open { driver, .. } = &mut self.stage else { return Ok(()) };
        self.calls.connection.store(false, Ordering::Relaxed);
        let outcome = Pin::new(driver).poll(&mut Context::from_waker(&self.waker));
        let Poll::Ready(outcome) = outcome else { return Ok(()) };
        self.stage = Stage::Ended;
        Err(match outcome {
            Ok(()) => "closed by the server".into(),
            Err(error)
                if error.get_io().is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) =>
            {
                "closed by the server".into()
            }
            Err(error) => error.into(),
        })
    }

    /// Does what one stream waits for.
    fn look(&mut self, stream: usize, hear: &mut dyn FnMut(usize, Heard<'_>) -> bool) -> Result<(), Failure> {
        // One that was given up may have been noted before.
        while let Some(Stream { owner, stage, waker }) = self.streams.get_mut(stream) {
            let context = &mut Context::from_waker(waker);
            let is_kept = match stage {
                StreamStage::Waiting(head, content) => {
                    let Stage::Open { requests, .. } = &mut self.stage else { return Ok(()) };
                    let (head, content) = (std::mem::take(head), std::mem::take(content));
                    // Each clone waits for room by itself: the server may allow fewer streams than are asked for.
                    let (answer, mut sending) = requests.clone().send_request(*head, content.is_empty())?;
                    if !content.is_empty() {
                        sending.send_data(content, true)?;
                    }
                    *stage = StreamStage::Asked(answer);
                    true
                }
                StreamStage::Asked(answer) => match Pin::new(answer).poll(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(answer)) => {
                        let (head, body) = answer.into_parts();
                        *stage = match self.window {
                            Window::Wide => StreamStage::Answered(body),
                            Window::Shut(_) => StreamStage::Unread { _body: body },
                        };
                        hear(*owner, Heard::Status(head.status.as_u16()))
                    }
                    Poll::Ready(Err(error)) => {
                        hear(*owner, Heard::Failed(&error));
                        false
                    }
                },
                StreamStage::Answered(body) => match body.poll_data(context) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Ok(piece))) => {
                        let is_kept = hear(*owner, Heard::Body(&piece));
                        body.flow_control().release_capacity(piece.len())?;
                        is_kept
                    }
                    Poll::Ready(Some(Err(error))) => {
                        hear(*owner, Heard::Failed(&error));
                        false
                    }
                    Poll::Ready(None) => {
                        hear(*owner, Heard::End);
                        false
                    }
                },
                StreamStage::Unread { .. } => return Ok(()),
            };
            if !is_kept {
                self.reset(stream);
            }
        }
        Ok(())
    }
}

impl Calls {
    fn add(&self, stream: usize) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    fn swap(&self, noted: &mut Vec<usize>) {
        std::mem::swap(&mut *self.streams.lock().unwrap_or_else(PoisonError::into_inner), noted);
    }
}

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.connection.store(true, Ordering::Relaxed);
    }
}

impl Wake for StreamCall {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.calls.add(self.stream);
    }
}
