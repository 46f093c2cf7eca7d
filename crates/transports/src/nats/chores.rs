//! Probes for room: a node that is not ready gets no updates, so only a probe finds that there is room again.

use std::sync::Arc;

use async_nats::HeaderMap;
use uuid::Uuid;

use super::{failure::Failure, log::Log};

/// Probes for room whenever an append found none. Never ends.
pub(super) async fn probe_room(log: Arc<Log>) {
    loop {
        let bytes = log.capacity.is_due().await;
        match has_room(&log, bytes).await {
            Ok(true) => log.capacity.took(),
            Ok(false) => {}
            Err(failure) => tracing::debug!(%failure, "it is not known whether there is room"),
        }
    }
}

/// Whether the bounds of the stream, the account and the server leave room for so many bytes. Not every user may ask
/// for the bounds of account and server, so a message of that size is stored in the stream of leases, and removed at
/// once.
async fn has_room(log: &Log, bytes: usize) -> Result<bool, Failure> {
    let info = log.link.info(&log.streams.log).await?;
    let bound = |name: &str| info.config[name].as_u64().filter(|bound| *bound > 0).unwrap_or(u64::MAX);
    if info.state.messages >= bound("max_msgs")
        || info.state.bytes.saturating_add(bytes as u64) >= bound("max_bytes")
    {
        return Ok(false);
    }
    let subject = log.streams.lease_subject(&format!("room-{}", Uuid::new_v4().simple()));
    let payload = vec![0; bytes].into();
    let sent = log.link.publish(&subject, HeaderMap::new(), payload, &log.link.attempts()).await?;
    match log.link.published(sent).await {
        Ok(ack) => log.link.delete(&log.streams.leases, ack.seq).await.map(|_| true),
        Err(failure) if failure.is_full() => Ok(false),
        Err(failure) => Err(failure),
    }
}
