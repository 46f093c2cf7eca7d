//! The fields of one Server-Sent Event that a publisher may choose: its id, its type and its retry time.
//!
//! Each is checked once, when it is parsed. So no value can add a line to an event stream.

use std::{borrow::Borrow, fmt, sync::Arc};

use crate::{Limits, Reject, text};

/// The identifier of an update, and the cursor of every subscriber that has received this update last.
///
/// Section "Publication": an id is not empty, is not `earliest`, does not begin with `#` and has no control or format
/// characters. It neither begins nor ends with a space either, because header fields do not keep those spaces.
///
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Checks an id that a publisher gives.
    ///
    /// # Errors
    /// - [`Reject::TooLarge`]: longer than [`Limits::id_bytes_max`].
    /// - [`Reject::CharacterForbidden`]: a control or format character.
    /// - [`Reject::IdReserved`]: empty, `earliest`, or `#` at the beginning.
    /// - [`Reject::IdSpaced`]: a space at the beginning or at the end.
    pub fn parse(value: &str, limits: &Limits) -> Result<Self, Reject> {
        if value.len() > limits.id_bytes_max {
            return Err(Reject::TooLarge { what: "the length of \"id\" in bytes", max: limits.id_bytes_max });
        }
        text::check("id", value)?;
        if value.is_empty() || value.starts_with('#') || value == "earliest" {
            return Err(Reject::IdReserved);
        }
        // A subscriber sends the id back in a header field, which drops these spaces: no log would find the id again.
        if value.starts_with(' ') || value.ends_with(' ') {
            return Err(Reject::IdSpaced);
        }
        Ok(Self(value.into()))
    }

    /// The id that a hub gives: `urn:uuid:` and `uuid`, which is a UUID in its hyphenated form.
    pub fn from_uuid(uuid: &str) -> Self {
        Self(format!("urn:uuid:{uuid}").into())
    }

    /// An id that a log has kept. It was checked before it was appended.
    pub(crate) fn trusted(value: &str) -> Self {
        Self(value.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps with this key can be searched by text: both hash and compare alike.
impl Borrow<str> for EventId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The SSE `event` field of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventType(Box<str>);

impl EventType {
    /// Checks a type that a publisher gives.
    ///
    /// # Errors
    /// - [`Reject::TooLarge`]: longer than [`Limits::id_bytes_max`].
    /// - [`Reject::CharacterForbidden`]: a control or format character.
    /// - [`Reject::TypeReserved`]: `mercure`, which protocol 1.0 keeps for the hub.
    pub fn parse(value: &str, limits: &Limits) -> Result<Self, Reject> {
        if value.len() > limits.id_bytes_max {
            return Err(Reject::TooLarge {
                what: "the length of \"type\" in bytes",
                max: limits.id_bytes_max,
            });
        }
        text::check("type", value)?;
        if value == Self::RESERVED {
            return Err(Reject::TypeReserved);
        }
        Ok(Self(value.into()))
    }

    /// The reserved type, which the hub's own events have in protocol 1.0.
    pub(crate) fn reserved() -> Self {
        Self(Self::RESERVED.into())
    }

    const RESERVED: &str = "mercure";

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The SSE `retry` field: how long a client waits before it connects again, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry(u64);

impl Retry {
    /// Accepts ASCII digits below 2^63, so that the integers of every client can hold the value.
    ///
    /// # Errors
    /// [`Reject::RetryInvalid`].
    pub fn parse(value: &str) -> Result<Self, Reject> {
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse::<u64>() {
            Ok(millis) if digits && millis <= i64::MAX as u64 => Ok(Self(millis)),
            _ => Err(Reject::RetryInvalid),
        }
    }

    /// A time that the hub chooses, in milliseconds. Values from 2^63 on become the largest below it.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.min(i64::MAX as u64))
    }

    /// Milliseconds.
    pub fn millis(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_and_forbidden_ids_are_refused() {
        let parse = |value: &str| EventId::parse(value, &Limits::default());
        for reserved in ["", "#1", "#", "earliest"] {
            assert_eq!(parse(reserved), Err(Reject::IdReserved), "{reserved:?}");
        }
        for spaced in [" a", "a ", " "] {
            assert_eq!(parse(spaced), Err(Reject::IdSpaced), "{spaced:?}");
        }
        for forbidden in ["a\nb", "a\u{0}", "a\u{200b}", "\u{85}"] {
            assert!(matches!(parse(forbidden), Err(Reject::CharacterForbidden { .. })), "{forbidden:?}");
        }
        for good in ["1", "earliest2", "a#1", "a b", "urn:uuid:x", "é"] {
            assert_eq!(parse(good).expect("allowed").as_str(), good);
        }
    }

    #[test]
    fn reserved_and_forbidden_types_are_refused() {
        let parse = |value: &str| EventType::parse(value, &Limits::default());
        assert_eq!(parse("mercure"), Err(Reject::TypeReserved));
        for forbidden in ["a\rb", "a\u{feff}"] {
            assert!(matches!(parse(forbidden), Err(Reject::CharacterForbidden { .. })), "{forbidden:?}");
        }
        for good in ["Mercure", "message", "mercure2", "Subscription"] {
            assert_eq!(parse(good).expect("allowed").as_str(), good);
        }
    }

    #[test]
    fn ids_and_types_are_bounded_in_bytes() {
        let limits = Limits { id_bytes_max: 6, ..Limits::default() };
        assert!(EventId::parse("ééé", &limits).is_ok() && EventType::parse("ééé", &limits).is_ok());
        assert!(matches!(EventId::parse("éééa", &limits), Err(Reject::TooLarge { max: 6, .. })));
        assert!(matches!(EventType::parse("éééa", &limits), Err(Reject::TooLarge { max: 6, .. })));
    }

    #[test]
    fn retry_takes_ascii_digits_only() {
        for bad in ["", "+1", "-1", "1.5", " 1", "1e3", "١", "9223372036854775808", "99999999999999999999"] {
            assert_eq!(Retry::parse(bad), Err(Reject::RetryInvalid), "{bad:?}");
        }
        for (good, millis) in [("0", 0), ("007", 7), ("9223372036854775807", i64::MAX as u64)] {
            assert_eq!(Retry::parse(good).map(Retry::millis), Ok(millis));
        }
    }

    #[test]
    fn debug_shows_the_text_of_an_id() {
        assert_eq!(format!("{:?}", EventId::from_uuid("u")), "\"urn:uuid:u\"");
    }

    #[test]
    fn ids_are_found_by_their_text() {
        let ids = std::collections::HashSet::from([EventId::from_uuid("u")]);
        assert!(ids.contains("urn:uuid:u") && !ids.contains("urn:uuid:v"));
    }
}
