//! How fast a host's log is: `host <url> <processes> <seconds>`, for example
//! `cargo run --release --example host -- host:///dev/shm/measured 4 10`. It starts so many processes, each of which follows
//! the log. First one of them that does not lead publishes 100 updates a second, and the others say how long each took to
//! arrive. Then all publish as fast as they can, 16 updates at once in each. Then all are idle.

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use petasos_hub::transport::Transport;
use petasos_protocol::{
    Limits,
    event::EventId,
    topic::{HubUrl, Topics},
    update::{Draft, Update},
};
use petasos_transports::{Options, Retention, open};

/// Updates a second while latency is measured.
const RATE: u64 = 100;

/// Updates that each process publishes at once.
const APPENDERS: usize = 16;

/// The number of a process among those that another one has started.
const MEMBER: &str = "MEASURED_MEMBER";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [url, processes, seconds] = &arguments[..] else {
        return Err("host <url> <processes> <seconds>".into());
    };
    match env::var(MEMBER) {
        Ok(member) => measure(url, member.parse()?, Duration::from_secs(seconds.parse()?)).await,
        Err(_) => direct(&arguments, processes.parse()?),
    }
}

/// Starts the processes one after the other, so that the first one leads, and lets them go from phase to phase together.
fn direct(arguments: &[String], processes: usize) -> Result<(), Box<dyn Error>> {
    let mut children = Vec::new();
    for member in 0..processes {
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .env(MEMBER, member.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("piped")?);
        children.push((child, output));
        let (_, output) = children.last_mut().ok_or("just added")?;
        line(output)?;
    }
    for phase in ["latency", "throughput", "idle"] {
        say(phase);
        for (Child { stdin, .. }, _) in &mut children {
            stdin.as_mut().ok_or("piped")?.write_all(b"go\n")?;
        }
        for (member, (_, output)) in children.iter_mut().enumerate() {
            say(&format!("  process {member}: {}", line(output)?));
        }
    }
    for (mut child, _) in children {
        child.wait()?;
    }
    Ok(())
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

async fn measure(url: &str, member: usize, time: Duration) -> Result<(), Box<dyn Error>> {
    let retention = Retention { entries_max: 10_000, ..Retention::default() };
    let log = open(&url.parse()?, &Options { retention, ..Options::default() }).await?;
    let mut follower = log.follow(log.head().await?.position).await?;
    let (followed, arrivals) = (Arc::new(AtomicU64::new(0)), Arc::new(std::sync::Mutex::new(Vec::new())));
    tokio::spawn({
        let (followed, arrivals) = (Arc::clone(&followed), Arc::clone(&arrivals));
        async move {
            while let Ok(entries) = follower.next().await {
                followed.fetch_add(entries.len() as u64, Ordering::Relaxed);
                for entry in entries {
                    if let Some(sent) = entry.update.id().as_str().strip_prefix("at-") {
                        let sent: u64 = sent.parse().unwrap_or_default();
                        arrivals.lock().expect("no panic").push(now().saturating_sub(sent));
                    }
                }
            }
        }
    });
    say("ready");
    let mut phases = io::stdin().lines();
    phases.next();
    if member == 1 {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE as u32);
        let end = Instant::now() + time;
        while Instant::now() < end {
            ticks.tick().await;
            log.append(update(&format!("at-{}", now()))?).await?;
        }
    } else {
        tokio::time::sleep(time + Duration::from_millis(200)).await;
    }
    let mut found = std::mem::take(&mut *arrivals.lock().expect("no panic"));
    found.sort_unstable();
    let at = |part: f64| found.get((found.len() as f64 * part) as usize).copied().unwrap_or_default();
    say(&format!("{} arrivals, us: p50 {}, p99 {}, max {}", found.len(), at(0.5), at(0.99), at(1.0 - 1e-9)));
    phases.next();
    let (begun, before, cpu) = (Instant::now(), followed.load(Ordering::Relaxed), processor_ms()?);
    let mut appenders = tokio::task::JoinSet::new();
    for number in 0..APPENDERS {
        let log = Arc::clone(&log);
        appenders.spawn(async move { append(log, member, number, begun + time).await });
    }
    let appended: u64 = appenders.join_all().await.iter().sum();
    let rate = appended as f64 / begun.elapsed().as_secs_f64();
    let seen = followed.load(Ordering::Relaxed) - before;
    say(&format!(
        "{rate:.0} appended a second, {seen} followed, {} ms of processor time",
        processor_ms()? - cpu
    ));
    phases.next();
    // What the others have still to say is over.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = processor_ms()?;
    tokio::time::sleep(time).await;
    let part = (processor_ms()? - cpu) as f64 / time.as_millis() as f64;
    say(&format!("{:.3} % of a core", part * 100.0));
    Ok(())
}

async fn append(log: Arc<dyn Transport>, member: usize, appender: usize, end: Instant) -> u64 {
    let mut count = 0;
    while Instant::now() < end {
        let Ok(update) = update(&format!("{member}-{appender}-{count}")) else { break };
        if log.append(update).await.is_ok() {
            count += 1;
        }
    }
    count
}

fn update(id: &str) -> Result<Update, Box<dyn Error>> {
    let limits = Limits::default();
    let draft = Draft {
        topics: Topics::parse(["topic"], &HubUrl::default(), &limits)?,
        data: "x".repeat(200),
        private: false,
        id: Some(EventId::parse(id, &limits)?),
        event_type: None,
        retry: None,
    };
    Ok(Update::publish(draft, || unreachable!("an id was given")))
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// What this process has taken.
fn processor_ms() -> io::Result<u64> {
    let mut nanoseconds = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or_default();
    }
    Ok(nanoseconds / 1_000_000)
}

fn say(line: &str) {
    // An error means that nobody reads it.
    let _ = writeln!(io::stdout(), "{line}");
}
