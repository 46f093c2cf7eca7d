//! Appends: each update is a message of its own, and many are on their way at once.

use std::sync::Arc;

use async_nats::HeaderMap;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use petasos_hub::{TransportError, transport::Position};
use petasos_protocol::update::{Origin, Update};

use super::{
    api::Ack,
    attempts::Attempts,
    failure::Failure,
    index::{EVENT, ID},
    link::Sent,
    log::Log,
};
use crate::{codec, shared::reported::Reported};

/// Takes the appends of a process.
pub(super) struct Writer {
    pub(super) log: Arc<Log>,
    /// Ids of events that were larger than the server takes.
    oversized: Reported<String>,
}

/// An update that has been sent.
struct Append {
    /// The head of the log before that, as far as it was known.
    before: Position,
    sent: Sent,
}

/// Updates of one call of [`Writer::append_once`] that are on their way at once.
const IN_FLIGHT_MAX: usize = 256;

/// The header that keeps a message out of any other stream.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// What a header loses or cannot hold.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b':');

impl Writer {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log, oversized: Reported::default() }
    }

    /// Adds an update.
    pub(super) async fn append(&self, update: &Update) -> Result<Position, TransportError> {
        self.turn().await?;
        let (before, ack) = self.publish(update).await.inspect_err(|failure| {
            if failure.is_full() {
                self.log.capacity.refused(update.size(), failure);
            }
        })?;
        let mut position = Position { epoch: before.epoch, sequence: ack.seq };
        if ack.seq <= before.sequence {
            // Sequences grow unless the log was lost.
            self.log.doubt();
            position.epoch = self.log.ask(|index| index.epoch).await?;
        }
        self.has_appended(position);
        Ok(position)
    }

    /// Sends an update and waits until the server has taken it. With the head of the log before that, as far as it was known.
    async fn publish(&self, update: &Update) -> Result<(Position, Ack), Failure> {
        let attempts = self.log.link.attempts();
        loop {
            match self.attempt(update, &attempts).await {
                Err(failure) if attempts.go_on(&failure) => {}
                result => return result,
            }
        }
    }

    async fn attempt(&self, update: &Update, attempts: &Attempts) -> Result<(Position, Ack), Failure> {
        let Append { before, sent } = self.begin(update, None, attempts).await?;
        Ok((before, self.log.link.published(sent).await?))
    }

    /// Adds updates one after the other, each once only under the id that stands before it. Those that are larger than
    /// the server takes are left out. Those that nobody has received follow the others.
    pub(super) async fn append_once(&self, updates: &[(String, Update)]) -> Result<(), TransportError> {
        for updates in updates.chunks(IN_FLIGHT_MAX) {
            self.turn().await?;
            let attempts = self.log.link.attempts();
            let mut untaken: Vec<_> = updates.iter().collect();
            while !untaken.is_empty() {
                untaken = self.send_all(untaken, &attempts).await?;
            }
        }
        Ok(())
    }

    /// Sends updates at once, and returns those that nobody has received and that have time left.
    async fn send_all<'a>(
        &self,
        updates: Vec<&'a (String, Update)>,
        attempts: &Attempts,
    ) -> Result<Vec<&'a (String, Update)>, Failure> {
        let (mut appends, mut untaken) = (Vec::with_capacity(updates.len()), Vec::new());
        for each in updates {
            let (event_id, update) = each;
            match self.begin(update, Some(event_id), attempts).await {
                Err(failure) if failure.is_too_large() => self.leave_out(event_id, &failure),
                Err(failure) if attempts.go_on(&failure) => untaken.push(each),
                append => appends.push((each, append?)),
            }
        }
        for (each, append) in appends {
            match self.log.link.published(append.sent).await {
                Err(failure) if failure.is_too_large() => self.leave_out(&each.0, &failure),
                Err(failure) if attempts.go_on(&failure) => untaken.push(each),
                ack => {
                    let sequence = ack?.seq;
                    self.has_appended(Position { epoch: append.before.epoch, sequence });
                }
            }
        }
        Ok(untaken)
    }

    fn leave_out(&self, event_id: &str, failure: &Failure) {
        if self.oversized.is_news(event_id.to_owned()) {
            tracing::warn!(log = self.log.link.settings.name, event_id, error = %failure, "a subscription event is larger than the server takes: it is left out");
        }
    }

    /// Sends an update. `event_id`: the id under which the server takes it once only.
    async fn begin(
        &self,
        update: &Update,
        event_id: Option<&str>,
        attempts: &Attempts,
    ) -> Result<Append, Failure> {
        let before = self.log.known_head();
        let subject = match update.origin() {
            Origin::Publisher => &self.log.streams.updates,
            Origin::Hub => &self.log.streams.events,
        };
        let mut headers = HeaderMap::new();
        headers.insert(ID, utf8_percent_encode(update.id().as_str(), ENCODED).to_string());
        headers.insert(EXPECTED_STREAM, self.log.streams.log.as_str());
        if let Some(event_id) = event_id {
            headers.insert(EVENT, event_id);
        }
        let sent = self.log.link.publish(subject, headers, codec::encode(update).into(), attempts).await?;
        Ok(Append { before, sent })
    }

    fn has_appended(&self, position: Position) {
        self.log.capacity.took();
        self.log.pace.appended(position);
    }

    /// Waits for the followers of this process, as [`crate::shared::pace::Pace::turn`] says.
    async fn turn(&self) -> Result<(), TransportError> {
        // When the log has lost its end, no follower ever comes to what was appended before.
        let newest = self.log.pace.newest().min(self.log.known_head());
        self.log.pace.turn(newest, self.log.link.settings.timeout).await
    }
}
