//! What the service manager is told: systemd's notification protocol (`sd_notify(3)`).
//!
//! Without `NOTIFY_SOCKET` nothing is sent. Sending never waits and never fails: the hub works without a manager that listens.

#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::{
    env,
    ffi::OsStr,
    io,
    os::unix::{
        ffi::OsStrExt,
        net::{SocketAddr, UnixDatagram},
    },
    path::Path,
    process,
    time::Duration,
};

use petasos_hub::Hub;
use tokio::time::{MissedTickBehavior, interval};

/// How often the status is looked at. It is sent when it has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// The hub serves: at its start, and after each reload.
pub fn ready() {
    send("READY=1");
}

/// New settings are being read. [`ready`] says that they are in force, or that the old ones stay.
pub fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
}

/// The hub has begun to end.
pub fn stopping() {
    send("STOPPING=1");
}

/// Sends the status of a hub when it has changed, and signs of life as often as the manager asks for them, until the hub or
/// its log has failed in a way that only a restart mends. As a task of the hub's runtime, it says nothing if that hangs.
pub async fn report(hub: Hub) {
    if socket().is_none() {
        return;
    }
    let watchdog = watchdog();
    let mut ticks = interval(watchdog.map_or(STATUS_INTERVAL, |time| (time / 2).min(STATUS_INTERVAL)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        ticks.tick().await;
        let status = status(&hub);
        if status != told {
            send(&format!("STATUS={status}"));
            told = status;
        }
        if hub.has_failed() {
            return;
        }
        if watchdog.is_some() && !hub.needs_restart() {
            send("WATCHDOG=1");
        }
    }
}

fn status(hub: &Hub) -> String {
    let streams = hub.stats().subscribers;
    let condition = match hub {
        hub if hub.has_failed() => "the hub has failed",
        hub if hub.needs_restart() => "the log has failed",
        hub if hub.is_leaving() => "the hub is about to stop",
        hub if hub.is_ready() => "the log takes updates",
        _ => "the log takes no updates",
    };
    format!("{streams} streams; {condition}")
}

/// The longest silence that the manager allows this process; `None`: any.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_meant = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(process::id()));
    let time = number("WATCHDOG_USEC").map(Duration::from_micros);
    time.filter(|time| is_meant && *time >= Duration::from_millis(1))
}

fn send(message: &str) {
    let Some(address) = socket() else { return };
    if let Err(error) = send_to(&address, message) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

fn send_to(address: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), address).map(drop)
}

/// Where the manager listens. A name that begins with `@` is in Linux' abstract namespace.
fn socket() -> Option<SocketAddr> {
    let name = env::var_os("NOTIFY_SOCKET")?;
    match name.as_bytes().strip_prefix(b"@") {
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(Path::new(OsStr::from_bytes(name.as_bytes()))).ok(),
    }
}
