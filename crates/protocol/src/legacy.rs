//! What only protocol 0.x has: the `mercure` claim, the paths of subscriptions, and their JSON-LD documents.
//!
//! Tokens become the same grants as in protocol 1.0, so the code that uses grants knows no dialect.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Dialect, Limits,
    matcher::{Matcher, MatcherType},
    subscription::{Subscription, begin, decode_path, encode_path, to_json},
    token::{Claims, Grants, TokenError},
    topic::{HubUrl, Topic},
};

/// Reads the claim `mercure` of a verified token, or `https://mercure.rocks/`, which takes precedence. A token without
/// either is valid and grants nothing.
///
/// `prefixes`: whether a `*` at the end of a selector stands for any rest ([`Matcher::prefix_or_selector`]).
///
/// # Errors
/// - [`TokenError::Claim`]: the claim is malformed.
/// - [`TokenError::TooManyMatchers`]: more selectors than [`Limits::token_matchers_max`], over both grants.
pub fn grants(claims: &Claims, prefixes: bool, limits: &Limits) -> Result<Grants, TokenError> {
    let Some(json) = claim(claims) else { return Ok(Grants::default()) };
    let malformed =
        TokenError::Claim { claim: CLAIM, expected: "an object whose grants are arrays of topic selectors" };
    // Without the check, serde would read an array as a struct, too.
    let Some(Ok(claim)) = json.starts_with('{').then(|| serde_json::from_str::<Claim>(json)) else {
        return Err(malformed);
    };
    let (publish, subscribe) = (claim.publish.unwrap_or_default(), claim.subscribe.unwrap_or_default());
    if publish.len() + subscribe.len() > limits.token_matchers_max {
        return Err(TokenError::TooManyMatchers { max: limits.token_matchers_max });
    }
    let parse = |values: Vec<String>| {
        let matchers = values.iter().map(|value| match prefixes {
            true => Matcher::prefix_or_selector(value, limits),
            false => Matcher::selector(value, limits),
        });
        matchers.collect::<Result<Vec<_>, _>>().map_err(|_| malformed.clone())
    };
    let payloads =
        claim.payload.map(|payload| (vec![Matcher::Any(MatcherType::Exact)], Some(Arc::from(payload))));
    Ok(Grants {
        publish: parse(publish)?,
        subscribe: parse(subscribe)?,
        payloads: payloads.into_iter().collect(),
    })
}

/// Whether a token has the `mercure` claim, in either form.
pub fn has_claim(claims: &Claims) -> bool {
    claim(claims).is_some()
}

fn claim(claims: &Claims) -> Option<&str> {
    [CLAIM_NAMESPACED, CLAIM].iter().find_map(|name| claims.json(name))
}

#[derive(Deserialize)]
struct Claim {
    publish: Option<Vec<String>>,
    subscribe: Option<Vec<String>>,
    payload: Option<Box<RawValue>>,
}

const CLAIM: &str = "mercure";
const CLAIM_NAMESPACED: &str = "https://mercure.rocks/";

/// The canonical path in the subscription API. Each value is percent-encoded once, as in the simple expansion of RFC 6570.
///
/// ```
/// use petasos_protocol::{legacy::subscriptions_path, topic::HubUrl};
/// assert_eq!(
///     subscriptions_path(&HubUrl::default(), Some("https://example.com/{id}"), Some("urn:x")),
///     "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D/urn%3Ax"
/// );
/// ```
pub fn subscriptions_path(hub: &HubUrl, topic: Option<&str>, subscriber: Option<&str>) -> String {
    encode_path(hub, topic.into_iter().chain(subscriber))
}

/// A path under `{hub}/subscriptions`, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionsPath {
    /// Subscriptions to this selector. Absent: all.
    pub topic: Option<String>,
    /// Subscriptions of this subscriber. Absent: of all.
    pub subscriber: Option<String>,
}

impl SubscriptionsPath {
    /// Parses the raw path of a request. `None`: the path does not belong to the API.
    pub fn parse(hub: &HubUrl, raw: &str) -> Option<Self> {
        let mut segments = decode_path(hub, raw)?.into_iter();
        let (topic, subscriber) = (segments.next(), segments.next());
        segments.next().is_none().then_some(Self { topic, subscriber })
    }

    /// The path in its canonical spelling, which tokens and events use.
    pub fn canonical(&self, hub: &HubUrl) -> String {
        subscriptions_path(hub, self.topic.as_deref(), self.subscriber.as_deref())
    }

    /// Whether the path selects `subscription`. It only selects subscriptions of protocol 0.x.
    pub fn covers(&self, subscription: &Subscription) -> bool {
        subscription.dialect == Dialect::Legacy
            && self.topic.as_deref().is_none_or(|topic| topic == subscription.matcher.as_str())
            && self.subscriber.as_deref().is_none_or(|id| subscription.subscriber.is(id))
    }
}

/// The topics of the event of a subscription: its own path, and the path of its selector.
pub(crate) fn event_topics(hub: &HubUrl, subscription: &Subscription) -> Vec<Topic> {
    let subscriber = subscription.subscriber.to_string();
    let own = subscriptions_path(hub, Some(subscription.matcher.as_str()), Some(&subscriber));
    // The text behind the last slash is the encoded subscriber.
    let of_selector = own.rfind('/').unwrap_or_default();
    [&own, &own[..of_selector]].map(|topic| Topic::unchecked(topic, hub)).into()
}

/// The JSON-LD document of a subscription's event, active or ended.
pub(crate) fn event_document(hub: &HubUrl, subscription: &Subscription, active: bool) -> String {
    to_json(&document(hub, subscription, active, true, None))
}

/// The JSON-LD document of one active subscription, as the API answers with it.
pub fn subscription_document(hub: &HubUrl, subscription: &Subscription, last_event_id: &str) -> String {
    to_json(&document(hub, subscription, true, true, Some(last_event_id)))
}

/// The beginning of the JSON-LD document of a collection. The results of [`subscription_in_collection`] follow,
/// separated by commas, and then [`COLLECTION_END`](crate::subscription::COLLECTION_END).
pub fn collection_begin(hub: &HubUrl, topic: Option<&str>, last_event_id: &str) -> String {
    begin(to_json(&Collection {
        context: CONTEXT,
        id: subscriptions_path(hub, topic, None),
        kind: "Subscriptions",
        last_event_id,
        subscriptions: [],
    }))
}

/// The part of one subscription in the document of a collection.
pub fn subscription_in_collection(hub: &HubUrl, subscription: &Subscription) -> String {
    to_json(&document(hub, subscription, true, false, None))
}

fn document<'a>(
    hub: &HubUrl,
    subscription: &'a Subscription,
    active: bool,
    with_context: bool,
    last_event_id: Option<&'a str>,
) -> Document<'a> {
    let (topic, subscriber) = (subscription.matcher.as_str(), subscription.subscriber.to_string());
    Document {
        context: with_context.then_some(CONTEXT),
        id: subscriptions_path(hub, Some(topic), Some(&subscriber)),
        kind: "Subscription",
        topic,
        subscriber,
        active,
        payload: subscription.payload.as_deref(),
        last_event_id,
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "@context", skip_serializing_if = "Option::is_none")]
    context: Option<&'static str>,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    topic: &'a str,
    subscriber: String,
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(rename = "lastEventID", skip_serializing_if = "Option::is_none")]
    last_event_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Collection<'a> {
    #[serde(rename = "@context")]
    context: &'static str,
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "lastEventID")]
    last_event_id: &'a str,
    subscriptions: [(); 0],
}

const CONTEXT: &str = "https://mercure.rocks/";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        Dialect,
        matcher::MatcherText,
        subscription::{COLLECTION_END, SubscriberId},
    };

    fn any() -> Matcher {
        Matcher::Any(MatcherType::Exact)
    }

    fn hub() -> HubUrl {
        HubUrl::default()
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as literals")]
    fn read(claims: Value) -> Result<Grants, TokenError> {
        grants(&Claims::from_json(claims.to_string().as_bytes())?, false, &Limits::default())
    }

    fn subscription(selector: &str, payload: Option<&str>) -> Subscription {
        Subscription {
            dialect: Dialect::Legacy,
            matcher: MatcherText::new(MatcherType::Exact, selector),
            subscriber: SubscriberId::from_uuid(0xbb3d_e268_05b0_4c65_b44e_8f9a_cefc_29d6),
            payload: payload.map(|json| Arc::from(RawValue::from_string(json.to_owned()).expect("JSON"))),
        }
    }

    #[test]
    fn claim_is_read_under_both_names() {
        for name in ["mercure", "https://mercure.rocks/"] {
            let grants =
                read(json!({name: {"publish": ["*"], "subscribe": ["a", "/b/{id}"], "payload": {"x": 1}}}));
            let grants = grants.expect("valid");
            assert_eq!(grants.publish, [any()]);
            let may_read = |path: &str| grants.may_read(&Topic::unchecked(path, &hub()));
            assert!(may_read("/b/7") && !may_read("/c/7"));
            let payload = grants.payload(&Matcher::Exact("any".into()), &hub()).expect("a payload");
            assert_eq!(payload.get(), r#"{"x":1}"#);
        }
    }

    #[test]
    fn an_asterisk_at_the_end_stands_for_any_rest_only_where_that_is_asked_for() {
        let claims = json!({"mercure": {"subscribe": ["/b/*", "/{c}/*"]}}).to_string();
        let claims = Claims::from_json(claims.as_bytes()).expect("an object");
        let may_read = |prefixes, path: &str| {
            let grants = grants(&claims, prefixes, &Limits::default()).expect("valid");
            grants.may_read(&Topic::unchecked(path, &hub()))
        };
        assert!(may_read(true, "/b/") && may_read(true, "/b/1/2") && may_read(true, "/b/*"));
        assert!(!may_read(true, "/b") && !may_read(true, "/c/1/2"));
        assert!(may_read(false, "/b/*") && !may_read(false, "/b/1"));
    }

    #[test]
    fn payload_is_passed_on_as_it_was_signed() {
        let payload = r#"{"z":12345678901234567890123,"a":1.10,"z2":[ 1 ]}"#;
        let claims = format!(r#"{{"mercure":{{"subscribe":[],"payload":{payload}}}}}"#);
        let claims = Claims::from_json(claims.as_bytes()).expect("an object");
        let grants = grants(&claims, false, &Limits::default()).expect("valid");
        assert_eq!(grants.payload(&any(), &hub()).map(|payload| payload.get()), Some(payload));
    }

    #[test]
    fn absent_and_null_grant_nothing() {
        for claims in [
            json!({}),
            json!({"mercure": null}),
            json!({"mercure": {}}),
            json!({"mercure": {"publish": null}}),
        ] {
            let grants = read(claims).expect("valid");
            assert!(grants.publish.is_empty() && grants.subscribe.is_empty() && grants.payloads.is_empty());
        }
    }

    #[test]
    fn malformed_claims_refuse_the_token() {
        for mercure in [
            json!("x"),
            json!([]),
            json!([["*"], ["*"], null]),
            json!({"publish": "*"}),
            json!({"subscribe": {"a": 1}}),
            json!({"subscribe": ["a", 1]}),
            json!({"subscribe": ["a\u{0}"]}),
        ] {
            assert!(matches!(read(json!({"mercure": mercure})), Err(TokenError::Claim { .. })), "{mercure}");
        }
        let many: Vec<String> = (0..1001).map(|i| i.to_string()).collect();
        assert!(matches!(
            read(json!({"mercure": {"publish": many}})),
            Err(TokenError::TooManyMatchers { .. })
        ));
    }

    #[test]
    fn paths_are_parsed_in_any_spelling_and_written_in_one() {
        let parse = |raw: &str| SubscriptionsPath::parse(&hub(), raw);
        let all = parse("/.well-known/mercure/subscriptions").expect("a path");
        assert_eq!((all.topic, all.subscriber), (None, None));
        let one = parse("/.well-known/mercure/subscriptions/https:%2f%2Fexample.com%2F{id}/urn:uuid:1")
            .expect("a path");
        assert_eq!(one.topic.as_deref(), Some("https://example.com/{id}"));
        assert_eq!(
            one.canonical(&hub()),
            "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D/urn%3Auuid%3A1"
        );
        for bad in [
            "",
            "/",
            "x",
            "/subscriptions",
            "/.well-known/mercure",
            "/.well-known/mercure/subscriptions/",
            "/.well-known/mercure/subscriptionsx",
            "/.well-known/mercure/subscriptions/a/b/c",
            "/.well-known/mercure/subscriptions/a/",
            "/.well-known/mercure/subscriptions/%FF",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn collection_has_context_and_last_event_id_at_its_root() {
        let each = subscription("a/b", None);
        let collection = collection_begin(&hub(), Some("a/b"), "earliest")
            + &subscription_in_collection(&hub(), &each)
            + COLLECTION_END;
        let collection: Value = serde_json::from_str(&collection).expect("JSON");
        assert_eq!(collection["id"], "/.well-known/mercure/subscriptions/a%2Fb");
        assert_eq!(
            (&collection["type"], &collection["lastEventID"]),
            (&json!("Subscriptions"), &json!("earliest"))
        );
        assert_eq!(collection["subscriptions"][0]["topic"], "a/b");
        assert!(collection["subscriptions"][0].get("@context").is_none());
        assert!(collection["subscriptions"][0].get("payload").is_none());
        let single: Value =
            serde_json::from_str(&subscription_document(&hub(), &each, "urn:x")).expect("JSON");
        assert_eq!(single["lastEventID"], "urn:x");
    }

    #[test]
    fn a_token_has_the_claim_under_either_name_or_has_it_not() {
        let has = |json: &str| has_claim(&Claims::from_json(json.as_bytes()).expect("an object"));
        assert!(has(r#"{"mercure":{}}"#) && has(r#"{"https://mercure.rocks/":1}"#));
        assert!(!has(r#"{"mercure":null}"#) && !has(r#"{"Mercure":{}}"#));
    }

    #[test]
    fn the_matchers_of_a_token_are_bounded_over_both_grants() {
        let many = |count: usize| vec!["a"; count];
        let grants = |publish, subscribe| {
            read(json!({"mercure": {"publish": many(publish), "subscribe": many(subscribe)}}))
        };
        assert!(grants(600, 400).is_ok());
        assert_eq!(grants(600, 401).err(), Some(TokenError::TooManyMatchers { max: 1_000 }));
    }

    #[test]
    fn a_path_covers_selector_subscriber_and_dialect() {
        let each = subscription("a", None);
        let id = each.subscriber.to_string();
        let covers = |topic: Option<&str>, subscriber: Option<&str>, subscription: &Subscription| {
            let owned = |text: Option<&str>| text.map(str::to_owned);
            SubscriptionsPath { topic: owned(topic), subscriber: owned(subscriber) }.covers(subscription)
        };
        assert!(covers(None, None, &each) && covers(Some("a"), Some(&id), &each));
        assert!(!covers(Some("b"), Some(&id), &each) && !covers(Some("a"), Some("urn:uuid:1"), &each));
        assert!(!covers(None, None, &Subscription { dialect: Dialect::V1, ..each }));
    }

    proptest! {
        #[test]
        fn every_selector_and_subscriber_survives_the_path(topic in "(?s).{1,20}", subscriber in "(?s).{1,20}") {
            let path = subscriptions_path(&hub(), Some(&topic), Some(&subscriber));
            let parsed = SubscriptionsPath::parse(&hub(), &path).expect("a path");
            prop_assert_eq!(parsed.topic.as_deref(), Some(topic.as_str()));
            prop_assert_eq!(parsed.subscriber.as_deref(), Some(subscriber.as_str()));
            prop_assert_eq!(parsed.canonical(&hub()), path);
        }
    }
}
