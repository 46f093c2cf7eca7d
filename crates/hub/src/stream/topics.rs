//! Events as members get them: with the lines that name their topics, for streams that ask for those.

use petasos_protocol::{
    sse::{self, Frame},
    topic::Topic,
    update::Update,
};

use crate::{
    fanout::ring::{EntryNumber, Named, Ring},
    interest::Interest,
};

/// The event of an entry of the ring, for one member: one frame, or two.
pub(crate) struct Rendered<'ring> {
    lines: Option<Lines<'ring>>,
    frame: &'ring Frame,
}

enum Lines<'ring> {
    /// All topics: the same for all members.
    Shared(&'ring Frame),
    /// Those topics of a private update that the subscriber may know.
    Own(Frame),
}

impl<'ring> Rendered<'ring> {
    /// `topics_known`: what decides which topics the event names; `None`: it names none.
    pub(crate) fn new(topics_known: Option<&Interest>, ring: &'ring Ring, entry: EntryNumber) -> Self {
        let update = ring.update(entry);
        let frame = update.frame();
        let Some(interest) = topics_known else { return Self { lines: None, frame } };
        if !knows_all(interest, update) {
            return Self { lines: Some(Lines::Own(topic_lines(interest, update))), frame };
        }
        match ring.named(entry) {
            Named::Whole(frame) => Self { lines: None, frame },
            Named::Lines(lines) => Self { lines: Some(Lines::Shared(lines)), frame },
        }
    }

    /// What goes before [`Rendered::frame`].
    pub(crate) fn lines(&self) -> Option<&Frame> {
        match self.lines.as_ref()? {
            Lines::Shared(lines) => Some(lines),
            Lines::Own(lines) => Some(lines),
        }
    }

    pub(crate) fn frame(&self) -> &'ring Frame {
        self.frame
    }
}

/// The lines of an update that the subscriber receives.
pub(crate) fn topic_lines(interest: &Interest, update: &Update) -> Frame {
    let known = update.topics().iter().filter(|topic| interest.may_know(update, topic));
    sse::topic_lines(known.map(Topic::as_str))
}

fn knows_all(interest: &Interest, update: &Update) -> bool {
    !update.is_private() || update.topics().iter().all(|topic| interest.may_know(update, topic))
}
