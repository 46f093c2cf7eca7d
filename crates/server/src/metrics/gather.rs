//! From what the parts of a hub have counted to the values of its metrics.

use std::time::SystemTime;

use petasos_hub::metrics::{Check, LogSnapshot, Snapshot};

use super::{
    protocols::NAMES,
    requests::Requests,
    samples::Samples,
    table::{
        APPEND_BATCH_SIZE, APPEND_SECONDS, DELIVERED_BYTES_TOTAL, DELIVERIES_TOTAL, DELIVERY_SECONDS,
        HTTP_REQUESTS_TOTAL, HTTP_STREAMS, LOG_BYTES, LOG_LAG_SECONDS, LOG_OLDEST_TIMESTAMP_SECONDS, LOG_UP,
        LOG_UPDATES, PUBLISH_SECONDS, PUBLISHERS_HELD_TOTAL, READY, REFUSED_TOTAL, REPLAYED_UPDATES_TOTAL,
        REPLAYS_TOTAL, STREAMS, STREAMS_CLOSED_TOTAL, STREAMS_OPENED_TOTAL, SUBSCRIBERS_CONNECTED,
        SUBSCRIBERS_TOTAL, TLS_HANDSHAKES_FAILED_TOTAL, TLS_HANDSHAKES_TOTAL, TOPIC_DELIVERIES_TOTAL,
        TOPIC_UPDATES_TOTAL, UPDATES_FAILED_TOTAL, UPDATES_TOTAL, WAITING_BYTES, WAITING_STREAMS,
    },
};

/// The values that a hub and its HTTP side know.
pub(crate) fn gather(snapshot: Snapshot, checks: &[Check], requests: &Requests) -> Samples {
    let mut samples = Samples::default();
    let s = &mut samples;
    s.push(&SUBSCRIBERS_CONNECTED, &[], snapshot.open());
    s.push(&SUBSCRIBERS_TOTAL, &[], snapshot.opened);
    s.push(&UPDATES_TOTAL, &[], snapshot.published);
    s.push(&UPDATES_FAILED_TOTAL, &[], snapshot.failed);
    for check in checks {
        s.push(&READY, &[check.name], check.is_ok);
    }
    for (result, times) in requests.publishes() {
        s.push(&PUBLISH_SECONDS, &[result.name()], times);
    }
    for ((status, reason), count) in requests.refusals() {
        s.push(&REFUSED_TOTAL, &[&status.to_string(), reason], count);
    }
    for (name, count) in NAMES.iter().zip(requests.protocols.streams(snapshot.open() as u64)) {
        s.push(&HTTP_STREAMS, &[name], count);
    }
    for (name, count) in NAMES.iter().zip(requests.protocols.requests()) {
        s.push(&HTTP_REQUESTS_TOTAL, &[name], count);
    }
    for (labels, count) in requests.handshakes.all_completed() {
        s.push(&TLS_HANDSHAKES_TOTAL, &labels, count);
    }
    s.push(&TLS_HANDSHAKES_FAILED_TOTAL, &[], requests.handshakes.all_failed());
    s.push(&APPEND_SECONDS, &[], snapshot.appends);
    s.push(&PUBLISHERS_HELD_TOTAL, &[], snapshot.held);
    s.push(&DELIVERY_SECONDS, &[], snapshot.delays);
    s.push(&DELIVERIES_TOTAL, &[], snapshot.deliveries);
    s.push(&DELIVERED_BYTES_TOTAL, &[], snapshot.delivered_bytes);
    for streams in &snapshot.streams {
        s.push(&STREAMS, &[streams.dialect, streams.carrier], streams.open);
    }
    s.push(&STREAMS_OPENED_TOTAL, &[], snapshot.opened);
    for (reason, count) in &snapshot.closed {
        s.push(&STREAMS_CLOSED_TOTAL, &[reason.name()], *count);
    }
    for (outcome, count) in &snapshot.replays {
        s.push(&REPLAYS_TOTAL, &[outcome.name()], *count);
    }
    s.push(&REPLAYED_UPDATES_TOTAL, &[], snapshot.replayed);
    s.push(&WAITING_STREAMS, &[], snapshot.waiting_streams);
    s.push(&WAITING_BYTES, &[], snapshot.waiting_bytes);
    for group in &snapshot.groups {
        s.push(&TOPIC_UPDATES_TOTAL, &[&group.group], group.updates);
        s.push(&TOPIC_DELIVERIES_TOTAL, &[&group.group], group.deliveries);
    }
    gather_log(snapshot.log, s);
    samples
}

fn gather_log(log: LogSnapshot, samples: &mut Samples) {
    let LogSnapshot { is_readable, is_ready: _, lag, extent, batches } = log;
    samples.push(&LOG_UP, &[], is_readable);
    if let Some(lag) = lag {
        samples.push(&LOG_LAG_SECONDS, &[], lag.as_secs_f64());
    }
    if let Some(updates) = extent.updates {
        samples.push(&LOG_UPDATES, &[], updates);
    }
    if let Some(bytes) = extent.bytes {
        samples.push(&LOG_BYTES, &[], bytes);
    }
    if let Some(oldest) = extent.oldest {
        samples.push(&LOG_OLDEST_TIMESTAMP_SECONDS, &[], unix_seconds(oldest));
    }
    if let Some(batches) = batches {
        samples.push(&APPEND_BATCH_SIZE, &[], batches);
    }
}

/// Seconds since 1970.
pub(crate) fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
