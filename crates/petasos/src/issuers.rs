//! Who may sign tokens, as settings describe it, and the keys that this description leads to.

use std::path::PathBuf;

use petasos_auth::{Algorithm, Issuer, Key, Keys, RemoteKeys, Weakness};
use petasos_protocol::topic::HubUrl;

use crate::{ConfigError, Secret, Warning, error::wrong};

/// Someone who may sign tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IssuerConfig {
    /// The `iss` of the issuer's tokens. `None`: the origin of the public URL.
    pub id: Option<String>,
    /// What verifies tokens of publishers.
    pub publisher: KeyConfig,
    /// What verifies tokens of subscribers.
    pub subscriber: KeyConfig,
    /// Whether clients can ask the issuer for tokens. The metadata of the hub says so.
    pub authorization_server: bool,
}

/// What verifies the tokens of one role of one issuer. Without a key and without a set, every token is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyConfig {
    /// A shared secret, or a public key in a PEM document.
    pub key: Option<Secret>,
    /// The file that the key was read from. Only its permissions are checked.
    pub key_file: Option<PathBuf>,
    /// A file with a JWK Set.
    pub jwks: Option<PathBuf>,
    /// The URL of a JWK Set, or [`DISCOVER`](Self::DISCOVER).
    pub jwks_url: Option<String>,
    /// The only algorithms that are accepted. Empty: all that fit the keys.
    pub algorithms: Vec<String>,
}

impl KeyConfig {
    /// In place of the URL of a JWK Set: the metadata that the issuer serves under its identifier has it (RFC 8414).
    pub const DISCOVER: &str = "discover";

    /// Takes a shared secret or a PEM document.
    pub fn new(key: Option<Secret>) -> Self {
        Self { key, ..Self::default() }
    }
}

/// Reads the keys of all issuers.
///
/// # Errors
/// The first problem. A problem of the first issuer names its setting, such as `publisher_key`. A problem of another
/// issuer names `issuers`, and in its text the issuer and the setting.
pub(crate) fn issuers(
    configs: &[IssuerConfig],
    hub: &HubUrl,
    exposed: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Issuer>, ConfigError> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        let id = config.id.clone().unwrap_or_else(|| hub.as_url().origin().ascii_serialization());
        if id.is_empty() {
            return Err(wrong("issuer")("the identifier is empty: give the URL of whoever signs the tokens"));
        }
        if issuers.iter().any(|other| other.id == id) {
            return Err(wrong("issuers")(format!(
                "the issuer \"{id}\" is there twice: write its keys in one place"
            )));
        }
        let read = issuer(id.clone(), config, exposed, warnings);
        issuers.push(read.map_err(|ConfigError { setting, problem }| match number {
            0 => ConfigError { setting, problem },
            _ => wrong("issuers")(format!("{setting} of \"{id}\": {problem}")),
        })?);
    }
    Ok(issuers)
}

fn issuer(
    id: String,
    config: &IssuerConfig,
    exposed: bool,
    warnings: &mut Vec<Warning>,
) -> Result<Issuer, ConfigError> {
    let publisher = keys(&PUBLISHER, &id, &config.publisher, exposed, warnings)?;
    let subscriber = keys(&SUBSCRIBER, &id, &config.subscriber, exposed, warnings)?;
    if publisher.fixed().iter().any(|key| subscriber.fixed().iter().any(|other| key.is_same_secret(other))) {
        warnings.push(Warning {
            setting: if config.subscriber.jwks.is_some() { SUBSCRIBER.jwks } else { SUBSCRIBER.key },
            problem: "publishers and subscribers share one secret, so whoever signs tokens for subscribers can also sign \
                      tokens for publishers: give each role a secret of its own"
                .to_owned(),
        });
    }
    Ok(Issuer {
        publisher: publisher.into(),
        subscriber: subscriber.into(),
        authorization_server: config.authorization_server,
        id,
    })
}

/// The keys of a role.
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

/// The names of the settings that give the keys of a role.
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
            let setting = if config.key_file.is_some() { settings.key_file } else { settings.key };
            let key = Key::parse(secret.expose(), &algorithms).map_err(wrong(setting))?;
            warnings.extend(weakness(setting, &key, exposed)?);
            let file = config.key_file.as_deref();
            warnings.extend(file.and_then(|path| Warning::for_open_file(setting, path, key.is_secret())));
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

/// The warning about a weak secret. A published secret lets everybody sign tokens, so a hub that other machines reach does
/// not start with one. A hub that only this machine reaches does, for examples and tests.
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
