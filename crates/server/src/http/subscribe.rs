//! GET, HEAD and QUERY on the hub: section "Subscription".

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use petasos_protocol::{
    Dialect,
    request::{Cursor, Form, Part, SubscribeRequest},
    token::Role,
};

use crate::http::{
    answer::{Answer, Opening},
    body::{Body, RequestBody},
    context::{ANONYMOUS, Context},
    credentials::Presented,
    event_source, form,
    refusal::Refusal,
};

/// Checks token and request, and opens a stream. HEAD is answered with the header fields only and subscribes nobody.
pub(crate) async fn handle(
    context: &Context,
    request: Request<impl RequestBody>,
    peer: Option<IpAddr>,
) -> Result<Answer, Refusal> {
    let Context { hub, settings, .. } = context;
    let limits = &settings.limits;
    let (head, content) = request.into_parts();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, limits)?;
    let (grants, close_at, token, admission) = match Presented::find(&head.headers, &query, settings)? {
        Presented::Tokens(tokens) => {
            let found = tokens.verify(&context.verifier, Role::Subscriber).await?;
            (found.grants, found.close_at, context.streams.token(found.token), found.basis.number())
        }
        Presented::Nothing { .. } if settings.anonymous => {
            (Arc::clone(&context.nothing), None, None, ANONYMOUS)
        }
        Presented::Nothing { other_scheme } => {
            return Err(Refusal::TokenMissing { other_scheme, subscribes: true });
        }
    };
    let content = match head.method.as_str() {
        "QUERY" => {
            let (bytes, time) = (limits.body_bytes_max, settings.body_timeout);
            Some(form::read(&head.headers, content, bytes, time, &context.queried).await?)
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
    // A subscriber that waits in the hub needs its body no more, and others need the room.
    drop(parameters);
    drop(content);
    let dialect = request.dialect;
    let was_asked = request.cursor.is_some();
    if head.method == Method::HEAD {
        let cursor = hub.resolve(request.cursor.as_ref().unwrap_or(&Cursor::Blank)).await?;
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = headers(dialect, &cursor, was_asked);
        return Ok(Answer::Whole(response));
    }
    let address = peer.map(|peer| settings.proxies.client(peer, &head.headers));
    let permit = context.streams.enter(address, token).map_err(Refusal::TooManyStreams)?;
    let mut session = hub.subscribe(request, grants, close_at).await?;
    session.set_admission(admission.into());
    if head.method == Method::GET && event_source::is_browser(&head.headers) {
        session.name_cursors();
    }
    let headers = headers(dialect, session.cursor().unwrap_or_default(), was_asked);
    Ok(Answer::Stream(Opening { headers, session, permit }))
}

/// The header fields of a stream that begins after `cursor`. `was_asked`: the request has a cursor.
fn headers(dialect: Dialect, cursor: &str, was_asked: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_EXPECTED);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(
        header::CACHE_CONTROL,
        // "no-transform": a proxy that compresses would collect events, and the client would get nothing.
        HeaderValue::from_static("private, no-cache, no-store, must-revalidate, max-age=0, no-transform"),
    );
    // nginx would collect events in its buffer.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    // An id holds no control character, so it always fits.
    if let Ok(cursor) = HeaderValue::from_bytes(cursor.as_bytes()) {
        if dialect == Dialect::Legacy && was_asked {
            headers.insert(LAST_EVENT_ID, cursor.clone());
        }
        headers.insert(HeaderName::from_static("mercure-last-event-id"), cursor);
    }
    headers
}

/// The fields above and those of CORS, so that the map does not grow.
const HEADERS_EXPECTED: usize = 9;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
