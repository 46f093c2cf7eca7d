//! What a subscriber selects and a grant allows: a test on topics.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{Limits, Reject, template::Template, text};

/// A test on topics. Two matchers are equal when they are of one kind and one text.
///
/// Cloning shares the text.
#[derive(Clone)]
pub enum Matcher {
    /// `*`: every topic.
    Any,
    /// Byte comparison.
    Exact(Arc<str>),
    /// 0.x: the same text, or an expansion of the URI template.
    Template(Arc<Template>),
}

impl Matcher {
    /// A topic selector of protocol 0.x (section "Topic Selectors"): `*`, a URI template, or any other string, which
    /// matches itself.
    ///
    /// # Errors
    /// [`Reject::TooMany`] when too long, [`Reject::CharacterForbidden`], [`Reject::MatcherTooComplex`].
    ///
    /// ```
    /// use petasos_protocol::{matcher::Matcher, Limits};
    /// let books = Matcher::selector("https://example.com/books/{id}", &Limits::default())?;
    /// assert!(books.matches("https://example.com/books/1"));
    /// assert!(books.matches("https://example.com/books/{id}"));
    /// assert!(!books.matches("https://example.com/books/1/pages"));
    /// # Ok::<(), petasos_protocol::Reject>(())
    /// ```
    pub fn selector(value: &str, limits: &Limits) -> Result<Self, Reject> {
        if value.len() > limits.matcher_bytes_max {
            return Err(Reject::TooMany {
                what: "the length of a topic selector in bytes",
                max: limits.matcher_bytes_max,
            });
        }
        text::check("topic", value)?;
        if value == "*" {
            return Ok(Self::Any);
        }
        Ok(match Template::parse(value)? {
            Some(template) => Self::Template(Arc::new(template)),
            None => Self::Exact(value.into()),
        })
    }

    /// Whether `topic` is selected.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => **text == *topic,
            Self::Template(template) => template.as_str() == topic || template.matches(topic),
        }
    }

    /// The text it was parsed from.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Any => "*",
            Self::Exact(text) => text,
            Self::Template(template) => template.as_str(),
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.as_str() == other.as_str()
    }
}

impl Eq for Matcher {}

impl Hash for Matcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
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

    #[test]
    fn wildcard_exact_and_template_are_told_apart() {
        assert!(matches!(selector("*"), Matcher::Any));
        assert!(matches!(selector("a*"), Matcher::Exact(_)));
        assert!(matches!(selector("https://example.com/{id}"), Matcher::Template(_)));
        assert!(matches!(selector("not a template {id}"), Matcher::Exact(_)));
    }

    #[test]
    fn only_the_lone_star_is_a_wildcard() {
        assert!(selector("*").matches("anything"));
        assert!(!selector("a*").matches("ab"));
        assert!(selector("a*").matches("a*"));
    }

    #[test]
    fn comparison_is_byte_for_byte() {
        assert!(!selector("Topic").matches("topic"));
        assert!(!selector("https://example.com/%41").matches("https://example.com/A"));
        assert!(!selector("e\u{301}").matches("é"));
        assert!(!selector("topic").matches("topic "));
    }

    #[test]
    fn invalid_text_is_refused() {
        assert!(matches!(
            Matcher::selector("a\0b", &Limits::default()),
            Err(Reject::CharacterForbidden { .. })
        ));
        assert!(matches!(
            Matcher::selector(&"a".repeat(4097), &Limits::default()),
            Err(Reject::TooMany { .. })
        ));
    }

    proptest! {
        #[test]
        fn every_selector_matches_itself_and_nothing_panics(value in "\\PC{0,30}", topic in "\\PC{0,30}") {
            if let Ok(matcher) = Matcher::selector(&value, &Limits::default()) {
                prop_assert!(matcher.matches(&value));
                prop_assert_eq!(matcher.as_str(), &value);
                if matches!(matcher, Matcher::Exact(_)) {
                    prop_assert_eq!(matcher.matches(&topic), value == topic);
                }
            }
        }
    }
}
