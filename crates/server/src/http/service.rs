//! From a request to its handler, and the settings that handlers share.

use std::{fmt, sync::Arc, time::Duration};

use http::{Method, Request, Response, Version, header};
use petasos_auth::{Issuers, Verifier};
use petasos_hub::Hub;
use petasos_protocol::{Limits, discovery::Metadata, grants::Grants, topic::HubUrl};
use tokio::sync::Semaphore;

use crate::{
    http::admission::StreamLimits,
    http::admission::Streams,
    http::body::RequestBody,
    http::body::{Body, Room},
    http::cors::Origins,
    http::listing::LISTINGS_MAX,
    http::metadata,
    http::probe::Probe,
    http::proxies::Proxies,
    http::publish,
    http::refusal::Refusal,
    http::subscribe,
    http::subscriptions::{self, Asked},
};

/// What the HTTP side needs to know, beside the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds on what a peer may send.
    pub limits: Limits,
    /// Whose tokens are accepted, and what they must say; also whether protocol 0.x is served.
    pub issuers: Issuers,
    /// Whether a subscriber needs no token. Default false.
    pub anonymous: bool,
    /// Whether POST is answered. Default true.
    pub publish: bool,
    /// The name of the cookie that may carry a token. Default `__Secure-mercure_access_token`.
    pub cookie_name: String,
    /// With 0.x: another cookie that may carry a token; it is tried after the other. Default `mercureAuthorization`.
    pub legacy_cookie_name: Option<String>,
    /// Whether the hub's URL is the one that clients use: metadata is then served under it and named in challenges.
    /// Default false: it is not known.
    pub advertise: bool,
    /// Who may read answers from a script of another origin. Default nobody.
    pub cors: Origins,
    /// Who, beside the hub's own origin, may publish with a cookie. Default nobody.
    pub publish_origins: Origins,
    /// Open streams; beyond them a subscriber is told to come back later (429).
    pub streams: StreamLimits,
    /// Whose word is taken for a client's address. Default nobody's.
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
    /// Connections on which a part of a head has come, or whose peers do not read their answers; of more, the one that has been
    /// so for longest is closed. Default 1,024: each may hold 64 KiB of a head and as much of answers, 128 MiB together. A head
    /// mostly comes in one piece, and then it is not counted.
    pub stalled_max: usize,
    /// The time in which a body must arrive. Default 30 s.
    pub body_timeout: Duration,
    /// How long a peer may leave what it was sent unacknowledged, or its window closed. Vanished and stalled peers are
    /// let go of, where the kernel's own patience is a quarter of an hour. Default 60 s; used where the system has
    /// `TCP_USER_TIMEOUT`.
    pub write_timeout: Duration,
    /// Whether streams on TCP sockets leave the HTTP library once their request is answered, which costs a tenth of the
    /// memory and of the work under load; the connection then ends with the stream. Default true.
    pub direct: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            issuers: Issuers { trusted: Vec::new(), resource: String::new(), compat: true, prefixes: false },
            anonymous: false,
            publish: true,
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
            direct: true,
        }
    }
}

/// A hub that answers HTTP requests.
pub struct Service {
    pub(crate) hub: Hub,
    pub(crate) settings: Settings,
    pub(crate) verifier: Verifier,
    pub(crate) streams: Arc<Streams>,
    /// Permits to read the list of subscriptions.
    pub(crate) listings: Arc<Semaphore>,
    /// Room for bodies of publishers, and for bodies of QUERY requests.
    pub(crate) published: Room,
    pub(crate) queried: Room,
    pub(crate) metadata: Metadata,
    /// What the anonymous may do, once for all of them.
    pub(crate) nothing: Arc<Grants>,
    metadata_path: String,
}

impl Service {
    /// Over a running hub.
    pub fn new(hub: Hub, settings: Settings) -> Self {
        let servers = settings.issuers.trusted.iter().filter(|issuer| issuer.authorization_server);
        let metadata = Metadata {
            resource: settings.issuers.resource.clone(),
            authorization_servers: servers.map(|issuer| issuer.id.clone()).collect(),
            cookie: settings.cookie_name.clone(),
            subscriptions: hub.tracks_subscriptions(),
        };
        let (url, limits) = (hub.url().clone(), settings.limits.clone());
        let verifier = Verifier::new(settings.issuers.clone(), url, limits);
        let streams = Streams::new(settings.streams);
        let metadata_path = Metadata::path(hub.url());
        let listings = Arc::new(Semaphore::new(LISTINGS_MAX));
        let (published, queried) = (Room::for_publishers(), Room::for_subscribers());
        Self {
            hub,
            settings,
            verifier,
            streams,
            listings,
            published,
            queried,
            metadata,
            nothing: Arc::default(),
            metadata_path,
        }
    }

    /// The hub behind it.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Answers one request. Every request gets an answer.
    pub async fn call(&self, request: Request<impl RequestBody>) -> Response<Body> {
        let method = request.method().clone();
        let origin = request.headers().clone();
        let answer = self.route(request).await;
        let refuse = |refusal: Refusal| refusal.into_response(&method, self.metadata_url().as_deref());
        let mut response = answer.unwrap_or_else(refuse);
        self.settings.cors.apply(&origin, response.headers_mut());
        response
    }

    async fn route(&self, request: Request<impl RequestBody>) -> Result<Response<Body>, Refusal> {
        if request.version() == Version::HTTP_11
            && request.headers().get_all(header::HOST).iter().count() != 1
        {
            return Err(Refusal::HostMissing);
        }
        let path = request.uri().path();
        if path == self.hub.url().path() {
            let allow = match self.settings.publish {
                true => "GET, HEAD, OPTIONS, POST, QUERY",
                false => "GET, HEAD, OPTIONS, QUERY",
            };
            return match request.method().as_str() {
                "GET" | "HEAD" | "QUERY" => subscribe::handle(self, request).await,
                "POST" if self.settings.publish => publish::handle(self, request).await,
                "OPTIONS" => Ok(self.settings.cors.preflight(request.headers(), allow)),
                _ => Err(Refusal::MethodNotAllowed { allow }),
            };
        }
        if let Some(probe) = Probe::parse(path) {
            return match request.method() {
                &Method::GET | &Method::HEAD => Ok(probe.answer(&self.hub)),
                _ => Err(Refusal::MethodNotAllowed { allow: "GET, HEAD" }),
            };
        }
        let allow = "GET, HEAD, OPTIONS";
        let is_metadata = self.settings.advertise && path == self.metadata_path;
        let asked = Asked::parse(self, path);
        match (request.method(), asked) {
            (_, None) if !is_metadata => Err(self.nothing_at(path)),
            (&Method::OPTIONS, _) => Ok(self.settings.cors.preflight(request.headers(), allow)),
            (&Method::GET | &Method::HEAD, Some(asked)) => {
                let head = request.into_parts().0;
                let answer = subscriptions::handle(self, &head, asked).await;
                answer.map_err(|refusal| match refusal {
                    Refusal::NotFound => self.nothing_at(head.uri.path()),
                    refusal => refusal,
                })
            }
            (&Method::GET | &Method::HEAD, None) => {
                Ok(metadata::answer(self, request.method() == Method::GET))
            }
            _ => Err(Refusal::MethodNotAllowed { allow }),
        }
    }

    /// The refusal for a path at which there is nothing: perhaps a path of the subscription API in which a proxy has
    /// decoded encoded slashes.
    fn nothing_at(&self, path: &str) -> Refusal {
        let below = path.strip_prefix(self.hub.url().path());
        let Some(below) = below.and_then(|rest| rest.strip_prefix("/subscriptions/")) else {
            return Refusal::NotFound;
        };
        // The segment before the slashes of "https://".
        let has_scheme = below.split('/').any(|segment| segment.ends_with(':'));
        let is_long = Asked::parse(self, path).is_none() && below.split('/').count() > 2;
        if has_scheme || is_long { Refusal::PathDecoded } else { Refusal::NotFound }
    }

    /// The hub's URL as clients see it, if it is known.
    pub(crate) fn public_url(&self) -> Option<&HubUrl> {
        self.settings.advertise.then(|| self.hub.url())
    }

    /// Where clients find the hub: its URL, or its path if that is all that is known.
    pub(crate) fn address(&self) -> &str {
        self.public_url().map_or(self.hub.url().path(), |url| url.as_url().as_str())
    }

    fn metadata_url(&self) -> Option<String> {
        let origin = self.public_url()?.as_url().origin().ascii_serialization();
        Some(format!("{origin}{}", self.metadata_path))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("hub", &self.hub).field("settings", &self.settings).finish()
    }
}
