//! The literal prefix of all topics that a matcher selects. Indexes file matchers by it.

use std::borrow::Cow;

use url::{Position, Url};

/// A text that every topic which a matcher selects begins with. A topic that begins otherwise is not selected.
///
/// At most [`Self::BYTES_MAX`] bytes long, and empty where nothing is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiteralPrefix<'a> {
    /// The topic itself begins with it.
    Text(&'a str),
    /// The URL of the topic begins with it, in the form that [`comparable`] gives. A topic without a URL is not selected.
    Url(String),
}

impl LiteralPrefix<'_> {
    /// Longer prefixes are cut. 128 bytes tell apart two UUIDs in a path behind a long host name, and bound the number of
    /// different lengths that an index has to try for one topic.
    pub const BYTES_MAX: usize = 128;
}

/// The text of a URL that is compared with [`LiteralPrefix::Url`]. It has no user name and no password, which few patterns
/// name. Without a host, the path follows the scheme at once, in every spelling of that URL.
///
/// ```
/// use petasos_protocol::{matcher::comparable, topic::{HubUrl, Topic}};
/// let text = |topic| Topic::unchecked(topic, &HubUrl::default()).url().map(|url| comparable(url).into_owned());
/// assert_eq!(text("https://me:secret@EXAMPLE.com:443/a?b").as_deref(), Some("https://example.com/a?b"));
/// assert_eq!(text("file:///a").as_deref(), Some("file:/a"));
/// ```
pub fn comparable(url: &Url) -> Cow<'_, str> {
    if url.cannot_be_a_base() {
        return url.as_str().into();
    }
    match url.host_str() {
        None | Some("") => format!("{}:{}", url.scheme(), &url[Position::BeforePath..]).into(),
        Some(_) if url.username().is_empty() && url.password().is_none() => url.as_str().into(),
        Some(_) => format!("{}{}", &url[..Position::BeforeUsername], &url[Position::BeforeHost..]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_compared_without_what_patterns_do_not_speak_of() {
        for (url, expected) in [
            ("https://example.com/a?b#c", "https://example.com/a?b#c"),
            ("https://me@example.com/a", "https://example.com/a"),
            ("https://:secret@example.com:8443/a", "https://example.com:8443/a"),
            ("https://@example.com:443", "https://example.com/"),
            ("custom://me:secret@host", "custom://host"),
            ("custom:///a", "custom:/a"),
            ("custom:/.//a", "custom://a"),
            ("custom:", "custom:"),
            ("urn:uuid:1?a#b", "urn:uuid:1?a#b"),
            ("file:///a", "file:/a"),
            ("file://host/a", "file://host/a"),
        ] {
            assert_eq!(comparable(&Url::parse(url).expect(url)), expected, "{url}");
        }
    }
}
