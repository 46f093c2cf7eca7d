//! The part of a connection that the HTTP library does: from the first bytes of a request until all requests that have come
//! are answered, or the last answer is a stream that leaves the library.

use std::{
    convert::Infallible,
    future::{pending, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    connection::{
        handover::Handover,
        link::{Asked, Link, Linked, Unlinked},
        permits::Permits,
    },
    http::{
        answer::{Answer, GRACE},
        body::Body,
        peer::Peer,
        service::Service,
    },
};

/// What an exchange with hyper needs to know.
pub(crate) struct Exchange<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) permits: &'a Permits,
    pub(crate) peer: Peer,
    /// Whether streams leave hyper.
    pub(crate) direct: bool,
}

/// A connection after hyper.
#[expect(clippy::large_enum_variant, reason = "there is one for each exchange, and it is moved once")]
pub(crate) enum Exchanged<Io> {
    /// All requests that came are answered.
    Idle(Unlinked<Io>),
    /// The answer to the last one is a stream.
    Stream(Io, Handover),
    /// The connection is over; `Some`: perhaps its peer is still sending.
    Ended(Option<Unlinked<Io>>),
}

/// Why an exchange with hyper ends.
#[expect(clippy::large_enum_variant, reason = "there is one for each exchange, and it is moved once")]
enum Step {
    Ended(hyper::Result<()>),
    Idle,
    Stream(Handover),
    /// The subscriber has left, its time is over, or another connection needs the memory.
    Over,
}

/// What hyper may buffer of one connection, of what it reads and of what it writes: the largest head, far below its default of
/// 400 KB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How hyper serves. A head must arrive within `head_timeout`.
pub(crate) fn builder(head_timeout: Duration) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        // A peer may stop sending and wait for its answer.
        .half_close(true)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

impl Exchange<'_> {
    /// Lets hyper answer what has been read, and the requests that follow it at once.
    pub(crate) async fn run<Io>(
        self,
        http: &http1::Builder,
        io: Io,
        read: Bytes,
        prepared: Option<Response<Body>>,
    ) -> Exchanged<Io>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, permits, peer, direct } = self;
        let link = Link::new(io, read, prepared);
        // When the connection must be over, whatever its peer does.
        let close_at = watch::Sender::new(None);
        let mut end = close_at.subscribe();
        let from_service = Arc::clone(&link);
        let service = service_fn(move |request: Request<Incoming>| {
            let (service, close_at) = (Arc::clone(service), close_at.clone());
            let (link, peer) = (Arc::clone(&from_service), peer.clone());
            async move {
                if let Some(mut response) = link.begin() {
                    end_connection(&mut response, permits.is_closing());
                    return Ok::<_, Infallible>(link.answer(response, false));
                }
                // A former stream of this connection has ended, and its time with it.
                close_at.send_if_modified(|end| end.take().is_some());
                let (head, body) = request.into_parts();
                let version = head.version;
                // With `Expect: 100-continue`, reading the body would ask the client to send it.
                let is_expected = head.headers.contains_key(header::EXPECT);
                let mut body = Asked::new(body);
                let mut response = match service.answer(Request::from_parts(head, &mut body), peer).await {
                    Answer::Stream(opening) if direct => {
                        link.give(Handover::new(version, opening));
                        // hyper is given up before it could miss the answer.
                        return pending().await;
                    }
                    Answer::Stream(opening) => {
                        close_at.send_replace(opening.session.close_at());
                        opening.into_response()
                    }
                    Answer::Whole(response) => response,
                };
                let is_read =
                    body.is_read() || !is_expected && poll_fn(|cx| Poll::Ready(body.poll_rest(cx))).await;
                end_connection(&mut response, !is_read || permits.is_closing());
                Ok(link.answer(response, !is_read))
            }
        });
        let linked = TokioIo::new(Linked(Arc::clone(&link)));
        let mut connection = http.serve_connection(linked, service);
        let mut stopping = pin!(permits.stopping());
        let mut draining = false;
        // Its entry among the stalled ones. A request that is there already never gets one.
        let mut stalled = None;
        let step = loop {
            let deadline = *end.borrow_and_update();
            let step = poll_fn(|cx| {
                if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
                    return Poll::Ready(Step::Ended(result));
                }
                if let Some(stream) = link.take() {
                    return Poll::Ready(Step::Stream(stream));
                }
                if link.is_idle() {
                    return Poll::Ready(Step::Idle);
                }
                if !link.is_stalled() {
                    stalled = None;
                    return link.poll_left(cx).map(|()| Step::Over);
                }
                let stalled = stalled.get_or_insert_with(|| permits.stalled.enter(()));
                stalled.poll_evicted(cx).map(|()| Step::Over)
            });
            tokio::select! {
                step = step => break step,
                Ok(()) = end.changed() => {}
                () = over(deadline) => break Step::Over,
                () = &mut stopping, if !draining => {
                    draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        // This drops hyper and the service, the other holders of the link.
        let buffered = connection.into_parts().read_buf;
        let unlinked = link.unlink(buffered);
        match (step, unlinked) {
            (Step::Idle, Some(idle)) => Exchanged::Idle(idle),
            (Step::Stream(stream), Some(unlinked)) => Exchanged::Stream(unlinked.io, stream),
            (Step::Ended(Ok(())), ended) => Exchanged::Ended(ended),
            // hyper has answered a malformed head, and the peer may send more of it.
            (Step::Ended(Err(error)), ended) if error.is_parse() => {
                Exchanged::Ended(ended.map(|ended| Unlinked { is_unread: true, ..ended }))
            }
            (Step::Ended(Err(error)), _) => {
                tracing::trace!(%error, "a connection ended early");
                Exchanged::Ended(None)
            }
            _ => Exchanged::Ended(None),
        }
    }
}

/// Makes an answer the last one of its connection, if it is to be.
fn end_connection(response: &mut Response<Body>, ends: bool) {
    if ends {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Waits for the end of a stream and for [`GRACE`], in which the end may still reach the peer.
async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline + GRACE).await,
        None => pending().await,
    }
}
