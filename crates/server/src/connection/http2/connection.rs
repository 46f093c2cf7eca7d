//! A connection that speaks HTTP/2: its requests, and its bounds in time.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{io::ReadBuf, time::sleep};

use super::{
    endpoint::Endpoint,
    exchange::Exchange,
    frame::ErrorCode,
    shared::{Shared, Socket},
};
use crate::{
    Settings,
    connection::{
        idle::Wait,
        permits::{ConnectionPermit, Permits},
    },
    http::{peer::Peer, service::Service},
};

/// How long a connection without a request waits for the last word of its peer, who may have sent one meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection needs to know.
pub(crate) struct Http2<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) permits: &'a Permits,
    pub(crate) peer: Peer,
    /// How long the peer may take nothing of what is to be sent. `None`: the system watches over that. It sees what the peer
    /// acknowledges. Here it shows only when the socket takes more, and Linux waits with that until a third of its buffer is free.
    pub(crate) stall_max: Option<Duration>,
}

/// How a connection ended.
enum End {
    /// By what the two sides have said. The peer may still be sending.
    Closed,
    /// The peer has left, or a bound was reached.
    Over,
}

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

impl Http2<'_> {
    /// Serves a connection to its end. `read` has been read of it already. `Some`: its peer may still be sending; with the
    /// permit, if no other connection has it.
    pub(crate) fn run(
        self,
        socket: Box<dyn Socket>,
        read: Bytes,
        permit: ConnectionPermit,
    ) -> impl Future<Output = Option<(Box<dyn Socket>, Option<ConnectionPermit>)>> + Send + use<> {
        let permits = self.permits.clone();
        let mut serving = Serving::new(self, socket, permit);
        serving.receive(&read);
        drop(read);
        // An asynchronous function would keep what it is given beside what it makes of that.
        async move {
            let mut closing = pin!(permits.closing());
            let mut timer = pin!(sleep(Duration::ZERO));
            let end = poll_fn(|cx| {
                if !serving.is_leaving && closing.as_mut().poll(cx).is_ready() {
                    serving.leave();
                }
                loop {
                    if let Poll::Ready(end) = serving.poll(cx) {
                        return Poll::Ready(end);
                    }
                    let Some(deadline) = serving.deadline() else { return Poll::Pending };
                    // The timer only wakes the task. It does not fire in a turn that a peer has used up by sending without a pause.
                    if deadline <= now() {
                        match serving.expire() {
                            Some(end) => return Poll::Ready(end),
                            None => continue,
                        }
                    }
                    // It is moved to an earlier time alone: one wake-up too many costs less than to move it for each frame.
                    if timer.is_elapsed() || deadline < timer.deadline().into_std() {
                        timer.as_mut().reset(deadline.into());
                    }
                    ready!(timer.as_mut().poll(cx));
                }
            })
            .await;
            match end {
                End::Closed => serving.into_parts(),
                End::Over => None,
            }
        }
    }
}

/// A connection that is served.
struct Serving {
    shared: Shared,
    exchanges: FuturesUnordered<Exchange>,
    service: Arc<Service>,
    permits: Permits,
    peer: Peer,
    settings: Arc<Settings>,
    /// See [`Http2::stall_max`].
    stall_max: Option<Duration>,
    #[expect(dead_code, reason = "held for its Drop")]
    counted: Counted,
    /// `None`: it is lent, or gone.
    permit: Option<ConnectionPermit>,
    /// Its entry among the connections without a request.
    idle: Option<Wait<ConnectionPermit>>,
    /// Since when it has had no request, and its peer has taken all answers.
    unused_since: Option<Instant>,
    /// Its entry among the connections that have begun something, or do not read their answers.
    stalled: Option<Wait<()>>,
    has_asked: bool,
    /// The peer has been told to open no more requests.
    is_leaving: bool,
}

impl Serving {
    fn new(http2: Http2<'_>, socket: Box<dyn Socket>, permit: ConnectionPermit) -> Self {
        Self {
            shared: Shared::new(Endpoint::new(now()), socket),
            exchanges: FuturesUnordered::new(),
            service: Arc::clone(http2.service),
            permits: http2.permits.clone(),
            peer: http2.peer,
            settings: http2.service.settings(),
            stall_max: http2.stall_max,
            counted: Counted::new(http2.service),
            permit: Some(permit),
            idle: None,
            unused_since: None,
            stalled: None,
            has_asked: false,
            is_leaving: false,
        }
    }

    /// Takes bytes of the peer.
    fn receive(&mut self, bytes: &[u8]) {
        let mut endpoint = self.shared.lock();
        if let Err(code) = endpoint.receive(bytes, now()) {
            tracing::trace!(?code, "a connection of HTTP/2 breaks its rules");
            endpoint.fail(code);
        }
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if let Some(end) = self.poll_requests(cx) {
                return Poll::Ready(end);
            }
            let mut endpoint = self.shared.lock();
            // What they have sent goes out together.
            let written = match self.shared.poll_write(&mut endpoint, cx, now) {
                Poll::Ready(false) => return Poll::Ready(End::Over),
                written => written.is_ready(),
            };
            if endpoint.offer_turns() {
                continue;
            }
            let is_over = endpoint.is_over();
            if is_over && written && self.exchanges.is_empty() {
                return Poll::Ready(End::Closed);
            }
            if endpoint.has_failed() || endpoint.outbound.is_full() {
                endpoint.pause(now());
                break;
            }
            drop(endpoint);
            // On the stack, and not in the future: there may be many of these.
            let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match self.shared.with_socket(|socket| socket.poll_read(cx, &mut buffer)) {
                Some(Poll::Pending) => break,
                Some(Poll::Ready(Ok(()))) if !buffer.filled().is_empty() => self.receive(buffer.filled()),
                Some(Poll::Ready(Err(error))) => {
                    self.shared.lock().lose(&error);
                    return Poll::Ready(End::Over);
                }
                _ => return Poll::Ready(End::Over),
            }
        }
        self.poll_bounds(cx)
    }

    /// Begins the requests that have come, and goes on with all. `Some`: another connection has the permit of this one.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Option<End> {
        loop {
            let next = self.shared.lock().next_request();
            let Some((id, request)) = next else { break };
            if !self.is_busy() {
                return Some(End::Over);
            }
            self.has_asked = true;
            self.exchanges.push(Exchange::new(&self.service, self.peer.clone(), &self.shared, id, *request));
        }
        while let Poll::Ready(Some(())) = self.exchanges.poll_next_unpin(cx) {}
        None
    }

    /// Enters or leaves the lists of connections that wait. Ready when others need what this one has.
    fn poll_bounds(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let has_requests = !self.exchanges.is_empty();
        let endpoint = self.shared.lock();
        let is_behind = endpoint.outbound.behind_since().is_some();
        let is_incomplete = endpoint.incomplete_since().is_some();
        drop(endpoint);
        if has_requests || is_behind {
            self.unused_since = None;
        } else {
            // What has begun is no request yet: a peer could begin one frame after the other.
            self.unused_since.get_or_insert_with(now);
        }
        let is_stalled = is_incomplete || !has_requests && is_behind;
        if is_stalled {
            let stalled = self.stalled.get_or_insert_with(|| self.permits.stalled.enter(()));
            if stalled.poll_evicted(cx).is_ready() {
                return Poll::Ready(End::Over);
            }
        } else {
            self.stalled = None;
        }
        if is_stalled || has_requests {
            return if self.is_busy() { Poll::Pending } else { Poll::Ready(End::Over) };
        }
        if self.idle.is_none() {
            let Some(permit) = self.permit.take() else { return Poll::Ready(End::Over) };
            self.idle = Some(self.permits.idle.enter(permit));
        }
        if let Some(wait) = &mut self.idle {
            ready!(wait.poll_evicted(cx));
            self.say_goodbye(cx);
            return Poll::Ready(End::Over);
        }
        Poll::Pending
    }

    /// Takes the permit back. False: another connection has it.
    fn is_busy(&mut self) -> bool {
        if let Some(wait) = self.idle.take() {
            self.permit = wait.leave();
        }
        self.permit.is_some()
    }

    /// Tells the peer which of its requests will be answered, if the socket takes it at once.
    fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        let mut endpoint = self.shared.lock();
        endpoint.fail(ErrorCode::NoError);
        let _ = self.shared.poll_write(&mut endpoint, cx, now);
    }

    /// Tells the peer to send further requests elsewhere. Those that are on their way are answered.
    fn leave(&mut self) {
        self.is_leaving = true;
        if let Some(since) = &mut self.unused_since {
            *since = now();
        }
        self.shared.lock().leave();
    }

    /// When something is over that may last so long.
    fn deadline(&self) -> Option<Instant> {
        let patience = match (self.is_leaving, self.has_asked) {
            (true, _) => FAREWELL,
            (false, true) => self.settings.idle_timeout,
            // No client keeps it for a next request.
            (false, false) => self.settings.head_timeout,
        };
        let unused = self.unused_since.map(|since| since + patience);
        self.peer_deadline().into_iter().chain(unused).min()
    }

    /// When the peer must have ended what it has begun, or taken something of what waits.
    fn peer_deadline(&self) -> Option<Instant> {
        let incomplete = self.shared.lock().incomplete_since();
        let incomplete = incomplete.map(|since| since + self.settings.head_timeout);
        incomplete.into_iter().chain(self.behind_deadline()).min()
    }

    /// When the peer must have taken something of what waits, unless the system watches over that.
    fn behind_deadline(&self) -> Option<Instant> {
        Some(self.shared.lock().outbound.behind_since()? + self.stall_max?)
    }

    /// The deadline has come. `None`: the connection goes on.
    fn expire(&mut self) -> Option<End> {
        if self.behind_deadline().is_some_and(|deadline| deadline <= now()) {
            self.shared.lock().lose(&io::ErrorKind::TimedOut.into());
            return Some(End::Over);
        }
        if self.is_leaving || self.peer_deadline().is_some_and(|deadline| deadline <= now()) {
            return Some(End::Over);
        }
        self.leave();
        None
    }

    /// The connection at its end, and its permit if no other connection has it.
    fn into_parts(mut self) -> Option<(Box<dyn Socket>, Option<ConnectionPermit>)> {
        self.is_busy();
        Some((self.shared.take_socket()?, self.permit))
    }
}

/// A connection, in the number of those that are open.
struct Counted(Arc<Service>);

impl Counted {
    fn new(service: &Arc<Service>) -> Self {
        service.requests().protocols.http2_opened();
        Self(Arc::clone(service))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.requests().protocols.http2_closed();
    }
}

/// The time of the runtime, which tests may pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
