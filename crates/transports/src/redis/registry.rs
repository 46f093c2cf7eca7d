//! The subscribers of all nodes: records beside the log, changed together with the events that announce them.

use std::{borrow::Cow, sync::Arc, time::Duration};

use ::redis::Value;
use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use petasos_protocol::subscription::Subscription;

use super::{
    link::Link,
    script::{ABANDONED, LIST, RECORD, RENEW, RESIGN},
    writer::Kept,
};
use crate::{
    codec::{self, Damaged},
    shared::{
        decoder::Decoder,
        facts::{self, Answers, CHUNK_EVENTS},
        pace::Pace,
    },
};

/// The subscribers of all nodes.
pub(super) struct Subscribers {
    pub(super) link: Arc<Link>,
    pub(super) kept: Arc<Kept>,
    pub(super) pace: Arc<Pace>,
    pub(super) decoder: Arc<Decoder>,
}

/// Abandoned subscribers that one call finds; the script looks at 256 nodes at most.
const ABANDONED_ENTRIES: usize = 128;

#[async_trait]
impl Registry for Subscribers {
    fn lease(&self) -> Duration {
        self.link.settings.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        let lease = self.link.settings.lease.as_millis() as u64;
        // The server answers "ended" once: if that answer is lost, a second call would be answered "kept".
        let mut answer = self.link.call_once(&RENEW, (node.to_string(), lease)).await?;
        Ok(facts::lease(answer.next_flag()?))
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        let mut answers = Answers::default();
        for chunk in facts::chunks(facts, CHUNK_EVENTS) {
            if answers.has_ended(self.record_chunk(node, "record", chunk).await?)? {
                return Ok(Lease::Ended);
            }
        }
        Ok(Lease::Kept)
    }

    async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, TransportError> {
        let mut found = Vec::new();
        let mut from = Value::BulkString(b"-".to_vec());
        while found.len() < limit {
            let Value::BulkString(place) = from else { break };
            let mut answer = self.link.call(&ABANDONED, (place, ABANDONED_ENTRIES)).await?;
            from = answer.next()?;
            // Damaged records stay, and must not keep the others from being found.
            found.extend(answer.next_pairs()?.iter().filter_map(|(owned, record)| {
                let (node, subscriber) = text(owned)?.split_once(' ')?;
                let subscriptions = self.subscriptions(subscriber, record)?;
                Some(Abandoned { node: NodeId::parse(node)?, subscriptions })
            }));
        }
        found.truncate(limit);
        Ok(found)
    }

    async fn expire(&self, node: NodeId, departures: &[Fact]) -> Result<(), TransportError> {
        for chunk in facts::chunks(departures, CHUNK_EVENTS) {
            self.record_chunk(node, "expire", chunk).await?;
        }
        Ok(())
    }

    async fn resign(&self, node: NodeId) -> Result<(), TransportError> {
        self.link.call(&RESIGN, node.to_string()).await?;
        Ok(())
    }

    async fn page(&self, wanted: Option<&str>, after: u64, limit: usize) -> Result<Page, TransportError> {
        let mut answer = self.link.call(&LIST, (after, limit)).await?;
        let Some(last) = answer.next_number()? else { return Ok(Page::default()) };
        let page = answer.next_pairs()?;
        let readable =
            page.iter().filter_map(|(subscriber, record)| self.subscriptions(text(subscriber)?, record));
        let matching = |all: &Arc<[Subscription]>| {
            wanted.is_none_or(|wanted| all.iter().any(|each| each.matcher.as_str() == wanted))
        };
        Ok(Page { subscribers: readable.filter(matching).collect(), next: Some(last) })
    }
}

impl Subscribers {
    /// Records a chunk as the script takes it: whole, or not at all without a lease.
    async fn record_chunk(&self, node: NodeId, how: &str, chunk: &[Fact]) -> Result<Lease, TransportError> {
        self.pace.turn(self.pace.newest(), self.link.settings.timeout).await?;
        let mut arguments: Vec<Cow<'_, [u8]>> = self.kept.as_arguments().into_iter().map(Cow::from).collect();
        let text = |text: String| Cow::from(text.into_bytes());
        arguments.extend([text(node.to_string()), how.as_bytes().into()]);
        for fact in chunk {
            let active: &[u8] = if fact.active { b"1" } else { b"0" };
            arguments.extend([text(fact.subscriber.to_string()), active.into()]);
            arguments.push(text(codec::encode_subscriber(&fact.subscriptions)));
            arguments.push(text(fact.events.len().to_string()));
            for event in &fact.events {
                arguments.extend([event.id().as_str().as_bytes().into(), codec::encode(event).into()]);
            }
        }
        let arguments: Vec<&[u8]> = arguments.iter().map(AsRef::as_ref).collect();
        let mut answer = self.link.call(&RECORD, arguments).await?;
        let lease = facts::lease(answer.next_flag()?);
        if let Lease::Kept = lease {
            self.link.capacity().took();
            self.pace.appended(answer.state.position);
        }
        Ok(lease)
    }

    /// The subscriptions in a record. `None`: the record is damaged, or is another subscriber's.
    fn subscriptions(&self, subscriber: &str, record: &Value) -> Option<Arc<[Subscription]>> {
        let decoded = match record {
            Value::BulkString(record) => codec::decode_subscriber(record),
            _ => Err(Damaged::Malformed),
        };
        // Another subscriber's would be expired again and again, and stay.
        let is_own = |all: &Arc<[Subscription]>| {
            all.first().is_some_and(|first| first.subscriber.to_string() == subscriber)
        };
        let decoded = decoded.and_then(|all| if is_own(&all) { Ok(all) } else { Err(Damaged::Malformed) });
        self.decoder.subscriber(&subscriber, decoded)
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    }
}
