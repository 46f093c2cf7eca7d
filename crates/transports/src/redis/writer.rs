//! The task that appends: what waits while a call is on its way goes with the next one.

use std::sync::Arc;

use ::redis::cmd;
use petasos_hub::transport::Position;
use petasos_hub::transport::events_max;
use petasos_protocol::update::{Origin, Update};
use tokio::{
    sync::{mpsc, oneshot},
    time::{self, Instant},
};

use super::{
    failure::Failure,
    link::{Lines, Link, within},
    script::APPEND,
};
use crate::{codec, retry::Backoff, shared::pace::MARGIN_ENTRIES};

/// Where appends are handed in. The task ends when this is dropped, after what has been handed in.
pub(super) struct Writer(mpsc::Sender<Request>);

struct Request {
    stream: &'static str,
    id: Box<str>,
    record: Vec<u8>,
    deadline: Instant,
    reply: oneshot::Sender<Result<Position, Failure>>,
}

/// What is kept, as the scripts are told.
pub(super) struct Bounds([String; 3]);

/// Appends that wait for the task: publishers beyond them wait as well, for the same time.
const QUEUE_ENTRIES: usize = 1_024;

/// What goes in one call: the server does nothing else meanwhile, some milliseconds at most.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

impl Bounds {
    pub(super) fn new(updates_max: usize) -> Self {
        let events_max = events_max(updates_max);
        Self([updates_max, events_max, MARGIN_ENTRIES].map(|bound| bound.to_string()))
    }

    pub(super) fn as_arguments(&self) -> Vec<&[u8]> {
        self.0.iter().map(String::as_bytes).collect()
    }
}

impl Writer {
    pub(super) fn start(link: Arc<Link>, bounds: Arc<Bounds>) -> Self {
        let (sender, requests) = mpsc::channel(QUEUE_ENTRIES);
        tokio::spawn(run(link, bounds, requests));
        Self(sender)
    }

    /// Returns when the server has the update, or when the time is up.
    pub(super) async fn append(&self, update: &Update, deadline: Instant) -> Result<Position, Failure> {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            stream: stream_of(update),
            id: update.id().as_str().into(),
            record: codec::encode(update),
            deadline,
            reply,
        };
        let handed_in = time::timeout_at(deadline, self.0.send(request)).await;
        handed_in.map_err(|_| Failure::Silence)?.map_err(|_| ended())?;
        time::timeout_at(deadline, answer).await.map_err(|_| Failure::Silence)?.map_err(|_| ended())?
    }
}

/// The name that the scripts know.
fn stream_of(update: &Update) -> &'static str {
    match update.origin() {
        Origin::Publisher => "updates",
        Origin::Hub => "events",
    }
}

fn ended() -> Failure {
    Failure::Other("the task that writes to Redis has ended".to_owned())
}

async fn run(link: Arc<Link>, bounds: Arc<Bounds>, mut requests: mpsc::Receiver<Request>) {
    let mut waiting = Vec::with_capacity(BATCH_ENTRIES);
    loop {
        if waiting.is_empty() && requests.recv_many(&mut waiting, BATCH_ENTRIES).await == 0 {
            return;
        }
        let mut bytes = 0;
        let fitting = waiting.iter().take_while(|request| {
            let fits = bytes == 0 || bytes + request.record.len() <= BATCH_BYTES;
            bytes += request.record.len().max(1);
            fits
        });
        let fitting = fitting.count();
        let batch: Vec<_> = waiting.drain(..fitting).collect();
        write(&link, &bounds, batch).await;
    }
}

/// Appends a batch and answers everyone in it.
async fn write(link: &Link, bounds: &Bounds, mut batch: Vec<Request>) {
    let mut backoff = Backoff::new();
    let outcome = loop {
        let Some(deadline) = batch.iter().map(|request| request.deadline).max() else { return };
        let lines = link.lines_that_answer(deadline).await;
        // A publisher that got an error while its update waited here may publish it again.
        batch.retain(|request| !request.reply.is_closed());
        if batch.is_empty() {
            return;
        }
        let failure = match lines {
            Ok(mut lines) => match append(link, bounds, &batch, &mut lines, deadline).await {
                // From here on nothing is tried again, whatever fails: it would be appended twice.
                Ok(position) => {
                    link.capacity().took();
                    break confirm(link, &mut lines, deadline).await.map(|()| position);
                }
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        link.doubt(&failure);
        let again = failure.is_refusal() && time::timeout_at(deadline, backoff.wait()).await.is_ok();
        if !again {
            break Err(failure);
        }
    };
    let count = batch.len() as u64;
    for (request, number) in batch.into_iter().zip(1..) {
        let at = |last: Position| Position { sequence: last.sequence - count + number, ..last };
        // Nobody waits any more.
        let _ = request.reply.send(outcome.clone().map(at));
    }
}

/// Returns the position of the last.
async fn append(
    link: &Link,
    bounds: &Bounds,
    batch: &[Request],
    lines: &mut Lines,
    deadline: Instant,
) -> Result<Position, Failure> {
    let mut arguments = bounds.as_arguments();
    for request in batch {
        arguments.extend([request.stream.as_bytes(), request.id.as_bytes(), &request.record]);
    }
    let answer = within(deadline, link.log.call(&mut lines.writes, &APPEND, arguments)).await?;
    Ok(answer.state.position)
}

/// Waits until as many replicas as are wanted have what was appended on the connection.
async fn confirm(link: &Link, lines: &mut Lines, deadline: Instant) -> Result<(), Failure> {
    let wanted = link.settings.replicas;
    if wanted == 0 {
        return Ok(());
    }
    let mut wait = cmd("WAIT");
    // The answer has to be there before the time is up.
    let left = deadline.saturating_duration_since(Instant::now()).mul_f64(0.75).as_millis() as u64;
    wait.arg(wanted).arg(left.max(1));
    let wait = async { Ok(wait.query_async::<u32>(&mut lines.writes).await?) };
    let failure = match within(deadline, wait).await {
        Ok(reached) if reached >= wanted => return Ok(()),
        Ok(reached) => {
            Failure::Other(format!("only {reached} of {wanted} replicas have confirmed the update in time"))
        }
        Err(Failure::Silence) => Failure::Silence,
        // What a refusal of the server means elsewhere, that nothing was done, it does not mean here.
        Err(failure) => Failure::Other(format!(
            "the update is there, and replicas could not be asked to confirm it: {failure}"
        )),
    };
    link.doubt(&failure);
    Err(failure)
}
