//! From a request to its answer: routes, handlers, and what they share. Nothing here knows connections.

pub(crate) mod admission;
pub(crate) mod alternatives;
pub(crate) mod answer;
pub(crate) mod body;
mod context;
pub(crate) mod cors;
pub(crate) mod credentials;
mod event_source;
mod form;
mod listing;
mod metadata;
mod origin;
pub(crate) mod peer;
mod probe;
pub(crate) mod proxies;
mod publish;
mod refusal;
pub(crate) mod service;
mod subscribe;
mod subscriptions;
