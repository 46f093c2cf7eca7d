//! How a hub behaves, whatever its transport.

use std::time::Duration;

use petasos_protocol::{event::EventType, matcher::Matcher, topic::HubUrl};

/// How a hub behaves, whatever its transport.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The URL of the hub; its path is the reserved namespace.
    pub url: HubUrl,
    /// The time after which an idle stream sends a comment; `None`: never. Default 15 s, below the 30 to 60 s after
    /// which proxies cut idle connections.
    pub keep_alive: Option<Duration>,
    /// The time that a client waits before it connects again, as each stream says at its beginning; `None`: the client's own.
    /// Up to a tenth more or less, so that streams that end together do not come back together. Default 3 s, which is what
    /// browsers wait by themselves.
    pub retry: Option<Duration>,
    /// The longest that a stream may last, so that its subscriber has to present its token again. Each stream ends up to
    /// a tenth earlier, so that streams that began together do not come back together. `None`, the default: no bound.
    pub lifetime_max: Option<Duration>,
    /// Whether subscriptions are announced and listed. Default true.
    pub subscriptions: bool,
    /// The SSE `event` of 0.x subscription events. The specification gives none, which is the default.
    pub subscription_event_type: Option<EventType>,
    /// The number of shards, which are threads that fan out side by side; at least one. Default: one per core.
    pub shards: usize,
    /// Bytes that the matchers of all subscribers, the grants of their tokens and their payloads may take together.
    /// Beyond it, new subscribers are refused ([`crate::SubscribeError::NoRoom`]). Half of it is kept for subscribers
    /// that bring 8 KiB or less. Default 128 MiB: 1.3 KB for each of 100,000 streams; one topic takes about half of that.
    pub subscribers_bytes_max: usize,
    /// How long a subscriber with a cursor waits for an unavailable log before it is refused. Default 30 s: longer than
    /// most restarts, and below the minute after which proxies give up.
    pub log_wait_max: Duration,
    /// Groups of topics whose updates and deliveries are counted apart; an update counts in each group that selects one of its
    /// topics. Each costs a comparison for each update and shard. Default none.
    pub metrics_groups: Vec<Matcher>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: HubUrl::default(),
            keep_alive: Some(Duration::from_secs(15)),
            retry: Some(Duration::from_secs(3)),
            lifetime_max: None,
            subscriptions: true,
            subscription_event_type: None,
            shards: std::thread::available_parallelism().map_or(1, usize::from),
            subscribers_bytes_max: 128 * 1024 * 1024,
            log_wait_max: Duration::from_secs(30),
            metrics_groups: Vec::new(),
        }
    }
}
