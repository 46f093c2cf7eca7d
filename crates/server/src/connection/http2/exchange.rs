//! One request on a connection, and its answer.
//!
//! The answer is a body that is sent as fast as the peer gives its stream room. A peer that gives none for the write
//! time-out, or past the expiry of its token, loses this stream and no other.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::{
    direct::Direct, endpoint::Waits, frame::ErrorCode, open_stream::OpenStream, request_body::RequestBody,
    response::complete, shared::Shared,
};
use crate::http::{
    answer::{Answer, GRACE},
    body::Body,
    peer::Peer,
    service::Service,
};

/// A request and its answer. Dropping it resets its stream.
pub(super) struct Exchange {
    state: State,
    stream: OpenStream,
    service: Arc<Service>,
}

enum State {
    Answering(Answering),
    Sending(Sending),
    /// It is out, and what is left of the request comes.
    Discarding(Discarding),
}

/// The service has the request.
struct Answering {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    /// The peer waits with its content for a word of ours.
    awaits_continue: bool,
    /// The request is HEAD.
    is_head: bool,
}

/// The body of the answer is on its way.
struct Sending {
    body: Body,
    /// What the body has given and the stream has no room for.
    chunk: Bytes,
    /// Exists while the stream has no room.
    stalled: Option<Box<Stalled>>,
    #[expect(dead_code, reason = "held for its Drop")]
    counted: Option<Counted>,
}

/// Content that nobody reads, discarded for a while: most of it is on its way already, and a peer that is told to stop may take
/// that for a failure of its request.
struct Discarding {
    bytes: usize,
    timer: Pin<Box<Sleep>>,
}

/// A stream that has something to send, and no room.
struct Stalled {
    /// Fires when that has lasted for too long.
    timer: Pin<Box<Sleep>>,
    /// For what it waited when the timer was set.
    waits: Waits,
}

/// A stream of events, in the number of those that are open.
struct Counted(Arc<Service>);

/// The most content that is discarded, and the longest time: small forms, on any network.
const DISCARDED_BYTES_MAX: usize = 16 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(1);

impl Exchange {
    /// For a request that has come on a stream.
    pub(super) fn new(
        service: &Arc<Service>,
        peer: Peer,
        shared: &Shared,
        id: u32,
        request: Request<()>,
    ) -> Self {
        let content = RequestBody { shared: shared.clone(), id };
        let expects = request.headers().get(header::EXPECT);
        let awaits_continue = expects.is_some_and(is_continue) && !content.is_end_stream();
        let is_head = *request.method() == Method::HEAD;
        let answering = Arc::clone(service);
        let request = request.map(|()| content);
        let answer = Box::pin(async move { answering.answer(request, peer).await });
        Self {
            state: State::Answering(Answering { answer, awaits_continue, is_head }),
            stream: OpenStream { shared: shared.clone(), id },
            service: Arc::clone(service),
        }
    }
}

impl Future for Exchange {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { state, stream, service } = &mut *self;
        if !stream.lock().watch(stream.id, cx.waker()) {
            // The peer has taken its request back, or left.
            return Poll::Ready(());
        }
        loop {
            let next = match state {
                State::Answering(answering) => ready!(answering.poll(stream, service, cx)),
                State::Sending(sending) => match sending.poll(stream, service, cx) {
                    Poll::Ready(sent) => sent.and_then(|()| State::discarding(stream)),
                    Poll::Pending => {
                        sending.wait(stream);
                        return Poll::Pending;
                    }
                },
                State::Discarding(discarding) => return discarding.poll(stream, cx),
            };
            let Some(next) = next else { return Poll::Ready(()) };
            *state = next;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let State::Sending(sending) = &mut self.state
            && self.stream.lock().has_timed_out()
        {
            sending.body.time_out();
        }
    }
}

impl State {
    /// What follows the answer. `None`: nothing.
    fn discarding(stream: &OpenStream) -> Option<Self> {
        let rest = stream.lock().content(stream.id)?.rest()?;
        let is_short = rest <= DISCARDED_BYTES_MAX as u64;
        is_short.then(|| Self::Discarding(Discarding { bytes: 0, timer: Box::pin(sleep(DISCARD_TIME_MAX)) }))
    }
}

impl Answering {
    /// What follows. `None`: nothing.
    fn poll(
        &mut self,
        stream: &OpenStream,
        service: &Arc<Service>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<State>> {
        let Poll::Ready(answer) = self.answer.as_mut().poll(cx) else {
            let mut endpoint = stream.lock();
            if self.awaits_continue && endpoint.content(stream.id).is_some_and(|content| content.is_wanted())
            {
                self.awaits_continue = false;
                endpoint.answer(stream.id, StatusCode::CONTINUE, &HeaderMap::new(), false);
            }
            return Poll::Pending;
        };
        let mut response = answer.into_response();
        complete(&mut response, self.is_head);
        let (head, body) = response.into_parts();
        let is_whole = self.is_head || body.is_end_stream();
        stream.lock().answer(stream.id, head.status, &head.headers, is_whole);
        if is_whole {
            return Poll::Ready(State::discarding(stream));
        }
        let counted = body.is_stream().then(|| Counted::new(service));
        let sending = Sending { body, chunk: Bytes::new(), stalled: None, counted };
        Poll::Ready(Some(State::Sending(sending)))
    }
}

impl Sending {
    /// Ready when the answer is over; `None`: it is not whole.
    fn poll(&mut self, stream: &OpenStream, service: &Service, cx: &mut Context<'_>) -> Poll<Option<()>> {
        loop {
            let is_last = self.body.is_end_stream();
            while !self.chunk.is_empty() {
                if !stream.lock().send(stream.id, &mut self.chunk, is_last) {
                    return self.poll_stalled(stream, service, cx).map(|()| None);
                }
                self.stalled = None;
                if is_last && self.chunk.is_empty() {
                    return Poll::Ready(Some(()));
                }
            }
            // An empty slice would keep its event.
            self.chunk = Bytes::new();
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => {
                    stream.lock().reset(stream.id, ErrorCode::InternalError);
                    return Poll::Ready(None);
                }
                None => {
                    stream.lock().finish(stream.id);
                    return Poll::Ready(Some(()));
                }
            }
        }
    }

    /// This may last.
    fn wait(&self, stream: &OpenStream) {
        let mut endpoint = stream.lock();
        // Nobody will read it.
        endpoint.drop_content(stream.id);
        if self.chunk.is_empty() && endpoint.allow_direct(stream.id) {
            drop(endpoint);
            let (shared, id, close_at) = (&stream.shared, stream.id, self.body.close_at());
            self.body.write_through(|| Box::new(Direct { shared: shared.clone(), id, close_at }));
        }
    }

    /// Ready when the peer has given this stream no room for too long.
    fn poll_stalled(&mut self, stream: &OpenStream, service: &Service, cx: &mut Context<'_>) -> Poll<()> {
        let expiry = self.body.close_at().map(|close_at| close_at + GRACE);
        let waits = || stream.lock().waits_for(stream.id);
        let last = || {
            let last = Instant::now() + service.settings().write_timeout;
            expiry.map_or(last, |expiry| last.min(expiry))
        };
        let stalled = self.stalled.get_or_insert_with(|| {
            Box::new(Stalled { timer: Box::pin(sleep_until(last())), waits: waits() })
        });
        loop {
            ready!(stalled.timer.as_mut().poll(cx));
            let has_expired = expiry.is_some_and(|expiry| expiry <= Instant::now());
            let waits = waits();
            // The connection has a time for its socket. As long as others send, this stream has a turn to come.
            let goes_on =
                waits == Waits::Socket || matches!(waits, Waits::Others(_)) && waits != stalled.waits;
            if has_expired || !goes_on {
                self.body.time_out();
                stream.lock().reset(stream.id, ErrorCode::Cancel);
                return Poll::Ready(());
            }
            stalled.waits = waits;
            stalled.timer.as_mut().reset(last());
        }
    }
}

impl Discarding {
    /// Ready when nothing follows, or too much, or for too long.
    fn poll(&mut self, stream: &OpenStream, cx: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(content) = stream.lock().poll_content(stream.id, cx) {
            let Some(Ok(bytes)) = content else { return Poll::Ready(()) };
            self.bytes += bytes.len();
            if self.bytes > DISCARDED_BYTES_MAX {
                return Poll::Ready(());
            }
        }
        self.timer.as_mut().poll(cx)
    }
}

impl Counted {
    fn new(service: &Arc<Service>) -> Self {
        service.requests().protocols.http2_stream_opened();
        Self(Arc::clone(service))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.requests().protocols.http2_stream_closed();
    }
}

/// Whether a peer waits with its content for a word of ours (RFC 9110, section 10.1.1).
fn is_continue(expected: &HeaderValue) -> bool {
    expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
}
