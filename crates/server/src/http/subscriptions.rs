//! GET and HEAD under `{hub}/subscriptions`: section "Subscription API".
//!
//! The answer is written in the dialect of the token. It lists the subscriptions whose events are in that dialect, so that it
//! and the events together are complete.

use std::{fmt::Write, sync::Arc};

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use petasos_hub::Subscriptions;
use petasos_protocol::{
    Dialect, discovery,
    event::EventId,
    legacy,
    request::{Cursor, Form, Part},
    subscription::{self, Subscription, SubscriptionsPath},
    token::{Grants, Role},
    topic::{HubUrl, Topic},
};

use crate::http::{
    body::Body,
    context::Context,
    credentials::Presented,
    listing::{Listing, Pieces},
    refusal::Refusal,
};

/// A path of the API, as each dialect reads it. The token decides which reading counts.
pub(crate) struct Asked {
    v1: Option<SubscriptionsPath>,
    legacy: Option<legacy::SubscriptionsPath>,
}

impl Asked {
    /// `None`: it is no path of the API.
    pub(crate) fn parse(context: &Context, path: &str) -> Option<Self> {
        let hub = context.hub.url();
        let v1 = SubscriptionsPath::parse(hub, path);
        let compat = context.settings.issuers.compat;
        let legacy = compat.then(|| legacy::SubscriptionsPath::parse(hub, path)).flatten();
        (v1.is_some() || legacy.is_some()).then_some(Self { v1, legacy })
    }
}

/// Answers one subscription or a collection, if the token covers the path.
pub(crate) async fn handle(context: &Context, head: &Parts, asked: Asked) -> Result<Response<Body>, Refusal> {
    let Context { hub, settings, .. } = context;
    let query = Form::parse(head.uri.query().unwrap_or_default().as_bytes(), Part::Query, &settings.limits)?;
    if !hub.tracks_subscriptions() {
        return Err(Refusal::NotFound);
    }
    let tokens = Presented::find(&head.headers, &query, settings)?.needed()?;
    let credentials = tokens.verify(&context.verifier, Role::Subscriber).await?;
    let path = head.uri.path();
    let selected = Selected::new(credentials.dialect, asked).ok_or(Refusal::NotFound)?;
    authorize(&credentials.grants, hub.url(), path, &selected.canonical(hub.url()))?;
    let subscriptions = hub.subscriptions(selected.text()).await?;
    let last_event_id = subscriptions.last_event_id.clone();
    let last = last_event_id.as_ref().map_or(Cursor::EARLIEST, EventId::as_str);
    let etag = entity_tag(credentials.dialect, last, subscriptions.revision);
    let unchanged = head.headers.get_all(header::IF_NONE_MATCH).iter().any(|value| names(value, &etag));
    let is_read = !unchanged && head.method != Method::HEAD;
    let body = match selected.subscriber() {
        // Whether the answer is 404 depends on whether the subscription exists.
        Some(_) => {
            let document = one(&selected, subscriptions, hub.url(), last).await?;
            if is_read { Body::full(document) } else { Body::empty() }
        }
        None if is_read => {
            let permit = Arc::clone(&context.listings).try_acquire_owned();
            let permit = permit.map_err(|_| Refusal::TooManyListings)?;
            let begin = selected.begin(hub.url(), path, last);
            let url = hub.url().clone();
            let describe = move |each: &Subscription| selected.describe(&url, each);
            let mut listing = Listing::new(&begin, subscriptions, permit, describe);
            let first = listing.next().await?;
            if listing.is_at_end() { Body::full(first) } else { Body::pieces(Pieces::new(first, listing)) }
        }
        None => Body::empty(),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("must-revalidate"));
    // Both dialects use one URL, and the token decides.
    headers.append(header::VARY, HeaderValue::from_static("authorization, cookie"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    let target = context.address();
    let link = match credentials.dialect {
        Dialect::V1 => discovery::subscriptions_link(target, last),
        Dialect::Legacy => format!("<{target}>; rel=\"mercure\""),
    };
    if let Ok(link) = HeaderValue::from_bytes(link.as_bytes()) {
        headers.insert(header::LINK, link);
    }
    if unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let kind = match credentials.dialect {
        Dialect::V1 => "application/json",
        Dialect::Legacy => "application/ld+json",
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// The document of the one subscription that is selected.
async fn one(
    selected: &Selected,
    mut subscriptions: Subscriptions,
    hub: &HubUrl,
    last: &str,
) -> Result<String, Refusal> {
    while let Some(page) = subscriptions.next_page().await? {
        let mut all = page.iter().flat_map(|all| all.iter());
        if let Some(found) = all.find(|each| selected.covers(each)) {
            return Ok(match selected {
                Selected::V1(_) => found.document(hub),
                Selected::Legacy(_) => legacy::subscription_document(hub, found, last),
            });
        }
        tokio::task::yield_now().await;
    }
    Err(Refusal::NotFound)
}

/// The selection of a request, in the dialect of its token.
enum Selected {
    V1(SubscriptionsPath),
    Legacy(legacy::SubscriptionsPath),
}

impl Selected {
    /// `None`: the dialect has no such path.
    fn new(dialect: Dialect, asked: Asked) -> Option<Self> {
        match dialect {
            Dialect::V1 => asked.v1.map(Self::V1),
            Dialect::Legacy => asked.legacy.map(Self::Legacy),
        }
    }

    fn canonical(&self, hub: &HubUrl) -> String {
        match self {
            Self::V1(path) => path.canonical(hub),
            Self::Legacy(path) => path.canonical(hub),
        }
    }

    /// The text of the selected matcher; `None`: all matchers.
    fn text(&self) -> Option<&str> {
        match self {
            Self::V1(path) => path.matcher.as_ref().map(|(_, text)| text.as_str()),
            Self::Legacy(path) => path.topic.as_deref(),
        }
    }

    fn subscriber(&self) -> Option<&str> {
        match self {
            Self::V1(path) => path.subscriber.as_deref(),
            Self::Legacy(path) => path.subscriber.as_deref(),
        }
    }

    fn covers(&self, subscription: &Subscription) -> bool {
        match self {
            Self::V1(path) => path.covers(subscription),
            Self::Legacy(path) => path.covers(subscription),
        }
    }

    /// The beginning of a collection's document.
    fn begin(&self, hub: &HubUrl, path: &str, last: &str) -> String {
        match self {
            Self::V1(_) => subscription::collection_begin(path),
            Self::Legacy(selected) => legacy::collection_begin(hub, selected.topic.as_deref(), last),
        }
    }

    /// The part of a collection's document for a subscription; `None`: it is not in the collection.
    fn describe(&self, hub: &HubUrl, subscription: &Subscription) -> Option<String> {
        self.covers(subscription).then(|| match self {
            Self::V1(_) => subscription.document(hub),
            Self::Legacy(_) => legacy::subscription_in_collection(hub, subscription),
        })
    }
}

/// Whether the path may be read. The path is what a token names, in the client's spelling or in the one that events use.
fn authorize(grants: &Grants, hub: &HubUrl, path: &str, canonical: &str) -> Result<(), Refusal> {
    let may_read = |path| grants.may_read(&Topic::unchecked(path, hub));
    if may_read(path) || may_read(canonical) { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// The last event's id and the number of changes: a subscription exists a moment before its event does. Characters that
/// an entity tag cannot hold are percent-encoded.
fn entity_tag(dialect: Dialect, last_event_id: &str, revision: u64) -> String {
    // One address has two representations, and a strong tag is that of one.
    let mut tag = String::from(match dialect {
        Dialect::V1 => "\"1/",
        Dialect::Legacy => "\"0/",
    });
    for byte in last_event_id.bytes() {
        match byte {
            // A comma, too: lists of tags are split at them.
            b'"' | b'%' | b',' | 0..=b' ' | 0x7f.. => _ = write!(tag, "%{byte:02X}"),
            _ => tag.push(char::from(byte)),
        }
    }
    let _ = write!(tag, "/{revision}\"");
    tag
}

/// Whether `If-None-Match` names the tag (RFC 9110, section 13.1.2: weak comparison); deployed clients also send it
/// without its quotes.
fn names(value: &HeaderValue, etag: &str) -> bool {
    let Ok(value) = value.to_str() else { return false };
    let tags = value.split(',').map(str::trim).map(|tag| tag.strip_prefix("W/").unwrap_or(tag));
    tags.into_iter().any(|tag| tag == "*" || tag == etag || tag == etag.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_with_or_without_quotes() {
        let etag = entity_tag(Dialect::V1, "urn:uuid:1", 7);
        assert_eq!(etag, "\"1/urn:uuid:1/7\"");
        assert_ne!(etag, entity_tag(Dialect::Legacy, "urn:uuid:1", 7));
        for (value, expected) in [
            ("\"1/urn:uuid:1/7\"", true),
            ("W/\"1/urn:uuid:1/7\"", true),
            ("\"x\", \"1/urn:uuid:1/7\"", true),
            ("1/urn:uuid:1/7", true),
            ("*", true),
            ("\"1/urn:uuid:1/8\"", false),
            ("", false),
        ] {
            assert_eq!(names(&HeaderValue::from_static(value), &etag), expected, "{value}");
        }
    }

    #[test]
    fn any_id_makes_a_valid_tag() {
        let etag = entity_tag(Dialect::V1, "a\"b é,%", 0);
        let value = HeaderValue::from_str(&etag).expect("a value");
        assert!(names(&value, &etag));
        assert_eq!(etag.matches('"').count(), 2);
    }
}
