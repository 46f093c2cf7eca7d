//! The hub on its own.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use petasos::{Checked, IssuerConfig, KeyConfig, Secret, telemetry};
use petasos_server::{Connections, Listener};
use tokio::signal::unix::{SignalKind, signal};

use crate::{cli::Task, settings::Options, token::Mint};

mod cli;
mod settings;
mod token;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    if !telemetry::init("info") && std::env::var_os(telemetry::FILTER_VARIABLE).is_some() {
        tracing::warn!("{} is no filter: logging at info", telemetry::FILTER_VARIABLE);
    }
    let task = cli::task(&matches).map_err(Failure::from);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match task.and_then(|task| runtime()?.block_on(run(task))) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "petasos: {failure}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn run(task: Task) -> Result<ExitCode, Failure> {
    match task {
        Task::Serve(options) => serve(*options).await?,
        Task::Mint(options, mint) => {
            let issuer = options.issuer.clone();
            say(&mint.sign(&issuer, &check(*options)?).await?)?;
        }
        Task::Inspect(token) => say(&token::inspect(&token)?)?,
        Task::Explain(options, explain) => {
            let (allowed, text) = explain.run(&check(*options)?).await;
            say(&text)?;
            return Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The settings of a hub that listens where they say.
fn check(options: Options) -> Result<Checked, Failure> {
    let Options { mut config, issuer, listen, .. } = options;
    if config.public_url.is_none() {
        let (_, port) = cli::address(&listen)?;
        config.public_url = Some(match port {
            0 => "http://localhost/.well-known/mercure".to_owned(),
            port => format!("http://localhost:{port}/.well-known/mercure"),
        });
    }
    config.issuers.insert(0, issuer);
    Ok(config.check().map_err(|error| settings::explain(&error))?)
}

async fn serve(mut options: Options) -> Result<(), Failure> {
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
    let (listen, drain) = (options.listen.clone(), options.drain);
    let (host, port) = cli::address(&listen)?;
    // Someone who tries the hub needs keys; someone who runs it has given some, and nothing secret is shown.
    let generated = options.issuer
        == IssuerConfig { id: options.issuer.id.clone(), ..IssuerConfig::default() }
        && options.config.issuers.is_empty();
    if generated {
        options.issuer.publisher.key = Some(Secret::random());
        options.issuer.subscriber.key = Some(Secret::random());
    }
    let subscribers = |issuer: &IssuerConfig| issuer.subscriber != KeyConfig::default();
    if !options.config.anonymous
        && !subscribers(&options.issuer)
        && !options.config.issuers.iter().any(subscribers)
    {
        return Err("nobody could subscribe: give --subscriber-key, or let everyone with --anonymous".into());
    }
    let issuer = options.issuer.clone();
    let compat = options.config.compat;
    let checked = check(options)?;
    let greeting = if generated { greeting(&issuer, &checked, compat).await? } else { Vec::new() };
    let connections = checked.start().await?;
    let listener = Listener::bind(&host, port).await.map_err(|error| {
        format!("cannot listen on {listen}: {error}: choose another address with --listen")
    })?;
    for line in greeting {
        say(&line)?;
    }
    let path = connections.service().hub().url().path();
    say(&format!("Serving on http://{}{path}", listener.address()))?;
    let stopper = tokio::spawn(stop_on_signal(connections.clone()));
    // On a thread of the runtime: to wake this one for each connection would cost a call of the system.
    tokio::spawn(listener.serve(connections, drain)).await?;
    stopper.await??;
    Ok(())
}

/// The keys of a hub that has made its own, and a token to try it with.
async fn greeting(issuer: &IssuerConfig, hub: &Checked, compat: bool) -> Result<Vec<String>, Failure> {
    let shown = |key: &Option<Secret>| {
        key.as_ref().map(|key| String::from_utf8_lossy(key.expose()).into_owned()).unwrap_or_default()
    };
    let mint = Mint {
        publish: vec!["*".to_owned()],
        subject: "petasos".to_owned(),
        legacy: compat,
        issued_at: token::now(),
        expires_in: TRIAL,
        ..Mint::default()
    };
    Ok(vec![
        format!("Publisher key: {}", shown(&issuer.publisher.key)),
        format!("Subscriber key: {}", shown(&issuer.subscriber.key)),
        format!("Publisher JWT: {}", mint.sign(issuer, hub).await?),
    ])
}

/// Longer than a hub with random keys is run.
const TRIAL: Duration = Duration::from_secs(365 * 24 * 3600);

/// One line on standard output, at once, also through a pipe.
fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

async fn stop_on_signal(connections: Connections) -> io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("stopping: streams end, open requests are answered");
    connections.stop().await;
    Ok(())
}
