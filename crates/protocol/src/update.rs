//! An update: what a publisher sends and all subscribers receive. It is encoded once.

use std::{fmt, sync::OnceLock};

use crate::{
    announcement::Announcement,
    event::{EventId, EventType, Retry},
    sse::{self, Frame},
    subscription::Subscription,
    topic::{HubUrl, Topic, Topics},
};

/// A publish request that has been checked, before the hub gives it an id.
#[derive(Clone, PartialEq, Eq)]
pub struct Draft {
    /// The canonical topic first.
    pub topics: Topics,
    /// The new version of the resource, or whatever the publisher sends.
    pub data: String,
    /// Whether only subscribers with a grant may receive the update.
    pub private: bool,
    /// The id, if the publisher gives one.
    pub id: Option<EventId>,
    /// The SSE event type.
    pub event_type: Option<EventType>,
    /// The reconnection time for subscribers that receive the update.
    pub retry: Option<Retry>,
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topics, data, private, id, event_type, retry } = self;
        f.debug_struct("Draft")
            .field("topics", topics)
            .field("data_bytes", &data.len())
            .field("private", private)
            .field("id", id)
            .field("event_type", event_type)
            .field("retry", retry)
            .finish()
    }
}

/// Who made an update. The bounds of a log count the updates of publishers only, so that subscription events evict no
/// update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A publisher, over HTTP or in the same process.
    Publisher,
    /// The hub: a subscription began or ended.
    Hub,
}

/// An update as the log keeps it and as all subscribers receive it. Cloning shares its parts.
#[derive(Clone)]
pub struct Update {
    id: EventId,
    private: bool,
    origin: Origin,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Encoded { topics: Topics, frame: Frame },
    Announced(Box<Announced>),
}

/// Topics and frame are each written when they are first needed, once for all subscribers. Most subscription events are
/// needed by nobody, because no subscriber may receive them.
#[derive(Clone)]
struct Announced {
    announcement: Announcement,
    topics: OnceLock<Topics>,
    frame: OnceLock<Box<Frame>>,
}

impl Update {
    /// Makes an update of a publisher's draft. `id` is called if the draft has no id.
    pub fn publish(draft: Draft, id: impl FnOnce() -> EventId) -> Self {
        let Draft { topics, data, private, id: given, event_type, retry } = draft;
        let id = given.unwrap_or_else(id);
        let frame = sse::encode(&id, event_type.as_ref(), retry, &data);
        Self { id, private, origin: Origin::Publisher, content: Content::Encoded { topics, frame } }
    }

    /// The update that announces a subscription, active or ended (section "Subscription Events"). No request can make
    /// such an update: it is private, its origin is the hub, and its topics lie in the hub's own namespace.
    ///
    /// `legacy_type` is the type of 0.x events, for which the specification has none.
    pub fn announce(
        subscription: &Subscription,
        active: bool,
        hub: &HubUrl,
        legacy_type: Option<&EventType>,
        id: EventId,
    ) -> Self {
        let content = Content::Announced(Box::new(Announced {
            announcement: Announcement::new(subscription.clone(), active, hub.clone(), legacy_type),
            topics: OnceLock::new(),
            frame: OnceLock::new(),
        }));
        Self { id, private: true, origin: Origin::Hub, content }
    }

    /// What a log keeps of the update. [`Update::restore`] reads it.
    ///
    /// ```
    /// use petasos_protocol::{Limits, event::EventId, request, topic::HubUrl, update::Update};
    /// let hub = HubUrl::default();
    /// let draft = request::publish(b"topic=news&data=hello&id=1", &hub, &Limits::default())?;
    /// let update = Update::publish(draft, || unreachable!("an id was given"));
    /// assert_eq!(Update::restore(&update.stored(), &hub), Some(update));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn stored(&self) -> Stored<'_> {
        Stored {
            id: self.id.as_str(),
            topics: self.topics().iter().map(Topic::as_str).collect(),
            private: self.private,
            origin: self.origin,
            event: self.frame().event_bytes(),
        }
    }

    /// Makes an update of what a log has kept. Nothing is checked again, because updates are checked before they are
    /// appended: everybody who can write to the log is trusted. `None`: there is no topic.
    pub fn restore(stored: &Stored<'_>, hub: &HubUrl) -> Option<Self> {
        let topics: Vec<_> = stored.topics.iter().map(|topic| Topic::unchecked(topic, hub)).collect();
        (!topics.is_empty()).then(|| Self {
            id: EventId::trusted(stored.id),
            private: stored.private,
            origin: stored.origin,
            content: Content::Encoded { topics: Topics::trusted(topics), frame: Frame::new(stored.event) },
        })
    }

    /// The id, which is also the cursor after this update.
    pub fn id(&self) -> &EventId {
        &self.id
    }

    /// The topics, the canonical one first.
    pub fn topics(&self) -> &Topics {
        match &self.content {
            Content::Encoded { topics, .. } => topics,
            Content::Announced(announced) => announced.topics.get_or_init(|| announced.announcement.topics()),
        }
    }

    /// Whether only subscribers with a grant may receive the update.
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Who made the update.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The encoded event. The log and all subscribers share its bytes.
    pub fn frame(&self) -> &Frame {
        match &self.content {
            Content::Encoded { frame, .. } => frame,
            Content::Announced(announced) => {
                announced.frame.get_or_init(|| Box::new(announced.announcement.frame(&self.id)))
            }
        }
    }

    /// An estimate of the memory that the update takes, in bytes: its event, its topics, its id, and what keeps them. It
    /// never changes.
    pub fn size(&self) -> usize {
        match &self.content {
            Content::Encoded { topics, frame } => {
                // A topic is kept as its text and as a URL.
                let topics: usize = topics.iter().map(|topic| 2 * topic.as_str().len() + 160).sum();
                frame.len() + self.id.as_str().len() + topics + 128
            }
            Content::Announced(announced) => announced.announcement.size() + self.id.as_str().len(),
        }
    }
}

/// An update as a log stores it, in parts that each have an obvious encoding.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored<'a> {
    /// The id.
    pub id: &'a str,
    /// At least one topic, the canonical one first.
    pub topics: Vec<&'a str>,
    /// Whether only subscribers with a grant may receive the update.
    pub private: bool,
    /// Who made the update.
    pub origin: Origin,
    /// The encoded event, as subscribers receive it.
    pub event: &'a [u8],
}

impl fmt::Debug for Stored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, topics, private, origin, event } = self;
        f.debug_struct("Stored")
            .field("id", id)
            .field("topics", topics)
            .field("private", private)
            .field("origin", origin)
            .field("event_bytes", &event.len())
            .finish()
    }
}

impl PartialEq for Update {
    fn eq(&self, other: &Self) -> bool {
        let Self { id, private, origin, content: _ } = self;
        (id, private, origin) == (&other.id, &other.private, &other.origin)
            && self.topics() == other.topics()
            && self.frame() == other.frame()
    }
}

impl Eq for Update {}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update")
            .field("id", &self.id)
            .field("topics", self.topics())
            .field("private", &self.private)
            .field("origin", &self.origin)
            .field("event_bytes", &self.frame().len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Limits;

    fn draft(data: &str) -> Draft {
        let topics = Topics::parse(["a", "b"], &HubUrl::default(), &Limits::default()).expect("valid topics");
        Draft { topics, data: data.to_owned(), private: true, id: None, event_type: None, retry: None }
    }

    #[test]
    fn id_is_honoured_or_made() {
        let made = Update::publish(draft("x"), || EventId::from_uuid("u"));
        assert_eq!(made.id().as_str(), "urn:uuid:u");
        let given = EventId::parse("mine", &Limits::default()).expect("valid");
        let update =
            Update::publish(Draft { id: Some(given), ..draft("x") }, || unreachable!("an id was given"));
        assert_eq!(update.id().as_str(), "mine");
        assert_eq!((update.origin(), update.is_private()), (Origin::Publisher, true));
    }

    #[test]
    fn debug_shows_no_payload() {
        let secret = "the-payload";
        let update = Update::publish(draft(secret), || EventId::from_uuid("u"));
        for shown in [format!("{:?}", draft(secret)), format!("{update:?}"), format!("{:?}", update.stored())]
        {
            assert!(shown.contains("[\"a\", \"b\"]") && !shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn the_size_counts_the_event_the_id_and_each_topic() {
        let size = |topics: &[&str], id: &str, data: &str| {
            let topics = Topics::parse(topics.iter().copied(), &HubUrl::default(), &Limits::default());
            let draft = Draft { topics: topics.expect("valid topics"), ..draft(data) };
            Update::publish(draft, || EventId::from_uuid(id)).size()
        };
        let (short, long) = ("a", "b".repeat(1_000));
        let least = size(&[short], "u", "x");
        assert!((150..1_000).contains(&least), "{least}");
        for (larger, at_least) in [
            (size(&[short, "b"], "u", "x"), 100),
            (size(&[short, &long], "u", "x"), 2_000),
            (size(&[short], &long, "x"), 1_000),
            (size(&[short], "u", &long), 1_000),
        ] {
            let added = larger - least;
            assert!((at_least..at_least + 1_200).contains(&added), "{added} for {at_least}");
        }
    }

    #[test]
    fn updates_are_equal_if_all_that_subscribers_see_is() {
        let make = |draft: Draft, id: &str| Update::publish(draft, || EventId::from_uuid(id));
        let update = make(draft("x"), "u");
        assert_eq!(update, make(draft("x"), "u"));
        assert_ne!(update, make(draft("x"), "v"));
        assert_ne!(update, make(draft("y"), "u"));
        assert_ne!(update, make(Draft { private: false, ..draft("x") }, "u"));
        let topics = Topics::parse(["a"], &HubUrl::default(), &Limits::default()).expect("a topic");
        assert_ne!(update, make(Draft { topics, ..draft("x") }, "u"));
        assert!(!make(Draft { private: false, ..draft("x") }, "u").is_private());
    }

    #[test]
    fn the_size_covers_the_event_the_id_and_each_topic_twice_and_little_more() {
        let long = "t".repeat(4_000);
        let topics =
            Topics::parse([&*long, "b"], &HubUrl::default(), &Limits::default()).expect("two topics");
        let id = "i".repeat(3_000);
        let update =
            Update::publish(Draft { topics, ..draft(&"d".repeat(2_000)) }, || EventId::from_uuid(&id));
        // The id is in the event, too.
        let held = 2_000 + 2 * (3_000 + 9) + 2 * (4_000 + 1);
        assert!((held..held + 1_000).contains(&update.size()), "{} for {held}", update.size());
    }

    #[test]
    fn a_stored_update_without_a_topic_is_none() {
        let update = Update::publish(draft("x"), || EventId::from_uuid("u"));
        let stored = update.stored();
        assert_eq!(Update::restore(&stored, &HubUrl::default()), Some(update.clone()));
        assert_eq!(Update::restore(&Stored { topics: vec![], ..stored }, &HubUrl::default()), None);
    }

    proptest! {
        #[test]
        fn accepted_ids_and_types_add_no_line(value in "(?s).{0,12}") {
            let limits = Limits::default();
            if let (Ok(id), Ok(event_type)) = (EventId::parse(&value, &limits), EventType::parse(&value, &limits)) {
                let event = sse::encode(&id, Some(&event_type), None, "x");
                let event = event.event();
                let text = std::str::from_utf8(&event).expect("UTF-8");
                prop_assert_eq!(text.matches(['\n', '\r']).count(), 4);
            }
        }
    }
}
