//! A hub as a process: from its settings to its end.

use std::{future::pending, io, sync::Arc, time::Duration};

use petasos::{
    Checked, IssuerConfig, Secret, activation::Activated, metrics::Program, notify, output::STANDARD_OUTPUT,
    telemetry,
};
use petasos_server::{Admin, Facts, Listener, metrics::Samples};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    acme::{self, Keeper, Report},
    certificates::{Certificates, host},
    development::Development,
    ending::Ending,
    failure::{Failure, WrongSettings},
    prepare::{self, Generated, Prepared},
    redirect::ToTls,
    reload::{InForce, Requests},
    settings::{Options, Source},
    start::{Start, Started, relieve},
    stop::Stop,
    token::{self, Mint},
};

/// Runs a hub until it is told to stop, another one takes over, or it fails.
///
/// # Errors
/// Why it could not start, or that it has failed.
pub(crate) async fn serve(
    options: Options,
    source: Source,
    mut stop: Stop,
    activated: io::Result<Activated>,
    endings: watch::Sender<Ending>,
) -> Result<(), Failure> {
    let program = Program::new();
    telemetry::set_filter(&options.log);
    let (requests, reloader) = Requests::listen()?;
    let activated =
        activated.map_err(|error| format!("a socket of the service manager cannot be used: {error}"))?;
    let ending = endings.subscribe();
    say_if_shortened(*ending.borrow(), options.ending);
    let (listen, operators) = (options.listen.clone(), options.admin.clone());
    let (takeover, log) = (options.takeover.clone(), options.config.log.clone());
    // Without any key, somebody tries the hub and needs keys. With keys, the hub shows no secret.
    let generated = prepare::lacks_keys(&options).then(Generated::new);
    let (scheme, has_tls) = (options.scheme(), options.has_tls());
    let is_for_development = options.tls_dev;
    let (acme, redirect) = (options.acme.clone(), options.redirect.clone());
    let in_force = InForce::new(source, &options, generated.clone(), endings);
    let Prepared { checked, issuer, certificates, client_authorities, warnings } =
        prepare::hub(options, generated.as_ref()).map_err(WrongSettings)?;
    prepare::log(&warnings);
    let certificates: Vec<_> = certificates.into_iter().map(|each| each.certificate).collect();
    let development = if is_for_development { Some(Development::new()?) } else { None };
    let certificates: Vec<_> =
        certificates.into_iter().chain(development.as_ref().map(|made| made.certificate.clone())).collect();
    let certificates = if has_tls { Some(Certificates::new(certificates)?) } else { None };
    if let Some(offer) = &certificates {
        offer.tls().set_client_authorities(client_authorities.as_ref())?;
    }
    let in_force = in_force.with_certificates(certificates.clone());
    let reloads = program.reloads();
    let report = acme.is_given().then(Arc::<Report>::default);
    let facts = with_certificates(program.into_facts(checked.transport()), &certificates, &report);
    let (public_host, public_port) = (host(checked.url()).to_owned(), checked.url().as_url().port());
    let greeting = if generated.is_some() { greeting(&issuer, &checked).await? } else { Vec::new() };
    let wanted = checked.streams_max();
    let token = operators.token.clone();
    let is_exclusive = log.is_exclusive();
    let start = Start {
        checked,
        activated,
        listen,
        certificates: certificates.clone(),
        acme: acme.clone(),
        redirect,
        operators,
        takeover: takeover.clone(),
        log,
    };
    let started = tokio::select! {
        started = start.run() => started?,
        // Nothing has been acknowledged that could be lost.
        () = stop.asked() => return Ok(()),
    };
    warn_of_open_files(wanted, started.connections.streams_max());
    let mut lines = announcement(greeting, &started, scheme);
    lines.extend(development.iter().flat_map(|made| made.lines(&example(&started))));
    let sockets = started.sockets()?;
    let Started { connections, listeners, admin_port, redirect_port, acme: shelf, predecessor, offer } =
        started;
    let challenges = shelf.as_ref().map(|(_, challenges)| challenges.clone());
    let keeper = match (shelf, &certificates, &report) {
        (Some((shelf, challenges)), Some(certificates), Some(report)) => {
            let (certificates, report) = (certificates.clone(), Arc::clone(report));
            connections.service().check_further(acme::check(&certificates, &report));
            let mut keeper = Keeper::new(acme, shelf, challenges, certificates, report)?;
            keeper.prepare().await;
            Some(keeper)
        }
        _ => None,
    };
    // It answers as long as the process runs, also while the hub stops.
    let admin_serving = admin_port.map(|port| {
        let admin = Admin::new(&connections, facts, token.as_ref().map(Secret::expose));
        tokio::spawn(port.serve(admin.with(reloader.route())))
    });
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(listener.serve(connections.clone(), Duration::MAX));
    }
    if let (Some(port), Some(offer)) = (redirect_port, certificates) {
        serving.spawn(port.serve(ToTls { offer, public_host, port: public_port, challenges }));
    }
    if let Some(keeper) = keeper {
        let connections = connections.clone();
        tokio::spawn(async move { keeper.run(connections.stopping()).await });
    }
    if let (Some(predecessor), Some(path)) = (predecessor, &takeover) {
        relieve(predecessor, path, &connections).await?;
    }
    let offer = offer.filter(|offer| {
        let published = offer.publish();
        if let Err(error) = &published {
            tracing::error!(setting = "takeover", %error, "the next hub cannot take over from this one");
        }
        published.is_ok()
    });
    // Now clients reach it, and the next hub can take over.
    for line in lines {
        STANDARD_OUTPUT.print(&line);
    }
    let taken = async move {
        match offer {
            Some(offer) => offer.taken(&sockets, is_exclusive).await,
            None => pending().await,
        }
        // The new hub answers operators.
        if let Some(serving) = admin_serving {
            serving.abort();
        }
    };
    let hub = connections.service().hub().clone();
    let reporting = tokio::spawn(notify::report(hub.clone()));
    tokio::spawn(in_force.keep_up_to_date(requests, connections.clone(), reloads));
    notify::ready();
    Ending::run(ending, stop, connections, taken).await;
    reporting.abort();
    drop(serving);
    match hub.has_failed() {
        true => Err("the hub has failed, see the error in its log: start it again".into()),
        false => Ok(()),
    }
}

/// With the values of certificates.
fn with_certificates(
    facts: Facts,
    certificates: &Option<Certificates>,
    report: &Option<Arc<Report>>,
) -> Facts {
    let Facts { add, .. } = facts;
    let (certificates, report) = (certificates.clone(), report.clone());
    let add = Box::new(move |samples: &mut Samples| {
        add(samples);
        if let Some(certificates) = &certificates {
            certificates.add(samples);
        }
        if let Some(report) = &report {
            report.add(samples);
        }
    });
    Facts { add, ..facts }
}

/// `times`: those that count; `given`: those of the settings.
fn say_if_shortened(times: Ending, given: Ending) {
    if times.total() < given.total() {
        tracing::info!(
            drain_delay = %humantime::format_duration(times.delay),
            drain = %humantime::format_duration(times.drain),
            "the drain is shortened to what the system grants a process that stops: raise that time, and give it as stop_timeout"
        );
    }
}

fn warn_of_open_files(wanted: Option<usize>, possible: usize) {
    if let Some(wanted) = wanted.filter(|wanted| *wanted > possible) {
        tracing::warn!(
            setting = "max_subscribers",
            "the limit of open files has room for {possible} streams, not for {wanted}: raise it (LimitNOFILE= in a \
             systemd unit, --ulimit nofile= of a container, ulimit -n in a shell), or lower max_subscribers"
        );
    }
}

/// The lines that say where the hub answers, after those of the greeting.
fn announcement(greeting: Vec<String>, started: &Started, scheme: &str) -> Vec<String> {
    let path = started.connections.service().hub().url().path();
    let addresses = started.listeners.iter().map(Listener::address);
    let serving = addresses.map(|address| format!("Serving on {scheme}://{address}{path}"));
    let admin = started.admin_port.as_ref();
    let admin = admin.map(|port| format!("Metrics, health and status on http://{}", port.address()));
    let redirect = started.redirect_port.as_ref();
    let redirect = redirect.map(|port| format!("Redirecting to https from http://{}", port.address()));
    greeting.into_iter().chain(serving).chain(redirect).chain(admin).collect()
}

/// A URL of the hub on this machine.
fn example(started: &Started) -> String {
    let port = started.listeners.first().map_or(0, |listener| listener.address().port());
    format!("https://localhost:{port}/healthz")
}

/// The keys that a hub has made for itself, and a token to try it with.
async fn greeting(issuer: &IssuerConfig, hub: &Checked) -> Result<Vec<String>, Failure> {
    let shown = |key: &Option<Secret>| {
        key.as_ref().map(|key| String::from_utf8_lossy(key.expose()).into_owned()).unwrap_or_default()
    };
    let mint = Mint {
        publish: vec!["*".to_owned()],
        subject: "petasos".to_owned(),
        legacy: hub.compat(),
        issued_at: token::now(),
        expires_in: Some(TRIAL),
        ..Mint::default()
    };
    Ok(vec![
        format!("Publisher key: {}", shown(&issuer.publisher.key)),
        format!("Subscriber key: {}", shown(&issuer.subscriber.key)),
        format!("Publisher JWT: {}", mint.sign(issuer, hub).await?),
    ])
}

/// Longer than anybody runs a hub with random keys.
const TRIAL: Duration = Duration::from_secs(365 * 24 * 3600);
