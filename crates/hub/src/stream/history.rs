//! Reading the log for one subscriber, page by page, until it has caught up.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use petasos_protocol::{event::EventId, sse::Frame};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    Closed, TransportError,
    log::transport::{Entry, Page, Position},
    node::Node,
    stream::replay::Compared,
    stream::subscriber::Subscriber,
};

/// A place in the log from which a subscriber reads on. It holds at most a page.
pub(crate) struct History(State);

enum State {
    /// A page whose entries have not been looked at yet, wanted or not.
    Read(Page),
    /// A page whose entries are being compared with what the subscriber wants.
    Comparing {
        wanted: oneshot::Receiver<Vec<Entry>>,
        rest: Rest,
    },
    /// Entries of a page that the subscriber wants and may have.
    Wanted {
        entries: std::vec::IntoIter<Entry>,
        rest: Rest,
    },
    Reading {
        page: Pin<Box<dyn Future<Output = Result<Page, TransportError>> + Send>>,
        after: Position,
    },
    CaughtUp(Position),
}

/// What is known of a page beside its entries.
struct Rest {
    through: Position,
    at_end: bool,
    /// The cursor behind its entries, for a stream that says where it is.
    cursor: Option<EventId>,
}

/// What a look into the history finds.
pub(crate) enum Step {
    /// The next event that the subscriber wants and may have.
    Frame(Frame),
    /// The stream has come to this cursor. Comes behind the events of a page, for a stream that says where it is.
    Passed(EventId),
    /// Everything up to this position has been seen: the log ended here.
    CaughtUp(Position),
    /// Nothing more can be read.
    Closed(Closed),
}

/// Entries of one page.
pub(crate) const PAGE_ENTRIES: usize = 256;

/// The pause before a stream asks an unavailable log again.
pub(crate) const UNAVAILABLE_PAUSE: Duration = Duration::from_secs(1);

impl History {
    /// Nothing to read: the subscriber wants what follows the position, which is the end of the log.
    pub(crate) fn at_end(position: Position) -> Self {
        Self(State::CaughtUp(position))
    }

    /// Everything after the position.
    pub(crate) fn after(node: &Arc<Node>, after: Position) -> Self {
        let node = Arc::clone(node);
        let page = async move {
            // A long history without a match must not keep its thread from others.
            tokio::task::yield_now().await;
            loop {
                match node.transport.read(after, PAGE_ENTRIES).await {
                    // The stream stays open, as those do that wait for what comes.
                    Err(TransportError::Unavailable(_)) if node.health.is_alive() => {
                        sleep(UNAVAILABLE_PAUSE).await
                    }
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
                    let cursor = subscriber.cursor_after(&page.entries);
                    let rest = Rest { through: page.through, at_end: page.at_end, cursor };
                    let entries = std::mem::take(&mut page.entries);
                    let replays = &subscriber.node.replays;
                    self.0 = match replays.compare(&subscriber.interest, entries) {
                        Compared::AtOnce(entries) => {
                            subscriber.is_given(&entries);
                            State::Wanted { entries: entries.into_iter(), rest }
                        }
                        Compared::Later(wanted) => State::Comparing { wanted, rest },
                    };
                }
                State::Comparing { wanted, rest } => {
                    match ready!(Pin::new(wanted).poll(cx)) {
                        Ok(entries) => {
                            let rest = Rest { cursor: rest.cursor.take(), ..*rest };
                            subscriber.is_given(&entries);
                            self.0 = State::Wanted { entries: entries.into_iter(), rest };
                        }
                        // The hub has ended, and with it the tasks that compare.
                        Err(_) => return Poll::Ready(Step::Closed(Closed::Stopping)),
                    }
                }
                State::Wanted { entries, rest } => {
                    if let Some(entry) = entries.next() {
                        return Poll::Ready(Step::Frame(subscriber.frame(&entry.update)));
                    }
                    let Rest { through, at_end, cursor } = Rest { cursor: rest.cursor.take(), ..*rest };
                    *self = match at_end {
                        true => Self::at_end(through),
                        false => Self::after(&subscriber.node, through),
                    };
                    if let Some(cursor) = cursor {
                        return Poll::Ready(Step::Passed(cursor));
                    }
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
