//! Subscriptions: one matcher of one subscriber, with its document and its path in protocol 1.0 (section "Active
//! Subscriptions"). Protocol 0.x writes both in another form: see [`legacy`](crate::legacy).

use std::{fmt, sync::Arc};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    Dialect,
    matcher::{MatcherText, MatcherType},
    topic::HubUrl,
};

/// The identifier of one subscriber, which all of its subscriptions have: a random UUID, written as `urn:uuid:` and its
/// hyphenated form (RFC 9562).
///
/// ```
/// use petasos_protocol::subscription::SubscriberId;
/// let id = SubscriberId::from_uuid(0xbb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6);
/// assert_eq!(id.to_string(), "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(u128);

impl SubscriberId {
    /// Reads the text that `Display` writes. `None`: any other text, also another spelling of the same UUID.
    pub fn parse(text: &str) -> Option<Self> {
        Self::number(text).map(Self).filter(|id| id.to_string() == text)
    }

    /// The number in a text that may be an identifier. Hyphens may stand anywhere.
    fn number(text: &str) -> Option<u128> {
        let mut digits = text.strip_prefix("urn:uuid:")?.bytes().filter(|byte| *byte != b'-');
        digits.try_fold(0_u128, |uuid, digit| {
            let digit = char::from(digit).to_digit(16)?;
            (uuid >> 124 == 0).then_some(uuid << 4 | u128::from(digit))
        })
    }

    /// Takes a UUID as a number.
    pub fn from_uuid(uuid: u128) -> Self {
        Self(uuid)
    }

    /// Whether the text means this subscriber.
    pub(crate) fn is(self, text: &str) -> bool {
        Self::number(text) == Some(self.0) && self.to_string() == text
    }

    /// The UUID as a number.
    pub fn as_uuid(self) -> u128 {
        self.0
    }
}

impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written by hand: each subscriber is announced twice, and the formatter of the standard library would take as long
        // as the rest of the announcement.
        let mut text = *b"urn:uuid:........-....-....-....-............";
        let places = text.iter_mut().filter(|byte| **byte == b'.');
        for (place, nibble) in places.zip((0..32).rev()) {
            *place = b"0123456789abcdef"[(self.0 >> (4 * nibble)) as usize & 15];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One subscription, active or ended.
#[derive(Clone)]
pub struct Subscription {
    /// The dialect of the request, in which the events of the subscription are written.
    pub dialect: Dialect,
    /// What the subscriber selects.
    pub matcher: MatcherText,
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// The payload that the subscriber's token has for this subscription. Others may read it.
    pub payload: Option<Arc<RawValue>>,
}

impl Subscription {
    /// The 1.0 document of an active subscription.
    pub fn document(&self, hub: &HubUrl) -> String {
        to_json(&self.document_as(hub, true))
    }

    /// The 1.0 document of the subscription's event, active or ended.
    pub(crate) fn event_document(&self, hub: &HubUrl, active: bool) -> String {
        to_json(&self.document_as(hub, active))
    }

    fn document_as(&self, hub: &HubUrl, active: bool) -> Document<'_> {
        Document {
            id: self.path(hub),
            kind: "subscription",
            match_type: self.matcher.matcher_type().as_str(),
            text: self.matcher.as_str(),
            subscriber: self.subscriber.to_string(),
            active,
            payload: self.payload.as_deref(),
        }
    }

    /// The canonical path of the subscription in the form of 1.0.
    pub(crate) fn path(&self, hub: &HubUrl) -> String {
        encode_path(
            hub,
            [self.matcher.matcher_type().as_str(), self.matcher.as_str(), &self.subscriber.to_string()],
        )
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("dialect", &self.dialect)
            .field("matcher", &self.matcher)
            .field("subscriber", &self.subscriber)
            .field("payload", &self.payload.is_some())
            .finish()
    }
}

/// The beginning of the 1.0 document of a collection (section "Subscription API"). `id` is the path of the request. The
/// documents of the subscriptions follow, separated by commas, and then [`COLLECTION_END`].
pub fn collection_begin(id: &str) -> String {
    #[derive(Serialize)]
    struct Collection<'a> {
        id: &'a str,
        #[serde(rename = "type")]
        kind: &'static str,
        subscriptions: [(); 0],
    }
    begin(to_json(&Collection { id, kind: "subscriptions", subscriptions: [] }))
}

/// The end of the document of a collection, in either dialect.
pub const COLLECTION_END: &str = "]}";

/// A document with an empty collection, without its end.
pub(crate) fn begin(mut document: String) -> String {
    document.truncate(document.len() - COLLECTION_END.len());
    document
}

#[derive(Serialize)]
struct Document<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    match_type: &'static str,
    #[serde(rename = "match")]
    text: &'a str,
    subscriber: String,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
}

/// A path under `{hub}/subscriptions` in the form of 1.0, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionsPath {
    /// Subscriptions to this matcher. Absent: all.
    pub matcher: Option<(MatcherType, String)>,
    /// Subscriptions of this subscriber. Absent: of all.
    pub subscriber: Option<String>,
}

impl SubscriptionsPath {
    /// Parses the raw path of a request. `None`: the path does not belong to the API.
    pub fn parse(hub: &HubUrl, raw: &str) -> Option<Self> {
        let mut segments = decode_path(hub, raw)?.into_iter();
        let matcher = match segments.next() {
            None => None,
            Some(name) => Some((MatcherType::parse(&name)?, segments.next()?)),
        };
        let subscriber = segments.next();
        segments.next().is_none().then_some(Self { matcher, subscriber })
    }

    /// The path in its canonical spelling, which tokens and events use.
    pub fn canonical(&self, hub: &HubUrl) -> String {
        let matcher = self.matcher.iter().flat_map(|(kind, text)| [kind.as_str(), text.as_str()]);
        encode_path(hub, matcher.chain(self.subscriber.as_deref()))
    }

    /// Whether the path selects `subscription`. It only selects subscriptions of protocol 1.0.
    pub fn covers(&self, subscription: &Subscription) -> bool {
        let named = |(kind, text): &(MatcherType, String)| {
            *kind == subscription.matcher.matcher_type() && *text == *subscription.matcher.as_str()
        };
        subscription.dialect == Dialect::V1
            && self.matcher.as_ref().is_none_or(named)
            && self.subscriber.as_deref().is_none_or(|id| subscription.subscriber.is(id))
    }
}

/// Writes a path under `{hub}/subscriptions`. Each value is percent-encoded once, as in the simple expansion of RFC 6570.
pub(crate) fn encode_path<'a>(hub: &HubUrl, values: impl IntoIterator<Item = &'a str>) -> String {
    let mut path = format!("{}/subscriptions", hub.path());
    for value in values {
        path.reserve(value.len() + value.len() / 4 + 1);
        path.push('/');
        path.extend(utf8_percent_encode(value, RESERVED));
    }
    path
}

/// All characters but the unreserved ones of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The decoded values of a path under `{hub}/subscriptions`. `None`: another path, or one with an empty value.
pub(crate) fn decode_path(hub: &HubUrl, raw: &str) -> Option<Vec<String>> {
    let rest = raw.strip_prefix(hub.path())?.strip_prefix("/subscriptions")?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let decode = |segment: &str| {
        let text = percent_decode_str(segment).decode_utf8().ok()?;
        (!text.is_empty()).then(|| text.into_owned())
    };
    rest.strip_prefix('/')?.split('/').map(decode).collect()
}

/// Room for the document of a subscription with topics of ordinary length, so that its text need not grow.
const DOCUMENT_BYTES: usize = 512;

pub(crate) fn to_json(document: &impl Serialize) -> String {
    let mut json = Vec::with_capacity(DOCUMENT_BYTES);
    let written = serde_json::to_writer(&mut json, document).ok().and_then(|()| String::from_utf8(json).ok());
    written.expect("strings, booleans and valid JSON always serialize")
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn hub() -> HubUrl {
        HubUrl::default()
    }

    /// Of protocol 1.0, with a payload.
    pub(crate) fn subscription(matcher_type: MatcherType, text: &str) -> Subscription {
        Subscription {
            dialect: Dialect::V1,
            matcher: MatcherText::new(matcher_type, text),
            subscriber: SubscriberId::from_uuid(0xbb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6),
            payload: Some(Arc::from(RawValue::from_string(r#"{"foo":"bar"}"#.to_owned()).expect("JSON"))),
        }
    }

    #[test]
    fn a_subscriber_is_read_from_what_it_writes_and_from_nothing_else() {
        let id = SubscriberId::from_uuid(0xbb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6);
        assert_eq!(SubscriberId::parse(&id.to_string()), Some(id));
        assert!(id.is(&id.to_string()) && !id.is(&SubscriberId::from_uuid(1).to_string()));
        assert_eq!(id.as_uuid(), 0xbb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6);
        assert_eq!(format!("{id:?}"), id.to_string());
        for other in [
            "",
            "urn:uuid:",
            "urn:uuid:bb3de26805b04c65b44e8f9acefc29d6",
            "urn:uuid:BB3DE268-05b0-4c65-b44e-8f9acefc29d6",
            "urn:uuid:bb3de268-05b0-4c65-b44e-8f9acefc29d6a",
            "urn:uuid:1bb3de268-05b0-4c65-b44e-8f9acefc29d6",
            "bb3de268-05b0-4c65-b44e-8f9acefc29d6",
            "urn:uuid:\u{e9}",
        ] {
            assert!(SubscriberId::parse(other).is_none() && !id.is(other), "{other:?}");
        }
    }

    #[test]
    fn collections_hold_documents() {
        let each = subscription(MatcherType::Exact, "a");
        let path = "/.well-known/mercure/subscriptions/exact/a";
        let document: Value =
            serde_json::from_str(&(collection_begin(path) + &each.document(&hub()) + COLLECTION_END))
                .expect("JSON");
        assert_eq!((&document["id"], &document["type"]), (&json!(path), &json!("subscriptions")));
        let single: Value = serde_json::from_str(&each.document(&hub())).expect("JSON");
        assert_eq!(document["subscriptions"], json!([single]));
    }

    #[test]
    fn paths_name_a_known_type_and_a_matcher_together() {
        let parse =
            |rest: &str| SubscriptionsPath::parse(&hub(), &format!("{}/subscriptions{rest}", hub().path()));
        assert_eq!(parse("").map(|path| path.matcher), Some(None));
        let one = parse("/urlpattern/%2Fa%2F%3Ab/urn:uuid:1").expect("a path");
        assert_eq!(one.matcher, Some((MatcherType::UrlPattern, "/a/:b".to_owned())));
        assert_eq!(one.subscriber.as_deref(), Some("urn:uuid:1"));
        for bad in ["/", "/exact", "/exact/", "/regexp/a", "/URLPattern/a", "/exact/a/b/c", "/exact/%FF"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_path_covers_type_text_and_subscriber() {
        let exact = subscription(MatcherType::Exact, "*");
        let path = |rest: &str| {
            let raw = format!("{}/subscriptions{rest}", hub().path());
            SubscriptionsPath::parse(&hub(), &raw).expect("a path")
        };
        assert!(path("").covers(&exact) && path("/exact/*").covers(&exact));
        assert!(!path("/urlpattern/*").covers(&exact) && !path("/exact/a").covers(&exact));
        assert!(!path("/exact/*/urn:uuid:1").covers(&exact));
        let template = MatcherText::new(MatcherType::Exact, "/a/{b}");
        let legacy = Subscription { dialect: Dialect::Legacy, matcher: template, ..exact };
        assert!(!path("").covers(&legacy));
    }

    #[test]
    fn debug_shows_the_matcher_and_no_payload() {
        let shown = format!("{:?}", subscription(MatcherType::Exact, "the-matcher"));
        assert!(shown.contains("the-matcher") && shown.contains("payload: true"), "{shown}");
        assert!(!shown.contains("foo"), "{shown}");
    }

    proptest! {
        #[test]
        fn every_matcher_and_subscriber_survives_the_path(text in "(?s).{1,20}", subscriber in "(?s).{1,20}") {
            let path = SubscriptionsPath { matcher: Some((MatcherType::Exact, text)), subscriber: Some(subscriber) };
            prop_assert_eq!(SubscriptionsPath::parse(&hub(), &path.canonical(&hub())), Some(path));
        }
    }
}
