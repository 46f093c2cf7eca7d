//! The two kinds of members that a shard feeds: streams that are polled, and streams on sockets.

use std::{io, sync::Arc, time::Instant};

use mio::{Registry, event::Event};

use crate::{
    Admission,
    fanout::{
        key::MemberKey,
        ring::{EntryNumber, Newest, Ring},
        shard::Shard,
        sink::{Eviction, Gone, Sink, Tick},
    },
    interest::Interest,
    log::transport::Position,
    stream::{
        polled::member::Polled,
        socket::parked::{Evicted, Parked, Scratch},
    },
};

/// A live stream, as its shard feeds it.
pub(crate) enum Carrier {
    Polled(Polled),
    Socket(Parked<Shard<Carrier>>),
}

impl Sink for Carrier {
    type Evicted = Evicted<Shard<Self>>;
    type Scratch<'ring> = Scratch<'ring>;

    fn interest(&self) -> &Arc<Interest> {
        match self {
            Self::Polled(polled) => polled.interest(),
            Self::Socket(parked) => parked.interest(),
        }
    }

    fn admission(&self) -> Option<Admission> {
        match self {
            Self::Polled(polled) => polled.admission(),
            Self::Socket(parked) => parked.admission(),
        }
    }

    fn admit(&mut self, key: MemberKey, readiness: &Registry) -> io::Result<()> {
        match self {
            Self::Polled(polled) => polled.admit(key),
            Self::Socket(parked) => parked.admit(key, readiness),
        }
    }

    fn withdraw(&mut self, readiness: &Registry) {
        if let Self::Socket(parked) = self {
            parked.withdraw(readiness);
        }
    }

    fn push<'ring>(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        ring: &'ring Ring,
        scratch: &mut Scratch<'ring>,
        now: Instant,
    ) -> Result<(), Gone> {
        match self {
            Self::Polled(polled) => {
                polled.push(entries, ring, now);
                Ok(())
            }
            Self::Socket(parked) => parked.push(entries, ring, scratch, now),
        }
    }

    fn caught_up(&mut self, ring: &Ring, after: Position, now: Instant) -> Result<(), Gone> {
        match self {
            Self::Polled(polled) => {
                polled.caught_up(ring, after, now);
                Ok(())
            }
            Self::Socket(parked) => parked.caught_up(ring, after, now),
        }
    }

    fn flush(&mut self, ring: &Ring, now: Instant) -> Result<(), Gone> {
        match self {
            Self::Polled(polled) => {
                polled.flush(ring, now);
                Ok(())
            }
            Self::Socket(parked) => parked.flush(ring, now),
        }
    }

    fn ready(&mut self, event: &Event, ring: &Ring, now: Instant) -> Result<(), Gone> {
        match self {
            Self::Polled(_) => Ok(()),
            Self::Socket(parked) => parked.ready(event, ring, now),
        }
    }

    fn is_on_socket(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// What is in the queue of a polled stream does not count: it has its own bound.
    fn is_behind(&self) -> bool {
        match self {
            Self::Polled(polled) => polled.is_behind(),
            Self::Socket(parked) => parked.is_behind(),
        }
    }

    fn unsent_bytes(&self) -> usize {
        match self {
            Self::Polled(polled) => polled.unsent_bytes(),
            Self::Socket(parked) => parked.unsent_bytes(),
        }
    }

    fn oldest(&self) -> Option<EntryNumber> {
        match self {
            Self::Polled(polled) => polled.oldest(),
            Self::Socket(parked) => parked.oldest(),
        }
    }

    fn last_sent(&self) -> Option<Instant> {
        match self {
            Self::Polled(polled) => polled.last_sent(),
            Self::Socket(parked) => Some(parked.last_sent()),
        }
    }

    fn first_due(&self) -> Option<Instant> {
        match self {
            Self::Polled(polled) => polled.first_due(),
            Self::Socket(parked) => parked.first_due(),
        }
    }

    fn tick(&mut self, newest: Newest<'_>, now: Instant) -> Result<Tick, Gone> {
        match self {
            Self::Polled(polled) => Ok(polled.tick(newest, now)),
            Self::Socket(parked) => parked.tick(newest, now),
        }
    }

    fn evict(self, ring: &Ring, eviction: Eviction) -> Option<Self::Evicted> {
        match self {
            Self::Polled(polled) => {
                polled.evict(ring, eviction);
                None
            }
            Self::Socket(parked) => Some(parked.evict(ring, eviction)),
        }
    }
}
