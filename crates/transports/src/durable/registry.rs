//! The subscribers of all nodes: on disk, while the leases are in memory.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use rusqlite::Connection;

use super::{jobs::Jobs, leases::Leases, log::Log, subscribers};

/// The subscribers of all nodes that this directory has had.
pub(super) struct Subscribers {
    pub(super) log: Arc<Log>,
    pub(super) leases: Arc<Leases>,
    pub(super) jobs: Arc<Jobs>,
}

#[async_trait]
impl Registry for Subscribers {
    fn lease(&self) -> Duration {
        self.leases.length()
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        Ok(self.leases.renew(node))
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        if facts.is_empty() && !self.leases.is_live(node) {
            return Ok(Lease::Ended);
        }
        self.jobs.record(node, false, facts).await
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        let (records, leases) = (Arc::clone(&self.log.records), Arc::clone(&self.leases));
        let read =
            move |connection: &Connection| subscribers::abandoned(connection, &records, &leases, limit);
        self.log.readers.run(read).await
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        self.jobs.record(node, true, departures).await.map(drop)
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        self.leases.resign(node);
        Ok(())
    }

    async fn page(&self, text: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        let (records, text) = (Arc::clone(&self.log.records), text.map(str::to_owned));
        let read = move |connection: &Connection| {
            subscribers::page(connection, &records, text.as_deref(), after, limit)
        };
        self.log.readers.run(read).await
    }
}
