//! Who is subscribed: records beside the log, changed together with the events that tell of them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ::redis::Value;
use async_trait::async_trait;
use petasos_hub::{
    TransportError,
    registry::{Abandoned, Fact, Lease, NodeId, Page, Registry},
};
use petasos_protocol::subscription::Subscription;

use super::{
    RedisTransport,
    script::{ABANDONED, LIST, RECORD, RENEW, RESIGN},
};
use crate::{
    codec::{self, Damaged},
    shared::facts::Chunks,
};

/// What goes in one call: the server does nothing else meanwhile.
const RECORD_EVENTS: usize = 256;
const RECORD_BYTES: usize = 1024 * 1024;

/// What one call finds of those whose node is gone; it looks at a few hundred nodes at most.
const ABANDONED_ENTRIES: usize = 128;

#[async_trait]
impl Registry for RedisTransport {
    fn lease(&self) -> Duration {
        self.link.settings.lease
    }

    async fn renew(&self, node: NodeId) -> Result<Lease, TransportError> {
        let lease = self.link.settings.lease.as_millis() as u64;
        // "Ended" is said once: if that answer is lost, a second attempt would hear "kept".
        let mut answer = self.link.call_once(&RENEW, (node.to_string(), lease)).await?;
        Ok(lease_of(answer.next_flag()?))
    }

    async fn record(&self, node: NodeId, facts: &[Fact]) -> Result<Lease, TransportError> {
        let mut chunks = Chunks::default();
        for batch in batches(facts) {
            let lease = self.record_batch(node, "record", &batch).await?;
            if chunks.has_ended(lease)? {
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
            // Those that cannot be read stay, and must not keep the others from being found.
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
        for batch in batches(departures) {
            self.record_batch(node, "expire", &batch).await?;
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

impl RedisTransport {
    async fn record_batch(
        &self,
        node: NodeId,
        how: &str,
        batch: &[Vec<u8>],
    ) -> Result<Lease, TransportError> {
        self.room().await?;
        let node = node.to_string();
        let mut arguments = self.bounds.as_arguments();
        arguments.extend([node.as_bytes(), how.as_bytes()]);
        arguments.extend(batch.iter().map(Vec::as_slice));
        let mut answer = self.link.call(&RECORD, arguments).await?;
        let lease = lease_of(answer.next_flag()?);
        if let Lease::Kept = lease {
            self.link.capacity().took();
            self.appended(answer.state.position);
        }
        Ok(lease)
    }

    /// What a subscriber's record says, if that can be read and is of that subscriber.
    fn subscriptions(&self, subscriber: &str, record: &Value) -> Option<Arc<[Subscription]>> {
        let decoded = text(record).ok_or(Damaged::Malformed);
        let decoded = decoded.and_then(codec::decode_subscriber);
        // A record of another subscriber would be expired again and again, and stay.
        let is_of = |one: &Subscription| one.subscriber.to_string() == subscriber;
        decoded
            .and_then(|all| if all.first().is_some_and(is_of) { Ok(all) } else { Err(Damaged::Malformed) })
            .inspect_err(|damage| self.report_subscriber(subscriber, *damage))
            .ok()
    }
}

/// Facts as the script takes them, in calls of a bounded size. No call has two facts of one subscriber: of an arrival
/// and a departure that are given again, as after a lost answer, both would be new once more.
fn batches(facts: &[Fact]) -> Vec<Vec<Vec<u8>>> {
    let mut batches = Vec::new();
    let (mut batch, mut subscribers, mut events, mut bytes) = (Vec::new(), HashSet::new(), 0, 0);
    for fact in facts {
        if events >= RECORD_EVENTS || bytes >= RECORD_BYTES || subscribers.contains(&fact.subscriber) {
            batches.push(std::mem::take(&mut batch));
            subscribers.clear();
            (events, bytes) = (0, 0);
        }
        subscribers.insert(fact.subscriber);
        let begin = batch.len();
        batch.push(fact.subscriber.to_string().into_bytes());
        batch.push(if fact.active { b"1".to_vec() } else { b"0".to_vec() });
        batch.push(codec::encode_subscriber(&fact.subscriptions).into_bytes());
        batch.push(fact.events.len().to_string().into_bytes());
        for event in &fact.events {
            batch.push(event.id().as_str().as_bytes().to_vec());
            batch.push(codec::encode(event));
        }
        events += fact.events.len().max(1);
        bytes += batch[begin..].iter().map(Vec::len).sum::<usize>();
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn lease_of(is_kept: bool) -> Lease {
    if is_kept { Lease::Kept } else { Lease::Ended }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        _ => None,
    }
}
