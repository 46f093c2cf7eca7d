//! What is wrong with a request, in words for its sender.

/// A request that breaks a rule of the protocol. It is the sender's fault, and the hub has done nothing.
///
/// `Display` says what to change. It names fields, bounds and characters, never values: a value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// A publish request without `topic`.
    #[error("the update has no topic: send at least one \"topic\" field")]
    TopicMissing,
    /// A topic that is exactly `*`.
    #[error("\"*\" is the wildcard and no topic: choose another topic")]
    TopicWildcard,
    /// A topic under the hub's own path.
    #[error("a topic lies in the hub's own namespace ({path}): choose a topic outside it")]
    TopicReserved {
        /// The hub's path.
        path: String,
    },
    /// A subscribe request that selects nothing.
    #[error(
        "nothing is selected: send at least one \"match\" or \"match_urlpattern\" parameter (in protocol 0.x, \"topic\")"
    )]
    MatcherMissing,
    /// A parameter of the `match` namespace that this hub cannot interpret.
    #[error(
        "a parameter whose name begins with \"match\" is unknown: this hub supports \"match\", \"match_exact\" and \
         \"match_urlpattern\", in lower case"
    )]
    MatcherUnsupported,
    /// `topic` parameters where only 1.0 is served.
    #[error(
        "\"topic\" parameters belong to protocol 0.x, which this hub does not serve: use \"match\" or \
         \"match_urlpattern\", or have the hub started with compat"
    )]
    SelectorUnsupported,
    /// Parameters of both protocols.
    #[error("\"topic\" (protocol 0.x) and \"match\" (protocol 1.0) parameters do not mix: use one of them")]
    DialectsMixed,
    /// A URI template with too many variables, or matchers that together take too much memory.
    #[error(
        "the matchers are too complex or too long: use fewer variables and groups, or fewer and shorter matchers"
    )]
    MatcherTooComplex,
    /// No URL pattern, or one that cannot be matched in linear time.
    #[error(
        "a URL pattern is invalid: follow the WHATWG URL Pattern syntax; regular expressions in it may have no \
         look-around, no back-references and no flags, and must be small"
    )]
    PatternInvalid,
    /// A control or format character where none may be.
    #[error("\"{field}\" holds the character U+{code:04X}: remove control and invisible format characters")]
    CharacterForbidden {
        /// The field's name.
        field: &'static str,
        /// The character's code point.
        code: u32,
    },
    /// Percent-decoded bytes that are not UTF-8.
    #[error("the {part} is not valid UTF-8 after percent-decoding: encode text as UTF-8")]
    NotUtf8 {
        /// `form` or `query`.
        part: &'static str,
    },
    /// An `id` with a reserved beginning or value.
    #[error("\"id\" must not be empty, must not be \"earliest\" and must not begin with \"#\"")]
    IdReserved,
    /// An `id` that begins or ends with a space.
    #[error("\"id\" must not begin or end with a space: header fields lose it")]
    IdSpaced,
    /// The `type` that only the hub may use.
    #[error("the type \"mercure\" is reserved for the hub: choose another \"type\"")]
    TypeReserved,
    /// A `retry` that is no number of milliseconds.
    #[error("\"retry\" must be a whole number of milliseconds, in ASCII digits, below 2^63")]
    RetryInvalid,
    /// A body that is no form.
    #[error("the body must be sent as application/x-www-form-urlencoded")]
    ContentType,
    /// A publish request over a limit.
    #[error("{what} exceeds the limit of {max}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// The bound in force.
        max: usize,
    },
    /// A subscribe request over a limit.
    #[error("{what} exceeds the limit of {max}")]
    TooMany {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// The bound in force.
        max: usize,
    },
}

impl Reject {
    /// The names of all rules.
    pub const CODES: &[&str] = &[
        "topic-missing",
        "topic-wildcard",
        "topic-reserved",
        "matcher-missing",
        "matcher-unsupported",
        "selector-unsupported",
        "dialects-mixed",
        "matcher-too-complex",
        "pattern-invalid",
        "character-forbidden",
        "not-utf8",
        "id-reserved",
        "id-spaced",
        "type-reserved",
        "retry-invalid",
        "content-type",
        "too-large",
        "too-many",
    ];

    /// A stable name of the rule, for clients that react to it and for metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TopicMissing => "topic-missing",
            Self::TopicWildcard => "topic-wildcard",
            Self::TopicReserved { .. } => "topic-reserved",
            Self::MatcherMissing => "matcher-missing",
            Self::MatcherUnsupported => "matcher-unsupported",
            Self::SelectorUnsupported => "selector-unsupported",
            Self::DialectsMixed => "dialects-mixed",
            Self::MatcherTooComplex => "matcher-too-complex",
            Self::PatternInvalid => "pattern-invalid",
            Self::CharacterForbidden { .. } => "character-forbidden",
            Self::NotUtf8 { .. } => "not-utf8",
            Self::IdReserved => "id-reserved",
            Self::IdSpaced => "id-spaced",
            Self::TypeReserved => "type-reserved",
            Self::RetryInvalid => "retry-invalid",
            Self::ContentType => "content-type",
            Self::TooLarge { .. } => "too-large",
            Self::TooMany { .. } => "too-many",
        }
    }
}
