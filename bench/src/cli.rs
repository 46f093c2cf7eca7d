//! The command line: every scenario with its settings, and none that cannot be changed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use petasos_bench::{
    Failure,
    crowd::Manner,
    process::Server,
    publishers::{Extent, Pace, Plan},
    report::Report,
    scenario::{Churn, Fanout, Idle, Routing, Setup, Slow, Storm},
    target::{Body, Credentials, Dialect, Place, Protocol, Selection, Target, origin},
    tls::Trust,
};

/// What to do.
pub(crate) enum Task {
    Measure(Box<Setup>, Scenario),
    Bare(SocketAddr),
    Compare { file: PathBuf, rounds: Option<usize>, servers: Vec<String>, scenarios: Vec<String> },
}

/// What to measure.
pub(crate) enum Scenario {
    Fanout(Fanout),
    Idle(Idle),
    Routing(Routing),
    Churn(Churn),
    Storm(Storm),
    Slow(Slow),
}

impl Scenario {
    pub(crate) fn run(&self, setup: &Setup) -> Result<Report, Failure> {
        match self {
            Self::Fanout(fanout) => fanout.run(setup),
            Self::Idle(idle) => idle.run(setup),
            Self::Routing(routing) => routing.run(setup),
            Self::Churn(churn) => churn.run(setup),
            Self::Storm(storm) => storm.run(setup),
            Self::Slow(slow) => slow.run(setup),
        }
    }
}

const ABOUT: &str = "A load tool for Mercure hubs and other servers of event streams.\n\n\
    It checks every arrival: an update that is lost, duplicated or out of order makes a run fail (status 1). With \
    --server-pid it reports what the run cost the server. It shares the machine with the server and with others, so look \
    at their shares: when that of the tool (tool cpu share) is near 1, the tool is the limit; when that of all others \
    (other cpu share) is not near 0, measure again.";

pub(crate) fn command() -> Command {
    Command::new("petasos-bench")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A load tool for Mercure hubs and other servers of event streams")
        .long_about(ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("json")
                .long("json")
                .global(true)
                .action(ArgAction::SetTrue)
                .help("Write one JSON object instead of a table"),
        )
        .subcommand(
            scenario("fanout", "Everyone receives everything: cost and latency of a delivery")
                .arg(count("subscribers", "1000", "Subscribers of the topic"))
                .arg(count("publishers", "1", "Publishers, each with one request at a time"))
                .args(plan(None, "10s"))
                .arg(bytes("200")),
        )
        .subcommand(
            scenario("idle", "Subscribers who wait: memory of each, and how fast they come")
                .arg(count("subscribers", "1000", "Subscribers of the topic"))
                .arg(count("rounds", "1", "How often all come and go")),
        )
        .subcommand(
            scenario("routing", "One topic among many is published to: the cost of finding it")
                .arg(
                    count("topics", "100,1000,10000", "Topics, one measurement for each number")
                        .value_delimiter(','),
                )
                .arg(count("topics-per-connection", "100", "Topics that one subscriber asks for"))
                .arg(count("updates", "5000", "Updates of each measurement"))
                .arg(
                    Arg::new("patterns")
                        .long("patterns")
                        .value_name("KIND")
                        .value_parser(PossibleValuesParser::new(["exact", "urlpattern", "template"]))
                        .default_value("exact")
                        .help("How topics are selected; urlpattern is of 1.0, template of 0.x"),
                )
                .arg(bytes("200")),
        )
        .subcommand(
            scenario(
                "churn",
                "Subscribers who come and go, at full speed or at a rate: the cost of a connect",
            )
            .arg(count("subscribers", "100", "Subscribers who come at a time"))
            .arg(count(
                "connects-rate",
                "",
                "Subscribers who come each second [default: the next comes when one has gone]",
            ))
            .args(plan(Some("50"), "10s"))
            .arg(bytes("200")),
        )
        .subcommand(
            scenario("storm", "Everyone is cut off and comes back: the time until all have what they missed")
                .arg(count("subscribers", "1000", "Subscribers of the topic"))
                .arg(count("before", "5", "Updates that all have seen before"))
                .arg(count("missed", "100", "Updates that are published while nobody is there"))
                .arg(bytes("200")),
        )
        .subcommand(
            scenario("slow", "Some never read: the latency of the others, without them and with them")
                .arg(count("subscribers", "1000", "Subscribers of the topic, with those who never read"))
                .arg(
                    count("stalled-percent", "10", "Of a hundred, how many never read").value_parser(percent),
                )
                .arg(count(
                    "stalled-buffer-bytes",
                    "4096",
                    "Receive buffer of those who never read; with --http2, the window of their streams",
                ))
                .arg(count("publishers", "1", "Publishers, each with one request at a time"))
                .args(plan(Some("50"), "10s"))
                .arg(bytes("4000")),
        )
        .subcommand(
            Command::new("bare")
                .about("Serve: the least that a server can do, as a floor to compare with")
                .arg(
                    Arg::new("listen")
                        .long("listen")
                        .value_name("ADDRESS:PORT")
                        .value_parser(value_parser!(SocketAddr))
                        .default_value("127.0.0.1:5599")
                        .help("Address and port to listen on; port 0 lets the system choose"),
                ),
        )
        .subcommand(
            Command::new("compare")
                .about("Run scenarios against several servers in turn; the medians as a table")
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .value_parser(value_parser!(PathBuf))
                        .default_value("bench/compare.toml")
                        .help("What is compared, in TOML"),
                )
                .arg(count("rounds", "", "Instead of the number in the file"))
                .arg(list("server", "Only this server; also one that is optional"))
                .arg(list("scenario", "Only scenarios with this in their name")),
        )
}

fn scenario(name: &'static str, about: &'static str) -> Command {
    const SERVER: &str = "Server";
    const RUN: &str = "Run";
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help).help_heading(SERVER)
    };
    Command::new(name)
        .about(about)
        .arg(
            text(
                "url",
                "URL",
                "Where subscribers go; {topic} in it stands for the topic, which is otherwise a parameter",
            )
            .required(true),
        )
        .arg(text("publish-url", "URL", "Where publishers go [default: the same]"))
        .arg(
            text("publish-body", "KIND", "What publishers send: fields, or the data alone")
                .value_parser(PossibleValuesParser::new(["form", "raw"]))
                .default_value("form"),
        )
        .arg(
            text("dialect", "VERSION", "The version of the protocol, for parameters and tokens")
                .value_parser(PossibleValuesParser::new(["0.x", "1.0"]))
                .default_value("1.0"),
        )
        .arg(
            text("http2", "", "Speak HTTP/2: over https by agreement (ALPN), over http without asking")
                .action(ArgAction::SetTrue),
        )
        .arg(
            text("streams-per-connection", "NUMBER", "Subscribers of one connection, and publishers of one")
                .value_parser(positive)
                .default_value("1")
                .requires("http2"),
        )
        .arg(
            text("ca", "FILE", "PEM certificates that are trusted [default: those of the system]")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("insecure"),
        )
        .arg(text("insecure", "", "Do not verify the certificate of an https URL").action(ArgAction::SetTrue))
        .arg(text("topic", "TOPIC", "The topic [default: a new one for each run]"))
        .arg(
            text("publisher-key", "KEY", "Signs a token for each publisher")
                .conflicts_with("publisher-token"),
        )
        .arg(text("publisher-token", "TOKEN", "The token of all publishers"))
        .arg(
            text("subscriber-key", "KEY", "Signs a token for each subscriber")
                .conflicts_with("subscriber-token"),
        )
        .arg(text("subscriber-token", "TOKEN", "The token of all subscribers"))
        .arg(text("issuer", "ID", "The issuer (iss) of tokens of 1.0 [default: the origin of --url]"))
        .arg(text("audience", "ID", "The audience (aud) of tokens of 1.0 [default: --url]"))
        .arg(
            text("server-pid", "PID", "The server's process; it and its descendants are measured")
                .value_parser(value_parser!(u32)),
        )
        .arg(
            count("connecting-max", "512", "Subscribers that connect at once; in a storm all do")
                .help_heading(RUN),
        )
        .arg(
            duration("patience", "10s", "How long nothing may happen where something must").help_heading(RUN),
        )
        .arg(duration("settle", "200ms", "How long to look for what arrives twice").help_heading(RUN))
}

fn count(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name("NUMBER").value_parser(positive).help(help);
    if default.is_empty() { arg } else { arg.default_value(default) }
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "write a whole number above 0".to_owned())
}

fn percent(text: &str) -> Result<usize, String> {
    positive(text).ok().filter(|number| *number < 100).ok_or_else(|| "write 1 to 99".to_owned())
}

fn bytes(default: &'static str) -> Arg {
    count("bytes", default, "Data of each update").value_name("BYTES")
}

fn duration(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let parser = humantime::parse_duration;
    Arg::new(name).long(name).value_name("DURATION").value_parser(parser).default_value(default).help(help)
}

fn list(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("NAME").action(ArgAction::Append).help(help)
}

fn plan(rate: Option<&'static str>, time: &'static str) -> [Arg; 3] {
    let arg = Arg::new("rate").long("rate").value_name("NUMBER").value_parser(value_parser!(f64));
    let arg = match rate {
        Some(rate) => arg.default_value(rate).help("Updates each second, of all publishers together"),
        None => arg.help(
            "Updates each second, of all publishers together [default: each publishes again when it is answered]",
        ),
    };
    [
        arg,
        duration("duration", time, "How long to publish"),
        count("updates", "", "How many updates to publish, however long it takes").conflicts_with("duration"),
    ]
}

/// Reads the command line.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn task(matches: &ArgMatches) -> Result<Task, Failure> {
    let Some((name, matches)) = matches.subcommand() else { return Err("--help lists what there is".into()) };
    let names = |name: &str| matches.get_many(name).into_iter().flatten().cloned().collect();
    match name {
        "bare" => return Ok(Task::Bare(value(matches, "listen"))),
        "compare" => {
            return Ok(Task::Compare {
                file: value(matches, "file"),
                rounds: matches.get_one("rounds").copied(),
                servers: names("server"),
                scenarios: names("scenario"),
            });
        }
        _ => {}
    }
    let mut setup = setup(matches)?;
    if name == "storm" {
        setup.manner.keeps_cursors = true;
        setup.manner.connecting_max = value(matches, "subscribers");
    }
    Ok(Task::Measure(Box::new(setup), scenario_of(name, matches)?))
}

fn scenario_of(name: &str, matches: &ArgMatches) -> Result<Scenario, Failure> {
    let count = |name: &str| value::<usize>(matches, name);
    Ok(match name {
        "fanout" => Scenario::Fanout(Fanout {
            subscribers: count("subscribers"),
            publishers: count("publishers"),
            plan: plan_of(matches)?,
            bytes: count("bytes"),
        }),
        "idle" => Scenario::Idle(Idle { subscribers: count("subscribers"), rounds: count("rounds") }),
        "routing" => Scenario::Routing(Routing {
            topics: matches.get_many("topics").into_iter().flatten().copied().collect(),
            topics_per_connection: count("topics-per-connection"),
            plan: plan_of(matches)?,
            selection: selection(matches)?,
            bytes: count("bytes"),
        }),
        "churn" => Scenario::Churn(Churn {
            subscribers: count("subscribers"),
            rate: optional(matches, "connects-rate"),
            plan: plan_of(matches)?,
            bytes: count("bytes"),
        }),
        "storm" => Scenario::Storm(Storm {
            subscribers: count("subscribers"),
            before: count("before"),
            missed: count("missed"),
            bytes: count("bytes"),
        }),
        _ => Scenario::Slow(Slow {
            subscribers: count("subscribers"),
            stalled_percent: count("stalled-percent"),
            stalled_buffer_bytes: count("stalled-buffer-bytes"),
            publishers: count("publishers"),
            plan: plan_of(matches)?,
            bytes: count("bytes"),
        }),
    })
}

fn setup(matches: &ArgMatches) -> Result<Setup, Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let url: String = value(matches, "url");
    let credentials = |key: &str, token: &str| match (text(key), text(token)) {
        (Some(key), _) => Credentials::Key {
            key,
            issuer: text("issuer").unwrap_or_else(|| origin(&url).to_owned()),
            audience: text("audience").unwrap_or_else(|| url.clone()),
        },
        (None, Some(token)) => Credentials::Token(token),
        (None, None) => Credentials::None,
    };
    let protocol = match matches.get_flag("http2") {
        true => Protocol::Http2 { streams_per_connection: value(matches, "streams-per-connection") },
        false => Protocol::Http1,
    };
    let trust = match (matches.get_one::<PathBuf>("ca"), matches.get_flag("insecure")) {
        (Some(file), _) => Trust::File(file),
        (None, true) => Trust::Anything,
        (None, false) => Trust::System,
    };
    let place = |url: &str| Place::parse(url, protocol, trust);
    let target = Target {
        subscribe: place(&url)?,
        publish: place(text("publish-url").as_deref().unwrap_or(&url))?,
        dialect: if text("dialect").as_deref() == Some("0.x") { Dialect::Legacy } else { Dialect::V1 },
        body: if text("publish-body").as_deref() == Some("raw") { Body::Raw } else { Body::Form },
        publisher: credentials("publisher-key", "publisher-token"),
        subscriber: credentials("subscriber-key", "subscriber-token"),
        topic: text("topic").unwrap_or_else(|| format!("https://bench.example/{}", petasos_bench::unique())),
        protocol,
    };
    let manner = Manner {
        connecting_max: value::<usize>(matches, "connecting-max").max(1),
        patience: value(matches, "patience"),
        keeps_cursors: false,
    };
    let server = matches.get_one("server-pid").copied().map(Server);
    if let Some(server) = server.filter(|server| server.memory() == 0) {
        return Err(format!(
            "--server-pid {}: there is no such process, or it may not be looked at",
            server.0
        )
        .into());
    }
    Ok(Setup { target, server, manner, settle: value(matches, "settle") })
}

fn selection(matches: &ArgMatches) -> Result<Selection, Failure> {
    let kind: String = value(matches, "patterns");
    match (kind.as_str(), value::<String>(matches, "dialect").as_str()) {
        ("urlpattern", "1.0") => Ok(Selection::UrlPattern),
        ("template", "0.x") => Ok(Selection::Template),
        ("exact", _) => Ok(Selection::Exact),
        (kind, dialect) => Err(format!("--patterns {kind}: --dialect {dialect} has none").into()),
    }
}

fn plan_of(matches: &ArgMatches) -> Result<Plan, Failure> {
    let pace = match optional::<f64>(matches, "rate") {
        Some(rate) if rate > 0.0 => Pace::Rate(rate),
        Some(_) => return Err("--rate: write a number above 0".into()),
        None => Pace::Closed,
    };
    let extent = match optional(matches, "updates") {
        Some(updates) => Extent::Updates(updates),
        None => Extent::Time(value::<Duration>(matches, "duration")),
    };
    Ok(Plan { pace, extent })
}

/// The value of an argument that may be missing, also because this scenario does not have it.
fn optional<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Option<T> {
    matches.try_get_one::<T>(name).ok().flatten().cloned()
}

/// The value of an argument that has a default or is required.
fn value<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> T {
    matches.get_one::<T>(name).cloned().expect("every argument that is read so has a value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn every_scenario_can_be_read_with_its_defaults() {
        for name in ["fanout", "idle", "routing", "churn", "storm", "slow"] {
            let arguments = ["petasos-bench", name, "--url", "http://127.0.0.1:1/"];
            let matches = command().try_get_matches_from(arguments).expect("well-formed");
            assert!(matches!(task(&matches), Ok(Task::Measure(..))), "{name}");
        }
        let template = ["petasos-bench", "routing", "--url", "http://127.0.0.1:1/", "--patterns", "template"];
        let matches = command().try_get_matches_from(template).expect("well-formed");
        assert!(task(&matches).is_err(), "1.0 has no templates");
        for (options, is_meant) in [
            (&["--http2"][..], true),
            (&["--http2", "--streams-per-connection", "30", "--insecure"], true),
            (&["--http2", "--streams-per-connection", "0"], false),
            (&["--streams-per-connection", "30"], false),
            (&["--ca", "a.pem", "--insecure"], false),
        ] {
            let arguments = ["petasos-bench", "idle", "--url", "https://127.0.0.1:1/"].iter().chain(options);
            let task = command().try_get_matches_from(arguments).map(|matches| task(&matches).is_ok());
            assert_eq!(task.unwrap_or_default(), is_meant, "{options:?}");
        }
        for arguments in [&["petasos-bench", "bare"][..], &["petasos-bench", "compare", "--rounds", "2"]] {
            let matches = command().try_get_matches_from(arguments).expect("well-formed");
            assert!(task(&matches).is_ok(), "{arguments:?}");
        }
    }
}
