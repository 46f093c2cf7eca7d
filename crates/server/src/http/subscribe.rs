//! GET, HEAD and QUERY on the hub: section "Subscription".

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use petasos_protocol::{
    Dialect,
    form::{Form, Part, SubscribeRequest},
    token::Role,
};

use crate::{
    connection::connections::{Lifetime, Peer},
    http::body::{self, Body, RequestBody},
    http::credentials::Presented,
    http::refusal::Refusal,
    http::service::Service,
};

/// Checks token and request, and answers with a stream; HEAD with its headers only, subscribing nobody.
pub(crate) async fn handle(
    service: &Service,
    request: Request<impl RequestBody>,
) -> Result<Response<Body>, Refusal> {
    let Service { hub, settings, .. } = service;
    let limits = &settings.limits;
    let (head, content) = request.into_parts();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, limits)?;
    let (grants, expiry, token) = match Presented::find(&head.headers, &query, settings)? {
        Presented::Tokens(tokens) => {
            let found = tokens.verify(service, Role::Subscriber).await?;
            (found.grants, found.close_at, service.streams.token(found.token))
        }
        Presented::Nothing { .. } if settings.anonymous => (Arc::clone(&service.nothing), None, None),
        Presented::Nothing { other_scheme } => return Err(Refusal::TokenMissing { other_scheme }),
    };
    let content = match head.method.as_str() {
        "QUERY" => {
            let (bytes, time) = (limits.body_bytes_max, settings.body_timeout);
            Some(body::form(&head.headers, content, bytes, time, &service.queried).await?)
        }
        _ => None,
    };
    let text = content.as_ref().map_or(&b""[..], |content| &content.bytes);
    // Bytes that are no text are an id that nobody has published.
    let last_event_ids = head.headers.get_all(&LAST_EVENT_ID).iter();
    let last_event_ids: Vec<_> =
        last_event_ids.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let last_event_ids: Vec<_> = last_event_ids.iter().map(AsRef::as_ref).collect();
    let parameters = query.and(Form::parse(text, Part::Query, limits)?);
    let compat = settings.issuers.compat;
    let request = SubscribeRequest::parse(&parameters, &last_event_ids, compat, hub.url(), limits)?;
    // What waits in the hub has no need of the body, whose room is for others.
    drop(parameters);
    drop(content);
    let dialect = request.dialect;
    if head.method == Method::HEAD {
        let cursor = match &request.cursor {
            Some(cursor) => Some(hub.resolve(cursor).await?),
            None => None,
        };
        return Ok(answer(Body::empty(), dialect, cursor.as_deref()));
    }
    let address = head.extensions.get::<Peer>().map(|peer| settings.proxies.client(peer.0, &head.headers));
    let place = service.streams.enter(address, token).map_err(Refusal::TooManyStreams)?;
    let session = hub.subscribe(request, grants, expiry).await?;
    if let (Some(lifetime), Some(close_at)) = (head.extensions.get::<Lifetime>(), session.close_at()) {
        lifetime.end_at(close_at);
    }
    let cursor = session.cursor().map(str::to_owned);
    Ok(answer(Body::stream(session, place), dialect, cursor.as_deref()))
}

fn answer(body: Body, dialect: Dialect, cursor: Option<&str>) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        header::CACHE_CONTROL,
        // "no-transform": a proxy that compresses would collect events, and the client would get nothing.
        HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0, no-transform"),
    );
    // nginx would collect events in its buffer.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    // An id holds no control character, so it always fits.
    if let Some(Ok(cursor)) = cursor.map(|cursor| HeaderValue::from_bytes(cursor.as_bytes())) {
        if dialect == Dialect::Legacy {
            headers.insert(LAST_EVENT_ID, cursor.clone());
        }
        headers.insert(HeaderName::from_static("mercure-last-event-id"), cursor);
    }
    response
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
