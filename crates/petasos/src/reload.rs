//! Reading the settings again while the hub runs: on SIGHUP, when it is asked for, and when a key file or a
//! certificate has changed.
//!
//! All or nothing: everything is read and checked as at a start before anything changes. A setting that needs a restart keeps
//! its former value, and the report names it. One task does all of it, so two reloads never mix.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    sync::Arc,
    time::Duration,
};

use petasos::{metrics::Reloads, notify, telemetry};
use petasos_server::{Connections, Route};
use serde::Serialize;
use serde_json::json;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    certificates::{Certificates, TLS_CERT, TLS_CLIENT_CA, TLS_KEY},
    ending::Ending,
    failure::Failure,
    prepare::{self, Generated, Prepared},
    reading::Reading,
    settings::{Given, KeyFile, Options, SETTINGS, Setting, Source},
};

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The settings that have another value now.
    pub(crate) changed: Vec<&'static str>,
    /// The settings that were changed and keep their former value until the hub is started again.
    pub(crate) needs_restart: Vec<&'static str>,
    /// What works and is probably not meant.
    pub(crate) warnings: Vec<String>,
}

/// A handle to ask for a reload. Clones ask the same hub.
#[derive(Clone)]
pub(crate) struct Reloader(mpsc::Sender<Request>);

/// Where the answer to a request goes. The error names the setting, and no secret.
type Request = oneshot::Sender<Result<Report, String>>;

/// Requests that may wait for a reload that is under way.
const REQUESTS_MAX: usize = 8;

/// Over which time the streams end that the new settings would not let in: within a minute, with the time that the end of a
/// stream may take.
const REVOKE_WITHIN: Duration = Duration::from_secs(50);

/// A key file that has just changed is looked at again after this time, until it has stayed the same: it may be written in
/// several pieces.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

/// The time in which the settings and the key files must have been read.
const READ_MAX: Duration = Duration::from_secs(10);

/// What was refused the last time, and is not in force.
#[derive(Default)]
struct Refused {
    /// Whether it was the last reload of everything.
    settings: bool,
    /// The key files that could not be used, as they are now.
    key_files: Vec<KeyFile>,
}

impl Reloader {
    /// POST /reload on the operators' port.
    pub(crate) fn route(self) -> Route {
        Route::action("/reload", move || {
            let reloader = self.clone();
            async move {
                match reloader.reload().await {
                    Ok(report) => Ok(json!(report)),
                    Err(problem) => Err(json!({ "error": problem })),
                }
            }
        })
    }

    /// Reads the settings again.
    ///
    /// # Errors
    /// The first setting that is wrong, and what to write instead. Nothing has changed then.
    async fn reload(&self) -> Result<Report, String> {
        let (answer, answered) = oneshot::channel();
        let stopping = |_| "the hub stops".to_owned();
        self.0.send(answer).await.map_err(|_| "the hub stops".to_owned())?;
        answered.await.map_err(stopping)?
    }
}

/// What asks for a reload, from the start of the process on: before that, SIGHUP would end the process.
pub(crate) struct Requests {
    hang_up: Signal,
    asked: mpsc::Receiver<Request>,
    /// Whether the process was started at a terminal.
    has_terminal: bool,
}

impl Requests {
    /// Listens for SIGHUP from now on.
    ///
    /// # Errors
    /// If the system has no room for a file descriptor.
    pub(crate) fn listen() -> io::Result<(Self, Reloader)> {
        let (ask, asked) = mpsc::channel(REQUESTS_MAX);
        let hang_up = signal(SignalKind::hangup())?;
        Ok((Self { hang_up, asked, has_terminal: io::stdin().is_terminal() }, Reloader(ask)))
    }

    /// Whether the terminal is gone at which the process was started. Then SIGHUP reports that, and the process must end.
    fn has_lost_terminal(&self) -> bool {
        self.has_terminal && !io::stdin().is_terminal()
    }
}

/// The settings in force.
pub(crate) struct InForce {
    source: Arc<Source>,
    given: Given,
    key_files: Vec<KeyFile>,
    key_files_interval: Duration,
    revoke: bool,
    generated: Option<Generated>,
    /// `None`: the hub speaks no TLS, until it is started again.
    certificates: Option<Certificates>,
    refused: Refused,
    reading: Reading,
    /// What a stop that begins later takes its times from.
    endings: watch::Sender<Ending>,
}

impl InForce {
    /// Those of `options`, with which the hub starts.
    pub(crate) fn new(
        source: Source,
        options: &Options,
        generated: Option<Generated>,
        endings: watch::Sender<Ending>,
    ) -> Self {
        Self {
            source: source.into(),
            given: options.given.clone(),
            key_files: KeyFile::find(&options.issuer, &options.config.issuers, &options.tls),
            key_files_interval: options.key_files_interval,
            revoke: options.revoke_on_reload,
            generated,
            certificates: None,
            refused: Refused::default(),
            reading: Reading::new(READ_MAX),
            endings,
        }
    }

    /// With what the hub offers to clients of TLS.
    pub(crate) fn with_certificates(self, certificates: Option<Certificates>) -> Self {
        Self { certificates, ..self }
    }

    /// Reloads the settings of a hub whenever that is asked for, until the hub stops.
    pub(crate) async fn keep_up_to_date(
        mut self,
        mut requests: Requests,
        connections: Connections,
        reloads: Arc<Reloads>,
    ) {
        let mut look = interval(self.key_files_interval.max(Duration::from_millis(1)));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = connections.stopping() => return,
                _ = requests.hang_up.recv() => match requests.has_lost_terminal() {
                    true => {
                        tracing::info!("the terminal is gone");
                        // An error would mean that this process does not exist.
                        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
                    }
                    false => drop(self.reload(&connections, &reloads).await),
                },
                Some(answer) = requests.asked.recv() => {
                    // The client may have disconnected.
                    let _ = answer.send(self.reload(&connections, &reloads).await);
                }
                _ = look.tick(), if !self.key_files_interval.is_zero() => {
                    self.look_at_key_files(&connections, &reloads).await;
                }
            }
        }
    }

    /// Reads everything again. The log says what has come of it.
    async fn reload(&mut self, connections: &Connections, reloads: &Reloads) -> Result<Report, String> {
        notify::reloading();
        let outcome = self.read_and_apply(connections).await;
        notify::ready();
        self.refused.settings = outcome.is_err();
        if outcome.is_ok() {
            self.refused.key_files.clear();
        }
        self.record(reloads);
        match &outcome {
            Ok(Report { changed, needs_restart, .. }) => {
                for setting in needs_restart {
                    tracing::warn!(
                        setting,
                        "this setting has changed and needs a restart: the former value stays"
                    );
                }
                match changed.is_empty() {
                    true => tracing::info!("settings reloaded: none has changed"),
                    false => tracing::info!(changed = changed.join(", "), "settings reloaded"),
                }
            }
            Err(problem) => tracing::error!("settings not reloaded, all stay as they were: {problem}"),
        }
        outcome
    }

    async fn read_and_apply(&mut self, connections: &Connections) -> Result<Report, String> {
        let (source, former, generated) = (self.source.clone(), self.given.clone(), self.generated.clone());
        let read = move || {
            let fresh = source.read()?;
            let is_pinned = |setting: &&Setting| {
                let (new, former) = (value(&fresh.given, setting), value(&former, setting));
                (setting.needs_restart && new != former) || turns_tls(setting, new, former)
            };
            let needs_restart: Vec<_> =
                SETTINGS.iter().filter(is_pinned).map(|setting| setting.key).collect();
            if needs_restart.is_empty() {
                return Ok((Next::new(fresh, generated.as_ref())?, needs_restart));
            }
            // As at a start: a value that a start would refuse is refused now.
            let (mut given, warnings) = (fresh.given.clone(), fresh.warnings.clone());
            prepare::hub(fresh, generated.as_ref())?;
            for key in &needs_restart {
                match former.get(key) {
                    Some(value) => given.insert(key, value.clone()),
                    None => given.remove(key),
                };
            }
            let mut mixed = source.read_key_files(given)?;
            mixed.warnings = warnings;
            Ok((Next::new(mixed, generated.as_ref())?, needs_restart))
        };
        match self.reading.read(read).await.flatten() {
            Ok((next, needs_restart)) => Ok(self.apply(next, needs_restart, connections).await),
            Err(problem) => Err(problem.to_string()),
        }
    }

    /// Reloads the keys alone if a key file has changed. What cannot be used is said once, until it changes again.
    async fn look_at_key_files(&mut self, connections: &Connections, reloads: &Reloads) {
        let Some(found) = self.look().await else { return };
        if found == self.key_files {
            if !std::mem::take(&mut self.refused.key_files).is_empty() {
                tracing::info!("the key files and certificates are again as they were");
                self.record(reloads);
            }
            return;
        }
        if found == self.refused.key_files || !self.is_settled(&found).await {
            return;
        }
        let (source, given, generated) = (self.source.clone(), self.given.clone(), self.generated.clone());
        let read = move || Next::new(source.read_key_files(given)?, generated.as_ref());
        match self.reading.read(read).await.flatten() {
            Ok(next) => {
                let changed = self.apply(next, Vec::new(), connections).await.changed;
                tracing::info!(
                    changed = changed.join(", "),
                    "keys reloaded: a key file or a certificate has changed"
                );
                self.refused.key_files.clear();
            }
            Err(problem) => {
                tracing::warn!(
                    "a key file or a certificate has changed and cannot be used, the former ones stay: {problem}"
                );
                self.refused.key_files = found;
            }
        }
        self.record(reloads);
    }

    /// The key files as they are now. `None`: they cannot be looked at.
    async fn look(&mut self) -> Option<Vec<KeyFile>> {
        let files = self.key_files.clone();
        self.reading.read(move || files.iter().map(KeyFile::look).collect()).await.ok()
    }

    /// Whether the files stay as they are for a moment.
    async fn is_settled(&mut self, found: &[KeyFile]) -> bool {
        sleep(SETTLED_AFTER.min(self.key_files_interval)).await;
        self.look().await.is_some_and(|now| now == found)
    }

    /// Says whether all that was read the last time is in force.
    fn record(&self, reloads: &Reloads) {
        let Refused { settings, key_files } = &self.refused;
        if !settings && key_files.is_empty() { reloads.succeeded() } else { reloads.failed() }
    }

    /// Puts settings into force.
    async fn apply(
        &mut self,
        next: Next,
        needs_restart: Vec<&'static str>,
        connections: &Connections,
    ) -> Report {
        let Next { prepared, given, key_files, log, revoke, ending } = next;
        let Prepared { checked, certificates, client_authorities, warnings, .. } = prepared;
        let changed = self.changed(&given, &key_files);
        prepare::log(&warnings);
        if let Some(offer) = &self.certificates
            && [TLS_CERT, TLS_KEY].iter().any(|setting| changed.contains(setting))
        {
            offer.set_from_files(certificates.into_iter().map(|each| each.certificate).collect());
        }
        if let Some(offer) = &self.certificates
            && changed.contains(&TLS_CLIENT_CA)
            && let Err(error) = offer.tls().set_client_authorities(client_authorities.as_ref())
        {
            tracing::error!(setting = TLS_CLIENT_CA, %error, "the former authorities stay: reload again");
        }
        if !changed.is_empty() {
            checked.reload(connections, revoke.then_some(REVOKE_WITHIN)).await;
            telemetry::set_filter(&log);
            self.endings.send_replace(ending);
        }
        (self.given, self.key_files, self.revoke) = (given, key_files, revoke);
        let warnings = warnings.iter().map(ToString::to_string).collect();
        Report { changed, needs_restart, warnings }
    }

    /// The settings that differ from those in force, in the order of the table.
    fn changed(&self, given: &Given, key_files: &[KeyFile]) -> Vec<&'static str> {
        let by_setting = |files: &[KeyFile]| {
            let mut found: BTreeMap<&'static str, Vec<KeyFile>> = BTreeMap::new();
            for file in files {
                found.entry(file.setting).or_default().push(file.clone());
            }
            found
        };
        let (former, new) = (by_setting(&self.key_files), by_setting(key_files));
        let has_changed = |setting: &&Setting| {
            value(&self.given, setting) != value(given, setting)
                || former.get(setting.key) != new.get(setting.key)
        };
        SETTINGS.iter().filter(has_changed).map(|setting| setting.key).collect()
    }
}

/// Settings that have been read and checked.
struct Next {
    prepared: Prepared,
    given: Given,
    key_files: Vec<KeyFile>,
    log: String,
    revoke: bool,
    ending: Ending,
}

impl Next {
    /// # Errors
    /// The first setting that is wrong, and what to write instead.
    fn new(options: Options, generated: Option<&Generated>) -> Result<Self, Failure> {
        let (given, log) = (options.given.clone(), options.log.clone());
        let (revoke, ending) = (options.revoke_on_reload, options.ending_in_force());
        // Before the JWK Sets are read: what changes in between is found the next time.
        let key_files = KeyFile::find(&options.issuer, &options.config.issuers, &options.tls);
        Ok(Self { prepared: prepare::hub(options, generated)?, given, key_files, log, revoke, ending })
    }
}

/// Whether TLS would begin or end, which needs another start: all clients would have to change their URLs at once.
fn turns_tls(setting: &Setting, new: &str, former: &str) -> bool {
    [TLS_CERT, TLS_KEY].contains(&setting.key) && new.is_empty() != former.is_empty()
}

/// The text of a setting, its default if it is not given.
fn value<'a>(given: &'a Given, setting: &Setting) -> &'a str {
    given.get(setting.key).map_or(setting.default, |value| &value.text)
}
