//! From a request to its handler.

use std::{
    fmt,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use http::{Method, Request, Response, Version, header};
use petasos_hub::{Hub, metrics::Check};

use crate::{
    Settings,
    http::{
        admission::Streams,
        answer::Answer,
        body::{Body, RequestBody},
        context::Context,
        event_source, metadata,
        peer::Peer,
        probe::Probe,
        publish,
        refusal::Refusal,
        subscribe,
        subscriptions::{self, Asked},
    },
    metrics::{
        gather::gather,
        requests::{PublishResult, Requests},
        samples::Samples,
    },
};

/// A hub that answers HTTP requests.
pub struct Service {
    hub: Hub,
    streams: Arc<Streams>,
    requests: Arc<Requests>,
    /// What requests that begin now use.
    current: RwLock<Arc<Context>>,
    /// What the program finds out beside the hub.
    further: OnceLock<FurtherCheck>,
}

/// A check of the program.
type FurtherCheck = Box<dyn Fn() -> Check + Send + Sync>;

impl Service {
    /// For a running hub.
    pub fn new(hub: Hub, settings: Settings) -> Self {
        let context = Context::new(hub.clone(), settings);
        Self {
            hub,
            streams: Arc::clone(&context.streams),
            requests: Arc::clone(&context.requests),
            current: RwLock::new(Arc::new(context)),
            further: OnceLock::new(),
        }
    }

    /// Has the program find out something more that the hub needs to do its work. The first call counts.
    pub fn check_further(&self, check: impl Fn() -> Check + Send + Sync + 'static) {
        let _ = self.further.set(Box::new(check));
    }

    /// The hub behind it.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What the hub needs to do its work, each with what was found. It is ready while all of it is met.
    pub fn checks(&self) -> Vec<Check> {
        let further = self.further.get().map(|check| check());
        self.hub().checks().into_iter().chain(further).collect()
    }

    /// The values of all metrics that the hub and its HTTP side know. It waits a tenth of a second at most, for a look at the
    /// log.
    pub async fn metrics(&self) -> Samples {
        let snapshot = self.hub().snapshot().await;
        gather(snapshot, &self.checks(), &self.requests)
    }

    /// What requests have come to.
    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Counts the open streams.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.context().settings)
    }

    /// What requests that begin now use.
    fn context(&self) -> Arc<Context> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings into force, for requests that begin later.
    pub(crate) fn set_settings(&self, settings: Settings) {
        let limits = settings.streams;
        let next = Arc::new(self.context().with_settings(settings));
        self.streams.set_limits(limits);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Ends the streams that the settings in force would not let in any more, evenly over that time: those of tokens whose key or
    /// issuer is gone, and those without a token where it takes one now. `None`: no stream ends, and none of those that a
    /// former call has not ended yet.
    pub async fn revoke(&self, within: Option<Duration>) {
        match within {
            Some(within) => self.hub.revoke(Some(self.context().admissions()), within).await,
            None => self.hub.revoke(None, Duration::ZERO).await,
        }
    }

    /// Answers one request, for servers that do not use [`Connections`](crate::Connections). Every request gets an answer.
    /// The body of a stream is to be polled; dropping it unsubscribes. Streams are not counted by address.
    pub async fn call(&self, request: Request<impl RequestBody>) -> Response<Body> {
        self.answer(request, Peer::default()).await.into_response()
    }

    /// Answers one request of a peer.
    pub(crate) async fn answer(&self, request: Request<impl RequestBody>, peer: Peer) -> Answer {
        let context = &*self.context();
        let cors = &context.settings.cors;
        let method = request.method().clone();
        context.requests.protocols.requested(request.version());
        let access = cors.access(request.headers());
        let is_stream = method == Method::GET && request.uri().path() == context.hub.url().path();
        let is_browser = is_stream && event_source::is_browser(request.headers());
        let mut answer = route(context, request, peer).await.unwrap_or_else(|refusal| {
            context.requests.refused(refusal.kind());
            Answer::Whole(match is_browser && refusal.will_pass() {
                true => event_source::come_back(&refusal),
                false => refusal.into_response(&method, context.metadata_url().as_deref()),
            })
        });
        cors.apply(access, answer.headers_mut());
        if let Some(services) = &context.settings.alt_svc {
            answer.headers_mut().insert(header::ALT_SVC, services.value());
        }
        answer
    }
}

async fn route(context: &Context, request: Request<impl RequestBody>, peer: Peer) -> Result<Answer, Refusal> {
    if request.version() >= Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1 {
        return Err(Refusal::HostMissing);
    }
    let path = request.uri().path();
    if path != context.hub.url().path() {
        return route_documents(context, request).await.map(Answer::Whole);
    }
    let allow = match context.settings.publish {
        true => "GET, HEAD, OPTIONS, POST, QUERY",
        false => "GET, HEAD, OPTIONS, QUERY",
    };
    match request.method().as_str() {
        "GET" | "HEAD" | "QUERY" => subscribe::handle(context, request, peer.address).await,
        "POST" if context.settings.publish => {
            let began = Instant::now();
            let answer = publish::handle(context, request, peer).await;
            let result = answer.as_ref().map_or_else(Refusal::publish_result, |_| PublishResult::Ok);
            context.requests.published(result, began.elapsed());
            answer.map(Answer::Whole)
        }
        "OPTIONS" => Ok(Answer::Whole(context.settings.cors.preflight(request.headers(), allow))),
        _ => Err(Refusal::MethodNotAllowed { allow }),
    }
}

/// Routes a request on another path than the hub's own.
async fn route_documents(
    context: &Context,
    request: Request<impl RequestBody>,
) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path();
    if let Some(probe) = Probe::parse(path) {
        return match request.method() {
            &Method::GET | &Method::HEAD => Ok(probe.answer(&context.hub)),
            _ => Err(Refusal::MethodNotAllowed { allow: "GET, HEAD" }),
        };
    }
    let allow = "GET, HEAD, OPTIONS";
    let is_metadata = context.metadata_path.as_deref() == Some(path);
    let asked = Asked::parse(context, path);
    match (request.method(), asked) {
        (_, None) if !is_metadata => Err(nothing_at(context, path)),
        (&Method::OPTIONS, _) => Ok(context.settings.cors.preflight(request.headers(), allow)),
        (&Method::GET | &Method::HEAD, Some(asked)) => {
            let head = request.into_parts().0;
            let answer = subscriptions::handle(context, &head, asked).await;
            answer.map_err(|refusal| match refusal {
                Refusal::NotFound => nothing_at(context, head.uri.path()),
                refusal => refusal,
            })
        }
        (&Method::GET | &Method::HEAD, None) => {
            Ok(metadata::answer(&context.metadata, request.method() == Method::GET))
        }
        _ => Err(Refusal::MethodNotAllowed { allow }),
    }
}

/// The refusal for a path at which there is nothing. It may be a path of the subscription API in which a proxy has
/// decoded encoded slashes.
fn nothing_at(context: &Context, path: &str) -> Refusal {
    let below = path.strip_prefix(context.hub.url().path());
    let Some(below) = below.and_then(|rest| rest.strip_prefix("/subscriptions/")) else {
        return Refusal::NotFound;
    };
    // The segment before the slashes of "https://".
    let has_scheme = below.split('/').any(|segment| segment.ends_with(':'));
    let is_long = Asked::parse(context, path).is_none() && below.split('/').count() > 2;
    if has_scheme || is_long { Refusal::PathDecoded } else { Refusal::NotFound }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("hub", self.hub()).field("settings", &self.settings()).finish()
    }
}
