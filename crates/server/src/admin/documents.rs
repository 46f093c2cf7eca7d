//! The documents of the operators' port: metrics, health, readiness and status.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::{HeaderValue, StatusCode, header, request::Parts};
use petasos_hub::metrics::{LogSnapshot, Snapshot, StreamsSnapshot};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::{
    answer::{AdminAnswer, document, text},
    rates::{Rates, Totals, rounded},
};
use crate::{
    connection::connections::Connections,
    metrics::{exposition::Format, gather::unix_seconds, samples::Samples},
};

/// What a hub does not know of itself.
pub struct Facts {
    /// The version of the program.
    pub version: &'static str,
    /// Which kind of log there is: the scheme of its URL.
    pub log: String,
    /// Adds the values that only the program knows.
    pub add: Box<dyn Fn(&mut Samples) + Send + Sync>,
    /// When the program started.
    pub started: Instant,
}

const JSON: &str = "application/json";

/// All metrics, in the format that the client prefers.
pub(crate) async fn metrics(head: &Parts, connections: &Connections, facts: Arc<Facts>) -> AdminAnswer {
    let accept = head.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept.unwrap_or_default());
    let mut samples = connections.metrics().await;
    // The program asks the system, which may take tens of milliseconds.
    let added = spawn_blocking(move || {
        (facts.add)(&mut samples);
        samples
    });
    let Ok(samples) = added.await else {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be read\n");
    };
    let mut answer = document(StatusCode::OK, format.content_type(), format.render(&samples));
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    answer
}

/// Whether the hub lives.
pub(crate) fn healthz(connections: &Connections) -> AdminAnswer {
    let hub = connections.service().hub();
    match hub {
        hub if hub.has_failed() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the hub has failed: start it again\n")
        }
        hub if hub.needs_restart() => {
            text(StatusCode::SERVICE_UNAVAILABLE, "the log has failed: start the hub again\n")
        }
        _ => text(StatusCode::OK, "ok\n"),
    }
}

/// Whether the hub can do its work, and what each check found.
pub(crate) fn readyz(connections: &Connections) -> AdminAnswer {
    let checks = connections.service().checks();
    let is_ready = checks.iter().all(|check| check.is_ok);
    let shown = checks
        .iter()
        .map(|check| (check.name.to_owned(), json!({ "ok": check.is_ok, "found": check.found })));
    let body = json!({ "ready": is_ready, "checks": shown.collect::<serde_json::Map<_, _>>() });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    document(status, JSON, format!("{body:#}\n"))
}

/// What the hub does, for people and scripts.
pub(crate) async fn status(connections: &Connections, facts: &Facts, rates: &Rates) -> AdminAnswer {
    let hub = connections.service().hub();
    let snapshot = hub.snapshot().await;
    let body = json!({
        "version": facts.version,
        "uptime_seconds": rounded(facts.started.elapsed().as_secs_f64()),
        "ready": connections.service().checks().iter().all(|check| check.is_ok),
        "node": { "url": hub.url().as_url().as_str(), "shards": snapshot.shards },
        "streams": streams(&snapshot),
        "rates": rates.until(&Totals::now(connections)),
        "log": log(&snapshot.log, &facts.log),
    });
    document(StatusCode::OK, JSON, format!("{body:#}\n"))
}

fn streams(snapshot: &Snapshot) -> Value {
    let by = snapshot.streams.iter().map(|streams| {
        let StreamsSnapshot { dialect, carrier, open } = streams;
        json!({ "dialect": dialect, "carrier": carrier, "open": open })
    });
    json!({
        "open": snapshot.open(),
        "by": by.collect::<Vec<_>>(),
        "waiting": snapshot.waiting_streams,
        "waiting_bytes": snapshot.waiting_bytes,
    })
}

fn log(log: &LogSnapshot, transport: &str) -> Value {
    let LogSnapshot { is_readable, is_ready, lag, extent, .. } = log;
    json!({
        "transport": transport,
        "up": is_readable,
        "takes_updates": is_ready,
        "lag_seconds": lag.map(|lag| rounded(lag.as_secs_f64())),
        "updates": extent.updates,
        "bytes": extent.bytes,
        "oldest_timestamp_seconds": extent.oldest.map(|oldest| rounded(unix_seconds(oldest))),
        "now_timestamp_seconds": rounded(unix_seconds(SystemTime::now())),
    })
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, log, started, add: _ } = self;
        f.debug_struct("Facts")
            .field("version", version)
            .field("log", log)
            .field("started", started)
            .finish_non_exhaustive()
    }
}
