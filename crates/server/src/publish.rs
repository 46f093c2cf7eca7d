//! POST to the hub: section "Publication".

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use petasos_protocol::{
    Reject,
    form::{self, Form, Part},
};

use crate::{Service, body::Body, credentials::Presented, refusal::Refusal};

/// Checks the token before the body is read, and publishes when everything is right.
pub(crate) async fn handle<B>(service: &Service, request: Request<B>) -> Result<Response<Body>, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let Service { hub, settings } = service;
    let (head, body) = request.into_parts();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, &settings.limits)?;
    let presented =
        Presented::find(&head.headers, &query, &settings.cookie_name)?.ok_or(Refusal::TokenMissing)?;
    if presented.by_cookie && !settings.publish_origins.may_publish(&head.headers) {
        return Err(Refusal::ForeignOrigin);
    }
    let grants = presented.verify(settings.publisher_key.as_ref(), "publisher", &settings.limits)?.grants;
    if !head.headers.get(header::CONTENT_TYPE).is_some_and(is_form) {
        return Err(Reject::ContentType.into());
    }
    let body = collect(service, body).await?;
    let draft = form::publish(&body, hub.url(), &settings.limits)?;
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

/// The whole body, within its limit and its time.
async fn collect<B>(service: &Service, body: B) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let max = service.settings.limits.body_bytes_max;
    let too_large = || Refusal::Reject(Reject::TooLarge { what: "the body in bytes", max });
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let collecting = Box::pin(Limited::new(body, max).collect());
    match tokio::time::timeout(service.settings.body_timeout, collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodyTimeout),
    }
}

fn is_form(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
