//! POST to the hub: section "Publication".

use http::{HeaderValue, Request, Response, header};
use petasos_protocol::{
    request::{self, Form, Part},
    token::Role,
};

use crate::http::{
    body::{Body, RequestBody},
    context::Context,
    credentials::Presented,
    form,
    refusal::Refusal,
};

/// Verifies the token before the body is read, and publishes the update if the token grants all of its topics.
pub(crate) async fn handle(
    context: &Context,
    request: Request<impl RequestBody>,
) -> Result<Response<Body>, Refusal> {
    let Context { hub, settings, .. } = context;
    let (head, body) = request.into_parts();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, &settings.limits)?;
    let tokens = Presented::find(&head.headers, &query, settings)?.needed()?;
    if tokens.by_cookie && !settings.publish_origins.may_publish(&head.headers, context.public_url()) {
        return Err(Refusal::ForeignOrigin);
    }
    let grants = tokens.verify(&context.verifier, Role::Publisher).await?.grants;
    let (limits, time) = (&settings.limits, settings.body_timeout);
    let body = form::read(&head.headers, body, limits.body_bytes_max, time, &context.published).await?;
    let draft = request::publish(&body.bytes, hub.url(), limits)?;
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
