//! The binary: a hub as a process of its own, and the commands about its tokens.

use std::{
    future::pending,
    io::{self, Write},
    net::TcpListener,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use petasos::{
    Checked, IssuerConfig, Log, Secret,
    activation::Activated,
    deadline::{LAST_LINES_MAX, STOP_MAX},
    metrics::Program,
    notify,
    output::{STANDARD_ERROR, STANDARD_OUTPUT},
    takeover::{Offer, Predecessor, SOCKETS_MAX, Sockets, is_offered},
    telemetry,
};
use petasos_server::{Admin, Listener};
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    cli::Task,
    ending::Ending,
    failure::Failure,
    prepare::{Generated, Prepared},
    reload::{InForce, Requests},
    settings::{Address, Options, Source},
    stop::{Signals, Stop},
    token::Mint,
};

mod admin;
mod check;
mod cli;
mod ending;
mod failure;
mod health;
mod listing;
mod prepare;
mod reading;
mod reload;
mod settings;
mod stop;
mod token;

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        // --help and --version come here, too.
        Err(answer) => {
            let code = u8::try_from(answer.exit_code()).unwrap_or(1);
            return answer.print().map_or(ExitCode::FAILURE, |()| code.into());
        }
    };
    // Before there is another thread.
    let activated = Activated::take();
    // What the settings say counts once they are read.
    telemetry::init("info");
    match cli::task(&matches).map_err(Failure::from).and_then(|task| run_to_end(task, activated)) {
        Ok(code) => code,
        Err(failure) => {
            STANDARD_ERROR.print(&format!("petasos: {failure}"));
            STANDARD_ERROR.flush(FAILURE_MAX);
            ExitCode::FAILURE
        }
    }
}

/// How long a process that fails waits for standard error to take the reason.
const FAILURE_MAX: Duration = Duration::from_secs(2);

/// How long the threads of a runtime may take to end. A thread that waits for a name server or a disk may never end.
const THREADS_MAX: Duration = Duration::from_millis(200);

fn run_to_end(task: Task, activated: io::Result<Activated>) -> Result<ExitCode, Failure> {
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    // A hub ends in time; a command writes all of its output.
    let lines_max = if matches!(task, Task::Serve(..)) { LAST_LINES_MAX } else { FAILURE_MAX };
    let code = run(&runtime, task, activated);
    runtime.shutdown_timeout(THREADS_MAX);
    STANDARD_OUTPUT.flush(lines_max);
    STANDARD_ERROR.flush(lines_max);
    code
}

/// Threads for looking up names and reading the disk. Each reserves two megabytes of address space, and tokio would
/// start up to 512.
const BLOCKING_THREADS_MAX: usize = 16;

fn run(runtime: &Runtime, task: Task, activated: io::Result<Activated>) -> Result<ExitCode, Failure> {
    match task {
        Task::Serve(options, source) => {
            let (endings, ending) = watch::channel(options.ending_in_force());
            let drain_max = || ending.borrow().total();
            let (signals, stop) = Signals::listen()?;
            // On the runtime's threads, so that this one is free for the signals. A connection costs less there, too:
            // tokio would have to wake this thread for it.
            signals
                .heed_until(runtime.spawn(serve(*options, source, stop, activated, endings)), drain_max)??;
        }
        Task::Mint(options, mint) => {
            let lifetime = mint.lifetime();
            let token = runtime.block_on(async {
                let issuer = options.issuer.clone();
                Ok::<_, Failure>(mint.sign(&issuer, &check(*options)?).await?)
            });
            answer(&token?)?;
            STANDARD_ERROR.print(&lifetime);
        }
        Task::Check(check, source) => {
            let (would_start, text) = runtime.block_on(check.run(&source));
            answer(&text)?;
            return Ok(if would_start { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Task::List(listing, source) => answer(&listing.text(&source)?)?,
        Task::AskHealth(health, source) => {
            let (is_well, text) = runtime.block_on(health.ask(&source))?;
            answer(&text)?;
            return Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Task::Complete(shell) => answer(&cli::completions(shell))?,
        Task::WriteManual => answer(&cli::manual()?)?,
        Task::Inspect(token) => answer(&token::inspect(&token)?)?,
        Task::Explain(options, explain) => {
            let explained =
                runtime.block_on(async { Ok::<_, Failure>(explain.run(&check(*options)?).await) });
            let (allowed, text) = explained?;
            answer(&text)?;
            return Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks the settings for a command about tokens, and logs what is probably not meant.
fn check(options: Options) -> Result<Checked, Failure> {
    telemetry::set_filter(&options.log);
    let (checked, warnings) = prepare::check(options, false)?;
    prepare::log(&warnings);
    Ok(checked)
}

async fn serve(
    options: Options,
    source: Source,
    mut stop: Stop,
    activated: io::Result<Activated>,
    endings: watch::Sender<Ending>,
) -> Result<(), Failure> {
    let program = Program::new();
    telemetry::set_filter(&options.log);
    let (requests, reloader) = Requests::listen()?;
    if std::env::var_os("MERCURE_EXTRA_DIRECTIVES").is_some_and(|value| !value.is_empty()) {
        tracing::warn!(
            "MERCURE_EXTRA_DIRECTIVES is not read: petasos has settings of its own, see petasos --help"
        );
    }
    if std::env::var_os("MERCURE_TRANSPORT_URL").is_some_and(|value| !value.is_empty()) {
        tracing::warn!(
            "MERCURE_TRANSPORT_URL is not read: give the log's place with --transport or MERCURE_HUB_TRANSPORT"
        );
    }
    let activated =
        activated.map_err(|error| format!("a socket of the service manager cannot be used: {error}"))?;
    let (listen, ending, takeover) = (options.listen.clone(), endings.subscribe(), options.takeover.clone());
    let log = options.config.log.clone();
    // Without any key, somebody tries the hub and needs keys. With keys, the hub shows no secret.
    let operators = options.admin.clone();
    let times = *ending.borrow();
    if times.total() < options.ending.total() {
        tracing::info!(
            drain_delay = %humantime::format_duration(times.delay),
            drain = %humantime::format_duration(times.drain),
            "the drain is shortened to what the system grants a process that stops: raise that time, and give it as stop_timeout"
        );
    }
    let generated = prepare::lacks_keys(&options).then(Generated::new);
    let in_force = InForce::new(source, &options, generated.clone(), endings);
    let Prepared { checked, issuer, warnings } = prepare::hub(options, generated.as_ref())?;
    prepare::log(&warnings);
    let reloads = program.reloads();
    let facts = program.into_facts(checked.transport());
    let greeting = if generated.is_some() { greeting(&issuer, &checked).await? } else { Vec::new() };
    let wanted = checked.streams_max();
    let start = async {
        let predecessor = match &takeover {
            Some(path) => find_predecessor(path, &log).await?,
            None => None,
        };
        let offer =
            takeover.as_deref().map(Offer::new).transpose().map_err(|error| wrong_takeover(&error))?;
        let is_exposed = checked.is_exposed();
        let connections = checked.start().await?;
        let listeners = listeners(activated.listeners, predecessor.as_ref(), &listen, is_exposed).await?;
        if offer.is_some() && listeners.len() >= SOCKETS_MAX {
            return Err(format!(
                "takeover: a hub with {} sockets cannot be taken over: pass {} to it at most, or leave takeover out",
                listeners.len(),
                SOCKETS_MAX - 1
            )
            .into());
        }
        let admin_socket = predecessor.as_ref().and_then(|hub| hub.admin.as_ref());
        let admin_socket = admin_socket.map(TcpListener::try_clone).transpose()?.or(activated.admin);
        let admin_port = operators.port(admin_socket).await?;
        Ok::<_, Failure>((connections, listeners, admin_port, predecessor, offer))
    };
    let (connections, listeners, admin_port, predecessor, offer) = tokio::select! {
        started = start => started?,
        // Nothing has been acknowledged that could be lost.
        () = stop.asked() => return Ok(()),
    };
    let possible = connections.streams_max();
    if let Some(wanted) = wanted.filter(|wanted| *wanted > possible) {
        tracing::warn!(
            setting = "max_subscribers",
            "the limit of open files has room for {possible} streams, not for {wanted}: raise it (LimitNOFILE= in a \
             systemd unit, --ulimit nofile= of a container, ulimit -n in a shell), or lower max_subscribers"
        );
    }
    for line in greeting {
        STANDARD_OUTPUT.print(&line);
    }
    let path = connections.service().hub().url().path();
    for listener in &listeners {
        STANDARD_OUTPUT.print(&format!("Serving on http://{}{path}", listener.address()));
    }
    let mut admin_serving = None;
    let mut sockets = Sockets { listeners: Vec::new(), admin: None };
    if let Some(port) = admin_port {
        sockets.admin = Some(port.duplicate()?);
        STANDARD_OUTPUT.print(&format!("Metrics, health and status on http://{}", port.address()));
        let token = operators.token.as_ref().map(Secret::expose);
        // It answers as long as the process runs, also while the hub stops.
        admin_serving =
            Some(tokio::spawn(port.serve(Admin::new(&connections, facts, token).with(reloader.route()))));
    }
    let hub = connections.service().hub().clone();
    sockets.listeners = listeners.iter().map(Listener::duplicate).collect::<io::Result<Vec<_>>>()?;
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(listener.serve(connections.clone(), Duration::MAX));
    }
    if let (Some(predecessor), Some(path)) = (predecessor, &takeover)
        && let Err(error) = predecessor.relieve().await
    {
        if is_offered(path).await {
            // What has come to this hub meanwhile is answered.
            let _ = timeout(STOP_MAX, connections.stop()).await;
            return Err(format!(
                "takeover: the hub that answers at {} no longer waits for this one, and goes on ({error}): start again",
                path.display()
            )
            .into());
        }
        tracing::info!(%error, "the hub that ran has ended by itself");
    }
    let offer = offer.filter(|offer| {
        let published = offer.publish();
        if let Err(error) = &published {
            tracing::error!(setting = "takeover", %error, "the next hub cannot take over from this one");
        }
        published.is_ok()
    });
    let taken = async move {
        match offer {
            Some(offer) => offer.taken(&sockets, log.is_exclusive()).await,
            None => pending().await,
        }
        // The new hub answers operators.
        if let Some(serving) = admin_serving {
            serving.abort();
        }
    };
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

/// The hub that runs and waits at the path to be relieved, if there is one.
async fn find_predecessor(path: &Path, log: &Log) -> Result<Option<Predecessor>, Failure> {
    let predecessor = Predecessor::find(path).await.map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::ResourceBusy => "wait until that one serves or has failed, and start again",
            io::ErrorKind::PermissionDenied => "give a path in a directory of this user alone",
            _ => "stop what listens there, or give another path",
        };
        format!("takeover: {}: {error}: {remedy}", path.display())
    })?;
    let Some(found) = &predecessor else { return Ok(None) };
    if found.is_log_exclusive && log.is_exclusive() {
        return Err(format!(
            "transport: the hub that answers at {} has a durable log, which one process alone can have open: use host:///DIRECTORY \
             or a store, which several processes can have, or stop that hub before you start this one",
            path.display()
        )
        .into());
    }
    if !log.is_stored() {
        tracing::warn!(
            setting = "takeover",
            "the log is in memory, so this hub begins without history, and does not get what the hub that runs is still told: use \
             host:///DIRECTORY or a store"
        );
    }
    Ok(predecessor)
}

fn wrong_takeover(error: &io::Error) -> Failure {
    format!("takeover: {error}: give a path in a directory of this user alone, or leave it out").into()
}

/// How texts call the hub that this one takes over from.
const RUNNING: &str = "the hub that runs";

/// The sockets on which the hub accepts connections: those of the service manager, those of the hub that runs, or its own.
async fn listeners(
    activated: Vec<TcpListener>,
    predecessor: Option<&Predecessor>,
    listen: &Address,
    is_exposed: bool,
) -> Result<Vec<Listener>, Failure> {
    let (from, passed) = match predecessor {
        _ if !activated.is_empty() => ("the service manager", activated),
        Some(predecessor) => {
            let copies = predecessor.listeners.iter().map(TcpListener::try_clone);
            (RUNNING, copies.collect::<io::Result<Vec<_>>>()?)
        }
        None => {
            let listener = Listener::bind(&listen.host, listen.port).await.map_err(|error| {
                format!("cannot listen on {listen}: {error}: choose another address with --listen")
            })?;
            return Ok(vec![listener]);
        }
    };
    let listeners = passed.into_iter().map(Listener::from_std).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().to_string()).collect();
    let addresses = addresses.join(", ");
    // The settings have been checked for a hub that only this machine reaches.
    if !is_exposed && listeners.iter().any(|listener| !listener.address().ip().to_canonical().is_loopback()) {
        return Err(format!(
            "listen: other machines reach the socket of {from}, {addresses}, and listen says {listen}: give the address of \
             the socket as listen, or let the socket listen on loopback"
        )
        .into());
    }
    if from == RUNNING && !listeners.iter().any(|listener| listen.fits(listener.address())) {
        return Err(format!(
            "takeover: the hub that runs listens on {addresses}, and listen says {listen}: give each hub a takeover of its \
             own; to change the address of this one, stop the hub that runs, and start again"
        )
        .into());
    }
    tracing::info!(addresses, "the listening socket comes from {from}, and not from --listen");
    Ok(listeners)
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

/// The output of a command that ends: an error if it cannot be written.
fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
