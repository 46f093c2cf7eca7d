//! This node's one reader of the log. What it yields is what the node delivers, its own publishes included.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    Closed,
    shard::Shard,
    transport::{Follower, Position},
};

/// Gives every batch of the log to every shard, until the log or a shard ends, and tells how far it has come.
pub(crate) async fn run(
    mut follower: Box<dyn Follower>,
    shards: Arc<[Shard]>,
    delivered: watch::Sender<Position>,
) {
    if let Err(error) = deliver(&mut *follower, &shards, &delivered).await {
        tracing::error!(error, "nothing can be delivered any more: all streams are closed");
    }
    for shard in &*shards {
        shard.close(Closed::LogLost).await;
    }
}

async fn deliver(
    follower: &mut dyn Follower,
    shards: &[Shard],
    delivered: &watch::Sender<Position>,
) -> Result<(), String> {
    loop {
        let batch = follower.next().await.map_err(|error| error.to_string())?;
        let through = batch.last().map(|entry| entry.position);
        let batch = Arc::from(batch);
        for shard in shards {
            if !shard.deliver(Arc::clone(&batch)).await {
                return Err("a shard has ended".to_owned());
            }
        }
        if let Some(through) = through {
            delivered.send_replace(through);
        }
    }
}
