//! What the stores have in common beside how records are written.

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) mod capacity;
#[cfg(any(feature = "durable", feature = "postgres", feature = "redis"))]
pub(crate) mod facts;
pub(crate) mod pace;
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) mod reported;
