//! The short way of an event: from its shard to the socket, past the task of the connection.
//!
//! A task that is woken for each event costs more than the event. So a shard writes by itself where that is one write for one
//! event: on a connection with one stream, of which everything is sent. With more streams, the task is woken once for all of
//! them, and writes what they have to send together.

use std::collections::VecDeque;

use bytes::Bytes;
use petasos_hub::Writer;
use tokio::time::Instant;

use super::shared::Shared;

/// Sends the events of one stream.
pub(super) struct Direct {
    pub(super) shared: Shared,
    /// The stream.
    pub(super) id: u32,
    /// When it ends at the latest. It sends nothing more then.
    pub(super) close_at: Option<Instant>,
}

impl Writer for Direct {
    fn write(&mut self, events: &mut VecDeque<Bytes>) -> usize {
        if self.close_at.is_some_and(|close_at| close_at <= Instant::now()) {
            return 0;
        }
        // Its task has it: then that task goes on with the events, too.
        let Some(mut endpoint) = self.shared.try_lock() else { return 0 };
        let mut bytes = 0;
        while let Some(event) = events.front()
            && endpoint.send_direct(self.id, event)
        {
            bytes += event.len();
            events.pop_front();
        }
        if bytes > 0 && !self.shared.try_write(&mut endpoint, || Instant::now().into_std()) {
            endpoint.wake(self.id);
        }
        bytes
    }
}
