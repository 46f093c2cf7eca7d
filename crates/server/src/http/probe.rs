//! What an orchestrator or a load balancer asks: whether the process lives, and whether it can do its work now.

use http::{HeaderValue, Response, StatusCode, header};
use petasos_hub::Hub;

use crate::http::body::Body;

/// A question about the process.
#[derive(Clone, Copy)]
pub(crate) enum Probe {
    /// `/healthz`: the hub lives. It does while its log is unavailable, because a restart would cut all streams and mend
    /// nothing. It does not once the hub or its log has failed in a way that only a restart mends.
    Liveness,
    /// `/readyz`: it takes updates. False while the log does not answer, is full or has failed, and once the hub is about to
    /// stop, stops or has failed.
    Readiness,
}

impl Probe {
    /// `None`: it is another path.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Liveness),
            "/readyz" => Some(Self::Readiness),
            _ => None,
        }
    }

    pub(crate) fn answer(self, hub: &Hub) -> Response<Body> {
        let (status, text) = match self {
            _ if hub.has_failed() => {
                (StatusCode::SERVICE_UNAVAILABLE, "the hub has failed: start it again\n")
            }
            _ if hub.needs_restart() => {
                (StatusCode::SERVICE_UNAVAILABLE, "the log has failed: start the hub again\n")
            }
            Self::Readiness if hub.is_leaving() => {
                (StatusCode::SERVICE_UNAVAILABLE, "the hub is about to stop: send requests to another\n")
            }
            Self::Readiness if !hub.is_ready() => {
                (StatusCode::SERVICE_UNAVAILABLE, "the log takes no updates, or the hub stops\n")
            }
            _ => (StatusCode::OK, "ok\n"),
        };
        let mut response = Response::new(Body::full(text.to_owned()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}
