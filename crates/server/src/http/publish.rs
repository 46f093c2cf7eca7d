//! POST to the hub: section "Publication".

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, header};
use petasos_auth::Verifier;
use petasos_protocol::{
    request::{self, Form, Part},
    token::{Grants, Role},
};

use crate::{
    http::{
        body::{Body, RequestBody},
        context::Context,
        credentials::{Presented, Tokens},
        form,
        peer::Peer,
        refusal::Refusal,
    },
    settings::PublisherCertificate,
};

/// Verifies the publisher before the body is read, and publishes the update if the publisher may publish on all of its topics.
pub(crate) async fn handle(
    context: &Context,
    request: Request<impl RequestBody>,
    peer: Peer,
) -> Result<Response<Body>, Refusal> {
    let Context { hub, settings, .. } = context;
    let (head, body) = request.into_parts();
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, &settings.limits)?;
    let presented = Presented::find(&head.headers, &query, settings)?;
    let publisher = Publisher::find(presented, settings.publisher_certificate, &peer)?;
    if publisher.may_be_a_page(&head.headers)
        && !settings.publish_origins.may_publish(&head.headers, context.public_url())
    {
        return Err(Refusal::ForeignOrigin);
    }
    let grants = publisher.verify(&context.verifier).await?;
    let (limits, time) = (&settings.limits, settings.body_timeout);
    let body = form::read(&head.headers, body, limits.body_bytes_max, time, &context.published).await?;
    let draft = request::publish(&body.bytes, hub.url(), limits)?;
    if grants.is_some_and(|grants| !grants.may_publish(&draft.topics)) {
        return Err(Refusal::Forbidden);
    }
    let id = hub.publish(draft).await?;
    let mut response = Response::new(Body::full(id.as_str().to_owned()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(response)
}

/// By what a publisher may publish.
enum Publisher<'a> {
    Token(Tokens<'a>),
    /// Its certificate, which is enough for every topic.
    Certificate,
}

impl<'a> Publisher<'a> {
    /// # Errors
    /// The publisher lacks a certificate or a token that it needs.
    fn find(
        presented: Presented<'a>,
        certificate: PublisherCertificate,
        peer: &Peer,
    ) -> Result<Self, Refusal> {
        match (certificate, presented) {
            (PublisherCertificate::Needed, _) if !peer.has_certificate() => Err(Refusal::CertificateMissing),
            (PublisherCertificate::Enough, Presented::Nothing { .. }) if peer.has_certificate() => {
                Ok(Self::Certificate)
            }
            (_, presented) => presented.needed().map(Self::Token),
        }
    }

    /// Whether a page of another site may have made the request: a browser adds cookies and client certificates to any request.
    fn may_be_a_page(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Token(tokens) => tokens.by_cookie,
            // Browsers send it with every POST, and programs do not.
            Self::Certificate => headers.contains_key(header::ORIGIN),
        }
    }

    /// What it may publish; `None`: everything.
    ///
    /// # Errors
    /// Its token is not valid, or cannot be verified at the moment.
    async fn verify(&self, verifier: &Verifier) -> Result<Option<Arc<Grants>>, Refusal> {
        match self {
            Self::Token(tokens) => Ok(Some(tokens.verify(verifier, Role::Publisher).await?.grants)),
            Self::Certificate => Ok(None),
        }
    }
}
