//! Facts of the registry that go to a store in several chunks, each recorded whole or not at all.

use std::collections::HashSet;

use petasos_hub::{
    TransportError,
    registry::{Fact, Lease},
};
use petasos_protocol::update::Update;

/// Events of one chunk; a fact without events counts as one. Other appends wait while a store records a chunk.
pub(crate) const CHUNK_EVENTS: usize = 256;

/// Bytes of the facts of one chunk, about. A larger fact is a chunk by itself.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Facts in their order, in chunks of at most `events_max` events.
///
/// No chunk has two facts of one subscriber. After a lost answer a chunk is given again, and of an arrival and a
/// departure in the same chunk both would be new once more.
pub(crate) fn chunks(facts: &[Fact], events_max: usize) -> impl Iterator<Item = &[Fact]> {
    let mut rest = facts;
    std::iter::from_fn(move || {
        let (mut subscribers, mut events, mut bytes) = (HashSet::new(), 0, 0);
        let fitting = rest.iter().take_while(|fact| {
            events += fact.events.len().max(1);
            bytes += size(fact);
            let fits = subscribers.is_empty() || events <= events_max && bytes <= CHUNK_BYTES;
            fits && subscribers.insert(fact.subscriber)
        });
        let (chunk, others) = rest.split_at(fitting.count());
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The bytes of a fact as it is recorded, about.
fn size(fact: &Fact) -> usize {
    let payload =
        |payload: Option<&serde_json::value::RawValue>| payload.map_or(0, |payload| payload.get().len());
    let subscriptions = fact.subscriptions.iter();
    let subscriptions =
        subscriptions.map(|each| each.matcher.as_str().len() + payload(each.payload.as_deref()));
    subscriptions.sum::<usize>() + fact.events.iter().map(Update::size).sum::<usize>()
}

/// The answers to the chunks so far.
#[derive(Default)]
pub(crate) struct Answers {
    is_recorded: bool,
}

impl Answers {
    /// Adds the answer to the next chunk. True: the node has no lease, and nothing was recorded.
    ///
    /// # Errors
    /// [`TransportError::Unavailable`]: the lease ended after a part was recorded, where [`Lease::Ended`] would say that
    /// nothing was. The facts can be given again.
    pub(crate) fn has_ended(&mut self, answer: Lease) -> Result<bool, TransportError> {
        match answer {
            Lease::Kept => {
                self.is_recorded = true;
                Ok(false)
            }
            Lease::Ended if !self.is_recorded => Ok(true),
            Lease::Ended => Err(TransportError::unavailable(
                "the node's lease ended after a part of its facts was recorded",
            )),
        }
    }
}

/// The lease of a node, as a store says it.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn lease(is_kept: bool) -> Lease {
    if is_kept { Lease::Kept } else { Lease::Ended }
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{
        Dialect,
        event::EventId,
        matcher::{MatcherText, MatcherType},
        subscription::{SubscriberId, Subscription},
        topic::HubUrl,
    };

    use super::*;

    /// A fact of a subscriber with a matcher of so many bytes.
    fn fact(number: u128, bytes: usize) -> Fact {
        let subscription = Subscription {
            dialect: Dialect::V1,
            matcher: MatcherText::new(MatcherType::Exact, "m".repeat(bytes)),
            subscriber: SubscriberId::from_uuid(number),
            payload: None,
        };
        let event = Update::announce(&subscription, true, &HubUrl::default(), None, EventId::from_uuid("1"));
        Fact {
            subscriber: subscription.subscriber,
            active: true,
            subscriptions: [subscription].into(),
            events: vec![event],
        }
    }

    fn lengths(facts: &[Fact]) -> Vec<usize> {
        chunks(facts, 3).map(<[Fact]>::len).collect()
    }

    #[test]
    fn a_chunk_is_bounded_and_has_each_subscriber_once() {
        let small: Vec<_> = (0..7).map(|number| fact(number, 1)).collect();
        assert_eq!(lengths(&small), [3, 3, 1]);
        let large: Vec<_> = (0..3).map(|number| fact(number, CHUNK_BYTES)).collect();
        assert_eq!(lengths(&large), [1, 1, 1]);
        let same: Vec<_> = [1, 2, 1, 1, 3].map(|number| fact(number, 1)).into();
        assert_eq!(lengths(&same), [2, 1, 2]);
        assert!(lengths(&[]).is_empty());
    }

    #[test]
    fn a_lease_that_ends_after_a_part_was_recorded_is_an_error() {
        let mut answers = Answers::default();
        assert!(matches!(answers.has_ended(Lease::Ended), Ok(true)));
        assert!(matches!(answers.has_ended(Lease::Kept), Ok(false)));
        assert!(matches!(answers.has_ended(Lease::Ended), Err(TransportError::Unavailable(_))));
    }
}
