//! A part of the fan-out: a thread that owns a part of the subscribers, and the way to it.
//!
//! The thread waits for readiness: of the sockets it owns, and of its bell, which whoever hands something in rings. In one
//! round it takes everything that has been handed in and then visits each member concerned once, so that what has piled
//! up meanwhile leaves in one write.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token, Waker};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

use crate::{
    Closed,
    interest::Interest,
    members::{MemberKey, Members},
    outbox::Outbox,
    transport::{Entry, Position},
    wire::Parked,
};

/// The way to a shard. The thread ends with the last of its handles, or when it is closed.
#[derive(Clone)]
pub(crate) struct Shard(Arc<Inbox>);

struct Inbox {
    batches: mpsc::Sender<Batch>,
    commands: mpsc::Sender<Command>,
    progress: watch::Receiver<Progress>,
    bell: Arc<Bell>,
}

/// How far a shard has come.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Progress {
    /// Everything after it is in the ring.
    recent: Position,
    /// What has been handed out.
    through: Position,
}

/// What the tail has for every shard, in order.
enum Batch {
    Entries(Arc<[Entry]>),
    /// The log was lost, or a part of it: all streams end, and what follows comes after this position.
    Restart(Position),
}

enum Command {
    Attach { interest: Arc<Interest>, after: Position, reply: oneshot::Sender<Attached> },
    Park { parked: Box<Parked>, after: Position },
    Close(Closed),
}

/// The answer to an attempt to attach.
pub(crate) enum Attached {
    /// From here on the outbox receives everything after the position, exactly once.
    Live(Membership),
    /// The position lies before the ring: the log must be read further first.
    Behind,
}

/// Batches that may wait for a shard: beyond, the tail waits, and so do the appenders. The log itself makes larger batches
/// of what waits there.
const INBOX_BATCHES: usize = 2;

/// Newcomers that may wait for a shard; they wait where they are.
const INBOX_COMMANDS: usize = 256;

/// Rounds that are followed by a rest, see [`Round::patience`]: the system does not wait for less than a millisecond.
const REST_MIN: Duration = Duration::from_millis(1);
const REST_MAX: Duration = Duration::from_millis(10);

/// Readiness that is looked at in one round.
const EVENTS_MAX: usize = 1_024;

impl Shard {
    /// Starts a shard whose first frame will be the one after `head`. Its slow members go back to tasks of the current
    /// tokio runtime.
    ///
    /// # Errors
    /// If the system has no room for a thread or a poll.
    pub(crate) fn start(head: Position) -> io::Result<Self> {
        let poll = Poll::new()?;
        let bell = Arc::new(Bell {
            waker: Waker::new(poll.registry(), BELL)?,
            awaited: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            departed: Mutex::default(),
        });
        let (batches, waiting_batches) = mpsc::channel(INBOX_BATCHES);
        let (commands, waiting) = mpsc::channel(INBOX_COMMANDS);
        let (tell_progress, progress) = watch::channel(Progress { recent: head, through: head });
        let members = Members::new(head, poll.registry().try_clone()?, Handle::current());
        let thread = Round {
            poll,
            bell: Arc::clone(&bell),
            batches: waiting_batches,
            commands: waiting,
            progress: tell_progress,
            members,
        };
        thread::Builder::new().name("petasos-shard".to_owned()).spawn(move || thread.run())?;
        Ok(Self(Arc::new(Inbox { batches, commands, progress, bell })))
    }

    /// Hands over a batch of the log; waits while the shard is busy. False: the shard has ended.
    pub(crate) async fn deliver(&self, batch: Arc<[Entry]>) -> bool {
        self.hand_in(Batch::Entries(batch)).await
    }

    /// Ends all members' streams and begins anew after `head`. False: the shard has ended.
    pub(crate) async fn restart(&self, head: Position) -> bool {
        self.hand_in(Batch::Restart(head)).await
    }

    async fn hand_in(&self, batch: Batch) -> bool {
        let taken = self.0.batches.send(batch).await.is_ok();
        self.0.bell.ring();
        taken
    }

    /// Waits until it has handed out all but the last `ahead` entries before the position, or has ended.
    pub(crate) async fn keep_up(&self, position: Position, ahead: u64) {
        let is_near = |progress: &Progress| {
            let through = progress.through;
            through.epoch != position.epoch || position.sequence <= through.sequence.saturating_add(ahead)
        };
        if !is_near(&self.0.progress.borrow()) {
            // An error means that it has ended.
            let _ = self.0.progress.clone().wait_for(is_near).await;
        }
    }

    /// A position: whoever asks for what comes after it, or after a later one, need not read the log, unless he takes long.
    pub(crate) fn recent(&self) -> Position {
        self.0.progress.borrow().recent
    }

    /// Asks for everything after `after`. `None`: the shard has ended.
    pub(crate) async fn attach(&self, interest: Arc<Interest>, after: Position) -> Option<Attached> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Attach { interest, after, reply }).await.ok()?;
        answer.await.ok()
    }

    /// Gives it a stream that has everything up to `after`. One that has to read further goes back to a task by itself.
    /// `Some`: the shard has ended, and here it is again.
    pub(crate) async fn park(&self, parked: Box<Parked>, after: Position) -> Option<Box<Parked>> {
        match self.send(Command::Park { parked, after }).await {
            Err(Command::Park { parked, .. }) => Some(parked),
            _ => None,
        }
    }

    /// Ends all members' streams and the shard.
    pub(crate) async fn close(&self, reason: Closed) {
        // An error means that it has ended already.
        let _ = self.send(Command::Close(reason)).await;
    }

    /// Waits while the inbox is full. An error: the shard has ended, and here is the command again.
    async fn send(&self, command: Command) -> Result<(), Command> {
        self.0.commands.send(command).await.map_err(|error| error.0)?;
        self.0.bell.ring();
        Ok(())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bell.abandoned.store(true, Ordering::SeqCst);
        self.bell.ring();
    }
}

/// Wakes a shard that waits.
struct Bell {
    waker: Waker,
    /// Whether the thread is about to wait: only then ringing costs a system call.
    awaited: AtomicBool,
    /// Whether nobody can hand anything in any more.
    abandoned: AtomicBool,
    /// Members that have left and that the shard has not removed yet: each key once, so bounded by the members.
    departed: Mutex<Vec<MemberKey>>,
}

const BELL: Token = Token(usize::MAX);

impl Bell {
    fn ring(&self) {
        if self.awaited.swap(false, Ordering::SeqCst) {
            // It fails only where a poll does not exist any more.
            let _ = self.waker.wake();
        }
    }

    fn take_departed(&self) -> Vec<MemberKey> {
        std::mem::take(&mut *self.departed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_departed(&self) -> bool {
        !self.departed.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A place among a shard's members. Dropping it leaves.
pub(crate) struct Membership {
    pub(crate) outbox: Arc<Outbox>,
    key: MemberKey,
    bell: Arc<Bell>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.bell.departed.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        self.bell.ring();
    }
}

/// What the thread owns.
struct Round {
    poll: Poll,
    bell: Arc<Bell>,
    batches: mpsc::Receiver<Batch>,
    commands: mpsc::Receiver<Command>,
    progress: watch::Sender<Progress>,
    members: Members,
}

impl Round {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut rested = Instant::now();
        loop {
            let patience = self.patience(rested);
            if let Err(error) = self.poll.poll(&mut events, patience)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a part of the streams ends: their sockets cannot be waited for");
                return;
            }
            self.bell.awaited.store(false, Ordering::SeqCst);
            let now = Instant::now();
            if now >= rested {
                let admitted = self.members.admitted();
                rested = match self.members.trim(now) {
                    false => now + REST_MAX,
                    true => {
                        if let Some(reason) = self.take_commands() {
                            return self.close(reason);
                        }
                        self.members.hand_out(now);
                        let (recent, through) = self.members.reach();
                        self.progress.send_if_modified(|progress| {
                            let now = Progress { recent, through };
                            std::mem::replace(progress, now) != now
                        });
                        let done = Instant::now();
                        match done - now {
                            short if short < REST_MIN && self.members.admitted() != admitted => {
                                now + REST_MIN
                            }
                            short if short < REST_MIN => done,
                            long => done + long.min(REST_MAX),
                        }
                    }
                };
            }
            for event in events.iter().filter(|event| event.token() != BELL) {
                self.members.ready(event, now);
            }
            self.members.tick(now);
            for key in self.bell.take_departed() {
                self.members.remove(key);
            }
        }
    }

    fn close(mut self, reason: Closed) {
        // What was handed in before it is known that nothing more is taken.
        self.batches.close();
        self.commands.close();
        while self.take_commands().is_none() && !self.commands.is_empty() {}
        self.members.close(reason);
    }

    /// How long nothing is to be done.
    ///
    /// After a round it rests for as long as that took, and lets what is handed in pile up: a shard that has much to do
    /// does it in fewer and larger writes, and leaves half of the time to those who publish and read. One that has little
    /// to do has rested long before the next update comes.
    fn patience(&self, rested: Instant) -> Option<Duration> {
        let rest = rested.saturating_duration_since(Instant::now());
        if !rest.is_zero() {
            return Some(rest);
        }
        // Asked after the bell has been set: what is handed in later rings it.
        self.bell.awaited.store(true, Ordering::SeqCst);
        let waiting = !self.batches.is_empty()
            || !self.commands.is_empty()
            || self.bell.abandoned.load(Ordering::SeqCst)
            || self.bell.has_departed();
        match waiting {
            true => Some(Duration::ZERO),
            false => self.members.due().map(|due| due.saturating_duration_since(Instant::now())),
        }
    }

    /// Takes what has been handed in; `Some`: this was the last.
    fn take_commands(&mut self) -> Option<Closed> {
        // As many as may wait, and no more: what comes meanwhile has the next round.
        for _ in 0..INBOX_BATCHES {
            match self.batches.try_recv() {
                Ok(Batch::Entries(entries)) => self.members.mark(&entries),
                Ok(Batch::Restart(head)) => self.members.restart(head, Closed::LogLost),
                Err(_) => break,
            }
        }
        for _ in 0..INBOX_COMMANDS {
            match self.commands.try_recv() {
                Ok(Command::Attach { interest, after, reply }) => {
                    let attached = match self.members.attach(interest, after) {
                        Some((outbox, key)) => {
                            Attached::Live(Membership { outbox, key, bell: Arc::clone(&self.bell) })
                        }
                        None => Attached::Behind,
                    };
                    // A receiver that is gone drops the membership, which departs like any other.
                    let _ = reply.send(attached);
                }
                Ok(Command::Park { parked, after }) => self.members.park(*parked, after, Instant::now()),
                Ok(Command::Close(reason)) => return Some(reason),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => return Some(Closed::Stopping),
            }
        }
        // The last handle may be one that a member holds, so the channel itself does not always tell.
        (self.bell.abandoned.load(Ordering::SeqCst) && self.commands.is_empty()).then_some(Closed::Stopping)
    }
}
