//! The list of active subscriptions, read page by page.
//!
//! The pages are read at different moments. A subscriber that stays from the first page to the last is listed. A
//! subscriber that comes or goes meanwhile causes an event, and `last_event_id` says after which event a reader follows
//! these events. So no copy of the list is held for a slow reader.

use std::{fmt, sync::Arc};

use petasos_protocol::{event::EventId, subscription::Subscription};

use crate::{
    TransportError,
    log::registry::{self, Page},
    presence::Presence,
};

/// The active subscriptions on all nodes that share a log. Holds no lock and no copy between two pages.
pub struct Subscriptions {
    /// The id of the last event before the first page: a subscriber to subscription events with this cursor misses none.
    /// `None`: nothing has been published yet.
    pub last_event_id: Option<EventId>,
    /// While this number and `last_event_id` stay the same, so do the subscriptions.
    pub revision: u64,
    /// `None`: subscriptions are not tracked.
    presence: Option<Arc<Presence>>,
    text: Option<Box<str>>,
    /// The position in the list after which the next page begins; `None`: there is no further page.
    after: Option<u64>,
}

impl Subscriptions {
    pub(crate) fn new(
        last_event_id: Option<EventId>,
        presence: Option<Arc<Presence>>,
        text: Option<&str>,
    ) -> Self {
        let revision = presence.as_ref().map_or(0, |presence| presence.revision());
        Self { last_event_id, revision, presence, text: text.map(Into::into), after: Some(0) }
    }

    /// The next subscribers in the order in which they came, each with all of its subscriptions, also those with another
    /// text than was asked for. A page may be empty though further pages follow. `None`: there is no further page.
    ///
    /// # Errors
    /// Those of [`Registry::page`](crate::log::registry::Registry::page); the same page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Arc<[Subscription]>>>, TransportError> {
        let (Some(presence), Some(after)) = (&self.presence, self.after) else { return Ok(None) };
        let Page { subscribers, next } = presence.page(self.text.as_deref(), after).await?;
        self.after = next;
        Ok(Some(subscribers))
    }

    /// All remaining subscriptions at once. Takes memory for each of them.
    ///
    /// # Errors
    /// Those of [`Registry::page`](crate::log::registry::Registry::page).
    pub async fn all(self) -> Result<Vec<Subscription>, TransportError> {
        let Some(presence) = self.presence else { return Ok(Vec::new()) };
        let text = self.text.as_deref();
        registry::all(text, self.after, |after| Box::pin(presence.page(text, after))).await
    }
}

impl fmt::Debug for Subscriptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriptions")
            .field("last_event_id", &self.last_event_id)
            .field("revision", &self.revision)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
