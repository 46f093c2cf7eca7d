//! One request on a connection, and its answer.
//!
//! The answer is a body that is sent as fast as the peer gives its stream room. A peer that gives none for the write
//! time-out, or past the expiry of its token, loses this stream and no other.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as _;
use tokio::time::{Instant, Sleep, sleep_until};

use super::content::{Content, Discard, Handled};
use crate::http::{
    answer::{Answer, GRACE},
    body::Body,
    peer::Peer,
    service::Service,
};

/// A request and its answer. Dropping it resets its stream.
pub(super) struct Exchange {
    service: Arc<Service>,
    write_timeout: Duration,
    state: State,
}

enum State {
    Answering(Answering),
    Sending(Sending),
    /// It is out, and what is left of the request comes.
    Discarding(Discard),
}

/// The service has the request.
struct Answering {
    respond: SendResponse<Bytes>,
    /// Boxed, because it is far larger than everything that follows it.
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    content: Handled,
    /// The peer waits with its content for a word of ours.
    waits: bool,
    is_head: bool,
}

/// The body of the answer is on its way.
struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    /// What the body has given and the stream has no room for.
    chunk: Bytes,
    /// When the token expires.
    close_at: Option<Instant>,
    content: Handled,
    /// Fires when the stream has had no room for too long. Exists while it has none.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Exchange {
    /// For a request that has come.
    pub(super) fn new(
        service: &Arc<Service>,
        peer: Peer,
        write_timeout: Duration,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let (mut head, content) = request.into_parts();
        set_host(&mut head);
        let content = Content::new(content, &head.headers);
        let waits = head.headers.get(header::EXPECT).is_some_and(is_continue) && !content.is_end_stream();
        let handled = content.handled();
        let is_head = head.method == Method::HEAD;
        let answering = Arc::clone(service);
        let request = Request::from_parts(head, content);
        let answer = Box::pin(async move { answering.answer(request, peer).await });
        let state = State::Answering(Answering { respond, answer, content: handled, waits, is_head });
        Self { service: Arc::clone(service), write_timeout, state }
    }
}

impl Future for Exchange {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            let next = match &mut this.state {
                State::Answering(answering) => ready!(answering.poll(cx)),
                State::Sending(sending) => match sending.poll(this.write_timeout, cx) {
                    Poll::Ready(rest) => rest.map(State::Discarding),
                    Poll::Pending => {
                        // Nobody will read it, and this may last.
                        sending.content.forget();
                        return Poll::Pending;
                    }
                },
                State::Discarding(rest) => return rest.poll(cx),
            };
            let Some(next) = next else { return Poll::Ready(()) };
            this.count(&next);
            this.state = next;
        }
    }
}

impl Exchange {
    /// Counts a stream of events that begins.
    fn count(&self, next: &State) {
        if next.is_stream() {
            self.service.requests().protocols.http2_stream_opened();
        } else if self.state.is_stream() {
            self.service.requests().protocols.http2_stream_closed();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.state.is_stream() {
            self.service.requests().protocols.http2_stream_closed();
        }
    }
}

impl State {
    fn is_stream(&self) -> bool {
        matches!(self, Self::Sending(sending) if sending.body.is_stream())
    }
}

impl Answering {
    /// What follows. `None`: nothing, or the peer has left.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<State>> {
        let answer = match self.answer.as_mut().poll(cx) {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                if self.waits && self.content.is_asked() {
                    self.waits = false;
                    let mut response = Response::new(());
                    *response.status_mut() = StatusCode::CONTINUE;
                    // An error means that the peer has left.
                    let _ = self.respond.send_informational(response);
                }
                return self.respond.poll_reset(cx).map(|_| None);
            }
        };
        let close_at = match &answer {
            Answer::Stream(opening) => opening.session.close_at(),
            Answer::Whole(_) => None,
        };
        let mut response = answer.into_response();
        complete(&mut response, self.is_head);
        let (head, body) = response.into_parts();
        let is_whole = self.is_head || body.is_end_stream();
        // An error means that the peer has left.
        let stream = self.respond.send_response(Response::from_parts(head, ()), is_whole).ok();
        let content = self.content.clone();
        Poll::Ready(stream.and_then(|stream| match is_whole {
            true => content.rest().map(State::Discarding),
            false => {
                let chunk = Bytes::new();
                Some(State::Sending(Sending { stream, body, chunk, close_at, content, stalled: None }))
            }
        }))
    }
}

impl Sending {
    /// What is left of the request. `None`: nothing, or the answer is not whole.
    fn poll(&mut self, write_timeout: Duration, cx: &mut Context<'_>) -> Poll<Option<Discard>> {
        loop {
            while !self.chunk.is_empty() {
                if self.stream.capacity() == 0 {
                    // Only now: room that a stream holds and does not use is missing to the others of its connection.
                    self.stream.reserve_capacity(self.chunk.len());
                }
                let room = self.stream.capacity().min(self.chunk.len());
                if room > 0 {
                    self.stalled = None;
                    if self.stream.send_data(self.chunk.split_to(room), false).is_err() {
                        return Poll::Ready(None);
                    }
                    continue;
                }
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    // The peer has reset the stream, or left.
                    Poll::Ready(_) => return Poll::Ready(None),
                    Poll::Pending => return self.poll_stalled(write_timeout, cx).map(|()| None),
                }
            }
            // An empty slice would keep its event.
            self.chunk = Bytes::new();
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.chunk = frame.into_data().unwrap_or_default(),
                Poll::Ready(Some(Err(_))) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(None);
                }
                Poll::Ready(None) => {
                    // An error means that the peer has left.
                    let is_sent = self.stream.send_data(Bytes::new(), true).is_ok();
                    return Poll::Ready(if is_sent { self.content.rest() } else { None });
                }
                Poll::Pending => return self.stream.poll_reset(cx).map(|_| None),
            }
        }
    }

    /// Ready when the peer has taken nothing for too long.
    fn poll_stalled(&mut self, write_timeout: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let close_at = self.close_at;
        let stalled = self.stalled.get_or_insert_with(|| {
            let last = Instant::now() + write_timeout;
            Box::pin(sleep_until(close_at.map_or(last, |close_at| last.min(close_at + GRACE))))
        });
        ready!(stalled.as_mut().poll(cx));
        self.body.time_out();
        self.stream.send_reset(Reason::CANCEL);
        Poll::Ready(())
    }
}

/// Whether a peer waits with its content for a word of ours (RFC 9110, section 10.1.1).
fn is_continue(expected: &HeaderValue) -> bool {
    expected.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Writes the host down where HTTP/1.1 has it. A request that names two, by `:authority` and `Host` (RFC 9113, section 8.3.1),
/// gets two, which is refused.
fn set_host(head: &mut Parts) {
    let Some(authority) = head.uri.authority() else { return };
    let is_there = head
        .headers
        .get(header::HOST)
        .is_some_and(|host| authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()));
    if !is_there && let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        head.headers.append(header::HOST, host);
    }
}

/// Adds what every answer has, and removes what only HTTP/1.1 has (RFC 9113, section 8.2.2).
fn complete(response: &mut Response<Body>, is_head: bool) {
    let length = response.body().size_hint().exact();
    let has_length = !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let headers = response.headers_mut();
    headers.remove(header::CONNECTION);
    headers.entry(header::DATE).or_insert_with(|| {
        let date = httpdate::HttpDate::from(SystemTime::now()).to_string();
        HeaderValue::try_from(date).unwrap_or_else(|_| HeaderValue::from_static(""))
    });
    // The answer to HEAD has no body, which says nothing about the answer to GET.
    if let Some(length) = length.filter(|length| has_length && (*length > 0 || !is_head)) {
        headers.entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}
