//! Connections of HTTP/2 that subscribers share: each has room for so many, and ends with the last of them.

use std::collections::BTreeSet;

use bytes::Bytes;
use mio::{Registry, Token};
use slab::Slab;

use crate::{
    Failure,
    http2::{Connection, Heard, Window},
    request::Request,
    wire::Dialer,
};

/// The connections, by number; the event queue knows them by the same.
pub(crate) struct Pool {
    streams_per_connection: usize,
    connections: Slab<Shared>,
    with_room: BTreeSet<(Window, usize)>,
    /// Those that have something to send, of which the event queue does not know.
    due: Vec<usize>,
}

struct Shared {
    connection: Connection,
    window: Window,
}

/// Where a subscriber's stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    connection: usize,
    stream: usize,
}

/// A connection that has ended.
pub(crate) struct Broken {
    pub(crate) failure: Failure,
    /// Whose streams were on it.
    pub(crate) owners: Vec<usize>,
}

impl Pool {
    pub(crate) fn new(streams_per_connection: usize) -> Self {
        Self { streams_per_connection, connections: Slab::new(), with_room: BTreeSet::new(), due: Vec::new() }
    }

    /// Begins a stream, on a new connection if no other has room.
    pub(crate) fn ask(
        &mut self,
        dialer: &mut Dialer,
        registry: &Registry,
        owner: usize,
        window: Window,
        request: &Request,
    ) -> Result<Place, Failure> {
        let head = request.to_http2()?;
        let found = self.with_room.range((window, 0)..=(window, usize::MAX)).next_back();
        let number = match found {
            Some((_, number)) => *number,
            None => {
                let place = self.connections.vacant_entry();
                let number = place.key();
                let wire = dialer.dial(registry, Token(number), None)?;
                place.insert(Shared { connection: Connection::new(wire, window), window });
                number
            }
        };
        let stream = self.connections[number].connection.ask(owner, head, Bytes::new());
        self.due.push(number);
        self.settle(number);
        Ok(Place { connection: number, stream })
    }

    /// Ends a stream.
    pub(crate) fn leave(&mut self, place: Place) {
        if let Some(shared) = self.connections.get_mut(place.connection) {
            shared.connection.reset(place.stream);
            self.due.push(place.connection);
            self.settle(place.connection);
        }
    }

    /// Whether [`Self::take_due`] has something.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Those that want a turn without an event.
    pub(crate) fn take_due(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.due)
    }

    /// Sees to a connection.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn turn(
        &mut self,
        number: usize,
        is_writable: bool,
        hear: &mut dyn FnMut(usize, Heard<'_>) -> bool,
    ) -> Result<(), Broken> {
        // It may have ended with its last stream.
        let Some(shared) = self.connections.get_mut(number) else { return Ok(()) };
        let outcome = shared.connection.turn(is_writable, hear);
        let broken =
            outcome.map_err(|failure| Broken { failure, owners: shared.connection.owners().collect() });
        match broken {
            Ok(()) => self.settle(number),
            Err(_) => self.remove(number),
        }
        broken
    }

    /// Keeps count of the room on a connection.
    fn settle(&mut self, number: usize) {
        let Shared { connection, window } = &self.connections[number];
        let (streams, entry) = (connection.owners().len(), (*window, number));
        match streams {
            0 => self.remove(number),
            _ if streams < self.streams_per_connection => {
                self.with_room.insert(entry);
            }
            _ => {
                self.with_room.remove(&entry);
            }
        }
    }

    fn remove(&mut self, number: usize) {
        let shared = self.connections.remove(number);
        self.with_room.remove(&(shared.window, number));
    }
}
