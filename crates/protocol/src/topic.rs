//! Topics, and the hub's own namespace, to which no publisher may publish.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Limits, Reject, text};

/// The identifier of an updated resource: any text without control or format characters, compared byte for byte.
///
/// Section "Terminology" of draft-dunglas-mercure-08.
#[derive(Clone)]
pub struct Topic(Arc<Parts>);

struct Parts {
    text: Box<str>,
    hub: HubUrl,
    /// The text resolved against the hub's URL. It is resolved once, when the first URL pattern is compared with it: most
    /// topics in a log never are. `None`: the text is no URL reference, and no URL pattern matches it.
    url: OnceLock<Option<Box<Url>>>,
}

impl Topic {
    /// Checks a topic that a publisher gives.
    ///
    /// # Errors
    /// - [`Reject::TooLarge`]: longer than [`Limits::topic_bytes_max`].
    /// - [`Reject::CharacterForbidden`]: a control or format character.
    /// - [`Reject::TopicWildcard`]: exactly `*`.
    /// - [`Reject::TopicReserved`]: a URL in the hub's own namespace ([`HubUrl::reserves`]).
    ///
    /// ```
    /// use petasos_protocol::{topic::{HubUrl, Topic}, Limits};
    /// let hub = HubUrl::default();
    /// assert!(Topic::parse("https://example.com/books/1", &hub, &Limits::default()).is_ok());
    /// assert!(Topic::parse("https://evil.example/.well-known/%6Dercure/x", &hub, &Limits::default()).is_err());
    /// ```
    pub fn parse(value: &str, hub: &HubUrl, limits: &Limits) -> Result<Self, Reject> {
        if value.len() > limits.topic_bytes_max {
            return Err(Reject::TooLarge {
                what: "the length of a topic in bytes",
                max: limits.topic_bytes_max,
            });
        }
        text::check("topic", value)?;
        if value == "*" {
            return Err(Reject::TopicWildcard);
        }
        let topic = Self::unchecked(value, hub);
        if topic.url().is_some_and(|url| hub.reserves(url)) {
            return Err(Reject::TopicReserved { path: hub.path().to_owned() });
        }
        Ok(topic)
    }

    /// Takes any text, to compare it with matchers: a path of the subscription API, or the text of a matcher, for which a
    /// payload is found as for a topic. Such a topic cannot be published, because an update takes [`Topics`].
    pub fn unchecked(value: &str, hub: &HubUrl) -> Self {
        Self(Arc::new(Parts { text: value.into(), hub: hub.clone(), url: OnceLock::new() }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The topic as a URL. A relative topic is resolved against the hub's URL.
    pub fn url(&self) -> Option<&Url> {
        let Parts { text, hub, url } = &*self.0;
        url.get_or_init(|| hub.0.join(text).ok().map(Box::new)).as_deref()
    }
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Topic {}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The topics of one update: the canonical one first, then the alternates; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics(Arc<[Topic]>);

impl Topics {
    /// Parses all values, the canonical topic first.
    ///
    /// # Errors
    /// - [`Reject::TopicMissing`]: no value.
    /// - [`Reject::TooLarge`]: more than [`Limits::topics_max`] values.
    /// - The errors of [`Topic::parse`].
    pub fn parse<'a>(
        values: impl IntoIterator<Item = &'a str>,
        hub: &HubUrl,
        limits: &Limits,
    ) -> Result<Self, Reject> {
        let mut topics = Vec::new();
        for value in values {
            if topics.len() == limits.topics_max {
                return Err(Reject::TooLarge { what: "the number of topics", max: limits.topics_max });
            }
            topics.push(Topic::parse(value, hub, limits)?);
        }
        if topics.is_empty() { Err(Reject::TopicMissing) } else { Ok(Self(topics.into())) }
    }

    /// Takes topics of the hub itself, or from a log. There is at least one.
    pub(crate) fn trusted(topics: Vec<Topic>) -> Self {
        debug_assert!(!topics.is_empty());
        Self(topics.into())
    }

    /// The primary identifier of the updated resource.
    pub fn canonical(&self) -> &Topic {
        &self.0[0]
    }

    /// All topics, the canonical one first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Topic> {
        self.0.iter()
    }
}

/// The URL of the hub: the base of relative topics and patterns, and the path that is reserved. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubUrl(Arc<Url>);

impl HubUrl {
    /// The well-known path of section "Discovery".
    pub const DEFAULT_PATH: &'static str = "/.well-known/mercure";

    /// Accepts an absolute `http` or `https` URL with a path, and without query, fragment, user name and password.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn parse(value: &str) -> Result<Self, String> {
        let url = Url::parse(value).map_err(|e| format!("the hub URL is no absolute URL: {e}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("the hub URL must begin with http:// or https://".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("the hub URL must have no query and no fragment".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the hub URL must have no user name and no password".to_owned());
        }
        // A URL names one hub: tokens name it as their audience, and clients connect to it.
        if value.contains('*') {
            return Err("the hub URL must have no wildcard: write the name of one host".to_owned());
        }
        if url.path() == "/" {
            return Err(format!("the hub URL needs a path: {} is usual", Self::DEFAULT_PATH));
        }
        // Paths below it are found by comparison, so it may have one spelling only.
        if url.path().ends_with('/') {
            return Err("the hub URL must not end with a slash".to_owned());
        }
        if decode_unreserved(url.path()) != url.path() {
            return Err("the hub URL must not percent-encode letters, digits and -._~".to_owned());
        }
        Ok(Self(Arc::new(url)))
    }

    /// The path under which the hub answers. It does not end with a slash.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// The whole URL.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether a resolved topic addresses the hub's own namespace (section "Publication"): its path, with dot segments
    /// removed and unreserved characters decoded, is the hub's path or lies under it, whatever its scheme and host.
    pub fn reserves(&self, topic: &Url) -> bool {
        let path = decode_unreserved(topic.path());
        // The parser has resolved dot segments already, also "%2e" ones, and decoding adds none it would not have
        // seen; only paths that are opaque to it stay as they came, and those do not begin with a slash.
        path.strip_prefix(self.path()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Default for HubUrl {
    /// `http://localhost/.well-known/mercure`. The host matters to relative URL patterns only.
    fn default() -> Self {
        Self::parse("http://localhost/.well-known/mercure").expect("a valid constant")
    }
}

/// Decodes the percent-encoded octets that stand for unreserved characters (RFC 3986, section 6.2.2.2).
fn decode_unreserved(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let triplet = rest.get(at..at + 3).unwrap_or("");
        match percent_decode_str(triplet).next() {
            Some(octet) if triplet.len() == 3 && is_unreserved(octet) => {
                decoded.push(octet as char);
                rest = &rest[at + 3..];
            }
            _ => {
                decoded.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Topic, Reject> {
        Topic::parse(value, &HubUrl::default(), &Limits::default())
    }

    #[test]
    fn ordinary_topics_are_accepted() {
        for topic in [
            "topic",
            "books/1",
            "https://example.com/books/1?page=2#top",
            "urn:uuid:e1ee88e2-532a-4d6f-ba70-f0f8bd584022",
            "/.well-known/mercure-like",
            "/.well-known/mercur",
            "/x/.well-known/mercure",
            "http://[",
            "%",
            "%zz",
            "é 日本",
        ] {
            assert!(parse(topic).is_ok(), "{topic}");
        }
    }

    #[test]
    fn no_spelling_of_the_hub_namespace_is_accepted() {
        for topic in [
            "/.well-known/mercure",
            "/.well-known/mercure/",
            "/.well-known/mercure/subscriptions/a/b",
            "/.well-known/%6Dercure/subscriptions/a/b",
            "/.well-known/%6dercure",
            "/%2Ewell-known/mercure",
            "/a/../.well-known/mercure/x",
            "/a/%2e%2E/.well-known/mercure/x",
            "/.well-known/./mercure",
            "\\.well-known\\mercure",
            "https://hub.example/.well-known/mercure/subscriptions/a/b",
            "HTTPS://hub.example/.well-known/mercure?x",
            "ftp://x/.well-known/mercure#y",
            "custom://x/.well-known/mercure/y",
            "custom:/.well-known/mercure/y",
            "//other.example/.well-known/mercure",
            "mercure",
            "./mercure/subscriptions",
            "?query",
            "#fragment",
            "",
            " /.well-known/mercure/x ",
        ] {
            assert!(
                matches!(parse(topic), Err(Reject::TopicReserved { .. })),
                "{topic:?} gave {:?}",
                parse(topic)
            );
        }
    }

    #[test]
    fn wildcard_and_long_topics_are_refused() {
        assert_eq!(parse("*"), Err(Reject::TopicWildcard));
        assert!(parse(&"a".repeat(4096)).is_ok());
        assert!(matches!(parse(&"a".repeat(4097)), Err(Reject::TooLarge { .. })));
    }

    #[test]
    fn hub_url_says_what_is_wrong() {
        assert!(HubUrl::parse("https://example.com/.well-known/mercure").is_ok());
        for bad in [
            "example.com",
            "ftp://example.com/x",
            "https://example.com/x?y",
            "https://example.com/",
            "https://example.com/x/",
            "https://example.com/%6Dercure",
            "https://user@example.com/x",
            "https://:password@example.com/x",
            "https://*.example.com/x",
            "https://example.com/*",
        ] {
            assert!(HubUrl::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn topics_are_compared_by_their_text() {
        let parse = |values: &[&str]| {
            Topics::parse(values.iter().copied(), &HubUrl::default(), &Limits::default()).expect("topics")
        };
        assert_eq!(parse(&["a", "b"]), parse(&["a", "b"]));
        assert_ne!(parse(&["a", "b"]), parse(&["a", "c"]));
        assert_ne!(parse(&["a", "b"]), parse(&["a"]));
        assert_eq!(format!("{:?}", parse(&["a", "b"]).canonical()), "\"a\"");
    }

    #[test]
    fn topics_are_bounded_in_number() {
        let limits = Limits { topics_max: 2, ..Limits::default() };
        let count = |values: &[&str]| {
            let topics = Topics::parse(values.iter().copied(), &HubUrl::default(), &limits);
            topics.map(|topics| topics.iter().len())
        };
        assert_eq!((count(&[]), count(&["a", "b"])), (Err(Reject::TopicMissing), Ok(2)));
        assert!(matches!(count(&["a", "b", "c"]), Err(Reject::TooLarge { max: 2, .. })));
    }

    #[test]
    fn only_unreserved_characters_are_decoded() {
        for (path, decoded) in [
            ("/%41%5a%61%7A%30%39%2D%2e%5F%7e", "/AZaz09-._~"),
            ("/%2F%25%20", "/%2F%25%20"),
            ("%", "%"),
            ("a%4", "a%4"),
            ("%zz%41", "%zzA"),
            ("%%41", "%A"),
        ] {
            assert_eq!(decode_unreserved(path), decoded, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_either_a_topic_or_refused(value in ".*") {
            if let Ok(topic) = parse(&value) {
                proptest::prop_assert_eq!(topic.as_str(), value);
            }
        }
    }
}
