//! The settings of the binary: gathered from flags, environment variables and a file, each with where it was given.

pub(crate) mod arguments;
mod file;
mod issuers;
mod key_files;
mod kinds;
mod source;
mod table;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use petasos::{Config, ConfigError, IssuerConfig, Warning};
use petasos_protocol::event::EventType;
use petasos_server::Origins;

use crate::{
    acme::{ACME_DOMAINS, AcmeOptions},
    admin::AdminOptions,
    certificates::{TLS_CERT, TlsOptions},
    ending::Ending,
};

pub(crate) use self::{
    key_files::KeyFile,
    kinds::{Address, Kind},
    source::{Listens, Source},
    table::{SETTINGS, Setting},
};

/// What an operator has decided.
pub(crate) struct Options {
    pub(crate) config: Config,
    /// The issuer that the settings outside `issuers` describe.
    pub(crate) issuer: IssuerConfig,
    pub(crate) listen: Address,
    pub(crate) tls: TlsOptions,
    pub(crate) acme: AcmeOptions,
    /// Whether the hub makes its own certificate, for this machine.
    pub(crate) tls_dev: bool,
    /// Where plain HTTP is sent on to TLS.
    pub(crate) redirect: Option<Address>,
    pub(crate) admin: AdminOptions,
    pub(crate) ending: Ending,
    /// Where a hub that starts finds the one that it takes over from.
    pub(crate) takeover: Option<PathBuf>,
    /// What is logged.
    pub(crate) log: String,
    /// How often key files are looked at; zero: only for a reload.
    pub(crate) key_files_interval: Duration,
    /// Whether a reload ends the streams that it would not let in.
    pub(crate) revoke_on_reload: bool,
    /// Whether these are the settings of [`Options::for_development`], changed by others.
    pub(crate) is_for_development: bool,
    /// Warnings about the settings file and the environment.
    pub(crate) warnings: Vec<Warning>,
    /// What was given, by the key of the setting.
    pub(crate) given: Given,
}

/// Values by the keys of their settings.
pub(crate) type Given = BTreeMap<&'static str, Value>;

/// The value of a setting, as it was given. It may be a secret, so it has no `Debug`.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) text: String,
    /// The flag, the variable or the file that it comes from.
    pub(crate) place: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: Config::default(),
            issuer: IssuerConfig::default(),
            listen: Address { host: "0.0.0.0".to_owned(), port: 5500 },
            tls: TlsOptions::default(),
            acme: AcmeOptions::default(),
            tls_dev: false,
            redirect: None,
            admin: AdminOptions::default(),
            ending: Ending::default(),
            takeover: None,
            log: "info".to_owned(),
            key_files_interval: Duration::from_secs(60),
            revoke_on_reload: true,
            is_for_development: false,
            warnings: Vec::new(),
            given: Given::new(),
        }
    }
}

impl Options {
    /// What `python -m flask_mercure_sse.server` gives, for a hub that only this machine reaches: both dialects, subscribers
    /// without a token, pages of every origin, with cookies those of this machine.
    pub(crate) fn for_development() -> Self {
        let ending = Ending { delay: Duration::ZERO, drain: Duration::ZERO, ..Ending::default() };
        let mut options = Self { is_for_development: true, ending, ..Self::default() };
        "127.0.0.1".clone_into(&mut options.listen.host);
        let Config { hub, http, .. } = &mut options.config;
        http.anonymous = true;
        http.issuers.compat = true;
        http.issuers.prefixes = true;
        http.cors = Origins::parse(["*"]).expect("a valid constant").with_loopback_credentials();
        hub.subscription_event_type = EventType::parse("Subscription", &http.limits).ok();
        options
    }

    /// Reads what was given. A flag takes precedence over an environment variable, and a variable over the file. What is not
    /// given stays as it is.
    ///
    /// # Errors
    /// The first setting that is wrong: where it was given, and what to write instead.
    pub(crate) fn gather(
        self,
        flags: &BTreeMap<&'static str, String>,
        environment: &BTreeMap<String, String>,
        file: Option<&Path>,
    ) -> Result<Self, String> {
        let mut options = self;
        let given = options.find(flags, environment, file)?;
        options.fill(given)
    }

    /// Finds the values. Warnings about file and environment are kept.
    fn find(
        &mut self,
        flags: &BTreeMap<&'static str, String>,
        environment: &BTreeMap<String, String>,
        file: Option<&Path>,
    ) -> Result<Given, String> {
        let mut given = Given::new();
        let mut written = file.map(file::read).transpose()?.unwrap_or_default();
        self.warnings.extend(
            file.and_then(|path| Warning::for_open_file("config", path, written.iter().any(file::is_secret))),
        );
        self.warnings.extend(environment.keys().filter_map(|name| misspelt(name)));
        self.warnings.extend(OF_THE_REFERENCE_HUB.iter().filter_map(|(name, remedy)| {
            environment.get(*name).filter(|text| !text.is_empty())?;
            let problem = format!("{name} is not read and has no effect: {remedy}");
            Some(Warning { setting: "environment", problem })
        }));
        for setting in SETTINGS {
            let in_file = written.remove(setting.key).map(|(text, place)| Value { text, place });
            if let Some(value) = outside_file(setting, flags, environment).or(in_file) {
                given.insert(setting.key, value);
            }
        }
        if let Some(key) = written.keys().next() {
            let path = file.map(|path| path.display().to_string()).unwrap_or_default();
            let hint = match nearest(key) {
                Some(key) => format!("is \"{key}\" meant?"),
                None => "petasos --help lists all".to_owned(),
            };
            return Err(format!("{path}: \"{key}\" is no setting: {hint}"));
        }
        Ok(given)
    }

    /// Sets what was given, in the order of the table. Reads key files.
    ///
    /// # Errors
    /// The first setting that is wrong: where it was given, and what to write instead.
    pub(crate) fn fill(mut self, given: Given) -> Result<Self, String> {
        match self.problems(&given).into_iter().next() {
            Some(problem) => Err(problem),
            None => {
                self.listen_for_acme(given.contains_key(LISTEN));
                Ok(Self { given, ..self })
            }
        }
    }

    /// The port at which clients and the authority look for a name, unless another one is given.
    fn listen_for_acme(&mut self, is_given: bool) {
        if self.acme.is_given() && !is_given {
            self.listen.port = HTTPS_PORT;
        }
    }

    /// Whether the hub speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_given() || self.acme.is_given() || self.tls_dev
    }

    /// The setting that says where certificates come from, if there is one.
    pub(crate) fn has_certificates(&self) -> Option<&'static str> {
        match (self.tls.is_given(), self.acme.is_given()) {
            (true, _) => Some(TLS_CERT),
            (_, true) => Some(ACME_DOMAINS),
            _ => None,
        }
    }

    /// The scheme of the hub's URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.has_tls() { "https" } else { "http" }
    }

    /// Sets what was given, in the order of the table, and returns what is wrong.
    fn problems(&mut self, given: &Given) -> Vec<String> {
        let mut problems = Vec::new();
        for setting in SETTINGS {
            if let Some(Value { text, place }) = given.get(setting.key)
                && let Err(problem) = (setting.set)(self, text)
            {
                problems.push(format!("{place}: {problem}"));
            }
        }
        problems
    }

    /// The times of an end. What was not given is shortened to the time that the system grants.
    pub(crate) fn ending_in_force(&self) -> Ending {
        let is_given = |key| self.given.contains_key(key);
        self.ending.fitted(is_given("drain_delay"), is_given("drain"))
    }

    /// The problem of a setting, with where the setting was given. A default can be wrong together with another setting:
    /// then the message says where it can be given.
    pub(crate) fn explain(&self) -> impl FnOnce(ConfigError) -> String + use<> {
        let mut given = self.given.clone();
        move |ConfigError { setting, problem }| {
            let place = given
                .remove(setting)
                .map(|value| value.place)
                .unwrap_or_else(|| format!("--{} ({setting} in a file)", setting.replace('_', "-")));
            format!("{place}: {problem}")
        }
    }
}

/// The setting that says where the hub listens.
pub(crate) const LISTEN: &str = "listen";

/// Of URLs without a port.
pub(crate) const HTTPS_PORT: u16 = 443;

/// A value that a flag or an environment variable gives.
fn outside_file(
    setting: &Setting,
    flags: &BTreeMap<&'static str, String>,
    environment: &BTreeMap<String, String>,
) -> Option<Value> {
    // An empty variable counts as absent: compose files set variables to nothing.
    let mut in_environment = setting
        .variables()
        .filter_map(|name| Some((environment.get(&name).filter(|text| !text.is_empty())?, name)));
    let value = match flags.get(setting.key) {
        Some(text) => Some((text, format!("--{}", setting.flag()))),
        None => in_environment.next(),
    };
    value.map(|(text, place)| Value { text: text.clone(), place })
}

/// A warning about an environment variable that looks like a setting and is none.
fn misspelt(name: &str) -> Option<Warning> {
    let key = name.strip_prefix("PETASOS_")?;
    // For a service with the name petasos, Kubernetes gives such variables to all containers beside it.
    let from_kubernetes = key.starts_with("SERVICE_") || key == "PORT" || key.starts_with("PORT_");
    let is_known = OTHER_VARIABLES.contains(&name)
        || SETTINGS.iter().any(|setting| setting.variables().any(|known| known == name));
    if from_kubernetes || is_known {
        return None;
    }
    let hint = match nearest(&key.to_lowercase()) {
        Some(key) => format!("is PETASOS_{} meant?", key.to_uppercase()),
        None => "petasos --help lists all".to_owned(),
    };
    let problem = format!("{name} is no setting and has no effect: {hint}");
    Some(Warning { setting: "environment", problem })
}

/// Variables of the reference hub that look as if they counted here, and what to write instead.
const OF_THE_REFERENCE_HUB: [(&str, &str); 2] = [
    (
        "MERCURE_EXTRA_DIRECTIVES",
        "give each directive in it as a setting of its own, such as PETASOS_ANONYMOUS and PETASOS_CORS_ORIGINS",
    ),
    ("MERCURE_TRANSPORT_URL", "say where the log is with --transport or PETASOS_TRANSPORT"),
];

/// Variables that are no settings of a hub.
const OTHER_VARIABLES: [&str; 2] = ["PETASOS_CONFIG", "PETASOS_TOKEN"];

/// The key of the setting that was perhaps meant.
fn nearest(key: &str) -> Option<&'static str> {
    let distance = |other: &str| {
        let start = key.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let end = key.bytes().rev().zip(other.bytes().rev()).take_while(|(a, b)| a == b).count();
        key.len().max(other.len()).saturating_sub(start + end)
    };
    let nearest = SETTINGS.iter().map(|setting| setting.key).min_by_key(|other| distance(other))?;
    (distance(nearest) <= key.len() / 2).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::{kinds::Kind::*, *};

    fn gather(flags: &[(&'static str, &str)], environment: &[(&str, &str)]) -> Result<Options, String> {
        let flags = flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect();
        let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Options::default().gather(&flags, &environment.collect(), None)
    }

    #[test]
    fn the_defaults_that_are_documented_are_those_in_force() {
        let shown = |flags: &[(&'static str, &str)]| {
            let Options { config, issuer, listen, ending, log, key_files_interval, revoke_on_reload, .. } =
                gather(flags, &[]).expect("valid");
            format!("{config:?}{issuer:?}{listen}{ending:?}{log}{key_files_interval:?}{revoke_on_reload}")
        };
        let stated = SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty() && !setting.default.contains([' ', '/']));
        let written: Vec<_> = stated.map(|setting| (setting.key, setting.default)).collect();
        assert!(written.len() > 20);
        assert_eq!(shown(&written), shown(&[]));
    }

    #[test]
    fn zero_is_refused_unless_the_setting_says_what_it_means() {
        const NUMBERS: [&str; 5] = ["UPDATES", "BYTES", "DURATION", "STREAMS", "NUMBER"];
        let is_number = |setting: &&Setting| matches!(setting.kind, Text(name) if NUMBERS.contains(&name));
        assert!(SETTINGS.iter().filter(is_number).count() > 15);
        for setting in SETTINGS.iter().filter(is_number) {
            let outcome = gather(&[(setting.key, "0")], &[]).and_then(|options| {
                let explain = options.explain();
                options.config.check().map_err(explain)
            });
            assert_eq!(outcome.is_ok(), setting.help.contains("; 0: "), "{}", setting.key);
            if let Err(text) = outcome {
                assert!(text.starts_with(&format!("--{}: 0 ", setting.flag())), "{text}");
                assert!(text.contains("write "), "{text}");
            }
        }
    }

    #[test]
    fn a_problem_names_the_place_where_the_value_was_given() {
        let problem = |flags: &[(&'static str, &str)], environment: &[(&str, &str)]| {
            let options = gather(flags, environment)?;
            let explain = options.explain();
            let config = Config { issuers: vec![options.issuer], ..options.config };
            config.check().map(|_| ()).map_err(explain)
        };
        let start =
            |text: Result<(), String>| text.expect_err("wrong").split_once(": ").map(|(a, _)| a.to_owned());
        let place = |place: &str| Some(place.to_owned());
        // Problems of one setting, and problems that only the check of all settings finds.
        assert_eq!(start(problem(&[("keep_alive", "x")], &[])), place("--keep-alive"));
        assert_eq!(start(problem(&[], &[("PETASOS_KEEP_ALIVE", "x")])), place("PETASOS_KEEP_ALIVE"));
        assert_eq!(start(problem(&[("publisher_algorithms", "none")], &[])), place("--publisher-algorithms"));
        let variable = "MERCURE_PUBLISHER_JWT_ALG";
        assert_eq!(start(problem(&[], &[(variable, "none")])), place(variable));
        // A default beside a setting that excludes it.
        let networks = [("trusted_proxies", "0.0.0.0/0"), ("max_subscribers_per_address", "1")];
        assert_eq!(start(problem(&networks, &[])), place("--trusted-proxies"));
    }

    #[test]
    fn the_origin_null_is_refused_with_its_reason() {
        for setting in ["cors_origins", "publish_origins"] {
            let text = gather(&[(setting, "https://a.example,null")], &[]).err().expect("refused");
            assert!(text.contains("\"null\" is what browsers send") && text.contains("write that"), "{text}");
        }
    }

    #[test]
    fn variables_of_the_reference_hub_that_have_no_effect_are_named_with_what_to_write_instead() {
        let warnings = |name: &str, text: &str| gather(&[], &[(name, text)]).expect("valid").warnings;
        for (name, remedy) in [
            ("MERCURE_EXTRA_DIRECTIVES", "PETASOS_ANONYMOUS"),
            ("MERCURE_TRANSPORT_URL", "PETASOS_TRANSPORT"),
        ] {
            let found = warnings(name, "anonymous");
            assert_eq!((found.len(), found[0].setting), (1, "environment"), "{name}");
            assert!(found[0].problem.starts_with(name) && found[0].problem.contains(remedy), "{found:?}");
            assert!(warnings(name, "").is_empty(), "{name}");
        }
    }

    #[test]
    fn a_variable_that_is_no_setting_is_named_with_the_setting_that_was_perhaps_meant() {
        let warnings = |name: &str| {
            let options = gather(&[], &[(name, "x.example:1")]);
            options.map(|options| options.warnings.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (near, far) = (warnings("PETASOS_PUBLIC_ULR"), warnings("PETASOS_XYZ"));
        assert_eq!(
            near.expect("a warning"),
            ["environment: PETASOS_PUBLIC_ULR is no setting and has no effect: is PETASOS_PUBLIC_URL meant?"]
        );
        assert!(far.expect("a warning")[0].ends_with("has no effect: petasos --help lists all"));
        for known in [
            "PETASOS_LISTEN",
            "PETASOS_LOG",
            "PETASOS_CONFIG",
            "PETASOS_TOKEN",
            "PETASOS_SERVICE_HOST",
            "PETASOS_PORT",
            "PETASOS_PORT_5500_TCP_ADDR",
            "PETASOSX",
            "PATH",
        ] {
            assert_eq!(warnings(known).expect("valid"), Vec::<String>::new(), "{known}");
        }
    }
}
