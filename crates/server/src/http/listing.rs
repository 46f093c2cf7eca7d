//! The document of a collection of subscriptions, written piece by piece as its reader takes them.
//!
//! A reader costs a piece of the document and a page of the hub's list, however many subscriptions there are and however
//! slowly it reads. It holds no lock.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use petasos_hub::{Subscriptions, TransportError};
use petasos_protocol::subscription::{COLLECTION_END, Subscription};
use tokio::{sync::OwnedSemaphorePermit, task::yield_now};

/// A document that is being written.
pub(crate) struct Listing {
    subscriptions: Subscriptions,
    /// The document of a subscription; `None`: it is not in the collection.
    describe: Describe,
    /// The subscribers of a page that have not been written yet.
    page: VecDeque<Arc<[Subscription]>>,
    /// The number of subscriptions of the first subscriber in `page` that have been written.
    written: usize,
    is_first: bool,
    is_ended: bool,
    unsent: BytesMut,
    #[expect(dead_code, reason = "held for its Drop")]
    permit: OwnedSemaphorePermit,
}

type Describe = Box<dyn Fn(&Subscription) -> Option<String> + Send>;

/// The most bytes of one piece.
pub(crate) const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Lists that may be read at once. Each takes a piece, a page of the store's records and the buffers of its connection: some
/// hundred kilobytes, and at most the matchers of a page of subscribers.
pub(crate) const LISTINGS_MAX: usize = 32;

impl Listing {
    /// The document begins with `begin`. `permit` is held until the listing is dropped.
    pub(crate) fn new(
        begin: &str,
        subscriptions: Subscriptions,
        permit: OwnedSemaphorePermit,
        describe: impl Fn(&Subscription) -> Option<String> + Send + 'static,
    ) -> Self {
        Self {
            subscriptions,
            describe: Box::new(describe),
            page: VecDeque::new(),
            written: 0,
            is_first: true,
            is_ended: false,
            unsent: BytesMut::from(begin.as_bytes()),
            permit,
        }
    }

    /// Whether there is nothing more.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_ended && self.unsent.is_empty()
    }

    /// The next piece; empty at the end.
    ///
    /// # Errors
    /// If the log cannot be read. The document then stays without its end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, TransportError> {
        while !self.is_ended && self.unsent.len() < PIECE_BYTES_MAX {
            if !self.page.is_empty() {
                self.write();
                continue;
            }
            match self.subscriptions.next_page().await? {
                Some(page) => self.page = page.into(),
                None => {
                    self.unsent.extend_from_slice(COLLECTION_END.as_bytes());
                    self.is_ended = true;
                }
            }
            // There may be a hundred thousand subscribers, and none of them in the collection. Other tasks get their turn.
            yield_now().await;
        }
        let length = self.unsent.len().min(PIECE_BYTES_MAX);
        Ok(self.unsent.split_to(length).freeze())
    }

    /// Writes the next subscription.
    fn write(&mut self) {
        let Some(subscriber) = self.page.front() else { return };
        let Some(subscription) = subscriber.get(self.written) else {
            self.page.pop_front();
            self.written = 0;
            return;
        };
        self.written += 1;
        if let Some(document) = (self.describe)(subscription) {
            if !std::mem::replace(&mut self.is_first, false) {
                self.unsent.extend_from_slice(b",");
            }
            self.unsent.extend_from_slice(document.as_bytes());
        }
    }
}

/// A listing on its way to its reader: the piece that is being written, or that waits.
pub(crate) struct Pieces(State);

enum State {
    Waiting(Bytes, Box<Listing>),
    Writing(Writing),
    Ended,
}

/// Returns the next piece and the listing.
type Writing = Pin<Box<dyn Future<Output = Result<(Bytes, Box<Listing>), TransportError>> + Send>>;

impl Pieces {
    /// The first piece, which has been written, and the rest.
    pub(crate) fn new(first: Bytes, listing: Listing) -> Self {
        Self(State::Waiting(first, Box::new(listing)))
    }

    /// The next piece. An error ends the document before its end.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, TransportError>>> {
        loop {
            match std::mem::replace(&mut self.0, State::Ended) {
                State::Waiting(piece, listing) if piece.is_empty() => {
                    if listing.is_at_end() {
                        return Poll::Ready(None);
                    }
                    let mut listing = listing;
                    self.0 = State::Writing(Box::pin(async move { Ok((listing.next().await?, listing)) }));
                }
                State::Waiting(piece, listing) => {
                    self.0 = State::Waiting(Bytes::new(), listing);
                    return Poll::Ready(Some(Ok(piece)));
                }
                State::Writing(mut writing) => match writing.as_mut().poll(cx) {
                    Poll::Ready(Ok((piece, listing))) => self.0 = State::Waiting(piece, listing),
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => {
                        self.0 = State::Writing(writing);
                        return Poll::Pending;
                    }
                },
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}
