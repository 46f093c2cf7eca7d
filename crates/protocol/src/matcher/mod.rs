//! Matchers: tests on topics. A subscriber selects topics with them, and a grant allows topics with them.

mod automaton;
mod pattern;
mod prefix;
mod template;
mod text;

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

pub use self::{
    pattern::Pattern,
    prefix::{LiteralPrefix, comparable},
    template::Template,
    text::{MatcherText, MatcherType},
};
use crate::{
    Limits, Reject,
    heap::SHARED_ALLOCATION_BYTES,
    text::check as check_characters,
    topic::{HubUrl, Topic},
};

/// A test on topics. Two matchers are equal if their types and their texts are equal.
///
/// Cloning shares the text.
#[derive(Clone)]
pub enum Matcher {
    /// `*`: every topic. The type is the one that the wildcard was written with.
    Any(MatcherType),
    /// The topic with the same bytes.
    Exact(Arc<str>),
    /// 1.0: every topic that the URL pattern matches.
    Pattern(Arc<Pattern>),
    /// 0.x: the topic with the same text, and every expansion of the URI template.
    Template(Arc<Template>),
    /// 0.x, in grants only: every topic that begins with the text before its last character, which is `*`.
    Prefix(Arc<str>),
}

impl Matcher {
    /// Parses a matcher of protocol 1.0 (section "Matcher Types"). `*` is the wildcard in every type.
    ///
    /// # Errors
    /// - [`Reject::TooMany`]: longer than [`Limits::matcher_bytes_max`].
    /// - [`Reject::CharacterForbidden`]: a control or format character.
    /// - [`Reject::PatternInvalid`]: no URL pattern, or none that can be matched in linear time.
    pub fn parse(
        matcher_type: MatcherType,
        value: &str,
        hub: &HubUrl,
        limits: &Limits,
    ) -> Result<Self, Reject> {
        check("match", "the length of a matcher in bytes", value, limits)?;
        Ok(match matcher_type {
            _ if value == "*" => Self::Any(matcher_type),
            MatcherType::Exact => Self::Exact(value.into()),
            MatcherType::UrlPattern => Self::Pattern(Arc::new(Pattern::parse(value, hub)?)),
        })
    }

    /// Parses a topic selector of protocol 0.x (section "Topic Selectors"): `*`, a URI template, or any other text, which
    /// selects itself.
    ///
    /// # Errors
    /// - [`Reject::TooMany`]: longer than [`Limits::matcher_bytes_max`].
    /// - [`Reject::CharacterForbidden`]: a control or format character.
    /// - [`Reject::MatcherTooComplex`]: a template with more than 16 variables.
    ///
    /// ```
    /// use petasos_protocol::{matcher::Matcher, topic::{HubUrl, Topic}, Limits};
    /// let books = Matcher::selector("https://example.com/books/{id}", &Limits::default())?;
    /// let matches = |topic| books.matches(&Topic::unchecked(topic, &HubUrl::default()));
    /// assert!(matches("https://example.com/books/1"));
    /// assert!(matches("https://example.com/books/{id}"));
    /// assert!(!matches("https://example.com/books/1/pages"));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn selector(value: &str, limits: &Limits) -> Result<Self, Reject> {
        check("topic", "the length of a topic selector in bytes", value, limits)?;
        if value == "*" {
            return Ok(Self::Any(MatcherType::Exact));
        }
        Ok(match Template::parse(value)? {
            Some(template) => Self::Template(Arc::new(template)),
            None => Self::Exact(value.into()),
        })
    }

    /// Parses a topic selector as flask-mercure-sse 0.4 read it in tokens: a selector that ends with `*` selects every topic
    /// that begins with the rest. The specification has no such selectors.
    ///
    /// # Errors
    /// Those of [`Self::selector`].
    ///
    /// ```
    /// use petasos_protocol::{matcher::Matcher, topic::{HubUrl, Topic}, Limits};
    /// let books = Matcher::prefix_or_selector("/books/*", &Limits::default())?;
    /// assert!(books.matches(&Topic::unchecked("/books/1/pages", &HubUrl::default())));
    /// assert!(!books.matches(&Topic::unchecked("/films/1", &HubUrl::default())));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn prefix_or_selector(value: &str, limits: &Limits) -> Result<Self, Reject> {
        match Self::selector(value, limits)? {
            Self::Exact(text) if text.ends_with('*') => Ok(Self::Prefix(text)),
            selector => Ok(selector),
        }
    }

    /// Whether the matcher selects `topic`.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Any(_) => true,
            Self::Exact(text) => **text == *topic.as_str(),
            Self::Pattern(pattern) => pattern.matches(topic),
            Self::Template(template) => {
                template.as_str() == topic.as_str() || template.matches(topic.as_str())
            }
            Self::Prefix(text) => topic.as_str().starts_with(&text[..text.len() - 1]),
        }
    }

    /// What every topic that the matcher selects begins with.
    ///
    /// ```
    /// use petasos_protocol::{matcher::{LiteralPrefix, Matcher}, Limits};
    /// let books = Matcher::selector("/books/{id}/pages", &Limits::default())?;
    /// assert_eq!(books.literal_prefix(), LiteralPrefix::Text("/books/"));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn literal_prefix(&self) -> LiteralPrefix<'_> {
        let cut = |text: &str| text.floor_char_boundary(LiteralPrefix::BYTES_MAX);
        let text = match self {
            Self::Any(_) => "",
            Self::Exact(text) => text,
            Self::Prefix(text) => &text[..text.len() - 1],
            // A template also selects its own text, which begins with the prefix as well.
            Self::Template(template) => template.literal_prefix(),
            Self::Pattern(pattern) => {
                let mut prefix = pattern.literal_prefix();
                prefix.truncate(cut(&prefix));
                return LiteralPrefix::Url(prefix);
            }
        };
        LiteralPrefix::Text(&text[..cut(text)])
    }

    /// An upper bound of the time that [`Self::matches`] takes for a topic of `topic_bytes`, in nanoseconds, roughly. It
    /// grows in proportion to `topic_bytes`.
    pub fn cost(&self, topic_bytes: usize) -> usize {
        match self {
            Self::Any(_) | Self::Exact(_) | Self::Prefix(_) => COMPARISON_COST,
            Self::Pattern(pattern) => COMPARISON_COST + pattern.cost(topic_bytes),
            Self::Template(template) => COMPARISON_COST + template.cost(topic_bytes),
        }
    }

    /// An estimate of the memory that the matcher takes, in bytes: its text and its compiled form, as if neither were
    /// shared.
    pub fn bytes(&self) -> usize {
        let heap = match self {
            Self::Any(_) => 0,
            Self::Exact(text) | Self::Prefix(text) => SHARED_ALLOCATION_BYTES + text.len(),
            Self::Pattern(pattern) => SHARED_ALLOCATION_BYTES + pattern.bytes(),
            Self::Template(template) => SHARED_ALLOCATION_BYTES + template.bytes(),
        };
        size_of::<Self>() + heap
    }

    /// The text that the matcher was parsed from.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any(_) => "*",
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Pattern(pattern) => pattern.as_str(),
            Self::Template(template) => template.as_str(),
        }
    }

    /// The type in protocol 1.0. `None`: a selector that only 0.x has.
    pub fn matcher_type(&self) -> Option<MatcherType> {
        match self {
            Self::Any(matcher_type) => Some(*matcher_type),
            Self::Exact(_) => Some(MatcherType::Exact),
            Self::Pattern(_) => Some(MatcherType::UrlPattern),
            Self::Template(_) | Self::Prefix(_) => None,
        }
    }
}

impl From<&Matcher> for MatcherText {
    fn from(matcher: &Matcher) -> Self {
        let text = match matcher {
            Matcher::Any(_) => Arc::clone(&ANY),
            Matcher::Exact(text) | Matcher::Prefix(text) => Arc::clone(text),
            Matcher::Pattern(pattern) => Arc::clone(pattern.text()),
            Matcher::Template(template) => Arc::clone(template.text()),
        };
        Self::new(matcher.matcher_type().unwrap_or(MatcherType::Exact), text)
    }
}

/// The text of the wildcard. All wildcards share it.
static ANY: LazyLock<Arc<str>> = LazyLock::new(|| "*".into());

/// An upper bound of the time to compare a text with a topic, in nanoseconds. Nearly all comparisons end early.
const COMPARISON_COST: usize = 8;

/// Checks the rules of both dialects. `parameter` and `length` name them in the message.
fn check(parameter: &'static str, length: &'static str, value: &str, limits: &Limits) -> Result<(), Reject> {
    if value.len() > limits.matcher_bytes_max {
        return Err(Reject::TooMany { what: length, max: limits.matcher_bytes_max });
    }
    check_characters(parameter, value)
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.matcher_type() == other.matcher_type() && self.as_str() == other.as_str()
    }
}

impl Eq for Matcher {}

impl Hash for Matcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.matcher_type().hash(state);
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selector(value: &str) -> Matcher {
        Matcher::selector(value, &Limits::default()).expect("valid selector")
    }

    fn topic(value: &str) -> Topic {
        Topic::unchecked(value, &HubUrl::default())
    }

    #[test]
    fn types_of_1_0_are_told_apart_and_the_star_is_a_wildcard_in_each() {
        let parse = |matcher_type, value: &str| {
            Matcher::parse(matcher_type, value, &HubUrl::default(), &Limits::default())
        };
        let exact = parse(MatcherType::Exact, "https://example.com/:id").expect("valid");
        let pattern = parse(MatcherType::UrlPattern, "https://example.com/:id").expect("valid");
        assert_ne!(exact, pattern);
        assert!(!exact.matches(&topic("https://example.com/1")));
        assert!(exact.matches(&topic("https://example.com/:id")));
        assert!(pattern.matches(&topic("https://example.com/1")));
        for matcher_type in MatcherType::ALL {
            let any = parse(matcher_type, "*").expect("valid");
            assert!(any.matches(&topic("http://[")));
            assert_eq!(any.matcher_type(), Some(matcher_type));
            assert!(matches!(parse(matcher_type, "a\u{200b}"), Err(Reject::CharacterForbidden { .. })));
            assert!(matches!(parse(matcher_type, &"a".repeat(4097)), Err(Reject::TooMany { .. })));
            assert_eq!(MatcherType::parse(matcher_type.as_str()), Some(matcher_type));
        }
        assert_eq!(parse(MatcherType::Exact, "{id}").map(|exact| exact.matches(&topic("1"))), Ok(false));
        assert_eq!(parse(MatcherType::UrlPattern, "https://example.com/("), Err(Reject::PatternInvalid));
        assert_eq!(MatcherType::parse("URLPattern"), None);
    }

    #[test]
    fn wildcard_exact_and_template_are_told_apart() {
        assert!(matches!(selector("*"), Matcher::Any(_)));
        assert!(matches!(selector("a*"), Matcher::Exact(_)));
        assert!(matches!(selector("https://example.com/{id}"), Matcher::Template(_)));
        assert!(matches!(selector("not a template {id}"), Matcher::Exact(_)));
    }

    #[test]
    fn only_the_lone_star_is_a_wildcard() {
        assert!(selector("*").matches(&topic("anything")));
        assert!(!selector("a*").matches(&topic("ab")));
        assert!(selector("a*").matches(&topic("a*")));
    }

    #[test]
    fn comparison_is_byte_for_byte() {
        assert!(!selector("Topic").matches(&topic("topic")));
        assert!(!selector("https://example.com/%41").matches(&topic("https://example.com/A")));
        assert!(!selector("e\u{301}").matches(&topic("é")));
        assert!(!selector("topic").matches(&topic("topic ")));
    }

    fn begins(topic: &Topic, prefix: &LiteralPrefix<'_>) -> bool {
        match prefix {
            LiteralPrefix::Text(prefix) => topic.as_str().starts_with(prefix),
            LiteralPrefix::Url(prefix) => topic.url().is_some_and(|url| comparable(url).starts_with(prefix)),
        }
    }

    #[test]
    fn prefixes_are_of_text_or_of_urls_and_cut_between_characters() {
        let limits = Limits::default();
        let pattern = |value: &str| {
            Matcher::parse(MatcherType::UrlPattern, value, &HubUrl::default(), &limits).expect("valid")
        };
        assert_eq!(selector("*").literal_prefix(), LiteralPrefix::Text(""));
        assert_eq!(selector("a").literal_prefix(), LiteralPrefix::Text("a"));
        assert_eq!(selector("{a}/b").literal_prefix(), LiteralPrefix::Text(""));
        assert_eq!(selector("a/{b}/{c}").literal_prefix(), LiteralPrefix::Text("a/"));
        let prefix = Matcher::prefix_or_selector("a/*", &limits).expect("valid");
        assert_eq!(prefix.literal_prefix(), LiteralPrefix::Text("a/"));
        assert_eq!(pattern("/a/:b").literal_prefix(), LiteralPrefix::Url("http://localhost/a/".to_owned()));

        let long = format!("a{}{{b}}", "é".repeat(100));
        assert_eq!(selector(&long).literal_prefix(), LiteralPrefix::Text(&long[..127]));
        let long = format!("https://example.com/{}/", "a".repeat(200));
        let cut = LiteralPrefix::Url(long[..LiteralPrefix::BYTES_MAX].to_owned());
        assert_eq!(pattern(&format!("{long}:b")).literal_prefix(), cut);
    }

    #[test]
    fn invalid_text_is_refused() {
        assert!(matches!(
            Matcher::selector("a\0b", &Limits::default()),
            Err(Reject::CharacterForbidden { .. })
        ));
        assert!(Matcher::selector(&"a".repeat(4096), &Limits::default()).is_ok());
        assert!(matches!(
            Matcher::selector(&"a".repeat(4097), &Limits::default()),
            Err(Reject::TooMany { .. })
        ));
    }

    #[test]
    fn equal_matchers_are_found_in_a_set() {
        let (hub, limits) = (HubUrl::default(), Limits::default());
        let exact = |text| Matcher::parse(MatcherType::Exact, text, &hub, &limits).expect("valid");
        let pattern = |text| Matcher::parse(MatcherType::UrlPattern, text, &hub, &limits).expect("valid");
        let set = std::collections::HashSet::from([exact("/a"), pattern("/b")]);
        assert!(set.contains(&exact("/a")) && set.contains(&pattern("/b")));
        assert!(!set.contains(&pattern("/a")) && !set.contains(&exact("/b")));
    }

    #[test]
    fn a_matcher_as_written_keeps_type_and_text() {
        let (hub, limits) = (HubUrl::default(), Limits::default());
        let pattern = Matcher::parse(MatcherType::UrlPattern, "/b", &hub, &limits).expect("valid");
        let prefix = Matcher::prefix_or_selector("/c/*", &limits).expect("valid");
        for (matcher, matcher_type, text) in [
            (pattern, MatcherType::UrlPattern, "/b"),
            (prefix, MatcherType::Exact, "/c/*"),
            (selector("*"), MatcherType::Exact, "*"),
            (selector("/{a}"), MatcherType::Exact, "/{a}"),
            (selector("a"), MatcherType::Exact, "a"),
        ] {
            let written = MatcherText::from(&matcher);
            assert_eq!(written, MatcherText::new(matcher_type, text));
            assert_eq!((written.as_str(), &*written.shared()), (text, text));
            let shown = format!("{text:?}");
            assert_eq!((format!("{matcher:?}"), format!("{written:?}")), (shown.clone(), shown));
        }
    }

    /// Indexes and budgets rely on the order of these estimates, not on their values.
    #[test]
    fn what_takes_longer_to_match_and_more_memory_is_estimated_higher() {
        let pattern = |text| {
            Matcher::parse(MatcherType::UrlPattern, text, &HubUrl::default(), &Limits::default())
                .expect("valid")
        };
        let ordered = [
            selector("a"),
            pattern("https://example.com/:a"),
            pattern("https://example.com/(\\w+)"),
            pattern("https://example.com/(\\w{100})"),
        ];
        for pair in ordered.windows(2) {
            assert!(pair[0].cost(1_000) < pair[1].cost(1_000), "{pair:?}");
            assert!(pair[0].bytes() < pair[1].bytes(), "{pair:?}");
        }
        for (short, long) in [("/{a}", "/{a,b,c}"), ("/{a}", "/{a}/{b}")] {
            assert!(selector(short).cost(1_000) < selector(long).cost(1_000));
            assert!(selector(short).cost(1_000) < selector(short).cost(2_000));
        }
        for text in ["", "/{a}"] {
            let long = format!("{}{text}", "x".repeat(1_000));
            assert!(selector(&long).bytes() >= selector(&format!("x{text}")).bytes() + 999);
        }
    }

    proptest! {
        #[test]
        fn every_selector_matches_itself_and_nothing_panics(value in "\\PC{0,30}", other in "\\PC{0,30}") {
            if let Ok(matcher) = Matcher::selector(&value, &Limits::default()) {
                prop_assert!(matcher.matches(&topic(&value)));
                prop_assert!(begins(&topic(&value), &matcher.literal_prefix()));
                prop_assert_eq!(matcher.as_str(), &value);
                if matches!(matcher, Matcher::Exact(_)) {
                    prop_assert_eq!(matcher.matches(&topic(&other)), value == other);
                }
            }
        }

        #[test]
        fn what_is_selected_begins_with_the_prefix(
            value in "[ab/é]{0,3}(\\{[+/]?a\\}[ab]?|\\*)",
            selected in "[ab/é]{0,5}",
        ) {
            if let Ok(matcher) = Matcher::prefix_or_selector(&value, &Limits::default()) {
                for topic in [topic(&selected), topic(&value)] {
                    prop_assert!(!matcher.matches(&topic) || begins(&topic, &matcher.literal_prefix()));
                }
            }
        }
    }
}
