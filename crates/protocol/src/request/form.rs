//! `application/x-www-form-urlencoded`, for publish bodies and for queries: the WHATWG parser, made strict about UTF-8
//! and bounded in its number of fields.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use crate::{
    Dialect, Limits, Reject,
    cursor::Cursor,
    matcher::{Matcher, MatcherType},
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
pub struct Form<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The number of pairs of the form itself; those behind them were added with [`Form::and`].
    own: usize,
}

impl<'a> Form<'a> {
    /// Decodes `input`. A stray `%` stands for itself; an unknown parameter of a query is left out if its
    /// bytes are no UTF-8.
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
            match (decode(name, part), decode(value, part)) {
                (Ok(name), Ok(value)) => pairs.push((name, value)),
                // Others add to URLs what they like.
                (name, _) if part == Part::Query && !name.as_ref().is_ok_and(|name| is_known(name)) => {}
                (Err(reject), _) | (_, Err(reject)) => return Err(reject),
            }
        }
        Ok(Self { own: pairs.len(), pairs })
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
        self.pairs.iter().filter(move |(field, _)| field == name).map(|(_, value)| &**value)
    }

    /// The union with another form, whose pairs come after (section "Subscription": query component and body).
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.pairs.extend(other.pairs);
        self
    }

    /// The values of one parameter in all of its `spellings`, in order. If both components have the parameter, only the
    /// values in the first component count (section "Subscription").
    fn one_parameter(&self, spellings: &[&str]) -> impl Iterator<Item = &str> {
        let (own, added) = self.pairs.split_at(self.own);
        let is_named = move |(name, _): &&(Cow<'_, str>, Cow<'_, str>)| spellings.contains(&&**name);
        let counted = if own.iter().any(|pair| is_named(&pair)) { own } else { added };
        counted.iter().filter(is_named).map(|(_, value)| &**value)
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
    /// What the request speaks: `match…` parameters are 1.0, `topic` parameters 0.x.
    pub dialect: Dialect,
    /// At least one, none twice.
    pub matchers: Vec<Matcher>,
    /// Absent: from now on.
    pub cursor: Option<Cursor>,
}

impl SubscribeRequest {
    /// Section "Subscription" of either dialect: the parameters, and the cursor. The values of `Last-Event-ID` header
    /// fields count before those of the parameter; a blank one counts if there is no other. Unless `compat`, only 1.0.
    ///
    /// # Errors
    /// [`Reject::MatcherMissing`], [`Reject::MatcherUnsupported`] for a name that 1.0 reserves,
    /// [`Reject::SelectorUnsupported`], [`Reject::DialectsMixed`], [`Reject::TooMany`], and what [`Matcher::parse`] and
    /// [`Matcher::selector`] refuse.
    ///
    /// ```
    /// use petasos_protocol::{Dialect, Limits, form::{Form, Part, SubscribeRequest}, topic::HubUrl};
    /// let limits = Limits::default();
    /// let query = Form::parse(b"match=books%2F1&match_urlpattern=/books/:id", Part::Query, &limits)?;
    /// let request = SubscribeRequest::parse(&query, &[], false, &HubUrl::default(), &limits)?;
    /// assert_eq!((request.dialect, request.matchers.len()), (Dialect::V1, 2));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn parse(
        parameters: &Form<'_>,
        last_event_ids: &[&str],
        compat: bool,
        hub: &HubUrl,
        limits: &Limits,
    ) -> Result<Self, Reject> {
        let (mut matchers, mut bytes) = (Vec::new(), 0);
        let mut dialect = None;
        for (name, value) in &parameters.pairs {
            let language = match &**name {
                "topic" if compat => Dialect::Legacy,
                "topic" => return Err(Reject::SelectorUnsupported),
                name if is_reserved(name) => Dialect::V1,
                _ => continue,
            };
            if dialect.is_some_and(|other| other != language) {
                return Err(Reject::DialectsMixed);
            }
            dialect = Some(language);
            let matcher = match language {
                Dialect::Legacy => Matcher::selector(value, limits)?,
                Dialect::V1 => Matcher::parse(matcher_type(name)?, value, hub, limits)?,
            };
            if matchers.contains(&matcher) {
                continue;
            }
            if matchers.len() == limits.matchers_max {
                let what = "the number of different \"match\" or \"topic\" parameters";
                return Err(Reject::TooMany { what, max: limits.matchers_max });
            }
            bytes += matcher.bytes();
            if bytes > limits.matchers_bytes_max {
                return Err(Reject::MatcherTooComplex);
            }
            matchers.push(matcher);
        }
        let dialect = dialect.ok_or(Reject::MatcherMissing)?;
        let spellings = match dialect {
            Dialect::Legacy => &LEGACY_CURSORS[..],
            Dialect::V1 => &LEGACY_CURSORS[..1],
        };
        let in_header = Cursor::newest(last_event_ids.iter().copied(), limits)?;
        let cursor = match in_header {
            None | Some(Cursor::Blank) => {
                Cursor::newest(parameters.one_parameter(spellings), limits)?.or(in_header)
            }
            given => given,
        };
        Ok(Self { dialect, matchers, cursor })
    }
}

/// Whether a query parameter of that name means something in either dialect.
fn is_known(name: &str) -> bool {
    is_reserved(name) || LEGACY_CURSORS.contains(&name) || ["topic", "authorization"].contains(&name)
}

/// Whether 1.0 reserves the name of a parameter: for a typing error must fail and not select less.
fn is_reserved(name: &str) -> bool {
    name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("match"))
}

fn matcher_type(name: &str) -> Result<MatcherType, Reject> {
    match name {
        "match" => Ok(MatcherType::Exact),
        name => name.strip_prefix("match_").and_then(MatcherType::parse).ok_or(Reject::MatcherUnsupported),
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

    fn request(query: &str, headers: &[&str]) -> Result<SubscribeRequest, Reject> {
        let limits = Limits::default();
        let query = Form::parse(query.as_bytes(), Part::Query, &limits)?;
        SubscribeRequest::parse(&query, headers, true, &HubUrl::default(), &limits)
    }

    fn request_v1(query: &str) -> Result<SubscribeRequest, Reject> {
        let limits = Limits::default();
        let query = Form::parse(query.as_bytes(), Part::Query, &limits)?;
        SubscribeRequest::parse(&query, &[], false, &HubUrl::default(), &limits)
    }

    #[test]
    fn names_choose_matcher_type_and_dialect() {
        let matchers = |query: &str| {
            let request = request_v1(query).expect(query);
            let named =
                request.matchers.iter().map(|m| (m.matcher_type().expect("1.0"), m.as_str().to_owned()));
            named.collect::<Vec<_>>()
        };
        let (exact, pattern) = (MatcherType::Exact, MatcherType::UrlPattern);
        assert_eq!(
            matchers("match=a&match_exact=b&match_urlpattern=/c/:d&match_exact=a&other=1"),
            [(exact, "a".to_owned()), (exact, "b".to_owned()), (pattern, "/c/:d".to_owned())]
        );
        assert_eq!(
            matchers("match=*&match_urlpattern=*"),
            [(exact, "*".to_owned()), (pattern, "*".to_owned())]
        );
        assert_eq!(matchers("match"), [(exact, String::new())]);
        assert_eq!(request("match=a", &[]).expect("valid").dialect, Dialect::V1);
        assert_eq!(request("topic=a", &[]).expect("valid").dialect, Dialect::Legacy);
    }

    #[test]
    fn without_compat_nothing_of_0_x_is_read() {
        assert_eq!(request_v1("topic=a"), Err(Reject::SelectorUnsupported));
        assert_eq!(request_v1("match=a&topic=a"), Err(Reject::SelectorUnsupported));
        for name in ["lastEventID", "lastEventId", "Last-Event-ID"] {
            assert_eq!(request_v1(&format!("match=a&{name}=x")).expect("valid").cursor, None, "{name}");
        }
        assert!(request_v1("match=a&last_event_id=x").expect("valid").cursor.is_some());
        assert_eq!(request("match=a&lastEventID=x", &[]).expect("valid").cursor, None);
    }

    #[test]
    fn the_matchers_of_one_subscriber_are_bounded_together() {
        let query = |count: usize, pattern: &str| {
            let one = |number| format!("match_urlpattern={}&", pattern.replace('N', &format!("{number}")));
            (0..count).map(one).collect::<String>()
        };
        assert!(request_v1(&query(100, "/N/:a/:b/(%5Cw)")).is_ok());
        let heavy = "https://e/N(a{200})/(b{200})";
        assert!(request_v1(&query(1, heavy)).is_ok());
        assert_eq!(request_v1(&query(100, heavy)), Err(Reject::MatcherTooComplex));
        let long = "a".repeat(4_000);
        // A pattern is kept as its text and as what it compiles to.
        assert!(request_v1(&query(30, &format!("/N/{long}"))).is_ok());
        assert_eq!(request_v1(&query(40, &format!("/N/{long}"))), Err(Reject::MatcherTooComplex));
        let texts = |count| (0..count).map(|number| format!("match={number}{long}&")).collect::<String>();
        assert!(request_v1(&texts(60)).is_ok());
        assert_eq!(request_v1(&texts(80)), Err(Reject::MatcherTooComplex));
    }

    #[test]
    fn parameters_of_body_and_query_are_united_and_the_query_has_the_cursor() {
        let limits = Limits::default();
        let form = |text: &'static str| Form::parse(text.as_bytes(), Part::Query, &limits).expect("a form");
        let united = |query, body| {
            let united = form(query).and(form(body));
            let request = SubscribeRequest::parse(&united, &[], true, &HubUrl::default(), &limits);
            let request = request.expect("valid");
            (request.matchers.len(), request.cursor)
        };
        let after = |id: &str| Some(Cursor::After(id.into()));
        assert_eq!(united("match=a&last_event_id=q", "match=b&last_event_id=b"), (2, after("q")));
        assert_eq!(united("match=a", "match=b&last_event_id=b"), (2, after("b")));
        assert_eq!(united("", "match=b&last_event_id=b"), (1, after("b")));
        assert_eq!(
            united("match=a&last_event_id=", "last_event_id=b"),
            (1, Some(Cursor::Blank)),
            "to the letter"
        );
        assert_eq!(united("topic=a&lastEventID=q", "lastEventId=b&topic=b"), (2, after("q")));
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
        let cursor = |query: &str, headers: &[&str]| request(query, headers).expect("valid").cursor;
        let after = |id: &str| Some(Cursor::After(id.into()));
        assert_eq!(cursor("topic=a", &[]), None);
        assert_eq!(cursor("topic=a&lastEventID=q", &["h"]), after("h"));
        assert_eq!(cursor("topic=a&lastEventID=q", &[""]), after("q"));
        assert_eq!(cursor("topic=a&lastEventID=q", &["", "h"]), after("h"));
        assert_eq!(cursor("topic=a&lastEventID=q", &["earliest"]), Some(Cursor::Earliest));
        for name in LEGACY_CURSORS {
            assert_eq!(cursor(&format!("topic=a&{name}=q"), &[]), after("q"), "{name}");
            assert_eq!(cursor(&format!("topic=a&{name}="), &[]), Some(Cursor::Blank), "{name}");
            assert_eq!(cursor(&format!("topic=a&{name}"), &["h"]), after("h"), "{name}");
        }
        assert_eq!(cursor("topic=a", &[""]), Some(Cursor::Blank));
        assert_eq!(cursor("match=a&last_event_id=", &[]), Some(Cursor::Blank));
        assert_eq!(cursor("match=a&lastEventID=", &[]), None);
        assert_eq!(cursor("topic=a&lastEventID=&Last-Event-ID=x", &[]), after("x"));
        assert_eq!(cursor("topic=a&lastEventID=earliest", &[]), Some(Cursor::Earliest));
    }

    #[test]
    fn several_cursors_are_kept_and_the_log_will_choose_among_them() {
        let cursor = |query: &str, headers: &[&str]| request(query, headers).expect("valid").cursor;
        let all = |ids: &[&str]| Some(Cursor::AfterNewest(ids.iter().map(|id| (*id).into()).collect()));
        let query = "topic=a&lastEventID=1&x=0&Last-Event-ID=2&lastEventId=3&last_event_id=4&lastEventId=1";
        assert_eq!(cursor(query, &[]), all(&["1", "2", "3", "4"]));
        assert_eq!(cursor(query, &["5"]), Some(Cursor::After("5".into())));
        assert_eq!(cursor(query, &["6", "5", "6"]), all(&["6", "5"]));
        let repeated = "match=a&last_event_id=1&lastEventId=3&last_event_id=2";
        assert_eq!(cursor(repeated, &[]), all(&["1", "2"]));
        let many: String = (0..17).map(|number| format!("&lastEventId={number}")).collect();
        assert_eq!(request(&format!("topic=a{many}"), &[]).expect_err("too many").code(), "too-many");
        assert!(request(&format!("topic=a{many}"), &["h"]).is_ok(), "not looked at");
        assert!(request(&format!("match=a{many}"), &[]).is_ok(), "no parameters of 1.0");
    }

    #[test]
    fn bad_subscribe_requests_are_refused() {
        for (query, code) in [
            ("", "matcher-missing"),
            ("Topic=a", "matcher-missing"),
            ("match=a&topic=a", "dialects-mixed"),
            ("topic=a&match_exact=x", "dialects-mixed"),
            ("matchUrlpattern=x", "matcher-unsupported"),
            ("match=a&MATCH=x", "matcher-unsupported"),
            ("match_URLPattern=x", "matcher-unsupported"),
            ("match_=x", "matcher-unsupported"),
            ("matches=x", "matcher-unsupported"),
            ("match=a&match_regexp=x", "matcher-unsupported"),
            ("match=%00", "character-forbidden"),
            ("match_urlpattern=https://example.com/(", "pattern-invalid"),
            ("topic=%FF", "not-utf8"),
            ("topic=%0A", "character-forbidden"),
        ] {
            assert_eq!(request(query, &[]).expect_err(query).code(), code, "{query}");
        }
        let many: Vec<_> = (0..101).map(|i| format!("topic={i}")).collect();
        assert_eq!(request(&many.join("&"), &[]).expect_err("too many").code(), "too-many");
    }

    #[test]
    fn unknown_parameters_may_hold_any_bytes_and_known_ones_may_not() {
        for query in ["match=a&utm=%FF", "%FF=x&match=a", "match=a&%FF"] {
            assert_eq!(request_v1(query).expect(query).matchers.len(), 1, "{query}");
        }
        for query in ["match=a&last_event_id=%FF", "match=a&match_exact=%FF", "match=a&MATCHES=%FF"] {
            assert!(matches!(request_v1(query), Err(Reject::NotUtf8 { .. })), "{query}");
        }
    }

    #[test]
    fn the_same_selector_twice_is_one_subscription() {
        assert_eq!(request("topic=a&topic=b&topic=a", &[]).expect("valid").matchers.len(), 2);
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
                    let ours: Vec<_> = form.pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
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
