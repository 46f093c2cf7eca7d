//! The settings file, in TOML.

use std::{collections::BTreeMap, path::Path};

use super::{
    kinds::Kind::{List, Secret, Switch, Tables},
    table::SETTINGS,
};

/// The values of a file by their keys: each as text, and where it stands.
pub(super) type Written = BTreeMap<String, (String, String)>;

/// Whether a value of the file is secret: a shared key, or a URL with a password.
pub(super) fn is_secret((key, (text, _)): (&String, &(String, String))) -> bool {
    match SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.kind) {
        Some(Secret("URL")) => text.contains('@'),
        Some(Secret(_)) => !text.contains("-----BEGIN"),
        Some(Tables) => text.contains("publisher_key ") || text.contains("subscriber_key "),
        _ => false,
    }
}

/// Reads the settings of a file.
///
/// # Errors
/// The first thing that is wrong. The text quotes no value.
pub(super) fn read(path: &Path) -> Result<Written, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    // The whole message would quote the line, which may hold a secret.
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
                joined(&values).ok_or_else(|| format!("{place}: write an array of strings"))?
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

/// A string of a file, or an array of them, with its place, and what is wrong with the file. In a file that is no TOML, a line of its own counts.
pub(super) fn find(path: &Path, key: &str) -> (Option<(String, String)>, Option<String>) {
    let shown = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return (None, Some(format!("{shown} cannot be read: {error}"))),
    };
    let string = |text: &str| {
        let value = toml::from_str::<toml::Table>(text).ok()?.remove(key);
        Some(value.and_then(|value| Some((texts(&value)?, format!("{shown}: {key}")))))
    };
    match string(&text) {
        Some(found) => (found, None),
        None => (text.lines().find_map(|line| string(line)?), Some(format!("{shown} is no TOML"))),
    }
}

/// The text of a string, or of an array of strings.
fn texts(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::Array(values) => joined(values),
        value => value.as_str().map(str::to_owned),
    }
}

/// The strings of an array as one text. `None`: not all are strings.
fn joined(values: &[toml::Value]) -> Option<String> {
    let texts: Option<Vec<_>> = values.iter().map(toml::Value::as_str).collect();
    Some(texts?.join(","))
}
