//! The command line: the commands of the binary, and the settings that all commands share.

use std::{path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use petasos::Secret;
use petasos_protocol::token::Role;

use crate::{
    check::{self, Check},
    health::{self, Health},
    listing::{self, Listing},
    settings::{Options, Source, arguments},
    token::{Explain, Mint, PUBLISHER_LIFETIME, SUBSCRIBER_LIFETIME, now},
};

/// What the binary is asked to do.
pub(crate) enum Task {
    Serve(Box<Options>, Source),
    Mint(Box<Options>, Mint),
    Inspect(Secret),
    Explain(Box<Options>, Explain),
    Check(Check, Source),
    List(Listing, Source),
    AskHealth(Health, Source),
    Complete(Shell),
    WriteManual,
}

const ABOUT: &str = "A hub compatible with the Mercure protocol: pushes updates to browsers over Server-Sent Events.\n\n\
    Without keys it makes random ones and prints them, with a token that may publish everything.\n\n\
    Every setting is a flag, an environment variable (PETASOS_ and its name in capitals) and a key of the file that \
    --config names (its name with underscores). A flag counts before a variable, a variable before the file.";

const AFTER: &str = "GET /healthz answers 200 while the hub works, GET /readyz while it also reaches its log; else they answer 503. \
    At --admin-listen, operators find /metrics, /status, /healthz, /readyz with what each check found, and POST /reload.\n\n\
    SIGHUP reads the settings again, without ending a stream. petasos check looks for mistakes before.\n\n\
    SIGTERM and SIGINT end the process: for --drain-delay only /readyz changes, then streams are closed one after the other \
    over --drain. A second signal ends all streams at once, and so does Ctrl-C at a terminal.\n\n\
    The exit code is 0 for a hub that was told to stop and did so in time, 2 for wrong settings, which another start does not mend, \
    and 1 for all else.";

pub(crate) fn command() -> Command {
    Command::new("petasos")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A hub compatible with the Mercure protocol")
        .long_about(ABOUT)
        .after_help(AFTER)
        .args_conflicts_with_subcommands(true)
        .arg(arguments::for_development())
        .args(arguments::all())
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
        .subcommand(check::command())
        .subcommand(listing::command())
        .subcommand(health::command())
        .subcommand(
            Command::new("completions")
                .about("Write the completions of a shell")
                .arg(Arg::new("shell").required(true).value_name("SHELL").value_parser(value_parser!(Shell))),
        )
        .subcommand(Command::new("man").about("Write the manual page"))
}

/// The completions of a shell.
pub(crate) fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "petasos", &mut text);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// The manual page.
///
/// # Errors
/// None that is known: it writes to memory.
pub(crate) fn manual() -> std::io::Result<String> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command()).render(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}

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
        .args(arguments::hidden())
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
        .args(arguments::hidden())
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

/// Reads the command line.
///
/// # Errors
/// The first thing that is wrong, and what to write instead.
pub(crate) fn task(matches: &ArgMatches) -> Result<Task, String> {
    match matches.subcommand() {
        None => {
            let source = arguments::source(matches);
            Ok(Task::Serve(Box::new(source.read()?), source))
        }
        Some(("token", token)) => match token.subcommand() {
            Some(("mint", mint)) => Ok(Task::Mint(Box::new(options(mint)?), read_mint(mint))),
            Some((_, inspect)) => Ok(Task::Inspect(read_token(inspect)?)),
            None => Err("petasos token --help lists what there is".to_owned()),
        },
        Some(("check", check)) => Ok(Task::Check(Check::read(check), arguments::source(check))),
        Some(("config", config)) => Ok(Task::List(Listing::read(config), arguments::source(config))),
        Some(("health", health)) => Ok(Task::AskHealth(Health::read(health), arguments::source(health))),
        Some(("completions", completions)) => {
            // clap has seen to it that one is given.
            let shell = completions.get_one::<Shell>("shell").copied().unwrap_or(Shell::Bash);
            Ok(Task::Complete(shell))
        }
        Some(("man", _)) => Ok(Task::WriteManual),
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
    arguments::source(matches).read()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }
}
