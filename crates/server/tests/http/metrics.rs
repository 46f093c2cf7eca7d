//! Each number moves when what it counts happens, and by as much.

use std::{sync::Arc, time::Duration};

use petasos_hub::MemoryTransport;
use petasos_protocol::{Limits, matcher::Matcher, request};
use petasos_server::Settings;
use tokio::{io::AsyncReadExt, task::JoinSet, time::timeout};

use crate::{
    client::{HUB, Metrics, PATIENCE, Server, publisher, settings, subscriber},
    is_direct, is_http2,
    log::start_faulty,
};

fn hub() -> petasos_hub::Settings {
    petasos_hub::Settings {
        keep_alive: None,
        // Subscription events would count as deliveries, too.
        subscriptions: false,
        shards: 1,
        ..Default::default()
    }
}

async fn publish(server: &Server, body: &str) {
    assert_eq!(server.publish_with(&publisher(), body.as_bytes()).await.status, 200);
}

/// What carries the streams of these tests.
fn carrier() -> &'static str {
    if is_direct() && !is_http2() { "socket" } else { "polled" }
}

#[tokio::test]
async fn streams_and_deliveries_are_counted() {
    let group = Matcher::selector("/books/{id}", &Limits::default()).expect("a template");
    let server =
        Server::start_with(settings(), petasos_hub::Settings { metrics_groups: vec![group], ..hub() }).await;
    let before = server.metrics().await;
    let mut former = server.subscribe("topic=/books/1", &[]).await;
    let mut current = server.subscribe("match=/books/1", &[]).await;
    let streams = |dialect| format!("petasos_streams{{dialect=\"{dialect}\",carrier=\"{}\"}}", carrier());
    let opened = server.metrics().await;
    for name in [&streams("0.x"), &streams("1.0")] {
        assert_eq!((before[name], opened[name]), (0.0, 1.0), "{name}");
    }
    for name in ["mercure_subscribers_connected", "mercure_subscribers_total", "petasos_streams_opened_total"]
    {
        assert_eq!((before[name], opened[name]), (0.0, 2.0), "{name}");
    }
    publish(&server, "topic=/books/1&id=1&data=x").await;
    publish(&server, "topic=/films/1&id=2&data=x").await;
    let event = "id: 1\ndata: x\n\n";
    assert_eq!((former.event().await, current.event().await), (event.to_owned(), event.to_owned()));
    // A subscriber has an event a moment before its shard has counted it.
    let now = server.metrics_with("petasos_delivery_seconds_count", 1.0).await;
    for (name, value) in [
        ("mercure_updates_total", 2.0),
        ("petasos_publish_seconds_count{result=\"ok\"}", 2.0),
        ("petasos_append_seconds_count", 2.0),
        ("petasos_deliveries_total", 2.0),
        ("petasos_delivered_bytes_total", 2.0 * event.len() as f64),
        ("petasos_topic_updates_total{group=\"/books/{id}\"}", 1.0),
        ("petasos_topic_deliveries_total{group=\"/books/{id}\"}", 2.0),
        ("petasos_log_updates", 2.0),
        ("petasos_log_up", 1.0),
    ] {
        assert_eq!(
            (before[name], now[name]),
            (if name == "petasos_log_up" { 1.0 } else { 0.0 }, value),
            "{name}"
        );
    }
    assert!(now["petasos_delivery_seconds_sum"] > 0.0 && now["petasos_delivery_seconds_sum"] < 60.0);
    assert!(now["petasos_log_bytes"] > 0.0 && now["petasos_log_lag_seconds"] >= 0.0);
    assert!(now["petasos_log_oldest_timestamp_seconds"] > 1.7e9);
    drop(former);
    let now = server.metrics_with("petasos_streams_closed_total{reason=\"client_left\"}", 1.0).await;
    assert_eq!((now[&streams("0.x")], now["mercure_subscribers_connected"]), (0.0, 1.0));
}

#[tokio::test]
async fn every_end_of_a_stream_has_its_reason() {
    let lifetime = petasos_hub::Settings { lifetime_max: Some(Duration::from_millis(100)), ..hub() };
    let server = Server::start_with(settings(), lifetime).await;
    let mut stream = server.subscribe("match=a", &[]).await;
    assert_eq!(stream.chunk().await, None);
    server.metrics_with("petasos_streams_closed_total{reason=\"lifetime\"}", 1.0).await;

    let server = Server::start_with(settings(), hub()).await;
    let mut stream = server.subscribe("match=a", &[]).await;
    server.connections.service().hub().drain(Duration::from_millis(1)).await;
    while stream.chunk().await.is_some() {}
    server.metrics_with("petasos_streams_closed_total{reason=\"drained\"}", 1.0).await;

    let server = Server::start_with(settings(), hub()).await;
    let mut stream = server.subscribe("match=a", &[]).await;
    server.connections.stop().await;
    while stream.chunk().await.is_some() {}
    let now = server.metrics_with("petasos_streams_closed_total{reason=\"stopping\"}", 1.0).await;
    assert_eq!((now["petasos_ready{check=\"hub\"}"], now["petasos_ready{check=\"log\"}"]), (0.0, 1.0));

    let (server, log) = start_faulty().await;
    let mut stream = server.subscribe("topic=a", &[]).await;
    log.lose();
    assert_eq!(stream.chunk().await, None);
    server.metrics_with("petasos_streams_closed_total{reason=\"log_lost\"}", 1.0).await;
}

/// The sum over all reasons is what has been opened and is not open any more.
#[tokio::test]
async fn no_stream_ends_without_a_reason_or_with_two() {
    let server = Server::start_with(settings(), hub()).await;
    let mut streams = Vec::new();
    for number in 0..20 {
        streams.push(server.subscribe(&format!("match=a&match={number}"), &[]).await);
    }
    streams.truncate(7);
    publish(&server, "topic=a&data=x").await;
    let now = server.metrics_with("mercure_subscribers_connected", 7.0).await;
    assert_eq!((now["petasos_streams_opened_total"], ended(&now)), (20.0, 13.0));
    server.connections.stop().await;
    let now = server.metrics_with("mercure_subscribers_connected", 0.0).await;
    assert_eq!((now["petasos_streams_opened_total"], ended(&now)), (20.0, 20.0));
}

fn ended(metrics: &Metrics) -> f64 {
    metrics
        .iter()
        .filter(|(name, _)| name.starts_with("petasos_streams_closed_total{"))
        .map(|(_, count)| count)
        .sum()
}

#[tokio::test]
async fn a_subscriber_that_reads_nothing_waits_and_ends_with_its_time_out_or_catches_up() {
    if !is_direct() {
        return;
    }
    let write_timeout = Duration::from_millis(500);
    let server = Server::start_with(Settings { write_timeout, ..settings() }, hub()).await;
    // A connection that comes before the server accepts has the default time-out.
    assert_eq!(server.request("GET", "/healthz", &[], b"").await.status, 200);
    let reads_nothing = server.subscribe("topic=a", &[]).await;
    let data = format!("topic=a&data={}", "x".repeat(500_000));
    // More than the buffers of both ends hold.
    let mut waiting_bytes = 0.0_f64;
    for _ in 0..24 {
        publish(&server, &data).await;
        waiting_bytes = waiting_bytes.max(server.metrics().await["petasos_waiting_bytes"]);
    }
    assert!(waiting_bytes > 1e6, "{waiting_bytes}");
    server.metrics_with("petasos_streams_closed_total{reason=\"write_timeout\"}", 1.0).await;
    // A shard counts what waits at the end of its round.
    let now = server.metrics_with("petasos_waiting_streams", 0.0).await;
    assert_eq!(now["petasos_waiting_bytes"], 0.0);
    drop(reads_nothing);

    let server = Server::start_with(settings(), hub()).await;
    let mut reads_late = server.subscribe("topic=a", &[]).await;
    while server.metrics().await["petasos_waiting_streams"] == 0.0 {
        publish(&server, &data).await;
    }
    publish(&server, "topic=a&id=last").await;
    let mut bytes = vec![0; 1 << 20];
    let read = async {
        let mut end = Vec::new();
        while !String::from_utf8_lossy(&end).contains("id: last\n") {
            let length = reads_late.reader.read(&mut bytes).await.expect("bytes");
            assert_ne!(length, 0);
            end.extend_from_slice(&bytes[length.saturating_sub(200)..length]);
            end.drain(..end.len().saturating_sub(400));
        }
    };
    timeout(PATIENCE, read).await.expect("the last event");
    let now = server.metrics_with("petasos_waiting_streams", 0.0).await;
    assert_eq!(now["petasos_waiting_bytes"], 0.0);
}

#[tokio::test]
async fn a_replay_is_complete_has_a_gap_or_does_not_know_the_id() {
    let server = Server::start_on(Arc::new(MemoryTransport::new(3)), settings(), hub()).await;
    for id in 1..=3 {
        publish(&server, &format!("topic=a&id={id}")).await;
    }
    let outcome = |outcome| format!("petasos_replays_total{{outcome=\"{outcome}\"}}");
    let replay = async |cursor: &str, frames: usize| {
        let mut stream = server.subscribe(&format!("topic=a&lastEventID={cursor}"), &[]).await;
        for _ in 0..frames {
            stream.event().await;
        }
    };
    replay("1", 2).await;
    let now = server.metrics().await;
    assert_eq!(
        (now[&outcome("complete")], now[&outcome("gap")], now[&outcome("unknown_id")]),
        (1.0, 0.0, 0.0)
    );
    replay("never-published", 3).await;
    replay("earliest", 3).await;
    let now = server.metrics().await;
    assert_eq!(
        (now[&outcome("complete")], now[&outcome("gap")], now[&outcome("unknown_id")]),
        (2.0, 0.0, 1.0)
    );
    assert!(now["petasos_replayed_updates_total"] >= 6.0, "{}", now["petasos_replayed_updates_total"]);
    // A stream without a cursor replays nothing.
    drop(server.subscribe("topic=a", &[]).await);
    assert_eq!(server.metrics().await[&outcome("complete")], 2.0);
}

/// Subscription events are trimmed apart: one may be kept while updates that followed it are gone.
#[tokio::test]
async fn a_cursor_that_is_kept_may_have_a_gap_behind_it() {
    let hub = petasos_hub::Settings { subscriptions: true, ..hub() };
    let server = Server::start_on(Arc::new(MemoryTransport::new(3)), settings(), hub).await;
    let mut watcher = server.subscribe("topic=*", &[&subscriber()]).await;
    let event = watcher.event().await;
    let id = event.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    // What a shard remembers is no gap.
    let hub = server.connections.service().hub();
    for _ in 0..2_000 {
        let draft = request::publish(b"topic=a", hub.url(), &Limits::default()).expect("valid");
        hub.publish(draft).await.expect("it is taken");
    }
    drop(server.subscribe(&format!("topic=a&lastEventID={id}"), &[]).await);
    server.metrics_with("petasos_replays_total{outcome=\"gap\"}", 1.0).await;
}

#[tokio::test]
async fn refusals_are_counted_by_status_and_reason() {
    let server = Server::start_with(Settings { anonymous: false, ..settings() }, hub()).await;
    let kind =
        |status, reason: &str| format!("petasos_refused_total{{status=\"{status}\",reason=\"{reason}\"}}");
    assert_eq!(server.publish_with("X: y", b"topic=a").await.status, 401);
    assert_eq!(server.publish_with(&publisher(), b"data=x").await.status, 400);
    assert_eq!(server.request("GET", HUB, &[&subscriber()], b"").await.status, 400);
    assert_eq!(server.request("GET", "/nothing", &[], b"").await.status, 404);
    let now = server.metrics().await;
    for (status, reason) in
        [(401, "token-missing"), (400, "topic-missing"), (400, "matcher-missing"), (404, "not-found")]
    {
        assert_eq!(now[&kind(status, reason)], 1.0, "{status} {reason}");
    }
    assert_eq!(now["petasos_publish_seconds_count{result=\"refused\"}"], 2.0);
    let refused = now.iter().filter(|(name, _)| name.starts_with("petasos_refused_total{"));
    assert_eq!(refused.map(|(_, count)| count).sum::<f64>(), 4.0);
}

#[tokio::test]
async fn an_unavailable_log_shows_in_its_own_numbers() {
    let (server, log) = start_faulty().await;
    log.away();
    assert_eq!(server.publish_with(&publisher(), b"topic=a").await.status, 503);
    let now = server.metrics().await;
    for (name, value) in [
        ("petasos_log_up", 0.0),
        ("petasos_ready{check=\"log\"}", 0.0),
        ("petasos_ready{check=\"hub\"}", 1.0),
        ("mercure_updates_failed_total", 1.0),
        ("mercure_updates_total", 0.0),
        ("petasos_publish_seconds_count{result=\"failed\"}", 1.0),
        ("petasos_refused_total{status=\"503\",reason=\"unavailable\"}", 1.0),
    ] {
        assert_eq!(now[name], value, "{name}");
    }
    log.back();
    assert_eq!(server.metrics().await["petasos_log_up"], 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_that_are_far_ahead_are_held_and_counted() {
    let server = Server::start_with(settings(), hub()).await;
    let _stream = server.subscribe("topic=a", &[]).await;
    let hub = server.connections.service().hub();
    let held = async {
        while server.metrics().await["petasos_publishers_held_total"] == 0.0 {
            let mut publishers = JoinSet::new();
            for _ in 0..500 {
                let hub = hub.clone();
                let draft =
                    request::publish(b"topic=a&data=x", hub.url(), &Limits::default()).expect("valid");
                publishers.spawn(async move { hub.publish(draft).await.expect("it is taken") });
            }
            publishers.join_all().await;
        }
    };
    timeout(PATIENCE, held).await.expect("more than 128 are ahead at once");
}

/// A scrape looks at no stream.
#[tokio::test]
async fn labels_have_no_topics_ids_or_addresses() {
    let server = Server::start_with(settings(), hub()).await;
    let before: Vec<_> = server.metrics().await.into_keys().collect();
    let _stream = server.subscribe("match=https://secret.example/1&match=other", &[]).await;
    publish(&server, "topic=https://secret.example/1&id=secret").await;
    let after: Vec<_> = server.metrics().await.into_keys().collect();
    let new: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(new, ["petasos_log_oldest_timestamp_seconds"], "and nothing that the requests named");
}
