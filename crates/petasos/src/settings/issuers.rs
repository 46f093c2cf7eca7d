//! Issuers and keys, as a settings file writes them.

use petasos::{IssuerConfig, KeyConfig, Secret};

/// Reads the key of a role from a file. A line break at its end does not count.
pub(super) fn key_from_file(keys: &mut KeyConfig, path: &str) -> Result<(), String> {
    if keys.key.is_some() {
        return Err("the key itself is given, too: leave out one of them".to_owned());
    }
    keys.key_file = Some(path.into());
    keys.key = Some(key_file(path)?);
    Ok(())
}

fn key_file(path: &str) -> Result<Secret, String> {
    let text = std::fs::read(path).map_err(|error| format!("{path} cannot be read: {error}"))?;
    Ok(Secret::new(without_line_break(&text)))
}

pub(super) fn without_line_break(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
    &text[..end]
}

/// Reads an array of TOML tables.
pub(super) fn issuers(text: &str) -> Result<Vec<IssuerConfig>, String> {
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
        // All other messages quote the value, which may be a secret.
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
