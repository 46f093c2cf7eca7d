//! The life of a stream: it reads history until it has caught up, is live until it lags, and ends.
//!
//! This is the one state machine of a stream. Its carriers add how bytes reach the peer, and how a live stream gets its
//! frames; they decide neither order nor time.

use std::{
    task::{Context, Poll, ready},
    time::Instant,
};

use petasos_protocol::sse::Frame;

use crate::{
    Admission, Closed,
    log::transport::Position,
    stream::{
        history::{self, History},
        pulse::{Beat, Clock},
        subscriber::Subscriber,
    },
};

/// A stream of one subscriber.
pub(crate) struct Life {
    subscriber: Subscriber,
    state: State,
    /// Begins with the first poll, and ends when its shard feeds the stream. Boxed: most streams have none.
    clock: Option<Box<Clock>>,
    /// A stream that says where it is has come to a cursor in its history since that began.
    has_passed: bool,
    /// The shard has ended: what the log still holds is the last.
    is_last: bool,
    /// What a drained stream says last.
    farewell: Option<Box<Frame>>,
}

enum State {
    /// Boxed: most streams are live most of the time, and there may be many.
    History(Box<History>),
    /// It has caught up. Its carrier attaches it to its shard.
    CaughtUp,
    /// Its shard feeds it until it lags, and sees to its pulse.
    Live,
    Ended(Closed),
}

/// The next thing that a stream does.
pub(crate) enum Step {
    /// An event out of the history.
    Frame(Frame),
    /// The stream has been silent for long: its carrier sends a sign of life, a comment or the cursor of [`Life::cursor`].
    Silence,
    /// Everything up to the position has come; the carrier attaches the stream there. Comes once.
    CaughtUp(Position),
    /// Nothing follows, for ever.
    Ended(Closed),
}

impl Life {
    /// A stream that begins.
    pub(crate) fn new(subscriber: Subscriber, history: History) -> Self {
        Self {
            subscriber,
            state: State::History(Box::new(history)),
            clock: None,
            has_passed: false,
            is_last: false,
            farewell: None,
        }
    }

    /// A stream that lags, and reads the log on after the position.
    pub(crate) fn resume(subscriber: Subscriber, after: Position) -> Self {
        let history = History::after(&subscriber.node, after);
        Self::new(subscriber, history)
    }

    /// A stream that its shard feeds.
    pub(crate) fn live(subscriber: Subscriber) -> Self {
        let state = State::Live;
        Self { subscriber, state, clock: None, has_passed: false, is_last: false, farewell: None }
    }

    pub(crate) fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    pub(crate) fn subscriber_mut(&mut self) -> &mut Subscriber {
        &mut self.subscriber
    }

    /// From now on the stream names cursors while it is silent.
    pub(crate) fn name_cursors(&mut self) {
        self.subscriber.name_cursors();
    }

    /// What let the subscriber in.
    pub(crate) fn set_admission(&mut self, admission: Admission) {
        self.subscriber.admission = Some(admission);
    }

    pub(crate) fn into_subscriber(self) -> Subscriber {
        self.subscriber
    }

    /// The position after which a stream that begins has nothing to read, if that is so.
    pub(crate) fn caught_up(&self) -> Option<Position> {
        match &self.state {
            State::History(history) => history.end(),
            State::CaughtUp | State::Live | State::Ended(_) => None,
        }
    }

    /// Why the stream ended, once it has.
    pub(crate) fn ended(&self) -> Option<Closed> {
        match self.state {
            State::Ended(reason) => Some(reason),
            State::History(_) | State::CaughtUp | State::Live => None,
        }
    }

    /// Since when it has sent nothing. `None`: it has not waited since it began.
    pub(crate) fn silent_since(&self) -> Option<Instant> {
        self.clock.as_ref().map(|clock| clock.silent_since())
    }

    /// Its shard feeds the stream from now on.
    pub(crate) fn is_attached(&mut self) {
        if self.ended().is_none() {
            self.state = State::Live;
            self.clock = None;
        }
    }

    /// A live stream lags: it reads the log on after the position.
    pub(crate) fn read_on(&mut self, after: Position) {
        if self.ended().is_none() {
            self.state = State::History(Box::new(History::after(&self.subscriber.node, after)));
            self.has_passed = false;
        }
    }

    /// Its shard has ended: it reads what the log holds after the position, and ends.
    pub(crate) fn finish(&mut self, after: Position) {
        self.is_last = true;
        self.read_on(after);
    }

    /// Ends the stream, unless it has ended already.
    pub(crate) fn end(&mut self, reason: Closed) {
        if self.ended().is_none() {
            if reason == Closed::Drained {
                self.farewell = self.subscriber.node.farewell().map(Box::new);
            }
            self.subscriber.ends(reason);
            self.state = State::Ended(reason);
        }
    }

    /// What the carrier of a stream that has ended sends after everything else. Comes once.
    pub(crate) fn take_farewell(&mut self) -> Option<Frame> {
        self.farewell.take().map(|farewell| *farewell)
    }

    /// Where a stream that reads its history is, if it says so and knows it: it has sent everything up to there.
    pub(crate) fn cursor(&self) -> Option<&str> {
        let is_reading = matches!(self.state, State::History(_)) && self.has_passed;
        self.subscriber.passed.as_deref().filter(|_| is_reading)
    }

    /// Ends the stream if its lifetime is over. It gets nothing more then, even if something is ready.
    pub(crate) fn end_if_over(&mut self) {
        if self.subscriber.pulse().is_over() {
            self.end(Closed::Lifetime);
        }
    }

    /// The next step. A live stream has none, unless its lifetime is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        self.end_if_over();
        loop {
            match &mut self.state {
                State::Ended(reason) => return Poll::Ready(Step::Ended(*reason)),
                State::CaughtUp => break,
                State::Live => return Poll::Pending,
                State::History(history) => {
                    if self.subscriber.node.is_drained() {
                        self.end(Closed::Drained);
                        continue;
                    }
                    // A live stream is its shard's to end.
                    if self.subscriber.is_revoked() {
                        self.end(Closed::Revoked);
                        continue;
                    }
                    let Poll::Ready(step) = history.poll(&self.subscriber, cx) else { break };
                    if let Some(step) = self.step(step) {
                        return Poll::Ready(step);
                    }
                }
            }
        }
        let pulse = self.subscriber.pulse();
        match ready!(self.clock().poll(pulse, cx)) {
            Beat::Over => {
                self.end(Closed::Lifetime);
                Poll::Ready(Step::Ended(Closed::Lifetime))
            }
            Beat::Comment | Beat::None => Poll::Ready(Step::Silence),
        }
    }

    /// `None`: it is nothing that the carrier has to do.
    fn step(&mut self, step: history::Step) -> Option<Step> {
        match step {
            history::Step::Frame(frame) => {
                self.clock().sent();
                return Some(Step::Frame(frame));
            }
            history::Step::Passed(cursor) => {
                self.subscriber.passed = Some(cursor.as_str().into());
                self.has_passed = true;
                return None;
            }
            history::Step::CaughtUp(position) if !self.is_last => {
                self.state = State::CaughtUp;
                return Some(Step::CaughtUp(position));
            }
            history::Step::CaughtUp(_) => {
                let has_failed = self.subscriber.node.health.has_failed();
                self.end(if has_failed { Closed::LogLost } else { Closed::Stopping });
            }
            history::Step::Closed(reason) => self.end(reason),
        }
        // The next look at the state says so.
        None
    }

    fn clock(&mut self) -> &mut Clock {
        self.clock.get_or_insert_with(|| Box::new(Clock::start(self.subscriber.pulse())))
    }
}
