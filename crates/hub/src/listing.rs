//! Who is subscribed, read page by page.
//!
//! The pages are not of one moment, and need not be. A subscriber that stays from the first page to the last is listed. Of
//! one that comes or goes meanwhile, an event tells, and the listing says after which event its reader has to follow them.
//! So nothing is copied and kept for a reader that takes long.

use std::{fmt, sync::Arc};

use petasos_protocol::{subscription::Subscription, update::EventId};

use crate::{TransportError, presence::Presence, registry::Page};

/// The active subscriptions on all nodes that share a log. Reading on is up to the reader; nothing is held meanwhile.
pub struct Subscriptions {
    /// The last event before the first page: whoever subscribes to subscription events from it on misses none. `None`:
    /// nothing has been published yet.
    pub last_event_id: Option<EventId>,
    /// Together with `last_event_id`, it is the same only while the subscriptions are the same.
    pub revision: u64,
    /// `None`: they are not tracked.
    presence: Option<Arc<Presence>>,
    text: Option<Box<str>>,
    /// After which place the next page begins; `None`: there is none.
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

    /// The subscriptions of the next subscribers, in the order in which they began, also those with another text than was
    /// asked for. A page may be empty though more follow. `None`: all have been read.
    ///
    /// # Errors
    /// If the log cannot be read; the same page can be asked for again.
    pub async fn next_page(&mut self) -> Result<Option<Vec<Arc<[Subscription]>>>, TransportError> {
        let (Some(presence), Some(after)) = (&self.presence, self.after) else { return Ok(None) };
        let Page { subscribers, next } = presence.page(self.text.as_deref(), after).await?;
        self.after = next;
        Ok(Some(subscribers))
    }

    /// All that remain, at once: as much memory as there are subscriptions.
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
