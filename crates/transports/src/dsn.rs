//! The URL that says which transport a hub uses and where that is.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use percent_encoding::percent_decode_str;

use crate::OpenError;

/// A transport's URL, parsed as far as all transports have it in common: `scheme://authority/path?parameters`. Neither
/// `Display` nor `Debug` shows a user's name, a password or parameters.
///
/// ```
/// use petasos_transports::Dsn;
/// let dsn: Dsn = "redis://user:secret@localhost:6379/0?lease=15s".parse()?;
/// assert_eq!(dsn.to_string(), "redis://localhost:6379/0");
/// assert!("localhost:6379".parse::<Dsn>().is_err());
/// # Ok::<(), petasos_transports::OpenError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    scheme: String,
    /// User name and password, as written, with what separates them.
    user: Option<String>,
    /// One host or several, separated by commas, each with an optional port.
    hosts: String,
    /// With its slash; may be empty.
    path: String,
    parameters: BTreeMap<String, String>,
}

impl FromStr for Dsn {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, OpenError> {
        let example =
            "write a URL such as host:///run/app, durable:///var/lib/petasos or redis://localhost:6379";
        let (scheme, rest) =
            text.split_once(':').ok_or_else(|| OpenError::url(format!("it has no scheme: {example}")))?;
        let rest = match rest.strip_prefix("//") {
            Some(rest) => rest,
            // "memory:" is complete.
            None if rest.is_empty() => rest,
            None => return Err(OpenError::url(format!("\"//\" must follow the scheme: {example}"))),
        };
        if rest.contains('#') {
            return Err(OpenError::url("it must have no fragment: percent-encode \"#\" as %23"));
        }
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.find('/').map_or((place, ""), |at| place.split_at(at));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user.to_owned()), hosts),
            None => (None, authority),
        };
        // What stands before the "@" is neither taken for something else nor shown.
        let encode = "percent-encode \"/\", \"?\" and \"@\" in the user's name and password";
        if user.is_none() && !hosts.is_empty() && path.contains('@') {
            return Err(OpenError::url(encode));
        }
        let mut parameters = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return Err(OpenError::url(format!("a parameter's name has other characters: {encode}")));
            }
            let value = percent_decode_str(value).decode_utf8();
            let value =
                value.map_err(|_| OpenError::url(format!("the parameter \"{name}\" is not UTF-8")))?;
            if parameters.insert(name.to_owned(), value.into_owned()).is_some() {
                return Err(OpenError::url(format!("the parameter \"{name}\" is there twice")));
            }
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user,
            hosts: hosts.to_owned(),
            path: path.to_owned(),
            parameters,
        })
    }
}

impl Dsn {
    /// In lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// User name and password as they are written, percent-encoded, with the colon between them.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// As written: one host or several, separated by commas.
    pub(crate) fn hosts(&self) -> &str {
        &self.hosts
    }

    /// As written, with its slash; may be empty.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A parameter, decoded.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Those that are not named in `known`, to be passed on or refused.
    pub(crate) fn other_parameters(&self, known: &[&str]) -> impl Iterator<Item = (&str, &str)> {
        let others = self.parameters.iter().filter(move |(name, _)| !known.contains(&name.as_str()));
        others.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Refuses parameters that the transport does not have.
    pub(crate) fn has_only(&self, known: &[&str]) -> Result<(), OpenError> {
        match self.other_parameters(known).next() {
            None => Ok(()),
            Some((name, _)) => {
                let known = match known {
                    [] => "none".to_owned(),
                    known => known.join(", "),
                };
                Err(OpenError::url(format!(
                    "\"{}\" has no parameter \"{name}\": it has {known}",
                    self.scheme
                )))
            }
        }
    }

    /// The parameter `lease`: how long a node counts as alive after its last renewal, one second to ten minutes.
    pub(crate) fn lease(&self) -> Result<Duration, OpenError> {
        let Some(text) = self.parameter("lease") else { return Ok(LEASE) };
        let lease =
            humantime::parse_duration(text).ok().filter(|lease| (LEASE_MIN..=LEASE_MAX).contains(lease));
        lease.ok_or_else(|| OpenError::url("lease: write a time from 1s to 10m, such as 30s"))
    }

    /// The parameter `name`, under which one store keeps the logs of several hubs apart: letters, digits, `-` and `_`,
    /// 64 at most.
    pub(crate) fn name(&self) -> Result<&str, OpenError> {
        let name = self.parameter("name").unwrap_or(NAME);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed) {
            true => Ok(name),
            false => Err(OpenError::url("name: write 1 to 64 letters, digits, \"-\" and \"_\"")),
        }
    }
}

/// A node that is silent for this long counts as dead: long enough for a pause of its machine, short enough that its
/// subscribers are not listed for minutes.
const LEASE: Duration = Duration::from_secs(30);
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_secs(600);

const NAME: &str = "mercure";
const NAME_BYTES_MAX: usize = 64;

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.hosts, self.path)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_are_as_written() {
        let dsn: Dsn = "Redis+Sentinel://u:p%40@a:1,b:2/main/0?x=%20&lease=5s".parse().expect("valid");
        assert_eq!(
            (dsn.scheme(), dsn.user(), dsn.hosts(), dsn.path()),
            ("redis+sentinel", Some("u:p%40"), "a:1,b:2", "/main/0")
        );
        assert_eq!(dsn.parameter("x"), Some(" "));
        assert_eq!(dsn.lease(), Ok(Duration::from_secs(5)));
        assert_eq!(dsn.other_parameters(&["lease"]).collect::<Vec<_>>(), [("x", " ")]);
        let dsn: Dsn = "durable:///var/lib/petasos".parse().expect("valid");
        assert_eq!((dsn.hosts(), dsn.path()), ("", "/var/lib/petasos"));
        assert_eq!((dsn.name(), dsn.lease()), (Ok("mercure"), Ok(LEASE)));
        assert!("memory:".parse::<Dsn>().is_ok());
    }

    #[test]
    fn errors_say_what_to_write() {
        for (url, part) in [
            ("redis", "no scheme"),
            ("localhost:6379", "\"//\""),
            ("durable:/var", "\"//\""),
            ("redis://a?x=1&x=2", "twice"),
            ("redis://a?x=%FF", "UTF-8"),
            ("redis://a#b", "%23"),
            ("redis://user:pa/ss@host", "percent-encode"),
            ("redis://user:pa?ss@host", "percent-encode"),
        ] {
            let error = url.parse::<Dsn>().expect_err(url).to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let dsn: Dsn = "redis://a?lease=1ms&name=a.b&c=d".parse().expect("valid");
        assert!(dsn.lease().is_err() && dsn.name().is_err());
        let error = dsn.has_only(&["lease", "name"]).expect_err("unknown").to_string();
        assert!(error.contains("\"c\"") && error.contains("lease, name"), "{error}");
    }

    #[test]
    fn secrets_are_not_shown() {
        let dsn: Dsn = "postgres://user:secret@h/db?password=secret".parse().expect("valid");
        assert_eq!(format!("{dsn} {dsn:?}"), "postgres://h/db postgres://h/db");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_show_what_stands_before_the_hosts(text in "(redis://)?.{0,40}", user in "[a-z][a-z/?]{12}") {
            let _ = text.parse::<Dsn>();
            let shown = format!("redis://{user}@{text}").parse::<Dsn>().map(|dsn| dsn.to_string());
            prop_assert!(!shown.unwrap_or_else(|error| error.to_string()).contains(&user));
        }
    }
}
