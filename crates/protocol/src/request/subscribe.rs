//! A subscribe request of either dialect (section "Subscription").

use super::{
    cursor::Cursor,
    form::Form,
    parameters::{CURSORS, CURSORS_V1, MULTIPLEX, is_reserved},
};
use crate::{
    Dialect, Limits, Reject,
    matcher::{Matcher, MatcherType},
    topic::HubUrl,
};

/// What a subscriber wants to receive, and from where in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// The dialect of the request: `match…` parameters are 1.0, `topic` parameters are 0.x.
    pub dialect: Dialect,
    /// At least one matcher, and none twice.
    pub matchers: Vec<Matcher>,
    /// The event after which the stream begins. Absent: the stream begins now.
    pub cursor: Option<Cursor>,
    /// Whether the client carries several subscriptions over the stream: each event names its topics then, and the stream says
    /// where it is in the log. The specification has no such parameter, `petasos-multiplex`.
    pub multiplex: bool,
}

impl SubscribeRequest {
    /// Reads matchers and cursor.
    ///
    /// `last_event_ids` are the values of `Last-Event-ID` header fields. They take precedence over the parameter, except
    /// that a blank one counts only if there is no other cursor. `compat` says whether protocol 0.x is served as well.
    ///
    /// # Errors
    /// - [`Reject::MatcherMissing`]: no parameter selects anything.
    /// - [`Reject::MatcherUnsupported`]: an unknown name that begins with `match`, all of which 1.0 reserves.
    /// - [`Reject::SelectorUnsupported`]: a `topic` parameter without `compat`.
    /// - [`Reject::DialectsMixed`]: `topic` and `match` parameters together.
    /// - [`Reject::TooMany`]: more than [`Limits::matchers_max`] different matchers, or more than
    ///   [`Limits::cursors_max`] different cursors.
    /// - [`Reject::MatcherTooComplex`]: the matchers take more than [`Limits::matchers_bytes_max`] together.
    /// - The errors of [`Matcher::parse`] and [`Matcher::selector`].
    ///
    /// ```
    /// use petasos_protocol::{Dialect, Limits, request::{Form, Part, SubscribeRequest}, topic::HubUrl};
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
        for (name, value) in parameters.pairs() {
            let language = match name {
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
        let multiplex = parameters.first(MULTIPLEX).is_some();
        let spellings = match dialect {
            Dialect::Legacy => &CURSORS[..],
            Dialect::V1 => &CURSORS_V1[..],
        };
        let in_header = Cursor::newest(last_event_ids.iter().copied(), limits)?;
        let cursor = match in_header {
            None | Some(Cursor::Blank) => {
                Cursor::newest(parameters.one_parameter(spellings), limits)?.or(in_header)
            }
            given => given,
        };
        Ok(Self { dialect, matchers, cursor, multiplex })
    }
}

/// The matcher type that a parameter name stands for.
fn matcher_type(name: &str) -> Result<MatcherType, Reject> {
    match name {
        "match" => Ok(MatcherType::Exact),
        name => name.strip_prefix("match_").and_then(MatcherType::parse).ok_or(Reject::MatcherUnsupported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Part;

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
    fn cursor_header_wins_and_every_spelling_is_read() {
        let cursor = |query: &str, headers: &[&str]| request(query, headers).expect("valid").cursor;
        let after = |id: &str| Some(Cursor::After(id.into()));
        assert_eq!(cursor("topic=a", &[]), None);
        assert_eq!(cursor("topic=a&lastEventID=q", &["h"]), after("h"));
        assert_eq!(cursor("topic=a&lastEventID=q", &[""]), after("q"));
        assert_eq!(cursor("topic=a&lastEventID=q", &["", "h"]), after("h"));
        assert_eq!(cursor("topic=a&lastEventID=q", &["earliest"]), Some(Cursor::Earliest));
        for name in CURSORS {
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
        for query in [
            "match=a&last_event_id=%FF",
            "match=a&MATCHES=%FF",
            "match=a&topic=%FF",
            "match=a&authorization=%FF",
        ] {
            assert!(matches!(request_v1(query), Err(Reject::NotUtf8 { .. })), "{query}");
        }
    }

    #[test]
    fn a_stream_names_topics_if_it_is_asked_to_in_either_dialect_whatever_the_value() {
        let is_asked = |query: &str| request(query, &[]).expect(query).multiplex;
        for query in
            ["topic=a&petasos-multiplex", "match=a&petasos-multiplex=1", "petasos-multiplex=0&topic=a"]
        {
            assert!(is_asked(query), "{query}");
        }
        for query in ["topic=a", "match=petasos-multiplex", "topic=a&Petasos-Multiplex", "topic=a&multiplex"]
        {
            assert!(!is_asked(query), "{query}");
        }
        let limits = Limits::default();
        let form = |text: &'static str| Form::parse(text.as_bytes(), Part::Query, &limits).expect("a form");
        for (query, body) in [("match=a", "petasos-multiplex"), ("petasos-multiplex", "match=a")] {
            let united = form(query).and(form(body));
            let request = SubscribeRequest::parse(&united, &[], false, &HubUrl::default(), &limits);
            assert!(request.expect("valid").multiplex, "{query}, {body}");
        }
    }

    #[test]
    fn the_same_selector_twice_is_one_subscription() {
        assert_eq!(request("topic=a&topic=b&topic=a", &[]).expect("valid").matchers.len(), 2);
    }

    #[test]
    fn matchers_are_bounded_in_number_and_together_in_bytes() {
        let (hub, limits) = (HubUrl::default(), Limits { matchers_max: 2, ..Limits::default() });
        let parse = |query: &str, limits: &Limits| {
            let query = Form::parse(query.as_bytes(), Part::Query, limits).expect("few fields");
            SubscribeRequest::parse(&query, &[], false, &hub, limits)
        };
        assert!(parse("match=a&match=b&match=a", &limits).is_ok());
        assert!(matches!(parse("match=a&match=b&match=c", &limits), Err(Reject::TooMany { max: 2, .. })));
        let bytes = parse("match=a&match=b", &limits).expect("two").matchers.iter().map(Matcher::bytes).sum();
        let exactly = |matchers_bytes_max| Limits { matchers_bytes_max, ..Limits::default() };
        assert!(parse("match=a&match=b", &exactly(bytes)).is_ok());
        assert_eq!(parse("match=a&match=b", &exactly(bytes - 1)), Err(Reject::MatcherTooComplex));
    }

    #[test]
    fn different_cursors_are_bounded_wherever_they_stand() {
        let limits = Limits { cursors_max: 1, ..Limits::default() };
        let parse = |query: &str, headers: &[&str]| {
            let form = Form::parse(query.as_bytes(), Part::Query, &limits).expect("few fields");
            SubscribeRequest::parse(&form, headers, true, &HubUrl::default(), &limits).map(|_| ())
        };
        assert_eq!(parse("topic=a&lastEventID=1&lastEventId=1", &[]), Ok(()));
        let too_many = parse("topic=a&lastEventID=1&lastEventId=2", &[]);
        assert!(matches!(too_many, Err(Reject::TooMany { max: 1, .. })));
        assert_eq!(parse("topic=a", &["1", "2"]), too_many);
    }
}
