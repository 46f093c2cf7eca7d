//! A member's connection to the process that leads: requests and their answers, and whether that process still lives.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use petasos_hub::transport::Position;
use serde::Serialize;
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::message::{self, Answer, Fault, Request};

/// An open connection, or one that has ended. Dropping it ends it.
pub(super) struct Link {
    queue: mpsc::Sender<Asked>,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    is_open: watch::Sender<bool>,
    /// Signs of life that were asked for since anything came last.
    unanswered_pings: AtomicU32,
    /// It ended because nothing came any more, and not because the other side has closed it.
    was_silent: AtomicBool,
    /// Whether the log takes appends.
    is_ready: AtomicBool,
    /// Requests that have been sent and are not answered, by number.
    unanswered: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
}

/// A request in a frame without its number.
struct Asked {
    frame: Vec<u8>,
    reply: oneshot::Sender<Reply>,
}

type Reply = Result<Vec<u8>, Broken>;

/// A request without an answer, because the connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken {
    /// Whether any part of the request had left this process.
    pub(super) was_sent: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nobody listens, or nobody answers.
    Unreachable(io::Error),
    /// The process that leads does not take this one as a member; the text says why.
    Refused(String),
}

/// How often a sign of life is asked for.
const PING: Duration = Duration::from_secs(1);

/// The process that leads is given up when so many signs of life were asked for in vain. Counted, and not timed: a member
/// that was stopped itself has asked for nothing meanwhile.
const UNANSWERED_MAX: u32 = 3;

/// That is after this time. Long enough for a busy machine.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(PING.as_secs() * UNANSWERED_MAX as u64);

/// How long a greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(2);

/// How long a process that has begun to greet may take: above the time-out of what it still does for this one.
const WELCOME_MAX: Duration = Duration::from_secs(15);

/// Requests that wait to be sent. Further callers wait.
const QUEUE_MAX: usize = 1_024;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 64 * 1024;

impl Link {
    /// Connects, and says who is there. Returns the end of the log, too.
    pub(super) async fn connect(path: &Path, member: u128) -> Result<(Self, Position), Refusal> {
        let (read, write, head) = greet(path, Some(member)).await?;
        let (queue, asked) = mpsc::channel(QUEUE_MAX);
        let state = Arc::new(State {
            is_open: watch::Sender::new(true),
            unanswered_pings: AtomicU32::new(0),
            was_silent: AtomicBool::new(false),
            is_ready: AtomicBool::new(true),
            unanswered: Mutex::default(),
        });
        let task = tokio::spawn(run(read, write, asked, Arc::clone(&state))).abort_handle();
        Ok((Self { queue, state, task }, head))
    }

    /// Sends a request and waits for its answer, in a frame's message.
    pub(super) async fn ask(&self, request: &Request<'_>) -> Result<Vec<u8>, Broken> {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { frame: message::frame(0, request), reply };
        let unsent = Broken { was_sent: false };
        self.queue.send(asked).await.map_err(|_| unsent)?;
        answer.await.unwrap_or(Err(unsent))
    }

    pub(super) fn is_open(&self) -> bool {
        *self.state.is_open.borrow()
    }

    /// Whether the log takes appends, as far as that is known.
    pub(super) fn is_ready(&self) -> bool {
        self.is_open() && self.state.is_ready.load(Ordering::Relaxed)
    }

    /// Waits for the end of the connection.
    pub(super) async fn ended(&self) {
        // An error means the same.
        let _ = self.state.is_open.subscribe().wait_for(|is_open| !is_open).await;
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        self.task.abort();
        self.state.end();
    }

    /// How long nothing had come when it ended.
    pub(super) fn silence(&self) -> Duration {
        if self.state.was_silent.load(Ordering::Relaxed) { SILENCE_MAX } else { Duration::ZERO }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Reply>>> {
        // Nothing under the lock panics.
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is answered any more.
    fn end(&self) {
        self.is_open.send_replace(false);
        for (_, reply) in self.lock().drain() {
            // An error means that the caller has gone.
            let _ = reply.send(Err(Broken { was_sent: true }));
        }
    }
}

/// Connects and exchanges greetings. `member`: the number of this process, if it is going to ask.
pub(super) async fn greet(
    path: &Path,
    member: Option<u128>,
) -> Result<(BufReader<OwnedReadHalf>, OwnedWriteHalf, Position), Refusal> {
    let greeted = timeout(GREETING_MAX, async {
        let (read, mut write) = UnixStream::connect(path).await?.into_split();
        let mut read = BufReader::new(read);
        send(&mut write, &Request::Hello { version: message::VERSION, member }).await?;
        let (_, answer) = message::read(&mut read).await?;
        Ok((read, write, answer))
    });
    let silent = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    let (mut read, write, mut answer) = greeted.await.unwrap_or_else(silent).map_err(Refusal::Unreachable)?;
    if let Ok(Answer::Pong { .. }) = message::parse(&answer) {
        // It lives, and first does what this process has asked before. That is bounded there, and is no silence.
        let busy = |_| Err(io::Error::new(io::ErrorKind::WouldBlock, "it is busy"));
        let welcome = timeout(WELCOME_MAX, message::read(&mut read)).await.unwrap_or_else(busy);
        (_, answer) = welcome.map_err(Refusal::Unreachable)?;
    }
    match message::parse(&answer).map_err(Refusal::Unreachable)? {
        Answer::Welcome { head } => Ok((read, write, head.into())),
        Answer::Failed(Fault::Version, text) => Err(Refusal::Refused(text.to_owned())),
        _ => Err(Refusal::Unreachable(io::ErrorKind::InvalidData.into())),
    }
}

/// Sends a message that has no number.
pub(super) async fn send(write: &mut OwnedWriteHalf, message: &impl Serialize) -> io::Result<()> {
    write.write_all(&message::frame(0, message)).await
}

async fn run(
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    mut asked: mpsc::Receiver<Asked>,
    state: Arc<State>,
) {
    let ended = tokio::select! {
        ended = receive(&mut read, &state) => ended,
        ended = ask(&mut write, &mut asked, &state) => ended,
    };
    if let Err(error) = ended {
        state.was_silent.store(error.kind() == io::ErrorKind::TimedOut, Ordering::Relaxed);
        tracing::debug!(%error, "the connection to the process that leads has ended");
    }
    state.end();
    // What was not sent is not: its callers get to know that when the queue is dropped.
}

/// Hands answers to those who wait for them.
async fn receive(read: &mut BufReader<OwnedReadHalf>, state: &State) -> io::Result<()> {
    loop {
        let (number, answer) = message::read(read).await?;
        state.unanswered_pings.store(0, Ordering::Relaxed);
        if number == 0 {
            if let Answer::Pong { is_ready } = message::parse(&answer)? {
                state.is_ready.store(is_ready, Ordering::Relaxed);
            }
            continue;
        }
        let reply = state.lock().remove(&number);
        if let Some(reply) = reply {
            // An error means that the caller has gone.
            let _ = reply.send(Ok(answer));
        }
    }
}

/// Sends requests, as many at once as wait.
async fn ask(write: &mut OwnedWriteHalf, asked: &mut mpsc::Receiver<Asked>, state: &State) -> io::Result<()> {
    let mut pings = interval(PING);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut number, mut buffer) = (0, Vec::new());
    loop {
        buffer.clear();
        tokio::select! {
            _ = pings.tick() => {
                if state.unanswered_pings.fetch_add(1, Ordering::Relaxed) >= UNANSWERED_MAX {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it gave no sign of life"));
                }
                buffer.extend(message::frame(0, &Request::Ping));
            }
            next = asked.recv() => {
                let Some(next) = next else { return Ok(()) };
                put(next, &mut number, &mut buffer, state);
            }
        }
        while buffer.len() < WRITE_BYTES
            && let Ok(next) = asked.try_recv()
        {
            put(next, &mut number, &mut buffer, state);
        }
        write.write_all(&buffer).await?;
    }
}

/// Numbers a request whose caller still waits, and puts it with those that are sent next.
fn put(Asked { mut frame, reply }: Asked, number: &mut u64, buffer: &mut Vec<u8>, state: &State) {
    if reply.is_closed() {
        return;
    }
    *number += 1;
    message::set_number(&mut frame, *number);
    state.lock().insert(*number, reply);
    buffer.extend(frame);
}
