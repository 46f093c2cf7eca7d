//! The socket of a stream, and the seal through which its bytes pass, if it has one.
//!
//! What is sealed cannot be taken back: it is the next that goes out, whatever becomes of the stream. So a line seals no more
//! than the socket is likely to take, and keeps only the rest of one record.

use std::{
    cell::RefCell,
    io::{self, IoSlice, Read as _, Write as _},
    net,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::{Buf as _, Bytes};

use super::{
    connection::Socket,
    seal::Seal,
    write::{discard, write},
};

/// A socket that does not block.
pub(crate) trait Raw {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize>;
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Raw for mio::net::TcpStream {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut socket = self;
        match parts {
            [one] => socket.write(one),
            several => socket.write_vectored(several),
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = self;
        socket.read(buffer)
    }
}

impl Raw for tokio::net::TcpStream {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.try_write_vectored(parts)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buffer)
    }
}

/// The socket of a stream, as a task (`tokio`) or a shard (`mio`) has it.
pub(crate) struct Line<S> {
    pub(crate) socket: S,
    /// Locked by whoever has the line, so never waited for: a task reads and writes in turn.
    sealed: Option<Box<Mutex<Sealed>>>,
}

/// What stands between the bytes of a stream and its socket.
struct Sealed {
    seal: Box<dyn Seal>,
    /// Sealed bytes that the socket has not taken.
    rest: Bytes,
}

/// How far a write has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes of the stream that are out, or sealed: they need not be written again.
    pub(crate) bytes: usize,
    /// Whether the socket has taken anything.
    pub(crate) any: bool,
}

thread_local! {
    /// Where a write seals, before the socket takes it.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Line<net::TcpStream> {
    pub(crate) fn new(socket: Socket) -> Self {
        let Socket { tcp, seal } = socket;
        Self { socket: tcp, sealed: seal.map(|(seal, rest)| Box::new(Mutex::new(Sealed { seal, rest }))) }
    }
}

impl<S> Line<S> {
    /// The same line for another user of the socket.
    pub(crate) fn map<T>(self, socket: impl FnOnce(S) -> io::Result<T>) -> io::Result<Line<T>> {
        Ok(Line { socket: socket(self.socket)?, sealed: self.sealed })
    }

    fn sealed(&self) -> Option<MutexGuard<'_, Sealed>> {
        // Nothing under the lock panics.
        self.sealed.as_ref().map(|sealed| sealed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bytes that are sealed and that the socket has not taken.
    pub(crate) fn rest_bytes(&self) -> usize {
        self.sealed().map_or(0, |sealed| sealed.rest.len())
    }
}

impl<S: Raw> Line<S> {
    /// Writes as much as the socket takes at once.
    ///
    /// # Errors
    /// The peer has left. `TimedOut`: it has acknowledged nothing for too long.
    pub(crate) fn write(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<Written> {
        let raw = |parts: &[IoSlice<'_>]| self.socket.try_write(parts);
        let Some(mut sealed) = self.sealed() else {
            let bytes = write(raw, slices)?;
            return Ok(Written { bytes, any: bytes > 0 });
        };
        let Sealed { seal, rest } = &mut *sealed;
        let mut written = Written { bytes: 0, any: flush(&self.socket, rest)? };
        SCRATCH.with_borrow_mut(|scratch| {
            // Leaves out what is empty.
            IoSlice::advance_slices(&mut slices, 0);
            while rest.is_empty() && !slices.is_empty() {
                scratch.clear();
                let taken = seal.seal(slices, scratch)?;
                IoSlice::advance_slices(&mut slices, taken);
                written.bytes += taken;
                let sent = write(raw, &mut [IoSlice::new(scratch)])?;
                written.any |= sent > 0;
                if sent < scratch.len() {
                    *rest = Bytes::copy_from_slice(&scratch[sent..]);
                }
            }
            Ok(written)
        })
    }

    /// Writes what is sealed. True: the socket has taken some of it.
    ///
    /// # Errors
    /// As [`Line::write`].
    pub(crate) fn flush(&self) -> io::Result<bool> {
        match self.sealed() {
            Some(mut sealed) => flush(&self.socket, &mut sealed.rest),
            None => Ok(false),
        }
    }

    /// Reads and discards what the peer sends, and adds the number of bytes to `unasked`.
    ///
    /// # Errors
    /// The peer has left, has broken a rule, or has sent too much.
    pub(crate) fn discard(&self, unasked: &mut u16) -> io::Result<()> {
        let Some(mut sealed) = self.sealed() else {
            return discard(unasked, |buffer| self.socket.try_read(buffer));
        };
        let Sealed { seal, rest } = &mut *sealed;
        let mut answer = Vec::new();
        let discarded = discard(unasked, |buffer| {
            let length = self.socket.try_read(buffer)?;
            seal.open(&mut buffer[..length], &mut answer)?;
            Ok(length)
        });
        if !answer.is_empty() {
            *rest = [&rest[..], &answer].concat().into();
            flush(&self.socket, rest)?;
        }
        discarded
    }

    /// Says that nothing follows, as far as the socket takes it at once.
    ///
    /// # Errors
    /// As [`Line::write`].
    pub(crate) fn end(&self) -> io::Result<()> {
        let Some(mut sealed) = self.sealed() else { return Ok(()) };
        let Sealed { seal, rest } = &mut *sealed;
        let mut last = rest.to_vec();
        seal.end(&mut last);
        *rest = last.into();
        flush(&self.socket, rest).map(drop)
    }
}

fn flush(socket: &impl Raw, rest: &mut Bytes) -> io::Result<bool> {
    if rest.is_empty() {
        return Ok(false);
    }
    let written = write(|parts| socket.try_write(parts), &mut [IoSlice::new(rest)])?;
    rest.advance(written);
    if rest.is_empty() {
        // An empty slice would keep the record.
        *rest = Bytes::new();
    }
    Ok(written > 0)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Takes as many bytes as it is allowed to, and gives what it is told to.
    #[derive(Default)]
    struct Peer {
        room: Mutex<usize>,
        taken: Mutex<Vec<u8>>,
        sends: Mutex<VecDeque<Vec<u8>>>,
    }

    impl Raw for Peer {
        fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut room = self.room.lock().expect("one thread");
            let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            let length = all.len().min(*room);
            if length == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            *room -= length;
            self.taken.lock().expect("one thread").extend(&all[..length]);
            Ok(length)
        }

        fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(sent) = self.sends.lock().expect("one thread").pop_front() else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            buffer[..sent.len()].copy_from_slice(&sent);
            Ok(sent.len())
        }
    }

    /// Records of three bytes in brackets. A question is answered, an end is the end.
    struct Brackets;

    impl Seal for Brackets {
        fn seal(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize> {
            let all: Vec<u8> = plain.iter().flat_map(|part| part.to_vec()).collect();
            let record = &all[..all.len().min(3)];
            sealed.extend([b"[", record, b"]"].concat());
            Ok(record.len())
        }

        fn open(&mut self, received: &mut [u8], sealed: &mut Vec<u8>) -> io::Result<()> {
            match &*received {
                b"?" => sealed.push(b'!'),
                b"end" => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
            Ok(())
        }

        fn end(&mut self, sealed: &mut Vec<u8>) {
            sealed.push(b'.');
        }
    }

    fn line(room: usize) -> Line<Peer> {
        let sealed = Sealed { seal: Box::new(Brackets), rest: Bytes::new() };
        let peer = Peer { room: Mutex::new(room), ..Peer::default() };
        Line { socket: peer, sealed: Some(Box::new(Mutex::new(sealed))) }
    }

    fn taken(line: &Line<Peer>) -> String {
        String::from_utf8(line.socket.taken.lock().expect("one thread").clone()).expect("text")
    }

    #[test]
    fn what_is_sealed_goes_out_once_and_first_wherever_the_socket_stops() {
        for first in 0..=12 {
            let line = line(first);
            let mut all = &b"abcdef"[..];
            loop {
                let written = line.write(&mut [
                    IoSlice::new(&all[..2.min(all.len())]),
                    IoSlice::new(&all[2.min(all.len())..]),
                ]);
                all = &all[written.expect("no error").bytes..];
                if all.is_empty() && line.rest_bytes() == 0 {
                    break;
                }
                assert!(line.rest_bytes() <= 5, "no more than one record");
                *line.socket.room.lock().expect("one thread") += 1;
            }
            assert_eq!(taken(&line), "[abc][def]");
        }
    }

    #[test]
    fn an_answer_stands_between_records_and_not_in_one() {
        let line = line(2);
        let written = line.write(&mut [IoSlice::new(b"abc")]).expect("no error");
        assert_eq!(written, Written { bytes: 3, any: true });
        line.socket.sends.lock().expect("one thread").extend([b"?".to_vec(), b"x".to_vec()]);
        let mut unasked = 0;
        line.discard(&mut unasked).expect("the peer is there");
        assert_eq!(unasked, 2);
        *line.socket.room.lock().expect("one thread") = 100;
        line.end().expect("no error");
        assert_eq!(taken(&line), "[abc]!.");
        line.socket.sends.lock().expect("one thread").push_back(b"end".to_vec());
        assert_eq!(
            line.discard(&mut unasked).map_err(|error| error.kind()),
            Err(io::ErrorKind::UnexpectedEof)
        );
    }
}
