//! Updates for tests, and what is done with them.

use petasos_hub::{
    TransportError,
    transport::{Follower, Position, Transport},
};
use petasos_protocol::{Limits, event::EventId, request, topic::HubUrl, update::Update};

use crate::support::{PATIENCE, Wait};

pub fn update(id: &str) -> Update {
    large_update(id, 10)
}

pub fn large_update(id: &str, bytes: usize) -> Update {
    let body = format!("topic=t&id={id}&data={}", "x".repeat(bytes));
    let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
    Update::publish(draft, || EventId::from_uuid("unused"))
}

pub async fn append(log: &dyn Transport, id: &str) -> Position {
    log.append(update(id)).await.expect("append")
}

/// Until the log takes it, which it may do more than once.
pub async fn append_in_the_end(log: &dyn Transport, id: &str) -> Position {
    let mut wait = Wait::new("the log takes updates again");
    loop {
        if let Ok(position) = log.append(update(id)).await {
            return position;
        }
        wait.goes_on().await;
    }
}

/// What follows, up to and including an id.
pub async fn follow_to(follower: &mut dyn Follower, id: &str) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.last().is_none_or(|last| last != id) {
        let next = tokio::time::timeout(PATIENCE, follower.next()).await.expect("entries arrive");
        ids.extend(next.expect("follow").iter().map(|entry| entry.update.id().as_str().to_owned()));
    }
    ids
}

/// All that readers see.
pub async fn read_all(log: &dyn Transport) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = Position::EARLIEST;
    loop {
        let page = log.read(after, 1_000).await.expect("read");
        ids.extend(page.entries.iter().map(|entry| entry.update.id().as_str().to_owned()));
        if page.at_end {
            return ids;
        }
        after = page.through;
    }
}

/// The follower's end, whatever comes before it.
pub async fn end_of(follower: &mut dyn Follower) -> TransportError {
    let end = async {
        loop {
            if let Err(error) = follower.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(PATIENCE, end).await.expect("the follower ends")
}
