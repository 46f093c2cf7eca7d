//! The hub on its own.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use petasos::{Config, Secret, telemetry};
use petasos_server::{Connections, Key, Listener};
use tokio::signal::unix::{SignalKind, signal};

mod cli;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    if !telemetry::init("info") && std::env::var_os(telemetry::FILTER_VARIABLE).is_some() {
        tracing::warn!("{} is no filter: logging at info", telemetry::FILTER_VARIABLE);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(options)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "petasos: {failure}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn run(options: cli::Options) -> Result<(), Failure> {
    let cli::Options { listen, drain, .. } = &options;
    let (host, port) = cli::address(listen)?;
    let drain = Duration::from_secs(*drain);
    let mut config = Config::try_from(&options)?;
    let generated = config.publisher_key.is_none() && config.subscriber_key.is_none();
    let publisher_key = config.publisher_key.get_or_insert_with(Secret::random).clone();
    let subscriber_key = config.subscriber_key.get_or_insert_with(Secret::random).clone();
    let connections = config.check().map_err(|error| cli::explain(&error))?.start().await?;
    let listener = Listener::bind(&host, port).await.map_err(|error| {
        format!("cannot listen on {listen}: {error}: choose another address with --listen")
    })?;
    if generated {
        // Someone who tries the hub needs these; someone who runs it has given keys, and nothing secret is shown.
        say(&format!("Publisher key: {}", String::from_utf8_lossy(publisher_key.expose())))?;
        say(&format!("Subscriber key: {}", String::from_utf8_lossy(subscriber_key.expose())))?;
        let token = Key::secret(publisher_key.expose())?.sign(r#"{"mercure":{"publish":["*"]}}"#);
        say(&format!("Publisher JWT: {token}"))?;
    }
    let path = connections.service().hub().url().path();
    say(&format!("Serving on http://{}{path}", listener.address()))?;
    let stopper = tokio::spawn(stop_on_signal(connections.clone()));
    listener.serve(connections, drain).await;
    stopper.await??;
    Ok(())
}

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
