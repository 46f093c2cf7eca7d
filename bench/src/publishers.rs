//! Publishers: each a connection that is kept, with one request on its way at most.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    Failure,
    crowd::{Sources, connect},
    latency::Latencies,
    response::Response,
    stamp::{Clock, Stamp},
    target::Target,
};

/// Connected publishers. Each counts its updates over all that it is asked to publish.
pub struct Publishers<'a> {
    target: &'a Target,
    clock: Clock,
    patience: Duration,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    publishers: Vec<Publisher>,
    sources: Sources,
}

struct Publisher {
    stream: TcpStream,
    request: Vec<u8>,
    /// Where in the request the stamp belongs.
    stamp_at: usize,
    /// Bytes of the request that are sent.
    sent: usize,
    response: Response,
    began: u64,
    accepted: usize,
    busy: bool,
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

impl<'a> Publishers<'a> {
    /// Connects one publisher for each topic, with so many bytes of data.
    ///
    /// # Errors
    /// If the server cannot be reached.
    pub fn connect(
        target: &'a Target,
        clock: Clock,
        patience: Duration,
        topics: &[String],
        bytes: usize,
    ) -> Result<Self, Failure> {
        if topics.len() > Stamp::PUBLISHERS_MAX {
            return Err(format!("at most {} publishers can be told apart", Stamp::PUBLISHERS_MAX).into());
        }
        let mut this = Self {
            target,
            clock,
            patience,
            poll: Poll::new()?,
            events: Events::with_capacity(topics.len().max(1)),
            buffer: vec![0; BUFFER_BYTES],
            publishers: Vec::new(),
            sources: Sources::new(target.publish.address),
        };
        for (number, topic) in topics.iter().enumerate() {
            let stream = this.open(number)?;
            let (request, stamp_at) = target.publication(number, topic, bytes)?;
            this.publishers.push(Publisher {
                stream,
                sent: request.len(),
                request,
                stamp_at,
                response: Response::default(),
                began: 0,
                accepted: 0,
                busy: false,
            });
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
                self.publishers[number].begin(number, due)?;
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

    /// Sees to what the sockets have; who was answered.
    fn turn(&mut self, timeout: Duration, published: &mut Published) -> Result<Vec<usize>, Failure> {
        let mut answered = Vec::new();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(answered),
            outcome => outcome?,
        }
        let mut again = Vec::new();
        for event in &self.events {
            let number = event.token().0;
            let publisher = &mut self.publishers[number];
            if publisher.busy && event.is_writable() {
                publisher.send()?;
            }
            let broken = match event.is_readable() {
                true => publisher.read(&mut self.buffer)?,
                false => false,
            };
            if publisher.busy && publisher.response.is_done() {
                publisher.busy = false;
                published.answers.record(self.clock.nanoseconds().saturating_sub(publisher.began));
                match publisher.response.status() {
                    Some(200..=299) => {
                        publisher.accepted += 1;
                        published.updates += 1;
                    }
                    status => {
                        published.refused += 1;
                        published.refusal = status;
                    }
                }
                answered.push(number);
            }
            if broken && publisher.busy {
                return Err(format!("publisher {number}: closed by the server before its answer").into());
            }
            if broken || publisher.response.closes() {
                again.push(number);
            }
        }
        for number in again {
            self.publishers[number].stream = self.open(number)?;
            self.publishers[number].response = Response::default();
        }
        Ok(answered)
    }

    /// Connections are kept, so it does not matter that opening one takes its time.
    fn open(&mut self, number: usize) -> Result<TcpStream, Failure> {
        let mut stream = connect(self.target.publish.address, self.sources.take(), None)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(number), interest)?;
        Ok(stream)
    }
}

impl Publisher {
    fn begin(&mut self, number: usize, began: u64) -> Result<(), Failure> {
        let stamp = Stamp { publisher: number, sequence: self.accepted, nanoseconds: began };
        stamp.write(&mut self.request[self.stamp_at..]);
        (self.sent, self.began, self.busy) = (0, began, true);
        self.response = Response::default();
        self.send()
    }

    fn send(&mut self) -> Result<(), Failure> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(length) => self.sent += length,
                // A connection on its way takes nothing yet.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("publishing: {error}").into()),
            }
        }
        Ok(())
    }

    /// Whether the connection has ended.
    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, Failure> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Ok(true),
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(format!("publishing: {error}").into()),
            };
            self.response
                .feed(&buffer[..length], |_| {})
                .map_err(|_| "an answer to a publisher is no HTTP/1.1")?;
            if length < buffer.len() {
                return Ok(false);
            }
        }
    }
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
