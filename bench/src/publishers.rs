//! Publishers: each has one request on its way at most, on a connection that is kept. With HTTP/2, several share one.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use mio::{Events, Poll, Token, event::Event};

use crate::{
    Failure,
    http2::{Connection, Heard, Window},
    latency::Latencies,
    response::Response,
    stamp::{Clock, Stamp},
    target::{Protocol, Target},
    wire::{Dialer, Wire},
};

/// Connected publishers. Each counts its updates over all that it is asked to publish.
pub struct Publishers {
    clock: Clock,
    patience: Duration,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    dialer: Dialer,
    publishers: Vec<Publisher>,
    /// Those of HTTP/2, which the event queue knows by their numbers.
    connections: Vec<Connection>,
    /// Those of them that have something to send, of which the event queue does not know.
    due: Vec<usize>,
}

struct Publisher {
    link: Link,
    /// Bytes of data, at the end of a request. They begin with the stamp.
    bytes: usize,
    began: u64,
    accepted: usize,
    busy: bool,
}

enum Link {
    /// A connection of its own, which the event queue knows by the publisher's number.
    Http1(Http1),
    /// A request on the connection of that number.
    Http2 { connection: usize, head: http::Request<()>, content: Vec<u8> },
}

struct Http1 {
    wire: Wire,
    is_open: bool,
    request: Vec<u8>,
    /// Bytes of the request that are sent.
    sent: usize,
    response: Response,
}

/// What to publish.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// When each publisher publishes.
    pub pace: Pace,
    /// When it is enough.
    pub extent: Extent,
}

/// When a publisher publishes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many updates each second in all, whether the server keeps up or not: an update that waits for a free
    /// connection has begun when it was due.
    Rate(f64),
    /// Each as soon as the last one is answered.
    Closed,
}

/// When it is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// After so many updates in all.
    Updates(usize),
    /// After that time.
    Time(Duration),
}

/// What was published.
#[derive(Clone)]
pub struct Published {
    /// Updates of each publisher that were accepted, over all its life.
    pub accepted: Vec<usize>,
    /// Updates that were accepted now.
    pub updates: u64,
    /// Updates that were refused now.
    pub refused: u64,
    /// The status of the last refusal.
    pub refusal: Option<u16>,
    /// When it began and ended, on the run's clock.
    pub began_nanoseconds: u64,
    /// See above.
    pub ended_nanoseconds: u64,
    /// From the start of publishing to the answer.
    pub answers: Latencies,
    /// How much later than due a request was sent: if it is much, the tool or the number of publishers is the limit.
    pub late: Latencies,
}

const BUFFER_BYTES: usize = 16 * 1_024;
/// The event queue counts in milliseconds and rounds up: what is due earlier is slept for.
const QUEUE_RESOLUTION: Duration = Duration::from_millis(2);

impl Publishers {
    /// Connects one publisher for each topic, with so many bytes of data.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn connect(
        target: &Target,
        clock: Clock,
        patience: Duration,
        topics: &[String],
        bytes: usize,
    ) -> Result<Self, Failure> {
        if topics.len() > Stamp::PUBLISHERS_MAX {
            return Err(format!("at most {} publishers can be told apart", Stamp::PUBLISHERS_MAX).into());
        }
        let mut this = Self {
            clock,
            patience,
            poll: Poll::new()?,
            events: Events::with_capacity(topics.len().max(1)),
            buffer: vec![0; BUFFER_BYTES],
            dialer: Dialer::new(&target.publish),
            publishers: Vec::new(),
            connections: Vec::new(),
            due: Vec::new(),
        };
        for (number, topic) in topics.iter().enumerate() {
            let request = target.publication(number, topic, bytes)?;
            let link = match target.protocol {
                Protocol::Http1 => Link::Http1(Http1::new(this.dial(number)?, request.to_http1())),
                Protocol::Http2 { streams_per_connection } => {
                    let connection = number / streams_per_connection;
                    if connection == this.connections.len() {
                        let wire = this.dial(connection)?;
                        this.connections.push(Connection::new(wire, Window::Wide));
                    }
                    Link::Http2 { connection, head: request.to_http2()?, content: request.content }
                }
            };
            this.publishers.push(Publisher { link, bytes, began: 0, accepted: 0, busy: false });
        }
        Ok(this)
    }

    /// Publishes.
    ///
    /// # Errors
    /// If a connection breaks before its answer is here, for then nobody knows whether the update was accepted; and if
    /// no answer comes.
    pub fn publish(&mut self, plan: Plan) -> Result<Published, Failure> {
        let mut published = Published {
            accepted: Vec::new(),
            updates: 0,
            refused: 0,
            refusal: None,
            began_nanoseconds: self.clock.nanoseconds(),
            ended_nanoseconds: 0,
            answers: Latencies::default(),
            late: Latencies::default(),
        };
        let mut schedule = Schedule { plan, began: published.began_nanoseconds, taken: 0 };
        let mut progress = Instant::now();
        let mut idle: VecDeque<usize> = (0..self.publishers.len()).collect();
        loop {
            while let Some(number) = idle.front().copied()
                && let Some(due) = schedule.take(self.clock.nanoseconds())
            {
                idle.pop_front();
                published.late.record(self.clock.nanoseconds().saturating_sub(due));
                self.begin(number, due)?;
            }
            let everyone = idle.len() == self.publishers.len();
            let wait = match schedule.next(self.clock.nanoseconds()) {
                None if everyone => break,
                Some(due) if !idle.is_empty() => {
                    Duration::from_nanos(due.saturating_sub(self.clock.nanoseconds()))
                }
                _ => self.patience,
            };
            let timeout = if wait < QUEUE_RESOLUTION {
                thread::sleep(wait);
                Duration::ZERO
            } else {
                wait - QUEUE_RESOLUTION / 2
            };
            let answered = self.turn(timeout, &mut published)?;
            if !answered.is_empty() || everyone {
                progress = Instant::now();
            } else if progress.elapsed() > self.patience {
                return Err(format!("no answer to a publisher for {:?}", self.patience).into());
            }
            idle.extend(answered);
        }
        published.ended_nanoseconds = self.clock.nanoseconds();
        published.accepted = self.publishers.iter().map(|publisher| publisher.accepted).collect();
        Ok(published)
    }

    fn begin(&mut self, number: usize, began: u64) -> Result<(), Failure> {
        let publisher = &mut self.publishers[number];
        (publisher.began, publisher.busy) = (began, true);
        let stamp = Stamp { publisher: number, sequence: publisher.accepted, nanoseconds: began };
        let write = |request: &mut Vec<u8>| {
            let at = request.len() - publisher.bytes;
            stamp.write(&mut request[at..]);
        };
        match &mut publisher.link {
            Link::Http1(link) => {
                write(&mut link.request);
                link.begin()
            }
            Link::Http2 { connection, head, content } => {
                write(content);
                let content = Bytes::copy_from_slice(content);
                self.connections[*connection].ask(number, head.clone(), content);
                self.due.push(*connection);
                Ok(())
            }
        }
    }

    /// Sees to what the sockets have; who was answered.
    fn turn(&mut self, timeout: Duration, published: &mut Published) -> Result<Vec<usize>, Failure> {
        let mut answered = Vec::new();
        for connection in std::mem::take(&mut self.due) {
            self.see_to_connection(connection, false, published, &mut answered)?;
        }
        let timeout = if answered.is_empty() { timeout } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(answered),
            outcome => outcome?,
        }
        // Put back below: seeing to events needs the rest.
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if self.connections.is_empty() {
                self.see_to(event, published, &mut answered)?;
            } else {
                self.see_to_connection(event.token().0, event.is_writable(), published, &mut answered)?;
            }
        }
        self.events = events;
        Ok(answered)
    }

    /// What has happened on a publisher's own connection.
    fn see_to(
        &mut self,
        event: &Event,
        published: &mut Published,
        answered: &mut Vec<usize>,
    ) -> Result<(), Failure> {
        let number = event.token().0;
        let publisher = &mut self.publishers[number];
        let Link::Http1(link) = &mut publisher.link else { return Ok(()) };
        let is_broken = link.see_to(event, &mut self.buffer)?;
        let closes = link.response.closes();
        if publisher.busy && link.response.is_done() {
            let status = link.response.status();
            publisher.answered(status, self.clock, published);
            answered.push(number);
        }
        if is_broken && publisher.busy {
            return Err(format!("publisher {number}: closed by the server before its answer").into());
        }
        if is_broken || closes {
            let wire = self.dial(number)?;
            if let Link::Http1(link) = &mut self.publishers[number].link {
                *link = Http1::new(wire, std::mem::take(&mut link.request));
            }
        }
        Ok(())
    }

    /// What has happened on a connection of HTTP/2, for all who are on it.
    fn see_to_connection(
        &mut self,
        number: usize,
        is_writable: bool,
        published: &mut Published,
        answered: &mut Vec<usize>,
    ) -> Result<(), Failure> {
        let Self { clock, publishers, connections, .. } = self;
        let mut failure: Option<Failure> = None;
        // Status by status: the body of an answer says nothing more.
        let outcome = connections[number].turn(is_writable, &mut |owner, heard| {
            match heard {
                Heard::Status(status) => {
                    publishers[owner].answered(Some(status), *clock, published);
                    answered.push(owner);
                }
                Heard::Failed(error) if publishers[owner].busy => {
                    failure = Some(format!("publisher {owner}: {error} before its answer").into());
                }
                _ => {}
            }
            true
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let Err(failure) = outcome {
            if let Some(owner) = connections[number].owners().find(|owner| publishers[*owner].busy) {
                return Err(format!("publisher {owner}: {failure} before its answer").into());
            }
            self.connections[number] = Connection::new(self.dial(number)?, Window::Wide);
        }
        Ok(())
    }

    /// Connections are kept, so it does not matter that opening one takes its time.
    fn dial(&mut self, number: usize) -> Result<Wire, Failure> {
        Ok(self.dialer.dial(self.poll.registry(), Token(number), None)?)
    }
}

impl Publisher {
    fn answered(&mut self, status: Option<u16>, clock: Clock, published: &mut Published) {
        self.busy = false;
        published.answers.record(clock.nanoseconds().saturating_sub(self.began));
        match status {
            Some(200..=299) => {
                self.accepted += 1;
                published.updates += 1;
            }
            status => {
                published.refused += 1;
                published.refusal = status;
            }
        }
    }
}

impl Http1 {
    fn new(wire: Wire, request: Vec<u8>) -> Self {
        let sent = request.len();
        Self { wire, is_open: false, request, sent, response: Response::default() }
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.sent = 0;
        self.response = Response::default();
        self.send()
    }

    /// Whether the connection has ended.
    fn see_to(&mut self, event: &Event, buffer: &mut [u8]) -> Result<bool, Failure> {
        self.is_open =
            self.is_open || self.wire.advance(event.is_writable()).map_err(|error| explain(&error))?;
        if event.is_writable() || self.wire.is_secure() {
            self.send()?;
        }
        if !self.is_open || !event.is_readable() && !self.wire.is_secure() {
            return Ok(false);
        }
        self.wire.rouse(event.is_read_closed());
        self.read(buffer)
    }

    fn send(&mut self) -> Result<(), Failure> {
        // What is not sent yet is sent at the next event.
        while self.is_open && self.sent < self.request.len() {
            match self.wire.write(&self.request[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(explain(&error)),
            }
        }
        match self.wire.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(explain(&error)),
            _ => Ok(()),
        }
    }

    /// Whether the connection has ended.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, Failure> {
        loop {
            let length = match self.wire.read(buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
                Err(error) => return Err(explain(&error)),
            };
            self.response
                .feed(&buffer[..length], |_| {})
                .map_err(|_| "an answer to a publisher is no HTTP/1.1")?;
        }
    }
}

fn explain(error: &io::Error) -> Failure {
    format!("publishing: {error}").into()
}

/// Which update is due when.
struct Schedule {
    plan: Plan,
    began: u64,
    taken: usize,
}

impl Schedule {
    /// When the next update is due, at once at the latest; `None` if there is none.
    fn next(&self, now: u64) -> Option<u64> {
        let due = match self.plan.pace {
            Pace::Rate(rate) => self.began + (self.taken as f64 / rate * 1e9) as u64,
            Pace::Closed => now,
        };
        let more = match self.plan.extent {
            Extent::Updates(updates) => self.taken < updates,
            Extent::Time(time) => u128::from(due - self.began) < time.as_nanos(),
        };
        more.then_some(due)
    }

    /// Takes the next update if it is due.
    fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next(now).filter(|due| *due <= now)?;
        self.taken += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(pace: Pace, extent: Extent) -> Schedule {
        Schedule { plan: Plan { pace, extent }, began: 1_000_000_000, taken: 0 }
    }

    #[test]
    fn updates_are_due_at_the_rate_whatever_has_been_late() {
        let mut schedule = schedule(Pace::Rate(100.0), Extent::Time(Duration::from_millis(25)));
        assert_eq!(schedule.take(1_000_000_000), Some(1_000_000_000));
        assert_eq!(schedule.take(1_009_999_999), None);
        assert_eq!(schedule.take(1_500_000_000), Some(1_010_000_000));
        assert_eq!(schedule.take(1_500_000_000), Some(1_020_000_000));
        assert_eq!(schedule.take(1_500_000_000), None, "the time was over");
        assert_eq!(schedule.next(1_500_000_000), None);
    }

    #[test]
    fn a_closed_loop_publishes_at_once_until_it_is_enough() {
        let mut counted = schedule(Pace::Closed, Extent::Updates(2));
        assert_eq!(counted.take(1_000_000_007), Some(1_000_000_007));
        assert_eq!(counted.take(1_000_000_008), Some(1_000_000_008));
        assert_eq!(counted.take(1_000_000_009), None);
        let mut timed = schedule(Pace::Closed, Extent::Time(Duration::from_secs(1)));
        assert_eq!(timed.take(1_999_999_999), Some(1_999_999_999));
        assert_eq!(timed.take(2_000_000_000), None);
    }
}
