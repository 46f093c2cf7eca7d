//! A process whose hub is broken. Each of these tests runs another test of this file in a process of its own.

use std::{
    env,
    process::{Command, Output},
    time::{Duration, Instant},
};

use petasos::{deadline, output::STANDARD_ERROR, telemetry};

fn run(child: &str) -> Output {
    let program = env::current_exe().expect("this program");
    Command::new(program).args(["--exact", child, "--ignored", "--nocapture"]).output().expect("it runs")
}

#[test]
fn a_panic_is_logged_with_its_place_and_without_its_message() {
    let output = run("child_that_panics");
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<_> = log.lines().filter(|line| line.contains("panicked")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("crates/petasos/tests/hooks.rs:") && lines[0].contains("ERROR"), "{log}");
    assert!(!log.contains("of a peer"), "{log}");
}

#[test]
#[ignore = "run by another test as a process of its own"]
fn child_that_panics() {
    telemetry::init("info");
    let payload = env::args().count();
    std::thread::spawn(move || panic!("{payload} secrets of a peer")).join().expect_err("a panic");
    STANDARD_ERROR.flush(Duration::from_secs(10));
}

#[test]
fn a_process_that_hangs_ends_at_its_deadline() {
    let begun = Instant::now();
    let output = run("child_that_hangs");
    assert_eq!(output.status.code(), Some(7));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let log = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(log.contains("did not stop in time"), "{log}");
}

#[test]
#[ignore = "run by another test as a process of its own"]
fn child_that_hangs() {
    telemetry::init("info");
    // A lock that is never released: every part of the hub hangs.
    let (_standard_error, _standard_output) = (std::io::stderr().lock(), std::io::stdout().lock());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.spawn(async { std::thread::park_timeout(Duration::from_secs(3_600)) });
    deadline::end_process_after(Duration::from_millis(100), 7).expect("a thread");
    // It waits for the task.
    drop(runtime);
}
