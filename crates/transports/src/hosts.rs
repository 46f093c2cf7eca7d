//! Hosts, logins, time-outs and certificates, as the URLs of all stores say them.

#[cfg(any(feature = "nats", feature = "redis"))]
use std::fmt;
use std::time::Duration;

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use percent_encoding::percent_decode_str;

use crate::{Dsn, OpenError};

/// A name or an address, and a port.
#[cfg(any(feature = "nats", feature = "redis"))]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// User and password, decoded.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) struct Login {
    /// `None`: nothing stands before the colon.
    pub(crate) user: Option<String>,
    /// `None`: there is no colon.
    pub(crate) password: Option<Vec<u8>>,
}

/// Hosts of one URL: more than anybody names. Each host that is silent costs a time-out.
#[cfg(any(feature = "nats", feature = "redis"))]
const HOSTS_MAX: usize = 32;

/// The largest value of the parameter `timeout`: after a minute proxies give up.
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl Dsn {
    /// The hosts of the URL, at least one, in its order. Hosts without a port have `port`.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) fn host_list(&self, port: u16) -> Result<Vec<Host>, OpenError> {
        let hosts = self.hosts().split(',').map(|host| Host::parse(host, port)).collect::<Option<Vec<_>>>();
        let example = || format!("write the hosts as {}://host1:{port},[::1]:{port}", self.scheme());
        let hosts = hosts.ok_or_else(|| OpenError::url(example()))?;
        match hosts.len() <= HOSTS_MAX {
            true => Ok(hosts),
            false => Err(OpenError::url(format!("it names more than {HOSTS_MAX} hosts"))),
        }
    }

    /// The user and the password of the URL. `None`: it has no "@".
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    pub(crate) fn login(&self) -> Result<Option<Login>, OpenError> {
        let Some(text) = self.user() else { return Ok(None) };
        let (user, password) =
            text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
        let user = percent_decode_str(user).decode_utf8();
        let user = user.map_err(|_| OpenError::url("the user is not UTF-8"))?.into_owned();
        let password = password.map(|password| percent_decode_str(password).collect());
        Ok(Some(Login { user: (!user.is_empty()).then_some(user), password }))
    }

    /// The parameter `timeout`: how long the store has to answer, from `min` to a minute.
    pub(crate) fn timeout(&self, default: Duration, min: Duration) -> Result<Duration, OpenError> {
        let Some(text) = self.parameter("timeout") else { return Ok(default) };
        let timeout = humantime::parse_duration(text).ok();
        timeout.filter(|timeout| (min..=TIMEOUT_MAX).contains(timeout)).ok_or_else(|| {
            let [min, default] = [min, default].map(humantime::format_duration);
            OpenError::url(format!("timeout: write a time from {min} to 60s, such as {default}"))
        })
    }

    /// The parameter `replicas`.
    #[cfg(any(feature = "nats", feature = "redis"))]
    pub(crate) fn replicas(&self, default: u32, max: u32) -> Result<u32, OpenError> {
        let Some(text) = self.parameter("replicas") else { return Ok(default) };
        let replicas = text.parse().ok().filter(|replicas| (default..=max).contains(replicas));
        replicas.ok_or_else(|| OpenError::url(format!("replicas: write a number from {default} to {max}")))
    }

    /// The files of a certificate and of its key, which go together.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    pub(crate) fn identity(&self, cert: &str, key: &str) -> Result<Option<(&str, &str)>, OpenError> {
        match (self.parameter(cert), self.parameter(key)) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            _ => Err(OpenError::url(format!(
                "{cert} and {key} go together: name the files of a certificate and of its key, give both or neither"
            ))),
        }
    }
}

#[cfg(any(feature = "nats", feature = "redis"))]
impl Host {
    fn parse(text: &str, port: u16) -> Option<Self> {
        let (name, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?,
            None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
        };
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if rest.is_empty() => port,
            None => return None,
        };
        (!name.is_empty()).then(|| Self { name: name.to_owned(), port })
    }
}

#[cfg(any(feature = "nats", feature = "redis"))]
impl Login {
    /// The password as text. `None`: there is none.
    pub(crate) fn password_text(self) -> Result<Option<String>, OpenError> {
        let text = self.password.map(String::from_utf8).transpose();
        text.map_err(|_| OpenError::url("the password is not UTF-8"))
    }
}

#[cfg(any(feature = "nats", feature = "redis"))]
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

#[cfg(any(feature = "nats", feature = "redis"))]
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(all(test, feature = "nats", feature = "postgres", feature = "redis"))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn dsn(url: &str) -> Dsn {
        url.parse().expect("a URL")
    }

    #[test]
    fn hosts_have_the_port_of_their_store() {
        let hosts = dsn("nats://a,b:1,[::1],[::1]:2").host_list(4222).expect("valid");
        assert_eq!(format!("{hosts:?}"), "[a:4222, b:1, [::1]:4222, [::1]:2]");
        for wrong in ["", "a,,b", "a:x", "[::1", "[::1]2", ":1", "a:70000"] {
            let error = dsn(&format!("nats://{wrong}")).host_list(4222).expect_err(wrong).to_string();
            assert!(error.contains("nats://host1:4222"), "{error}");
        }
        let many = |count| dsn(&format!("nats://{}", vec!["h"; count].join(","))).host_list(1);
        assert_eq!(many(HOSTS_MAX).expect("allowed").len(), HOSTS_MAX);
        assert!(many(HOSTS_MAX + 1).is_err());
    }

    #[test]
    fn logins_are_decoded() {
        let login = |url| dsn(url).login().expect("valid");
        assert!(login("nats://a").is_none());
        for (url, user, password) in [
            ("nats://u%40:p%2F@a", Some("u@"), Some("p/")),
            ("nats://:p@a", None, Some("p")),
            ("nats://u@a", Some("u"), None),
            ("nats://u:@a", Some("u"), Some("")),
        ] {
            let login = login(url).expect("a login");
            assert_eq!(login.user.as_deref(), user, "{url}");
            assert_eq!(login.password_text().expect("text").as_deref(), password, "{url}");
        }
        assert!(dsn("nats://%FF@a").login().is_err());
        assert!(login("nats://u:%FF@a").expect("a login").password_text().is_err());
    }

    #[test]
    fn parameters_are_bounded() {
        let timeout = |text: &str| dsn(&format!("nats://a?timeout={text}")).timeout(5 * SECOND, SECOND);
        assert_eq!(dsn("nats://a").timeout(5 * SECOND, SECOND), Ok(5 * SECOND));
        assert_eq!((timeout("1s"), timeout("60s")), (Ok(SECOND), Ok(TIMEOUT_MAX)));
        for wrong in ["999ms", "61s", "x"] {
            let error = timeout(wrong).expect_err(wrong).to_string();
            assert!(error.contains("from 1s to 60s, such as 5s"), "{error}");
        }
        let replicas = |text: &str| dsn(&format!("nats://a?replicas={text}")).replicas(1, 5);
        assert_eq!((replicas("1"), replicas("5")), (Ok(1), Ok(5)));
        assert!(replicas("0").is_err() && replicas("6").is_err());
        let identity = |parameters| dsn(&format!("nats://a?{parameters}")).identity("cert", "key").is_ok();
        assert!(identity("") && identity("cert=a&key=b"));
        assert!(!identity("cert=a") && !identity("key=b"));
    }
}
