//! One HTTP/1.1 connection from its first byte to its last.
//!
//! hyper reads requests and writes answers, and is there only while it has something to do: a connection that waits for its
//! next request is a socket and a timer. A stream on a TCP socket leaves hyper as soon as its request has been answered:
//! the hub writes to the socket by itself from then on ([`petasos_hub::Wire`]). A connection that begins with what
//! subscribers send never gets to hyper ([`first`]).
//!
//! A peer that shuts down its sending side still gets its answers; only a stream ends with that. A connection whose
//! peer may still be sending is closed late ([`linger`]).

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, Read as _},
    net::{self, IpAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    connection::first,
    connection::handover::Stream,
    connection::idle::Idle,
    connection::linger::linger,
    connection::link::{Asked, Link, Linked, Unlinked},
    http::body::Body,
    http::service::Service,
};

/// All connections of one service: what they are served by, how many there may be, and how they end.
#[derive(Clone)]
pub struct Connections {
    service: Arc<Service>,
    /// How hyper serves, once for all exchanges.
    http: Arc<http1::Builder>,
    open: watch::Sender<usize>,
    idle: Arc<Idle<Admission>>,
    /// Connections on which a part of a head has come, or whose peers do not read their answers. They keep their permits.
    stalled: Arc<Idle<()>>,
    stopping: watch::Sender<bool>,
}

/// When a connection must be over, whatever its peer does: an extension of every request.
#[derive(Clone)]
pub(crate) struct Lifetime(watch::Sender<Option<Instant>>);

impl Lifetime {
    /// Ends the connection at that time, if its stream has not done so itself.
    pub(crate) fn end_at(&self, time: Instant) {
        self.0.send_replace(Some(time));
    }
}

/// The other end of a connection: an extension of every request that comes over a network.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// How long a stream's own end may take to reach a peer that does not read. A stream ends so much before its token.
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// What hyper may buffer of one connection, of what it reads and of what it writes: the largest head, far below its default of
/// 400 KB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

impl Connections {
    /// For a service; the limits are its `connections_max` and `idle_max`.
    pub fn new(service: Service) -> Self {
        let idle = Idle::new(service.settings.idle_max);
        let stalled = Idle::new(service.settings.stalled_max);
        let (open, stopping) = (watch::Sender::new(0), watch::Sender::new(false));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(service.settings.head_timeout)
            // A peer may stop sending and wait for its answer.
            .half_close(true)
            .max_buf_size(BUFFER_BYTES_MAX);
        Self { service: Arc::new(service), http: Arc::new(http), open, idle, stalled, stopping }
    }

    /// What serves them.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The streams that may be open at once; 0: any number.
    pub fn streams_max(&self) -> usize {
        self.service.settings.streams.total
    }

    /// A permit for one more connection. Where as many are open as may be, the one that has waited longest for a request
    /// is closed. `None`: all are busy, or the service stops.
    pub fn admit(&self) -> Option<Admission> {
        if *self.stopping.borrow() {
            return None;
        }
        let mut has_room = false;
        self.open.send_if_modified(|open| {
            has_room = *open < self.service.settings.connections_max;
            *open += usize::from(has_room);
            // Nobody waits for more.
            false
        });
        if has_room { Some(Admission(self.open.clone())) } else { self.idle.evict() }
    }

    /// Serves one connection on any stream of bytes until its peer leaves, its lifetime is over, or the service stops and
    /// its last answer is out.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Option<IpAddr>,
        admission: Admission,
    ) {
        let served = Served { io, peer, admission: Some(admission), direct: false };
        self.serve_requests(served, Bytes::new(), None).await;
    }

    /// Begins to serve connections that have come together, each on a TCP socket that does not block, and returns when the
    /// last has ended or the hub writes to it by itself: see [`Settings::direct`](crate::Settings::direct).
    pub(crate) async fn serve_crowd(&self, crowd: Vec<Accepted>) {
        let begin = |accepted| {
            let connections = self.clone();
            async move { connections.begin(accepted).await }
        };
        let mut waiting = JoinSet::new();
        // Kilobytes, used again for the next.
        let mut place = None;
        for accepted in crowd {
            let future = begin(accepted);
            let mut beginning = match place.take() {
                None => Box::pin(future),
                Some(mut place) => {
                    Pin::set(&mut place, future);
                    place
                }
            };
            // What subscribers send is usually there already, and then nothing is waited for: no task is needed.
            match poll_fn(|cx| Poll::Ready(beginning.as_mut().poll(cx))).await {
                Poll::Ready(rest) => {
                    if let Some(rest) = rest {
                        drop(waiting.spawn(rest));
                    }
                    place = Some(beginning);
                }
                Poll::Pending => drop(waiting.spawn(async move {
                    // The larger of the two is gone when the other begins.
                    if let Some(rest) = beginning.await {
                        rest.await;
                    }
                })),
            }
        }
        while waiting.join_next().await.is_some() {}
    }

    /// Answers the first request of a connection, if its bytes are there already and plain. `Some`: the connection goes
    /// on.
    async fn begin(&self, accepted: Accepted) -> Option<Rest> {
        let Accepted { socket, peer, admission } = accepted;
        let direct = self.service.settings.direct;
        let (mut read, mut prepared) = (Bytes::new(), None);
        // An error means that the peer has left.
        if direct && let Some(first) = first::read(|buffer| (&socket).read(buffer)).ok()? {
            if let Some(request) = first::plain(&first) {
                match self.answer(request, peer).await {
                    Ok(stream) => {
                        stream.carry(socket, admission).await;
                        return None;
                    }
                    Err(response) => prepared = Some(response),
                }
            }
            read = first;
        }
        let connections = self.clone();
        Some(Box::pin(async move {
            // An error means that the system cannot watch the socket.
            let Ok(io) = TcpStream::from_std(socket) else { return };
            let served = Served { io, peer: Some(peer), admission: Some(admission), direct };
            if let Some((io, admission, stream)) = connections.serve_requests(served, read, prepared).await
                && let Ok(socket) = io.into_std()
            {
                stream.carry(socket, admission).await;
            }
        }))
    }

    /// The answer to a plain request.
    async fn answer(
        &self,
        mut request: Request<Empty<Bytes>>,
        peer: IpAddr,
    ) -> Result<Stream, Response<Body>> {
        request.extensions_mut().insert(Peer(peer));
        let version = request.version();
        Stream::from_response(version, self.service.call(request).await)
    }

    /// Serves request after request. `read` holds the bytes that were read before; `prepared` the first answer, if it
    /// is known already. `Some`: the last answer is a stream; with the connection to carry it.
    async fn serve_requests<Io>(
        &self,
        served: Served<Io>,
        mut read: Bytes,
        mut prepared: Option<Response<Body>>,
    ) -> Option<(Io, Admission, Stream)>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Served { mut io, peer, mut admission, direct } = served;
        // A connection that has sent nothing yet is no client that comes back.
        let mut patience = self.service.settings.head_timeout;
        let mut is_first = read.is_empty();
        loop {
            if read.is_empty() {
                read = self.next(&mut io, &mut admission, patience).await?;
            }
            if direct
                && std::mem::take(&mut is_first)
                && let (Some(request), Some(peer)) = (first::plain(&read), peer)
            {
                match Box::pin(self.answer(request, peer)).await {
                    Ok(stream) => return Some((io, admission?, stream)),
                    Err(response) => prepared = Some(response),
                }
            }
            // Boxed, so that a connection that waits is small.
            let exchanged = Box::pin(self.exchange(io, read, prepared.take(), peer, direct)).await;
            match exchanged {
                Exchanged::Idle(idle) => (io, read) = (idle.io, without_breaks(idle.read)),
                Exchanged::Stream(io, stream) => return Some((io, admission?, stream)),
                Exchanged::Ended(ended) => {
                    if let (Some(mut ended), Some(admission)) = (ended, admission)
                        && ended.is_unread
                    {
                        // Its peer has the answer, so another connection may take the permit.
                        let mut wait = self.idle.enter(admission);
                        tokio::select! {
                            () = linger(&mut ended.io) => {}
                            () = wait.evicted() => {}
                        }
                    }
                    return None;
                }
            }
            patience = self.service.settings.idle_timeout;
        }
    }

    /// Waits for the first bytes of the next request. `None`: the connection is over, because its peer has left, no
    /// bytes came in time, another connection needs its permit, or the service stops.
    async fn next<Io: AsyncRead + Unpin>(
        &self,
        io: &mut Io,
        admission: &mut Option<Admission>,
        patience: Duration,
    ) -> Option<Bytes> {
        let mut wait = self.idle.enter(admission.take()?);
        let read = tokio::select! {
            biased;
            read = poll_fn(|cx| poll_request(Pin::new(io), cx)) => read.ok(),
            () = wait.evicted() => None,
            () = self.stopping() => None,
            () = sleep(patience) => None,
        };
        *admission = wait.leave();
        read.filter(|_| admission.is_some())
    }

    /// Lets hyper answer what has been read, and the requests that follow it at once.
    async fn exchange<Io>(
        &self,
        io: Io,
        read: Bytes,
        prepared: Option<Response<Body>>,
        peer: Option<IpAddr>,
        direct: bool,
    ) -> Exchanged<Io>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Link::new(io, read, prepared);
        let lifetime = Lifetime(watch::Sender::new(None));
        let mut end = lifetime.0.subscribe();
        let from_service = Arc::clone(&link);
        let service = service_fn(move |request: Request<Incoming>| {
            let service = Arc::clone(&self.service);
            let lifetime = lifetime.clone();
            let link = Arc::clone(&from_service);
            async move {
                if let Some(response) = link.begin() {
                    return Ok::<_, Infallible>(link.answer(response, false));
                }
                // What a former request of this connection set has ended with its answer.
                lifetime.0.send_if_modified(|end| end.take().is_some());
                let (mut head, body) = request.into_parts();
                head.extensions.insert(lifetime);
                if let Some(peer) = peer {
                    head.extensions.insert(Peer(peer));
                }
                let version = head.version;
                // With `Expect: 100-continue`, reading the body would ask the client to send it.
                let is_expected = head.headers.contains_key(header::EXPECT);
                let mut body = Asked::new(body);
                let mut response = service.call(Request::from_parts(head, &mut body)).await;
                if direct {
                    match Stream::from_response(version, response) {
                        Ok(stream) => {
                            link.give(stream);
                            // hyper is given up before it could miss the answer.
                            return std::future::pending().await;
                        }
                        Err(other) => response = other,
                    }
                }
                let is_read =
                    body.is_read() || !is_expected && poll_fn(|cx| Poll::Ready(body.poll_rest(cx))).await;
                if !is_read {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(link.answer(response, !is_read))
            }
        });
        let linked = TokioIo::new(Linked(Arc::clone(&link)));
        let mut connection = self.http.serve_connection(linked, service);
        let mut stopping = self.stopping.subscribe();
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
                let stalled = stalled.get_or_insert_with(|| self.stalled.enter(()));
                stalled.poll_evicted(cx).map(|()| Step::Over)
            });
            tokio::select! {
                step = step => break step,
                Ok(()) = end.changed() => {}
                () = over(deadline) => break Step::Over,
                _ = stopping.wait_for(|stopping| *stopping), if !draining => {
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

    /// Ends the hub's streams and refuses new connections; those that are open end with their last answer.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        self.service.hub.stop().await;
    }

    /// Waits until the service stops.
    pub async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as self.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Waits until no connection is open.
    pub async fn drained(&self) {
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open == 0).await;
    }
}

/// A connection that has been accepted, on a socket that does not block.
pub(crate) struct Accepted {
    pub(crate) socket: net::TcpStream,
    pub(crate) peer: IpAddr,
    pub(crate) admission: Admission,
}

/// A connection's permit to be open; dropping it makes room.
pub struct Admission(watch::Sender<usize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// The rest of the work for a connection.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection that is served.
struct Served<Io> {
    io: Io,
    peer: Option<IpAddr>,
    /// `None` after an eviction: another connection has it.
    admission: Option<Admission>,
    /// Whether streams leave hyper.
    direct: bool,
}

/// Why an exchange with hyper ends.
#[expect(clippy::large_enum_variant, reason = "there is one for each exchange, and it is moved once")]
enum Step {
    Ended(hyper::Result<()>),
    Idle,
    Stream(Stream),
    /// The subscriber has left, or its time is over.
    Over,
}

/// A connection after hyper.
#[expect(clippy::large_enum_variant, reason = "there is one for each exchange, and it is moved once")]
enum Exchanged<Io> {
    /// All requests that came are answered.
    Idle(Unlinked<Io>),
    /// The answer to the last one is a stream.
    Stream(Io, Stream),
    /// The connection is over; `Some`: perhaps its peer is still sending.
    Ended(Option<Unlinked<Io>>),
}

/// Bytes of the first read of a request. Most heads fit.
const READ_BYTES: usize = 4 * 1024;

/// The first bytes of a request.
///
/// # Errors
/// The connection's; its end is one, too.
fn poll_request(mut io: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    loop {
        // On the stack, and not in the future: there may be many of these.
        let mut buffer = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut buffer);
        std::task::ready!(io.as_mut().poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let request = without_breaks(Bytes::copy_from_slice(read));
        if !request.is_empty() {
            return Poll::Ready(Ok(request));
        }
    }
}

/// Some clients send a line break after a body: it begins no request (RFC 9112, section 2.2).
fn without_breaks(mut read: Bytes) -> Bytes {
    let breaks = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    read.split_off(breaks)
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline + GRACE).await,
        None => std::future::pending().await,
    }
}
