//! How fast a log is: `appends <url> <updates> [appenders...]`, for example
//! `cargo run --release --example appends -- durable:///tmp/log 100000 1 16 256`. Each number of appenders adds that many
//! updates of 500 bytes, each of them waiting for its last append; then everything is read, and updates are looked up.

use std::{
    fs,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use petasos_hub::transport::{Position, Transport};
use petasos_protocol::{
    Limits,
    event::EventId,
    topic::{HubUrl, Topics},
    update::{Draft, Update},
};
use petasos_transports::{Options, Retention, open};

/// What one run may take for each number of appenders: slow ones stop then.
const RUN_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "appends <url> <updates> [appenders...]";
    let url = arguments.next().ok_or(usage)?;
    let count: usize = arguments.next().ok_or(usage)?.parse()?;
    let appenders = arguments.map(|each| each.parse()).collect::<Result<Vec<usize>, _>>()?;
    let retention = Retention { entries_max: 10_000_000, ..Retention::default() };
    let options = Options { retention, ..Options::default() };
    let start = Instant::now();
    let log = open(&url.parse()?, &options).await?;
    let head = log.head().await?.position;
    say(&format!("open at {}: {:?}", head.sequence, start.elapsed()));
    for appenders in appenders {
        append(&log, count, appenders).await;
    }
    read(&*log).await?;
    let memory = fs::read_to_string("/proc/self/status")?;
    let resident = memory.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("RssAnon"));
    say(&resident.collect::<Vec<_>>().join(", "));
    Ok(())
}

async fn append(log: &Arc<dyn Transport>, count: usize, appenders: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let tasks: Vec<_> = (0..appenders)
        .map(|_| {
            let (log, next) = (Arc::clone(log), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while next.fetch_add(1, Ordering::Relaxed) < count && start.elapsed() < RUN_MAX {
                    let update = update();
                    let start = Instant::now();
                    log.append(update).await.expect("append");
                    times.push(start.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("appender"));
    }
    let elapsed = start.elapsed();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    say(&format!(
        "{appenders} appenders: {:.0}/s; each {:?} (half), {:?} (99 %), {:?} (worst)",
        times.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    ));
}

async fn read(log: &dyn Transport) -> Result<(), petasos_hub::TransportError> {
    let (start, mut after, mut entries) = (Instant::now(), Position::EARLIEST, 0);
    let (mut first, mut last) = (None, None);
    loop {
        let page = log.read(after, 256).await?;
        entries += page.entries.len();
        after = page.through;
        first = first.or_else(|| page.entries.first().cloned());
        last = page.entries.last().cloned().or(last);
        if page.at_end {
            break;
        }
    }
    let elapsed = start.elapsed();
    say(&format!("read {entries} entries: {:.0}/s", entries as f64 / elapsed.as_secs_f64()));
    for (name, entry) in [("first", first), ("last", last)] {
        let Some(entry) = entry else { continue };
        let start = Instant::now();
        for _ in 0..ROUNDS {
            assert_eq!(log.locate(entry.update.id().as_str()).await?, Some(entry.position));
        }
        say(&format!("locate the {name}: {:?}", start.elapsed() / ROUNDS));
        let start = Instant::now();
        for _ in 0..ROUNDS {
            log.read(entry.position, 256).await?;
        }
        say(&format!("read a page after the {name}: {:?}", start.elapsed() / ROUNDS));
    }
    if entries > NEAR_THE_END {
        let near = Position { sequence: after.sequence - NEAR_THE_END as u64, ..after };
        let start = Instant::now();
        for _ in 0..ROUNDS {
            log.read(near, 256).await?;
        }
        say(&format!("read a page {NEAR_THE_END} before the last: {:?}", start.elapsed() / ROUNDS));
    }
    Ok(())
}

const ROUNDS: u32 = 200;
const NEAR_THE_END: usize = 9_000;

fn update() -> Update {
    let limits = Limits::default();
    let draft = Draft {
        topics: Topics::parse(["https://example.com/topic"], &HubUrl::default(), &limits).expect("topic"),
        data: "x".repeat(400),
        private: false,
        id: None,
        event_type: None,
        retry: None,
    };
    Update::publish(draft, || EventId::from_uuid(&uuid::Uuid::new_v4().hyphenated().to_string()))
}

fn say(line: &str) {
    writeln!(io::stdout(), "{line}").expect("standard output");
}
