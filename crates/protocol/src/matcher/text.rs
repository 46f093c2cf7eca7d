//! A matcher as it is written: a type and a text.

use std::{fmt, sync::Arc};

/// The matcher types of section "Matcher Types". Protocol 0.x has no types: where one is needed, its selectors count as
/// [`MatcherType::Exact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MatcherType {
    /// `exact`
    Exact,
    /// `urlpattern`
    UrlPattern,
}

impl MatcherType {
    /// All types, in the order in which the hub advertises them.
    pub const ALL: [Self; 2] = [Self::Exact, Self::UrlPattern];

    /// The type of that name. Case counts.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.as_str() == name)
    }

    /// The canonical name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::UrlPattern => "urlpattern",
        }
    }
}

/// A type and a text, not compiled. This is what is recorded about a subscription.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MatcherText {
    matcher_type: MatcherType,
    text: Arc<str>,
}

impl MatcherText {
    /// Takes a text that was parsed as a [`Matcher`](super::Matcher) before. It is not checked again.
    pub fn new(matcher_type: MatcherType, text: impl Into<Arc<str>>) -> Self {
        Self { matcher_type, text: text.into() }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The type. A selector that only 0.x has counts as exact.
    pub fn matcher_type(&self) -> MatcherType {
        self.matcher_type
    }
}

impl fmt::Debug for MatcherText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}
