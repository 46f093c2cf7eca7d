//! URL patterns (WHATWG URL Pattern Standard, review draft of September 2025): the matcher type `urlpattern` of section
//! "URL Pattern".
//!
//! The crate `urlpattern` parses and canonicalizes a pattern. Of its components, only those that can fail are kept: a
//! component that accepts everything costs nothing, and a literal or a single group is compared without a regular
//! expression.

use std::{fmt, sync::Arc};

use url::Url;
use urlpattern::{
    Error, UrlPattern, UrlPatternInit, UrlPatternOptions,
    component::Component,
    matcher::{InnerMatcher, Matcher},
    regexp::RegExp,
};

use super::automaton::Automaton;
use crate::{
    Reject,
    heap::text_bytes,
    topic::{HubUrl, Topic},
};

/// A URL pattern, ready to match.
pub struct Pattern {
    source: Arc<str>,
    /// The components that can fail. The cheap tests that most topics fail come first.
    tests: Box<[Test]>,
}

struct Test {
    part: Part,
    prefix: Box<str>,
    suffix: Box<str>,
    middle: Middle,
}

/// An upper bound of the time that a test without a regular expression takes, in nanoseconds.
const TEST_COST: usize = 8;

/// The components of a URL.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Pathname,
    Hostname,
    Protocol,
    Port,
    Search,
    Hash,
    Username,
    Password,
}

/// What may stand between the prefix and the suffix of a component.
enum Middle {
    Literal(Box<str>),
    Group { without: Option<char>, may_be_empty: bool },
    Expression(Box<Automaton>),
}

impl Pattern {
    /// Parses an absolute pattern as it is, and resolves a relative pattern against the hub's URL.
    ///
    /// # Errors
    /// [`Reject::PatternInvalid`]: `source` is no URL pattern, or has a regular expression that takes more than linear time
    /// (look-around, back-references), sets flags or is too large.
    ///
    /// ```
    /// use petasos_protocol::{matcher::Pattern, topic::{HubUrl, Topic}};
    /// let hub = HubUrl::default();
    /// let books = Pattern::parse("https://example.com/books/:id", &hub)?;
    /// assert!(books.matches(&Topic::unchecked("https://example.com/books/1", &hub)));
    /// assert!(!books.matches(&Topic::unchecked("https://example.com/books/1/pages", &hub)));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn parse(source: &str, hub: &HubUrl) -> Result<Self, Reject> {
        let constructor = |base| UrlPatternInit::parse_constructor_string::<Expression>(source, base);
        // The base is for relative patterns only. With a base, the path of an opaque pattern such as "urn:*" would be
        // resolved against it.
        let init = match constructor(None) {
            Err(Error::BaseUrlRequired) => constructor(Some(hub.as_url().clone())),
            parsed => parsed,
        };
        Self::build(source, init.map_err(|_| Reject::PatternInvalid)?)
    }

    fn build(source: &str, init: UrlPatternInit) -> Result<Self, Reject> {
        // Never with ignoreCase.
        let options = UrlPatternOptions::default();
        let pattern = UrlPattern::<Expression>::parse(init, options).map_err(|_| Reject::PatternInvalid)?;
        let components = [
            (Part::Pathname, pattern.pathname),
            (Part::Hostname, pattern.hostname),
            (Part::Protocol, pattern.protocol),
            (Part::Port, pattern.port),
            (Part::Search, pattern.search),
            (Part::Hash, pattern.hash),
            (Part::Username, pattern.username),
            (Part::Password, pattern.password),
        ];
        let mut tests = Vec::new();
        for (part, component) in components {
            tests.extend(Test::new(part, component)?);
        }
        Ok(Self { source: source.into(), tests: tests.into() })
    }

    /// The text that the pattern was parsed from.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The text that the pattern was parsed from, shared.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.source
    }

    /// An estimate of the memory that the pattern takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let tests = self.tests.iter().map(|test| {
            let middle = match &test.middle {
                Middle::Literal(literal) => text_bytes(literal.len()),
                Middle::Group { .. } => 0,
                Middle::Expression(automaton) => automaton.bytes(),
            };
            size_of::<Test>() + text_bytes(test.prefix.len()) + text_bytes(test.suffix.len()) + middle
        });
        size_of::<Self>() + text_bytes(self.source.len()) + tests.sum::<usize>()
    }

    /// The memory that the states of the regular expressions take, in bytes.
    #[cfg(test)]
    fn automata_bytes(&self) -> usize {
        let automata = self.tests.iter().map(|test| match &test.middle {
            Middle::Expression(automaton) => automaton.states_bytes(),
            _ => 0,
        });
        automata.sum()
    }

    /// An upper bound of the time that [`Self::matches`] takes for a topic of `topic_bytes`, in nanoseconds, roughly.
    pub(crate) fn cost(&self, topic_bytes: usize) -> usize {
        let tests = self.tests.iter().map(|test| match &test.middle {
            Middle::Expression(automaton) => TEST_COST + (topic_bytes + 1) * automaton.states(),
            _ => TEST_COST,
        });
        tests.sum()
    }

    /// Whether the URL of the topic matches. A topic that is no URL reference matches no pattern.
    pub fn matches(&self, topic: &Topic) -> bool {
        topic.url().is_some_and(|url| self.matches_url(url))
    }

    /// The text that every matching URL begins with, in the form of [`comparable`](super::comparable). It ends before the
    /// first component with an open part, and may be empty.
    ///
    /// ```
    /// use petasos_protocol::{matcher::Pattern, topic::HubUrl};
    /// let prefix = |source| Pattern::parse(source, &HubUrl::default()).map(|pattern| pattern.literal_prefix());
    /// assert_eq!(prefix("https://EXAMPLE.com:443/books/:id")?, "https://example.com/books/");
    /// assert_eq!(prefix("https://:tenant.example.com/books/:id")?, "https:");
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn literal_prefix(&self) -> String {
        let begin = |part| {
            let test = self.tests.iter().find(|test| test.part == part);
            test.map_or(("", false), Test::begin)
        };
        let (scheme, scheme_is_whole) = begin(Part::Protocol);
        let mut prefix = scheme.to_owned();
        if !scheme_is_whole {
            return prefix;
        }
        prefix.push(':');
        let (host, host_is_whole) = begin(Part::Hostname);
        let (path, path_is_whole) = begin(Part::Pathname);
        if !host.is_empty() {
            prefix.push_str("//");
            prefix.push_str(host);
            let (port, port_is_whole) = begin(Part::Port);
            if !host_is_whole || !port_is_whole {
                return prefix;
            }
            if !port.is_empty() {
                prefix.push(':');
                prefix.push_str(port);
            }
        } else if !host_is_whole && (path.is_empty() || path.starts_with('/')) {
            // A matching URL may have a host. Only a path that does not begin with a slash excludes that.
            return prefix;
        }
        prefix.push_str(path);
        let (search, _) = begin(Part::Search);
        if path_is_whole && !search.is_empty() {
            prefix.push('?');
            prefix.push_str(search);
        }
        prefix
    }

    fn matches_url(&self, url: &Url) -> bool {
        self.tests.iter().all(|test| match test.part {
            Part::Pathname => test.accepts(url.path()),
            Part::Hostname => test.accepts(url.host_str().unwrap_or_default()),
            Part::Protocol => test.accepts(url.scheme()),
            Part::Port => test.accepts(&url.port().map(|port| port.to_string()).unwrap_or_default()),
            Part::Search => test.accepts(url.query().unwrap_or_default()),
            Part::Hash => test.accepts(url.fragment().unwrap_or_default()),
            Part::Username => test.accepts(url.username()),
            Part::Password => test.accepts(url.password().unwrap_or_default()),
        })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl Test {
    /// The test of one component. `None`: every value passes.
    fn new(part: Part, component: Component<Expression>) -> Result<Option<Self>, Reject> {
        let Matcher { prefix, suffix, inner, .. } = component.matcher;
        let middle = match inner {
            InnerMatcher::Literal { literal } => Middle::Literal(literal.into()),
            InnerMatcher::SingleCapture { filter: None, allow_empty: true }
                if prefix.is_empty() && suffix.is_empty() =>
            {
                return Ok(None);
            }
            InnerMatcher::SingleCapture { filter, allow_empty } => {
                Middle::Group { without: filter, may_be_empty: allow_empty }
            }
            InnerMatcher::RegExp { regexp } => {
                let expression = regexp.map_err(|_| Reject::PatternInvalid)?;
                Middle::Expression(Box::new(Automaton::compile(&expression.0).ok_or(Reject::PatternInvalid)?))
            }
        };
        Ok(Some(Self { part, prefix: prefix.into(), suffix: suffix.into(), middle }))
    }

    /// What every value that passes begins with, and whether that is the whole value.
    fn begin(&self) -> (&str, bool) {
        match &self.middle {
            Middle::Literal(literal) if self.prefix.is_empty() && self.suffix.is_empty() => (literal, true),
            _ => (&self.prefix, false),
        }
    }

    fn accepts(&self, value: &str) -> bool {
        // Empty texts are not compared: with AVX-512, the memcmp of glibc takes 150 ns for an empty Rust string.
        let value = match &*self.prefix {
            "" => Some(value),
            prefix => value.strip_prefix(prefix),
        };
        let value = match &*self.suffix {
            "" => value,
            suffix => value.and_then(|value| value.strip_suffix(suffix)),
        };
        let Some(value) = value else { return false };
        match &self.middle {
            Middle::Literal(literal) => value.len() == literal.len() && value == &**literal,
            Middle::Group { without, may_be_empty } => {
                (*may_be_empty || !value.is_empty()) && without.is_none_or(|octet| !value.contains(octet))
            }
            Middle::Expression(automaton) => automaton.accepts(value),
        }
    }
}

/// The text of a regular expression, as the parser gives it.
struct Expression(String);

impl RegExp for Expression {
    fn syntax() -> urlpattern::RegexSyntax {
        urlpattern::RegexSyntax::Rust
    }

    /// Nothing is compiled here, because most expressions are never used.
    fn parse(source: &str, _flags: &str, _force_eval: bool) -> Result<Self, ()> {
        Ok(Self(source.to_owned()))
    }

    /// Only the parser calls this, to learn whether a protocol can be a special one. It reads no groups.
    fn matches<'a>(&self, text: &'a str) -> Option<Vec<Option<&'a str>>> {
        Automaton::compile(&self.0)?.accepts(text).then(Vec::new)
    }

    fn pattern_string(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod web_platform_tests;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matcher::comparable;

    fn hub() -> HubUrl {
        HubUrl::parse("https://hub.example/.well-known/mercure").expect("a URL")
    }

    fn matches(pattern: &str, topic: &str) -> bool {
        let pattern = Pattern::parse(pattern, &hub()).expect(pattern);
        pattern.matches(&Topic::unchecked(topic, &hub()))
    }

    #[test]
    fn absolute_patterns_match_components() {
        for (pattern, topic, expected) in [
            ("https://example.com/books/:id", "https://example.com/books/1", true),
            ("https://example.com/books/:id", "https://EXAMPLE.com/books/1", true),
            ("https://example.com/books/:id", "https://example.com/Books/1", false),
            ("https://example.com/books/:id", "https://example.com/books/", false),
            ("https://example.com/books/:id", "https://example.com/books/1?page=2", true),
            ("https://example.com/books/:id\\?", "https://example.com/books/1?page=2", false),
            ("https://example.com/books/:id", "http://example.com/books/1", false),
            ("https://example.com/books/:id?", "https://example.com/books", true),
            ("https://example.com/:a/:b", "https://example.com/x/y", true),
            ("https://example.com/:a/:b", "https://example.com/x", false),
            ("https://example.com/books/(\\d+)", "https://example.com/books/12", true),
            ("https://example.com/books/(\\d+)", "https://example.com/books/1a", false),
            ("https://*.example.com/*", "https://a.example.com/b/c", true),
            ("https://example.com:8443/*", "https://example.com:8443/x", true),
            ("https://example.com/*", "https://example.com:8443/x", false),
            ("urn:*", "urn:uuid:1", true),
            ("urn:*", "urx:uuid:1", false),
            ("https://example.com/*\\?page=:n", "https://example.com/b?page=2", true),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn relative_patterns_and_topics_are_resolved_against_the_hub() {
        let events = "/.well-known/mercure/subscriptions/:type/:match/:subscriber";
        assert!(matches(events, "/.well-known/mercure/subscriptions/exact/a%2Fb/urn%3Auuid%3A1"));
        assert!(matches(events, "https://hub.example/.well-known/mercure/subscriptions/exact/a/b"));
        assert!(!matches(events, "https://other.example/.well-known/mercure/subscriptions/exact/a/b"));
        assert!(matches("/books/:id", "/books/1"));
        assert!(matches("books/:id", "books/1"));
        assert!(matches("https://hub.example/books/*", "/books/1"));
    }

    /// Also the shape of what [`crate::matcher::Matcher::literal_prefix`] can tell apart.
    #[test]
    fn prefixes_end_where_anything_is_open() {
        for (pattern, expected) in [
            ("https://example.com/books/:id", "https://example.com/books/"),
            ("HTTPS://EXAMPLE.com/bücher/:id", "https://example.com/b%C3%BCcher/"),
            ("https://example.com:443/books/:id", "https://example.com/books/"),
            ("https://example.com/a/../books/1", "https://example.com/books/1"),
            ("https://example.com/books/:id?", "https://example.com/books"),
            ("https://example.com/books{/:id}?", "https://example.com/books"),
            ("https://example.com/books/(\\d+)", "https://example.com/books"),
            ("https://example.com/books/1\\?page=:n", "https://example.com/books/1?page="),
            ("https://example.com/books/*\\?page=:n", "https://example.com/books/"),
            ("https://example.com/books/1#:n", "https://example.com/books/1"),
            ("https://me:secret@example.com/*", "https://example.com/"),
            ("https://example.com:8443/*", "https://example.com:8443/"),
            ("https://example.com:80:n/*", "https://example.com"),
            ("https://example.com::port/*", "https://example.com"),
            ("https://example.com", "https://example.com"),
            ("https://example.*/books/:id", "https://example."),
            ("https://*.example.com/books/:id", "https:"),
            ("https://[\\:\\:1]/books/:id", "https://[::1]/books/"),
            ("http{s}?://example.com/books/:id", "http"),
            ("*://example.com/books/:id", ""),
            (":scheme://example.com/books/:id", ""),
            ("urn\\:uuid\\:*", "urn:uuid:"),
            ("urn:*", "urn:"),
            ("file:///books/:id", "file:/books/"),
            ("custom:/books/:id", "custom:/books/"),
            ("custom:///books/:id", "custom:/books/"),
            ("custom://host/books/:id", "custom://host/books/"),
            ("/books/:id", "https://hub.example/books/"),
            ("books/:id", "https://hub.example/.well-known/books/"),
            ("*", "https://hub.example/.well-known/"),
            ("//example.com/books/:id", "https://hub.example//example.com/books/"),
            ("?page=:n", "https://hub.example/.well-known/mercure?page="),
        ] {
            let parsed = Pattern::parse(pattern, &hub()).expect(pattern);
            assert_eq!(parsed.literal_prefix(), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_no_url_reference_matches_nothing() {
        assert!(!matches("*://*/*", "http://["));
        assert!(!matches("/*", "https://:x"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for bad in [
            "https://example.com/(",
            "https://example.com/{a",
            "https://example.com/:a/:a",
            "https://example.com/((?i)abc)",
            "https://example.com/((?i:abc))",
            "https://example.com/((?P<n>abc))",
            "https://example.com/((?=a)b)",
            "https://example.com/((a)\\1)",
            "https://example.com/(\\w{2000})",
            "https://example.com/((?:a{99}){99})",
        ] {
            assert_eq!(Pattern::parse(bad, &hub()).err(), Some(Reject::PatternInvalid), "{bad}");
        }
    }

    /// As with the flag `v` of ECMAScript: `\\d` and `\\w` are ASCII. Properties count as far as a URL can have them.
    #[test]
    fn classes_are_those_of_urls() {
        for (pattern, topic, expected) in [
            ("https://example.com/(\\w+)", "https://example.com/az_09", true),
            ("https://example.com/(\\w+)", "https://example.com/%C3%A9", false),
            ("https://example.com/(\\p{L}{2,200})", "https://example.com/ab", true),
            ("https://example.com/(\\p{L}{2,200})", "https://example.com/a1", false),
            ("https://example.com/(\\p{Greek})", "https://example.com/a", false),
            ("https://example.com/(\\p{L}+\\b-(?:x|[^a-z]))", "https://example.com/ab-1", true),
            ("https://example.com/([^/]+)/(\\d{3,5})", "https://example.com/x/1234", true),
            ("https://example.com/([^/]+)/(\\d{3,5})", "https://example.com/x/12", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn expressions_take_hundreds_of_bytes_for_each_group() {
        for (pattern, bytes_max) in [
            ("https://example.com/books/:id", 0),
            ("https://example.com/(\\w+)", 1_000),
            ("https://example.com/:a/:b/:c", 2_000),
            ("(https|\\w)://(\\w):(\\w)@(\\w):(\\w)/N(\\w)\\?(\\w)#(\\w)", 8_000),
        ] {
            let pattern_bytes = Pattern::parse(pattern, &hub()).expect(pattern).automata_bytes();
            assert!(pattern_bytes <= bytes_max, "{pattern}: {pattern_bytes}");
        }
    }

    #[test]
    fn a_topic_that_is_longer_than_the_marks_is_matched_too() {
        let pattern = format!("https://example.com/({}|x*)/(y)", "a{0,30}b".repeat(10));
        let pattern = Pattern::parse(&pattern, &hub()).expect("a pattern");
        for (end, expected) in [("/y", true), ("/z", false)] {
            let topic = format!("https://example.com/{}{end}", "x".repeat(100_000));
            assert_eq!(pattern.matches(&Topic::unchecked(&topic, &hub())), expected);
        }
    }

    #[test]
    fn brackets_without_partner_do_not_panic() {
        for odd in ["https://a]b/", "https://a]]]/", "https://[a/"] {
            let _ = Pattern::parse(odd, &hub());
        }
    }

    #[test]
    fn crafted_patterns_stay_linear() {
        let pattern = format!("https://example.com/{}", "(.*)".repeat(60));
        if let Ok(pattern) = Pattern::parse(&pattern, &hub()) {
            let topic = format!("https://example.com/{}\u{20}", "a".repeat(3_000));
            pattern.matches(&Topic::unchecked(&topic, &hub()));
        }
        let pattern = Pattern::parse("https://example.com/((?:a+)+)b", &hub()).expect("a pattern");
        let topic = format!("https://example.com/{}", "a".repeat(4_000));
        assert!(!pattern.matches(&Topic::unchecked(&topic, &hub())));
    }

    /// Pieces of patterns, each with pieces of topics that it may meet.
    fn pieces(
        of: &'static [(&'static str, &'static [&'static str])],
    ) -> impl Strategy<Value = (String, String)> {
        prop::sample::select(of).prop_flat_map(|(pattern, topics)| {
            prop::sample::select(topics).prop_map(|topic| ((*pattern).to_owned(), topic.to_owned()))
        })
    }

    const SCHEMES: [(&str, &[&str]); 9] = [
        ("https:", &["https:", "HTTPS:"]),
        ("http{s}?:", &["http:", "https:"]),
        ("*:", &["ftp:", "x:", "https:"]),
        (":s:", &["x:"]),
        ("x:", &["x:", "X:"]),
        ("urn:", &["urn:"]),
        ("file:", &["file:"]),
        ("", &["", "https:"]),
        ("h*:", &["http:", "https:"]),
    ];
    const HOSTS: [(&str, &[&str]); 12] = [
        ("", &["", "//", "//h", "/.", "//hub.example"]),
        ("//", &["//", ""]),
        ("//*", &["//", "//h", "//me@h:8", "/."]),
        ("//h", &["//h", "//H", "//me@h", "//:p@h", "//h:443", "//h:"]),
        ("//h:*", &["//h", "//h:8", "//me:p@h:80"]),
        ("//h:8", &["//h:8", "//h:08", "//me@h:8"]),
        ("//h::p", &["//h:8", "//h"]),
        ("//h:443", &["//h", "//h:443"]),
        ("//:a.h", &["//b.h", "//me@b.h:8"]),
        ("//h*", &["//h", "//he", "//H.x:8"]),
        ("//{a.}?h", &["//h", "//a.h"]),
        ("//[\\:\\:1]", &["//[::1]", "//[0:0::1]"]),
    ];
    const PATHS: [(&str, &[&str]); 12] = [
        ("", &["", "/", "/a", "?", "a"]),
        ("/", &["/", ""]),
        ("/a/:b", &["/a/1", "/./a/1", "/a/%31", "/x/../a/1#f", "/a/1?q"]),
        ("/a/:b?", &["/a", "/a/b"]),
        ("/a*", &["/a", "/abc", "/a/é"]),
        ("/é/:b", &["/é/1", "/%C3%A9/1", "/%c3%a9/1"]),
        ("/a?b", &["/a?b", "/b", "/a?b#c"]),
        ("/a\\?b=:c", &["/a?b=1", "/a?b="]),
        ("a\\:*", &["a:1", "a:", "/a:1"]),
        ("*", &["", "/a", "a", "//a", "?a"]),
        ("//a/:b", &["//a/1", "/.//a/1"]),
        ("/(a|b)/c", &["/a/c", "/b/c"]),
    ];

    #[test]
    fn debug_shows_the_text() {
        assert_eq!(format!("{:?}", Pattern::parse("/a/:b", &hub()).expect("a pattern")), "\"/a/:b\"");
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_refused(
            source in "[a-z:/.*(){}?+\\\\\\[\\]^|#@%0-9é-]{0,40}",
            topic in "[a-z:/.?#%0-9é]{0,30}",
        ) {
            if let Ok(pattern) = Pattern::parse(&source, &hub()) {
                let topic = Topic::unchecked(&topic, &hub());
                if let (true, Some(url)) = (pattern.matches(&topic), topic.url()) {
                    prop_assert!(comparable(url).starts_with(&pattern.literal_prefix()));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_a_pattern_matches_begins_with_its_prefix(
            (scheme, of_scheme) in pieces(&SCHEMES),
            (host, of_host) in pieces(&HOSTS),
            (path, of_path) in pieces(&PATHS),
        ) {
            if let Ok(pattern) = Pattern::parse(&format!("{scheme}{host}{path}"), &hub()) {
                let topic = Topic::unchecked(&format!("{of_scheme}{of_host}{of_path}"), &hub());
                if let (true, Some(url)) = (pattern.matches(&topic), topic.url()) {
                    let (url, prefix) = (comparable(url), pattern.literal_prefix());
                    prop_assert!(url.starts_with(&prefix), "{url} does not begin with {prefix}");
                }
            }
        }
    }
}
