//! A look at the log for those who read the numbers of a node: how far the node lags behind it, and what it holds.
//!
//! It is taken when somebody reads the numbers, and never otherwise: an idle hub asks its store nothing.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::{
    TransportError,
    delivered::Delivered,
    log::transport::{Extent, Transport},
};

/// What the looks at the log of one node have found. At most one look is under way.
#[derive(Clone)]
pub(crate) struct Survey(watch::Sender<Found>);

/// The last finding.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    /// When the look that is under way began.
    began: Option<Instant>,
    lag: Option<Duration>,
    extent: Extent,
}

/// How long a reader waits for a look. A log in this process or on its disk has answered by then; what another one answers is
/// in the next reading.
const PATIENCE: Duration = Duration::from_millis(100);

/// The pause before an unavailable log is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest that a log may take to say what it holds.
const EXTENT_MAX: Duration = Duration::from_secs(5);

impl Default for Survey {
    fn default() -> Self {
        Self(watch::Sender::new(Found::default()))
    }
}

impl Survey {
    /// Looks at the log unless somebody else does so already, and waits for the result, [`PATIENCE`] at most.
    pub(crate) async fn look(&self, transport: &Arc<dyn Transport>, delivered: &watch::Receiver<Delivered>) {
        let begins = self.0.send_if_modified(|found| {
            let begins = found.began.is_none();
            if begins {
                found.began = Some(Instant::now());
            }
            begins
        });
        if begins {
            let look = self.clone().run(Arc::clone(transport), delivered.clone());
            tokio::spawn(look);
        }
        let mut found = self.0.subscribe();
        // A time-out leaves the look to the next reading.
        let _ = timeout(PATIENCE, found.wait_for(|found| found.began.is_none())).await;
    }

    async fn run(self, transport: Arc<dyn Transport>, mut delivered: watch::Receiver<Delivered>) {
        let head = loop {
            match transport.head().await {
                Ok(head) => break head,
                // The node lags as long as this lasts. It is over with the node's reader of the log.
                Err(TransportError::Unavailable(_)) if delivered.has_changed().is_ok() => sleep(PAUSE).await,
                Err(_) => return self.end(None, Extent::default()),
            }
        };
        let is_level = delivered.wait_for(|delivered| delivered.head.position >= head.position).await.is_ok();
        let lag = self.pending().filter(|_| is_level);
        let extent = timeout(EXTENT_MAX, transport.extent()).await;
        self.end(lag, extent.ok().and_then(Result::ok).unwrap_or_default());
    }

    fn end(&self, lag: Option<Duration>, extent: Extent) {
        self.0.send_replace(Found { began: None, lag, extent });
    }

    /// How long the look that is under way has taken.
    fn pending(&self) -> Option<Duration> {
        self.0.borrow().began.map(|began| began.elapsed())
    }

    /// The lag, which grows while a look is under way, and what the log held at the last look.
    pub(crate) fn found(&self) -> (Option<Duration>, Extent) {
        let Found { began, lag, extent } = *self.0.borrow();
        (began.map(|began| began.elapsed()).max(lag), extent)
    }
}
