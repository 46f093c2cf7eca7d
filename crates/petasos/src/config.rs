//! Settings as people write them, and the one place where they are checked.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use petasos_hub::{Hub, MemoryTransport, TransportError};
use petasos_protocol::{Limits, update::EventType};
use petasos_server::{Connections, Key, Origins, Service};
use uuid::Uuid;

/// What an operator or an application decides. [`Config::check`] turns it into something that can be started.
#[derive(Debug, Clone)]
pub struct Config {
    /// Verifies publishers' tokens (HS256, HS384, HS512); `None`: nobody may publish over HTTP.
    pub publisher_key: Option<Secret>,
    /// Verifies subscribers' tokens; `None`: every token is refused.
    pub subscriber_key: Option<Secret>,
    /// Whether a subscriber needs no token.
    pub anonymous: bool,
    /// Whether subscriptions are announced and listed.
    pub subscriptions: bool,
    /// The SSE `event` of subscription events; `None`, as the specification has it: none.
    pub subscription_event_type: Option<String>,
    /// Whether POST is answered.
    pub publish: bool,
    /// The time after which an idle stream sends a comment; zero: never. Default 15 s.
    pub keep_alive: Duration,
    /// Updates that are kept for reconnections. Default 500.
    pub history_max: usize,
    /// Origins whose scripts may read answers; `*`: all, without credentials.
    pub cors_origins: Vec<String>,
    /// With `*`: credentials where page and hub are both on loopback names, for development.
    pub cors_loopback_credentials: bool,
    /// Origins, beside the hub's own, that may publish with the cookie.
    pub publish_origins: Vec<String>,
    /// The cookie that may carry a token. Default `mercureAuthorization`.
    pub cookie_name: String,
    /// Streams that may be open at once. Default 100,000.
    pub subscribers_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            publisher_key: None,
            subscriber_key: None,
            anonymous: false,
            subscriptions: true,
            subscription_event_type: None,
            publish: true,
            keep_alive: Duration::from_secs(15),
            history_max: 500,
            cors_origins: Vec::new(),
            cors_loopback_credentials: false,
            publish_origins: Vec::new(),
            cookie_name: "mercureAuthorization".to_owned(),
            subscribers_max: 100_000,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The field of [`Config`].
    pub setting: &'static str,
    /// What is wrong and what to write instead. Never the value of a secret.
    pub problem: String,
}

/// Settings that have been checked.
#[derive(Debug, Clone)]
pub struct Checked {
    hub: petasos_hub::Settings,
    server: petasos_server::Settings,
    history_max: usize,
}

impl Config {
    /// Checks all settings.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(self) -> Result<Checked, ConfigError> {
        let limits = Limits::default();
        let event_type =
            self.subscription_event_type.as_deref().map(|value| EventType::parse(value, &limits));
        let event_type = event_type.transpose().map_err(wrong("subscription_event_type"))?;
        let mut cors = origins("cors_origins", &self.cors_origins)?;
        if self.cors_loopback_credentials {
            cors = cors.with_loopback_credentials();
        }
        Ok(Checked {
            hub: petasos_hub::Settings {
                keep_alive: (!self.keep_alive.is_zero()).then_some(self.keep_alive.min(KEEP_ALIVE_MAX)),
                subscriptions: self.subscriptions,
                subscription_event_type: event_type,
                ..petasos_hub::Settings::default()
            },
            server: petasos_server::Settings {
                limits,
                publisher_key: key("publisher_key", self.publisher_key.as_ref())?,
                subscriber_key: key("subscriber_key", self.subscriber_key.as_ref())?,
                anonymous: self.anonymous,
                publish: self.publish,
                cookie_name: cookie_name(self.cookie_name)?,
                cors,
                publish_origins: origins("publish_origins", &self.publish_origins)?,
                subscribers_max: self.subscribers_max,
                connections_max: self.subscribers_max.saturating_add(CONNECTIONS_SPARE),
                ..petasos_server::Settings::default()
            },
            history_max: self.history_max,
        })
    }
}

/// A longer silence than a day is no keep-alive.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Connections beyond the streams: publishers, and subscribers who are told to come back later.
const CONNECTIONS_SPARE: usize = 10_000;

impl Checked {
    /// Starts a hub with its log in memory on the current tokio runtime.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn start(self) -> Result<Connections, TransportError> {
        let hub = Hub::start(Arc::new(MemoryTransport::new(self.history_max)), self.hub).await?;
        Ok(Connections::new(Service::new(hub, self.server)))
    }
}

fn key(setting: &'static str, secret: Option<&Secret>) -> Result<Option<Key>, ConfigError> {
    let key = secret.map(|secret| Key::secret(&secret.0)).transpose().map_err(wrong(setting))?;
    if key.as_ref().is_some_and(Key::is_short) {
        tracing::warn!(
            setting,
            "the secret is shorter than 32 bytes and can be guessed: use a longer one in production"
        );
    }
    Ok(key)
}

fn origins(setting: &'static str, values: &[String]) -> Result<Origins, ConfigError> {
    Origins::parse(values.iter().map(String::as_str)).map_err(wrong(setting))
}

/// A cookie's name is a token (RFC 6265, section 4.1.1).
fn cookie_name(name: String) -> Result<String, ConfigError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(wrong("cookie_name")("use letters, digits, \"-\", \"_\" and \".\" only"));
    }
    Ok(name)
}

fn wrong<E: ToString>(setting: &'static str) -> impl FnOnce(E) -> ConfigError {
    move |problem| ConfigError { setting, problem: problem.to_string() }
}

/// A secret that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// From its bytes.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(secret.into())
    }

    /// 244 random bits, in 64 hexadecimal digits.
    pub fn random() -> Self {
        Self::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
    }

    /// The bytes, for whoever may see them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(secret: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(secret))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(config: Config) -> ConfigError {
        config.check().expect_err("wrong")
    }

    #[test]
    fn errors_name_the_setting_and_no_secret() {
        let wrong = Config { publisher_key: Some(Secret::new("-----BEGIN x")), ..Config::default() };
        let error = problem(wrong);
        assert_eq!(error.setting, "publisher_key");
        assert!(!error.to_string().contains("BEGIN x"));
        for (setting, config) in [
            ("subscriber_key", Config { subscriber_key: Some(Secret::new("")), ..Config::default() }),
            ("cors_origins", Config { cors_origins: vec!["example.com".to_owned()], ..Config::default() }),
            ("publish_origins", Config { publish_origins: vec!["x y".to_owned()], ..Config::default() }),
            ("cookie_name", Config { cookie_name: "a b".to_owned(), ..Config::default() }),
            ("cookie_name", Config { cookie_name: String::new(), ..Config::default() }),
            (
                "subscription_event_type",
                Config { subscription_event_type: Some("a\nb".to_owned()), ..Config::default() },
            ),
        ] {
            assert_eq!(problem(config).setting, setting);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::random();
        let config = Config { publisher_key: Some(secret.clone()), ..Config::default() };
        let shown = format!("{config:?}{:?}", config.clone().check());
        assert!(!shown.as_bytes().windows(64).any(|part| part == secret.expose()));
        assert_ne!(secret, Secret::random());
    }
}
