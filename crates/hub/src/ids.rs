//! Random identifiers.

use petasos_protocol::{event::EventId, subscription::SubscriberId};
use uuid::{Uuid, fmt::Hyphenated};

use crate::log::registry::NodeId;

/// The id of an update whose publisher gave none.
pub(crate) fn event() -> EventId {
    EventId::from_uuid(Uuid::new_v4().hyphenated().encode_lower(&mut [0; Hyphenated::LENGTH]))
}

/// The id of a connection.
pub(crate) fn subscriber() -> SubscriberId {
    SubscriberId::from_uuid(Uuid::new_v4().as_u128())
}

/// This run of the hub.
pub(crate) fn node() -> NodeId {
    NodeId::new(Uuid::new_v4().as_u128())
}

/// A number in 0..1, for jitter.
pub(crate) fn fraction() -> f64 {
    #[cfg(test)]
    if let Some(seed) = FRACTIONS.get() {
        let next = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        FRACTIONS.set(Some(next));
        return (next >> 11) as f64 / (1_u64 << 53) as f64;
    }
    let (_, low) = Uuid::new_v4().as_u64_pair();
    (low >> 11 & ((1 << 50) - 1)) as f64 / (1_u64 << 50) as f64
}

#[cfg(test)]
thread_local! {
    /// The state of the generator that a simulation uses on its thread.
    static FRACTIONS: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

/// From now on the fractions of this thread follow from the seed.
#[cfg(test)]
pub(crate) fn seed_fractions(seed: u64) {
    FRACTIONS.set(Some(seed));
}
