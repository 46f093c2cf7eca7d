//! The operators' port: metrics, health and status, apart from the port that clients use.
//!
//! [`port`] accepts and bounds connections, [`routes`] decides who may ask what, [`documents`] has the answers.

pub(crate) mod answer;
pub(crate) mod documents;
pub(crate) mod port;
pub(crate) mod rates;
pub(crate) mod routes;
