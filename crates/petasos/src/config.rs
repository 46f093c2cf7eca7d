//! What is decided about a hub before it starts: the settings of its engine, of its HTTP side and of its log, and what
//! has to be checked across them.
//!
//! A value is parsed where it is set: in the table of the binary's settings, or by an application. So only what concerns
//! several settings is checked here.

use std::time::Duration;

use petasos_auth::{Issuers, RemoteKeys, Verified, Verifier};
use petasos_hub::Hub;
use petasos_protocol::{
    token::{Role, TokenError},
    topic::HubUrl,
};
use petasos_server::{Connections, Origins, Service};
use petasos_transports::{Dsn, OpenError, Retention};
use tokio::task::spawn_blocking;

use crate::{
    ConfigError, IssuerConfig, StartError, Warning,
    error::wrong,
    issuers::issuers,
    memory,
    open_files::{self, Bounds},
};

/// What an operator or an application decides. [`Config::check`] turns it into something that can be started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The settings of the engine. [`Config::set_public_url`] sets its URL. A `keep_alive`, a `retry` or a `lifetime_max` of zero
    /// stands for none.
    pub hub: petasos_hub::Settings,
    /// The settings of the HTTP side. [`Config::check`] sets `issuers.trusted` and `connections_max`. An empty
    /// `issuers.resource` stands for the public URL.
    pub http: petasos_server::Settings,
    /// Where the log is, and what it keeps.
    pub log: Log,
    /// The issuers whose tokens are accepted. The keys of the first one also verify 0.x tokens that name no issuer.
    pub issuers: Vec<IssuerConfig>,
    /// Whether other machines reach the hub. If so, a secret that documentation publishes as an example is an error,
    /// otherwise a warning. Default true.
    pub exposed: bool,
    /// Whether the hub has the process to itself. If so, the soft limit of open files is raised to the hard limit.
    /// Default false: an application decides on its limit itself, because a raised limit breaks code that uses
    /// `select`; and each connection of the hub takes further files of the application.
    pub own_process: bool,
}

impl Default for Config {
    /// The defaults of the engine and of the HTTP side, but for these: streams last 1 h at most, only protocol 1.0 is
    /// served, and subscribers may take a quarter of the memory that the process may use, 512 MiB at most.
    fn default() -> Self {
        let issuers =
            Issuers { trusted: Vec::new(), resource: String::new(), compat: false, prefixes: false };
        Self {
            hub: petasos_hub::Settings {
                lifetime_max: Some(LIFETIME_MAX),
                subscribers_bytes_max: memory::subscribers_bytes_max(),
                ..petasos_hub::Settings::default()
            },
            http: petasos_server::Settings { issuers, ..petasos_server::Settings::default() },
            log: Log::default(),
            issuers: Vec::new(),
            exposed: true,
            own_process: false,
        }
    }
}

/// Where the log is, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    dsn: Dsn,
    /// What the log keeps of publishers' updates.
    pub retention: Retention,
}

impl Log {
    /// Reads a URL such as `memory:`, `durable:///var/lib/petasos` or `redis://localhost:6379`, which may hold a password.
    /// The log keeps 500 updates in memory, 10,000 or 32 MiB in a host's log, and 100,000 elsewhere.
    ///
    /// # Errors
    /// If the URL is malformed or names no transport of this build. The text never holds a password.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let dsn: Dsn = url.parse()?;
        petasos_transports::check(&dsn)?;
        let mut log = Self { dsn, retention: Retention::default() };
        (log.retention.entries_max, log.retention.bytes_max) = match log.dsn.scheme() {
            "memory" => (HISTORY_IN_MEMORY, None),
            "host" => (HISTORY_OF_HOST, Some(HISTORY_OF_HOST_BYTES)),
            _ => (HISTORY_STORED, None),
        };
        Ok(log)
    }

    /// Whether this process alone can have the log open: a durable log is of one process, and several nodes are no hub with
    /// it.
    pub fn is_exclusive(&self) -> bool {
        self.dsn.scheme() == "durable"
    }

    /// Whether several hosts can share the log.
    pub fn is_shared(&self) -> bool {
        !["memory", "durable", "host"].contains(&self.dsn.scheme())
    }

    /// The URL of the log. Its `Display` shows no secrets.
    pub fn dsn(&self) -> &Dsn {
        &self.dsn
    }

    /// Whether the log is in a store, and not in the memory of this process.
    pub fn is_stored(&self) -> bool {
        self.dsn.scheme() != "memory"
    }
}

impl Default for Log {
    /// In memory.
    fn default() -> Self {
        Self::parse("memory:").expect("a valid constant")
    }
}

/// Settings that have been checked, and their keys.
#[derive(Debug, Clone)]
pub struct Checked {
    config: Config,
    warnings: Vec<Warning>,
}

impl Config {
    /// Makes `url` the URL under which clients know the hub. It is then served as metadata, and relative URL patterns are
    /// resolved against it.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn set_public_url(&mut self, url: &str) -> Result<(), String> {
        self.hub.url = HubUrl::parse(url)?;
        self.http.advertise = true;
        Ok(())
    }

    /// Reads the keys and checks what takes several settings.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(mut self) -> Result<Checked, ConfigError> {
        let mut warnings = Vec::new();
        let Self { hub, http, issuers: configs, exposed, .. } = &mut self;
        hub.keep_alive = hub.keep_alive.filter(|time| !time.is_zero()).map(|time| time.min(KEEP_ALIVE_MAX));
        hub.retry = hub.retry.filter(|time| !time.is_zero()).map(|time| time.min(RETRY_MAX));
        hub.lifetime_max = hub.lifetime_max.filter(|time| !time.is_zero());
        let url = hub.url.as_url().as_str();
        if http.issuers.resource.is_empty() {
            url.clone_into(&mut http.issuers.resource);
        } else if http.advertise && http.issuers.resource != url {
            warnings.push(Warning {
                setting: "resource",
                problem: "the resource identifier is not the public URL: clients that discover the hub by its metadata \
                          must refuse it (RFC 9728, section 3.3)"
                    .to_owned(),
            });
        }
        http.issuers.trusted = issuers(configs, &hub.url, *exposed, &mut warnings)?;
        check_proxies(http, &mut warnings)?;
        http.connections_max = match http.streams.total {
            0 => usize::MAX,
            total => total.saturating_add(CONNECTIONS_SPARE),
        };
        Ok(Checked { config: self, warnings })
    }
}

fn check_proxies(http: &petasos_server::Settings, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
    const SETTING: &str = "trusted_proxies";
    if http.proxies.are_most_addresses() {
        let problem = "nearly every address is a proxy, so a client can name any address as its own in X-Forwarded-For: \
                       name the addresses of your proxies only, such as 10.0.0.0/8";
        if http.streams.per_address > 0 {
            return Err(wrong(SETTING)(format!("{problem}; max_subscribers_per_address would limit nobody")));
        }
        warnings.push(Warning { setting: SETTING, problem: problem.to_owned() });
    }
    Ok(())
}

/// Reads a list of origins, such as `https://example.com`, `https://*.example.com` or `*`.
///
/// # Errors
/// A sentence that names the wrong entry, and says what to write instead.
pub fn origins(values: &[String]) -> Result<Origins, String> {
    if values.iter().any(|value| value == "null") {
        return Err("\"null\" is what browsers send for every page without an origin of its own, such as a file or a \
                    sandboxed frame, so it would let in pages of any author: serve the page from an origin, and write \
                    that"
            .to_owned());
    }
    Origins::parse(values.iter().map(String::as_str))
}

/// Reads a list of origins that may publish with a cookie: as [`origins`], without `*`.
///
/// # Errors
/// As [`origins`], and for `*`.
pub fn publish_origins(values: &[String]) -> Result<Origins, String> {
    origins(values)?;
    Origins::parse_listed(values.iter().map(String::as_str))
}

/// Reads the name of a cookie, which is a token of RFC 6265, section 4.1.1.
///
/// # Errors
/// A sentence that says which characters it may have.
pub fn cookie_name(name: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(valid) {
        return Err("use letters, digits, \"-\", \"_\" and \".\" only".to_owned());
    }
    Ok(name.to_owned())
}

/// A stream ends after an hour, so that its token is asked for again.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// Updates that are kept unless a setting says otherwise: a burst in memory, a day of most applications elsewhere.
const HISTORY_IN_MEMORY: usize = 500;
const HISTORY_STORED: usize = 100_000;

/// A host's log often lies in memory, of which a container may have 64 MB for files.
const HISTORY_OF_HOST: usize = 10_000;
const HISTORY_OF_HOST_BYTES: u64 = 32 * 1024 * 1024;

/// A silence of more than a day is no keep-alive.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A browser that waits for more than a day has a page that is gone.
const RETRY_MAX: Duration = Duration::from_secs(24 * 3600);

/// Connections beyond the streams: publishers, and subscribers that are told to come back later.
const CONNECTIONS_SPARE: usize = 10_000;

/// Files that an application has open for one connection of its hub: the client's socket and both ends of a pair.
const FILES_IN_APPLICATION: usize = 3;

/// Files for one connection of an application that passes its clients to the hub. A stream is one file then; the other half is
/// for requests, for streams that are just passed, and for the application itself.
const FILES_WITH_PASSING: usize = 2;

impl Checked {
    /// The URL of the hub.
    pub fn url(&self) -> &HubUrl {
        &self.config.hub.url
    }

    /// The identifier of the first issuer. Empty if there is none.
    pub fn issuer(&self) -> &str {
        self.config.http.issuers.trusted.first().map_or("", |issuer| &issuer.id)
    }

    /// The resource identifier of the hub, the `aud` of 1.0 tokens.
    pub fn resource(&self) -> &str {
        &self.config.http.issuers.resource
    }

    /// Whether the hub serves protocol 0.x as well.
    pub fn compat(&self) -> bool {
        self.config.http.issuers.compat
    }

    /// Verifies a token as the hub would at the time `now`, in seconds since the Unix epoch.
    ///
    /// # Errors
    /// Why the hub would refuse the token.
    pub async fn verify(&self, token: &str, role: Role, now: f64) -> Result<Verified, TokenError> {
        let Config { hub, http, .. } = &self.config;
        let verifier = Verifier::new(http.issuers.clone(), hub.url.clone(), http.limits.clone());
        verifier.verify(token, role, now).await
    }

    /// Settings that work and are probably not meant.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The URL of the log. Its `Display` shows no secrets.
    pub fn transport(&self) -> &Dsn {
        &self.config.log.dsn
    }

    /// The streams that may be open at once, if there is a bound. [`Connections::streams_max`] is the number that the
    /// process has room for.
    pub fn streams_max(&self) -> Option<usize> {
        Some(self.config.http.streams.total).filter(|max| *max > 0)
    }

    /// Opens the log and starts a hub on the current tokio runtime.
    ///
    /// # Errors
    /// If the log cannot be used, or the system has no room for a hub.
    pub async fn start(self) -> Result<Connections, StartError> {
        let Config { hub, mut http, log, own_process, .. } = self.config;
        if own_process {
            open_files::raise_limit();
        }
        http.issuers.prepare();
        let options = petasos_transports::Options { hub: hub.url.clone(), retention: log.retention };
        let transport = petasos_transports::open(&log.dsn, &options).await?;
        let hub = Hub::start(transport, hub).await?;
        // The log is open now, so the files that it has open are counted.
        bound_by_open_files(&mut http, if own_process { 1 } else { FILES_IN_APPLICATION }, 0);
        Ok(Connections::new(Service::new(hub, http)))
    }

    /// Puts these settings into force in a hub that runs in a process of its own. What cannot change while the hub runs stays as
    /// it was: the URL, the log and what it keeps, `subscriptions`, `write_timeout`.
    ///
    /// `revoke_within`: over that time, the streams end that the new settings would not let in; `None`: none ends.
    pub async fn reload(self, connections: &Connections, revoke_within: Option<Duration>) {
        let Config { hub, mut http, .. } = self.config;
        let service = connections.service();
        http.issuers.adopt(&service.settings().issuers);
        http.issuers.prepare();
        let open = connections.open();
        // Listing the open files may take tens of milliseconds.
        let bounds = spawn_blocking(move || open_files::bounds(1, open)).await;
        bound_by(&mut http, bounds.ok().flatten());
        connections.set_settings(http);
        service.hub().tune(&hub);
        service.revoke(revoke_within).await;
    }

    /// The issuers whose keys are fetched from other servers: each with its identifier.
    pub fn remote_keys(&self) -> Vec<(&str, RemoteKeys)> {
        self.config.http.issuers.remote()
    }

    /// Makes room for many streams in an application that passes its clients to the hub
    /// ([`Connections::serve_application`]): raises the soft limit of open files to the hard one, and the bounds of streams and
    /// connections to what that has room for.
    pub fn make_room(&self, connections: &Connections) {
        open_files::raise_limit();
        let mut http = self.config.http.clone();
        bound_by_open_files(&mut http, FILES_WITH_PASSING, 0);
        connections.set_bounds(http.connections_max, http.streams.total);
    }
}

/// Lowers the bounds of streams and connections to what the limit of open files has room for.
fn bound_by_open_files(
    http: &mut petasos_server::Settings,
    files_per_connection: usize,
    open_connections: usize,
) {
    bound_by(http, open_files::bounds(files_per_connection, open_connections));
}

fn bound_by(http: &mut petasos_server::Settings, bounds: Option<Bounds>) {
    let Some(Bounds { connections_max, streams_max }) = bounds else { return };
    http.connections_max = http.connections_max.min(connections_max);
    let wanted = match http.streams.total {
        0 => usize::MAX,
        total => total,
    };
    // 0 would be no bound. Without room for any stream there is no room for its connection either.
    http.streams.total = wanted.min(streams_max).max(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyConfig, Secret};

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
        let wrong = with_publisher(KeyConfig::new(Some(Secret::new("-----BEGIN x"))));
        let error = problem(wrong);
        assert_eq!(error.setting, "publisher_key");
        assert!(!error.to_string().contains("BEGIN x"));
        let secret = KeyConfig::new(Some(Secret::new("secret")));
        let empty = KeyConfig::new(Some(Secret::new("")));
        let from_file = KeyConfig { key_file: Some("/x".into()), ..empty.clone() };
        for (setting, config) in [
            ("publisher_key", with_publisher(empty)),
            ("publisher_key_file", with_publisher(from_file)),
            (
                "publisher_key",
                with_publisher(KeyConfig { algorithms: strings(&["RS256"]), ..secret.clone() }),
            ),
            (
                "publisher_algorithms",
                with_publisher(KeyConfig { algorithms: strings(&["none"]), ..secret.clone() }),
            ),
            (
                "publisher_jwks",
                with_publisher(KeyConfig { jwks: Some("/nowhere".into()), ..KeyConfig::default() }),
            ),
            ("publisher_jwks", with_publisher(KeyConfig { jwks: Some("/x".into()), ..secret.clone() })),
            ("issuers", Config { issuers: vec![IssuerConfig::default(); 2], ..Config::default() }),
        ] {
            assert_eq!(problem(config).setting, setting);
        }
        let further = IssuerConfig {
            id: Some("https://b.example".to_owned()),
            subscriber: KeyConfig { algorithms: strings(&["none"]), ..secret },
            ..IssuerConfig::default()
        };
        let error = problem(Config { issuers: vec![IssuerConfig::default(), further], ..Config::default() });
        assert_eq!(error.setting, "issuers");
        assert!(error.problem.starts_with("subscriber_algorithms of \"https://b.example\": "), "{error}");
    }

    #[test]
    fn values_that_could_never_work_are_refused_when_they_are_read() {
        assert!(Config::default().set_public_url("example.com").is_err());
        for url in ["redis:x", "x://y", ""] {
            assert!(Log::parse(url).is_err(), "{url}");
        }
        for wrong in ["example.com", "https://a.*.example", "x y", "null"] {
            assert!(origins(&strings(&[wrong])).is_err(), "{wrong}");
        }
        assert!(origins(&strings(&["*"])).is_ok() && publish_origins(&strings(&["*"])).is_err());
        for wrong in ["", "a b"] {
            assert!(cookie_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(cookie_name("__Secure-a.b_c"), Ok("__Secure-a.b_c".to_owned()));
    }

    #[test]
    fn zero_stands_for_no_keep_alive_no_retry_and_no_end() {
        let mut config = Config::default();
        config.hub.keep_alive = Some(Duration::ZERO);
        config.hub.retry = Some(Duration::ZERO);
        config.hub.lifetime_max = Some(Duration::ZERO);
        config.http.streams.total = 0;
        let checked = config.check().expect("valid");
        let petasos_hub::Settings { keep_alive, retry, lifetime_max, .. } = checked.config.hub;
        assert_eq!((keep_alive, retry, lifetime_max), (None, None, None));
        assert_eq!((checked.streams_max(), checked.config.http.connections_max), (None, usize::MAX));
        let mut config = Config::default();
        config.hub.keep_alive = Some(2 * KEEP_ALIVE_MAX);
        assert_eq!(config.check().expect("valid").config.hub.keep_alive, Some(KEEP_ALIVE_MAX));
    }

    #[test]
    fn the_resource_is_the_public_url_unless_it_is_given() {
        let url = "https://hub.example/.well-known/mercure";
        let checked = |resource: &str| {
            let mut config = Config::default();
            config.set_public_url(url).expect("a URL");
            resource.clone_into(&mut config.http.issuers.resource);
            config.check().expect("valid")
        };
        assert_eq!((checked("").resource(), checked("").warnings().len()), (url, 0));
        let other = checked("urn:hub");
        assert_eq!((other.resource(), other.warnings().len()), ("urn:hub", 1));
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::random();
        let url = format!("redis://user:{}@localhost", String::from_utf8_lossy(secret.expose()));
        let config = Config {
            log: Log::parse(&url).expect("a URL"),
            ..with_publisher(KeyConfig::new(Some(secret.clone())))
        };
        let shown = format!("{config:?}{:?}", config.clone().check());
        assert!(!shown.as_bytes().windows(64).any(|part| part == secret.expose()));
        assert_ne!(secret, Secret::random());
    }
}
