//! `application/x-www-form-urlencoded`, for publish bodies and for queries: the WHATWG parser, made strict about UTF-8
//! and bounded in its number of fields.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::{
    Limits, Reject,
    cursor::Cursor,
    matcher::Matcher,
    topic::{HubUrl, Topics},
    update::{Draft, EventId, EventType, Retry},
};

/// Where a form stands in a request, which decides what breaking a limit is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The body of a publish request.
    Form,
    /// The query component.
    Query,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Query => "query",
        }
    }
}

/// Decoded name/value pairs, in order.
pub struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Form<'a> {
    /// Decodes `input`. A stray `%` stands for itself.
    ///
    /// # Errors
    /// [`Reject::NotUtf8`]; for too many fields [`Reject::TooLarge`] (form) or [`Reject::TooMany`] (query).
    pub fn parse(input: &'a [u8], part: Part, limits: &Limits) -> Result<Self, Reject> {
        let mut pairs = Vec::new();
        for field in input.split(|byte| *byte == b'&').filter(|field| !field.is_empty()) {
            if pairs.len() == limits.fields_max {
                let (what, max) = ("the number of fields", limits.fields_max);
                return Err(match part {
                    Part::Form => Reject::TooLarge { what, max },
                    Part::Query => Reject::TooMany { what, max },
                });
            }
            let equals = field.iter().position(|byte| *byte == b'=');
            let (name, value) = match equals {
                Some(at) => (&field[..at], &field[at + 1..]),
                None => (field, &field[..0]),
            };
            pairs.push((decode(name, part)?, decode(value, part)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of that name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of that name, unless it is empty: clients send the optional fields they leave blank.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    /// All values of that name, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| &**value)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }
}

fn decode<'a>(input: &'a [u8], part: Part) -> Result<Cow<'a, str>, Reject> {
    if !input.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return std::str::from_utf8(input)
            .map(Cow::Borrowed)
            .map_err(|_| Reject::NotUtf8 { part: part.name() });
    }
    let spaced: Vec<u8> = input.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let decoded = percent_decode(&spaced).collect();
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Reject::NotUtf8 { part: part.name() })
}

/// A publish request (section "Publication"). Of a single-valued field the first occurrence counts, unknown fields are
/// ignored, and a blank `id`, `type` or `retry` counts as not given.
///
/// # Errors
/// [`Reject`], with nothing done.
pub fn publish(body: &[u8], hub: &HubUrl, limits: &Limits) -> Result<Draft, Reject> {
    if body.len() > limits.body_bytes_max {
        return Err(Reject::TooLarge { what: "the body in bytes", max: limits.body_bytes_max });
    }
    let form = Form::parse(body, Part::Form, limits)?;
    Ok(Draft {
        topics: Topics::parse(form.all("topic"), hub, limits)?,
        private: form.first("private").is_some(),
        id: form.given("id").map(|value| EventId::parse(value, limits)).transpose()?,
        event_type: form.given("type").map(|value| EventType::parse(value, limits)).transpose()?,
        retry: form.given("retry").map(Retry::parse).transpose()?,
        data: form.first("data").unwrap_or_default().to_owned(),
    })
}

/// A subscribe request, checked: what to receive, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// At least one, none twice.
    pub matchers: Vec<Matcher>,
    /// Absent: from now on.
    pub cursor: Option<Cursor>,
}

impl SubscribeRequest {
    /// A 0.x request (section "Subscription"): `topic` parameters, and the cursor from the `Last-Event-ID` header
    /// field before any of its query spellings.
    ///
    /// # Errors
    /// [`Reject::MatcherMissing`], [`Reject::MatcherUnsupported`] for parameters that 1.0 reserves,
    /// [`Reject::TooMany`], and what [`Matcher::selector`] refuses.
    pub fn legacy(query: &Form<'_>, last_event_id: Option<&str>, limits: &Limits) -> Result<Self, Reject> {
        let reserved = |name: &str| name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match"));
        if query.names().any(reserved) {
            return Err(Reject::MatcherUnsupported);
        }
        let mut matchers = Vec::new();
        for selector in query.all("topic") {
            if matchers.len() == limits.matchers_max {
                return Err(Reject::TooMany {
                    what: "the number of \"topic\" parameters",
                    max: limits.matchers_max,
                });
            }
            let matcher = Matcher::selector(selector, limits)?;
            if !matchers.contains(&matcher) {
                matchers.push(matcher);
            }
        }
        if matchers.is_empty() {
            return Err(Reject::MatcherMissing);
        }
        let spelling = || LEGACY_CURSORS.iter().find_map(|name| query.given(name));
        let cursor = last_event_id.filter(|value| !value.is_empty()).or_else(spelling);
        Ok(Self { matchers, cursor: cursor.map(Cursor::parse) })
    }
}

/// The query names that deployed clients use: 1.0, then 0.x, Yaffle's polyfill, and Symfony's Twig function.
const LEGACY_CURSORS: [&str; 4] = ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draft(body: &str) -> Result<Draft, Reject> {
        publish(body.as_bytes(), &HubUrl::default(), &Limits::default())
    }

    fn request(query: &str, header: Option<&str>) -> Result<SubscribeRequest, Reject> {
        let limits = Limits::default();
        SubscribeRequest::legacy(&Form::parse(query.as_bytes(), Part::Query, &limits)?, header, &limits)
    }

    #[test]
    fn publish_reads_all_fields() {
        let draft =
            draft("topic=a&topic=b%20c&data=x%0Ay+z&private=&id=i&type=t&retry=5&unknown=1").expect("valid");
        let topics: Vec<_> = draft.topics.iter().map(|topic| topic.as_str().to_owned()).collect();
        assert_eq!(topics, ["a", "b c"]);
        assert_eq!(draft.data, "x\ny z");
        assert!(draft.private);
        assert_eq!(draft.id.expect("given").as_str(), "i");
        assert_eq!(draft.event_type.expect("given").as_str(), "t");
        assert_eq!(draft.retry.map(Retry::millis), Some(5));
    }

    #[test]
    fn only_a_topic_is_required() {
        let draft = draft("topic=a").expect("valid");
        assert_eq!((draft.data.as_str(), draft.private), ("", false));
        assert!(draft.id.is_none() && draft.event_type.is_none() && draft.retry.is_none());
    }

    #[test]
    fn blank_optional_fields_count_as_absent() {
        let draft = draft("topic=a&id=&type=&retry=").expect("valid");
        assert!(draft.id.is_none() && draft.event_type.is_none() && draft.retry.is_none());
    }

    #[test]
    fn private_counts_by_presence() {
        for body in ["topic=a&private", "topic=a&private=", "topic=a&private=off", "topic=a&private=0"] {
            assert!(draft(body).expect("valid").private, "{body}");
        }
        assert!(!draft("topic=a&Private=on").expect("valid").private);
    }

    #[test]
    fn bad_publish_requests_are_refused() {
        for (body, code) in [
            ("", "topic-missing"),
            ("data=x", "topic-missing"),
            ("topic=", "topic-reserved"),
            ("topic=*", "topic-wildcard"),
            ("topic=a&topic=%00", "character-forbidden"),
            ("topic=/.well-known/mercure/subscriptions/a", "topic-reserved"),
            ("topic=a&data=%FF", "not-utf8"),
            ("topic=a&other=%FF", "not-utf8"),
            ("topic=a&id=%23x", "id-reserved"),
            ("topic=a&id=earliest", "id-reserved"),
            ("topic=a&id=x%0Ay", "character-forbidden"),
            ("topic=a&type=mercure", "type-reserved"),
            ("topic=a&type=x%0Ddata:", "character-forbidden"),
            ("topic=a&retry=-1", "retry-invalid"),
            ("topic=a&retry=1%0A", "retry-invalid"),
        ] {
            assert_eq!(draft(body).expect_err(body).code(), code, "{body}");
        }
        let many = vec!["topic=a"; 101].join("&");
        assert_eq!(draft(&many).expect_err("too many").code(), "too-large");
        let fields = vec!["x"; 1001].join("&");
        assert_eq!(draft(&fields).expect_err("too many").code(), "too-large");
        let long = format!("topic=a&data={}", "x".repeat(1024 * 1024));
        assert_eq!(draft(&long).expect_err("too long").code(), "too-large");
    }

    #[test]
    fn cursor_header_wins_and_every_spelling_is_read() {
        let cursor = |query: &str, header| request(query, header).expect("valid").cursor;
        let after = |id: &str| Some(Cursor::After(id.into()));
        assert_eq!(cursor("topic=a", None), None);
        assert_eq!(cursor("topic=a&lastEventID=q", Some("h")), after("h"));
        assert_eq!(cursor("topic=a&lastEventID=q", Some("")), after("q"));
        for name in ["last_event_id", "lastEventID", "lastEventId", "Last-Event-ID"] {
            assert_eq!(cursor(&format!("topic=a&{name}=q"), None), after("q"), "{name}");
        }
        assert_eq!(cursor("topic=a&lastEventID=&Last-Event-ID=x", None), after("x"));
        assert_eq!(cursor("topic=a&lastEventID=earliest", None), Some(Cursor::Earliest));
    }

    #[test]
    fn bad_subscribe_requests_are_refused() {
        for (query, code) in [
            ("", "matcher-missing"),
            ("Topic=a", "matcher-missing"),
            ("match=a", "matcher-unsupported"),
            ("topic=a&matchUrlpattern=x", "matcher-unsupported"),
            ("topic=a&MATCH_exact=x", "matcher-unsupported"),
            ("topic=%FF", "not-utf8"),
            ("topic=%0A", "character-forbidden"),
        ] {
            assert_eq!(request(query, None).expect_err(query).code(), code, "{query}");
        }
        let many: Vec<_> = (0..101).map(|i| format!("topic={i}")).collect();
        assert_eq!(request(&many.join("&"), None).expect_err("too many").code(), "too-many");
    }

    #[test]
    fn the_same_selector_twice_is_one_subscription() {
        assert_eq!(request("topic=a&topic=b&topic=a", None).expect("valid").matchers.len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = publish(&input, &HubUrl::default(), &Limits::default());
        }

        #[test]
        fn agrees_with_the_whatwg_parser_on_utf8(input in "[a-c&=+%0-9é]{0,40}") {
            let limits = Limits::default();
            let reference: Vec<_> = url::form_urlencoded::parse(input.as_bytes()).into_owned().collect();
            match Form::parse(input.as_bytes(), Part::Form, &limits) {
                Ok(form) => {
                    let ours: Vec<_> = form.0.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
                    prop_assert_eq!(ours, reference);
                }
                Err(_) => {
                    let lossy = |text: &str| text.contains(char::REPLACEMENT_CHARACTER);
                    let refused_rightly = reference.iter().any(|(name, value)| lossy(name) || lossy(value));
                    prop_assert!(refused_rightly);
                }
            }
        }
    }
}
