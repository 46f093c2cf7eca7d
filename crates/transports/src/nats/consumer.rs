//! Messages of one stream from a sequence on, in order and without gap, over disconnections.
//!
//! Reads over an ephemeral pull consumer of the server: the server sends as many messages as were asked for, so that a slow
//! reader holds up nobody and pins little. When that consumer is lost, another one goes on at the exact sequence.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    api::{ConsumerConfig, Info},
    failure::{Failure, codes},
    link::{Connection, Link},
};

/// A message at its place.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) seq: u64,
    pub(super) subject: String,
    pub(super) headers: Option<HeaderMap>,
    pub(super) payload: Bytes,
    /// When the server took it, in nanoseconds.
    time: u64,
    /// How many follow it, as of its delivery.
    pub(super) pending: u64,
}

/// Why a consumer has no messages.
#[derive(Debug)]
pub(super) enum End {
    /// For now; try again.
    Unavailable(String),
    /// The stream is another one, or has lost what was read last.
    Lost(String),
}

/// A consumer of one stream. See the module.
pub(super) struct Consumer {
    link: Arc<Link>,
    stream: String,
    headers_only: bool,
    /// Whether it ends where the stream ends: it gives nothing then.
    ends: bool,
    /// Only messages of these subjects.
    filter: Option<String>,
    epoch: u64,
    /// What was delivered last: its sequence, and its time if it is known.
    after: u64,
    after_time: Option<u64>,
    attached: Option<Attached>,
}

/// What is known when a consumer has been attached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// The end of the stream shortly before.
    pub(super) last: u64,
    /// Messages that are to come, as of then.
    pub(super) pending: u64,
}

struct Attached {
    link: Arc<Link>,
    stream: String,
    consumer: String,
    /// Keeps the client that the consumer's messages come from.
    connection: Arc<Connection>,
    messages: Subscriber,
    inbox: String,
    /// Messages delivered by this consumer, as it counts them.
    delivered: u64,
    pulls: u64,
    /// When the server was last heard of, or asked.
    heard: Instant,
    /// Of the current pull, still to come.
    outstanding: usize,
    /// Whether a message was too large for a pull's bytes.
    oversized: bool,
    /// Whether the last pull ended because there was nothing more.
    is_over: bool,
    /// The first message is the one that was delivered last, to be compared.
    compare: bool,
}

/// Messages that are asked for at once.
const BATCH: usize = 1_024;

/// Bytes of a pull, unless a single message has more: what a slow reader pins in the client's queue.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A pull ends by itself after this time and is followed by another.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// The server says that it is there this often while it has nothing to deliver.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Several heartbeats have been missed.
const SILENCE_MAX: Duration = Duration::from_millis(3_500);

impl Consumer {
    /// Reads what follows `after` in the stream that was made at `epoch`.
    pub(super) fn new(link: Arc<Link>, stream: &str, headers_only: bool, epoch: u64, after: u64) -> Self {
        let stream = stream.to_owned();
        Self {
            link,
            stream,
            headers_only,
            ends: false,
            filter: None,
            epoch,
            after,
            after_time: None,
            attached: None,
        }
    }

    /// Ends where the stream ends: [`Consumer::next`] gives nothing then.
    pub(super) fn that_ends(mut self) -> Self {
        self.ends = true;
        self
    }

    /// Gives messages of these subjects only.
    pub(super) fn with_filter(mut self, filter: Option<String>) -> Self {
        self.filter = filter;
        self
    }

    /// Makes a consumer on the server, unless there is one.
    pub(super) async fn attach(&mut self) -> Result<Option<Start>, End> {
        if self.attached.is_some() {
            return Ok(None);
        }
        let before = self.check().await?;
        let compare = self.after_time.is_some();
        let from = if compare { self.after } else { self.after + 1 };
        let consumer = format!("petasos-{}", Uuid::new_v4().simple());
        let connection = self.link.connection();
        let inbox = connection.client.new_inbox();
        let messages = connection.client.subscribe(format!("{inbox}.*")).await;
        let messages = messages.map_err(|_| End::Unavailable("the connection is closed".to_owned()))?;
        let filter = self.filter.as_deref();
        let config = ConsumerConfig { name: &consumer, from, headers_only: self.headers_only, filter };
        let pending =
            self.link.consume(&self.stream, &config).await.map_err(|failure| unavailable(&failure))?;
        let attached = Attached {
            link: Arc::clone(&self.link),
            stream: self.stream.clone(),
            consumer,
            connection,
            messages,
            inbox,
            delivered: 0,
            pulls: 0,
            heard: Instant::now(),
            outstanding: 0,
            oversized: false,
            is_over: false,
            compare,
        };
        // Had it been made anew in between, the consumer would be one of the new stream.
        self.check().await?;
        self.attached = Some(attached);
        // The message that is compared does not count, unless it was removed.
        let is_compared = compare && before.state.first_seq <= self.after;
        let pending = pending.saturating_sub(u64::from(is_compared));
        Ok(Some(Start { last: before.state.last_seq, pending }))
    }

    /// Fails if the stream is not the one that was read so far.
    pub(super) async fn check(&self) -> Result<Info, End> {
        // A stream that does not exist is waited for: the task that keeps the index makes it again, as another one.
        let info = self.link.info(&self.stream).await.map_err(|failure| unavailable(&failure))?;
        let epoch = info.epoch().map_err(|failure| unavailable(&failure))?;
        if epoch != self.epoch {
            return Err(End::Lost("the stream was lost and has been made anew".to_owned()));
        }
        if info.state.last_seq < self.after {
            return Err(End::Lost(format!(
                "the stream ends at {}, before {}, which had been read: the server has lost what it acknowledged",
                info.state.last_seq, self.after
            )));
        }
        Ok(info)
    }

    /// Waits for messages: at least one, and all that are there. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Vec<Raw>, End> {
        self.attach().await?;
        let result = self.take().await;
        if result.is_err() {
            self.detach();
        }
        result
    }

    /// Drops the consumer on the server; another one goes on where it was.
    pub(super) fn detach(&mut self) {
        self.attached = None;
    }

    async fn take(&mut self) -> Result<Vec<Raw>, End> {
        let Some(attached) = &mut self.attached else {
            return Err(End::Unavailable("there is no consumer".to_owned()));
        };
        let mut batch = Vec::new();
        loop {
            if attached.outstanding == 0 {
                if self.ends && attached.pulls > 0 && attached.is_over {
                    return Ok(batch);
                }
                attached.pull(self.ends).await?;
            }
            // What is there already comes before the deadline, and every wait for the next has the same one.
            let message = timeout_at(attached.heard + SILENCE_MAX, attached.messages.next()).await;
            let message = message.map_err(|_| End::Unavailable(format!("silent for {SILENCE_MAX:?}")))?;
            let mut message =
                Some(message.ok_or_else(|| End::Unavailable("the connection is closed".to_owned()))?);
            // No await from here on: what is taken is given, or the consumer is begun anew behind what was given.
            while let Some(received) = message.take() {
                match attached.receive(received) {
                    Ok(None) => {}
                    Ok(Some(raw)) if std::mem::take(&mut attached.compare) && raw.seq == self.after => {
                        if self.after_time != Some(raw.time) {
                            return Err(End::Lost(format!(
                                "the stream has another message at {}: the server has lost what it acknowledged",
                                raw.seq
                            )));
                        }
                    }
                    Ok(Some(raw)) => {
                        if raw.seq > self.after {
                            (self.after, self.after_time) = (raw.seq, Some(raw.time));
                            batch.push(raw);
                        }
                    }
                    Err(end) if batch.is_empty() => return Err(end),
                    Err(_) => {
                        self.attached = None;
                        return Ok(batch);
                    }
                }
                if batch.len() < BATCH && attached.outstanding > 0 {
                    message = attached.messages.next().now_or_never().flatten();
                }
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }
}

impl Attached {
    /// Asks for messages.
    async fn pull(&mut self, no_wait: bool) -> Result<(), End> {
        let (batch, bytes) = if self.oversized { (1, None) } else { (BATCH, Some(BATCH_BYTES)) };
        let mut request = json!({"batch": batch});
        if no_wait {
            request["no_wait"] = true.into();
        } else {
            request["expires"] = (PULL_EXPIRES.as_nanos() as u64).into();
            request["idle_heartbeat"] = (HEARTBEAT.as_nanos() as u64).into();
        }
        if let Some(bytes) = bytes {
            request["max_bytes"] = bytes.into();
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
        let reply = format!("{}.{}", self.inbox, self.pulls + 1);
        let sent = self.connection.client.publish_with_reply(subject, reply, request.to_string().into());
        let sent = tokio::time::timeout(self.link.settings.timeout, sent).await;
        sent.ok().and_then(Result::ok).ok_or_else(|| End::Unavailable("nothing can be sent".to_owned()))?;
        self.pulls += 1;
        self.heard = Instant::now();
        self.outstanding = batch;
        self.oversized = false;
        Ok(())
    }

    /// A message of the stream, or nothing if it tells about the pull.
    fn receive(&mut self, message: Message) -> Result<Option<Raw>, End> {
        self.heard = Instant::now();
        let Some(status) = message.status else { return self.delivery(message).map(Some) };
        let of_this_pull = message.subject.rsplit('.').next() == Some(self.pulls.to_string().as_str());
        match status.as_u16() {
            100 => {}
            404 | 408 | 409 => {
                let text = message.description.unwrap_or_default().to_ascii_lowercase();
                let is_over = ["deleted", "leadership", "shutdown", "push based"];
                if is_over.iter().any(|part| text.contains(part)) {
                    return Err(End::Unavailable(text));
                }
                if of_this_pull {
                    self.outstanding = 0;
                    self.oversized = text.contains("message size exceeds");
                    self.is_over = status.as_u16() != 409;
                }
            }
            _ => return Err(End::Unavailable(message.description.unwrap_or_else(|| status.to_string()))),
        }
        Ok(None)
    }

    fn delivery(&mut self, message: Message) -> Result<Raw, End> {
        let place = message.reply.as_deref().and_then(place);
        let place = place.ok_or_else(|| End::Unavailable("a delivery without a place".to_owned()))?;
        if place.delivered != self.delivered + 1 {
            return Err(End::Unavailable(format!(
                "delivery {} came after {}: some were dropped on their way",
                place.delivered, self.delivered
            )));
        }
        self.delivered = place.delivered;
        self.outstanding = self.outstanding.saturating_sub(1);
        Ok(Raw {
            seq: place.seq,
            subject: message.subject.to_string(),
            headers: message.headers,
            payload: message.payload,
            time: place.time,
            pending: place.pending,
        })
    }
}

impl Drop for Attached {
    /// The server would notice by itself, after a while.
    fn drop(&mut self) {
        if !self.link.health.is_available() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (link, stream) = (Arc::clone(&self.link), std::mem::take(&mut self.stream));
            let consumer = std::mem::take(&mut self.consumer);
            runtime.spawn(async move { link.release(&stream, &consumer).await });
        }
    }
}

/// What a delivery's reply subject says of it.
struct Place {
    seq: u64,
    delivered: u64,
    time: u64,
    pending: u64,
}

/// `$JS.ACK.<stream>.<consumer>.<deliveries>.<sequence>.<delivered>.<time>.<pending>`, in later servers with domain and
/// account before the stream, and with a random token at the end.
fn place(reply: &str) -> Option<Place> {
    let tokens: Vec<_> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let at = match tokens.len() {
        7 => 3,
        9.. => 5,
        _ => return None,
    };
    let number = |offset: usize| tokens.get(at + offset)?.parse().ok();
    Some(Place { seq: number(0)?, delivered: number(1)?, time: number(2)?, pending: number(3)? })
}

fn unavailable(failure: &Failure) -> End {
    match failure.is(codes::STREAM_NOT_FOUND) {
        true => End::Unavailable("the stream does not exist".to_owned()),
        false => End::Unavailable(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_in_both_forms() {
        for reply in
            ["$JS.ACK.s.c.1.20.3.4.5", "$JS.ACK._.hash.s.c.1.20.3.4.5", "$JS.ACK.d.hash.s.c.1.20.3.4.5.x"]
        {
            let place = place(reply).expect(reply);
            assert_eq!((place.seq, place.delivered, place.time, place.pending), (20, 3, 4, 5));
        }
        for reply in ["", "$JS.ACK.s", "$JS.ACK.s.c.1.a.3.4.5", "_INBOX.s.c.1.20.3.4.5"] {
            assert!(place(reply).is_none(), "{reply}");
        }
    }
}
