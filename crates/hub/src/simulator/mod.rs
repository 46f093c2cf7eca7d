//! A simulator: parts of the hub as they are, in virtual time, with a store that fails in every way that its contract
//! allows. Everything that happens follows from one seed.
//!
//! - [`random`] and [`clock`]: random numbers from the seed, and virtual time.
//! - [`store`]: the store and its faults.
//! - [`report`]: what a run has seen, and whether that may be.
//! - [`presence`]: nodes that announce who is subscribed.
//! - [`log`] and [`streams`]: a log and its faults, and nodes that deliver it to subscribers.
//!
//! A seed that fails is printed. `PETASOS_SIMULATOR_SEED=n cargo test -p petasos-hub simulator` runs that seed alone and
//! prints what happened; `PETASOS_SIMULATOR_SEEDS=n` runs the seeds below n. A seed that has found a fault goes into
//! [`KEPT`].

mod clock;
mod log;
mod presence;
mod random;
mod report;
mod store;
mod streams;

use report::Counts;

/// Seeds of presence that each have found a fault, and the fault.
const KEPT: &[(u64, &str)] = &[
    (21, "not everybody is recorded again when a lease ends twice"),
    (27, "a renewal without an answer does not count as the end of the lease"),
    (405, "a subscriber is dropped whose arrival was recorded without an answer"),
];

/// Seeds of an ordinary run.
const SEEDS: u64 = 2_000;
const STREAM_SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Says which seed it was if a run panics.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("PETASOS_SIMULATOR_SEED={}", self.0);
        }
    }
}

#[test]
fn presence_converges_and_announces_each_change_once() {
    if let Some(seed) = number("PETASOS_SIMULATOR_SEED") {
        let seen = presence::run(seed, true).map_err(|problem| panic!("{problem}"));
        assert!(seen.is_ok());
        return;
    }
    let mut counts = Counts::default();
    let kept = KEPT.iter().map(|(seed, _)| *seed);
    for seed in kept.chain(0..number("PETASOS_SIMULATOR_SEEDS").unwrap_or(SEEDS)) {
        let _running = Running(seed);
        match presence::run(seed, false) {
            Ok(seen) => counts.add(seen),
            Err(problem) => panic!("{problem}"),
        }
    }
    let Counts { arrivals, dropped, leases_ended, recorded_again, expired, wiped } = counts;
    let rarest = [arrivals, dropped, leases_ended, recorded_again, expired, wiped].into_iter().min();
    assert!(rarest >= Some(100), "what is simulated too rarely is not simulated: {counts:?}");
}

#[test]
fn streams_are_runs_of_the_log_and_everybody_catches_up() {
    let mut counts = streams::Counts::default();
    let one = number("PETASOS_SIMULATOR_SEED");
    let end = number("PETASOS_SIMULATOR_SEEDS").unwrap_or(STREAM_SEEDS);
    for seed in one.map_or(0..end, |seed| seed..seed + 1) {
        match streams::run(seed) {
            Ok(seen) => counts.add(seen),
            Err(problem) => panic!("PETASOS_SIMULATOR_SEED={seed}: {problem}"),
        }
    }
    assert!(
        one.is_some() || counts.rarest() >= 100,
        "what is simulated too rarely is not simulated: {counts:?}"
    );
}
