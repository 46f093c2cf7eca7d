//! Streams that the hub writes to plain sockets by itself, without an HTTP library in between.
//!
//! A library's connection costs 14–21 KB a stream, an entry in a shard's table some hundred bytes. While a stream reads
//! history, a task carries it ([`Carried`]); once it has caught up, its shard owns the socket ([`Parked`]) and writes
//! whatever waits for it at once, trying the socket first and keeping only what did not fit. A peer that takes too little
//! goes back to a task, and to the history.

use std::{
    any::Any,
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice, Read as _, Write as _},
    net,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Buf as _, Bytes};
use mio::event::Event;
use petasos_protocol::sse::{self, Frame};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::yield_now,
    time::{timeout, timeout_at},
};

use crate::{
    Closed, clock,
    history::{History, Step},
    interest::Interest,
    ring::{Place, Ring},
    subscriber::Subscriber,
    transport::Position,
};

/// A connection that is ready to carry a stream: the request has been read, and nothing of the answer is out.
pub struct Wire {
    /// The connection, which must not block. Nothing else may write to it.
    pub socket: net::TcpStream,
    /// How events are framed.
    pub framing: Framing,
    /// The head of the answer, which goes first.
    pub head: Bytes,
    /// Dropped when the connection is over.
    pub held: Box<dyn Any + Send>,
}

/// How a stream is framed on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each event is a chunk of HTTP/1.1's chunked coding, and the stream ends with the last chunk.
    Chunked,
    /// Events stand as they are, and the stream ends with the connection.
    UntilClose,
}

impl Framing {
    fn bytes(self, frame: &Frame) -> &[u8] {
        match self {
            Self::Chunked => frame.chunk(),
            Self::UntilClose => frame.event_bytes(),
        }
    }

    /// The bytes of a frame from `from` on, shared.
    fn share(self, frame: &Frame, from: usize) -> Bytes {
        match self {
            Self::Chunked => frame.chunk().slice(from..),
            Self::UntilClose => frame.event().slice(from..),
        }
    }

    fn comment(self) -> &'static [u8] {
        match self {
            Self::Chunked => sse::COMMENT_CHUNK,
            Self::UntilClose => sse::COMMENT,
        }
    }

    fn last(self) -> &'static [u8] {
        match self {
            Self::Chunked => sse::LAST_CHUNK,
            Self::UntilClose => b"",
        }
    }
}

/// What a socket has not taken yet.
#[derive(Default)]
struct Unsent {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Unsent {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Takes away what has been written.
    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let Some(first) = self.parts.front_mut() else { return };
            if written < first.len() {
                *first = first.slice(written..);
                return;
            }
            written -= first.len();
            self.parts.pop_front();
        }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        self.parts.iter().take(SLICES_MAX).map(|part| IoSlice::new(part)).collect()
    }
}

/// Parts of one write; systems take 1,024.
const SLICES_MAX: usize = 256;

/// A stream that a task carries: through the history, or to its end.
pub(crate) struct Carried {
    socket: TcpStream,
    framing: Framing,
    unsent: Unsent,
    stream: Box<Stream>,
}

/// What a stream keeps, wherever it is.
struct Stream {
    subscriber: Subscriber,
    #[expect(dead_code, reason = "held for its Drop")]
    held: Box<dyn Any + Send>,
}

/// Bytes of history that are gathered into one write.
const GATHERED_BYTES: usize = 64 * 1024;

/// Gives a stream to its shard if there is nothing to read, else to a task of its own.
pub(crate) async fn begin(wire: Wire, subscriber: Subscriber, history: History) {
    let Wire { socket, framing, head, held } = wire;
    let mut opening = Vec::with_capacity(head.len() + sse::COMMENT_CHUNK.len());
    opening.extend_from_slice(&head);
    opening.extend_from_slice(framing.comment());
    let stream = Box::new(Stream { subscriber, held });
    match history.end() {
        Some(position) => {
            let mut socket = mio::net::TcpStream::from_std(socket);
            // By whoever brings it: the shard has others to write to.
            let Ok(written) = write(&mut socket, &mut [IoSlice::new(&opening)]) else { return };
            let begun = Bytes::from(opening).slice(written..);
            Parked::new(socket, framing, begun, stream).park(position).await;
        }
        None => {
            // What cannot be registered is closed: its peer comes back.
            let Ok(socket) = TcpStream::from_std(socket) else { return };
            let mut unsent = Unsent::default();
            unsent.push(opening.into());
            tokio::spawn(Carried { socket, framing, unsent, stream }.run(history));
        }
    }
}

impl Carried {
    /// Reads and writes until the stream has caught up and its shard takes it over, or until it ends.
    pub(crate) async fn run(mut self, history: History) {
        match self.catch_up(history).await {
            Ok(Ok(position)) => self.park(position).await,
            Ok(Err(reason)) => self.end(reason).await,
            Err(_) => self.leave(),
        }
    }

    /// Writes what waits, as far as the system takes it at once. A peer that has left by shutting down its sending side
    /// still reads the head of its answer.
    fn leave(self) {
        let Self { socket, unsent, .. } = self;
        if let Ok(mut socket) = socket.into_std() {
            // An error means that the peer reads nothing, either.
            let _ = io::Write::write_vectored(&mut socket, &unsent.slices());
        }
    }

    /// Writes what the log still holds, and ends: the shard has ended.
    async fn finish(mut self, history: History) {
        if let Ok(reached) = self.catch_up(history).await {
            self.end(reached.err().unwrap_or(Closed::Stopping)).await;
        }
    }

    async fn catch_up(&mut self, mut history: History) -> io::Result<Result<Position, Closed>> {
        let close_at = self.stream.subscriber.close_at;
        let carrying = self.carry(&mut history);
        match close_at {
            None => carrying.await,
            Some(close_at) => match timeout_at(close_at, carrying).await {
                Ok(reached) => reached,
                Err(_) => Ok(Err(Closed::Lifetime)),
            },
        }
    }

    /// Sends what there is and ends the stream. Whoever has had its lifetime gets nothing more.
    pub(crate) async fn end(mut self, reason: Closed) {
        let Self { socket, framing, unsent, stream } = &mut self;
        stream.subscriber.ends(reason);
        let rest = async {
            if reason != Closed::Lifetime {
                flush(socket, unsent).await?;
            }
            match unsent.bytes {
                0 => socket.write_all(framing.last()).await,
                _ => Ok(()),
            }
        };
        // An error means that the peer has left, too.
        let _ = timeout(END_MAX, rest).await;
    }

    /// Reads the history and writes frames, and notices meanwhile that the peer leaves: for long, the history may hold
    /// nothing that is written.
    async fn carry(&mut self, history: &mut History) -> io::Result<Result<Position, Closed>> {
        let Self { socket, framing, unsent, stream } = self;
        tokio::select! {
            biased;
            error = peer_left(socket) => Err(error),
            reached = Self::send(socket, *framing, unsent, &stream.subscriber, history) => reached,
        }
    }

    async fn send(
        socket: &TcpStream,
        framing: Framing,
        unsent: &mut Unsent,
        subscriber: &Subscriber,
        history: &mut History,
    ) -> io::Result<Result<Position, Closed>> {
        let keep_alive = subscriber.engine.settings.keep_alive;
        loop {
            flush(socket, unsent).await?;
            let gathering = gather(history, subscriber, framing, unsent);
            let step = match keep_alive {
                None => gathering.await,
                Some(interval) => match timeout(interval, gathering).await {
                    Ok(step) => step,
                    Err(_) => {
                        unsent.push(Bytes::from_static(framing.comment()));
                        None
                    }
                },
            };
            match step {
                // The shard keeps nothing of the history: all of it is written first.
                Some(Step::CaughtUp(position)) if unsent.bytes == 0 => return Ok(Ok(position)),
                Some(Step::Closed(reason)) => return Ok(Err(reason)),
                _ => {}
            }
            // A fast peer must not keep the thread from other tasks.
            yield_now().await;
        }
    }

    /// Hands the stream over to its shard, which goes on after the position. All that has been read is written.
    async fn park(self, position: Position) {
        let Self { socket, framing, stream, .. } = self;
        let Ok(socket) = socket.into_std() else { return };
        Parked::new(mio::net::TcpStream::from_std(socket), framing, Bytes::new(), stream)
            .park(position)
            .await;
    }
}

/// How long the end of a stream may take a peer that is slow to read.
const END_MAX: Duration = Duration::from_secs(5);

async fn flush(socket: &TcpStream, unsent: &mut Unsent) -> io::Result<()> {
    while unsent.bytes > 0 {
        socket.writable().await?;
        match socket.try_write_vectored(&unsent.slices()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => unsent.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until the peer has left, and returns how.
async fn peer_left(socket: &TcpStream) -> io::Error {
    let mut unasked = 0;
    loop {
        if let Err(error) = socket.readable().await {
            return error;
        }
        if discard(&mut unasked, |buffer| socket.try_read(buffer)).is_err() {
            return io::ErrorKind::UnexpectedEof.into();
        }
    }
}

/// Reads and discards the bytes that a peer sends on a stream, and notices that it has left. `unasked` counts them.
fn discard(unasked: &mut u16, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Result<(), Gone> {
    let mut discarded = [0; 1024];
    loop {
        match read(&mut discarded) {
            Ok(0) => return Err(Gone),
            Ok(length) => {
                *unasked = unasked.saturating_add(length as u16);
                if *unasked > UNASKED_MAX {
                    return Err(Gone);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
}

/// Adds what the history has ready, and waits only if that is nothing. Returns what came after it, if anything did.
async fn gather(
    history: &mut History,
    subscriber: &Subscriber,
    framing: Framing,
    unsent: &mut Unsent,
) -> Option<Step> {
    poll_fn(|cx| {
        loop {
            match history.poll(subscriber, cx) {
                Poll::Ready(Step::Frame(frame)) => {
                    unsent.push(framing.share(&frame, 0));
                    if unsent.bytes >= GATHERED_BYTES || unsent.parts.len() >= SLICES_MAX {
                        return Poll::Ready(None);
                    }
                }
                Poll::Ready(step) => return Poll::Ready(Some(step)),
                Poll::Pending if unsent.bytes > 0 => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// A live stream, whose socket its shard owns.
pub(crate) struct Parked {
    pub(crate) socket: mio::net::TcpStream,
    framing: Framing,
    /// Bytes that the peer has sent though nothing was asked of it.
    unasked: u16,
    /// Whether the shard has it in its list of those for whom something waits.
    pub(crate) is_listed: bool,
    /// What the socket has not taken; `None` while it takes everything.
    waiting: Option<Box<Waiting>>,
    last_sent: Instant,
    stream: Box<Stream>,
}

/// What waits for a socket: the rest of what has been begun, then entries of the shard's ring.
#[derive(Default)]
struct Waiting {
    begun: Bytes,
    places: VecDeque<Place>,
}

/// What a peer may send on a stream, where nothing it says is heard: what some clients pipeline.
const UNASKED_MAX: u16 = 16 * 1024;

/// The peer has left.
pub(crate) struct Gone;

impl Parked {
    /// On its way to a shard, with the rest of what has been begun.
    fn new(socket: mio::net::TcpStream, framing: Framing, begun: Bytes, stream: Box<Stream>) -> Box<Self> {
        let waiting = (!begun.is_empty()).then(|| Box::new(Waiting { begun, places: VecDeque::new() }));
        let last_sent = Instant::now();
        Box::new(Self { socket, framing, unasked: 0, is_listed: false, waiting, last_sent, stream })
    }

    /// Goes to its shard, or writes what the log still holds and ends if that has ended.
    async fn park(self: Box<Self>, position: Position) {
        let shard = self.stream.subscriber.shard.clone();
        if let Some(parked) = shard.park(self, position).await {
            parked.release().0.finish(position).await;
        }
    }

    pub(crate) fn interest(&self) -> &Arc<Interest> {
        &self.stream.subscriber.interest
    }

    /// Writes entries of the ring and keeps in mind what the socket does not take.
    pub(crate) fn push<'a>(
        &mut self,
        places: impl Iterator<Item = Place>,
        ring: &'a Ring,
        batch: &mut Batch<'a>,
        now: Instant,
    ) -> Result<(), Gone> {
        if let Some(waiting) = &mut self.waiting {
            waiting.places.extend(places);
            return Ok(());
        }
        let framing = self.framing;
        batch.places.clear();
        batch.places.extend(places);
        batch.slices.clear();
        batch.slices.extend(
            batch.places.iter().map(|place| IoSlice::new(framing.bytes(ring.update(*place).frame()))),
        );
        let whole: usize = batch.slices.iter().map(|slice| slice.len()).sum();
        let written = write(&mut self.socket, &mut batch.slices)?;
        self.last_sent = now;
        if written == whole {
            return Ok(());
        }
        let mut waiting = Waiting { begun: Bytes::new(), places: batch.places.iter().copied().collect() };
        waiting.advance(written, framing, ring);
        self.waiting = Some(Box::new(waiting));
        Ok(())
    }

    /// Does what the readiness of the socket allows.
    pub(crate) fn ready(&mut self, event: &Event, ring: &Ring, now: Instant) -> Result<(), Gone> {
        if event.is_readable() || event.is_error() {
            discard(&mut self.unasked, |buffer| self.socket.read(buffer))?;
        }
        if event.is_writable() {
            self.flush(ring, now)?;
        }
        Ok(())
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, ring: &Ring, now: Instant) -> Result<(), Gone> {
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        loop {
            let mut slices = waiting.slices(self.framing, ring);
            let whole: usize = slices.iter().map(|slice| slice.len()).sum();
            let written = write(&mut self.socket, &mut slices)?;
            self.last_sent = now;
            if waiting.advance(written, self.framing, ring) {
                self.waiting = None;
                return Ok(());
            }
            if written < whole {
                return Ok(());
            }
        }
    }

    /// Whether something waits.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting.is_some()
    }

    /// The oldest entry that waits.
    pub(crate) fn oldest(&self) -> Option<Place> {
        self.waiting.as_ref()?.places.front().copied()
    }

    /// When something is to be done at the latest: a comment, or the end.
    pub(crate) fn due(&self) -> Option<Instant> {
        let next = self.keep_alive().map(|interval| self.last_sent + interval);
        next.into_iter().chain(self.close_at()).min()
    }

    /// The same for a stream that begins.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        let first = self.keep_alive().map(|interval| self.last_sent + clock::first(interval));
        first.into_iter().chain(self.close_at()).min()
    }

    /// Sends a comment if the stream has been silent; false: its time is over.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<bool, Gone> {
        if self.close_at().is_some_and(|close_at| now >= close_at) {
            return Ok(false);
        }
        let silence = now.saturating_duration_since(self.last_sent);
        if self.keep_alive().is_some_and(|interval| clock::is_due(interval, silence)) {
            if self.waiting.is_none() {
                let comment = self.framing.comment();
                let written = write(&mut self.socket, &mut [IoSlice::new(comment)])?;
                if written < comment.len() {
                    self.waiting.get_or_insert_default().begun = Bytes::from_static(&comment[written..]);
                }
            }
            self.last_sent = now;
        }
        Ok(true)
    }

    fn keep_alive(&self) -> Option<Duration> {
        self.stream.subscriber.engine.settings.keep_alive
    }

    fn close_at(&self) -> Option<Instant> {
        self.stream.subscriber.close_at.map(tokio::time::Instant::into_std)
    }

    /// Becomes a stream that a task carries again: whatever waits of the ring is shared with it.
    pub(crate) fn unpark(self, ring: &Ring) -> Unparked {
        let (mut unparked, places) = self.release();
        for place in places {
            unparked.unsent.push(unparked.framing.share(ring.update(place).frame(), 0));
        }
        unparked
    }

    /// Goes back to a task, which reads what waits out of the history. `None`: nothing of the ring waits.
    pub(crate) fn fall_behind(self, ring: &Ring) -> Option<(Unparked, Position)> {
        let position = ring.before(self.oldest()?);
        Some((self.release().0, position))
    }

    /// The stream with what it has begun to send, and the entries of the ring that wait beside that.
    fn release(self) -> (Unparked, VecDeque<Place>) {
        let Self { socket, framing, waiting, stream, .. } = self;
        let Waiting { begun, places } = waiting.map_or_else(Waiting::default, |waiting| *waiting);
        let mut unsent = Unsent::default();
        unsent.push(begun);
        (Unparked { socket, framing, unsent, stream }, places)
    }
}

/// A stream on its way from a shard to a task.
pub(crate) struct Unparked {
    socket: mio::net::TcpStream,
    framing: Framing,
    unsent: Unsent,
    stream: Box<Stream>,
}

impl Unparked {
    /// Reads on after the position.
    pub(crate) async fn run(self, position: Position) {
        let history = History::after(&self.stream.subscriber.engine, position);
        if let Ok(carried) = self.carried() {
            carried.run(history).await;
        }
    }

    /// Its shard has ended: what the log holds after the position is the last.
    async fn finish(self, position: Position) {
        let history = History::after(&self.stream.subscriber.engine, position);
        if let Ok(carried) = self.carried() {
            carried.finish(history).await;
        }
    }

    /// Ends the stream, once what waits is written.
    pub(crate) async fn end(self, reason: Closed) {
        if let Ok(carried) = self.carried() {
            carried.end(reason).await;
        }
    }

    fn carried(self) -> io::Result<Carried> {
        let Self { socket, framing, unsent, stream } = self;
        Ok(Carried { socket: TcpStream::from_std(socket.into())?, framing, unsent, stream })
    }
}

impl Waiting {
    /// Takes away what has been written. True: nothing is left.
    fn advance(&mut self, mut written: usize, framing: Framing, ring: &Ring) -> bool {
        if written < self.begun.len() {
            self.begun.advance(written);
            return false;
        }
        written -= self.begun.len();
        self.begun = Bytes::new();
        while let Some(place) = self.places.front() {
            let frame = ring.update(*place).frame();
            let length = framing.bytes(frame).len();
            if written < length {
                if written > 0 {
                    self.begun = framing.share(frame, written);
                    self.places.pop_front();
                }
                return false;
            }
            written -= length;
            self.places.pop_front();
        }
        true
    }

    fn slices<'a>(&'a self, framing: Framing, ring: &'a Ring) -> Vec<IoSlice<'a>> {
        let begun = (!self.begun.is_empty()).then(|| IoSlice::new(&self.begun));
        let frames = self.places.iter().map(|place| IoSlice::new(framing.bytes(ring.update(*place).frame())));
        begun.into_iter().chain(frames).take(SLICES_MAX).collect()
    }
}

/// Room for the entries of one push, used again for the next.
#[derive(Default)]
pub(crate) struct Batch<'a> {
    places: Vec<Place>,
    slices: Vec<IoSlice<'a>>,
}

/// Writes as much as the socket takes.
fn write(socket: &mut mio::net::TcpStream, mut slices: &mut [IoSlice<'_>]) -> Result<usize, Gone> {
    let mut total = 0;
    while !slices.is_empty() {
        let result = match &*slices {
            [one] => socket.write(one),
            several => socket.write_vectored(&several[..several.len().min(SLICES_MAX)]),
        };
        match result {
            Ok(0) => return Err(Gone),
            Ok(written) => {
                total += written;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Gone),
        }
    }
    Ok(total)
}
