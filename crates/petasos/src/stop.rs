//! The signals that end the binary.
//!
//! A thread with a runtime of its own waits for them, so that they arrive even if the hub's runtime hangs. The first
//! signal asks the hub to stop, and the process ends at the deadline even if the hub does not. The second ends the
//! process at once.

use std::{future::pending, io, thread, time::Duration};

use petasos::deadline::{AFTER_DRAIN, end_process, end_process_after};
use tokio::{
    runtime,
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
    /// Listens for SIGINT and SIGTERM from now on.
    ///
    /// # Errors
    /// If the system has no room for a thread or a file descriptor.
    pub(crate) fn on_signals(drain: Duration) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _context = runtime.enter();
            Signals {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            }
        };
        let (tell, asked) = watch::channel(false);
        thread::Builder::new().name("petasos-signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                signals.next().await;
                // Without a thread for the deadline, the second signal still ends the process.
                let _ = end_process_after(drain.saturating_add(AFTER_DRAIN), LATE);
                tracing::info!("stopping: streams end, open requests are answered; a second signal ends the process at once");
                tell.send_replace(true);
                let number = signals.next().await;
                end_process(SIGNALLED + number);
            });
        })?;
        Ok(Self(asked))
    }

    /// Waits for the first signal.
    pub(crate) async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            // The thread of the signals ends only with the process.
            pending::<()>().await;
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Waits for the next one and returns its number.
    async fn next(&mut self) -> u8 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        u8::try_from(kind.as_raw_value()).unwrap_or_default()
    }
}
