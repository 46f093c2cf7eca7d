//! How far a node has delivered the log, and the cursor there.

use petasos_protocol::{event::EventId, request::Cursor, update::Origin};

use crate::log::transport::{Entry, Head};

/// How far a node has delivered the log.
#[derive(Debug, Clone)]
pub(crate) struct Delivered {
    pub(crate) head: Head,
    newest: Newest,
}

/// The newest update of a publisher that a node has delivered.
#[derive(Debug, Clone)]
enum Newest {
    /// Of what the log held before the node followed it, only the last entry is known.
    Unknown,
    /// The log was empty, and no update has come since.
    None,
    Update(EventId),
}

impl Delivered {
    /// For a node that begins to follow the log at `head`.
    pub(crate) fn begin(head: Head) -> Self {
        let newest = if head.id.is_none() { Newest::None } else { Newest::Unknown };
        Self { head, newest }
    }

    /// After further entries of the log.
    pub(crate) fn advance(&mut self, batch: &[Entry]) {
        if let Some(last) = batch.last() {
            self.head = Head { position: last.position, id: Some(last.update.id().clone()) };
        }
        let mut newest_first = batch.iter().rev().map(|entry| &entry.update);
        if let Some(update) = newest_first.find(|update| update.origin() == Origin::Publisher) {
            self.newest = Newest::Update(update.id().clone());
        }
    }

    /// The cursor of a stream that begins at `head`, at or after what is delivered.
    ///
    /// Subscription events are trimmed apart from updates, so a newer event may be gone while an older update is kept. A
    /// cursor that is gone replays everything that is kept. So a subscriber that receives no such events gets the id of an
    /// update, where this node knows it.
    pub(crate) fn cursor<'a>(&'a self, head: &'a Head, receives_events: bool) -> &'a str {
        let last = head.id.as_ref().map_or(Cursor::EARLIEST, EventId::as_str);
        if receives_events || head.position != self.head.position {
            return last;
        }
        match &self.newest {
            Newest::Unknown => last,
            Newest::None => Cursor::EARLIEST,
            Newest::Update(id) => id.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use petasos_protocol::{
        Dialect, Limits,
        matcher::Matcher,
        subscription::{SubscriberId, Subscription},
        topic::HubUrl,
        update::Update,
    };

    use super::*;
    use crate::{
        fanout::fake::{at, entry},
        ids,
    };

    fn event(sequence: u64) -> Entry {
        let subscription = Subscription {
            dialect: Dialect::Legacy,
            matcher: (&Matcher::selector("a", &Limits::default()).expect("valid")).into(),
            subscriber: SubscriberId::from_uuid(1),
            payload: None,
        };
        let update = Update::announce(&subscription, true, &HubUrl::default(), None, ids::event());
        Entry::now(at(sequence), Arc::new(update))
    }

    #[test]
    fn the_cursor_is_an_update_for_whoever_receives_no_events() {
        let mut delivered = Delivered::begin(Head { position: at(0), id: None });
        let cursors = |delivered: &Delivered| {
            [true, false].map(|receives| delivered.cursor(&delivered.head, receives).to_owned())
        };
        assert_eq!(cursors(&delivered), ["earliest", "earliest"]);
        let first = event(1);
        delivered.advance(std::slice::from_ref(&first));
        assert_eq!(cursors(&delivered), [first.update.id().as_str(), "earliest"]);
        let last = event(4);
        delivered.advance(&[entry(2, "topic=a"), entry(3, "topic=a"), last.clone()]);
        assert_eq!(cursors(&delivered), [last.update.id().as_str(), "3"]);
    }

    #[test]
    fn what_was_in_the_log_before_is_known_by_its_last_id_alone() {
        let head = |sequence, id: &str| Head {
            position: at(sequence),
            id: Some(EventId::parse(id, &Limits::default()).expect("valid")),
        };
        let mut delivered = Delivered::begin(head(7, "7"));
        assert_eq!(delivered.cursor(&head(7, "7"), false), "7");
        delivered.advance(&[event(8)]);
        assert_eq!(
            delivered.cursor(&delivered.head, false),
            delivered.head.id.as_ref().expect("an id").as_str()
        );
        delivered.advance(&[entry(9, "topic=a")]);
        assert_eq!(delivered.cursor(&head(10, "10"), false), "10", "this node has not delivered it yet");
    }
}
