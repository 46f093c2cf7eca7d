//! Whether a hub works: it is alive, it stops, or it has failed.
//!
//! A hub has failed when a part of it has ended that it cannot do without, such as its reader of the log or a shard. It
//! then refuses updates and subscribers. It cannot be mended: the process starts another one.

use std::{sync::Arc, thread};

use tokio::{sync::watch, task::JoinHandle};

/// The condition of one hub, shared by all of its parts.
pub(crate) struct Health(watch::Sender<Condition>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Alive,
    /// [`crate::Hub::stop`] has been called.
    Stopping,
    Failed,
}

impl Default for Health {
    fn default() -> Self {
        Self(watch::Sender::new(Condition::Alive))
    }
}

impl Health {
    /// Whether the hub takes updates and subscribers.
    pub(crate) fn is_alive(&self) -> bool {
        *self.0.borrow() == Condition::Alive
    }

    /// The condition in one word.
    pub(crate) fn as_str(&self) -> &'static str {
        match *self.0.borrow() {
            Condition::Alive => "alive",
            Condition::Stopping => "stopping",
            Condition::Failed => "failed",
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        *self.0.borrow() == Condition::Failed
    }

    /// From now on the end of a part is no failure. A hub that has failed stays so.
    pub(crate) fn stop(&self) {
        self.leave_alive(Condition::Stopping);
    }

    /// A part of the hub has ended. Unless the hub stops, it has failed, and the log says so once.
    pub(crate) fn fail(&self, part: &str) {
        if self.leave_alive(Condition::Failed) {
            tracing::error!(
                part,
                "the hub has failed: it refuses updates and subscribers, and its process has to start it again"
            );
        }
    }

    /// Runs a part of the hub as a task of the current tokio runtime. The hub fails if the part ends, also by a panic,
    /// unless the hub stops or the task is aborted.
    pub(crate) fn guard(
        self: &Arc<Self>,
        part: &'static str,
        run: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let health = Arc::clone(self);
        tokio::spawn(async move {
            let end = FailsOnPanic(health, part);
            run.await;
            end.0.fail(part);
        })
    }

    /// Waits until the hub has failed.
    pub(crate) async fn failed(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self.0.subscribe().wait_for(|condition| *condition == Condition::Failed).await;
    }

    /// False: the hub was not alive any more.
    fn leave_alive(&self, next: Condition) -> bool {
        self.0.send_if_modified(|condition| {
            let was_alive = *condition == Condition::Alive;
            if was_alive {
                *condition = next;
            }
            was_alive
        })
    }
}

/// Makes the hub fail if the part that holds it panics. A task that is aborted drops it, too, which is no failure.
struct FailsOnPanic(Arc<Health>, &'static str);

impl Drop for FailsOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(self.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_while_the_hub_stops_is_no_failure() {
        let health = Health::default();
        assert!(health.is_alive() && !health.has_failed());
        health.stop();
        health.fail("a shard");
        assert!(!health.is_alive() && !health.has_failed());
    }

    #[tokio::test]
    async fn a_hub_that_has_failed_stays_so_and_tells_whoever_waits() {
        let health = Health::default();
        let (failed, ()) = tokio::join!(health.failed(), async { health.fail("a shard") });
        assert_eq!(failed, ());
        health.stop();
        assert!(!health.is_alive() && health.has_failed());
        health.failed().await;
    }
}
