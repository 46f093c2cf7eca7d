//! The format of an update and of a subscriber, the same in every store.
//!
//! An update is a version byte, the CRC-32 of the rest, flags, and length-prefixed texts; its event comes last and as it
//! is sent. A subscriber is JSON, which operators can read.

use std::sync::Arc;

use petasos_protocol::{
    Dialect, Limits,
    event::EventId,
    matcher::{MatcherText, MatcherType},
    subscription::{SubscriberId, Subscription},
    topic::HubUrl,
    update::{Origin, Stored, Update},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damaged {
    #[error("its checksum does not fit")]
    Checksum,
    #[error("it was written by a later version: update petasos")]
    Version,
    #[error("it is malformed")]
    Malformed,
}

const VERSION: u8 = 1;

/// Version and checksum.
pub(crate) const HEAD: usize = 1 + size_of::<u32>();

const PRIVATE: u8 = 1;
const OF_HUB: u8 = 2;

/// The record of an update.
pub(crate) fn encode(update: &Update) -> Vec<u8> {
    let Stored { id, topics, private, origin, event } = update.stored();
    let texts = || topics.iter().copied().chain([id]);
    let mut out =
        Vec::with_capacity(HEAD + 16 + texts().map(|text| text.len() + 5).sum::<usize>() + event.len());
    out.push(VERSION);
    out.extend_from_slice(&[0; size_of::<u32>()]);
    out.push(if private { PRIVATE } else { 0 } | if origin == Origin::Hub { OF_HUB } else { 0 });
    push_number(&mut out, topics.len());
    for text in texts() {
        push_number(&mut out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(event);
    let checksum = crc32fast::hash(&out[HEAD..]);
    out[1..HEAD].copy_from_slice(&checksum.to_le_bytes());
    out
}

/// The update of a record, with its topics resolved against the hub's URL.
pub(crate) fn decode(record: &[u8], hub: &HubUrl) -> Result<Update, Damaged> {
    let (head, mut rest) = record.split_at_checked(HEAD).ok_or(Damaged::Malformed)?;
    if head[0] != VERSION {
        return Err(Damaged::Version);
    }
    if crc32fast::hash(rest).to_le_bytes() != head[1..] {
        return Err(Damaged::Checksum);
    }
    let flags = *rest.split_off_first().ok_or(Damaged::Malformed)?;
    let count = take_number(&mut rest).ok_or(Damaged::Malformed)?;
    // Every topic takes at least a byte.
    if count > rest.len() {
        return Err(Damaged::Malformed);
    }
    let topics = (0..count).map(|_| take_text(&mut rest)).collect::<Option<Vec<_>>>();
    let (topics, id) = topics.zip(take_text(&mut rest)).ok_or(Damaged::Malformed)?;
    let stored = Stored {
        id,
        topics,
        private: flags & PRIVATE != 0,
        origin: if flags & OF_HUB == 0 { Origin::Publisher } else { Origin::Hub },
        event: rest,
    };
    Update::restore(&stored, hub).ok_or(Damaged::Malformed)
}

/// The id of an entry, which was checked when the entry was appended; the limits of the node that did so may be higher.
pub(crate) fn decode_id(id: &str) -> Option<EventId> {
    EventId::parse(id, &Limits { id_bytes_max: usize::MAX, ..Limits::default() }).ok()
}

/// Seven bits in each byte, least significant first; the high bit says that more follow.
fn push_number(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = *rest.split_off_first()?;
        number |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = take_number(rest)?;
    let text = rest.split_off(..length)?;
    str::from_utf8(text).ok()
}

#[derive(Serialize, Deserialize)]
struct Subscriber<'a> {
    subscriber: String,
    /// The dialect that all subscriptions of a subscriber have.
    legacy: bool,
    #[serde(borrow)]
    subscriptions: Vec<Recorded<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Recorded<'a> {
    /// Absent in 0.x.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    matcher_type: Option<String>,
    #[serde(rename = "match")]
    text: String,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    payload: Option<&'a RawValue>,
}

/// The record of all subscriptions of one subscriber, at least one.
pub(crate) fn encode_subscriber(subscriptions: &[Subscription]) -> String {
    let legacy = subscriptions.iter().any(|each| each.dialect == Dialect::Legacy);
    let subscriber = Subscriber {
        subscriber: subscriptions.first().map(|each| each.subscriber.to_string()).unwrap_or_default(),
        legacy,
        subscriptions: subscriptions
            .iter()
            .map(|each| Recorded {
                matcher_type: (!legacy).then(|| each.matcher.matcher_type().as_str().to_owned()),
                text: each.matcher.as_str().to_owned(),
                payload: each.payload.as_deref(),
            })
            .collect(),
    };
    serde_json::to_string(&subscriber).expect("strings and valid JSON always serialize")
}

/// The subscriptions of a record of [`encode_subscriber`].
pub(crate) fn decode_subscriber(record: &[u8]) -> Result<Arc<[Subscription]>, Damaged> {
    let Subscriber { subscriber, legacy, subscriptions } =
        serde_json::from_slice(record).map_err(|_| Damaged::Malformed)?;
    let subscriber = subscriber
        .strip_prefix("urn:uuid:")
        .and_then(|uuid| uuid::Uuid::try_parse(uuid).ok())
        .map(|uuid| SubscriberId::from_uuid(uuid.as_u128()))
        .ok_or(Damaged::Malformed)?;
    let subscription = |recorded: Recorded<'_>| {
        let matcher_type = match recorded.matcher_type {
            _ if legacy => MatcherType::Exact,
            name => MatcherType::parse(&name?)?,
        };
        Some(Subscription {
            dialect: if legacy { Dialect::Legacy } else { Dialect::V1 },
            // The node that recorded it has checked it.
            matcher: MatcherText::new(matcher_type, recorded.text),
            subscriber,
            payload: recorded.payload.map(|payload| Arc::from(payload.to_owned())),
        })
    };
    let subscriptions: Option<Arc<[_]>> = subscriptions.into_iter().map(subscription).collect();
    subscriptions.filter(|all| !all.is_empty()).ok_or(Damaged::Malformed)
}

#[cfg(test)]
mod tests {
    use petasos_protocol::request;
    use proptest::prelude::*;

    use super::*;

    fn update() -> Update {
        let body =
            "topic=https%3A%2F%2Fexample.com%2F%C3%A9&topic=b&data=a%0Ab&id=1&private=on&type=t&retry=5";
        let draft = request::publish(body.as_bytes(), &HubUrl::default(), &Limits::default()).expect("valid");
        Update::publish(draft, || EventId::from_uuid("1"))
    }

    #[test]
    fn an_update_comes_back() {
        let update = update();
        assert_eq!(decode(&encode(&update), &HubUrl::default()), Ok(update));
    }

    #[test]
    fn the_format_stays() {
        let body = b"topic=t&data=d&id=i";
        let draft = request::publish(body, &HubUrl::default(), &Limits::default()).expect("valid");
        let record = encode(&Update::publish(draft, || EventId::from_uuid("1")));
        let expected = b"\x01\xc1zJ2\x00\x01\x01t\x01iid: i\ndata: d\n\n";
        assert_eq!(record.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn damage_is_noticed() {
        let record = encode(&update());
        for at in 0..record.len() {
            for bit in 0..8 {
                let mut damaged = record.clone();
                damaged[at] ^= 1 << bit;
                assert!(decode(&damaged, &HubUrl::default()).is_err(), "bit {bit} of byte {at}");
            }
            assert!(decode(&record[..at], &HubUrl::default()).is_err(), "the first {at} bytes");
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut record = encode(&update());
        record[0] = 2;
        assert_eq!(decode(&record, &HubUrl::default()), Err(Damaged::Version));
    }

    proptest! {
        /// With a checksum that fits, so that the rest is read at all.
        #[test]
        fn no_record_makes_it_panic(rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut record = vec![VERSION];
            record.extend(crc32fast::hash(&rest).to_le_bytes());
            record.extend(rest);
            let _ = decode(&record, &HubUrl::default());
        }

        #[test]
        fn numbers_come_back(number in any::<u32>()) {
            let mut out = Vec::new();
            push_number(&mut out, number as usize);
            prop_assert_eq!(take_number(&mut &out[..]), Some(number as usize));
        }

        #[test]
        fn no_subscriber_makes_it_panic(record in "\\{\"subscriber\":\"[a-f0-9:-]{0,45}\".{0,40}\\}|.{0,40}") {
            let _ = decode_subscriber(record.as_bytes());
        }
    }
}
