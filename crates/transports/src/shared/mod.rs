//! The half that all stores share: pacing, availability, room, batches, chunks of facts, and reports of damage. What a
//! store does by itself is in its folder; how records are written is in [`crate::codec`].

pub(crate) mod capacity;
#[cfg(any(feature = "host", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) mod decoder;
pub(crate) mod facts;
pub(crate) mod health;
pub(crate) mod pace;
#[cfg(any(feature = "host", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) mod reported;
pub(crate) mod room;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) mod writer;
