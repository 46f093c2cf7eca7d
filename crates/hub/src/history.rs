//! Reading the log for one subscriber, page by page, until it has caught up.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use petasos_protocol::{cursor::Cursor, sse::Frame, update::EventId};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::{
    Closed, TransportError,
    hub::Engine,
    replay::Compared,
    subscriber::Subscriber,
    transport::{Entry, Head, Page, Position, Trimmed},
};

/// A place in the log from which a subscriber reads on. It holds at most a page.
pub(crate) struct History(State);

enum State {
    /// A page whose entries have not been looked at yet, wanted or not.
    Read(Page),
    /// A page whose entries are being compared with what the subscriber wants.
    Comparing {
        wanted: oneshot::Receiver<Vec<Entry>>,
        through: Position,
        at_end: bool,
    },
    /// Entries of a page that the subscriber wants and may have.
    Wanted {
        entries: std::vec::IntoIter<Entry>,
        through: Position,
        at_end: bool,
    },
    Reading {
        page: Pin<Box<dyn Future<Output = Result<Page, TransportError>> + Send>>,
        after: Position,
    },
    CaughtUp(Position),
}

/// What a look into the history finds.
pub(crate) enum Step {
    /// The next event that the subscriber wants and may have.
    Frame(Frame),
    /// Everything up to this position has been seen: the log ended here.
    CaughtUp(Position),
    /// Nothing more can be read.
    Closed(Closed),
}

/// Entries of one page.
const PAGE_ENTRIES: usize = 256;

/// How long before a log that is away is asked again, by each stream.
const AWAY_PAUSE: Duration = Duration::from_secs(1);

impl History {
    /// Nothing to read: the subscriber wants what follows the position, which is the end of the log.
    pub(crate) fn at_end(position: Position) -> Self {
        Self(State::CaughtUp(position))
    }

    /// Everything after the position.
    pub(crate) fn after(engine: &Arc<Engine>, after: Position) -> Self {
        let engine = Arc::clone(engine);
        let page = async move {
            // A long history without a match must not keep its thread from others.
            tokio::task::yield_now().await;
            loop {
                match engine.transport.read(after, PAGE_ENTRIES).await {
                    // The stream stays open, as those do that wait for what comes.
                    Err(TransportError::Unavailable(_)) if !engine.is_stopping() => sleep(AWAY_PAUSE).await,
                    page => return page,
                }
            }
        };
        Self(State::Reading { page: Box::pin(page), after })
    }

    /// A page that has been read, and what follows it.
    pub(crate) fn from_page(page: Page) -> Self {
        Self(State::Read(page))
    }

    /// The position up to which everything has been seen, if that is the end of the log.
    pub(crate) fn end(&self) -> Option<Position> {
        match self.0 {
            State::CaughtUp(position) => Some(position),
            _ => None,
        }
    }

    /// The next step. Once it has caught up it says so for ever.
    pub(crate) fn poll(&mut self, subscriber: &Subscriber, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            match &mut self.0 {
                State::Read(page) => {
                    let (through, at_end) = (page.through, page.at_end);
                    let entries = std::mem::take(&mut page.entries);
                    let replays = &subscriber.engine.replays;
                    self.0 = match replays.compare(&subscriber.interest, entries) {
                        Compared::AtOnce(entries) => {
                            State::Wanted { entries: entries.into_iter(), through, at_end }
                        }
                        Compared::Later(wanted) => State::Comparing { wanted, through, at_end },
                    };
                }
                State::Comparing { wanted, through, at_end } => {
                    match ready!(Pin::new(wanted).poll(cx)) {
                        Ok(entries) => {
                            let (through, at_end) = (*through, *at_end);
                            self.0 = State::Wanted { entries: entries.into_iter(), through, at_end };
                        }
                        // The hub has ended, and with it the tasks that compare.
                        Err(_) => return Poll::Ready(Step::Closed(Closed::Stopping)),
                    }
                }
                State::Wanted { entries, through, at_end } => {
                    if let Some(entry) = entries.next() {
                        return Poll::Ready(Step::Frame(entry.update.frame().clone()));
                    }
                    *self = match *at_end {
                        true => Self::at_end(*through),
                        false => Self::after(&subscriber.engine, *through),
                    };
                }
                State::Reading { page, after } => match ready!(page.as_mut().poll(cx)) {
                    Ok(page) if subscriber.is_gap(&page, *after) => {
                        return Poll::Ready(Step::Closed(Closed::Lagged));
                    }
                    Ok(page) => *self = Self::from_page(page),
                    Err(error) => {
                        tracing::warn!(%error, "a stream ends: its history cannot be read");
                        return Poll::Ready(Step::Closed(Closed::LogLost));
                    }
                },
                State::CaughtUp(position) => return Poll::Ready(Step::CaughtUp(*position)),
            }
        }
    }
}

/// Where a stream with a cursor begins.
pub(crate) struct Beginning {
    pub(crate) history: History,
    /// What the log has let go of, as far as that matters here.
    pub(crate) trimmed: Trimmed,
    /// The answer to the cursor (section "Reconciliation").
    pub(crate) answer: Box<str>,
}

impl Beginning {
    /// At the end of the log; while the log is unavailable, at the last entry that this node has delivered. Nothing is
    /// read.
    pub(crate) async fn at_end(engine: &Engine) -> Result<Self, TransportError> {
        let Head { position, id } = engine.head().await?;
        let answer = id.as_ref().map_or(Cursor::EARLIEST, EventId::as_str).into();
        Ok(Self::caught_up(position, answer))
    }

    fn caught_up(position: Position, answer: Box<str>) -> Self {
        let trimmed = Trimmed { updates: position, events: position };
        Self { history: History::at_end(position), trimmed, answer }
    }

    /// After the cursor. What follows `recent` is in the memory of the shard: a crowd that comes back at once after a
    /// moment reads nothing of the log, which may be far away and has one reader for each node otherwise.
    ///
    /// While the log is away it waits for it, as long as the settings say: a browser that is refused once never comes back.
    pub(crate) async fn find(
        engine: &Engine,
        cursor: &Cursor,
        recent: impl Fn() -> Position,
    ) -> Result<Self, TransportError> {
        let deadline = Instant::now() + engine.settings.log_wait_max;
        loop {
            match Self::look(engine, cursor, recent()).await {
                Err(TransportError::Unavailable(_))
                    if Instant::now() + AWAY_PAUSE <= deadline && !engine.is_stopping() =>
                {
                    sleep(AWAY_PAUSE).await;
                }
                found => return found,
            }
        }
    }

    async fn look(engine: &Engine, cursor: &Cursor, recent: Position) -> Result<Self, TransportError> {
        let located = match cursor {
            Cursor::Blank => return Self::at_end(engine).await,
            Cursor::Earliest => None,
            Cursor::After(id) => Self::newest(engine, std::slice::from_ref(id)).await?,
            Cursor::AfterNewest(ids) => Self::newest(engine, ids).await?,
        };
        if let Some((after, id)) = located
            && after >= recent
        {
            return Ok(Self::caught_up(after, id.into()));
        }
        let after = located.map_or(Position::EARLIEST, |(position, _)| position);
        let page = engine.transport.read(after, PAGE_ENTRIES).await?;
        // What was trimmed after the cursor, also since it was located, makes it a cursor of the past.
        let answer = match located {
            Some((_, id)) if page.trimmed.updates <= after => id,
            _ => Cursor::EARLIEST,
        };
        Ok(Self { trimmed: page.trimmed, answer: answer.into(), history: History::from_page(page) })
    }

    /// The newest event among these ids that the log still holds. Costs one lookup for each id; `Limits::cursors_max`
    /// bounds them.
    async fn newest<'a>(
        engine: &Engine,
        ids: &'a [Arc<str>],
    ) -> Result<Option<(Position, &'a str)>, TransportError> {
        let mut newest = None;
        for id in ids {
            let located = engine.transport.locate(id).await?;
            newest = newest.max(located.map(|position| (position, &**id)));
        }
        Ok(newest)
    }
}
