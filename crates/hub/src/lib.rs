//! The engine of the petasos hub: one log, one order.
//!
//! A publish is an append to a log ([`transport`]). Everything that a node delivers, its own publishes included, is
//! what its own tail of that log yields: [`tail`](self) gives each entry to every shard, a shard finds the members that
//! want it in its index and marks the shared frame for each. A subscriber reads history from the same log until it
//! meets its shard, so that history, live delivery, reconnection and lag are one mechanism.
//!
//! The engine knows the protocol, tokio and sockets, and of HTTP how events are framed ([`Framing`]). It knows no request,
//! no token and no backend but memory.
//!
//! ```
//! use std::sync::Arc;
//! use petasos_hub::{Hub, MemoryTransport, Settings};
//! use petasos_protocol::{Limits, request::{self, Form, Part, SubscribeRequest}, token::Grants};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let settings = Settings { retry: None, ..Settings::default() };
//! let hub = Hub::start(Arc::new(MemoryTransport::new(500)), settings).await?;
//!
//! let limits = Limits::default();
//! let query = Form::parse(b"match=news", Part::Query, &limits)?;
//! let request = SubscribeRequest::parse(&query, &[], false, hub.url(), &limits)?;
//! let mut session = hub.subscribe(request, Arc::new(Grants::default()), None).await?;
//!
//! let draft = request::publish(b"topic=news&data=hello&id=1", hub.url(), &limits)?;
//! hub.publish(draft).await?;
//!
//! assert_eq!(session.next().await.as_deref(), Some(&b":\n"[..]), "first bytes flow at once");
//! assert_eq!(session.next().await.as_deref(), Some(&b"id: 1\ndata: hello\n\n"[..]));
//! # Ok(())
//! # }
//! ```

mod admission;
mod budget;
mod delivered;
mod error;
mod fanout;
mod health;
mod hub;
mod ids;
mod interest;
mod listing;
mod log;
pub mod metrics;
mod node;
mod presence;
mod settings;
#[cfg(test)]
mod simulator;
mod stream;
mod tail;
mod timing;

pub use admission::Admission;
pub use error::{Closed, StartError, SubscribeError, TransportError};
pub use hub::{Hub, Stats};
pub use listing::Subscriptions;
#[cfg(feature = "conformance")]
pub use log::conformance;
pub use log::{
    documents,
    memory::{self, MemoryTransport},
    registry, transport,
};
pub use settings::Settings;
pub use stream::{
    polled::{outbox::Writer, session::Session},
    socket::{
        connection::Socket,
        framing::{Framing, Wire},
        seal::Seal,
    },
};
