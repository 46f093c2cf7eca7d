//! From a request to its answer: routes, handlers, and what they share.

pub(crate) mod admission;
pub(crate) mod body;
pub(crate) mod cors;
pub(crate) mod credentials;
pub(crate) mod listing;
pub(crate) mod metadata;
pub(crate) mod origin;
pub(crate) mod probe;
pub(crate) mod proxies;
pub(crate) mod publish;
pub(crate) mod refusal;
pub(crate) mod service;
pub(crate) mod subscribe;
pub(crate) mod subscriptions;
