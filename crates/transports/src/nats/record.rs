//! The record of a subscriber: JSON for operators while the subscriber is there, and the events that are still to be appended
//! while it departs.

use petasos_protocol::subscription::SubscriberId;
use uuid::Uuid;

/// A subscriber as it is recorded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// It is there: what [`crate::codec::encode_subscriber`] wrote.
    Present(String),
    /// Its node is gone, and another node is about to append the events of its departure.
    Departing {
        /// The revision that departs.
        since: u64,
        /// As when it was there.
        subscriber: String,
        /// The records of the events, as in the log.
        events: Vec<Vec<u8>>,
    },
    /// It cannot be read.
    Damaged,
}

/// The first byte of a departing record; a present one begins with a brace.
const DEPARTING: u8 = b'-';

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Present(subscriber) => subscriber.clone().into_bytes(),
            Self::Departing { since, subscriber, events } => {
                let mut out = vec![DEPARTING];
                out.extend_from_slice(&since.to_le_bytes());
                for part in [subscriber.as_bytes()].into_iter().chain(events.iter().map(Vec::as_slice)) {
                    // Parts are bounded by the server's largest message.
                    out.extend_from_slice(&(part.len() as u32).to_le_bytes());
                    out.extend_from_slice(part);
                }
                out
            }
            Self::Damaged => Vec::new(),
        }
    }

    pub(super) fn decode(record: &[u8]) -> Option<Self> {
        match record {
            [b'{', ..] => Some(Self::Present(String::from_utf8(record.to_vec()).ok()?)),
            [DEPARTING, rest @ ..] => {
                let (since, mut rest) = rest.split_first_chunk()?;
                let since = u64::from_le_bytes(*since);
                let subscriber = String::from_utf8(part(&mut rest)?.to_vec()).ok()?;
                let mut events = Vec::new();
                while !rest.is_empty() {
                    events.push(part(&mut rest)?.to_vec());
                }
                Some(Self::Departing { since, subscriber, events })
            }
            _ => None,
        }
    }

    /// Leaves the largest of its events out; the others keep their numbers. False: it has none.
    pub(super) fn shrink(&mut self) -> bool {
        let Self::Departing { events, .. } = self else { return false };
        let Some(largest) = events.iter_mut().max_by_key(|event| event.len()) else { return false };
        largest.clear();
        while events.last().is_some_and(Vec::is_empty) {
            events.pop();
        }
        true
    }

    /// What [`crate::codec::decode_subscriber`] reads.
    pub(super) fn subscriber(&self) -> Option<&str> {
        match self {
            Self::Present(subscriber) | Self::Departing { subscriber, .. } => Some(subscriber),
            Self::Damaged => None,
        }
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    *rest = after;
    rest.split_off(..usize::try_from(u32::from_le_bytes(*length)).ok()?)
}

/// The token of a subject that stands for a subscriber.
pub(super) fn subscriber_token(subscriber: SubscriberId) -> String {
    Uuid::from_u128(subscriber.as_uuid()).simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back() {
        for record in [
            Record::Present("{}".to_owned()),
            Record::Departing { since: 7, subscriber: "{}".to_owned(), events: vec![vec![], vec![1, 2]] },
        ] {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn a_departing_record_shrinks_by_its_largest_event() {
        let departing = |events: &[&[u8]]| Record::Departing {
            since: 7,
            subscriber: "{}".to_owned(),
            events: events.iter().map(|event| event.to_vec()).collect(),
        };
        let mut record = departing(&[b"ab", b"a", b"abc"]);
        for left in [&[b"ab" as &[u8], b"a"] as &[&[u8]], &[b"", b"a"], &[]] {
            assert!(record.shrink());
            assert_eq!(record, departing(left));
        }
        assert!(!record.shrink());
    }

    #[test]
    fn what_is_cut_off_is_damaged() {
        let record = Record::Departing { since: 7, subscriber: "{}".to_owned(), events: vec![vec![1, 2]] };
        let record = record.encode();
        for at in (0..record.len()).filter(|at| *at != 1 + 8 + 4 + 2) {
            assert_eq!(Record::decode(&record[..at]), None, "the first {at} bytes");
        }
        assert_eq!(Record::decode(b"nonsense"), None);
    }
}
