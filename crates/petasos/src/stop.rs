//! The signals that end the binary.
//!
//! The main thread waits for them with a runtime of its own, so that they arrive even if the hub's runtime hangs. The
//! first signal asks the hub to stop, the second asks it to hurry, the third ends the process at once. Ctrl-C at a terminal
//! asks it to hurry by itself, and so does the first signal after another hub has taken over. The process ends at the deadline even if the hub does not.

use std::{
    future::pending,
    io::{self, IsTerminal},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use petasos::deadline::{AFTER_DRAIN, HURRY_MAX, end_process, end_process_after};
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Whether a signal has asked the hub to stop. Clones share the answer.
#[derive(Clone)]
pub(crate) struct Stop {
    asked: watch::Receiver<Asked>,
    /// Whether the hub ends without a signal.
    ends_already: Arc<AtomicBool>,
}

/// What signals have asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Nothing,
    Stop,
    Hurry,
}

/// The exit code of a process that did not stop in time.
const LATE: u8 = 1;

/// Added to the signal's number in the exit code of a process that a signal has ended, as shells report it.
const SIGNALLED: u8 = 128;

impl Stop {
    /// Waits for the first signal.
    pub(crate) async fn asked(&mut self) {
        self.reached(Asked::Stop).await;
    }

    /// Waits for the signal that asks to hurry.
    pub(crate) async fn hurried(&mut self) {
        self.reached(Asked::Hurry).await;
    }

    /// Says that the hub ends without a signal, so the next one asks it to hurry.
    pub(crate) fn ends_already(&self) {
        self.ends_already.store(true, Ordering::Relaxed);
    }

    async fn reached(&mut self, wanted: Asked) {
        if self.asked.wait_for(|asked| *asked >= wanted).await.is_err() {
            // The thread of the signals ends only with the process.
            pending::<()>().await;
        }
    }
}

/// The signals that end the process.
pub(crate) struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
    tell: watch::Sender<Asked>,
    ends_already: Arc<AtomicBool>,
}

impl Signals {
    /// Listens for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// If the system has no room for a file descriptor.
    pub(crate) fn listen() -> io::Result<(Self, Stop)> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let context = runtime.enter();
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        drop(context);
        let (tell, asked) = watch::channel(Asked::Nothing);
        let ends_already = Arc::new(AtomicBool::new(false));
        let stop = Stop { asked, ends_already: ends_already.clone() };
        Ok((Self { runtime, interrupt, terminate, tell, ends_already }, stop))
    }

    /// Heeds them on this thread until the hub, which runs elsewhere, has ended. `drain_max`: the time until the hub is told
    /// to stop.
    pub(crate) fn heed_until<T>(self, hub: impl Future<Output = T>, drain_max: impl Fn() -> Duration) -> T {
        let Self { runtime, mut interrupt, mut terminate, tell, ends_already } = self;
        let mut next = async || {
            tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            }
        };
        let ask = |asked: Asked| {
            let drain_max = if asked == Asked::Hurry { HURRY_MAX } else { drain_max() };
            // Without a thread for the deadline, further signals still end the process.
            let _ = end_process_after(drain_max.saturating_add(AFTER_DRAIN), LATE);
            tell.send_replace(asked);
        };
        runtime.block_on(async {
            let mut hub = pin!(hub);
            let first = tokio::select! {
                ended = &mut hub => return ended,
                first = next() => first,
            };
            let is_of_terminal = first == SignalKind::interrupt() && io::stdin().is_terminal();
            if !is_of_terminal && !ends_already.load(Ordering::Relaxed) {
                tracing::info!(
                    "stopping: streams end one after the other, requests are answered; a second signal ends all at once"
                );
                ask(Asked::Stop);
                tokio::select! {
                    ended = &mut hub => return ended,
                    _ = next() => {}
                }
            }
            tracing::info!("stopping at once: streams end; another signal ends the process without waiting for anything");
            ask(Asked::Hurry);
            tokio::select! {
                ended = hub => ended,
                last = next() => end_process(SIGNALLED + u8::try_from(last.as_raw_value()).unwrap_or_default()),
            }
        })
    }
}
