//! An origin of web pages, and the entries of a list of origins.
//!
//! An origin is a scheme, a host and a port, as browsers send it in `Origin`. All entries are in the form that browsers
//! send: lower case, internationalized names in their ASCII form, no default port.

use url::{Host, Origin as Parsed, Url};

/// An entry of a list of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `https://example.com`: this origin.
    One(Origin),
    /// `https://*.example.com`: all hosts below `example.com`, one or more labels deep, with the same scheme and port.
    /// `example.com` itself is not among them.
    Below(Origin),
}

/// A scheme, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: String,
    host: Host,
    port: u16,
}

impl Entry {
    /// From `https://example.com`, `http://localhost:5000` or `https://*.example.com`.
    ///
    /// # Errors
    /// A sentence that names the entry and says what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no origin: {}", advice(text));
        let (without_star, is_below) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
            None => (text.to_owned(), false),
        };
        if without_star.contains('*') {
            return Err(wrong());
        }
        let url = Url::parse(&without_star).map_err(|_| wrong())?;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let origin = Origin::from_url(&url).filter(|_| bare).ok_or_else(wrong)?;
        match (is_below, &origin.host) {
            (false, _) => Ok(Self::One(origin)),
            (true, Host::Domain(_)) => Ok(Self::Below(origin)),
            // Addresses have no subdomains.
            (true, _) => Err(wrong()),
        }
    }

    pub(crate) fn matches(&self, origin: &Origin) -> bool {
        match self {
            Self::One(one) => one == origin,
            Self::Below(above) => {
                above.scheme == origin.scheme
                    && above.port == origin.port
                    && is_below(&origin.host, &above.host)
            }
        }
    }
}

impl Origin {
    /// From the value of an `Origin` header field. `None`: it is no origin, or it is more than an origin.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let origin = Self::from_url(&url)?;
        // The parser of URLs also accepts texts that are no origin: with a path, a user name or a tab.
        url.origin().ascii_serialization().eq_ignore_ascii_case(text).then_some(origin)
    }

    /// The origin of the page at a URL. `None`: the scheme is not `http` or `https`, as for a file.
    pub(crate) fn from_url(url: &Url) -> Option<Self> {
        match url.origin() {
            Parsed::Tuple(scheme, host, port) if matches!(&*scheme, "http" | "https") => {
                Some(Self { scheme, host, port })
            }
            _ => None,
        }
    }
}

/// Whether `host` is `above` with one or more whole labels before it.
fn is_below(host: &Host, above: &Host) -> bool {
    let (Host::Domain(host), Host::Domain(above)) = (host, above) else { return false };
    let labels = host.strip_suffix(&**above).and_then(|labels| labels.strip_suffix('.'));
    labels.is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
}

/// The advice for an entry that cannot match: what to write instead.
fn advice(text: &str) -> String {
    const FORMS: &str = "write https://example.com, or https://*.example.com for all of its subdomains";
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // With "https" in front, a corrected entry can be checked and offered.
    let candidate = |scheme: &str, host: &str| {
        let entry = format!("{scheme}://{host}");
        (entry != text && Entry::parse(&entry).is_ok()).then(|| format!("write \"{entry}\""))
    };
    if matches!(host, "*" | "*.*" | "*:*") {
        return format!("{FORMS}; \"*\" alone stands for all origins, without cookies");
    }
    let scheme_or_https = if matches!(scheme, "http" | "https") { scheme } else { "https" };
    let corrected = match host.strip_prefix('*').filter(|rest| !rest.starts_with('.')) {
        // "*example.com" would match "evilexample.com".
        Some(domain) => candidate(scheme_or_https, &format!("*.{domain}")),
        None => candidate(scheme_or_https, host),
    };
    corrected.unwrap_or_else(|| FORMS.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(entry: &str, origin: &str) -> bool {
        let entry = Entry::parse(entry).expect("an entry");
        Origin::parse(origin).is_some_and(|origin| entry.matches(&origin))
    }

    #[test]
    fn a_star_stands_for_one_or_more_whole_labels() {
        for origin in [
            "https://a.example.com",
            "https://a.b.example.com",
            "https://A.Example.COM",
            "https://xn--bcher-kva.example.com",
        ] {
            assert!(matches("https://*.example.com", origin), "{origin}");
        }
        for origin in [
            "https://example.com",
            "https://evilexample.com",
            "https://.example.com",
            "https://a..example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://a.example.com.evil.example",
            "https://a.example.com.",
            "https://a.example.com/",
            "https://u@a.example.com",
            "https://a.exa\tmple.com",
            "https://a.example.com#",
            "null",
            "",
            "a.example.com",
        ] {
            assert!(!matches("https://*.example.com", origin), "{origin}");
        }
        assert!(matches("https://*.example.com:8443", "https://a.example.com:8443"));
        assert!(!matches("https://*.example.com:8443", "https://a.example.com"));
        assert!(matches("http://*.localhost:3000", "http://app.localhost:3000"));
    }

    #[test]
    fn entries_are_brought_into_the_form_that_browsers_send() {
        for (entry, origin) in [
            ("HTTPS://Example.COM", "https://example.com"),
            ("https://example.com:443", "https://example.com"),
            ("http://example.com:80/", "http://example.com"),
            ("https://example.com/", "https://example.com"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://*.Bücher.example:443/", "https://a.xn--bcher-kva.example"),
            ("http://[::1]:5000", "http://[::1]:5000"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ] {
            assert!(matches(entry, origin), "{entry}");
        }
    }

    #[test]
    fn entries_that_cannot_match_say_what_to_write() {
        for (entry, advice) in [
            ("example.com", "write \"https://example.com\""),
            ("*.example.com", "write \"https://*.example.com\""),
            ("https://*example.com", "write \"https://*.example.com\""),
            ("https://example.com/path", "write \"https://example.com\""),
            ("https://*.example.com/path", "write \"https://*.example.com\""),
            ("https://example.com?x", "write \"https://example.com\""),
            ("wss://example.com", "write \"https://example.com\""),
            ("//example.com", "write https://"),
            ("https://*", "\"*\" alone"),
            ("https://*:8080", "write https://"),
            ("*://example.com", "write \"https://example.com\""),
            ("https://a.*.example.com", "write https://"),
            ("https://*.*.example.com", "write https://"),
            ("https://example.*", "write https://"),
            ("https://example.com:*", "write https://"),
            ("https://*.127.0.0.1", "write https://"),
            ("https://*.[::1]", "write https://"),
            ("https://u@example.com", "write https://"),
            ("https://:p@example.com", "write https://"),
            ("https://*.", "write https://"),
            ("null", "write"),
            ("", "write https://"),
            ("data:x", "write"),
            ("file:///x", "write https://"),
        ] {
            let error = Entry::parse(entry).expect_err(entry);
            assert!(error.starts_with(&format!("\"{entry}\" is no origin: ")), "{error}");
            assert!(error.contains(advice), "{entry}: {error}");
        }
    }
}
