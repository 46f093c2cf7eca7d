//! A stream that is polled: the bytes of one subscriber, whole events and comments.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use petasos_protocol::{
    event::Retry,
    sse::{self, Frame, Remark},
};
use tokio::time::Instant;

use super::{
    member::{Polled, Whereabouts},
    outbox::{End, Next, Outbox, Writer},
};
use crate::{
    Admission, Closed,
    fanout::shard::Shard,
    log::transport::Position,
    metrics::outcome::StreamCarrier,
    stream::{
        carrier::Carrier,
        life::{Life, Step},
        socket::{
            carried,
            framing::{Framing, Wire},
        },
        subscriber::{Naming, Subscriber},
    },
};

/// The stream of one subscriber. Dropping it unsubscribes.
///
/// It begins in the history if the request has a cursor, goes on live, and goes back to the history when its subscriber
/// reads too slowly for the others. It ends when its lifetime is over, when the hub stops, or when the subscriber lags behind
/// what the log holds; the peer may then come back with its last event ID.
pub struct Session {
    life: Life,
    shard: Shard<Carrier>,
    feed: Feed,
    /// `None`: something has been polled.
    beginning: Option<Box<Beginning>>,
}

/// How a stream begins.
struct Beginning {
    cursor: Box<str>,
    /// What it sends first; `None`: events alone.
    opening: Option<Opening>,
}

#[derive(Clone, Copy)]
struct Opening {
    retry: Option<Retry>,
    /// `Some`: it names the cursor.
    remark: Option<Remark>,
}

/// How a live stream gets its frames.
enum Feed {
    /// It is not live.
    None,
    /// Its shard's inbox is full.
    Attaching(Box<Attaching>),
    /// Its shard fills the queue.
    Live(Reader),
}

/// A stream on its way into its shard.
struct Attaching {
    attached: Pin<Box<dyn Future<Output = Result<(), Carrier>> + Send>>,
    after: Position,
    reader: Reader,
}

/// The reader's side of an outbox. Dropping it leaves the shard.
struct Reader {
    outbox: Arc<Outbox>,
    shard: Shard<Carrier>,
}

impl Reader {
    /// See [`Outbox::poll_next`].
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let (next, asks) = self.outbox.poll_next(cx);
        if let Some(key) = asks {
            self.shard.ask(key);
        }
        next
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(key) = self.outbox.abandon() {
            self.shard.leave(key);
        }
    }
}

impl Session {
    /// `retry`, `remark`: what the stream says first; with a remark, also its cursor.
    pub(crate) fn new(
        life: Life,
        shard: Shard<Carrier>,
        cursor: Box<str>,
        retry: Option<Retry>,
        remark: Option<Remark>,
    ) -> Self {
        let opening = Some(Opening { retry, remark });
        Self { life, shard, feed: Feed::None, beginning: Some(Box::new(Beginning { cursor, opening })) }
    }

    /// A stream of events alone.
    pub(crate) fn bare(life: Life, shard: Shard<Carrier>, cursor: Box<str>) -> Self {
        let beginning = Some(Box::new(Beginning { cursor, opening: None }));
        Self { life, shard, feed: Feed::None, beginning }
    }

    /// The id before the first event that is sent, or `earliest` (section "Reconciliation"). A client that has received
    /// nothing yet comes back with it and has lost nothing. `None`: something has been polled, and the session keeps it no more.
    pub fn cursor(&self) -> Option<&str> {
        self.beginning.as_ref().map(|beginning| &*beginning.cursor)
    }

    /// Writes the cursor into the stream as well, at its beginning and whenever it has been silent: see [`sse::cursor`]. It is
    /// for browsers, whose `EventSource` reads no header fields.
    pub fn name_cursors(&mut self) {
        let beginning = self.beginning.as_mut();
        if let Some(opening) = beginning.and_then(|beginning| beginning.opening.as_mut()) {
            opening.remark.get_or_insert(Remark::None);
            self.life.name_cursors();
        }
    }

    /// Says what let the subscriber in: see [`Hub::revoke`](crate::Hub::revoke). It is said before anything of the stream is
    /// sent. A stream of which nothing is said is never revoked.
    pub fn set_admission(&mut self, admission: Admission) {
        self.life.set_admission(admission);
    }

    /// When the stream ends at the latest.
    pub fn close_at(&self) -> Option<Instant> {
        self.life.subscriber().close_at
    }

    /// Says that the peer has taken nothing for the write time-out: the stream counts as ended for that reason. It is to be
    /// dropped then.
    pub fn time_out(&mut self) {
        self.life.subscriber_mut().leaves(&io::ErrorKind::TimedOut.into());
    }

    /// Hands the stream over to the hub, which writes it to the socket by itself from now on. Returns as soon as that is
    /// arranged. The peer notices no difference to a session that is polled and written.
    ///
    /// A stream of which something has been polled already ends instead.
    pub async fn carry(self, wire: Wire) {
        let Self { mut life, shard, beginning: Some(beginning), .. } = self else { return };
        let Beginning { cursor, opening: Some(opening) } = *beginning else { return };
        life.subscriber_mut().moves_to(StreamCarrier::Socket);
        carried::begin(wire, &opening.frame(&cursor), life, shard).await;
    }

    /// Lets a writer send frames before the stream is polled for them, while the stream is live and is not behind. Called when
    /// everything is sent that the stream has given; a stream that is live for a second time needs it again.
    pub fn write_through(&self, writer: impl FnOnce() -> Box<dyn Writer>) {
        if let Feed::Live(reader) = &self.feed {
            reader.outbox.write_through(writer);
        }
    }

    /// The next bytes to send, whole events or comments; `None` at the end, for ever.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(beginning) = self.beginning.take()
            && let Some(opening) = beginning.opening
        {
            return Poll::Ready(Some(opening.frame(&beginning.cursor).event()));
        }
        self.life.end_if_over();
        loop {
            if self.life.ended().is_none()
                && let Poll::Ready(frame) = self.poll_feed(cx)
            {
                return Poll::Ready(Some(frame));
            }
            return Poll::Ready(match ready!(self.life.poll(cx)) {
                Step::Frame(frame) => Some(frame.event()),
                Step::Silence => Some(Framing::UntilClose.sign(self.life.cursor())),
                Step::CaughtUp(after) => {
                    self.attach(after);
                    continue;
                }
                Step::Ended(_) => {
                    self.feed = Feed::None;
                    self.life.take_farewell().map(|frame| frame.event())
                }
            });
        }
    }

    /// The next bytes to send, as a future. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Why the stream ended, once it has.
    pub fn closed(&self) -> Option<Closed> {
        self.life.ended()
    }

    /// The next frame of a live stream. Pending also if the stream is not live, or has just ceased to be.
    fn poll_feed(&mut self, cx: &mut Context<'_>) -> Poll<Bytes> {
        loop {
            match &mut self.feed {
                Feed::None => return Poll::Pending,
                Feed::Attaching(attaching) => {
                    let (result, after) = (ready!(attaching.attached.as_mut().poll(cx)), attaching.after);
                    self.feed = match (std::mem::replace(&mut self.feed, Feed::None), result) {
                        (Feed::Attaching(attaching), Ok(())) => {
                            self.life.is_attached();
                            Feed::Live(attaching.reader)
                        }
                        _ => {
                            self.life.finish(after);
                            Feed::None
                        }
                    };
                }
                Feed::Live(reader) => {
                    match ready!(reader.poll_next(cx)) {
                        Next::Frame(frame) => return Poll::Ready(frame),
                        Next::End(End::Closed(reason)) => self.life.end(reason),
                        Next::End(End::Behind(position)) => self.life.read_on(position),
                    }
                    self.feed = Feed::None;
                }
            }
        }
    }

    fn attach(&mut self, after: Position) {
        let subscriber = self.life.subscriber();
        let Subscriber { interest, admission, naming, passed, .. } = subscriber;
        let outbox = Arc::new(Outbox::new(subscriber.rhythm()));
        let whereabouts = (*naming != Naming::None || passed.is_some())
            .then(|| Whereabouts { naming: *naming, passed: passed.clone() });
        let silent_since = self.life.silent_since().unwrap_or_else(|| Instant::now().into_std());
        let polled =
            Polled::new(Arc::clone(interest), *admission, whereabouts, Arc::clone(&outbox), silent_since);
        let shard = self.shard.clone();
        let attached = Box::pin(async move { shard.attach(Carrier::Polled(polled), after).await });
        let reader = Reader { outbox, shard: self.shard.clone() };
        self.feed = Feed::Attaching(Box::new(Attaching { attached, after, reader }));
    }
}

impl Opening {
    fn frame(self, cursor: &str) -> Frame {
        sse::opening(self.retry, self.remark.map(|remark| (cursor, remark)))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("closed", &self.closed()).finish_non_exhaustive()
    }
}
