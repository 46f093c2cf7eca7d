//! Reading files that may not answer, such as those of a server that is away.

use std::time::Duration;

use tokio::{
    task::{AbortHandle, spawn_blocking},
    time::timeout,
};

use crate::failure::Failure;

/// Reads on a thread for that, and does not wait for ever. At most one thread hangs.
pub(crate) struct Reading {
    max: Duration,
    /// What was not done in its time.
    late: Option<AbortHandle>,
}

impl Reading {
    /// With this time for each call of [`Reading::read`].
    pub(crate) fn new(max: Duration) -> Self {
        Self { max, late: None }
    }

    /// # Errors
    /// The time is over, or a former call that was late still goes on. A panic of `read`.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        const LATE: &str =
            "a file does not answer: is one a pipe without a writer, or on a server that is away?";
        if self.late.as_ref().is_some_and(|late| !late.is_finished()) {
            return Err(LATE.into());
        }
        let mut task = spawn_blocking(read);
        if let Ok(done) = timeout(self.max, &mut task).await {
            return Ok(done?);
        }
        self.late = Some(task.abort_handle());
        tracing::warn!("{LATE} Settings and key files cannot be read meanwhile");
        Err(LATE.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn one_thread_hangs_at_most_and_then_it_goes_on() {
        let mut reading = Reading::new(Duration::from_millis(10));
        let (answer, answered) = mpsc::sync_channel::<()>(1);
        assert!(reading.read(move || answered.recv()).await.is_err());
        assert!(reading.read(|| panic!("it is not called")).await.is_err());
        drop(answer);
        reading.max = Duration::from_secs(60);
        while !reading.late.as_ref().expect("late").is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(reading.read(|| 7).await.ok(), Some(7));
    }
}
