//! POST to the hub: section "Publication".

use http::{HeaderValue, Request, Response, header};
use petasos_protocol::{
    form::{self, Form, Part},
    token::Role,
};

use crate::{
    http::body::{self, Body, RequestBody},
    http::credentials::Presented,
    http::refusal::Refusal,
    http::service::Service,
};

/// Checks the token before the body is read, and publishes when everything is right.
pub(crate) async fn handle(
    service: &Service,
    request: Request<impl RequestBody>,
) -> Result<Response<Body>, Refusal> {
    let Service { hub, settings, .. } = service;
    let (head, body) = request.into_parts();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, &settings.limits)?;
    let tokens = Presented::find(&head.headers, &query, settings)?.needed()?;
    if tokens.by_cookie && !settings.publish_origins.may_publish(&head.headers, service.public_url()) {
        return Err(Refusal::ForeignOrigin);
    }
    let grants = tokens.verify(service, Role::Publisher).await?.grants;
    let (limits, time) = (&settings.limits, settings.body_timeout);
    let body = body::form(&head.headers, body, limits.body_bytes_max, time, &service.published).await?;
    let draft = form::publish(&body.bytes, hub.url(), limits)?;
    if !grants.may_publish(&draft.topics) {
        return Err(Refusal::Forbidden);
    }
    let id = hub.publish(draft).await?;
    let mut response = Response::new(Body::full(id.as_str().to_owned()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}
