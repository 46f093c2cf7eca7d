//! What a shard needs of a member: the contract between fan-out and the streams that it feeds.

use std::{io, sync::Arc, time::Instant};

use mio::{Registry, event::Event};

use super::{
    key::MemberKey,
    ring::{EntryNumber, Newest, Ring},
};
use crate::{Admission, Closed, interest::Interest, log::transport::Position};

/// Where the frames of one member go. Only the thread of its shard calls it, and no call may block.
pub(crate) trait Sink: Sized + Send + 'static {
    /// A stream that has left its shard and goes on elsewhere.
    type Evicted: Send + 'static;
    /// Room that one round uses again for every member.
    type Scratch<'ring>: Default;

    /// What the member wants and may have.
    fn interest(&self) -> &Arc<Interest>;

    /// What let the subscriber in; `None`: it is never revoked.
    fn admission(&self) -> Option<Admission>;

    /// The stream becomes a member. Called once, after its first frames.
    ///
    /// # Errors
    /// If the stream cannot become a member, or its peer has left.
    fn admit(&mut self, key: MemberKey, readiness: &Registry) -> io::Result<()>;

    /// The member is about to be evicted: undoes [`Sink::admit`].
    fn withdraw(&mut self, readiness: &Registry);

    /// Takes entries of the ring, in their order. It sends what it can at once; the rest is unsent and stays in the ring.
    ///
    /// # Errors
    /// [`Gone`]: the stream takes nothing more.
    fn push<'ring>(
        &mut self,
        entries: impl Iterator<Item = EntryNumber>,
        ring: &'ring Ring,
        scratch: &mut Self::Scratch<'ring>,
        now: Instant,
    ) -> Result<(), Gone>;

    /// The member has been given everything that it wants up to the end of the ring, or up to `after` if that lies ahead. Called
    /// once, before [`Sink::admit`].
    ///
    /// # Errors
    /// [`Gone`]: the stream takes nothing more.
    fn caught_up(&mut self, ring: &Ring, after: Position, now: Instant) -> Result<(), Gone>;

    /// Sends what is unsent, as far as the peer takes it at once.
    ///
    /// # Errors
    /// [`Gone`]: the peer has left.
    fn flush(&mut self, ring: &Ring, now: Instant) -> Result<(), Gone>;

    /// Does what the readiness of the member's socket allows.
    ///
    /// # Errors
    /// [`Gone`]: the peer has left.
    fn ready(&mut self, event: &Event, ring: &Ring, now: Instant) -> Result<(), Gone>;

    /// Whether the shard writes to a socket of the member.
    fn is_on_socket(&self) -> bool;

    /// Whether it has unsent bytes that its shard has to send.
    fn is_behind(&self) -> bool;

    /// How many unsent bytes it has.
    fn unsent_bytes(&self) -> usize;

    /// The oldest entry of which nothing is sent yet, though it was pushed.
    fn oldest(&self) -> Option<EntryNumber>;

    /// When the peer took something last, if that is known.
    fn last_sent(&self) -> Option<Instant>;

    /// When a member that has just come wants its first [`Sink::tick`]; `None`: never.
    fn first_due(&self) -> Option<Instant>;

    /// Sends a sign of life, a comment or the cursor, if the stream has been silent, and says when it is due again. `newest`:
    /// the member has everything up to there that it wants.
    ///
    /// # Errors
    /// [`Gone`]: the peer has left.
    fn tick(&mut self, newest: Newest<'_>, now: Instant) -> Result<Tick, Gone>;

    /// The stream leaves the shard. `Some`: it goes on elsewhere, with everything unsent that is not in the log after the
    /// position of [`Eviction::Behind`].
    fn evict(self, ring: &Ring, eviction: Eviction) -> Option<Self::Evicted>;
}

/// The stream takes nothing more: its peer has left.
#[derive(Debug)]
pub(crate) struct Gone;

/// What a tick has come to.
pub(crate) enum Tick {
    /// The time of the next one; `None`: never.
    Next(Option<Instant>),
    /// The lifetime of the stream is over.
    Over,
}

/// Why a stream leaves its shard, though its peer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// It reads the log on after this position.
    Behind(Position),
    /// It ends.
    Ended(Closed),
}
