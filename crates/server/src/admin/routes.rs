//! Which request of an operator gets which answer, and who may ask.

use std::{fmt, hint::black_box, net::IpAddr, pin::Pin, sync::Arc};

use http::{HeaderValue, Method, StatusCode, header, request::Parts, uri::Authority};
use http_body_util::Full;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    answer::{AdminAnswer, document, text},
    documents::{self, Facts},
    rates::Rates,
};
use crate::connection::connections::Connections;

/// A request of one method at one path, and its answer.
pub struct Route {
    method: Method,
    path: &'static str,
    /// Whether everybody who reaches the port may ask.
    is_open: bool,
    handler: Handler,
}

type Handler = Box<dyn Fn(Parts) -> Pin<Box<dyn Future<Output = AdminAnswer> + Send>> + Send + Sync>;

/// What operators may ask of a hub.
pub struct Admin {
    routes: Vec<Route>,
    token: Option<Zeroizing<Box<[u8]>>>,
}

impl Route {
    /// A route that asks for the token, if there is one.
    pub fn new<F>(
        method: Method,
        path: &'static str,
        handler: impl Fn(Parts) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = AdminAnswer> + Send + 'static,
    {
        Self { method, path, is_open: false, handler: Box::new(move |head| Box::pin(handler(head))) }
    }

    /// A route that does something when it gets a POST, and answers in JSON: 200 with what has been done, 422 with why nothing
    /// has.
    pub fn action<F>(path: &'static str, act: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Value, Value>> + Send + 'static,
    {
        Self::new(Method::POST, path, move |_| {
            let done = act();
            async move {
                let (status, body) = match done.await {
                    Ok(body) => (StatusCode::OK, body),
                    Err(body) => (StatusCode::UNPROCESSABLE_ENTITY, body),
                };
                document(status, "application/json", format!("{body:#}\n"))
            }
        })
    }

    /// The same route without a token: orchestrators send none.
    fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    fn has_method(&self, method: &Method) -> bool {
        self.method == method || self.method == Method::GET && method == Method::HEAD
    }
}

impl Admin {
    /// Metrics, health and status of a hub. With a token, only requests that send it as a bearer token are answered, but for
    /// those about health. Starts a task on the current tokio runtime.
    pub fn new(connections: &Connections, facts: Facts, token: Option<&[u8]>) -> Self {
        let facts = Arc::new(facts);
        let rates = Rates::start(connections.clone());
        let metrics = {
            let (connections, facts) = (connections.clone(), Arc::clone(&facts));
            move |head: Parts| {
                let (connections, facts) = (connections.clone(), Arc::clone(&facts));
                async move { documents::metrics(&head, &connections, facts).await }
            }
        };
        let status = {
            let connections = connections.clone();
            move |_| {
                let (connections, facts, rates) =
                    (connections.clone(), Arc::clone(&facts), Arc::clone(&rates));
                async move { documents::status(&connections, &facts, &rates).await }
            }
        };
        let healthz = {
            let connections = connections.clone();
            move |_| std::future::ready(documents::healthz(&connections))
        };
        let readyz = {
            let connections = connections.clone();
            move |_| std::future::ready(documents::readyz(&connections))
        };
        let routes = vec![
            Route::new(Method::GET, "/metrics", metrics),
            Route::new(Method::GET, "/status", status),
            Route::new(Method::GET, "/healthz", healthz).open(),
            Route::new(Method::GET, "/readyz", readyz).open(),
        ];
        Self { routes, token: token.map(|token| Zeroizing::new(token.into())) }
    }

    /// Adds a route.
    pub fn with(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, head: Parts) -> AdminAnswer {
        let is_head = head.method == Method::HEAD;
        let mut answer = self.route(head).await;
        if is_head {
            *answer.body_mut() = Full::default();
        }
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }

    async fn route(&self, head: Parts) -> AdminAnswer {
        let path = head.uri.path();
        let at_path: Vec<_> = self.routes.iter().filter(|route| route.path == path).collect();
        if at_path.is_empty() {
            return text(
                StatusCode::NOT_FOUND,
                "there is nothing at this path: there are /metrics, /status, /healthz, /readyz and /reload\n",
            );
        }
        let Some(route) = at_path.iter().find(|route| route.has_method(&head.method)) else {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "this path has no such method\n");
            let methods: Vec<_> = at_path.iter().map(|route| route.method.as_str()).collect();
            if let Ok(allow) = HeaderValue::try_from(methods.join(", ")) {
                answer.headers_mut().insert(header::ALLOW, allow);
            }
            return answer;
        };
        if !route.is_open
            && let Err(refusal) = self.admit(&head)
        {
            return *refusal;
        }
        (route.handler)(head).await
    }

    /// Whether a request may be answered. Without a token, only this machine reaches the port, but pages of any site may send
    /// requests there through a browser on it.
    fn admit(&self, head: &Parts) -> Result<(), Box<AdminAnswer>> {
        let Some(token) = &self.token else {
            return match is_from_page(head) {
                true => Err(Box::new(text(
                    StatusCode::FORBIDDEN,
                    "without admin_token this port answers only requests for an IP address or localhost that no web page sends: \
                     ask http://127.0.0.1 and its port, or set admin_token\n",
                ))),
                false => Ok(()),
            };
        };
        let given = head.headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
        let given =
            given.split_at_checked(BEARER.len()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER));
        if given.is_some_and(|(_, given)| are_equal(given, token)) {
            return Ok(());
        }
        let mut answer =
            text(StatusCode::UNAUTHORIZED, "send the admin token: Authorization: Bearer TOKEN\n");
        answer
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"petasos admin\""));
        Err(Box::new(answer))
    }
}

const BEARER: &[u8] = b"Bearer ";

/// Whether a page in a browser sends the request. Its script names an origin for everything but GET, and a GET that it may read
/// goes to a name of its own site: one that it has made to lead here.
fn is_from_page(head: &Parts) -> bool {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let is_address = |host: &Authority| {
        let host = host.host().trim_matches(['[', ']']);
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
    };
    head.headers.contains_key(header::ORIGIN) || !host.is_some_and(|host| is_address(&host))
}

/// Compares in a time that depends on the lengths alone.
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |differences, (a, b)| black_box(differences | (a ^ b)));
    a.len() == b.len() && differences == 0
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.routes.iter().map(|route| route.path).collect();
        f.debug_struct("Admin").field("routes", &paths).finish_non_exhaustive()
    }
}
