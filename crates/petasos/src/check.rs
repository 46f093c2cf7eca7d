//! `petasos check`: what a start would say of the settings, and whether what they name answers. It starts nothing and changes
//! nothing.

use std::{env, fmt::Write, time::Duration};

use clap::{Arg, ArgAction, ArgMatches, Command};
use petasos::Checked;
use serde::Serialize;
use tokio::{net::lookup_host, time::timeout};

use crate::{
    acme::{self, ACME_DOMAINS, AcmeOptions},
    certificates::{FromFile, TLS_CERT, day, host},
    prepare::{self, Generated, Prepared},
    settings::{Address, Options, Source, arguments},
};

/// What to check.
pub(crate) struct Check {
    /// Whether to try the store, key servers and names.
    connects: bool,
    as_json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    ok: bool,
    errors: Vec<String>,
    warnings: Vec<Finding>,
    certificates: Vec<OfTls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acme: Option<OfAcme>,
    connections: Vec<Connection>,
}

/// What would be asked of a certification authority. Nobody is asked here.
#[derive(Serialize)]
struct OfAcme {
    domains: Vec<String>,
    directory: String,
    challenge: &'static str,
    /// Where the account and the certificate would be.
    kept_in: String,
}

/// A setting that works and is probably not meant.
#[derive(Serialize)]
struct Finding {
    setting: &'static str,
    problem: String,
}

/// A certificate that can be used with its key.
#[derive(Serialize)]
struct OfTls {
    file: String,
    /// The day on which it expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// The host of the public URL, if that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_host: Option<String>,
    /// Whether the certificate is for that host.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_for_public_host: Option<bool>,
}

/// Something that the settings name, which was tried.
#[derive(Serialize)]
struct Connection {
    setting: &'static str,
    /// What was tried, without secrets.
    target: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// How long a name server may take.
const NAMES_MAX: Duration = Duration::from_secs(5);

/// How long a store may take, whatever its own time-out for each of its hosts is.
const STORE_MAX: Duration = Duration::from_secs(30);

/// The command line of the command.
pub(crate) fn command() -> Command {
    let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("check")
        .about("Say what is wrong with the settings, without starting the hub")
        .arg(switch("connect").help("Also try what they name: the store, servers with keys, the authority for certificates, names; nothing is changed there"))
        .arg(switch("json").help("Write JSON"))
        .arg(arguments::for_development())
        .args(arguments::hidden())
        .after_help(
            "Every setting of the hub counts here as a flag, a variable or in the file, as it would at a start. The exit code \
             is 0 if the hub would start, else 1. Warnings do not count.",
        )
}

impl Check {
    pub(crate) fn read(matches: &ArgMatches) -> Self {
        Self { connects: matches.get_flag("connect"), as_json: matches.get_flag("json") }
    }

    /// Whether the hub would start, and the text for the user.
    pub(crate) async fn run(self, source: &Source) -> (bool, String) {
        let findings = find(source, self.connects).await;
        let text = match self.as_json {
            true => serde_json::to_string_pretty(&findings).expect("texts and flags"),
            false => findings.text(),
        };
        (findings.ok, text)
    }
}

async fn find(source: &Source, connects: bool) -> Findings {
    let mut findings = Findings {
        ok: false,
        errors: source.problems(),
        warnings: vec![],
        certificates: vec![],
        acme: None,
        connections: vec![],
    };
    if findings.errors.is_empty() {
        match prepared(source) {
            Ok((options, public_host, acme, Prepared { checked, certificates, warnings, .. })) => {
                findings.acme = acme;
                let finding = |warning: petasos::Warning| Finding {
                    setting: warning.setting,
                    problem: warning.problem,
                };
                findings.warnings.extend(warnings.into_iter().map(finding));
                findings.certificates = certificates
                    .iter()
                    .map(|FromFile { path, certificate }| OfTls {
                        file: path.display().to_string(),
                        expires: certificate.expires().map(day),
                        public_host: public_host.clone(),
                        is_for_public_host: public_host.as_deref().map(|host| certificate.is_for(host)),
                    })
                    .collect();
                if connects {
                    findings.connections = try_all(&options.listen, &options.acme, &checked).await;
                }
            }
            Err(problem) => findings.errors.push(problem),
        }
    }
    findings.ok = findings.errors.is_empty() && findings.connections.iter().all(|each| each.ok);
    findings
}

/// What would be started, where it would listen, and the host of the public URL, if that is given.
fn prepared(source: &Source) -> Result<(Asked, Option<String>, Option<OfAcme>, Prepared), String> {
    let options = source.read()?;
    let acme = options.acme.is_given().then(|| of_acme(&options)).transpose()?;
    let asked = Asked { listen: options.listen.clone(), acme: options.acme.clone() };
    let is_public = options.config.http.advertise;
    let public_host = is_public.then(|| host(&options.config.hub.url).to_owned());
    let generated = prepare::lacks_keys(&options).then(Generated::new);
    let mut prepared = prepare::hub(options, generated.as_ref()).map_err(|problem| problem.to_string())?;
    if generated.is_some() {
        let problem = "there is no key: the hub makes random ones at each start and prints them".to_owned();
        prepared.warnings.push(petasos::Warning { setting: "publisher_key", problem });
    }
    Ok((asked, public_host, acme, prepared))
}

/// What is tried beside the hub's own settings.
struct Asked {
    listen: Address,
    acme: AcmeOptions,
}

fn of_acme(options: &Options) -> Result<OfAcme, String> {
    let AcmeOptions { domains, directory, proof, cache, .. } = &options.acme;
    let log = &options.config.log;
    let kept_in = match cache.is_none() && log.is_shared() {
        true => "the store of the log".to_owned(),
        false => {
            let place = options.acme.place(log, |name| env::var(name).ok()).map_err(options.explain())?;
            place.path().display().to_string()
        }
    };
    Ok(OfAcme { domains: domains.clone(), directory: directory.clone(), challenge: proof.name(), kept_in })
}

async fn try_all(listen: &Address, acme: &AcmeOptions, hub: &Checked) -> Vec<Connection> {
    let mut tried = Vec::new();
    let mut add = |setting, target: String, outcome: Result<(), String>| {
        tried.push(Connection { setting, target, ok: outcome.is_ok(), problem: outcome.err() });
    };
    let names = timeout(NAMES_MAX, lookup_host((&*listen.host, listen.port))).await;
    let names = match names {
        Ok(Ok(mut addresses)) => addresses.next().map(drop).ok_or("the name has no address".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the name server does not answer in time".to_owned()),
    };
    add("listen", listen.to_string(), names);
    let store = timeout(STORE_MAX, petasos_transports::probe(hub.transport())).await;
    let store = match store {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("it does not answer in time".to_owned()),
    };
    add("transport", hub.transport().to_string(), store);
    if acme.is_given() {
        add("acme_directory", acme.directory.clone(), acme::probe(acme).await);
    }
    for (issuer, keys) in hub.remote_keys() {
        let fetched = keys.try_fetch().await.map_err(|error| error.to_string());
        add("issuers", format!("the keys of {issuer}"), fetched);
    }
    tried
}

impl Findings {
    fn text(&self) -> String {
        let mut text = String::new();
        for problem in &self.errors {
            let _ = writeln!(text, "error: {problem}");
        }
        for Finding { setting, problem } in &self.warnings {
            let _ = writeln!(text, "warning: {setting}: {problem}");
        }
        for OfTls { file, expires, public_host, is_for_public_host } in &self.certificates {
            let _ = write!(text, "ok: {TLS_CERT}: {file}");
            if let Some(day) = expires {
                let _ = write!(text, ": until {day}");
            }
            if let (Some(host), Some(is_for)) = (public_host, is_for_public_host) {
                let not = if *is_for { "" } else { "not " };
                let _ = write!(text, ", {not}for {host}, the host of public_url");
            }
            text.push('\n');
        }
        if let Some(OfAcme { domains, directory, challenge, kept_in }) = &self.acme {
            let names = domains.join(", ");
            let _ = writeln!(
                text,
                "ok: {ACME_DOMAINS}: {names}: a certificate from {directory} by {challenge}, kept in {kept_in}"
            );
        }
        for Connection { setting, target, problem, .. } in &self.connections {
            let _ = match problem {
                None => writeln!(text, "ok: {setting}: {target}"),
                Some(problem) => writeln!(text, "error: {setting}: {target}: {problem}"),
            };
        }
        text.push_str(match self.ok {
            true => "The hub would start with these settings.",
            false => "The hub would not start with these settings.",
        });
        text
    }
}
