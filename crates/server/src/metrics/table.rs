//! Every metric, once: its name, its kind, its labels and what it says.
//!
//! The text for monitoring systems and docs/metrics.md are made from this table.

/// A metric: one number, or one for each combination of its labels' values.
#[derive(Debug)]
pub struct Family {
    /// The full name, as it is shown.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// What it says, in one sentence without a full stop.
    pub help: &'static str,
    /// Its labels. Their values are bounded in number.
    pub labels: &'static [Label],
}

/// A label, and the values that it has.
#[derive(Debug)]
pub struct Label {
    /// The name.
    pub name: &'static str,
    /// The values, in words.
    pub values: &'static str,
}

/// How the values of a metric behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the start of the process. The name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts values by size.
    Histogram,
    /// It is 1. The labels say what there is. The name ends with `_info`.
    Info,
}

impl Kind {
    /// The word for it, in documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

impl Family {
    /// The unit that the name ends with, if it does.
    pub fn unit(&self) -> Option<&'static str> {
        let stem = self.name.strip_suffix("_total").unwrap_or(self.name);
        ["seconds", "bytes"].into_iter().find(|unit| stem.ends_with(&format!("_{unit}")))
    }
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal = $values:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $id: Family = Family {
                name: $name,
                kind: Kind::$kind,
                help: $help,
                labels: &[$(Label { name: $label, values: $values }),*],
            };
        )*

        /// All metrics, in the order in which they are shown.
        pub static FAMILIES: &[&Family] = &[$(&$id),*];
    };
}

families! {
    SUBSCRIBERS_CONNECTED: Gauge "mercure_subscribers_connected" []
        "Streams that are open; the name is that of the reference hub";
    SUBSCRIBERS_TOTAL: Counter "mercure_subscribers_total" []
        "Streams that have begun; the name is that of the reference hub";
    UPDATES_TOTAL: Counter "mercure_updates_total" []
        "Updates that publishers have appended to the log through this node; the name is that of the reference hub";
    UPDATES_FAILED_TOTAL: Counter "mercure_updates_failed_total" []
        "Updates that the log did not take; the name is that of the reference hub";

    BUILD_INFO: Info "petasos_build_info" ["version" = "the version of the hub"]
        "The hub that runs";
    READY: Gauge "petasos_ready" ["check" = "`hub`, `log`, `capacity`, `drain`; with ACME `certificate`"]
        "1 while a condition is met that the hub needs to do its work, else 0";

    PUBLISH_SECONDS: Histogram "petasos_publish_seconds" ["result" = "`ok`, `refused` (the request's fault), `failed` (the hub's)"]
        "Time of a request that publishes, from its head to its answer, with the time that it was held back";
    APPEND_SECONDS: Histogram "petasos_append_seconds" []
        "Time that the log took to append an update, with the time that the update waited for room";
    APPEND_BATCH_SIZE: Histogram "petasos_append_batch_size" []
        "Entries that were written to the store together, where the log writes batches";
    PUBLISHERS_HELD_TOTAL: Counter "petasos_publishers_held_total" []
        "Publishers that were answered later because they were far ahead of the fan-out";

    DELIVERY_SECONDS: Histogram "petasos_delivery_seconds" []
        "Time from the acceptance of an entry by this node until it was written to the last socket of a shard; one value for each entry and shard with a stream that gets it";
    DELIVERIES_TOTAL: Counter "petasos_deliveries_total" []
        "Updates that were given to live streams, counted once for each stream; subscription events count, too";
    DELIVERED_BYTES_TOTAL: Counter "petasos_delivered_bytes_total" []
        "Bytes of the events that were given to live streams";

    STREAMS: Gauge "petasos_streams" ["dialect" = "`0.x`, `1.0`", "carrier" = "`socket` (the hub writes to the socket by itself), `polled` (the HTTP library does, or the task of its connection over HTTP/2)"]
        "Streams that are open";
    STREAMS_OPENED_TOTAL: Counter "petasos_streams_opened_total" []
        "Streams that have begun";
    STREAMS_CLOSED_TOTAL: Counter "petasos_streams_closed_total" ["reason" = "`client_left`, `lifetime`, `lagged`, `log_lost`, `stopping`, `write_timeout`, `drained`, `revoked`"]
        "Streams that have ended";
    REFUSED_TOTAL: Counter "petasos_refused_total" ["status" = "the status of the answer", "reason" = "the end of the problem's `type`"]
        "Requests that were refused";
    HTTP_CONNECTIONS: Gauge "petasos_http_connections" ["protocol" = "`http/1.1`, also before the first request; `http/2`"]
        "Connections that are open";
    HTTP_STREAMS: Gauge "petasos_http_streams" ["protocol" = "`http/1.1`, `http/2`"]
        "Streams that are open";
    HTTP_REQUESTS_TOTAL: Counter "petasos_http_requests_total" ["protocol" = "`http/1.1`, `http/2`"]
        "Requests that have come";
    TLS_HANDSHAKES_TOTAL: Counter "petasos_tls_handshakes_total" ["version" = "`1.2`, `1.3`", "kind" = "`full`, `resumed` (the client has come back within some hours)"]
        "Handshakes of TLS that were completed";
    TLS_HANDSHAKES_FAILED_TOTAL: Counter "petasos_tls_handshakes_failed_total" []
        "Connections that ended before their handshake of TLS: the client left, was slow, broke a rule, or refused the certificate";
    TLS_CERTIFICATE_EXPIRES_TIMESTAMP_SECONDS: Gauge "petasos_tls_certificate_expires_timestamp_seconds" ["name" = "the first name that the certificate is for; there are 33 certificates at most", "source" = "`file`, `acme`"]
        "When a certificate of the hub expires, in seconds since 1970";
    ACME_ORDERS_TOTAL: Counter "petasos_acme_orders_total" ["outcome" = "`issued`, `failed`"]
        "Certificates that this node has ordered from the certification authority";
    ACME_LAST_ORDER_SUCCESSFUL: Gauge "petasos_acme_last_order_successful" []
        "1 if the last order of a certificate succeeded, of whichever node, and this node could save it, or if there was none; else 0";
    REPLAYS_TOTAL: Counter "petasos_replays_total" ["outcome" = "`complete`, `gap` (a part of what followed the cursor was trimmed), `unknown_id` (the log does not hold the cursor: it was trimmed with what followed it, or never published)"]
        "Streams that began with a cursor";
    REPLAYED_UPDATES_TOTAL: Counter "petasos_replayed_updates_total" []
        "Updates and subscription events that were read from the history for streams";
    WAITING_STREAMS: Gauge "petasos_waiting_streams" []
        "Live streams that have not taken everything yet";
    WAITING_BYTES: Gauge "petasos_waiting_bytes" []
        "Bytes that live streams have not taken; the memory that they occupy is shared and far smaller";

    LOG_UP: Gauge "petasos_log_up" []
        "1 while the log answers, else 0";
    LOG_LAG_SECONDS: Gauge "petasos_log_lag_seconds" []
        "Time that this node needed to deliver everything up to the end of the log; it grows while the node is behind";
    LOG_UPDATES: Gauge "petasos_log_updates" []
        "Updates that the log holds, where it can tell";
    LOG_BYTES: Gauge "petasos_log_bytes" []
        "Bytes of the updates that the log holds, where it can tell";
    LOG_OLDEST_TIMESTAMP_SECONDS: Gauge "petasos_log_oldest_timestamp_seconds" []
        "When the oldest update that the log holds was appended, in seconds since 1970, where the log can tell";
    LOG_LINES_DROPPED_TOTAL: Counter "petasos_log_lines_dropped_total" []
        "Lines for standard error that were dropped because nothing read it in time";

    CONFIG_LAST_RELOAD_SUCCESSFUL: Gauge "petasos_config_last_reload_successful" []
        "1 if the last reload of the settings succeeded, or none was asked for; else 0";
    CONFIG_LAST_RELOAD_SUCCESS_TIMESTAMP_SECONDS: Gauge "petasos_config_last_reload_success_timestamp_seconds" []
        "When the settings in force were read, in seconds since 1970";

    TOPIC_UPDATES_TOTAL: Counter "petasos_topic_updates_total" ["group" = "the URI templates of the setting `metrics_groups`, 100 at most"]
        "Updates that publishers have appended through this node, for each group of topics";
    TOPIC_DELIVERIES_TOTAL: Counter "petasos_topic_deliveries_total" ["group" = "the URI templates of the setting `metrics_groups`, 100 at most"]
        "Updates that were given to live streams, counted once for each stream, for each group of topics";

    PROCESS_CPU_SECONDS_TOTAL: Counter "process_cpu_seconds_total" []
        "Processor time of the process";
    PROCESS_RESIDENT_MEMORY_BYTES: Gauge "process_resident_memory_bytes" []
        "Memory of the process that is in RAM";
    PROCESS_VIRTUAL_MEMORY_BYTES: Gauge "process_virtual_memory_bytes" []
        "Address space of the process";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" []
        "Open files of the process";
    PROCESS_MAX_FDS: Gauge "process_max_fds" []
        "Files that the process may have open";
    PROCESS_START_TIME_SECONDS: Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970";
    PROCESS_THREADS: Gauge "process_threads" []
        "Threads of the process";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The row of a metric in the documentation.
    fn row(family: &Family) -> String {
        let Family { name, kind, help, labels } = family;
        let labels: Vec<_> =
            labels.iter().map(|label| format!("`{}`: {}", label.name, label.values)).collect();
        format!("| `{name}` | {} | {} | {help} |", kind.name(), labels.join("; "))
    }

    #[test]
    fn the_documentation_has_a_row_for_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        let missing: Vec<_> = FAMILIES
            .iter()
            .map(|family| row(family))
            .filter(|row| !text.lines().any(|line| line == row))
            .collect();
        assert!(missing.is_empty(), "docs/metrics.md lacks:\n{}", missing.join("\n"));
        let rows = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, FAMILIES.len(), "docs/metrics.md has a metric that does not exist");
    }

    #[test]
    fn names_are_unique_and_end_as_their_kinds_demand() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for Family { name, kind, help, .. } in FAMILIES {
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), *kind == Kind::Info, "{name}");
            assert!(!help.ends_with('.') && !help.contains(['\n', '\\', '|']), "{name}");
        }
        assert_eq!(PROCESS_CPU_SECONDS_TOTAL.unit(), Some("seconds"));
        assert_eq!((WAITING_BYTES.unit(), READY.unit()), (Some("bytes"), None));
    }
}
