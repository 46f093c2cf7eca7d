//! This node's one reader of the log. What it yields is what the node delivers, its own publishes included.

use std::sync::Arc;

use crate::{Closed, shard::Shard, transport::Follower};

/// Gives every batch of the log to every shard, until the log or the shards end.
pub(crate) async fn run(mut follower: Box<dyn Follower>, shards: Arc<[Shard]>) {
    loop {
        match follower.next().await {
            Ok(batch) => {
                let batch = Arc::from(batch);
                for shard in &*shards {
                    if !shard.deliver(Arc::clone(&batch)).await {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the log ended: all streams are closed");
                for shard in &*shards {
                    shard.close(Closed::LogLost).await;
                }
                return;
            }
        }
    }
}
