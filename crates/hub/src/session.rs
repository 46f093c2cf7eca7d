//! One subscriber's stream, polled by whoever carries its bytes: history first, then live, and back to the history when
//! it falls behind.
//!
//! A session holds at most a page of history or a bounded queue of live frames, and reads on only when the peer has taken
//! what there is. Where the peer is a plain socket, [`Session::carry`] gives it to the shard instead.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use petasos_protocol::{
    Dialect, form::SubscribeRequest, grants::Grants, matcher::Matcher, sse, subscription::Subscription,
    topic::HubUrl,
};
use tokio::time::Instant;

use crate::{
    Closed, SubscribeError, Wire,
    clock::{Clock, Tick},
    history::{Beginning, History, Step},
    hub::Engine,
    ids,
    interest::Interest,
    outbox::{End, Next},
    shard::{Attached, Membership, Shard},
    subscriber::{Counted, Subscriber},
    transport::Position,
    wire,
};

/// A stream of SSE bytes for one subscriber. Dropping it unsubscribes.
///
/// It ends when its lifetime or the hub does, or when the subscriber has fallen behind what the log holds; the peer may
/// then come back with its last event ID.
pub struct Session {
    subscriber: Subscriber,
    state: State,
    /// The shard has ended: what the log still holds is the last.
    stopping: bool,
    cursor: Option<Box<str>>,
    opening: Option<Bytes>,
    /// Begins with the first poll: a session that is carried has none.
    clock: Option<Clock>,
}

enum State {
    History(History),
    Attaching { answer: Pin<Box<dyn Future<Output = Option<Attached>> + Send>>, after: Position },
    Live(Membership),
    Ended(Closed),
}

impl Session {
    /// Finds where to begin, reads the first page if there is one, and registers the subscriptions.
    pub(crate) async fn open(
        engine: Arc<Engine>,
        shard: Shard,
        request: SubscribeRequest,
        grants: Arc<Grants>,
        close_at: Option<Instant>,
    ) -> Result<Self, SubscribeError> {
        let dialect = request.dialect;
        // First: a subscriber that is refused costs nothing else.
        let weight = engine.budget.take_matchers(&request.matchers)?;
        let granted = engine.budget.take_grants(&grants)?;
        let interest = Arc::new(Interest::new(request.matchers, grants));
        let Beginning { history, trimmed: forgiven, answer } = match &request.cursor {
            None => Beginning::at_end(&engine).await?,
            Some(cursor) => Beginning::find(&engine, cursor, || shard.recent()).await?,
        };
        let cursor = request.cursor.map(|_| answer);
        let presence = match &engine.presence {
            Some(presence) => {
                let subscriptions = subscriptions(dialect, &interest, &engine.settings.url);
                Some(presence.enter(subscriptions, Arc::clone(&weight)).await)
            }
            None => None,
        };
        let lifetime = engine.settings.lifetime_max.map(|max| max.mul_f64(1.0 - ids::fraction() / 10.0));
        let outlived = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        let close_at = close_at.into_iter().chain(outlived).min();
        let counted = Some(Counted::new(&engine));
        Ok(Self {
            subscriber: Subscriber {
                engine,
                shard,
                interest,
                forgiven,
                close_at,
                presence,
                counted,
                weight: Some((weight, granted)),
            },
            state: State::History(history),
            stopping: false,
            cursor,
            opening: Some(Bytes::from_static(sse::COMMENT)),
            clock: None,
        })
    }

    /// Follows what is announced from now on, without being a subscriber.
    pub(crate) async fn watch(
        engine: Arc<Engine>,
        shard: Shard,
        interest: Interest,
    ) -> Result<Self, SubscribeError> {
        let Beginning { history, trimmed: forgiven, .. } = Beginning::at_end(&engine).await?;
        let interest = Arc::new(interest);
        Ok(Self {
            subscriber: Subscriber {
                engine,
                shard,
                interest,
                forgiven,
                close_at: None,
                presence: None,
                counted: None,
                weight: None,
            },
            state: State::History(history),
            stopping: false,
            cursor: None,
            opening: None,
            clock: Some(Clock::new(None, None)),
        })
    }

    /// The answer to the request's cursor (section "Reconciliation"): the id before the first event that is sent, or
    /// `earliest`. `None` if the request had no cursor.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// When the stream ends at the latest.
    pub fn close_at(&self) -> Option<Instant> {
        self.subscriber.close_at
    }

    /// Hands the stream over to the hub, which writes it to the socket by itself from now on. Returns as soon as that is
    /// arranged; the peer notices no difference to a session that is polled and written.
    ///
    /// A stream of which something has been polled already ends instead.
    pub async fn carry(self, wire: Wire) {
        let Self { subscriber, state: State::History(history), .. } = self else { return };
        wire::begin(wire, subscriber, history).await;
    }

    /// The next bytes to send, whole events or comments; `None` at the end, for ever.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        if self.clock().is_over() {
            self.end(Closed::Lifetime);
        }
        if let Poll::Ready(frame) = self.poll_frame(cx) {
            self.clock().sent();
            return Poll::Ready(frame);
        }
        match ready!(self.clock().poll(cx)) {
            Tick::KeepAlive => Poll::Ready(Some(Bytes::from_static(sse::COMMENT))),
            Tick::Over => {
                self.end(Closed::Lifetime);
                Poll::Ready(None)
            }
        }
    }

    fn clock(&mut self) -> &mut Clock {
        let Subscriber { engine, close_at, .. } = &self.subscriber;
        self.clock.get_or_insert_with(|| Clock::new(engine.settings.keep_alive, *close_at))
    }

    /// The next bytes to send, as a future. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Why the stream ended, once it has.
    pub fn closed(&self) -> Option<Closed> {
        match self.state {
            State::Ended(reason) => Some(reason),
            _ => None,
        }
    }

    /// A frame, from wherever frames come at the moment. Ready(None): the stream has ended.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match &mut self.state {
                State::History(history) => match ready!(history.poll(&self.subscriber, cx)) {
                    Step::Frame(frame) => return Poll::Ready(Some(frame.event())),
                    Step::CaughtUp(_) if self.stopping => self.end(Closed::Stopping),
                    Step::CaughtUp(after) => self.attach(after),
                    Step::Closed(reason) => self.end(reason),
                },
                State::Attaching { answer, after } => {
                    let (answer, after) = (ready!(answer.as_mut().poll(cx)), *after);
                    match answer {
                        Some(Attached::Live(membership)) => self.state = State::Live(membership),
                        Some(Attached::Behind) => self.read(after),
                        None => {
                            self.stopping = true;
                            self.read(after);
                        }
                    }
                }
                State::Live(membership) => match ready!(membership.outbox.poll_next(cx)) {
                    Next::Frame(frame) => return Poll::Ready(Some(frame)),
                    Next::End(End::Closed(reason)) => self.end(reason),
                    Next::End(End::Behind(position)) => self.read(position),
                },
                State::Ended(_) => return Poll::Ready(None),
            }
        }
    }

    fn read(&mut self, after: Position) {
        self.state = State::History(History::after(&self.subscriber.engine, after));
    }

    fn attach(&mut self, after: Position) {
        let (shard, interest) = (self.subscriber.shard.clone(), Arc::clone(&self.subscriber.interest));
        let answer = Box::pin(async move { shard.attach(interest, after).await });
        self.state = State::Attaching { answer, after };
    }

    fn end(&mut self, reason: Closed) {
        if self.closed().is_none() {
            self.subscriber.ends(reason);
            self.state = State::Ended(reason);
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = self.closed();
        f.debug_struct("Session")
            .field("cursor", &self.cursor)
            .field("closed", &closed)
            .finish_non_exhaustive()
    }
}

/// One per matcher, all of one new subscriber.
fn subscriptions(dialect: Dialect, interest: &Interest, hub: &HubUrl) -> Arc<[Subscription]> {
    let subscriber = ids::subscriber();
    let subscription = |matcher: &Matcher| Subscription {
        dialect,
        matcher: matcher.into(),
        subscriber,
        payload: interest.grants.payload(matcher, hub).cloned(),
    };
    interest.matchers.iter().map(subscription).collect()
}
