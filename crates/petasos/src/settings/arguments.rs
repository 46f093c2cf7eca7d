//! The flags of all settings, and reading them.

use std::{collections::BTreeMap, env, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use super::{Kind, SETTINGS, Source};

/// The arguments of all settings.
pub(crate) fn all() -> Vec<Arg> {
    let config = Arg::new("config")
        .long("config")
        .value_name("PATH")
        .env("PETASOS_CONFIG")
        .value_parser(value_parser!(PathBuf))
        .help("A TOML file with settings");
    let settings = SETTINGS.iter().map(|setting| {
        let default = match setting.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let names: Vec<_> = setting.variables().collect();
        let arg = Arg::new(setting.key).long(setting.flag()).help_heading(setting.heading).help(format!(
            "{}{default} [env: {}]",
            setting.help,
            names.join(", ")
        ));
        match setting.kind {
            Kind::Switch => {
                arg.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
            }
            Kind::Text(name) => arg.value_name(name),
            // PEM begins with a hyphen. As an unknown flag, a key would be quoted in the error.
            Kind::Secret(name) => arg.value_name(name).allow_hyphen_values(true),
            Kind::List(name) => arg.value_name(name).action(ArgAction::Append),
            Kind::Tables => arg.value_name("TABLES"),
        }
    });
    std::iter::once(config).chain(settings).collect()
}

/// The arguments of all settings, for a command with options of its own, which a list of all settings would bury.
pub(crate) fn hidden() -> impl Iterator<Item = Arg> {
    all().into_iter().map(|arg| if arg.get_id() == "config" { arg } else { arg.hide(true) })
}

/// The flag for development on this machine.
pub(crate) fn for_development() -> Arg {
    Arg::new(DEV).long(DEV).action(ArgAction::SetTrue).help(
        "For development on this machine, as the Python server: --listen 127.0.0.1:5500 --anonymous --compat --cors-origins '*' --drain-delay 0 --drain 0, \
         where no other setting says otherwise",
    )
}

const DEV: &str = "dev";

/// Where the settings of a command come from.
pub(crate) fn source(matches: &ArgMatches) -> Source {
    let mut flags = BTreeMap::new();
    for setting in SETTINGS {
        let values = values(matches, setting.key);
        if !values.is_empty() {
            flags.insert(setting.key, values.join(","));
        }
    }
    let file = matches.get_one::<PathBuf>("config");
    let environment =
        env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    // Commands about tokens have no such flag.
    let is_for_development = matches.try_get_one::<bool>(DEV).is_ok_and(|given| given == Some(&true));
    Source { flags, environment: environment.collect(), file: file.cloned(), is_for_development }
}

fn values(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).map(|values| values.cloned().collect()).unwrap_or_default()
}
