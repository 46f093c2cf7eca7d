//! Every setting of the binary, each once: its name, where it can be given, what it means and what it does. The command
//! line, the environment, the file, `--help`, the errors and a test of the documentation read this table.

use std::{collections::BTreeMap, path::Path, time::Duration};

use petasos::{Config, ConfigError, IssuerConfig, KeyConfig, Secret, Warning};

/// What an operator has decided.
pub(crate) struct Options {
    pub(crate) config: Config,
    /// The issuer that the settings outside `issuers` are about.
    pub(crate) issuer: IssuerConfig,
    pub(crate) listen: String,
    pub(crate) drain: Duration,
    /// Warnings about the settings file itself.
    pub(crate) warnings: Vec<Warning>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: Config::default(),
            issuer: IssuerConfig::default(),
            listen: "0.0.0.0:5500".to_owned(),
            drain: Duration::from_secs(5),
            warnings: Vec::new(),
        }
    }
}

/// One setting.
pub(crate) struct Setting {
    /// The key in the file; the flag has hyphens for its underscores, the environment variable is in capitals after
    /// `PETASOS_`.
    pub(crate) key: &'static str,
    /// Environment variables of the reference hub that mean the same.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) kind: Kind,
    pub(crate) heading: &'static str,
    pub(crate) help: &'static str,
    pub(crate) default: &'static str,
    set: fn(&mut Options, &str) -> Result<(), String>,
}

/// How a value is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// True or false; as a flag, the value may be left out.
    Switch,
    /// A text; the name stands for it in help.
    Text(&'static str),
    /// A text that no output shows.
    Secret(&'static str),
    /// An array in the file, elsewhere separated by commas or spaces.
    List(&'static str),
    /// An array of tables in the file, elsewhere the same in TOML; with secrets in it.
    Tables,
}

impl Setting {
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variables that give it, the first before the others.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> + use<> {
        let aliases = self.aliases.iter().map(|&name| name.to_owned());
        std::iter::once(format!("PETASOS_{}", self.key.to_uppercase())).chain(aliases)
    }
}

macro_rules! setting {
    ($heading:expr, $key:literal $(| $alias:literal)*, $kind:expr, $default:literal, $help:literal, $set:expr) => {
        Setting {
            key: $key,
            aliases: &[$($alias),*],
            kind: $kind,
            heading: $heading,
            help: $help,
            default: $default,
            set: $set,
        }
    };
}

use Kind::{List, Switch, Tables, Text};

const HUB: &str = "Hub";
const LOG: &str = "Log";
const TOKENS: &str = "Tokens";
const BROWSERS: &str = "Browsers";
const STREAMS: &str = "Streams";
const LIMITS: &str = "Limits";

pub(crate) const SETTINGS: &[Setting] = &[
    setting!(
        HUB,
        "listen",
        Text("HOST:PORT"),
        "0.0.0.0:5500",
        "Address and port to listen on; port 0 lets the system choose",
        |options, text| {
            options.listen = text.to_owned();
            Ok(())
        }
    ),
    setting!(
        HUB,
        "public_url",
        Text("URL"),
        "http://localhost:PORT/.well-known/mercure",
        "The hub's URL as clients see it; its path is where the hub answers",
        |options, text| {
            options.config.public_url = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        HUB,
        "compat",
        Switch,
        "false",
        "Serve protocol 0.x, too: its topic parameters, tokens, cookie and tokens in URLs",
        |options, text| store(&mut options.config.compat, switch(text))
    ),
    setting!(
        LOG,
        "transport" | "MERCURE_HUB_TRANSPORT",
        Kind::Secret("URL"),
        "memory:",
        "Where the log is: memory:, durable:///DIRECTORY, redis://HOST, nats://HOST or postgres://HOST/DATABASE",
        |options, text| {
            options.config.transport = Secret::new(text);
            Ok(())
        }
    ),
    setting!(
        LOG,
        "history",
        Text("UPDATES"),
        "500 in memory, 100000 elsewhere",
        "Updates that are kept for reconnections; 0: none",
        |options, text| store(&mut options.config.history_max, number(text).map(Some))
    ),
    setting!(
        LOG,
        "history_bytes",
        Text("BYTES"),
        "",
        "Bytes of updates that are kept, where the transport can bound them",
        |options, text| store(&mut options.config.history_bytes_max, number(text).map(Some))
    ),
    setting!(
        LOG,
        "history_age",
        Text("DURATION"),
        "",
        "The age of updates that are kept, where the transport can bound it",
        |options, text| store(&mut options.config.history_age_max, duration(text).map(Some))
    ),
    setting!(
        HUB,
        "subscriptions",
        Switch,
        "true",
        "Announce and list active subscriptions",
        |options, text| store(&mut options.config.subscriptions, switch(text))
    ),
    setting!(
        HUB,
        "drain",
        Text("DURATION"),
        "5s",
        "Time that open requests get when the hub stops; 0: none",
        |options, text| store(&mut options.drain, duration(text))
    ),
    setting!(
        HUB,
        "idle_timeout",
        Text("DURATION"),
        "75s",
        "How long a connection may wait for its next request: longer than proxies in front keep it",
        |options, text| store(&mut options.config.idle_timeout, duration(text))
    ),
    setting!(
        TOKENS,
        "resource",
        Text("ID"),
        "the public URL",
        "The resource identifier, which 1.0 tokens hold as their audience (aud)",
        |options, text| {
            options.config.resource = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "issuer" | "MERCURE_TRUSTED_ISSUERS",
        Text("ID"),
        "the origin of the public URL",
        "Who signs the tokens that the following keys verify (iss)",
        |options, text| {
            options.issuer.id = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_key" | "MERCURE_PUBLISHER_JWT_KEY",
        Kind::Secret("KEY"),
        "",
        "Verifies publishers' tokens: a shared secret, or a public key in PEM",
        |options, text| {
            options.issuer.publisher.key = Some(Secret::new(text));
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_key_file",
        Text("PATH"),
        "",
        "A file that holds the publishers' key; a line break at its end does not count",
        |options, text| key_from_file(&mut options.issuer.publisher, text)
    ),
    setting!(
        TOKENS,
        "publisher_jwks",
        Text("PATH"),
        "",
        "A file with a JWK Set that verifies publishers' tokens",
        |options, text| {
            options.issuer.publisher.jwks = Some(text.into());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_jwks_url",
        Text("URL"),
        "",
        "Where a JWK Set is that verifies publishers' tokens; \"discover\": its issuer's metadata says",
        |options, text| {
            options.issuer.publisher.jwks_url = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "publisher_algorithms" | "MERCURE_PUBLISHER_JWT_ALG",
        List("ALG"),
        "all that fit the key",
        "The only algorithms of publishers' tokens: HS256, RS256, PS256, ES256, EdDSA, …",
        |options, text| {
            options.issuer.publisher.algorithms = list(text);
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_key" | "MERCURE_SUBSCRIBER_JWT_KEY",
        Kind::Secret("KEY"),
        "",
        "Verifies subscribers' tokens: a shared secret, or a public key in PEM",
        |options, text| {
            options.issuer.subscriber.key = Some(Secret::new(text));
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_key_file",
        Text("PATH"),
        "",
        "A file that holds the subscribers' key; a line break at its end does not count",
        |options, text| key_from_file(&mut options.issuer.subscriber, text)
    ),
    setting!(
        TOKENS,
        "subscriber_jwks",
        Text("PATH"),
        "",
        "A file with a JWK Set that verifies subscribers' tokens",
        |options, text| {
            options.issuer.subscriber.jwks = Some(text.into());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_jwks_url",
        Text("URL"),
        "",
        "Where a JWK Set is that verifies subscribers' tokens; \"discover\": its issuer's metadata says",
        |options, text| {
            options.issuer.subscriber.jwks_url = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "subscriber_algorithms" | "MERCURE_SUBSCRIBER_JWT_ALG",
        List("ALG"),
        "all that fit the key",
        "The only algorithms of subscribers' tokens",
        |options, text| {
            options.issuer.subscriber.algorithms = list(text);
            Ok(())
        }
    ),
    setting!(
        TOKENS,
        "authorization_server",
        Switch,
        "false",
        "Say in the hub's metadata that clients can ask the issuer for tokens",
        |options, text| store(&mut options.issuer.authorization_server, switch(text))
    ),
    setting!(
        TOKENS,
        "issuers",
        Tables,
        "",
        "Further issuers, each a table with the keys issuer, publisher_key and so on",
        |options, text| store(&mut options.config.issuers, issuers(text))
    ),
    setting!(
        TOKENS,
        "anonymous",
        Switch,
        "false",
        "Let subscribers without a token receive public updates",
        |options, text| store(&mut options.config.anonymous, switch(text))
    ),
    setting!(
        BROWSERS,
        "cookie_name",
        Text("NAME"),
        "__Secure-mercure_access_token",
        "Name of the cookie that may carry a token",
        |options, text| {
            options.config.cookie_name = text.to_owned();
            Ok(())
        }
    ),
    setting!(
        BROWSERS,
        "legacy_cookie_name",
        Text("NAME"),
        "mercureAuthorization",
        "With compat: another cookie that may carry a token",
        |options, text| {
            options.config.legacy_cookie_name = Some(text.to_owned());
            Ok(())
        }
    ),
    setting!(
        BROWSERS,
        "cors_origins",
        List("ORIGIN"),
        "",
        "Origins whose pages may use the hub, with cookies, also https://*.example.com; \"*\": all, without cookies",
        |options, text| {
            options.config.cors_origins = list(text);
            Ok(())
        }
    ),
    setting!(
        BROWSERS,
        "publish_origins",
        List("ORIGIN"),
        "",
        "Origins, beside the hub's own, whose pages may publish with a cookie, also https://*.example.com",
        |options, text| {
            options.config.publish_origins = list(text);
            Ok(())
        }
    ),
    setting!(
        STREAMS,
        "keep_alive",
        Text("DURATION"),
        "15s",
        "Silence after which a stream sends a comment; 0: never",
        |options, text| store(&mut options.config.keep_alive, duration(text))
    ),
    setting!(
        STREAMS,
        "max_lifetime",
        Text("DURATION"),
        "1h",
        "The longest that a stream may last, so that its token is asked for again; 0: for ever",
        |options, text| store(&mut options.config.lifetime_max, duration(text))
    ),
    setting!(
        STREAMS,
        "write_timeout",
        Text("DURATION"),
        "1m",
        "How long a subscriber may take nothing of what it was sent, vanished ones too",
        |options, text| store(&mut options.config.write_timeout, duration(text))
    ),
    setting!(
        STREAMS,
        "max_subscribers",
        Text("STREAMS"),
        "100000",
        "Streams that may be open at once; 0: any number",
        |options, text| store(&mut options.config.streams.total, number(text))
    ),
    setting!(
        STREAMS,
        "max_subscribers_bytes",
        Text("BYTES"),
        "a quarter of the memory, 536870912 at most",
        "What the matchers and tokens of all subscribers may take in memory; 0: any number",
        |options, text| store(&mut options.config.subscribers_bytes_max, number(text).map(Some))
    ),
    setting!(
        STREAMS,
        "max_subscribers_per_address",
        Text("STREAMS"),
        "0",
        "Streams that one address may hold; 0: any number",
        |options, text| store(&mut options.config.streams.per_address, number(text))
    ),
    setting!(
        STREAMS,
        "max_subscribers_per_token",
        Text("STREAMS"),
        "0",
        "Streams that may be begun with one token; 0: any number",
        |options, text| store(&mut options.config.streams.per_token, number(text))
    ),
    setting!(
        STREAMS,
        "trusted_proxies",
        List("NETWORK"),
        "",
        "Addresses and networks of proxies, whose X-Forwarded-For names the client",
        |options, text| {
            options.config.trusted_proxies = list(text);
            Ok(())
        }
    ),
    setting!(LIMITS, "max_body_bytes", Text("BYTES"), "1048576", "The body of a request", |options, text| {
        store(&mut options.config.limits.body_bytes_max, number(text))
    }),
    setting!(
        LIMITS,
        "max_fields",
        Text("NUMBER"),
        "1000",
        "Fields of a form, parameters of a query",
        |options, text| store(&mut options.config.limits.fields_max, number(text))
    ),
    setting!(LIMITS, "max_topics", Text("NUMBER"), "100", "Topics of one update", |options, text| store(
        &mut options.config.limits.topics_max,
        number(text)
    )),
    setting!(LIMITS, "max_topic_bytes", Text("BYTES"), "4096", "One topic", |options, text| store(
        &mut options.config.limits.topic_bytes_max,
        number(text)
    )),
    setting!(
        LIMITS,
        "max_id_bytes",
        Text("BYTES"),
        "1024",
        "The id and the type of an update",
        |options, text| store(&mut options.config.limits.id_bytes_max, number(text))
    ),
    setting!(LIMITS, "max_matchers", Text("NUMBER"), "100", "Matchers of one subscriber", |options, text| {
        store(&mut options.config.limits.matchers_max, number(text))
    }),
    setting!(LIMITS, "max_matcher_bytes", Text("BYTES"), "4096", "One matcher", |options, text| store(
        &mut options.config.limits.matcher_bytes_max,
        number(text)
    )),
    setting!(
        LIMITS,
        "max_cursors",
        Text("NUMBER"),
        "16",
        "Different last event ids in one request",
        |options, text| store(&mut options.config.limits.cursors_max, number(text))
    ),
    setting!(
        LIMITS,
        "max_cookie_tokens",
        Text("NUMBER"),
        "8",
        "Different tokens in cookies of one request that are verified",
        |options, text| store(&mut options.config.limits.cookie_tokens_max, number(text))
    ),
    setting!(
        LIMITS,
        "max_matchers_bytes",
        Text("BYTES"),
        "262144",
        "All matchers of one subscriber, with what it takes to match them",
        |options, text| store(&mut options.config.limits.matchers_bytes_max, number(text))
    ),
    setting!(
        LIMITS,
        "max_token_bytes",
        Text("BYTES"),
        "16384",
        "A token as it is presented",
        |options, text| store(&mut options.config.limits.token_bytes_max, number(text))
    ),
    setting!(
        LIMITS,
        "max_token_details",
        Text("NUMBER"),
        "100",
        "Mercure authorization details of one token",
        |options, text| store(&mut options.config.limits.token_details_max, number(text))
    ),
    setting!(
        LIMITS,
        "max_token_matchers",
        Text("NUMBER"),
        "1000",
        "Matchers of one token, over all that it grants",
        |options, text| store(&mut options.config.limits.token_matchers_max, number(text))
    ),
];

impl Options {
    /// From what was given: flags before environment variables before the file.
    ///
    /// # Errors
    /// The first setting that is wrong, as the operator wrote it, and what to write instead.
    pub(crate) fn gather(
        flags: &BTreeMap<&'static str, String>,
        variable: impl Fn(&str) -> Option<String>,
        file: Option<&Path>,
    ) -> Result<Self, String> {
        let mut options = Self::default();
        let mut written = file.map(read_file).transpose()?.unwrap_or_default();
        options.warnings.extend(
            file.and_then(|path| Warning::for_open_file("config", path, written.iter().any(is_secret))),
        );
        for setting in SETTINGS {
            let in_file = written.remove(setting.key);
            // An empty variable is one that was not set: compose files write them so.
            let mut in_environment = setting
                .variables()
                .filter_map(|name| Some((variable(&name).filter(|text| !text.is_empty())?, name)));
            let given = match flags.get(setting.key) {
                Some(text) => Some((text.clone(), format!("--{}", setting.flag()))),
                None => in_environment.next().or(in_file),
            };
            if let Some((text, place)) = given {
                (setting.set)(&mut options, &text).map_err(|problem| format!("{place}: {problem}"))?;
            }
        }
        if let Some(key) = written.keys().next() {
            let path = file.map(|path| path.display().to_string()).unwrap_or_default();
            return Err(format!("{path}: \"{key}\" is no setting{}", suggestion(key)));
        }
        Ok(options)
    }
}

/// A setting's problem in terms of its flag and its key.
pub(crate) fn explain(error: &ConfigError) -> String {
    let key = error.setting;
    format!("--{} ({key} in a file): {}", key.replace('_', "-"), error.problem)
}

type Written = BTreeMap<String, (String, String)>;

/// Whether a value of the file is secret: a shared key, or a URL with a password.
fn is_secret((key, (text, _)): (&String, &(String, String))) -> bool {
    match SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.kind) {
        Some(Kind::Secret("URL")) => text.contains('@'),
        Some(Kind::Secret(_)) => !text.contains("-----BEGIN"),
        Some(Tables) => text.contains("publisher_key ") || text.contains("subscriber_key "),
        _ => false,
    }
}

/// The file's values as text, each with its place.
fn read_file(path: &Path) -> Result<Written, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    // The message would quote the line, which may hold a secret.
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        format!("{shown}, line {line}: this is no TOML: {}", error.message())
    })?;
    let mut written = Written::new();
    for (key, value) in table {
        let place = format!("{shown}: {key}");
        let kind = SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.kind);
        let text = match (kind, value) {
            (Some(List(_)), toml::Value::Array(values)) => {
                let texts: Option<Vec<_>> = values.iter().map(toml::Value::as_str).collect();
                texts.ok_or_else(|| format!("{place}: write an array of strings"))?.join(",")
            }
            (Some(List(_)), _) => return Err(format!("{place}: write an array of strings")),
            (Some(Tables), value @ toml::Value::Array(_)) => value.to_string(),
            (Some(Tables), _) => return Err(format!("{place}: write tables, each under [[{key}]]")),
            (Some(Switch), toml::Value::Boolean(value)) => value.to_string(),
            (Some(Switch), _) => return Err(format!("{place}: write true or false")),
            (_, toml::Value::String(text)) => text,
            (_, toml::Value::Integer(number)) => number.to_string(),
            (None, _) => String::new(),
            _ => return Err(format!("{place}: write a string or a number")),
        };
        written.insert(key, (text, place));
    }
    Ok(written)
}

/// The setting that was perhaps meant.
fn suggestion(key: &str) -> String {
    let distance = |other: &str| {
        let start = key.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let end = key.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        key.len().max(other.len()).saturating_sub(start + end)
    };
    let nearest = SETTINGS.iter().min_by_key(|setting| distance(setting.key));
    match nearest {
        Some(setting) if distance(setting.key) <= key.len() / 2 => format!(": is \"{}\" meant?", setting.key),
        _ => ": petasos --help lists all".to_owned(),
    }
}

fn store<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "write a whole number, 0 or more".to_owned())
}

/// Seconds, or a number with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let value = seconds.or_else(|| humantime::parse_duration(text).ok());
    value.filter(|value| *value <= DURATION_MAX).ok_or_else(|| {
        "write seconds, or a number with its unit, such as 500ms, 15s, 10m or 1h; at most 365d".to_owned()
    })
}

/// Longer than any stream; keeps timers in their range.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

fn list(text: &str) -> Vec<String> {
    let items = text.split(|c: char| c == ',' || c.is_whitespace());
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn key_from_file(keys: &mut KeyConfig, path: &str) -> Result<(), String> {
    if keys.key.is_some() {
        return Err("the key itself is given, too: leave out one of them".to_owned());
    }
    keys.key_file = Some(path.into());
    store(&mut keys.key, key_file(path).map(Some))
}

fn key_file(path: &str) -> Result<Secret, String> {
    let text = std::fs::read(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    Ok(Secret::new(&text[..end]))
}

/// An array of TOML tables.
fn issuers(text: &str) -> Result<Vec<IssuerConfig>, String> {
    const FORM: &str =
        "write tables such as [{ issuer = \"https://a.example\", publisher_jwks = \"a.json\" }]";
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        issuer: String,
        publisher_key: Option<String>,
        publisher_key_file: Option<String>,
        publisher_jwks: Option<String>,
        publisher_jwks_url: Option<String>,
        #[serde(default)]
        publisher_algorithms: Vec<String>,
        subscriber_key: Option<String>,
        subscriber_key_file: Option<String>,
        subscriber_jwks: Option<String>,
        subscriber_jwks_url: Option<String>,
        #[serde(default)]
        subscriber_algorithms: Vec<String>,
        #[serde(default)]
        authorization_server: bool,
    }
    #[derive(serde::Deserialize)]
    struct All {
        issuers: Vec<Table>,
    }
    let all: All = toml::from_str(&format!("issuers = {text}")).map_err(|error| {
        // Other messages quote the value, which may be a secret.
        let message = error.message();
        let named = message.starts_with("unknown field") || message.starts_with("missing field");
        format!("{}{FORM}", if named { format!("{message}: ") } else { String::new() })
    })?;
    let keys = |key: Option<String>, file: Option<String>, jwks: Option<String>, jwks_url, algorithms| {
        let key = key.map(Secret::new);
        let jwks = jwks.map(Into::into);
        let mut keys = KeyConfig { key, jwks, jwks_url, algorithms, ..KeyConfig::default() };
        if let Some(path) = file {
            key_from_file(&mut keys, &path)?;
        }
        Ok::<_, String>(keys)
    };
    let issuer = |table: Table| {
        Ok(IssuerConfig {
            id: Some(table.issuer),
            publisher: keys(
                table.publisher_key,
                table.publisher_key_file,
                table.publisher_jwks,
                table.publisher_jwks_url,
                table.publisher_algorithms,
            )?,
            subscriber: keys(
                table.subscriber_key,
                table.subscriber_key_file,
                table.subscriber_jwks,
                table.subscriber_jwks_url,
                table.subscriber_algorithms,
            )?,
            authorization_server: table.authorization_server,
        })
    };
    all.issuers.into_iter().map(issuer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row of a setting in the documentation.
    fn row(setting: &Setting) -> String {
        let name = match setting.kind {
            Switch => "true, false",
            Text(name) | Kind::Secret(name) | List(name) => name,
            Tables => "TABLES",
        };
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{default}`"),
        };
        let also: String = setting.aliases.iter().map(|alias| format!("; also `{alias}`")).collect();
        format!("| `{}` | {name} | {default} | {}{also} |", setting.key, setting.help)
    }

    #[test]
    fn the_documentation_has_a_row_for_every_setting() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        let missing: Vec<_> =
            SETTINGS.iter().map(row).filter(|row| !text.lines().any(|line| line == row)).collect();
        assert!(missing.is_empty(), "docs/configuration.md lacks:\n{}", missing.join("\n"));
        let rows = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, SETTINGS.len(), "docs/configuration.md has a setting that does not exist");
    }

    #[test]
    fn the_defaults_that_are_documented_are_those_in_force() {
        let gathered = |flags: BTreeMap<&'static str, String>| {
            let options = Options::gather(&flags, |_| None, None).expect("valid");
            let Options { config, issuer, listen, drain, .. } = options;
            format!("{config:?}{issuer:?}{listen}{drain:?}")
        };
        let stated = SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty() && !setting.default.contains([' ', '/']));
        let written = stated.map(|setting| (setting.key, setting.default.to_owned())).collect();
        assert_eq!(gathered(written), gathered(BTreeMap::new()));
    }

    #[test]
    fn zero_is_refused_unless_the_setting_says_what_it_means() {
        const NUMBERS: [&str; 5] = ["UPDATES", "BYTES", "DURATION", "STREAMS", "NUMBER"];
        let is_number = |setting: &&Setting| matches!(setting.kind, Text(name) if NUMBERS.contains(&name));
        assert!(SETTINGS.iter().filter(is_number).count() > 15);
        for setting in SETTINGS.iter().filter(is_number) {
            let written = BTreeMap::from([(setting.key, "0".to_owned())]);
            let outcome = Options::gather(&written, |_| None, None)
                .and_then(|options| options.config.check().map_err(|error| explain(&error)));
            assert_eq!(outcome.is_ok(), setting.help.contains("; 0: "), "{}", setting.key);
            if let Err(text) = outcome {
                let remedy = ["write ", "give "].iter().any(|word| text.contains(word));
                assert!(text.contains(setting.key) && text.contains(": 0 ") && remedy, "{text}");
            }
        }
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(duration("15"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["", "-1", "soon", "99999999999999", "400d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(list("a, b  c,"), ["a", "b", "c"]);
        assert_eq!((switch("TRUE"), switch("off")), (Ok(true), Ok(false)));
        assert!(switch("").is_err());
    }
}
