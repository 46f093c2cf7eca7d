//! One subscriber's stream: history first, then live, and back to the history when it falls behind.
//!
//! A session is a state machine that its connection polls. It holds at most a page of history or a bounded queue of
//! live frames, and reads on only when the peer has taken what there is.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use petasos_protocol::{
    Dialect, cursor::Cursor, form::SubscribeRequest, grants::Grants, matcher::Matcher, sse,
    subscription::Subscription, topic::HubUrl,
};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Closed, SubscribeError, TransportError,
    hub::Engine,
    ids,
    interest::Interest,
    outbox::{End, Next},
    presence,
    shard::{Attached, Membership, Shard},
    transport::{Entry, Page, Position, Trimmed},
};

/// A stream of SSE bytes for one subscriber. Dropping it unsubscribes.
///
/// It ends when its lifetime or the hub does, or when the subscriber has fallen behind what the log holds; the peer may
/// then come back with its last event ID.
pub struct Session {
    engine: Arc<Engine>,
    shard: Shard,
    interest: Arc<Interest>,
    state: State,
    /// What the log had let go of when the session began. That is the hub's policy, and the answer to the cursor tells;
    /// what is let go of later and was still to be sent is a loss.
    forgiven: Trimmed,
    cursor: Option<Box<str>>,
    opening: Option<Bytes>,
    clock: Clock,
    _presence: Option<presence::Guard>,
    _counted: Option<Counted>,
}

enum State {
    /// Entries of a page that the peer has not taken yet, wanted or not.
    Replay {
        entries: std::vec::IntoIter<Entry>,
        after: Position,
        caught_up: bool,
    },
    Reading {
        page: Waiting<Result<Page, TransportError>>,
        after: Position,
    },
    Attaching {
        answer: Waiting<Option<Attached>>,
        after: Position,
    },
    Live(Membership),
    Ended(Closed),
}

type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Entries of one page of history.
const PAGE_ENTRIES: usize = 256;

/// Entries that are asked for without a match before other tasks of the thread get their turn: the worst costs some
/// microseconds for each matcher.
const FILTERED_AT_ONCE: usize = 16;

impl Session {
    /// Finds where to begin, attaches or reads the first page, and registers the subscriptions.
    pub(crate) async fn open(
        engine: Arc<Engine>,
        shard: Shard,
        request: SubscribeRequest,
        grants: Arc<Grants>,
        close_at: Option<Instant>,
    ) -> Result<Self, SubscribeError> {
        let dialect = request.dialect;
        let interest = Arc::new(Interest { matchers: request.matchers, grants });
        let (state, cursor, forgiven) = match request.cursor {
            None => {
                let (state, head) = live(&engine, &shard, &interest).await?;
                (state, None, Trimmed { updates: head, events: head })
            }
            Some(cursor) => {
                let (page, answer) = first_page(&engine, &cursor).await?;
                let forgiven = page.trimmed;
                (replay(page), Some(answer), forgiven)
            }
        };
        let presence = match &engine.presence {
            Some(presence) => {
                Some(presence.enter(subscriptions(dialect, &interest, &engine.settings.url)).await)
            }
            None => None,
        };
        let lifetime = engine.settings.lifetime_max.map(|max| max.mul_f64(1.0 - ids::fraction() / 10.0));
        let outlived = lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime));
        let clock = Clock::new(engine.settings.keep_alive, close_at.into_iter().chain(outlived).min());
        let opening = Some(Bytes::from_static(sse::COMMENT));
        let counted = Counted::new(&engine);
        Ok(Self {
            engine,
            shard,
            interest,
            state,
            forgiven,
            cursor,
            opening,
            clock,
            _presence: presence,
            _counted: Some(counted),
        })
    }

    /// Follows what is announced from now on, without being a subscriber.
    pub(crate) async fn watch(
        engine: Arc<Engine>,
        shard: Shard,
        interest: Interest,
    ) -> Result<Self, SubscribeError> {
        let interest = Arc::new(interest);
        let (state, head) = live(&engine, &shard, &interest).await?;
        Ok(Self {
            engine,
            shard,
            interest,
            state,
            forgiven: Trimmed { updates: head, events: head },
            cursor: None,
            opening: None,
            clock: Clock::new(None, None),
            _presence: None,
            _counted: None,
        })
    }

    /// The answer to the request's cursor (section "Reconciliation"): the id before the first event that is sent, or
    /// `earliest`. `None` if the request had no cursor.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// When the stream ends at the latest.
    pub fn close_at(&self) -> Option<Instant> {
        self.clock.close_at
    }

    /// The next bytes to send, whole events or comments; `None` at the end, for ever.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(opening) = self.opening.take() {
            return Poll::Ready(Some(opening));
        }
        if self.clock.is_over() {
            self.end(Closed::Lifetime);
        }
        if let Poll::Ready(frame) = self.poll_frame(cx) {
            self.clock.sent();
            return Poll::Ready(frame);
        }
        match ready!(self.clock.poll(cx)) {
            Tick::KeepAlive => Poll::Ready(Some(Bytes::from_static(sse::COMMENT))),
            Tick::Over => {
                self.end(Closed::Lifetime);
                Poll::Ready(None)
            }
        }
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
                State::Live(membership) => match ready!(membership.outbox.poll_next(cx)) {
                    Next::Frame(frame) => return Poll::Ready(Some(frame)),
                    Next::End(End::Closed(reason)) => self.end(reason),
                    Next::End(End::Behind(position)) => self.state = read(&self.engine, position),
                },
                State::Replay { entries, after, caught_up } => {
                    // With the grants of now, not those of the time when the updates were published.
                    let mut asked = entries.by_ref().take(FILTERED_AT_ONCE);
                    if let Some(entry) = asked.find(|entry| self.interest.wants(&entry.update)) {
                        return Poll::Ready(Some(entry.update.frame().event()));
                    }
                    if entries.len() > 0 {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    self.state = match *caught_up {
                        true => attach(&self.shard, &self.interest, *after),
                        false => read(&self.engine, *after),
                    };
                }
                State::Reading { page, after } => {
                    let (result, after) = (ready!(page.as_mut().poll(cx)), *after);
                    match result {
                        Ok(page) if self.is_gap(&page, after) => self.end(Closed::Lagged),
                        Ok(page) => self.state = replay(page),
                        Err(error) => {
                            tracing::warn!(%error, "a stream ends: its history cannot be read");
                            self.end(Closed::LogLost);
                        }
                    }
                }
                State::Attaching { answer, after } => match ready!(answer.as_mut().poll(cx)) {
                    Some(Attached::Live(membership)) => self.state = State::Live(membership),
                    Some(Attached::Behind) => self.state = read(&self.engine, *after),
                    None => self.end(Closed::Stopping),
                },
                State::Ended(_) => return Poll::Ready(None),
            }
        }
    }

    /// Whether the log has let go of something after `after` that this session was still to see.
    fn is_gap(&self, page: &Page, after: Position) -> bool {
        let lost_events =
            page.trimmed.events > after.max(self.forgiven.events) && self.interest.sees_private();
        page.trimmed.updates > after.max(self.forgiven.updates) || lost_events
    }

    fn end(&mut self, reason: Closed) {
        if self.closed().is_none() {
            if reason == Closed::Lagged {
                self.engine.lagged.fetch_add(1, Ordering::Relaxed);
            }
            tracing::debug!(%reason, "a stream ends");
            self.state = State::Ended(reason);
        }
    }
}

/// One of the streams that are open.
struct Counted(Arc<Engine>);

impl Counted {
    fn new(engine: &Arc<Engine>) -> Self {
        engine.subscribers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(engine))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.subscribers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Attached at the log's head, or on the way there.
async fn live(
    engine: &Arc<Engine>,
    shard: &Shard,
    interest: &Arc<Interest>,
) -> Result<(State, Position), SubscribeError> {
    let head = engine.transport.head().await?.position;
    let state = match shard.attach(Arc::clone(interest), head).await {
        None => return Err(SubscribeError::Stopping),
        Some(Attached::Live(membership)) => State::Live(membership),
        Some(Attached::Behind) => read(engine, head),
    };
    Ok((state, head))
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

/// The first page after a cursor, and the answer to the cursor (section "Reconciliation").
pub(crate) async fn first_page(engine: &Engine, cursor: &Cursor) -> Result<(Page, Box<str>), TransportError> {
    let located = match cursor {
        Cursor::Earliest => None,
        Cursor::After(id) => engine.transport.locate(id).await?,
    };
    let after = located.unwrap_or(Position::EARLIEST);
    let page = engine.transport.read(after, PAGE_ENTRIES).await?;
    // What was trimmed after the cursor, also since it was located, makes it a cursor of the past.
    let answer = match cursor {
        Cursor::After(id) if located.is_some() && page.trimmed.updates <= after => id,
        _ => Cursor::EARLIEST,
    };
    Ok((page, answer.into()))
}

fn read(engine: &Arc<Engine>, after: Position) -> State {
    let engine = Arc::clone(engine);
    let page = async move {
        // A long history without a match must not keep its thread from others.
        tokio::task::yield_now().await;
        engine.transport.read(after, PAGE_ENTRIES).await
    };
    State::Reading { page: Box::pin(page), after }
}

fn replay(page: Page) -> State {
    State::Replay { entries: page.entries.into_iter(), after: page.through, caught_up: page.at_end }
}

fn attach(shard: &Shard, interest: &Arc<Interest>, after: Position) -> State {
    let (shard, interest) = (shard.clone(), Arc::clone(interest));
    State::Attaching { answer: Box::pin(async move { shard.attach(interest, after).await }), after }
}

/// One per matcher, all of one new subscriber.
fn subscriptions(dialect: Dialect, interest: &Interest, hub: &HubUrl) -> Arc<[Subscription]> {
    let subscriber = ids::subscriber();
    let subscription = |matcher: &Matcher| Subscription {
        dialect,
        matcher: matcher.clone(),
        subscriber: subscriber.clone(),
        payload: interest.grants.payload(matcher, hub).cloned(),
    };
    interest.matchers.iter().map(subscription).collect()
}

/// Keep-alive and end of life on one timer, which is moved when it fires and not for each frame.
struct Clock {
    keep_alive: Option<Duration>,
    close_at: Option<Instant>,
    last_sent: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Tick {
    KeepAlive,
    Over,
}

impl Clock {
    fn new(keep_alive: Option<Duration>, close_at: Option<Instant>) -> Self {
        let now = Instant::now();
        // Connections that began together, after a restart, do not stay together.
        let first = keep_alive.map(|interval| now + interval.mul_f64(0.5 + ids::fraction() / 2.0));
        let deadline = first.into_iter().chain(close_at).min();
        let timer = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        Self { keep_alive, close_at, last_sent: now, timer }
    }

    fn sent(&mut self) {
        self.last_sent = Instant::now();
    }

    fn is_over(&self) -> bool {
        self.close_at.is_some_and(|close_at| Instant::now() >= close_at)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Tick> {
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if self.close_at.is_some_and(|close_at| now >= close_at) {
                return Poll::Ready(Tick::Over);
            }
            // Half an interval of silence is enough, so that the first comment's jitter survives.
            let due = self.keep_alive.is_some_and(|interval| now >= self.last_sent + interval / 2);
            if due {
                self.last_sent = now;
            }
            let next = self.keep_alive.map(|interval| self.last_sent + interval);
            if let Some(deadline) = next.into_iter().chain(self.close_at).min() {
                timer.as_mut().reset(deadline);
            }
            if due {
                return Poll::Ready(Tick::KeepAlive);
            }
        }
    }
}
