//! A stream that is polled: the bytes of one subscriber, whole events and comments.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use petasos_protocol::sse;
use tokio::time::Instant;

use super::outbox::{End, Next, Outbox, Polled};
use crate::{
    Closed,
    fanout::shard::Shard,
    log::transport::Position,
    stream::{
        carrier::Carrier,
        life::{Life, Step},
        socket::{carried, framing::Wire},
    },
};

/// The stream of one subscriber. Dropping it unsubscribes.
///
/// It begins in the history if the request has a cursor, goes on live, and goes back to the history when its subscriber
/// reads too slowly. It ends when its lifetime is over, when the hub stops, or when the subscriber lags behind what the log
/// holds; the peer may then come back with its last event ID.
pub struct Session {
    life: Life,
    shard: Shard<Carrier>,
    feed: Feed,
    cursor: Option<Box<str>>,
    opening: Option<Bytes>,
}

/// How a live stream gets its frames.
enum Feed {
    /// It is not live.
    None,
    /// Its shard's inbox is full.
    Attaching {
        attached: Pin<Box<dyn Future<Output = Result<(), Carrier>> + Send>>,
        after: Position,
        reader: Reader,
    },
    Live(Reader),
}

/// The reader's side of an outbox. Dropping it leaves the shard.
struct Reader {
    outbox: Arc<Outbox>,
    shard: Shard<Carrier>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(key) = self.outbox.abandon() {
            self.shard.leave(key);
        }
    }
}

impl Session {
    /// `cursor`: the answer to the request's cursor. `opening`: what is sent first.
    pub(crate) fn new(
        life: Life,
        shard: Shard<Carrier>,
        cursor: Option<Box<str>>,
        opening: Option<Bytes>,
    ) -> Self {
        Self { life, shard, feed: Feed::None, cursor, opening }
    }

    /// The answer to the request's cursor (section "Reconciliation"): the id before the first event that is sent, or
    /// `earliest`. `None` if the request had no cursor.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// When the stream ends at the latest.
    pub fn close_at(&self) -> Option<Instant> {
        self.life.subscriber().close_at
    }

    /// Hands the stream over to the hub, which writes it to the socket by itself from now on. Returns as soon as that is
    /// arranged. The peer notices no difference to a session that is polled and written.
    ///
    /// A stream of which something has been polled already ends instead.
    pub async fn carry(self, wire: Wire) {
        let Self { life, shard, feed: Feed::None, opening: Some(_), .. } = self else { return };
        carried::begin(wire, life, shard).await;
    }

    /// The next bytes to send, whole events or comments; `None` at the end, for ever.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        self.life.end_if_over();
        loop {
            if self.life.ended().is_none()
                && let Poll::Ready(frame) = self.poll_feed(cx)
            {
                self.life.sent();
                return Poll::Ready(Some(frame));
            }
            return Poll::Ready(match ready!(self.life.poll(cx)) {
                Step::Frame(frame) => Some(frame.event()),
                Step::Comment => Some(Bytes::from_static(sse::COMMENT)),
                Step::CaughtUp(after) => {
                    self.attach(after);
                    continue;
                }
                Step::Ended(_) => {
                    self.feed = Feed::None;
                    None
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
                Feed::Attaching { attached, after, .. } => {
                    let (result, after) = (ready!(attached.as_mut().poll(cx)), *after);
                    self.feed = match (std::mem::replace(&mut self.feed, Feed::None), result) {
                        (Feed::Attaching { reader, .. }, Ok(())) => Feed::Live(reader),
                        _ => {
                            self.life.finish(after);
                            Feed::None
                        }
                    };
                }
                Feed::Live(reader) => {
                    match ready!(reader.outbox.poll_next(cx)) {
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
        let outbox = Arc::<Outbox>::default();
        let polled = Polled::new(Arc::clone(&self.life.subscriber().interest), Arc::clone(&outbox));
        let shard = self.shard.clone();
        let attached = Box::pin(async move { shard.attach(Carrier::Polled(polled), after).await });
        self.feed = Feed::Attaching { attached, after, reader: Reader { outbox, shard: self.shard.clone() } };
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("cursor", &self.cursor)
            .field("closed", &self.closed())
            .finish_non_exhaustive()
    }
}
