//! A stream that a task carries: through the history until its shard takes it over, or to its end.

use std::{
    any::Any,
    future::poll_fn,
    io::{self, IoSlice},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use petasos_protocol::sse::Frame;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    task::yield_now,
    time::{Instant, sleep_until, timeout},
};

use super::{
    framing::{Framing, Wire},
    line::Line,
    parked::{Evicted, Parked, Stream},
    unsent::Unsent,
};
use crate::{
    Closed,
    fanout::{shard::Shard, sink::Eviction},
    log::transport::Position,
    stream::{
        carrier::Carrier,
        life::{Life, Step},
    },
};

/// A stream that a task carries.
pub(crate) struct Carried {
    line: Line<TcpStream>,
    /// See [`Wire::stall_max`].
    stall_max: Option<Duration>,
    framing: Framing,
    unsent: Unsent,
    life: Life,
    shard: Shard<Carrier>,
    held: Box<dyn Any + Send>,
}

/// What carrying a stream has come to, while its peer is there.
enum Reached {
    /// Everything up to the position is written.
    CaughtUp(Position),
    Ended(Closed),
}

/// How long the end of a stream may take a peer that is slow to read.
const END_MAX: Duration = Duration::from_secs(5);

/// Sends the head and the first frame. Then gives the stream to its shard if it has nothing to read, else to a task of its
/// own.
pub(crate) async fn begin(wire: Wire, first: &Frame, life: Life, shard: Shard<Carrier>) {
    let Wire { socket, stall_max, framing, head, held } = wire;
    let line = Line::new(socket);
    let opening = [&head[..], framing.bytes(first)].concat();
    match life.caught_up() {
        Some(position) => {
            let Ok(line) = line.map(|socket| Ok(mio::net::TcpStream::from_std(socket))) else { return };
            // By the task that brings it: the shard has others to write to.
            let Ok(written) = line.write(&mut [IoSlice::new(&opening)]) else { return };
            let begun = Bytes::from(opening).slice(written.bytes..);
            let stream = Stream { subscriber: life.into_subscriber(), home: shard, stall_max, held };
            let parked = Parked::new(line, framing, begun, now(), Box::new(stream));
            if let Some(carried) = attach(parked, position).await {
                carried.run().await;
            }
        }
        None => {
            // A socket that cannot be registered is closed: its peer comes back.
            let Ok(line) = line.map(TcpStream::from_std) else { return };
            let mut unsent = Unsent::default();
            unsent.push(opening.into());
            tokio::spawn(Carried { line, stall_max, framing, unsent, life, shard, held }.run());
        }
    }
}

/// Hands a stream over to its shard, which goes on after the position. `Some`: the shard has ended, and the stream sends
/// what the log still holds.
async fn attach(parked: Parked<Shard<Carrier>>, position: Position) -> Option<Carried> {
    let shard = parked.home().clone();
    match shard.attach(Carrier::Socket(parked), position).await {
        Ok(()) | Err(Carrier::Polled(_)) => None,
        Err(Carrier::Socket(parked)) => {
            let mut carried = Carried::new(parked.refused(Eviction::Behind(position))).ok()?;
            carried.life.finish(position);
            Some(carried)
        }
    }
}

impl Carried {
    /// Carries on what has left its shard.
    pub(crate) async fn resume(evicted: Evicted<Shard<Carrier>>) {
        let eviction = evicted.eviction;
        // A socket that cannot be registered is closed: its peer comes back.
        let Ok(carried) = Self::new(evicted) else { return };
        match eviction {
            Eviction::Behind(_) => carried.run().await,
            Eviction::Ended(reason) => carried.end(reason).await,
        }
    }

    fn new(evicted: Evicted<Shard<Carrier>>) -> io::Result<Self> {
        let Evicted { line, framing, unsent, stream, eviction } = evicted;
        let Stream { subscriber, home, stall_max, held } = *stream;
        let life = match eviction {
            Eviction::Behind(position) => Life::resume(subscriber, position),
            Eviction::Ended(reason) => {
                let mut life = Life::live(subscriber);
                life.end(reason);
                life
            }
        };
        let line = line.map(|socket| TcpStream::from_std(socket.into()))?;
        Ok(Self { line, stall_max, framing, unsent, life, shard: home, held })
    }

    /// Reads and writes until the stream's shard takes it over, or until it ends.
    async fn run(mut self) {
        loop {
            match self.carry().await {
                Ok(Reached::CaughtUp(position)) => match self.park(position).await {
                    Some(carried) => self = carried,
                    None => return,
                },
                Ok(Reached::Ended(reason)) => return self.end(reason).await,
                Err(error) => return self.leave(&error),
            }
        }
    }

    /// The shard takes the stream over. `Some`: it has ended.
    async fn park(self, position: Position) -> Option<Self> {
        let Self { line, stall_max, framing, life, shard, held, .. } = self;
        let line = line.map(|socket| Ok(mio::net::TcpStream::from_std(socket.into_std()?))).ok()?;
        let last_sent = life.silent_since().unwrap_or_else(now);
        let stream = Stream { subscriber: life.into_subscriber(), home: shard, stall_max, held };
        attach(Parked::new(line, framing, Bytes::new(), last_sent, Box::new(stream)), position).await
    }

    /// The peer has left. What is unsent is written as far as the system takes it at once: a peer that has only shut down
    /// its sending side still reads the head of its answer.
    fn leave(mut self, error: &io::Error) {
        tracing::debug!("a stream ends: its subscriber has left");
        self.life.subscriber_mut().leaves(error);
        // An error means that the peer reads nothing, either.
        let _ = self.line.write(&mut self.unsent.slices()).and_then(|_| self.line.end());
    }

    /// Sends what is unsent and ends the stream. A stream whose lifetime is over gets nothing more.
    async fn end(mut self, reason: Closed) {
        self.life.end(reason);
        let Self { line, stall_max, framing, unsent, life, .. } = &mut self;
        if let Some(farewell) = life.take_farewell() {
            unsent.push(framing.share(&farewell, 0));
        }
        let rest = async {
            if reason != Closed::Lifetime {
                flush(line, *stall_max, unsent).await?;
            }
            // A last chunk in the middle of an event would be a part of the event.
            if unsent.is_empty() {
                unsent.push(Bytes::from_static(framing.last()));
                flush(line, *stall_max, unsent).await?;
                line.end()?;
                flush(line, *stall_max, unsent).await?;
            }
            io::Result::Ok(())
        };
        // An error means that the peer has left, too.
        let _ = timeout(END_MAX, rest).await;
        // Closing would end the connection later, if a forked process had inherited the socket.
        let _ = line.socket.shutdown().await;
    }

    /// Reads the history and writes frames. It notices meanwhile that the peer leaves, because the history may hold nothing
    /// to write for long.
    async fn carry(&mut self) -> io::Result<Reached> {
        let Self { line, stall_max, framing, unsent, life, .. } = self;
        let close_at = life.subscriber().close_at;
        tokio::select! {
            biased;
            error = peer_left(line) => Err(error),
            () = over(close_at) => Ok(Reached::Ended(Closed::Lifetime)),
            reached = send(line, *stall_max, *framing, unsent, life) => reached,
        }
    }
}

/// Writes what the life of a stream has, until it has caught up or ends. A shard keeps nothing of the history, so all of it
/// is written then.
async fn send(
    line: &Line<TcpStream>,
    stall_max: Option<Duration>,
    framing: Framing,
    unsent: &mut Unsent,
    life: &mut Life,
) -> io::Result<Reached> {
    loop {
        let step = gather(life, framing, unsent).await;
        if let Some(Step::Ended(reason)) = step {
            return Ok(Reached::Ended(reason));
        }
        flush(line, stall_max, unsent).await?;
        if let Some(Step::CaughtUp(position)) = step {
            return Ok(Reached::CaughtUp(position));
        }
        // A fast peer must not keep the thread from other tasks.
        yield_now().await;
    }
}

/// Adds the steps that the life of a stream has ready, and waits only if nothing is unsent. Returns the step that is no
/// bytes, if one came.
async fn gather(life: &mut Life, framing: Framing, unsent: &mut Unsent) -> Option<Step> {
    poll_fn(|cx| {
        loop {
            if unsent.is_full() {
                return Poll::Ready(None);
            }
            match life.poll(cx) {
                Poll::Ready(Step::Frame(frame)) => unsent.push(framing.share(&frame, 0)),
                Poll::Ready(Step::Silence) => unsent.push(framing.sign(life.cursor())),
                Poll::Ready(step) => return Poll::Ready(Some(step)),
                Poll::Pending if unsent.is_empty() => return Poll::Pending,
                Poll::Pending => return Poll::Ready(None),
            }
        }
    })
    .await
}

async fn flush(line: &Line<TcpStream>, stall_max: Option<Duration>, unsent: &mut Unsent) -> io::Result<()> {
    while !unsent.is_empty() || line.rest_bytes() > 0 {
        match stall_max {
            None => line.socket.writable().await?,
            Some(stall_max) => timeout(stall_max, line.socket.writable()).await??,
        }
        let written = line.write(&mut unsent.slices())?;
        unsent.advance(written.bytes);
    }
    Ok(())
}

/// Waits until the peer has left, and returns how.
async fn peer_left(line: &Line<TcpStream>) -> io::Error {
    let mut unasked = 0;
    loop {
        if let Err(error) = line.socket.readable().await {
            return error;
        }
        if let Err(error) = line.discard(&mut unasked) {
            return error;
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn over(close_at: Option<Instant>) {
    match close_at {
        Some(close_at) => sleep_until(close_at).await,
        None => std::future::pending().await,
    }
}
