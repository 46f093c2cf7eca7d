//! The subscribers of all processes of the host. A call that writes and has no answer, because the process that leads has
//! left, is an error: the caller repeats it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
    transport::Transport,
};

use super::access::{Access, Host, ask};

pub(super) struct Subscribers(pub(super) Arc<Host>);

impl Subscribers {
    async fn access(&self) -> Result<Access, TransportError> {
        self.0.open_by(self.0.deadline()).await
    }
}

/// A log that was closed or has failed under a process that led it is not the end of the host's log.
fn left<T>(result: Result<T, TransportError>) -> Result<T, TransportError> {
    result.map_err(|error| match error {
        TransportError::Closed | TransportError::Failed(_) => {
            TransportError::unavailable("the log is opened again")
        }
        other => other,
    })
}

fn registry(log: &dyn Transport) -> Result<&dyn Registry, TransportError> {
    log.registry().ok_or(TransportError::Closed)
}

#[async_trait]
impl Registry for Subscribers {
    fn lease(&self) -> Duration {
        self.0.settings.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        left(registry(self.access().await?.log())?.renew(node).await)
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        self.0.pace.turn(self.0.pace.newest(), self.0.settings.timeout).await?;
        left(registry(self.access().await?.log())?.record(node, facts).await)
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        left(ask!(self.0, |log| registry(log)?.abandoned(limit).await))
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        left(registry(self.access().await?.log())?.expire(node, departures).await)
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        left(registry(self.access().await?.log())?.resign(node).await)
    }

    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        left(ask!(self.0, |log| registry(log)?.page(text, after, limit).await))
    }
}
