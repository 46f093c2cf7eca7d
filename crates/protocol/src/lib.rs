//! The Mercure protocol as values and total functions.
//!
//! Whatever a peer sends is parsed here, once, into types that cannot be wrong. The code behind relies on these types and
//! checks nothing again. This crate reads no clock, entropy, environment, file or socket, logs nothing and panics on no
//! input.
//!
//! There are two dialects: 0.x (`draft-dunglas-mercure-07`, tag v0.24.2 of the specification's repository) and 1.0
//! (`draft-dunglas-mercure-08`). All types serve both. What only 0.x has is in [`legacy`].
//!
//! ```
//! use petasos_protocol::{Limits, event::EventId, request, topic::HubUrl, update::Update};
//!
//! let hub = HubUrl::default();
//! let draft = request::publish(b"topic=books%2F1&data=new+price", &hub, &Limits::default())?;
//! let update = Update::publish(draft, || EventId::from_uuid("e1ee88e2-532a-4d6f-ba70-f0f8bd584022"));
//! assert_eq!(
//!     &update.frame().event()[..],
//!     b"id: urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022\ndata: new price\n\n"
//! );
//! # Ok::<(), petasos_protocol::Reject>(())
//! ```

mod announcement;
pub mod discovery;
pub mod event;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod heap;
pub mod legacy;
pub mod limits;
pub mod matcher;
pub mod reject;
pub mod request;
pub mod sse;
pub mod subscription;
mod text;
pub mod token;
pub mod topic;
pub mod update;

pub use limits::Limits;
pub use reject::Reject;

/// The protocol version that a request, a token or a subscription speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `draft-dunglas-mercure-07` and before: topic selectors, the `mercure` claim, JSON-LD documents.
    Legacy,
    /// `draft-dunglas-mercure-08`: topic matchers, JWT access tokens, `authorization_details`.
    V1,
}
