//! The task that keeps the index: it reads the subjects and headers of everything, makes missing streams, and notices when
//! the log was lost and when the server answers again.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use petasos_hub::{TransportError, transport::Position};
use petasos_protocol::update::Origin;

use super::{
    api::Info,
    consumer::{Consumer, End, Raw, Start},
    index::{EVENT, ID},
    log::{Log, PROBE},
};
use crate::{OpenError, retry::Backoff};

/// Reads what the log holds, and returns the consumer of what follows, to [`keep`] the index with.
pub(super) async fn read_index(log: &Log) -> Result<Consumer, OpenError> {
    let mut consumer = behind_index(log);
    match load(log, &mut consumer).await {
        Ok(()) => Ok(consumer),
        Err(End::Unavailable(reason) | End::Lost(reason)) => Err(match log.link.denials.take() {
            Some(text) => OpenError::Refused(format!("the NATS server refuses a request: {text}")),
            None => TransportError::unavailable(reason).into(),
        }),
    }
}

/// Keeps the index for as long as the log is open.
pub(super) async fn keep(log: Arc<Log>, mut consumer: Consumer) {
    let mut backoff = Backoff::new();
    loop {
        let health = &log.link.health;
        match follow_index(&log, &mut consumer, &mut backoff).await {
            End::Unavailable(reason) => {
                health.set_unavailable(&reason);
                backoff.wait().await;
            }
            End::Lost(reason) => {
                tracing::warn!(log = log.link.settings.name, reason, "the log is read anew");
                backoff.wait().await;
                match log.streams.ensure(&log.link).await {
                    Ok(info) => {
                        // A log that has lost its end only keeps its epoch; what was known of it is forgotten all the same.
                        if log.begin_epoch(&info).is_ok() {
                            consumer = behind_index(&log);
                        }
                    }
                    Err(error) => {
                        health.set_unavailable(&error.to_string());
                        backoff.wait().await;
                    }
                }
            }
        }
    }
}

/// Reads until something is wrong.
async fn follow_index(log: &Log, consumer: &mut Consumer, backoff: &mut Backoff) -> End {
    if let Err(end) = attach_index(log, consumer).await {
        return end;
    }
    log.link.health.set_available();
    backoff.reset();
    // The end of the log at the last doubt, and the head of the index at the last probe.
    let (mut awaited, mut seen) = (0, 0);
    let mut probe = tokio::time::interval(PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            batch = consumer.next() => match batch {
                Ok(batch) => {
                    if let Err(end) = apply(log, batch, true) {
                        return end;
                    }
                }
                Err(end) => return end,
            },
            () = log.doubted() => match consumer.check().await {
                Ok(info) => match is_same(log, &info) {
                    Ok(()) => awaited = awaited.max(info.state.last_seq),
                    Err(end) => return end,
                },
                Err(end) => return end,
            },
            _ = probe.tick() => {
                let through = log.index().through;
                let is_stalled = awaited > through && std::mem::replace(&mut seen, through) == through;
                if is_stalled {
                    // The awaited messages may have been removed, or the consumer is stuck: a new consumer shows which.
                    consumer.detach();
                    if let Err(end) = attach_index(log, consumer).await {
                        return end;
                    }
                }
                if !log.link.health.is_available() {
                    if let Err(end) = consumer.check().await {
                        return end;
                    }
                    log.link.health.set_available();
                }
            }
        }
    }
}

/// Attaches the consumer again, to the same log.
async fn attach_index(log: &Log, consumer: &mut Consumer) -> Result<(), End> {
    log.link.revive().await.map_err(|error| End::Unavailable(error.to_string()))?;
    let info = log.streams.ensure(&log.link).await.map_err(|error| End::Unavailable(error.to_string()))?;
    is_same(log, &info)?;
    load(log, consumer).await
}

/// A consumer of what follows the index.
fn behind_index(log: &Log) -> Consumer {
    let Position { epoch, sequence } = log.index().head();
    Consumer::new(Arc::clone(&log.link), &log.streams.log, true, epoch, sequence)
}

/// Reads until the index holds everything that is there now.
async fn load(log: &Log, consumer: &mut Consumer) -> Result<(), End> {
    let Some(Start { last, mut pending }) = consumer.attach().await? else { return Ok(()) };
    // An index that has just begun does not know what was trimmed before.
    let has_begun = log.index().through > 0;
    while pending > 0 && log.index().through < last {
        // A server may answer heartbeats and deliver nothing, as after a stream was deleted and made again.
        let Ok(batch) = tokio::time::timeout(log.link.settings.timeout, consumer.next()).await else {
            consumer.detach();
            return Err(End::Unavailable("the consumer delivers none of the pending messages".to_owned()));
        };
        let batch = batch?;
        pending = batch.last().map_or(0, |raw| raw.pending);
        apply(log, batch, has_begun)?;
    }
    // An operator has removed what is still missing.
    match has_begun {
        true => log.index().lost_through(last),
        false => log.index().skip_to(last),
    }
    log.index_moved();
    Ok(())
}

/// Adds what follows. `dense`: nothing may be missing before it.
fn apply(log: &Log, batch: Vec<Raw>, dense: bool) -> Result<(), End> {
    let mut index = log.index();
    let expected = index.through + 1;
    if dense && batch.first().is_some_and(|raw| raw.seq > expected) {
        return Err(End::Lost("messages that had not been read are gone".to_owned()));
    }
    for raw in batch {
        let origin = if raw.subject == log.streams.events { Origin::Hub } else { Origin::Publisher };
        let header = |name| raw.headers.as_ref().and_then(|headers| headers.get(name));
        let id = header(ID).map(|id| percent_decode_str(id.as_str()).decode_utf8_lossy().into_owned());
        index.push(raw.seq, origin, id, header(EVENT).map(|event_id| event_id.as_str()));
    }
    drop(index);
    log.index_moved();
    Ok(())
}

/// Fails if the log is not the one of the index, or ends before what the index has.
fn is_same(log: &Log, info: &Info) -> Result<(), End> {
    let epoch = info.epoch().map_err(|failure| End::Unavailable(failure.to_string()))?;
    let (head, last) = (log.index().head(), info.state.last_seq);
    if epoch != head.epoch {
        return Err(End::Lost("the stream does not exist any more, or is another one".to_owned()));
    }
    if last < head.sequence {
        return Err(End::Lost(format!(
            "the stream ends at {last}, before {}: the server has lost what it acknowledged",
            head.sequence
        )));
    }
    Ok(())
}
