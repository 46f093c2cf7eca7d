//! The handle of a shard: how the tail gives it batches of the log, and how streams attach.
//!
//! Clones are handles of the same shard. Its thread ends when it is closed, or after the last handle is dropped.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use mio::{Poll, Waker};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    bell::{BELL, Bell},
    census::Census,
    delivery::{Delivery, Evict, Share},
    drain::DrainOrder,
    inbox::{Batch, Command, INBOX_BATCHES, INBOX_COMMANDS, Progress},
    key::MemberKey,
    sink::Sink,
    worker::Worker,
};
use crate::{
    Closed,
    admission::Accepted,
    health::Health,
    log::transport::{Entry, Position},
    metrics::node::Metrics,
};

/// The handle of a shard.
pub(crate) struct Shard<S: Sink>(Arc<Inbox<S>>);

struct Inbox<S: Sink> {
    batches: mpsc::Sender<Batch>,
    commands: mpsc::Sender<Command<S>>,
    progress: watch::Receiver<Progress>,
    bell: Arc<Bell>,
}

impl<S: Sink> Clone for Shard<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Sink> Shard<S> {
    /// Starts all shards of a hub, as many as the metrics have. The first entry of each will be the one after `head`. `evicted`
    /// takes the streams that leave a shard though their peers are there; the shard's thread calls it.
    ///
    /// A shard that ends though it was not closed makes the hub fail.
    ///
    /// # Errors
    /// If the system has no room for a thread or a poll.
    pub(crate) fn start_all(
        metrics: &Arc<Metrics>,
        head: Position,
        health: &Arc<Health>,
        mut evicted: impl FnMut() -> Evict<S>,
    ) -> io::Result<Arc<[Self]>> {
        let count = metrics.shards.len();
        let census = Arc::new(Census::new(count));
        let start = |number| {
            let share = Share { number, census: Arc::clone(&census), metrics: Arc::clone(metrics) };
            Self::start(head, share, evicted(), Arc::clone(health))
        };
        (0..count).map(start).collect()
    }

    fn start(head: Position, share: Share, evicted: Evict<S>, health: Arc<Health>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), BELL)?;
        // Waking fails only where a poll does not exist any more.
        let bell = Bell::new(move || drop(waker.wake()));
        let delivery = Delivery::new(head, poll.registry().try_clone()?, evicted, share);
        let (shard, worker) = Self::assemble(head, bell, delivery, Instant::now);
        thread::Builder::new().name("petasos-shard".to_owned()).spawn(move || {
            let end = FailsOnDrop(Some(health));
            match worker.run(poll) {
                Ok(()) => end.was_asked_to(),
                Err(error) => tracing::error!(%error, "the sockets of a shard cannot be waited for"),
            }
        })?;
        Ok(shard)
    }

    /// A handle, and the worker that the caller has to run.
    fn assemble(
        head: Position,
        bell: Bell,
        delivery: Delivery<S>,
        now: fn() -> Instant,
    ) -> (Self, Worker<S>) {
        let bell = Arc::new(bell);
        let (batches, waiting_batches) = mpsc::channel(INBOX_BATCHES);
        let (commands, waiting_commands) = mpsc::channel(INBOX_COMMANDS);
        let (tell_progress, progress) = watch::channel(Progress { recent: head, through: head });
        let worker = Worker {
            bell: Arc::clone(&bell),
            batches: waiting_batches,
            commands: waiting_commands,
            progress: tell_progress,
            delivery,
            now,
        };
        (Self(Arc::new(Inbox { batches, commands, progress, bell })), worker)
    }

    /// The same as [`Shard::start_all`], as tasks of the current runtime and in its time.
    #[cfg(test)]
    pub(crate) fn simulate_all(
        metrics: &Arc<Metrics>,
        head: Position,
        health: &Arc<Health>,
        mut evicted: impl FnMut() -> Evict<S>,
    ) -> io::Result<Arc<[Self]>> {
        let count = metrics.shards.len();
        let census = Arc::new(Census::new(count));
        let start = |number| {
            let rung = Arc::<tokio::sync::Notify>::default();
            let ring = Arc::clone(&rung);
            let registry = Poll::new()?.registry().try_clone()?;
            let share = Share { number, census: Arc::clone(&census), metrics: Arc::clone(metrics) };
            let delivery = Delivery::new(head, registry, evicted(), share);
            let now = || tokio::time::Instant::now().into_std();
            let (shard, worker) = Self::assemble(head, Bell::new(move || ring.notify_one()), delivery, now);
            let end = FailsOnDrop(Some(Arc::clone(health)));
            tokio::spawn(async move {
                worker.simulate(rung).await;
                end.was_asked_to();
            });
            Ok(shard)
        };
        (0..count).map(start).collect()
    }

    /// Hands over a batch of the log; waits while the shard is busy. False: the shard has ended.
    pub(crate) async fn deliver(&self, batch: Arc<[Entry]>) -> bool {
        self.hand_in(Batch::Entries(batch)).await
    }

    /// Ends all members' streams and begins again after `head`. False: the shard has ended.
    pub(crate) async fn restart(&self, head: Position) -> bool {
        self.hand_in(Batch::Restart(head)).await
    }

    async fn hand_in(&self, batch: Batch) -> bool {
        let is_taken = self.0.batches.send(batch).await.is_ok();
        self.0.bell.ring();
        is_taken
    }

    /// Waits until it has handed out all but the last `ahead` entries before the position, or has ended.
    pub(crate) async fn keep_up(&self, position: Position, ahead: u64) {
        if !self.is_near(position, ahead) {
            // An error means that it has ended.
            let is_near = |progress: &Progress| progress.is_near(position, ahead);
            let _ = self.0.progress.clone().wait_for(is_near).await;
        }
    }

    /// Whether it has handed out all but the last `ahead` entries before the position.
    pub(crate) fn is_near(&self, position: Position, ahead: u64) -> bool {
        self.0.progress.borrow().is_near(position, ahead)
    }

    /// A position: a stream that attaches after it, or after a later one, need not read the log, unless it attaches late.
    pub(crate) fn recent(&self) -> Position {
        self.0.progress.borrow().recent
    }

    /// Everything up to this position has been handed out.
    pub(crate) fn through(&self) -> Position {
        self.0.progress.borrow().through
    }

    /// Gives it a stream that has everything up to `after`. Waits while the inbox is full. If the stream has to read the
    /// log first, the shard evicts it.
    ///
    /// A shard that waits takes the stream with the next entries of the log, or some hundredths of a second later: until then,
    /// the stream has nothing to get, and only its peer's leaving is noticed late.
    ///
    /// # Errors
    /// The stream itself: the shard has ended.
    pub(crate) async fn attach(&self, sink: S, after: Position) -> Result<(), S> {
        let Inbox { commands, progress, bell, .. } = &*self.0;
        match commands.send(Command::Attach { sink, after }).await {
            Err(mpsc::error::SendError(Command::Attach { sink, .. })) => return Err(sink),
            // Looked at after the command has been sent: what is handed out later comes to this stream, too.
            Ok(()) if progress.borrow().through <= after && commands.capacity() > INBOX_COMMANDS / 2 => {
                bell.ring_soon();
            }
            _ => bell.ring(),
        }
        Ok(())
    }

    /// A member has left. The shard forgets it in its next round.
    pub(crate) fn leave(&self, key: MemberKey) {
        self.0.bell.depart(key);
    }

    /// A member for which more waits has room for it.
    pub(crate) fn ask(&self, key: MemberKey) {
        self.0.bell.ask(key);
    }

    /// Closes members one after the other, evenly until `order.ends`, also those that attach meanwhile. Later orders replace
    /// earlier ones.
    pub(crate) async fn drain(&self, order: DrainOrder) {
        // An error means that it has ended, and they with it.
        let _ = self.0.commands.send(Command::Drain(order)).await;
        self.0.bell.ring();
    }

    /// Ends the streams that are not accepted any more, evenly over that time, and those that attach later at once. `None`:
    /// all are accepted.
    pub(crate) async fn revoke(&self, accepted: Option<Accepted>, within: Duration) {
        // An error means that it has ended, and all streams with it.
        let _ = self.0.commands.send(Command::Revoke { accepted, within }).await;
        self.0.bell.ring();
    }

    /// Ends all members' streams and the shard.
    pub(crate) async fn close(&self, reason: Closed) {
        // An error means that it has ended already.
        let _ = self.0.commands.send(Command::Close(reason)).await;
        self.0.bell.ring();
    }
}

/// Gives an order to all shards at once, as tasks of the current runtime: a shard that hangs keeps it from no other one.
pub(crate) fn order_all<S: Sink, F: Future<Output = ()> + Send + 'static>(
    shards: &[Shard<S>],
    order: impl Fn(Shard<S>) -> F,
) -> JoinSet<()> {
    shards.iter().cloned().map(order).collect()
}

/// Waits until all shards have taken an order.
pub(crate) async fn are_taken(orders: &mut JoinSet<()>) {
    while orders.join_next().await.is_some() {}
}

impl<S: Sink> Drop for Inbox<S> {
    fn drop(&mut self) {
        self.bell.abandon();
    }
}

/// Makes the hub fail when the thread of a shard ends, also by a panic, unless it was asked to end.
struct FailsOnDrop(Option<Arc<Health>>);

impl FailsOnDrop {
    fn was_asked_to(mut self) {
        self.0 = None;
    }
}

impl Drop for FailsOnDrop {
    fn drop(&mut self) {
        if let Some(health) = &self.0 {
            health.fail("a shard has ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fanout::fake::{Fake, Peer, at, entry};

    fn start(health: &Arc<Health>) -> Shard<Fake> {
        Shard::start_all(&Arc::new(Metrics::new(1, &[])), at(0), health, || Box::new(drop)).expect("a shard")
            [0]
        .clone()
    }

    #[tokio::test]
    async fn a_shard_that_panics_makes_the_hub_fail() {
        let health = Arc::<Health>::default();
        let (shard, peer) = (start(&health), Peer::default());
        assert!(shard.attach(Fake::new("a", &peer), at(0)).await.is_ok());
        peer.panic();
        assert!(shard.deliver([entry(1, "topic=a")].into()).await);
        health.failed().await;
        assert!(!health.is_alive());
        assert!(shard.attach(Fake::new("a", &peer), at(0)).await.is_err(), "the stream comes back");
    }

    #[tokio::test]
    async fn a_shard_that_hangs_keeps_an_order_from_no_other_one() {
        let health = Arc::<Health>::default();
        let delivery = crate::fanout::fake::shards(1).remove(0);
        let (hangs, _worker) = Shard::assemble(at(0), Bell::new(|| ()), delivery, Instant::now);
        for _ in 0..INBOX_COMMANDS {
            hangs.revoke(None, Duration::ZERO).await;
        }
        let works = start(&health);
        let mut orders = order_all(&[hangs, works.clone()], |shard| async move {
            shard.close(Closed::Stopping).await;
        });
        works.0.batches.closed().await;
        orders.join_next().await.expect("one has taken it").expect("no panic");
        assert!(orders.try_join_next().is_none(), "the other one waits");
    }

    #[tokio::test]
    async fn a_shard_that_is_closed_or_abandoned_is_no_failure() {
        let health = Arc::<Health>::default();
        let closed = start(&health);
        closed.close(Closed::Stopping).await;
        closed.0.batches.closed().await;
        let abandoned = start(&health);
        let batches = abandoned.0.batches.clone();
        drop(abandoned);
        batches.closed().await;
        assert!(health.is_alive());
    }
}
