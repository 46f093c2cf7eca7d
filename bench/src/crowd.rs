//! Subscribers by the thousand, on one thread: an event loop, one buffer for all, and no task or timer for any.
//!
//! The tool shares its machine with the server, so what a delivery costs here is taken from the server there. The loop
//! reads what there is, finds the stamps and notes them; nothing is kept of an update.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token, event::Event};

use crate::{
    Failure,
    http2::{Heard, Window},
    ledger::Ledger,
    pool::{Place, Pool},
    request::Request,
    response::{Line, Lines, Response},
    stamp::{Clock, Stamp},
    target::{Protocol, Target},
    wire::{Dialer, Wire},
};

/// Subscribers of one run, by number, and what they have seen.
pub struct Crowd {
    /// What all of them have seen.
    pub ledger: Ledger,
    dialer: Dialer,
    manner: Manner,
    clock: Clock,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    roll: Roll,
    /// With HTTP/2.
    pool: Option<Pool>,
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
    /// Nothing after the answer's head, with a receive buffer of that many bytes; over HTTP/2, with such a window.
    Never(usize),
}

/// Who is there.
#[derive(Default)]
struct Roll {
    members: Vec<Member>,
    connecting: usize,
    opened: Vec<usize>,
    closed: Vec<usize>,
    problem: Option<String>,
}

struct Member {
    stage: Stage,
    link: Link,
    eye: Eye,
    reading: Reading,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Absent,
    /// The answer is not here yet.
    Asking,
    Open,
}

/// What carries a subscriber's stream.
enum Link {
    None,
    Http1(Box<Http1>),
    Http2(Place),
}

/// A connection of HTTP/1.1.
struct Http1 {
    wire: Wire,
    /// Empty once it is sent.
    request: Vec<u8>,
    response: Response,
}

/// What reads a subscriber's stream.
#[derive(Default)]
struct Eye {
    lines: Lines,
    cursor: Vec<u8>,
}

/// Room for what a server has coalesced.
const BUFFER_BYTES: usize = 256 * 1_024;
const EVENTS_MAX: usize = 1_024;

impl Crowd {
    /// Nobody yet.
    ///
    /// # Errors
    /// If the system has no event queue to give.
    pub fn new(target: &Target, clock: Clock, manner: Manner, ledger: Ledger) -> Result<Self, Failure> {
        let pool = match target.protocol {
            Protocol::Http1 => None,
            Protocol::Http2 { streams_per_connection } => Some(Pool::new(streams_per_connection)),
        };
        Ok(Self {
            ledger,
            dialer: Dialer::new(&target.subscribe),
            manner,
            clock,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            buffer: vec![0; BUFFER_BYTES],
            roll: Roll::default(),
            pool,
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
        request: &mut dyn FnMut(usize) -> Result<Request, Failure>,
    ) -> Result<(), Failure> {
        let mut subscribers = subscribers.into_iter().peekable();
        self.roll.opened.clear();
        let mut progress = Instant::now();
        while subscribers.peek().is_some() || self.roll.connecting > 0 {
            while self.roll.connecting < self.manner.connecting_max {
                let Some(subscriber) = subscribers.next() else { break };
                self.connect(subscriber, reading, &request(subscriber)?)?;
            }
            self.turn(self.manner.patience)?;
            self.check()?;
            if !self.roll.opened.is_empty() {
                self.roll.opened.clear();
                progress = Instant::now();
            } else if progress.elapsed() > self.manner.patience {
                let waiting = self.roll.connecting;
                return Err(format!("{waiting} subscribers are still waiting for an answer").into());
            }
        }
        Ok(())
    }

    /// Begins one subscriber's stream.
    ///
    /// # Errors
    /// If the system refuses its connection, usually for want of file descriptors.
    pub fn connect(&mut self, subscriber: usize, reading: Reading, request: &Request) -> Result<(), Failure> {
        let registry = self.poll.registry();
        let link = match &mut self.pool {
            Some(pool) => {
                let window = match reading {
                    Reading::Always => Window::Wide,
                    Reading::Never(bytes) => Window::Shut(bytes.try_into()?),
                };
                Link::Http2(pool.ask(&mut self.dialer, registry, subscriber, window, request)?)
            }
            None => {
                let receive_buffer = match reading {
                    Reading::Always => None,
                    Reading::Never(bytes) => Some(bytes),
                };
                let wire = self.dialer.dial(registry, Token(subscriber), receive_buffer)?;
                let (request, response) = (request.to_http1(), Response::default());
                Link::Http1(Box::new(Http1 { wire, request, response }))
            }
        };
        let members = &mut self.roll.members;
        while members.len() <= subscriber {
            members.push(Member::absent());
        }
        let cursor = std::mem::take(&mut members[subscriber].eye.cursor);
        let eye = Eye { lines: Lines::default(), cursor };
        members[subscriber] = Member { stage: Stage::Asking, link, eye, reading };
        self.roll.connecting += 1;
        Ok(())
    }

    /// Waits for something to happen and sees to all of it. Without anything, it returns after the time-out.
    ///
    /// # Errors
    /// If the event queue fails.
    pub fn turn(&mut self, timeout: Duration) -> Result<(), Failure> {
        let is_due = self.pool.as_ref().is_some_and(Pool::is_due);
        match self.poll.poll(&mut self.events, Some(if is_due { Duration::ZERO } else { timeout })) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        // Put back below: seeing to events needs the rest of the crowd.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match self.pool {
                Some(_) => self.see_to_connection(event.token().0, event.is_writable()),
                None => self.see_to(event),
            }
        }
        self.events = events;
        for connection in self.pool.as_mut().map(Pool::take_due).unwrap_or_default() {
            self.see_to_connection(connection, false);
        }
        Ok(())
    }

    /// Fails if a subscriber was refused or closed since the last look.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.roll.closed.clear();
        self.roll.problem.take().map_or(Ok(()), |problem| Err(problem.into()))
    }

    /// Who was answered since the last look.
    pub fn take_opened(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.roll.opened)
    }

    /// Whom the server has refused or closed since the last look, and why the first of them.
    pub fn take_closed(&mut self) -> (Vec<usize>, Option<String>) {
        (std::mem::take(&mut self.roll.closed), self.roll.problem.take())
    }

    /// Closes one subscriber's stream, and its connection if nobody else is on it.
    pub fn close(&mut self, subscriber: usize) {
        if let (Link::Http2(place), Some(pool)) = (self.roll.remove(subscriber), &mut self.pool) {
            pool.leave(place);
        }
    }

    /// Closes all connections.
    pub fn close_all(&mut self) {
        for subscriber in 0..self.roll.members.len() {
            self.close(subscriber);
        }
    }

    /// The id of the last event that a subscriber has seen; empty if there is none.
    pub fn cursor(&self, subscriber: usize) -> &[u8] {
        self.roll.members.get(subscriber).map_or(&[], |member| &member.eye.cursor)
    }

    /// What has happened on one connection of HTTP/1.1.
    fn see_to(&mut self, event: &Event) {
        let subscriber = event.token().0;
        if let Err(problem) = self.read(subscriber, event) {
            self.roll.fail(subscriber, &problem);
        }
    }

    fn read(&mut self, subscriber: usize, event: &Event) -> Result<(), Failure> {
        let Self { ledger, manner, clock, poll, buffer, roll, .. } = self;
        let Member { stage, link, eye, reading } = &mut roll.members[subscriber];
        let Link::Http1(connection) = link else { return Ok(()) };
        let Http1 { wire, request, response } = &mut **connection;
        if !request.is_empty() {
            if !wire.advance(event.is_writable())? {
                return Ok(());
            }
            // A socket that has sent nothing takes any request whole.
            if wire.write(request)? < request.len() {
                return Err("the request does not fit into the socket".into());
            }
            *request = Vec::new();
        } else if event.is_writable() {
            send_rest(wire)?;
        }
        if !event.is_readable() && !wire.is_secure() {
            return Ok(());
        }
        wire.rouse(event.is_read_closed());
        loop {
            let length = match wire.read(buffer) {
                Ok(0) if response.is_done() => break,
                Ok(0) => return Err(CLOSED.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(CLOSED.into()),
                Err(error) => return Err(error.into()),
            };
            let now = clock.nanoseconds();
            let see = |body: &[u8]| eye.see(body, subscriber, now, ledger, manner.keeps_cursors);
            response.feed(&buffer[..length], see).map_err(|_| "the answer is no HTTP/1.1")?;
        }
        match (response.status(), *stage) {
            (Some(status), Stage::Asking) if status != 200 => Err(refused(status)),
            _ if response.is_done() => Err(ENDED.into()),
            (Some(_), Stage::Asking) => {
                if *reading != Reading::Always {
                    wire.forget(poll.registry())?;
                }
                roll.open(subscriber);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What has happened on one connection of HTTP/2, for all who are on it.
    fn see_to_connection(&mut self, connection: usize, is_writable: bool) {
        let Self { ledger, manner, clock, roll, pool, .. } = self;
        let Some(pool) = pool else { return };
        let outcome = pool.turn(connection, is_writable, &mut |subscriber, heard| {
            let problem: Failure = match heard {
                Heard::Status(200) => {
                    roll.open(subscriber);
                    return true;
                }
                Heard::Body(body) => {
                    let eye = &mut roll.members[subscriber].eye;
                    eye.see(body, subscriber, clock.nanoseconds(), ledger, manner.keeps_cursors);
                    return true;
                }
                Heard::Status(status) => refused(status),
                Heard::End => ENDED.into(),
                Heard::Failed(error) => error.to_string().into(),
            };
            roll.fail(subscriber, &problem);
            false
        });
        if let Err(broken) = outcome {
            for subscriber in broken.owners {
                roll.fail(subscriber, &broken.failure);
            }
        }
    }
}

const CLOSED: &str = "closed by the server";
const ENDED: &str = "the stream has ended";

fn refused(status: u16) -> Failure {
    format!("answered with status {status}").into()
}

/// Sends what the socket did not take before.
fn send_rest(wire: &mut Wire) -> io::Result<()> {
    match wire.flush() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        outcome => outcome,
    }
}

impl Roll {
    fn open(&mut self, subscriber: usize) {
        self.members[subscriber].stage = Stage::Open;
        self.connecting -= 1;
        self.opened.push(subscriber);
    }

    /// The server has refused or closed a subscriber.
    fn fail(&mut self, subscriber: usize, problem: &Failure) {
        self.problem.get_or_insert_with(|| format!("subscriber {subscriber}: {problem}"));
        self.remove(subscriber);
        self.closed.push(subscriber);
    }

    fn remove(&mut self, subscriber: usize) -> Link {
        let member = &mut self.members[subscriber];
        if member.stage == Stage::Asking {
            self.connecting -= 1;
        }
        member.stage = Stage::Absent;
        std::mem::replace(&mut member.link, Link::None)
    }
}

impl Member {
    fn absent() -> Self {
        Self { stage: Stage::Absent, link: Link::None, eye: Eye::default(), reading: Reading::Always }
    }
}

impl Eye {
    /// Notes what a piece of a body has.
    fn see(&mut self, body: &[u8], subscriber: usize, now: u64, ledger: &mut Ledger, keeps_cursors: bool) {
        let Self { lines, cursor } = self;
        lines.feed(body, |line| match line {
            Line::Data(data) => {
                if let Some(stamp) = Stamp::parse(data) {
                    ledger.record(subscriber, stamp, now);
                }
            }
            Line::Id(id) if keeps_cursors => {
                cursor.clear();
                cursor.extend_from_slice(id);
            }
            Line::Id(_) => {}
        });
    }
}
