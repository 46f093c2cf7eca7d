//! Room for what waits in this process for a store: bounded in number and in bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that wait in this process for one store. As many as a hub reads of publishers' bodies at once, twice.
pub(crate) const WAITING_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// The room of one store.
///
/// Each entry counts as at least its share, `bytes_max / entries_max`, so that one semaphore keeps both bounds.
pub(crate) struct Room {
    free: Arc<Semaphore>,
    bytes_max: usize,
    share: usize,
}

/// The room of one entry. Dropping it gives the room back.
pub(crate) type Permit = OwnedSemaphorePermit;

impl Room {
    /// Room for `entries_max` entries that have `bytes_max` bytes together, at most 4 GiB.
    pub(crate) fn new(entries_max: usize, bytes_max: u32) -> Self {
        let bytes_max = bytes_max as usize;
        let share = (bytes_max / entries_max).max(1);
        Self { free: Arc::new(Semaphore::new(bytes_max)), bytes_max, share }
    }

    /// Waits for the room of an entry, behind those that came before. An entry that is larger than the whole room takes
    /// all of it.
    pub(crate) async fn take(&self, bytes: usize) -> Permit {
        let bytes = u32::try_from(bytes.clamp(self.share, self.bytes_max)).expect("the bound is a u32");
        let permit = Arc::clone(&self.free).acquire_many_owned(bytes).await;
        permit.expect("the semaphore is never closed")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    fn taken(room: &Room, bytes: usize) -> Option<Permit> {
        match pin!(room.take(bytes)).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(permit) => Some(permit),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn entries_are_bounded_in_number() {
        let room = Room::new(4, 400);
        let permits: Vec<_> = (0..4).map(|_| taken(&room, 0).expect("there is room")).collect();
        assert!(taken(&room, 0).is_none());
        drop(permits);
        assert!(taken(&room, 0).is_some());
    }

    #[test]
    fn entries_are_bounded_in_bytes() {
        let room = Room::new(4, 400);
        let _large = taken(&room, 301).expect("there is room");
        assert!(taken(&room, 1).is_none(), "99 bytes are less than the share of an entry");
        let room = Room::new(4, 400);
        let _all = taken(&room, 1_000).expect("it is larger than the room");
        assert!(taken(&room, 0).is_none());
    }
}
