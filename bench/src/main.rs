//! The load tool.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use petasos_bench::{Failure, bare::Bare, compare::Comparison};

use crate::cli::Task;

mod cli;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    match cli::task(&matches).and_then(|task| run(task, matches.get_flag("json"))) {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "petasos-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, json: bool) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let faultless = match task {
        Task::Measure(setup, scenario) => {
            let report = scenario.run(&setup)?;
            if json {
                writeln!(out, "{}", report.to_json())?
            } else {
                write!(out, "{report}")?
            }
            report.faults.is_empty()
        }
        Task::Bare(address) => {
            let server = Bare::bind(address)?;
            writeln!(out, "Serving on http://{}/", server.address()?)?;
            out.flush()?;
            server.serve()?;
            true
        }
        Task::Compare { file, rounds, servers, scenarios } => {
            let mut comparison = Comparison::read(&file)?;
            comparison.select(&servers, &scenarios)?;
            comparison.rounds = rounds.unwrap_or(comparison.rounds);
            let outcome = comparison.run(|next| {
                let _ = writeln!(io::stderr(), "{next}");
            })?;
            if json {
                writeln!(out, "{}", outcome.json)?
            } else {
                write!(out, "{}", outcome.text)?
            }
            for fault in &outcome.faults {
                writeln!(io::stderr(), "FAULT  {fault}")?;
            }
            outcome.faults.is_empty()
        }
    };
    Ok(if faultless { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
