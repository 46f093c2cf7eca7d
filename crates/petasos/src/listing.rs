//! `petasos config`: the settings as text. A file of defaults, the tables of the documentation, and what is in force.

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use petasos_transports::Dsn;

use crate::{
    acme::ACME_DOMAINS,
    settings::{Given, HTTPS_PORT, Kind, LISTEN, SETTINGS, Setting, Source, arguments},
};

/// What to list.
pub(crate) enum Listing {
    /// A commented file of settings.
    Defaults,
    /// The tables of the documentation.
    Documentation,
    /// The values in force, and where each comes from.
    InForce,
}

/// The command line of the command.
pub(crate) fn command() -> Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("config")
        .about("Show the settings: their defaults as a file, their documentation, or what is in force")
        .arg(switch("default").help("A commented file in TOML with all settings and their defaults"))
        .arg(switch("docs").help("The tables of the documentation, in Markdown"))
        .arg(switch("show").help("The value of each setting and where it comes from, without secrets"))
        .group(ArgGroup::new("what").args(["default", "docs", "show"]).required(true))
        .arg(arguments::for_development())
        .args(arguments::hidden())
}

impl Listing {
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        match (matches.get_flag("default"), matches.get_flag("docs")) {
            (true, _) => Self::Defaults,
            (_, true) => Self::Documentation,
            _ => Self::InForce,
        }
    }

    /// The text for the user.
    ///
    /// # Errors
    /// The first setting that is wrong, and what to write instead.
    pub(crate) fn text(&self, source: &Source) -> Result<String, String> {
        Ok(match self {
            Self::Defaults => defaults(),
            Self::Documentation => documentation(),
            Self::InForce => in_force(&source.read()?.given, source.is_for_development),
        })
    }
}

/// The headings, each with its settings, in the order of the table.
fn headings() -> Vec<(&'static str, Vec<&'static Setting>)> {
    let mut headings: Vec<(&'static str, Vec<&'static Setting>)> = Vec::new();
    for setting in SETTINGS {
        match headings.iter_mut().find(|(heading, _)| *heading == setting.heading) {
            Some((_, settings)) => settings.push(setting),
            None => headings.push((setting.heading, vec![setting])),
        }
    }
    headings
}

/// A file that changes nothing: every line is a comment.
fn defaults() -> String {
    let mut text =
        "# The settings of petasos, with their defaults. Remove the # before a line to change its setting.\n\
                    # petasos check --config FILE says what is wrong with a file.\n"
            .to_owned();
    // In TOML, an array of tables ends the part of the file that has no table.
    let (last, others): (Vec<_>, Vec<_>) = headings()
        .into_iter()
        .flat_map(|(heading, settings)| settings.into_iter().map(move |setting| (heading, setting)))
        .partition(|(_, setting)| setting.kind == Kind::Tables);
    let mut current = "";
    for (heading, setting) in others {
        if heading != current {
            text.push_str(&format!("\n## {heading}\n"));
            current = heading;
        }
        let restart = if setting.needs_restart { " Needs a restart." } else { "" };
        text.push_str(&format!("\n# {}.{restart}\n", setting.help));
        if !setting.default.is_empty() && literal(setting).is_none() {
            text.push_str(&format!("# Default: {}\n", setting.default));
        }
        text.push_str(&format!(
            "#{} = {}\n",
            setting.key,
            literal(setting).unwrap_or_else(|| example(setting))
        ));
    }
    for (_, setting) in last {
        text.push_str(&format!("\n# {}.\n#[[{}]]\n#issuer = \"ID\"\n", setting.help, setting.key));
    }
    text.truncate(text.trim_end().len());
    text
}

/// The default in TOML. `None`: it is a description, or there is none.
fn literal(setting: &Setting) -> Option<String> {
    let default = setting.default;
    let is_value = !default.is_empty() && !default.contains(' ') && !default.contains("PORT/");
    is_value.then(|| in_toml(setting.kind, default))
}

/// A value in TOML, as the file of settings has it.
fn in_toml(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Switch => text.to_owned(),
        Kind::List(_) => format!("[{}]", text.split(',').map(quoted).collect::<Vec<_>>().join(", ")),
        _ if text.parse::<u64>().is_ok() => text.to_owned(),
        _ => quoted(text),
    }
}

/// What stands for a value in TOML.
fn example(setting: &Setting) -> String {
    match setting.kind {
        Kind::List(name) => format!("[{}]", quoted(name)),
        Kind::Text(name) | Kind::Secret(name) => quoted(name),
        Kind::Switch | Kind::Tables => "false".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn documentation() -> String {
    let tables = headings().into_iter().map(|(heading, settings)| {
        let rows: Vec<_> = settings.into_iter().map(row).collect();
        format!("## {heading}\n\n{HEAD}\n{}\n", rows.join("\n"))
    });
    tables.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

/// The defaults of `--dev` ([`Options::for_development`](crate::settings::Options::for_development)).
const DEVELOPMENT: [(&str, &str); 6] = [
    ("listen", "127.0.0.1:5500"),
    ("compat", "true"),
    ("drain_delay", "0s"),
    ("drain", "0s"),
    ("anonymous", "true"),
    ("cors_origins", "*"),
];

const HEAD: &str = "| Setting | Value | Default | Reloads | Meaning |\n| --- | --- | --- | --- | --- |";

/// The row of a setting in the documentation.
fn row(setting: &Setting) -> String {
    let name = match setting.kind {
        Kind::Switch => "true, false",
        Kind::Text(name) | Kind::Secret(name) | Kind::List(name) => name,
        Kind::Tables => "TABLES",
    };
    let default = match setting.default {
        "" => String::new(),
        default => format!("`{default}`"),
    };
    let also: String = setting.aliases.iter().map(|alias| format!("; also `{alias}`")).collect();
    let reloads = if setting.needs_restart { "no" } else { "yes" };
    format!("| `{}` | {name} | {default} | {reloads} | {}{also} |", setting.key, setting.help)
}

/// What is in force; `--dev` has defaults of its own. A setting without a value is a comment.
fn in_force(given: &Given, is_for_development: bool) -> String {
    let default = |setting: &Setting| {
        let of_development = DEVELOPMENT.iter().find(|(key, _)| is_for_development && *key == setting.key);
        match (of_development, literal(setting)) {
            _ if setting.key == LISTEN && given.contains_key(ACME_DOMAINS) => {
                let host = if is_for_development { "127.0.0.1" } else { "0.0.0.0" };
                format!("{LISTEN} = \"{host}:{HTTPS_PORT}\"  # default with {ACME_DOMAINS}")
            }
            (Some((key, value)), _) => format!("{key} = {}  # --dev", in_toml(setting.kind, value)),
            (None, Some(value)) => format!("{} = {value}  # default", setting.key),
            (None, None) if setting.default.is_empty() => format!("# {}: none  # default", setting.key),
            (None, None) => format!("# {}: {}  # default", setting.key, setting.default),
        }
    };
    let line = |setting: &Setting| match given.get(setting.key) {
        None => default(setting),
        Some(value) => {
            let shown = match setting.kind {
                Kind::Tables => "(set)".to_owned(),
                // Whatever is no URL is not shown.
                Kind::Secret("URL") => {
                    value.text.parse::<Dsn>().map_or_else(|_| "(set)".to_owned(), |dsn| dsn.to_string())
                }
                Kind::Secret(_) => "(set)".to_owned(),
                Kind::Switch | Kind::Text(_) | Kind::List(_) => value.text.clone(),
            };
            format!("{} = {}  # {}", setting.key, in_toml(setting.kind, &shown), value.place)
        }
    };
    SETTINGS.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::settings::{Options, Value};

    fn file_with(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        file
    }

    fn read(file: &tempfile::NamedTempFile) -> Options {
        let nothing = BTreeMap::new();
        Options::default().gather(&BTreeMap::new(), &nothing, Some(file.path())).expect("valid")
    }

    #[test]
    fn the_file_of_defaults_changes_nothing_with_and_without_its_comments() {
        let text = defaults();
        for setting in SETTINGS {
            assert!(text.contains(&format!("\n#{} = ", setting.key)) || setting.key == "issuers");
        }
        assert!(read(&file_with(&text)).given.is_empty());
        // Those that stand for nothing stay comments.
        let is_value = |line: &&str| {
            let key = line.strip_prefix('#').and_then(|line| line.split_once(" = ")).map(|(key, _)| key);
            SETTINGS.iter().any(|setting| Some(setting.key) == key && literal(setting).is_some())
        };
        let uncommented: Vec<_> = text.lines().filter(is_value).map(|line| &line[1..]).collect();
        assert!(uncommented.len() > 20);
        let options = read(&file_with(&uncommented.join("\n")));
        let shown = |options: &Options| format!("{:?}{:?}{}", options.config, options.issuer, options.listen);
        assert_eq!(shown(&options), shown(&Options::default()));
        assert_eq!(options.given.len(), uncommented.len());
    }

    #[test]
    fn the_documentation_has_the_row_of_every_setting() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let text = std::fs::read_to_string(path).expect("the documentation");
        let missing: Vec<_> =
            SETTINGS.iter().map(row).filter(|row| !text.lines().any(|line| line == row)).collect();
        assert!(missing.is_empty(), "docs/configuration.md lacks:\n{}", missing.join("\n"));
        let rows = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(rows, SETTINGS.len(), "docs/configuration.md has a setting that does not exist");
        let printed = documentation();
        assert_eq!(printed.matches(HEAD).count(), text.matches(HEAD).count());
        assert!(SETTINGS.iter().all(|setting| printed.contains(&row(setting))));
    }

    #[test]
    fn the_defaults_of_development_are_shown_as_they_count() {
        let text = in_force(&Given::new(), true);
        let file = file_with(&text);
        let (shown, meant) = (read(&file), Options::for_development());
        assert!(text.contains("anonymous = true  # --dev"), "{text}");
        assert_eq!(
            format!("{} {:?}", shown.listen, shown.ending),
            format!("{} {:?}", meant.listen, meant.ending)
        );
        let (shown, meant) = (shown.config.http, meant.config.http);
        assert_eq!((shown.anonymous, shown.issuers.compat), (meant.anonymous, meant.issuers.compat));
        let given = Given::from([("drain", Value { text: "3s".to_owned(), place: "--drain".to_owned() })]);
        assert!(in_force(&given, true).contains("drain = \"3s\"  # --drain"));
    }

    #[test]
    fn what_is_in_force_is_shown_with_its_place_and_without_secrets() {
        let file = file_with("keep_alive = \"3s\"\ntransport = \"redis://user:word@localhost/0\"\n");
        let variables = [("PETASOS_PUBLISHER_KEY".to_owned(), "a secret".to_owned())];
        let flags =
            BTreeMap::from([("issuers", "[{issuer=\"https://a\",subscriber_key=\"other\"}]".to_owned())]);
        let options = Options::default().gather(&flags, &variables.into(), Some(file.path())).expect("valid");
        let text = in_force(&options.given, false);
        let place = file.path().display();
        for line in [
            format!("keep_alive = \"3s\"  # {place}: keep_alive"),
            format!("transport = \"redis://localhost/0\"  # {place}: transport"),
            "publisher_key = \"(set)\"  # PETASOS_PUBLISHER_KEY".to_owned(),
            "issuers = \"(set)\"  # --issuers".to_owned(),
            "max_topics = 100  # default".to_owned(),
            "# history_age: none  # default".to_owned(),
        ] {
            assert!(text.lines().any(|each| each == line), "{line}\n{text}");
        }
        for secret in ["a secret", "word", "other"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
