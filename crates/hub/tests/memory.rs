//! The memory transport keeps every guarantee, and its bounds.

use std::sync::Arc;

use async_trait::async_trait;
use petasos_hub::{
    MemoryTransport, TransportError,
    conformance::{CHECKS, Subject},
    transport::{Position, Transport},
};
use petasos_protocol::{Limits, event::EventId, request, topic::HubUrl, update::Update};

struct Memory;

#[async_trait]
impl Subject for Memory {
    async fn transport(&self, history_max: usize) -> Arc<dyn Transport> {
        Arc::new(MemoryTransport::new(history_max))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_passes_the_conformance_list() {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        check(&Memory).await;
    }
}

/// One thread interleaves differently: nothing may rely on a second one.
#[tokio::test]
async fn memory_passes_the_conformance_list_on_one_thread() {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        check(&Memory).await;
    }
}

fn update(data_bytes: usize) -> Update {
    let body = format!("topic=a&data={}", "x".repeat(data_bytes));
    let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
    Update::publish(draft, || EventId::from_uuid("1"))
}

#[tokio::test]
async fn history_is_bounded_by_bytes_too() {
    let log = MemoryTransport::new(usize::MAX);
    for _ in 0..200 {
        log.append(update(1_000_000)).await.expect("append");
    }
    let mut after = Position::EARLIEST;
    let mut kept = 0;
    loop {
        let page = log.read(after, 1_000).await.expect("read");
        if page.entries.is_empty() {
            break;
        }
        // The page is bounded by bytes, and is not taken for the last one.
        assert_eq!(page.at_end, page.through == log.head().await.expect("head").position);
        kept += page.entries.iter().map(|entry| entry.update.size()).sum::<usize>();
        after = page.through;
    }
    assert!(kept <= 64 * 1024 * 1024, "{kept} bytes");
    assert!(kept > 60 * 1024 * 1024, "{kept} bytes");
}

#[tokio::test]
async fn a_history_of_zero_keeps_nothing() {
    let log = MemoryTransport::new(0);
    log.append(update(1)).await.expect("append");
    assert!(log.read(Position::EARLIEST, 10).await.expect("read").entries.is_empty());
}

#[tokio::test]
async fn closing_ends_followers_and_refuses_appends() {
    let log = Arc::new(MemoryTransport::new(10));
    let mut follower = log.follow(Position::EARLIEST).await.expect("follow");
    let waiting = tokio::spawn(async move { follower.next().await });
    tokio::task::yield_now().await;
    log.close();
    assert!(matches!(waiting.await.expect("no panic"), Err(TransportError::Closed)));
    assert!(matches!(log.append(update(1)).await, Err(TransportError::Closed)));
}
