//! The subscribers of all processes of the host. A call that writes and has no answer, because the process that leads has
//! left, is an error: who calls makes it again.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use tokio::time::Instant;

use super::{
    election::deadline,
    end::{End, Ends},
};

pub(super) struct Subscribers(pub(super) Arc<Ends>);

impl Subscribers {
    async fn end(&self) -> Result<End, TransportError> {
        self.0.until(deadline(&self.0)).await
    }
}

/// Calls a method of the registry at the present end.
macro_rules! ask {
    ($self:ident, $($call:tt)*) => {
        match $self.end().await?.log().registry() {
            Some(registry) => left(registry.$($call)*.await),
            None => Err(TransportError::Closed),
        }
    };
}

/// Calls a method that only reads, and again where the process that led has left meanwhile.
macro_rules! read {
    ($self:ident, $($call:tt)*) => {{
        let deadline = deadline(&$self.0);
        loop {
            let end = $self.0.until(deadline).await?;
            let Some(registry) = end.log().registry() else { break Err(TransportError::Closed) };
            match registry.$($call)*.await {
                Err(_) if !end.is_open() && Instant::now() < deadline => {}
                answer => break left(answer),
            }
        }
    }};
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

#[async_trait]
impl Registry for Subscribers {
    fn lease(&self) -> Duration {
        self.0.settings.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        ask!(self, renew(node))
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        self.0.pace.turn(self.0.pace.newest(), self.0.settings.timeout).await?;
        ask!(self, record(node, facts))
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        read!(self, abandoned(limit))
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        ask!(self, expire(node, departures))
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        ask!(self, resign(node))
    }

    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        read!(self, page(text, after, limit))
    }
}
