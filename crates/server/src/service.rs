//! From a request to its handler, and the settings that handlers share.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Version, header};
use petasos_hub::Hub;
use petasos_protocol::{Limits, legacy::SubscriptionsPath};

use crate::{Key, Origins, body::Body, publish, refusal::Refusal, subscribe, subscriptions};

/// What the HTTP side needs to know, beside the hub.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds on what a peer may send.
    pub limits: Limits,
    /// Verifies the tokens of publishers; `None`: nobody may publish over HTTP.
    pub publisher_key: Option<Key>,
    /// Verifies the tokens of subscribers; `None`: every token is refused.
    pub subscriber_key: Option<Key>,
    /// Whether a subscriber needs no token. Default false.
    pub anonymous: bool,
    /// Whether POST is answered. Default true.
    pub publish: bool,
    /// The name of the cookie that may carry a token. Default `mercureAuthorization`.
    pub cookie_name: String,
    /// Who may read answers from a script of another origin. Default nobody.
    pub cors: Origins,
    /// Who, beside the hub's own origin, may publish with a cookie. Default nobody.
    pub publish_origins: Origins,
    /// Open streams; beyond them a subscriber is told to come back later (429). Default 100,000.
    pub subscribers_max: usize,
    /// Open connections; beyond them a new one is closed at once. Default 110,000.
    pub connections_max: usize,
    /// The time in which the head of a request must arrive. Default 10 s.
    pub head_timeout: Duration,
    /// The time in which a body must arrive. Default 30 s.
    pub body_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            publisher_key: None,
            subscriber_key: None,
            anonymous: false,
            publish: true,
            cookie_name: "mercureAuthorization".to_owned(),
            cors: Origins::default(),
            publish_origins: Origins::default(),
            subscribers_max: 100_000,
            connections_max: 110_000,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// A hub that answers HTTP requests.
pub struct Service {
    pub(crate) hub: Hub,
    pub(crate) settings: Settings,
}

impl Service {
    /// Over a running hub.
    pub fn new(hub: Hub, settings: Settings) -> Self {
        Self { hub, settings }
    }

    /// The hub behind it.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Answers one request. Every request gets an answer.
    pub async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let method = request.method().clone();
        let origin = request.headers().clone();
        let answer = self.route(request).await;
        let mut response = answer.unwrap_or_else(|refusal| refusal.into_response(&method));
        self.settings.cors.apply(&origin, response.headers_mut());
        response
    }

    async fn route<B>(&self, request: Request<B>) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if request.version() == Version::HTTP_11
            && request.headers().get_all(header::HOST).iter().count() != 1
        {
            return Err(Refusal::HostMissing);
        }
        let path = request.uri().path();
        if path == self.hub.url().path() {
            let allow = if self.settings.publish { "GET, HEAD, OPTIONS, POST" } else { "GET, HEAD, OPTIONS" };
            return match *request.method() {
                Method::GET | Method::HEAD => subscribe::handle(self, &request.into_parts().0).await,
                Method::POST if self.settings.publish => publish::handle(self, request).await,
                Method::OPTIONS => Ok(Origins::preflight(allow)),
                _ => Err(Refusal::MethodNotAllowed { allow }),
            };
        }
        if let Some(path) = SubscriptionsPath::parse(self.hub.url(), path) {
            let allow = "GET, HEAD, OPTIONS";
            return match *request.method() {
                Method::GET | Method::HEAD => {
                    subscriptions::handle(self, &request.into_parts().0, &path).await
                }
                Method::OPTIONS => Ok(Origins::preflight(allow)),
                _ => Err(Refusal::MethodNotAllowed { allow }),
            };
        }
        Err(Refusal::NotFound)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("hub", &self.hub).field("settings", &self.settings).finish()
    }
}
