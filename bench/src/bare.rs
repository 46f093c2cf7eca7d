//! The floor: a server that does what fan-out cannot do without, and nothing else.
//!
//! One thread, one event queue; each publish is framed once and written to each of its subscribers' sockets with one
//! `write`. It checks no token, keeps no history, knows exact topics only and sends no comments. What a hub costs above
//! it is the price of the hub; below it, a hub can only come by writing several updates at once.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use memchr::memmem;
use mio::{
    Events, Interest, Poll, Token, Waker,
    event::Event,
    net::{TcpListener, TcpStream},
};
use percent_encoding::percent_decode;
use slab::Slab;
use socket2::{Domain, Socket, Type};

/// A bound server.
pub struct Bare {
    listener: TcpListener,
    poll: Poll,
    waker: Arc<Waker>,
    stopped: Arc<AtomicBool>,
    peers: Slab<Peer>,
    /// Subscribers by topic, as it stands encoded in their requests. Who has gone leaves at the next publish.
    topics: HashMap<Vec<u8>, Vec<Member>>,
    buffer: Vec<u8>,
    published: u64,
    connected: u64,
}

/// Stops a server from another thread.
pub struct Stopper {
    waker: Arc<Waker>,
    stopped: Arc<AtomicBool>,
}

struct Peer {
    stream: TcpStream,
    /// Tells it from those that had its place before.
    serial: u64,
    /// What has arrived of a request.
    request: Vec<u8>,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    place: usize,
    serial: u64,
}

/// As many as petasos lets wait.
const BACKLOG: i32 = 4_096;
/// What may wait for one subscriber: as much as petasos keeps for one. Then it is closed.
const UNSENT_BYTES_MAX: usize = 1_024 * 1_024;
const REQUEST_BYTES_MAX: usize = 2 * 1_024 * 1_024;
const BUFFER_BYTES: usize = 64 * 1_024;
const EVENTS_MAX: usize = 1_024;
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

const STREAM: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\
    Transfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n";
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Bare {
    /// Binds; port 0 lets the system choose.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let mut listener = TcpListener::from_std(socket.into());
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            listener,
            waker: Arc::new(Waker::new(poll.registry(), WAKER)?),
            poll,
            stopped: Arc::default(),
            peers: Slab::new(),
            topics: HashMap::new(),
            buffer: vec![0; BUFFER_BYTES],
            published: 0,
            connected: 0,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What ends [`Self::serve`].
    pub fn stopper(&self) -> Stopper {
        Stopper { waker: Arc::clone(&self.waker), stopped: Arc::clone(&self.stopped) }
    }

    /// Serves until it is stopped.
    ///
    /// # Errors
    /// If the event queue fails.
    pub fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.stopped.load(Ordering::Acquire) {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => {}
                    Token(place) => self.see_to(place, event),
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let place = self.peers.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(place.key()), interest)?;
            self.connected += 1;
            let serial = self.connected;
            place.insert(Peer { stream, serial, request: Vec::new(), unsent: Vec::new() });
        }
    }

    fn see_to(&mut self, place: usize, event: &Event) {
        let Some(peer) = self.peers.get_mut(place) else { return };
        let mut open = true;
        if event.is_writable() && !peer.unsent.is_empty() {
            open = peer.flush();
        }
        if open && event.is_readable() {
            open = self.read(place);
        }
        if !open {
            self.peers.try_remove(place);
        }
    }

    /// Whether the connection stays open.
    fn read(&mut self, place: usize) -> bool {
        loop {
            let mut peer = &mut self.peers[place];
            let length = match peer.stream.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            peer.request.extend_from_slice(&self.buffer[..length]);
            if peer.request.len() > REQUEST_BYTES_MAX {
                return false;
            }
            while let Some(end) = Request::end(&peer.request) {
                let rest = peer.request.split_off(end);
                let request = std::mem::replace(&mut peer.request, rest);
                if !self.answer(place, &request) {
                    return false;
                }
                // Its own update may have been too much for it.
                let Some(same) = self.peers.get_mut(place) else { return false };
                peer = same;
            }
            if length < self.buffer.len() {
                return true;
            }
        }
    }

    fn answer(&mut self, place: usize, request: &[u8]) -> bool {
        match Request::parse(request) {
            Some(Request::Subscribe { query }) => {
                let peer = &mut self.peers[place];
                let member = Member { place, serial: peer.serial };
                // The head goes first: with the topic in the index, updates may follow.
                let open = peer.send(STREAM);
                peer.request = Vec::new();
                for topic in values(query).filter(|(name, _)| is_topic(name)).map(|(_, value)| value) {
                    self.topics.entry(topic.to_owned()).or_default().push(member);
                }
                open
            }
            Some(Request::Publish { query, body, is_form }) => {
                self.published += 1;
                let id = format!("urn:uuid:00000000-0000-4000-8000-{:012}", self.published);
                let length = id.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{id}");
                // As a hub does: the answer means that the update is taken, not that it has arrived.
                let open = self.peers[place].send(answer.as_bytes());
                let fields = if is_form { body } else { query };
                let data = match values(fields).find(|(name, _)| *name == b"data") {
                    Some((_, data)) if is_form => decode(data),
                    _ => body.to_owned(),
                };
                let frame = frame(&id, &data);
                for (_, topic) in values(fields).filter(|(name, _)| is_topic(name)) {
                    self.fan_out(topic, &frame);
                }
                open
            }
            None => {
                self.peers[place].send(BAD_REQUEST);
                false
            }
        }
    }

    fn fan_out(&mut self, topic: &[u8], frame: &[u8]) {
        let Self { topics, peers, .. } = self;
        let Some(members) = topics.get_mut(topic) else { return };
        members.retain(|member| {
            let Some(peer) = peers.get_mut(member.place).filter(|peer| peer.serial == member.serial) else {
                return false;
            };
            let open = peer.send(frame);
            if !open {
                peers.remove(member.place);
            }
            open
        });
        if members.is_empty() {
            topics.remove(topic);
        }
    }
}

impl Stopper {
    /// Ends the server.
    ///
    /// # Errors
    /// If it cannot be woken.
    pub fn stop(&self) -> io::Result<()> {
        self.stopped.store(true, Ordering::Release);
        self.waker.wake()
    }
}

impl Peer {
    /// Sends now what the socket takes, and the rest later. Whether the connection stays open.
    fn send(&mut self, bytes: &[u8]) -> bool {
        let mut sent = 0;
        if self.unsent.is_empty() {
            match self.stream.write(bytes) {
                Ok(length) => sent = length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        self.unsent.extend_from_slice(&bytes[sent..]);
        self.unsent.len() <= UNSENT_BYTES_MAX
    }

    fn flush(&mut self) -> bool {
        let mut sent = 0;
        let open = loop {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(length) => sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
            if sent == self.unsent.len() {
                break true;
            }
        };
        self.unsent.drain(..sent);
        open
    }
}

enum Request<'a> {
    Subscribe { query: &'a [u8] },
    Publish { query: &'a [u8], body: &'a [u8], is_form: bool },
}

impl<'a> Request<'a> {
    /// Where the first request ends, if all of it is here.
    fn end(bytes: &[u8]) -> Option<usize> {
        let head = memmem::find(bytes, HEAD_END)? + HEAD_END.len();
        let length = header(&bytes[..head], b"content-length").unwrap_or_default();
        let length: usize = std::str::from_utf8(length).ok()?.parse().unwrap_or_default();
        (bytes.len() >= head + length).then_some(head + length)
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let at = memmem::find(bytes, HEAD_END)? + HEAD_END.len();
        let (head, body) = bytes.split_at(at);
        let mut words = head.split(|byte| *byte == b' ');
        let (method, url) = (words.next()?, words.next()?);
        let query = url.iter().position(|byte| *byte == b'?').map_or(&url[..0], |at| &url[at + 1..]);
        match method {
            b"GET" => Some(Self::Subscribe { query }),
            b"POST" => {
                let kind = header(head, b"content-type").unwrap_or_default();
                let is_form = kind.starts_with(b"application/x-www-form-urlencoded");
                Some(Self::Publish { query, body, is_form })
            }
            _ => None,
        }
    }
}

const HEAD_END: &[u8] = b"\r\n\r\n";

fn header<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

fn values(form: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    form.split(|byte| *byte == b'&').filter_map(|field| {
        let at = field.iter().position(|byte| *byte == b'=')?;
        Some((&field[..at], &field[at + 1..]))
    })
}

fn is_topic(name: &[u8]) -> bool {
    name == b"topic" || name.starts_with(b"match")
}

fn decode(data: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = data.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

/// One event in one chunk, byte for byte what petasos sends for data of one line.
fn frame(id: &str, data: &[u8]) -> Vec<u8> {
    let length = b"id: \ndata: \n\n".len() + id.len() + data.len();
    let mut frame = format!("{length:x}\r\nid: {id}\ndata: ").into_bytes();
    frame.extend_from_slice(data);
    frame.extend_from_slice(b"\n\n\r\n");
    frame
}

#[cfg(test)]
mod tests {
    use petasos_protocol::{Limits, event::EventId, sse};

    use super::*;

    #[test]
    fn a_request_is_answered_when_all_of_it_is_here() {
        let request = b"POST /?x HTTP/1.1\r\ncontent-LENGTH: 3\r\n\r\na=bGET / HTTP/1.1\r\n\r\n";
        for length in 0..request.len() {
            let expected = if length < 43 { None } else { Some(43) };
            assert_eq!(Request::end(&request[..length]), expected, "{length}");
        }
    }

    #[test]
    fn a_frame_is_what_petasos_sends() {
        let id = "urn:uuid:00000000-0000-4000-8000-000000000001";
        let event_id = EventId::parse(id, &Limits::default()).expect("an id");
        for data in ["", "abc", &"x".repeat(3_000)] {
            let frame = frame(id, data.as_bytes());
            assert_eq!(
                frame.escape_ascii().to_string(),
                sse::encode(&event_id, None, None, data).chunk().escape_ascii().to_string()
            );
        }
    }
}
