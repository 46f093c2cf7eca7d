//! GET and HEAD on the hub: section "Subscription".

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Response, header, request::Parts};
use petasos_protocol::form::{Form, Part, SubscribeRequest};

use crate::{Service, body::Body, connection::Lifetime, credentials::Presented, refusal::Refusal};

/// Checks token and request, and answers with a stream; HEAD with its headers only, subscribing nobody.
pub(crate) async fn handle(service: &Service, head: &Parts) -> Result<Response<Body>, Refusal> {
    let Service { hub, settings } = service;
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, &settings.limits)?;
    let credentials = match Presented::find(&head.headers, &query, &settings.cookie_name)? {
        Some(token) => {
            Some(token.verify(settings.subscriber_key.as_ref(), "subscriber", &settings.limits)?)
        }
        None if settings.anonymous => None,
        None => return Err(Refusal::TokenMissing),
    };
    // Bytes that are no text are an id that nobody has published.
    let last_event_id =
        head.headers.get(&LAST_EVENT_ID).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let request = SubscribeRequest::legacy(&query, last_event_id.as_deref(), &settings.limits)?;
    if head.method == Method::HEAD {
        let cursor = match &request.cursor {
            Some(cursor) => Some(hub.resolve(cursor).await?),
            None => None,
        };
        return Ok(answer(Body::empty(), cursor.as_deref()));
    }
    if hub.stats().subscribers >= settings.subscribers_max {
        return Err(Refusal::TooManyStreams);
    }
    let (grants, close_at) =
        credentials.map_or_else(Default::default, |found| (found.grants, found.close_at));
    if let (Some(lifetime), Some(close_at)) = (head.extensions.get::<Lifetime>(), close_at) {
        lifetime.end_at(close_at);
    }
    let session = hub.subscribe(request, Arc::new(grants), close_at).await?;
    let cursor = session.cursor().map(str::to_owned);
    Ok(answer(Body::stream(session), cursor.as_deref()))
}

fn answer(body: Body, cursor: Option<&str>) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0"),
    );
    // nginx would collect events in its buffer.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    // An id holds no control character, so it always fits.
    if let Some(Ok(cursor)) = cursor.map(|cursor| HeaderValue::from_bytes(cursor.as_bytes())) {
        headers.insert(LAST_EVENT_ID, cursor.clone());
        headers.insert(HeaderName::from_static("mercure-last-event-id"), cursor);
    }
    response
}

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
