//! The lines before an event that name its topics, for streams that ask for them.

use petasos_protocol::{
    sse::{self, Frame},
    topic::Topic,
    update::Update,
};

use crate::{
    fanout::ring::{EntryNumber, Ring},
    interest::Interest,
};

/// The lines of one event for one subscriber.
pub(crate) enum TopicLines<'ring> {
    /// All topics: the same for all subscribers.
    Shared(&'ring Frame),
    /// Those topics of a private update that the subscriber may know.
    Own(Frame),
}

impl<'ring> TopicLines<'ring> {
    /// Of an entry that the subscriber receives.
    pub(crate) fn new(interest: &Interest, ring: &'ring Ring, entry: EntryNumber) -> Self {
        let update = ring.update(entry);
        match knows_all(interest, update) {
            true => Self::Shared(ring.topic_lines(entry)),
            false => Self::Own(topic_lines(interest, update)),
        }
    }

    pub(crate) fn frame(&self) -> &Frame {
        match self {
            Self::Shared(frame) => frame,
            Self::Own(frame) => frame,
        }
    }
}

/// The lines of an update that the subscriber receives.
pub(crate) fn topic_lines(interest: &Interest, update: &Update) -> Frame {
    let known = update.topics().iter().filter(|topic| interest.may_know(update, topic));
    sse::topic_lines(known.map(Topic::as_str))
}

fn knows_all(interest: &Interest, update: &Update) -> bool {
    update.topics().iter().all(|topic| interest.may_know(update, topic))
}
