//! The list of active subscriptions, read page by page.
//!
//! The pages are read at different moments. A subscriber that stays from the first page to the last is listed. A
//! subscriber that comes or goes meanwhile causes an event, and `last_event_id` says after which event a reader follows
//! these events. So no copy of the list is held for a slow reader.

use std::{fmt, sync::Arc};

use petasos_protocol::{subscription::Subscription, update::EventId};

use crate::{TransportError, log::registry::Page, presence::Presence};

/// The active subscriptions on all nodes that share a log. Holds no lock and no copy between two pages.
pub struct Subscriptions {
    /// The last event before the first page: a subscriber to subscription events with this cursor misses none. `None`:
    /// nothing has been published yet.
    pub last_event_id: Option<EventId>,
    /// While this and `last_event_id` stay the same, so do the subscriptions.
    pub revision: u64,
    /// `None`: they are not tracked.
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
    /// If the log cannot be read; the same page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Arc<[Subscription]>>>, TransportError> {
        let (Some(presence), Some(after)) = (&self.presence, self.after) else { return Ok(None) };
        let Page { subscribers, next } = presence.page(self.text.as_deref(), after).await?;
        self.after = next;
        Ok(Some(subscribers))
    }

    /// All remaining subscriptions at once. Takes memory for each of them.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn all(mut self) -> Result<Vec<Subscription>, TransportError> {
        let mut found = Vec::new();
        while let Some(page) = self.next_page().await? {
            let all = page.iter().flat_map(|all| all.iter());
            let is_meant =
                |each: &&Subscription| self.text.as_deref().is_none_or(|text| each.matcher.as_str() == text);
            found.extend(all.filter(is_meant).cloned());
        }
        Ok(found)
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
