//! The claim `authorization_details` of a 1.0 access token (RFC 9396; section "Authorization Details"), read as grants.
//!
//! One malformed Mercure detail refuses the whole token: to ignore it would change what the issuer meant. Details of
//! other types are ignored.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Claims, Grants, TokenError};
use crate::{
    Limits,
    matcher::{Matcher, MatcherType},
    topic::HubUrl,
};

/// The type of a Mercure authorization detail.
pub const DETAIL_TYPE: &str = "https://mercure.rocks/authorization-detail";

/// Reads the claim of a verified token. A token without Mercure details is valid and grants nothing.
///
/// # Errors
/// - [`TokenError::Claim`]: the claim is no array.
/// - [`TokenError::Detail`]: an entry is no object with a `type`, or a Mercure detail is malformed.
/// - [`TokenError::TooManyDetails`]: more Mercure details than [`Limits::token_details_max`].
/// - [`TokenError::TooManyMatchers`]: more matchers, in all details, than [`Limits::token_matchers_max`].
pub fn grants(claims: &Claims, hub: &HubUrl, limits: &Limits) -> Result<Grants, TokenError> {
    let Some(json) = claims.json(CLAIM) else { return Ok(Grants::default()) };
    let entries: Vec<&RawValue> = serde_json::from_str(json)
        .map_err(|_| TokenError::Claim { claim: CLAIM, expected: "an array of objects" })?;
    let mut grants = Grants::default();
    let (mut details, mut matchers, mut has_payload) = (0, 0, false);
    for (entry, json) in entries.into_iter().enumerate() {
        let wrong = |problem: &str| TokenError::Detail { entry, problem: problem.to_owned() };
        let Typed { kind } = object(json).ok_or_else(|| wrong("it is no object with a \"type\""))?;
        if kind != DETAIL_TYPE {
            continue;
        }
        let detail: Detail<'_> = object(json).ok_or_else(|| {
            wrong("\"actions\" must be an array of strings and \"topics\" an array of objects, each once")
        })?;
        details += 1;
        if details > limits.token_details_max {
            return Err(TokenError::TooManyDetails { max: limits.token_details_max });
        }
        matchers += detail.topics.len();
        if matchers > limits.token_matchers_max {
            return Err(TokenError::TooManyMatchers { max: limits.token_matchers_max });
        }
        if detail.actions.is_empty() || detail.topics.is_empty() {
            return Err(wrong("\"actions\" and \"topics\" must not be empty"));
        }
        if detail.payload.is_some_and(|payload| !payload.get().starts_with('{')) {
            return Err(wrong("\"payload\" must be an object"));
        }
        let parse = |json: &&RawValue| matcher(json, hub, limits).map_err(|problem| wrong(&problem));
        let topics = detail.topics.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let allows = |action: &str| detail.actions.iter().any(|each| each == action);
        if allows("publish") {
            grants.publish.extend(topics.iter().cloned());
        }
        if allows("subscribe") {
            grants.subscribe.extend(topics.iter().cloned());
            has_payload |= detail.payload.is_some();
            grants.payloads.push((topics, detail.payload.map(|payload| Arc::from(payload.to_owned()))));
        }
    }
    if !has_payload {
        grants.payloads = Vec::new();
    }
    // Every stream keeps its grants, so they should take no spare room.
    grants.publish.shrink_to_fit();
    grants.subscribe.shrink_to_fit();
    grants.payloads.shrink_to_fit();
    Ok(grants)
}

const CLAIM: &str = "authorization_details";

/// Reads a topic matcher object (section "Topic Matcher List"). The error says what is wrong.
fn matcher(json: &RawValue, hub: &HubUrl, limits: &Limits) -> Result<Matcher, String> {
    let Some(TopicMatcher { text, match_type }) = object(json) else {
        return Err("a topic must be an object of the strings \"match\" and \"match_type\"".to_owned());
    };
    let matcher_type = match match_type {
        None => MatcherType::Exact,
        Some(name) => MatcherType::parse(&name)
            .ok_or_else(|| "a \"match_type\" is none of \"exact\" and \"urlpattern\"".to_owned())?,
    };
    Matcher::parse(matcher_type, &text, hub, limits).map_err(|reject| reject.to_string())
}

/// Reads an object. Without the check, serde would read an array as a struct, too.
fn object<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Option<T> {
    json.get().starts_with('{').then(|| serde_json::from_str(json.get()).ok())?
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Detail<'a> {
    actions: Vec<String>,
    #[serde(borrow)]
    topics: Vec<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TopicMatcher {
    #[serde(rename = "match")]
    text: String,
    #[serde(default, deserialize_with = "present")]
    match_type: Option<String>,
}

/// Reads a member that is there, also as null: null is neither a string nor an object, so it is refused.
fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::topic::Topic;

    #[expect(clippy::needless_pass_by_value, reason = "given as literals")]
    fn read(details: Value) -> Result<Grants, TokenError> {
        let claims = Claims::from_json(json!({ "authorization_details": details }).to_string().as_bytes());
        grants(&claims.expect("an object"), &HubUrl::default(), &Limits::default())
    }

    #[expect(clippy::needless_pass_by_value, reason = "given as literals")]
    fn detail(actions: Value, topics: Value) -> Value {
        json!({"type": DETAIL_TYPE, "actions": actions, "topics": topics})
    }

    fn texts(matchers: &[Matcher]) -> Vec<&str> {
        matchers.iter().map(Matcher::as_str).collect()
    }

    #[test]
    fn actions_grant_their_topics() {
        let grants = read(json!([
            detail(json!(["publish"]), json!([{"match": "a"}, {"match": "/b/:c", "match_type": "urlpattern"}])),
            detail(json!(["subscribe", "publish", "delete"]), json!([{"match": "*"}])),
            detail(json!(["unknown"]), json!([{"match": "z"}])),
            {"type": "https://example.com/other", "actions": 7},
        ]))
        .expect("valid");
        assert_eq!(texts(&grants.publish), ["a", "/b/:c", "*"]);
        assert_eq!(texts(&grants.subscribe), ["*"]);
        assert!(grants.payloads.is_empty());
        assert!(grants.may_read(&Topic::unchecked("anything", &HubUrl::default())));
    }

    #[test]
    fn no_details_grant_nothing() {
        assert!(read(json!([])).expect("valid").publish.is_empty());
        let claims = Claims::from_json(b"{}").expect("an object");
        assert!(grants(&claims, &HubUrl::default(), &Limits::default()).expect("valid").subscribe.is_empty());
    }

    #[test]
    fn one_malformed_detail_refuses_the_token() {
        let good = || detail(json!(["publish"]), json!([{"match": "a"}]));
        for bad in [
            json!("x"),
            json!([]),
            json!({}),
            json!({"type": 1}),
            json!({"type": DETAIL_TYPE}),
            detail(json!([]), json!([{"match": "a"}])),
            detail(json!(["publish"]), json!([])),
            detail(json!("publish"), json!([{"match": "a"}])),
            detail(json!(["publish", 1]), json!([{"match": "a"}])),
            detail(json!(["publish"]), json!(["a"])),
            detail(json!(["publish"]), json!([["a", "exact"]])),
            detail(json!(["publish"]), json!([{"match": 1}])),
            detail(json!(["publish"]), json!([{}])),
            detail(json!(["publish"]), json!([{"match": "a", "match_type": "Exact"}])),
            detail(json!(["publish"]), json!([{"match": "*", "match_type": "regexp"}])),
            detail(json!(["publish"]), json!([{"match": "a", "match_type": null}])),
            detail(json!(["publish"]), json!([{"match": "a\u{0}"}])),
            detail(
                json!(["publish"]),
                json!([{"match": "https://example.com/(", "match_type": "urlpattern"}]),
            ),
            detail(
                json!(["unknown"]),
                json!([{"match": "https://example.com/(", "match_type": "urlpattern"}]),
            ),
            json!({"type": DETAIL_TYPE, "actions": ["subscribe"], "topics": [{"match": "a"}], "payload": "x"}),
            json!({"type": DETAIL_TYPE, "actions": ["subscribe"], "topics": [{"match": "a"}], "payload": null}),
        ] {
            let read = read(json!([good(), bad]));
            assert!(matches!(read, Err(TokenError::Detail { entry: 1, .. })), "{bad}: {read:?}");
        }
        assert!(matches!(read(json!({})), Err(TokenError::Claim { .. })));
    }

    #[test]
    fn limits_refuse_the_token() {
        let most = vec![detail(json!(["publish"]), json!([{"match": "a"}])); 100];
        assert!(read(json!(most)).is_ok());
        let most = vec![json!({"match": "a"}); 500];
        let most = detail(json!(["publish"]), json!(most));
        assert!(read(json!([most, most])).is_ok(), "1,000 matchers");
        let one_more = detail(json!(["publish"]), json!([{"match": "a"}]));
        assert!(read(json!([most, most, one_more])).is_err());
        let many = vec![detail(json!(["publish"]), json!([{"match": "a"}])); 101];
        assert_eq!(read(json!(many)).err(), Some(TokenError::TooManyDetails { max: 100 }));
        let many = vec![json!({"match": "a"}); 1001];
        let read_many = read(json!([detail(json!(["publish"]), json!(many))]));
        assert_eq!(read_many.err(), Some(TokenError::TooManyMatchers { max: 1000 }));
        let long = detail(json!(["publish"]), json!([{"match": "a".repeat(4097)}]));
        assert!(matches!(read(json!([long])), Err(TokenError::Detail { .. })));
    }

    #[test]
    fn the_first_matching_detail_gives_the_payload() {
        let with = |topic: Value, payload: Option<Value>| {
            let mut detail = detail(json!(["subscribe"]), json!([topic]));
            if let Some(payload) = payload {
                detail["payload"] = payload;
            }
            detail
        };
        let grants = read(json!([
            with(json!({"match": "https://example.com/foo"}), Some(json!({"n": 1}))),
            with(json!({"match": "https://example.com/none"}), None),
            with(
                json!({"match": "https://example.com/bar/:id", "match_type": "urlpattern"}),
                Some(json!({"n": 2}))
            ),
            with(json!({"match": "*"}), Some(json!({"n": 3}))),
        ]))
        .expect("valid");
        let payload = |matcher_type, text: &str| {
            let matcher = Matcher::parse(matcher_type, text, &HubUrl::default(), &Limits::default());
            let payload = grants.payload(&matcher.expect("valid"), &HubUrl::default());
            payload.map(|json| json.get().to_owned())
        };
        let two = read(json!([
            with(json!({"match": "a"}), Some(json!({"n": 1}))),
            with(json!({"match": "b"}), Some(json!({"n": 2})))
        ]));
        assert_eq!(two.expect("valid").payloads.len(), 2);
        let n = |n: u8| Some(format!("{{\"n\":{n}}}"));
        assert_eq!(payload(MatcherType::Exact, "https://example.com/foo"), n(1));
        assert_eq!(payload(MatcherType::Exact, "https://example.com/none"), None);
        assert_eq!(payload(MatcherType::UrlPattern, "https://example.com/bar/:id"), n(2));
        assert_eq!(payload(MatcherType::Exact, "https://example.com/bar/7"), n(2));
        assert_eq!(payload(MatcherType::Exact, "other"), n(3));
    }
}
