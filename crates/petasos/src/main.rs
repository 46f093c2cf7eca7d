//! The binary: a hub as a process of its own, and the commands about its tokens.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use petasos::{
    Checked,
    activation::Activated,
    deadline::LAST_LINES_MAX,
    output::{STANDARD_ERROR, STANDARD_OUTPUT},
    telemetry,
};
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
};

use crate::{
    cli::Task,
    failure::{Failure, WRONG_SETTINGS, WrongSettings},
    serve::serve,
    settings::Options,
    stop::Signals,
};

mod acme;
mod admin;
mod certificates;
mod check;
mod cli;
mod development;
mod ending;
mod failure;
mod health;
mod listing;
mod prepare;
mod reading;
mod redirect;
mod reload;
mod serve;
mod settings;
mod start;
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
    let task = cli::task(&matches).map_err(|problem| WrongSettings(problem.into()).into());
    match task.and_then(|task| run_to_end(task, activated)) {
        Ok(code) => code,
        Err(failure) => {
            STANDARD_ERROR.print(&format!("petasos: {failure}"));
            STANDARD_ERROR.flush(FAILURE_MAX);
            if failure.is::<WrongSettings>() { WRONG_SETTINGS.into() } else { ExitCode::FAILURE }
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

/// The output of a command that ends: an error if it cannot be written.
fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
