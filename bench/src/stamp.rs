//! What the tool writes at the start of each update's data: who published it, the how manieth it is, and when.
//!
//! All fields have a fixed width, so that a publisher patches them in place in a request that is ready to send, and a
//! subscriber reads them without searching. Digits and dots mean themselves in a form as in a raw body.

use std::time::Instant;

/// The identity of one update and the time of its publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's number in this run.
    pub publisher: usize,
    /// Counts the updates that this publisher has published before.
    pub sequence: usize,
    /// When publishing began, on the run's [`Clock`].
    pub nanoseconds: u64,
}

impl Stamp {
    /// Bytes of a stamp.
    pub const LENGTH: usize = TIME.1 + 1;
    /// Publishers that can be told apart.
    pub const PUBLISHERS_MAX: usize = 10_000;

    /// Writes the stamp over the first [`Self::LENGTH`] bytes.
    ///
    /// # Panics
    /// If `out` is shorter.
    pub fn write(self, out: &mut [u8]) {
        digits(&mut out[PUBLISHER.0..PUBLISHER.1], self.publisher as u64);
        digits(&mut out[SEQUENCE.0..SEQUENCE.1], self.sequence as u64);
        digits(&mut out[TIME.0..TIME.1], self.nanoseconds);
        for end in [PUBLISHER.1, SEQUENCE.1, TIME.1] {
            out[end] = b'.';
        }
    }

    /// Reads the stamp at the start of an update's data; `None` for what this tool has not written.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let stamp = data.get(..Self::LENGTH)?;
        if [PUBLISHER.1, SEQUENCE.1, TIME.1].iter().any(|end| stamp[*end] != b'.') {
            return None;
        }
        Some(Self {
            publisher: usize::try_from(number(&stamp[PUBLISHER.0..PUBLISHER.1])?).ok()?,
            sequence: usize::try_from(number(&stamp[SEQUENCE.0..SEQUENCE.1])?).ok()?,
            nanoseconds: number(&stamp[TIME.0..TIME.1])?,
        })
    }
}

/// Where each field stands. The time is enough for eleven days.
const PUBLISHER: (usize, usize) = (0, 4);
const SEQUENCE: (usize, usize) = (5, 15);
const TIME: (usize, usize) = (16, 31);

fn digits(out: &mut [u8], mut number: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn number(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

/// The run's time: publishers and subscribers are threads of one process and read the same clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Begins at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    pub fn nanoseconds(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { publisher: 15, sequence: 1_234_567_890, nanoseconds: 987_654_321_012_345 };

    #[test]
    fn what_is_written_is_read_back() {
        let mut data = [b'x'; 64];
        STAMP.write(&mut data);
        assert_eq!(&data[..Stamp::LENGTH + 1], b"0015.1234567890.987654321012345.x");
        assert_eq!(Stamp::parse(&data), Some(STAMP));
    }

    #[test]
    fn the_data_of_others_is_no_stamp() {
        let mut data = [b'x'; Stamp::LENGTH];
        assert_eq!(Stamp::parse(&data), None);
        STAMP.write(&mut data);
        assert_eq!(Stamp::parse(&data[1..]), None, "too short");
        data[3] = b'/';
        assert_eq!(Stamp::parse(&data), None, "no digit");
        STAMP.write(&mut data);
        data[15] = b'0';
        assert_eq!(Stamp::parse(&data), None, "no dot");
    }
}
