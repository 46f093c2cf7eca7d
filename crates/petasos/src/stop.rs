//! The signals that end the binary.
//!
//! The main thread waits for them with a runtime of its own, so that they arrive even if the hub's runtime hangs. The
//! first signal asks the hub to stop, and the process ends at the deadline even if the hub does not. The second ends the
//! process at once.

use std::{future::pending, io, pin::pin, time::Duration};

use petasos::deadline::{AFTER_DRAIN, end_process, end_process_after};
use tokio::{
    runtime::{self, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Whether a signal has asked the hub to stop. Clones share the answer.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// The exit code of a process that did not stop in time.
const LATE: u8 = 1;

/// Added to the signal's number in the exit code of a process that a signal has ended, as shells report it.
const SIGNALLED: u8 = 128;

impl Stop {
    /// Waits for the first signal.
    pub(crate) async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
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
    tell: watch::Sender<bool>,
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
        let (tell, asked) = watch::channel(false);
        Ok((Self { runtime, interrupt, terminate, tell }, Stop(asked)))
    }

    /// Heeds them on this thread until the hub, which runs elsewhere, has ended.
    pub(crate) fn heed_until<T>(self, hub: impl Future<Output = T>, drain: Duration) -> T {
        let Self { runtime, mut interrupt, mut terminate, tell } = self;
        // The number of the next one.
        let mut next = async || {
            let kind = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            u8::try_from(kind.as_raw_value()).unwrap_or_default()
        };
        runtime.block_on(async {
            let mut hub = pin!(hub);
            tokio::select! {
                ended = &mut hub => return ended,
                _ = next() => {}
            }
            // Without a thread for the deadline, the second signal still ends the process.
            let _ = end_process_after(drain.saturating_add(AFTER_DRAIN), LATE);
            tracing::info!(
                "stopping: streams end, open requests are answered; a second signal ends the process at once"
            );
            tell.send_replace(true);
            tokio::select! {
                ended = hub => ended,
                number = next() => end_process(SIGNALLED + number),
            }
        })
    }
}
