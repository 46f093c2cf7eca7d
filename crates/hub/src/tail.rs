//! This node's one reader of the log. What it yields is what the node delivers, its own publishes included.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use crate::{
    TransportError,
    delivered::Delivered,
    fanout::{shard::Shard, sink::Sink},
    health::Health,
    log::transport::{Follower, Head, Transport},
};

/// Gives every batch of the log to every shard, until the log or a shard ends, and says how far it has come. If the log was
/// lost, or has trimmed what this node had not seen yet, all streams end and it goes on from the head. The subscribers come
/// back with their cursors.
///
/// It ends only if no more can be delivered. Then the hub has failed, unless it stops.
pub(crate) async fn run<S: Sink>(
    transport: Arc<dyn Transport>,
    mut follower: Box<dyn Follower>,
    shards: Arc<[Shard<S>]>,
    delivered: watch::Sender<Delivered>,
    health: Arc<Health>,
) {
    loop {
        let began = delivered.borrow().head.position;
        let end = tokio::select! {
            biased;
            end = deliver(&mut *follower, &shards, &delivered) => end,
            () = health.failed() => End::Shard,
        };
        match end {
            End::Shard => break,
            End::Log(TransportError::Trimmed) => {}
            End::Log(error) => {
                tracing::error!(%error, "the log cannot be followed any more");
                break;
            }
        }
        drop(follower);
        if delivered.borrow().head.position == began {
            // One that ends at once may do so again.
            sleep(PAUSE).await;
        }
        let Some((head, next)) = follow_again(&*transport).await else { break };
        tracing::warn!(
            "the log, or a part of it, was lost to this node: streams end, and go on from its end"
        );
        for shard in &*shards {
            shard.restart(head.position).await;
        }
        delivered.send_replace(Delivered::begin(head));
        follower = next;
    }
}

/// Why no more is delivered.
enum End {
    Log(TransportError),
    /// A shard has ended.
    Shard,
}

async fn deliver<S: Sink>(
    follower: &mut dyn Follower,
    shards: &[Shard<S>],
    delivered: &watch::Sender<Delivered>,
) -> End {
    loop {
        let batch = match follower.next().await {
            Ok(batch) => batch,
            Err(error) => return End::Log(error),
        };
        let batch: Arc<[_]> = Arc::from(batch);
        for shard in shards {
            if !shard.deliver(Arc::clone(&batch)).await {
                return End::Shard;
            }
        }
        delivered.send_modify(|delivered| delivered.advance(&batch));
    }
}

/// A follower of what comes after the head.
pub(crate) async fn follow_head(
    transport: &dyn Transport,
) -> Result<(Head, Box<dyn Follower>), TransportError> {
    for _ in 0..HEADS_MAX {
        let head = transport.head().await?;
        match transport.follow(head.position).await {
            // Others have appended more than is kept, in between.
            Err(TransportError::Trimmed) => {}
            follower => return Ok((head, follower?)),
        }
    }
    Err(TransportError::Trimmed)
}

/// The same, as soon as there is one. `None`: there will be none.
async fn follow_again(transport: &dyn Transport) -> Option<(Head, Box<dyn Follower>)> {
    loop {
        match follow_head(transport).await {
            Ok(followed) => return Some(followed),
            Err(error @ TransportError::Closed) => {
                tracing::error!(%error, "the log cannot be followed any more");
                return None;
            }
            Err(error) => tracing::debug!(%error, "the log cannot be followed yet"),
        }
        sleep(PAUSE).await;
    }
}

/// How often the log may trim the head while it is looked up, because other nodes append much and the log keeps little.
const HEADS_MAX: usize = 100;

/// Between two attempts to follow a log that was lost.
const PAUSE: Duration = Duration::from_millis(200);
