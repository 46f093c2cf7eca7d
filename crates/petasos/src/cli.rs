//! The command line: the commands of the binary, and the settings that all commands share.

use std::{collections::BTreeMap, env, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use petasos::{Config, Secret};
use petasos_protocol::token::Role;

use crate::{
    settings::{Address, Kind, Options, SETTINGS},
    token::{Explain, Mint, PUBLISHER_LIFETIME, SUBSCRIBER_LIFETIME, now},
};

/// What the binary is asked to do.
pub(crate) enum Task {
    Serve(Box<Options>),
    Mint(Box<Options>, Mint),
    Inspect(Secret),
    Explain(Box<Options>, Explain),
}

const ABOUT: &str = "A hub compatible with the Mercure protocol: pushes updates to browsers over Server-Sent Events.\n\n\
    Without keys it makes random ones and prints them, with a token that may publish everything.\n\n\
    Every setting is a flag, an environment variable (PETASOS_ and its name in capitals) and a key of the file that \
    --config names (its name with underscores). A flag counts before a variable, a variable before the file.";

const AFTER: &str = "PETASOS_LOG chooses what is logged on standard error: error, warn, info (the default) or debug, also for a part \
    of the hub, such as info,petasos_hub=debug.\n\n\
    GET /healthz answers 200 while the hub works, GET /readyz while it also reaches its log; else they answer 503. Operators \
    find metrics and more at --admin-listen: /metrics, /status, /healthz, and /readyz with its reasons.\n\n\
    SIGTERM and SIGINT end the process: for --drain-delay only /readyz changes, then streams are closed one after the other \
    over --drain. A second signal ends all streams at once, and so does Ctrl-C at a terminal.";

pub(crate) fn command() -> Command {
    Command::new("petasos")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A hub compatible with the Mercure protocol")
        .long_about(ABOUT)
        .after_help(AFTER)
        .args_conflicts_with_subcommands(true)
        .arg(
            Arg::new(DEV)
                .long(DEV)
                .action(ArgAction::SetTrue)
                .help("For development on this machine, as the Python server: --listen 127.0.0.1:5500 --anonymous --compat \
                       --cors-origins '*' --drain-delay 0 --drain 0, where no other setting says otherwise"),
        )
        .args(settings())
        .subcommand(
            Command::new("token")
                .about("Make a token, or look into one")
                .subcommand_required(true)
                .subcommand(mint())
                .subcommand(
                    Command::new("inspect")
                        .about("Show what a token says, without verifying it")
                        .arg(token().index(1)),
                ),
        )
        .subcommand(explain())
}

const DEV: &str = "dev";

/// What is said below the options of a command about tokens.
const OF_THE_HUB: &str = "Every setting of the hub counts here, too, as a flag, a variable or in the file: its keys, --issuer, \
    --public-url, --compat. petasos --help lists them.";

fn mint() -> Command {
    Command::new("mint")
        .about("Sign a token with a hub's own shared secrets, or with a private key")
        .arg(topics("publish", "A topic that may be published; \"*\": all"))
        .arg(topics("publish-pattern", "The same as a URL pattern"))
        .arg(topics("subscribe", "A topic whose private updates may be received; \"*\": all"))
        .arg(topics("subscribe-pattern", "The same as a URL pattern"))
        .arg(
            Arg::new("payload")
                .long("payload")
                .value_name("JSON")
                .help("An object that others see beside the subscriptions"),
        )
        .arg(
            Arg::new("expires-in")
                .long("expires-in")
                .value_name("DURATION")
                .value_parser(lifetime)
                .help("After which time the token is void; never: with --legacy only [default: 365d to publish, else 1h]"),
        )
        .arg(
            Arg::new("subject")
                .long("subject")
                .value_name("ID")
                .default_value("petasos")
                .help("Whom the token is for (sub)"),
        )
        .arg(
            Arg::new("signing-key-file")
                .long("signing-key-file")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .help("The private key in PEM, where the hub holds the public one"),
        )
        .arg(
            Arg::new("legacy")
                .long("legacy")
                .action(ArgAction::SetTrue)
                .help("Make a token of protocol 0.x; patterns are URI templates then"),
        )
        .args(hidden_settings())
        .after_help(OF_THE_HUB)
}

/// A duration; `None`: never.
fn lifetime(text: &str) -> Result<Option<Duration>, humantime::DurationError> {
    if text == "never" { Ok(None) } else { humantime::parse_duration(text).map(Some) }
}

fn explain() -> Command {
    Command::new("explain")
        .about("Say why this hub would allow or refuse a token, and which grant decides")
        .arg(token().long("token"))
        .arg(topics("publish", "Whether it may publish an update with these topics"))
        .arg(topics("subscribe", "Whether it may receive a private update with these topics"))
        .group(ArgGroup::new("action").args(["publish", "subscribe"]).required(true))
        .args(hidden_settings())
        .after_help(OF_THE_HUB)
}

fn topics(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TOPIC").action(ArgAction::Append).help(help)
}

fn token() -> Arg {
    Arg::new("token")
        .value_name("TOKEN")
        .env("PETASOS_TOKEN")
        .hide_env_values(true)
        .required(true)
        .help("The token; \"-\" reads it from standard input, where no list of processes shows it")
}

/// The arguments of all settings.
fn settings() -> Vec<Arg> {
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
fn hidden_settings() -> impl Iterator<Item = Arg> {
    settings().into_iter().map(|arg| if arg.get_id() == "config" { arg } else { arg.hide(true) })
}

/// Reads the command line.
///
/// # Errors
/// The first thing that is wrong, and what to write instead.
pub(crate) fn task(matches: &ArgMatches) -> Result<Task, String> {
    match matches.subcommand() {
        None => Ok(Task::Serve(Box::new(options(matches)?))),
        Some(("token", token)) => match token.subcommand() {
            Some(("mint", mint)) => Ok(Task::Mint(Box::new(options(mint)?), read_mint(mint))),
            Some((_, inspect)) => Ok(Task::Inspect(read_token(inspect)?)),
            None => Err("petasos token --help lists what there is".to_owned()),
        },
        Some((_, explain)) => {
            let (role, topics) = match texts(explain, "publish") {
                none if none.is_empty() => (Role::Subscriber, texts(explain, "subscribe")),
                topics => (Role::Publisher, topics),
            };
            let token = read_token(explain)?;
            Ok(Task::Explain(Box::new(options(explain)?), Explain { token, role, topics }))
        }
    }
}

fn options(matches: &ArgMatches) -> Result<Options, String> {
    let mut flags = BTreeMap::new();
    for setting in SETTINGS {
        let values = texts(matches, setting.key);
        if !values.is_empty() {
            flags.insert(setting.key, values.join(","));
        }
    }
    let file = matches.get_one::<PathBuf>("config");
    let environment =
        env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    // Commands about tokens have no such flag.
    let is_for_development = matches.try_get_one::<bool>(DEV).is_ok_and(|given| given == Some(&true));
    let options = if is_for_development { Options::for_development() } else { Options::default() };
    options.gather(&flags, &environment.collect(), file.map(PathBuf::as_path))
}

fn read_mint(matches: &ArgMatches) -> Mint {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let (publish, publish_patterns) = (texts(matches, "publish"), texts(matches, "publish-pattern"));
    let lifetime = match publish.is_empty() && publish_patterns.is_empty() {
        true => SUBSCRIBER_LIFETIME,
        false => PUBLISHER_LIFETIME,
    };
    Mint {
        publish,
        publish_patterns,
        subscribe: texts(matches, "subscribe"),
        subscribe_patterns: texts(matches, "subscribe-pattern"),
        payload: text("payload"),
        subject: text("subject").unwrap_or_default(),
        signing_key_file: matches.get_one::<PathBuf>("signing-key-file").cloned(),
        legacy: matches.get_flag("legacy"),
        issued_at: now(),
        expires_in: matches.get_one::<Option<Duration>>("expires-in").copied().unwrap_or(Some(lifetime)),
    }
}

fn read_token(matches: &ArgMatches) -> Result<Secret, String> {
    let token = matches.get_one::<String>("token").cloned().unwrap_or_default();
    if token != "-" {
        return Ok(Secret::new(token));
    }
    let text =
        std::io::read_to_string(std::io::stdin()).map_err(|error| format!("standard input: {error}"))?;
    Ok(Secret::new(text.trim()))
}

fn texts(matches: &ArgMatches, name: &str) -> Vec<String> {
    matches.get_many::<String>(name).map(|values| values.cloned().collect()).unwrap_or_default()
}

/// Whether only this machine reaches a hub that listens at `listen`. A public URL elsewhere shows that a proxy passes
/// requests on.
pub(crate) fn is_local(listen: &Address, config: &Config) -> bool {
    let is_loopback = |host: &str| Address { host: host.to_owned(), port: 0 }.is_loopback();
    let public_host = config.hub.url.as_url().host_str().filter(|_| config.http.advertise);
    listen.is_loopback() && public_host.is_none_or(|host| is_loopback(host.trim_matches(['[', ']'])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn a_hub_is_local_if_it_listens_on_loopback_and_no_public_url_leads_to_it() {
        for (listen, public_url, local) in [
            ("127.0.0.1:5500", None, true),
            ("[::1]:0", Some("http://[::1]:80/.well-known/mercure"), true),
            ("localhost:1", Some("https://localhost/.well-known/mercure"), true),
            ("127.8.0.1:1", Some("https://hub.example/.well-known/mercure"), false),
            ("0.0.0.0:5500", None, false),
            ("[::]:5500", Some("http://localhost/.well-known/mercure"), false),
            ("192.168.0.1:1", None, false),
            ("localhost.example:1", None, false),
        ] {
            let mut config = Config::default();
            if let Some(url) = public_url {
                config.set_public_url(url).expect("a URL");
            }
            let address = listen.parse().expect("an address");
            assert_eq!(is_local(&address, &config), local, "{listen} {public_url:?}");
        }
    }
}
