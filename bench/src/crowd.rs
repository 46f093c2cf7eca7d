//! Subscribers by the thousand, on one thread: an event loop, one buffer for all, and no task or timer for any.
//!
//! The tool shares its machine with the server, so what a delivery costs here is taken from the server there. The loop
//! reads what there is, finds the stamps and notes them; nothing is kept of an update.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event, net::TcpStream};
use socket2::{Domain, Socket, Type};

use crate::{
    Failure,
    ledger::Ledger,
    response::{Line, Lines, Response},
    stamp::{Clock, Stamp},
    target,
};

/// Subscribers of one run, by number, and what they have seen.
pub struct Crowd {
    /// What all of them have seen.
    pub ledger: Ledger,
    server: SocketAddr,
    manner: Manner,
    clock: Clock,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    members: Vec<Member>,
    sources: Sources,
    connecting: usize,
    opened: Vec<usize>,
    closed: Vec<usize>,
    problem: Option<String>,
}

/// How a crowd behaves.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Connections that may be on their way at once.
    pub connecting_max: usize,
    /// How long nothing may happen where something must.
    pub patience: Duration,
    /// Whether the ids of events are kept, so that a subscriber can come back.
    pub keeps_cursors: bool,
}

/// How subscribers read what they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All, as it arrives.
    Always,
    /// Nothing after the answer's head, with a receive buffer of that many bytes.
    Never(usize),
}

struct Member {
    stage: Stage,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    response: Response,
    lines: Lines,
    cursor: Vec<u8>,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    Connecting,
    /// The request is sent.
    Asking,
    Open,
}

/// Room for what a server has coalesced.
const BUFFER_BYTES: usize = 256 * 1_024;
const EVENTS_MAX: usize = 1_024;

impl Crowd {
    /// Nobody yet.
    ///
    /// # Errors
    /// If the system has no event queue to give.
    pub fn new(server: SocketAddr, clock: Clock, manner: Manner, ledger: Ledger) -> Result<Self, Failure> {
        Ok(Self {
            ledger,
            server,
            manner,
            clock,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            buffer: vec![0; BUFFER_BYTES],
            members: Vec::new(),
            sources: Sources::new(server),
            connecting: 0,
            opened: Vec::new(),
            closed: Vec::new(),
            problem: None,
        })
    }

    /// Connects these subscribers and waits until the server has answered all of them.
    ///
    /// # Errors
    /// If one is refused or closed, or nothing happens for too long.
    pub fn open(
        &mut self,
        subscribers: impl IntoIterator<Item = usize>,
        reading: Reading,
        request: &mut dyn FnMut(usize) -> Result<Vec<u8>, Failure>,
    ) -> Result<(), Failure> {
        let mut subscribers = subscribers.into_iter().peekable();
        self.opened.clear();
        let mut progress = Instant::now();
        while subscribers.peek().is_some() || self.connecting > 0 {
            while self.connecting < self.manner.connecting_max {
                let Some(subscriber) = subscribers.next() else { break };
                self.connect(subscriber, reading, request(subscriber)?)?;
            }
            self.turn(self.manner.patience)?;
            self.check()?;
            if !self.opened.is_empty() {
                self.opened.clear();
                progress = Instant::now();
            } else if progress.elapsed() > self.manner.patience {
                return Err(format!("{} subscribers are still waiting for an answer", self.connecting).into());
            }
        }
        Ok(())
    }

    /// Begins one connection.
    ///
    /// # Errors
    /// If the system refuses it, usually for want of file descriptors.
    pub fn connect(&mut self, subscriber: usize, reading: Reading, request: Vec<u8>) -> Result<(), Failure> {
        let receive_buffer = match reading {
            Reading::Always => None,
            Reading::Never(bytes) => Some(bytes),
        };
        let mut stream = connect(self.server, self.sources.take(), receive_buffer).map_err(explain)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(subscriber), interest)?;
        while self.members.len() <= subscriber {
            self.members.push(Member::absent());
        }
        let cursor = std::mem::take(&mut self.members[subscriber].cursor);
        let (response, lines) = (Response::default(), Lines::default());
        let stage = Stage::Connecting;
        self.members[subscriber] =
            Member { stage, stream: Some(stream), request, response, lines, cursor, reading };
        self.connecting += 1;
        Ok(())
    }

    /// Waits for something to happen and sees to all of it. Without anything, it returns after the time-out.
    ///
    /// # Errors
    /// If the event queue fails.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        // Put back below: seeing to events needs the rest of the crowd.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            self.see_to(event);
        }
        self.events = events;
        Ok(())
    }

    /// Fails if a subscriber was refused or closed since the last look.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.closed.clear();
        self.problem.take().map_or(Ok(()), |problem| Err(problem.into()))
    }

    /// Who was answered since the last look.
    pub fn take_opened(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.opened)
    }

    /// Whom the server has refused or closed since the last look, and why the first of them.
    pub fn take_closed(&mut self) -> (Vec<usize>, Option<String>) {
        (std::mem::take(&mut self.closed), self.problem.take())
    }

    /// Closes one connection.
    pub fn close(&mut self, subscriber: usize) {
        let member = &mut self.members[subscriber];
        match member.stage {
            Stage::Absent => return,
            Stage::Open => {}
            Stage::Connecting | Stage::Asking => self.connecting -= 1,
        }
        member.stage = Stage::Absent;
        member.stream = None;
    }

    /// Closes all connections.
    pub fn close_all(&mut self) {
        for subscriber in 0..self.members.len() {
            self.close(subscriber);
        }
    }

    /// The id of the last event that a subscriber has seen; empty if there is none.
    pub fn cursor(&self, subscriber: usize) -> &[u8] {
        self.members.get(subscriber).map_or(&[], |member| &member.cursor)
    }

    fn see_to(&mut self, event: &Event) {
        let subscriber = event.token().0;
        let outcome = match self.members[subscriber].stage {
            Stage::Absent => return,
            Stage::Connecting if event.is_writable() => self.members[subscriber].ask(),
            Stage::Connecting => return,
            Stage::Asking | Stage::Open => Ok(()),
        };
        let outcome = match outcome {
            Ok(()) if event.is_readable() => self.read(subscriber),
            outcome => outcome,
        };
        if let Err(problem) = outcome {
            self.problem.get_or_insert(format!("subscriber {subscriber}: {problem}"));
            self.close(subscriber);
            self.closed.push(subscriber);
        }
    }

    fn read(&mut self, subscriber: usize) -> Result<(), Failure> {
        let Self { ledger, manner, clock, buffer, members, .. } = self;
        let Member { stage, stream, response, lines, cursor, reading, .. } = &mut members[subscriber];
        let Some(stream) = stream else { return Ok(()) };
        loop {
            let length = match stream.read(buffer) {
                Ok(0) => return Err("closed by the server".into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let now = clock.nanoseconds();
            let mut see = |line: Line<'_>| match line {
                Line::Data(data) => {
                    if let Some(stamp) = Stamp::parse(data) {
                        ledger.record(subscriber, stamp, now);
                    }
                }
                Line::Id(id) if manner.keeps_cursors => {
                    cursor.clear();
                    cursor.extend_from_slice(id);
                }
                Line::Id(_) => {}
            };
            let fed = response.feed(&buffer[..length], |body| lines.feed(body, &mut see));
            fed.map_err(|_| "the answer is no HTTP/1.1")?;
            // The socket is empty, and the queue tells when it is not.
            if length < buffer.len() {
                break;
            }
        }
        match (response.status(), *stage) {
            (Some(200), Stage::Asking) => {
                *stage = Stage::Open;
                self.connecting -= 1;
                self.opened.push(subscriber);
                if *reading != Reading::Always {
                    self.poll.registry().deregister(stream)?;
                }
                Ok(())
            }
            (Some(status), Stage::Asking) => Err(format!("answered with status {status}").into()),
            _ if response.is_done() => Err("the stream has ended".into()),
            _ => Ok(()),
        }
    }
}

impl Member {
    fn absent() -> Self {
        Self {
            stage: Stage::Absent,
            stream: None,
            request: Vec::new(),
            response: Response::default(),
            lines: Lines::default(),
            cursor: Vec::new(),
            reading: Reading::Always,
        }
    }

    /// The connection stands, or has failed.
    fn ask(&mut self) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if let Some(error) = stream.take_error()? {
            return Err(explain(error));
        }
        // A socket that has sent nothing takes any request whole.
        let request = std::mem::take(&mut self.request);
        if stream.write(&request)? < request.len() {
            return Err("the request does not fit into the socket".into());
        }
        self.stage = Stage::Asking;
        Ok(())
    }
}

/// A connection on its way, from that source.
///
/// # Errors
/// The system's.
pub fn connect(
    server: SocketAddr,
    source: Option<IpAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        // EINPROGRESS, which has no kind of its own.
        Err(error) if error.raw_os_error() != Some(115) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Source addresses that no earlier run has used, since a port that has just been closed stays taken for a minute.
pub struct Sources {
    network: Option<u32>,
    taken: u32,
}

/// Of the 28,000 ports that an address has by default. The kernel looks for a free one by trying: with 15,000 taken, that
/// left 5,000 connects a second of 30,000.
const PORTS_OF_ADDRESS: u32 = 2_000;

impl Sources {
    /// Addresses for connections to that server: any, unless it is of this machine.
    pub fn new(server: SocketAddr) -> Self {
        let network = target::is_loopback_v4(server).then(|| {
            let unique = u128::from(std::process::id()) * 7_919 + crate::unique();
            (127 << 24) | ((unique % 0xfe_0000) as u32 + 0x1_0000)
        });
        Self { network, taken: 0 }
    }

    /// Where the next connection comes from; `None`: the system chooses.
    pub fn take(&mut self) -> Option<IpAddr> {
        let network = self.network?;
        let address = network + self.taken / PORTS_OF_ADDRESS;
        self.taken += 1;
        Some(Ipv4Addr::from(address).into())
    }
}

fn explain(error: io::Error) -> Failure {
    match error.raw_os_error() {
        // EMFILE
        Some(24) => "no more file descriptors: raise the limit (ulimit -n)".into(),
        _ => error.into(),
    }
}
