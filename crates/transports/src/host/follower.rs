//! One reader of what is appended. When another process begins to lead, it continues at its position.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    transport::{Entry, Follower, Position},
};
use tokio::time::{Instant, sleep, timeout_at};

use super::access::Host;
use crate::shared::pace::Seat;

pub(super) struct HostFollower {
    host: Arc<Host>,
    /// Everything up to here has been given.
    position: Position,
    current: Option<Box<dyn Follower>>,
    /// Whether it has followed before.
    has_begun: bool,
    seat: Seat,
}

/// The pause after an access that could not be followed.
const PAUSE: Duration = Duration::from_millis(20);

/// An access that cannot be followed for so long is given up.
const PATIENCE: Duration = Duration::from_secs(2);

impl HostFollower {
    /// Follows what comes after a position.
    ///
    /// # Errors
    /// [`TransportError::Trimmed`], and [`TransportError::Unavailable`] if nobody leads until the deadline.
    pub(super) async fn begin(
        host: &Arc<Host>,
        after: Position,
        deadline: Instant,
    ) -> Result<Self, TransportError> {
        let seat = host.pace.enter(after);
        let mut begun =
            Self { host: Arc::clone(host), position: after, current: None, has_begun: false, seat };
        let followed = timeout_at(deadline, begun.follow()).await;
        followed
            .unwrap_or_else(|_| Err(TransportError::unavailable("no process of this host leads the log")))?;
        Ok(begun)
    }

    /// Follows at the present access.
    async fn follow(&mut self) -> Result<&mut Box<dyn Follower>, TransportError> {
        let began = Instant::now();
        while self.current.is_none() {
            let access = self.host.open().await?;
            let follower = match self.has_begun {
                true => access.resume(self.position).await,
                false => access.log().follow(self.position).await,
            };
            match follower {
                Ok(follower) => (self.current, self.has_begun) = (Some(follower), true),
                Err(error @ TransportError::Trimmed) => return Err(error),
                Err(_) => {
                    if began.elapsed() >= PATIENCE {
                        // Requests are answered, and nobody can be followed: the socket may be another process's.
                        access.give_up();
                    }
                    sleep(PAUSE).await;
                }
            }
        }
        Ok(self.current.as_mut().expect("it is there now"))
    }
}

#[async_trait]
impl Follower for HostFollower {
    async fn next(&mut self) -> Result<Vec<Entry>, TransportError> {
        loop {
            match self.follow().await?.next().await {
                Ok(entries) => {
                    if let Some(last) = entries.last() {
                        self.position = last.position;
                        self.seat.move_to(last.position);
                        self.host.saw(last.position);
                    }
                    return Ok(entries);
                }
                Err(error @ TransportError::Trimmed) => return Err(error),
                Err(_) => {
                    self.current = None;
                    sleep(PAUSE).await;
                }
            }
        }
    }
}
