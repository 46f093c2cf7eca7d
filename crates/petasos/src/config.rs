//! Settings as people write them, and the one place where they are checked.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use petasos_auth::{Algorithm, Issuer, Issuers, Key, Keys, RemoteKeys, Verified, Verifier, Weakness};
use petasos_hub::Hub;
use petasos_protocol::{
    Limits,
    token::{Role, TokenError},
    topic::HubUrl,
    update::EventType,
};
use petasos_server::{Connections, Origins, Proxies, Service, StreamLimits};
use petasos_transports::{Dsn, OpenError, Retention};
use uuid::Uuid;

use crate::{
    Warning, memory,
    open_files::{self, Bounds},
};

/// What an operator or an application decides. [`Config::check`] turns it into something that can be started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The hub's URL as clients see it. `None`: it is not known, no metadata is served, and relative URL patterns are
    /// resolved against `http://localhost/.well-known/mercure`.
    pub public_url: Option<String>,
    /// The resource identifier, the `aud` of 1.0 tokens; `None`: the public URL.
    pub resource: Option<String>,
    /// Whether protocol 0.x is served, too.
    pub compat: bool,
    /// With 0.x: whether a topic selector in a token that ends with `*` grants every topic that begins with the rest, as
    /// flask-mercure-sse 0.4 had it. The specification has no such selectors.
    pub prefixes: bool,
    /// Whose tokens are accepted. The first one's keys also verify 0.x tokens that name no issuer.
    pub issuers: Vec<IssuerConfig>,
    /// Whether other machines reach the hub. If so, a secret that documentation publishes as an example is an error,
    /// else a warning. Default true.
    pub exposed: bool,
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
    /// The longest that a stream may last; zero: for ever. Default 1 h.
    pub lifetime_max: Duration,
    /// How long a peer may leave what it was sent unacknowledged. Default 60 s.
    pub write_timeout: Duration,
    /// How long a connection may wait for its next request. Default 75 s, longer than proxies keep theirs.
    pub idle_timeout: Duration,
    /// Where the log is: a URL such as `durable:///var/lib/petasos` or `redis://localhost:6379`, which may hold a
    /// password. The transports are those of [`petasos_transports`]. Default `memory:`.
    pub transport: Secret,
    /// Updates that are kept for reconnections. `None`: 500 in memory, 100,000 elsewhere.
    pub history_max: Option<usize>,
    /// Bytes of updates that are kept; `None`: no bound. Not in memory.
    pub history_bytes_max: Option<u64>,
    /// The age of updates that are kept; `None`: no bound. Not in memory.
    pub history_age_max: Option<Duration>,
    /// Origins whose scripts may read answers; `*`: all, without credentials.
    pub cors_origins: Vec<String>,
    /// With `*`: credentials where page and hub are both on loopback names, for development.
    pub cors_loopback_credentials: bool,
    /// Origins, beside the hub's own, that may publish with the cookie.
    pub publish_origins: Vec<String>,
    /// The cookie that may carry a token. Default `__Secure-mercure_access_token`.
    pub cookie_name: String,
    /// With 0.x: the cookie that is read where the other is absent. Default `mercureAuthorization`.
    pub legacy_cookie_name: Option<String>,
    /// Streams that may be open at once; fewer, if the limit of open files of this process has no room for them.
    pub streams: StreamLimits,
    /// Whether the hub has the process to itself. If so, the soft limit of open files is raised to the hard limit.
    /// Default false: an application decides on its limit itself, because a raised limit breaks code that uses
    /// `select`; and each connection of the hub takes further files of the application.
    pub own_process: bool,
    /// Bytes that the matchers, grants and payloads of all subscribers may take together; 0: any number. `None`: a quarter
    /// of the memory that the process may use, 512 MiB at most.
    pub subscribers_bytes_max: Option<usize>,
    /// Addresses and networks of proxies, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Bounds on requests and tokens.
    pub limits: Limits,
}

/// Someone who may sign tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The `iss` of its tokens; `None`: the origin of the public URL.
    pub id: Option<String>,
    /// What verifies publishers' tokens.
    pub publisher: KeyConfig,
    /// What verifies subscribers' tokens.
    pub subscriber: KeyConfig,
    /// Whether clients can ask it for tokens, which the metadata then says.
    pub authorization_server: bool,
}

/// What verifies the tokens of one role of one issuer. Without key and set: nothing, all are refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyConfig {
    /// A shared secret, or a public key in a PEM document.
    pub key: Option<Secret>,
    /// The file that the key was read from: only its permissions are looked at.
    pub key_file: Option<PathBuf>,
    /// A file with a JWK Set.
    pub jwks: Option<PathBuf>,
    /// The URL of a JWK Set, or [`DISCOVER`](Self::DISCOVER).
    pub jwks_url: Option<String>,
    /// The only algorithms that are accepted; empty: all that fit the keys.
    pub algorithms: Vec<String>,
}

impl KeyConfig {
    /// In place of a JWK Set's URL: it is in the metadata that the issuer serves under its identifier (RFC 8414).
    pub const DISCOVER: &str = "discover";

    /// A shared secret or a PEM document.
    pub fn of(key: Option<Secret>) -> Self {
        Self { key, ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            public_url: None,
            resource: None,
            compat: false,
            prefixes: false,
            issuers: Vec::new(),
            exposed: true,
            anonymous: false,
            subscriptions: true,
            subscription_event_type: None,
            publish: true,
            keep_alive: Duration::from_secs(15),
            lifetime_max: Duration::from_secs(3600),
            write_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            transport: Secret::new(MEMORY),
            history_max: None,
            history_bytes_max: None,
            history_age_max: None,
            cors_origins: Vec::new(),
            cors_loopback_credentials: false,
            publish_origins: Vec::new(),
            cookie_name: "__Secure-mercure_access_token".to_owned(),
            legacy_cookie_name: Some("mercureAuthorization".to_owned()),
            streams: StreamLimits::default(),
            own_process: false,
            subscribers_bytes_max: None,
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
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

/// Why a hub with correct settings did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The log cannot be opened: the setting `transport`, or what it names.
    #[error("transport: {0}")]
    Transport(#[from] OpenError),
    /// The log cannot be read, or the system has no room for a hub.
    #[error(transparent)]
    Hub(#[from] petasos_hub::StartError),
}

/// Settings that have been checked.
#[derive(Debug, Clone)]
pub struct Checked {
    hub: petasos_hub::Settings,
    server: petasos_server::Settings,
    transport: Dsn,
    retention: Retention,
    own_process: bool,
    warnings: Vec<Warning>,
}

impl Config {
    /// Checks all settings.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(self) -> Result<Checked, ConfigError> {
        let mut warnings = Vec::new();
        self.check_zeros()?;
        let limits = self.limits;
        let url = match &self.public_url {
            Some(url) => HubUrl::parse(url).map_err(wrong("public_url"))?,
            None => HubUrl::default(),
        };
        let event_type =
            self.subscription_event_type.as_deref().map(|value| EventType::parse(value, &limits));
        let event_type = event_type.transpose().map_err(wrong("subscription_event_type"))?;
        let transport = str::from_utf8(self.transport.expose())
            .map_err(|_| wrong("transport")("the URL is not UTF-8"))?;
        let transport: Dsn = transport.parse().map_err(wrong("transport"))?;
        petasos_transports::check(&transport).map_err(wrong("transport"))?;
        let retention = Retention {
            entries_max: self.history_max.unwrap_or(match transport.scheme() {
                "memory" => HISTORY_IN_MEMORY,
                _ => HISTORY_STORED,
            }),
            bytes_max: self.history_bytes_max,
            age_max: self.history_age_max,
        };
        let resource = resource(self.resource, &url)?;
        if self.public_url.is_some() && resource != url.as_url().as_str() {
            warnings.push(Warning {
                setting: "resource",
                problem:
                    "the resource identifier is not the public URL: clients that discover the hub by its \
                          metadata must refuse it (RFC 9728, section 3.3)"
                        .to_owned(),
            });
        }
        let cors = Origins::parse(self.cors_origins.iter().map(String::as_str));
        let mut cors = cors.map_err(wrong("cors_origins"))?;
        let trusted = issuers(self.issuers, &url, self.exposed, &mut warnings)?;
        let proxies = proxies(&self.trusted_proxies, &self.streams, &mut warnings)?;
        if self.cors_loopback_credentials {
            cors = cors.with_loopback_credentials();
        }
        Ok(Checked {
            hub: petasos_hub::Settings {
                url: url.clone(),
                lifetime_max: (!self.lifetime_max.is_zero()).then_some(self.lifetime_max),
                keep_alive: (!self.keep_alive.is_zero()).then_some(self.keep_alive.min(KEEP_ALIVE_MAX)),
                subscriptions: self.subscriptions,
                subscription_event_type: event_type,
                subscribers_bytes_max: match self.subscribers_bytes_max {
                    None => memory::subscribers_bytes_max(),
                    Some(0) => usize::MAX,
                    Some(bytes) => bytes,
                },
                ..petasos_hub::Settings::default()
            },
            server: petasos_server::Settings {
                limits,
                issuers: Issuers { trusted, resource, compat: self.compat, prefixes: self.prefixes },
                advertise: self.public_url.is_some(),
                anonymous: self.anonymous,
                publish: self.publish,
                cookie_name: cookie_name("cookie_name", self.cookie_name)?,
                legacy_cookie_name: self
                    .legacy_cookie_name
                    .map(|name| cookie_name("legacy_cookie_name", name))
                    .transpose()?,
                cors,
                publish_origins: Origins::parse_listed(self.publish_origins.iter().map(String::as_str))
                    .map_err(wrong("publish_origins"))?,
                streams: self.streams,
                connections_max: match self.streams.total {
                    0 => usize::MAX,
                    total => total.saturating_add(CONNECTIONS_SPARE),
                },
                proxies,
                write_timeout: self.write_timeout,
                idle_timeout: self.idle_timeout,
                ..petasos_server::Settings::default()
            },
            transport,
            retention,
            own_process: self.own_process,
            warnings,
        })
    }

    /// Refuses bounds of 0 that would refuse every request or have no meaning. Where 0 has a meaning, the text of the
    /// setting says which.
    fn check_zeros(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        for (setting, bound) in [
            ("max_body_bytes", limits.body_bytes_max),
            ("max_fields", limits.fields_max),
            ("max_topics", limits.topics_max),
            ("max_topic_bytes", limits.topic_bytes_max),
            ("max_id_bytes", limits.id_bytes_max),
            ("max_matchers", limits.matchers_max),
            ("max_matcher_bytes", limits.matcher_bytes_max),
            ("max_cursors", limits.cursors_max),
            ("max_matchers_bytes", limits.matchers_bytes_max),
            ("max_cookie_tokens", limits.cookie_tokens_max),
            ("max_token_bytes", limits.token_bytes_max),
            ("max_token_details", limits.token_details_max),
            ("max_token_matchers", limits.token_matchers_max),
        ] {
            if bound == 0 {
                return Err(wrong(setting)("0 would refuse every request that has one: write 1 or more"));
            }
        }
        if self.write_timeout.as_millis() == 0 {
            return Err(wrong("write_timeout")(
                "0 is no time to take anything in: write how long, such as 1m",
            ));
        }
        if self.idle_timeout.is_zero() {
            return Err(wrong("idle_timeout")(
                "0 would close connections while the next request is on its way: give a duration, longer than the proxy in \
                 front keeps its connections, such as 75s",
            ));
        }
        if self.history_bytes_max == Some(0) {
            return Err(wrong("history_bytes")(NO_HISTORY));
        }
        if self.history_age_max.is_some_and(|age| age.is_zero()) {
            return Err(wrong("history_age")(NO_HISTORY));
        }
        Ok(())
    }
}

/// For bounds of bytes and age: only `history` turns the history off.
const NO_HISTORY: &str =
    "0 keeps nothing: leave it out for no bound, or write history = 0 if nothing is to be kept";

/// The transport's URL where none is given.
const MEMORY: &str = "memory:";

/// Updates that are kept where nothing else is said: in memory a burst, elsewhere a day of most applications.
const HISTORY_IN_MEMORY: usize = 500;
const HISTORY_STORED: usize = 100_000;

/// A longer silence than a day is no keep-alive.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Connections beyond the streams: publishers, and subscribers who are told to come back later.
const CONNECTIONS_SPARE: usize = 10_000;

/// Files that an application has open for one connection of its hub: its client's socket and both ends of a pair.
const FILES_IN_APPLICATION: usize = 3;

impl Checked {
    /// Where the hub lives.
    pub fn url(&self) -> &HubUrl {
        &self.hub.url
    }

    /// The first issuer's identifier; empty if there is none.
    pub fn issuer(&self) -> &str {
        self.server.issuers.trusted.first().map_or("", |issuer| &issuer.id)
    }

    /// The hub's resource identifier.
    pub fn resource(&self) -> &str {
        &self.server.issuers.resource
    }

    /// What the hub makes of a token at the time `now`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Why it refuses it.
    pub async fn verify(&self, token: &str, role: Role, now: f64) -> Result<Verified, TokenError> {
        let (issuers, limits) = (self.server.issuers.clone(), self.server.limits.clone());
        Verifier::new(issuers, self.hub.url.clone(), limits).verify(token, role, now).await
    }

    /// Settings that work and are probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Where the log is, without secrets.
    pub fn transport(&self) -> &Dsn {
        &self.transport
    }

    /// The streams that may be open at once, if there is a bound. [`Connections::streams_max`] is what the process has
    /// room for.
    pub fn streams_max(&self) -> Option<usize> {
        Some(self.server.streams.total).filter(|max| *max > 0)
    }

    /// Opens the log and starts a hub on the current tokio runtime.
    ///
    /// # Errors
    /// If the log cannot be used, or the system has no room for a hub.
    pub async fn start(mut self) -> Result<Connections, StartError> {
        if self.own_process {
            open_files::raise_limit();
        }
        self.server.issuers.prepare();
        let options = petasos_transports::Options { hub: self.hub.url.clone(), retention: self.retention };
        let transport = petasos_transports::open(&self.transport, &options).await?;
        let hub = Hub::start(transport, self.hub).await?;
        // Now that the log is open, its files are known.
        bound_by_open_files(&mut self.server, self.own_process);
        Ok(Connections::new(Service::new(hub, self.server)))
    }
}

/// Leaves streams and connections no more than the limit of open files has room for.
fn bound_by_open_files(server: &mut petasos_server::Settings, own_process: bool) {
    let files_per_connection = if own_process { 1 } else { FILES_IN_APPLICATION };
    let Some(Bounds { connections_max, streams_max }) = open_files::bounds(files_per_connection) else {
        return;
    };
    server.connections_max = server.connections_max.min(connections_max);
    let wanted = match server.streams.total {
        0 => usize::MAX,
        total => total,
    };
    // 0 would be no bound. Where there is no room for any stream, there is none for its connection either.
    server.streams.total = wanted.min(streams_max).max(1);
}

fn issuers(
    configs: Vec<IssuerConfig>,
    url: &HubUrl,
    exposed: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Issuer>, ConfigError> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for config in configs {
        let id = config.id.unwrap_or_else(|| url.as_url().origin().ascii_serialization());
        if id.is_empty() {
            return Err(wrong("issuer")("the identifier is empty: give the URL of whoever signs the tokens"));
        }
        if issuers.iter().any(|other| other.id == id) {
            return Err(wrong("issuers")(format!(
                "the issuer \"{id}\" is there twice: write its keys in one place"
            )));
        }
        let publisher = keys(&PUBLISHER, &id, &config.publisher, exposed, warnings)?;
        let subscriber = keys(&SUBSCRIBER, &id, &config.subscriber, exposed, warnings)?;
        if publisher
            .fixed()
            .iter()
            .any(|key| subscriber.fixed().iter().any(|other| key.is_same_secret(other)))
        {
            warnings.push(Warning {
                setting: if config.subscriber.jwks.is_some() { SUBSCRIBER.jwks } else { SUBSCRIBER.key },
                problem: "publishers and subscribers share one secret: whoever signs tokens for subscribers can sign \
                          tokens for publishers, too: give each role a secret of its own"
                    .to_owned(),
            });
        }
        issuers.push(Issuer {
            publisher: publisher.into(),
            subscriber: subscriber.into(),
            authorization_server: config.authorization_server,
            id,
        });
    }
    Ok(issuers)
}

/// The keys of a role, as its settings give them.
enum Found {
    Fixed(Vec<Key>),
    Remote(RemoteKeys),
}

impl Found {
    fn fixed(&self) -> &[Key] {
        match self {
            Self::Fixed(keys) => keys,
            Self::Remote(_) => &[],
        }
    }
}

impl From<Found> for Keys {
    fn from(found: Found) -> Self {
        match found {
            Found::Fixed(keys) => keys.into(),
            Found::Remote(keys) => keys.into(),
        }
    }
}

/// The settings that give the keys of a role.
struct KeySettings {
    key: &'static str,
    key_file: &'static str,
    jwks: &'static str,
    jwks_url: &'static str,
    algorithms: &'static str,
}

const PUBLISHER: KeySettings = KeySettings {
    key: "publisher_key",
    key_file: "publisher_key_file",
    jwks: "publisher_jwks",
    jwks_url: "publisher_jwks_url",
    algorithms: "publisher_algorithms",
};

const SUBSCRIBER: KeySettings = KeySettings {
    key: "subscriber_key",
    key_file: "subscriber_key_file",
    jwks: "subscriber_jwks",
    jwks_url: "subscriber_jwks_url",
    algorithms: "subscriber_algorithms",
};

fn keys(
    settings: &KeySettings,
    issuer: &str,
    config: &KeyConfig,
    exposed: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Found, ConfigError> {
    let parse = |name: &String| name.parse::<Algorithm>();
    let algorithms: Vec<_> =
        config.algorithms.iter().map(parse).collect::<Result<_, _>>().map_err(wrong(settings.algorithms))?;
    match (&config.key, &config.jwks, &config.jwks_url) {
        (None, None, None) => Ok(Found::Fixed(vec![])),
        (Some(secret), None, None) => {
            let key = Key::parse(secret.expose(), &algorithms).map_err(wrong(settings.key))?;
            warnings.extend(weakness(settings.key, &key, exposed)?);
            let file = config.key_file.as_deref();
            warnings.extend(
                file.and_then(|path| Warning::for_open_file(settings.key_file, path, key.is_secret())),
            );
            Ok(Found::Fixed(vec![key]))
        }
        (None, Some(path), None) => {
            let json = std::fs::read(path).map_err(|error| {
                wrong(settings.jwks)(format!("{} cannot be read: {error}", path.display()))
            })?;
            let keys = Key::parse_set(&json, &algorithms, true).map_err(wrong(settings.jwks))?;
            for key in &keys {
                warnings.extend(weakness(settings.jwks, key, exposed)?);
            }
            warnings.extend(Warning::for_open_file(settings.jwks, path, Key::is_set_secret(&json)));
            Ok(Found::Fixed(keys))
        }
        (None, None, Some(url)) => {
            let remote = match url.as_str() {
                KeyConfig::DISCOVER => RemoteKeys::discover(issuer, &algorithms),
                url => RemoteKeys::at(url, &algorithms),
            };
            Ok(Found::Remote(remote.map_err(wrong(settings.jwks_url))?))
        }
        _ => {
            let KeySettings { key, jwks, jwks_url, .. } = settings;
            let second = if config.jwks.is_some() { jwks } else { jwks_url };
            Err(wrong(second)(format!(
                "a role has one source of keys: give one of {key}, {jwks} and {jwks_url}"
            )))
        }
    }
}

/// The warning about a weak secret. A published secret lets everybody sign tokens: a hub that other machines reach does
/// not start with it. A hub that only this machine reaches does, for examples and tests.
fn weakness(setting: &'static str, key: &Key, exposed: bool) -> Result<Option<Warning>, ConfigError> {
    let Some(weakness) = key.weakness() else { return Ok(None) };
    let name = key.id().map(|id| format!("the key {id:?}: ")).unwrap_or_default();
    if exposed && weakness == Weakness::Published {
        return Err(wrong(setting)(format!(
            "{name}{weakness}; only a hub that listens on loopback, such as 127.0.0.1, and has no public_url elsewhere \
             starts with this one"
        )));
    }
    Ok(Some(Warning { setting, problem: format!("{name}{weakness}") }))
}

fn proxies(
    networks: &[String],
    streams: &StreamLimits,
    warnings: &mut Vec<Warning>,
) -> Result<Proxies, ConfigError> {
    const SETTING: &str = "trusted_proxies";
    let proxies = Proxies::parse(networks.iter().map(String::as_str)).map_err(wrong(SETTING))?;
    if proxies.are_most_addresses() {
        let problem = "nearly every address is a proxy, so any client can name itself in X-Forwarded-For and pass for \
                       another: name the addresses of your proxies only, such as 10.0.0.0/8";
        if streams.per_address > 0 {
            return Err(wrong(SETTING)(format!("{problem}; max_subscribers_per_address would limit nobody")));
        }
        warnings.push(Warning { setting: SETTING, problem: problem.to_owned() });
    }
    Ok(proxies)
}

fn resource(resource: Option<String>, url: &HubUrl) -> Result<String, ConfigError> {
    match resource {
        Some(empty) if empty.is_empty() => Err(wrong("resource")(
            "the identifier is empty: leave it out, or give what tokens hold as \"aud\"",
        )),
        Some(resource) => Ok(resource),
        None => Ok(url.as_url().to_string()),
    }
}

/// A cookie's name is a token (RFC 6265, section 4.1.1).
fn cookie_name(setting: &'static str, name: String) -> Result<String, ConfigError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(valid) {
        return Err(wrong(setting)("use letters, digits, \"-\", \"_\" and \".\" only"));
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

    fn with_publisher(publisher: KeyConfig) -> Config {
        Config { issuers: vec![IssuerConfig { publisher, ..IssuerConfig::default() }], ..Config::default() }
    }

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn errors_name_the_setting_and_no_secret() {
        let wrong = with_publisher(KeyConfig::of(Some(Secret::new("-----BEGIN x"))));
        let error = problem(wrong);
        assert_eq!(error.setting, "publisher_key");
        assert!(!error.to_string().contains("BEGIN x"));
        let secret = Some(Secret::new("secret"));
        let text = |value: &str| Some(value.to_owned());
        for (setting, config) in [
            ("publisher_key", with_publisher(KeyConfig::of(Some(Secret::new(""))))),
            (
                "publisher_key",
                with_publisher(KeyConfig {
                    algorithms: strings(&["RS256"]),
                    ..KeyConfig::of(secret.clone())
                }),
            ),
            (
                "publisher_algorithms",
                with_publisher(KeyConfig { algorithms: strings(&["none"]), ..KeyConfig::of(secret.clone()) }),
            ),
            (
                "publisher_jwks",
                with_publisher(KeyConfig { jwks: Some("/nowhere".into()), ..KeyConfig::default() }),
            ),
            (
                "publisher_jwks",
                with_publisher(KeyConfig { jwks: Some("/x".into()), ..KeyConfig::of(secret) }),
            ),
            ("issuers", Config { issuers: vec![IssuerConfig::default(); 2], ..Config::default() }),
            ("public_url", Config { public_url: text("example.com"), ..Config::default() }),
            ("resource", Config { resource: text(""), ..Config::default() }),
            ("transport", Config { transport: Secret::new("redis:x"), ..Config::default() }),
            ("trusted_proxies", Config { trusted_proxies: strings(&["x"]), ..Config::default() }),
            ("idle_timeout", Config { idle_timeout: Duration::ZERO, ..Config::default() }),
            ("cors_origins", Config { cors_origins: strings(&["example.com"]), ..Config::default() }),
            ("cors_origins", Config { cors_origins: strings(&["https://a.*.example"]), ..Config::default() }),
            ("publish_origins", Config { publish_origins: strings(&["x y"]), ..Config::default() }),
            ("publish_origins", Config { publish_origins: strings(&["*"]), ..Config::default() }),
            ("cookie_name", Config { cookie_name: "a b".to_owned(), ..Config::default() }),
            ("cookie_name", Config { cookie_name: String::new(), ..Config::default() }),
            ("legacy_cookie_name", Config { legacy_cookie_name: text(""), ..Config::default() }),
            (
                "subscription_event_type",
                Config { subscription_event_type: text("a\nb"), ..Config::default() },
            ),
        ] {
            assert_eq!(problem(config).setting, setting);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::random();
        let url = format!("redis://user:{}@localhost", String::from_utf8_lossy(secret.expose()));
        let config =
            Config { transport: Secret::new(url), ..with_publisher(KeyConfig::of(Some(secret.clone()))) };
        let shown = format!("{config:?}{:?}", config.clone().check());
        assert!(!shown.as_bytes().windows(64).any(|part| part == secret.expose()));
        assert_ne!(secret, Secret::random());
    }
}
