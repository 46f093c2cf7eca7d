//! What the HTTP side needs to know, beside the hub.

use std::time::Duration;

use petasos_auth::Issuers;
use petasos_protocol::Limits;

use crate::http::{
    admission::StreamLimits, alternatives::AlternativeServices, cors::Origins, proxies::Proxies,
};

/// What the HTTP side needs to know, beside the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds on what a peer may send.
    pub limits: Limits,
    /// The issuers whose tokens are accepted, and what those tokens must say; also whether protocol 0.x is served.
    pub issuers: Issuers,
    /// Whether a subscriber needs no token. Default false.
    pub anonymous: bool,
    /// Whether POST is answered. Default true.
    pub publish: bool,
    /// What a client certificate means for a publisher. Default: nothing.
    pub publisher_certificate: PublisherCertificate,
    /// The name of the cookie that may carry a token. Default `__Secure-mercure_access_token`.
    pub cookie_name: String,
    /// With 0.x: another cookie that may carry a token. It counts after the first one. Default `mercureAuthorization`.
    pub legacy_cookie_name: Option<String>,
    /// Whether the hub's URL is the one that clients use. Metadata is then served under it and named in challenges.
    /// Default false: clients may use another URL.
    pub advertise: bool,
    /// The origins whose scripts may read answers. Default none.
    pub cors: Origins,
    /// The origins, beside the hub's own, whose pages may publish with a cookie. Default none.
    pub publish_origins: Origins,
    /// Bounds on open streams. Beyond them a subscriber is told to come back later (429).
    pub streams: StreamLimits,
    /// The proxies whose word is taken for a client's address. Default none.
    pub proxies: Proxies,
    /// Open connections; beyond them a new one is closed at once. Default 110,000.
    pub connections_max: usize,
    /// The time in which the head of a request must arrive, from its first byte on; also the time in which a new connection
    /// must send its first byte. Default 10 s.
    pub head_timeout: Duration,
    /// How long a connection may wait for its next request. Longer than the 60 s for which nginx and the load balancers of
    /// clouds keep a connection: the side that sends requests must be the one that closes, or it sends one into a
    /// connection that is just being closed. Default 75 s.
    pub idle_timeout: Duration,
    /// Connections that may wait for a request; beyond it, the connection that has waited longest is closed. Default
    /// 10,000: enough for many publishers and proxies, at some kilobytes each.
    pub idle_max: usize,
    /// Connections on which a part of a head has come, or whose peers do not read their answers. Beyond it, the connection
    /// that has been so for longest is closed. Default 1,024: each may hold 64 KiB of a head and as much of answers, 128 MiB
    /// together. A head that comes in one piece is not counted.
    pub stalled_max: usize,
    /// The time in which a body must arrive. Default 30 s.
    pub body_timeout: Duration,
    /// How long a peer may leave what it was sent unacknowledged, or its window closed, before its connection is closed. The
    /// kernel's own patience is a quarter of an hour. Default 60 s. Used where the system has `TCP_USER_TIMEOUT`; elsewhere, over
    /// HTTP/2 and for clients that an application passes, a peer counts as taking something when its socket takes more.
    pub write_timeout: Duration,
    /// Whether HTTP/2 is spoken: over TLS where the client offers it, else where a connection begins with its preface. Default
    /// true.
    pub http2: bool,
    /// Where else the hub can be reached, as over HTTP/3 through a proxy; every answer says it. Default none.
    pub alt_svc: Option<AlternativeServices>,
    /// Whether streams on TCP sockets leave the HTTP library once their request is answered, which costs a tenth of the
    /// memory and of the work under load. The connection then ends with the stream. Default true.
    pub direct: bool,
}

/// What a certificate of a client that [`Tls`](crate::Tls) has verified means for a request that publishes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PublisherCertificate {
    /// Nothing.
    #[default]
    Ignored,
    /// A publisher needs one, beside its token.
    Needed,
    /// A publisher with one needs no token, and may publish on every topic. If it presents a token, that one counts.
    Enough,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            issuers: Issuers { trusted: Vec::new(), resource: String::new(), compat: true, prefixes: false },
            anonymous: false,
            publish: true,
            publisher_certificate: PublisherCertificate::default(),
            cookie_name: "__Secure-mercure_access_token".to_owned(),
            legacy_cookie_name: Some("mercureAuthorization".to_owned()),
            advertise: false,
            cors: Origins::default(),
            publish_origins: Origins::default(),
            streams: StreamLimits::default(),
            proxies: Proxies::default(),
            connections_max: 110_000,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            idle_max: 10_000,
            stalled_max: 1_024,
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            http2: true,
            alt_svc: None,
            direct: true,
        }
    }
}
