//! What the processes of a host say to each other: frames of a length, a number and a message.
//!
//! The first frame of a connection is a [`Request::Hello`]. Each request is answered by one frame with its number, in any
//! order. After [`Request::Follow`], the connection carries batches only.

use std::io;

use petasos_hub::{
    TransportError,
    transport::{Entry, Head, Page, Position, Trimmed},
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{
    codec::{self, decode_id},
    shared::decoder::Decoder,
};

/// The version of these messages and of their meaning. A process of another version is refused.
pub(super) const VERSION: u32 = 1;

/// The longest frame: a page, or a chunk of facts, and one update more, as large as limits of a hub may allow.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Length and number.
const HEAD_BYTES: usize = size_of::<u32>() + size_of::<u64>();

/// A position: epoch and sequence.
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) struct WirePosition(u64, u64);

/// A sequence and a record. The epoch is that of the message.
pub(super) type Row<'a> = (u64, &'a [u8]);

#[derive(Serialize, Deserialize)]
pub(super) enum Request<'a> {
    /// `member` is a number of the process, for a connection over which it asks; none if it only follows.
    Hello {
        version: u32,
        member: Option<u128>,
    },
    /// A sign of life.
    Ping,
    /// `resumes`: it has followed before, up to this position.
    Follow {
        after: WirePosition,
        resumes: bool,
    },
    Head,
    Extent,
    Append {
        record: &'a [u8],
    },
    Locate {
        id: &'a str,
    },
    Read {
        after: WirePosition,
        limit: u32,
    },
    Renew {
        node: &'a str,
    },
    Record {
        node: &'a str,
        is_expiry: bool,
        #[serde(borrow)]
        facts: Vec<RecordedFact<'a>>,
    },
    Abandoned {
        limit: u32,
    },
    Resign {
        node: &'a str,
    },
    Subscribers {
        text: Option<&'a str>,
        after: u64,
        limit: u32,
    },
}

/// A fact of the registry: its subscriber is in the record.
#[derive(Serialize, Deserialize)]
pub(super) struct RecordedFact<'a> {
    pub(super) is_active: bool,
    pub(super) subscriber: String,
    #[serde(borrow)]
    pub(super) events: Vec<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Answer<'a> {
    /// To a hello: the end of the log.
    Welcome {
        head: WirePosition,
    },
    /// To a ping: whether the log takes appends.
    Pong {
        is_ready: bool,
    },
    Head {
        position: WirePosition,
        id: Option<&'a str>,
    },
    /// The oldest update was appended so many milliseconds after 1970.
    Extent {
        updates: Option<u64>,
        bytes: Option<u64>,
        oldest: Option<u64>,
    },
    /// To an append: the position of the update.
    Appended(WirePosition),
    Located(Option<WirePosition>),
    Page {
        #[serde(borrow)]
        rows: Vec<Row<'a>>,
        through: WirePosition,
        at_end: bool,
        updates_trimmed: WirePosition,
        events_trimmed: WirePosition,
    },
    /// The node had a lease.
    Lease(bool),
    Abandoned(#[serde(borrow)] Vec<(&'a str, &'a str)>),
    Subscribers {
        #[serde(borrow)]
        records: Vec<&'a str>,
        next: Option<u64>,
    },
    Done,
    /// What followers get.
    Batch {
        epoch: u64,
        #[serde(borrow)]
        rows: Vec<Row<'a>>,
    },
    Failed(Fault, &'a str),
}

/// The kinds of [`TransportError`].
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum Fault {
    Closed,
    Trimmed,
    Unavailable,
    Full,
    Failed,
    /// The other process speaks another version.
    Version,
}

impl From<Position> for WirePosition {
    fn from(position: Position) -> Self {
        Self(position.epoch, position.sequence)
    }
}

impl From<WirePosition> for Position {
    fn from(WirePosition(epoch, sequence): WirePosition) -> Self {
        Self { epoch, sequence }
    }
}

impl Answer<'_> {
    /// The head of the log in an answer.
    pub(super) fn into_head(self) -> Option<Head> {
        match self {
            Self::Head { position, id } => {
                Some(Head { position: position.into(), id: id.and_then(decode_id) })
            }
            _ => None,
        }
    }

    /// The page in an answer.
    pub(super) fn into_page(self, decoder: &Decoder) -> Option<Page> {
        let Self::Page { rows, through, at_end, updates_trimmed, events_trimmed } = self else { return None };
        let through = Position::from(through);
        let trimmed = Trimmed { updates: updates_trimmed.into(), events: events_trimmed.into() };
        Some(Page { entries: entries(through.epoch, &rows, decoder), through, at_end, trimmed })
    }
}

/// The entries of rows. Damaged ones are reported and left out.
pub(super) fn entries(epoch: u64, rows: &[Row<'_>], decoder: &Decoder) -> Vec<Entry> {
    let entry = |(sequence, record): &Row<'_>| decoder.entry(Position { epoch, sequence: *sequence }, record);
    rows.iter().filter_map(entry).collect()
}

/// The sequences and records of entries.
pub(super) fn records(entries: &[Entry]) -> Vec<(u64, Vec<u8>)> {
    entries.iter().map(|entry| (entry.position.sequence, codec::encode(&entry.update))).collect()
}

/// The rows of [`records`].
pub(super) fn rows(records: &[(u64, Vec<u8>)]) -> Vec<Row<'_>> {
    records.iter().map(|(sequence, record)| (*sequence, &record[..])).collect()
}

/// Calls `send` with the answer that an error is.
pub(super) fn with_failed<T>(error: &TransportError, send: impl FnOnce(&Answer<'_>) -> T) -> T {
    let (fault, text) = match error {
        TransportError::Closed => (Fault::Closed, String::new()),
        TransportError::Trimmed => (Fault::Trimmed, String::new()),
        TransportError::Unavailable(cause) => (Fault::Unavailable, cause.to_string()),
        TransportError::Full(cause) => (Fault::Full, cause.to_string()),
        TransportError::Failed(cause) => (Fault::Failed, cause.to_string()),
        other => (Fault::Unavailable, other.to_string()),
    };
    send(&Answer::Failed(fault, &text))
}

/// The error that an answer is.
pub(super) fn error(fault: Fault, text: &str) -> TransportError {
    match fault {
        Fault::Closed => TransportError::Closed,
        Fault::Trimmed => TransportError::Trimmed,
        Fault::Unavailable | Fault::Version => TransportError::unavailable(text),
        Fault::Full => TransportError::Full(text.into()),
        Fault::Failed => TransportError::Failed(text.into()),
    }
}

/// A frame with a message.
pub(super) fn frame(number: u64, message: &impl Serialize) -> Vec<u8> {
    let mut frame = vec![0; HEAD_BYTES];
    frame[size_of::<u32>()..].copy_from_slice(&number.to_le_bytes());
    let mut frame = postcard::to_extend(message, frame).expect("strings and numbers always serialize");
    let length = u32::try_from(frame.len() - size_of::<u32>()).expect("far below 4 GiB");
    frame[..size_of::<u32>()].copy_from_slice(&length.to_le_bytes());
    frame
}

/// Gives a frame of [`frame`] another number.
pub(super) fn set_number(frame: &mut [u8], number: u64) {
    frame[size_of::<u32>()..HEAD_BYTES].copy_from_slice(&number.to_le_bytes());
}

/// Reads the number and the message of the next frame. Not cancel-safe.
///
/// # Errors
/// The connection's. A frame that is too long or too short is [`io::ErrorKind::InvalidData`].
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u64, Vec<u8>)> {
    let length = from.read_u32_le().await? as usize;
    let length = length.checked_sub(size_of::<u64>()).filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or(io::ErrorKind::InvalidData)?;
    let number = from.read_u64_le().await?;
    let mut message = vec![0; length];
    from.read_exact(&mut message).await?;
    Ok((number, message))
}

/// The message in a frame.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`]: it is none.
pub(super) fn parse<'a, T: Deserialize<'a>>(message: &'a [u8]) -> io::Result<T> {
    postcard::from_bytes(message).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_frame_comes_back() {
        let mut bytes = frame(7, &Request::Append { record: b"record" });
        set_number(&mut bytes, 8);
        let mut from = &bytes[..];
        let (number, message) = read(&mut from).await.expect("a frame");
        assert_eq!((number, from.len()), (8, 0));
        assert!(matches!(parse(&message), Ok(Request::Append { record: b"record" })));
    }

    #[tokio::test]
    async fn a_frame_that_is_too_long_or_too_short_is_refused() {
        for length in [0, 7, FRAME_BYTES_MAX as u32 + 9, u32::MAX] {
            let bytes = [&length.to_le_bytes()[..], &[0; 64]].concat();
            let error = read(&mut &bytes[..]).await.expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse::<Request<'_>>(&bytes);
            let _ = parse::<Answer<'_>>(&bytes);
        }
    }
}
