//! A write of the registry: a message that replaces the last one of its subject, if that is still the expected one. So it may
//! be sent again without being done twice.

use async_nats::HeaderMap;
use bytes::Bytes;

use super::{
    attempts::Attempts,
    failure::{Failure, codes},
    link::{Link, Sent},
};

/// A write on its way, with everything that is needed to send it again.
pub(super) struct Write {
    subject: String,
    headers: HeaderMap,
    payload: Bytes,
    attempts: Attempts,
    sent: Result<Sent, Failure>,
}

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// The header with the arrival that a record tells of: the id of its first event, percent-encoded by the node that made it,
/// and in a record that has got another revision the one that it had at first.
pub(super) const ARRIVAL: &str = "Petasos-Arrival";

impl Write {
    /// Sends a write. Those that begin one after the other reach the server in that order. `expected`: the sequence of the last
    /// message of the subject; 0: there is none.
    pub(super) async fn begin(
        link: &Link,
        subject: &str,
        expected: u64,
        arrival: Option<&str>,
        payload: Bytes,
        attempts: Attempts,
    ) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED, expected.to_string());
        if let Some(arrival) = arrival {
            headers.insert(ARRIVAL, arrival);
        }
        let sent = link.publish(subject, headers.clone(), payload.clone(), &attempts).await;
        Self { subject: subject.to_owned(), headers, payload, attempts, sent }
    }

    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Waits for the sequence of the message, which is sent again while nobody receives it. `None`: the last one of the subject
    /// is not the expected one.
    ///
    /// In a cluster another message that expects the same one may be stored, too, unless 0 is expected: [`super::settled`] tells.
    pub(super) async fn end(self, link: &Link) -> Result<Option<u64>, Failure> {
        let Self { subject, headers, payload, attempts, mut sent } = self;
        loop {
            let written = match sent {
                Ok(sent) => link.published(sent).await,
                Err(failure) => Err(failure),
            };
            match written {
                Ok(ack) => return Ok(Some(ack.seq)),
                Err(failure) if failure.is(codes::WRONG_LAST_SEQUENCE) => return Ok(None),
                Err(failure) if attempts.go_on(&failure) => {}
                Err(failure) => return Err(failure),
            }
            sent = link.publish(&subject, headers.clone(), payload.clone(), &attempts).await;
        }
    }
}
