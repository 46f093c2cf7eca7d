//! One HTTP/1.1 connection from its first byte to its last.
//!
//! hyper reads requests and writes answers. A stream on a TCP socket leaves it as soon as its request has been answered:
//! the hub writes to the socket by itself from then on ([`petasos_hub::Wire`]), and hyper's buffers and the task are gone.
//! A connection that begins with what subscribers send never gets there ([`first`]).

use std::{
    convert::Infallible,
    future::poll_fn,
    io::{self, IoSlice, Read as _},
    net::{self, IpAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, Version, response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use petasos_hub::{Framing, Session, Wire};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Body, Service,
    admission::Place,
    first::{self, First},
};

/// All connections of one service: what they are served by, how many there may be, and how they end.
#[derive(Clone)]
pub struct Connections {
    service: Arc<Service>,
    open: watch::Sender<usize>,
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

/// What hyper may buffer of one connection: above the largest head we accept, far below its default of 400 KB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

impl Connections {
    /// For a service; the limit is its `connections_max`.
    pub fn new(service: Service) -> Self {
        Self { service: Arc::new(service), open: watch::Sender::new(0), stopping: watch::Sender::new(false) }
    }

    /// What serves them.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// A place for one more connection; `None`: there is none, or the service stops.
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
        has_room.then(|| Admission(self.open.clone()))
    }

    /// Serves one connection on any stream of bytes until its peer leaves, its lifetime is over, or the service stops and
    /// its last answer is out.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Option<IpAddr>,
        admission: Admission,
    ) {
        self.run(Watched::new(io), peer, None).await;
        drop(admission);
    }

    /// Begins to serve connections that have come together, each on a TCP socket that does not block, and returns when the
    /// last has ended or the hub writes to it by itself: see [`Settings::direct`](crate::Settings::direct).
    pub(crate) async fn serve_crowd(&self, crowd: Vec<Accepted>) {
        let serve = |accepted| {
            let connections = self.clone();
            async move { connections.serve_socket(accepted).await }
        };
        let mut waiting = JoinSet::new();
        // Kilobytes, used again for the next.
        let mut place = None;
        for accepted in crowd {
            let future = serve(accepted);
            let mut serving = match place.take() {
                None => Box::pin(future),
                Some(mut place) => {
                    Pin::set(&mut place, future);
                    place
                }
            };
            // What subscribers send is usually there already, and then nothing is waited for: no task is needed.
            match poll_fn(|cx| Poll::Ready(serving.as_mut().poll(cx))).await {
                Poll::Ready(()) => place = Some(serving),
                Poll::Pending => drop(waiting.spawn(serving)),
            }
        }
        while waiting.join_next().await.is_some() {}
    }

    async fn serve_socket(&self, accepted: Accepted) {
        // Its peer has left, or the system cannot wait for it.
        let _ = self.try_serve_socket(accepted).await;
    }

    async fn try_serve_socket(&self, accepted: Accepted) -> io::Result<()> {
        let Accepted { socket, peer, admission } = accepted;
        if !self.service.settings.direct {
            self.serve(TcpStream::from_std(socket)?, Some(peer), admission).await;
            return Ok(());
        }
        let (socket, first) = self.first(socket).await?;
        let mut prepared = None;
        if let Some(mut request) = first.request {
            request.extensions_mut().insert(Peer(peer));
            let version = request.version();
            match Stream::of(version, self.service.call(request).await) {
                Ok(stream) => {
                    stream.carry(socket, admission).await;
                    return Ok(());
                }
                Err(response) => prepared = Some(response),
            }
        }
        let socket = TcpStream::from_std(socket)?;
        let watched = Watched { read: first.read, direct: true, ..Watched::new(socket) };
        // Boxed, since few get here.
        if let Some((socket, stream)) = Box::pin(self.run(watched, Some(peer), prepared)).await {
            stream.carry(socket.into_std()?, admission).await;
        }
        Ok(())
    }

    /// The first bytes of a connection, as soon as there are any.
    ///
    /// # Errors
    /// If the peer has left, or none came in time or before the service stops.
    async fn first(&self, socket: net::TcpStream) -> io::Result<(net::TcpStream, First)> {
        if let Some(first) = first::read(|buffer| (&socket).read(buffer))? {
            return Ok((socket, first));
        }
        let socket = TcpStream::from_std(socket)?;
        let reading = async {
            loop {
                socket.readable().await?;
                if let Some(first) = first::read(|buffer| socket.try_read(buffer))? {
                    return io::Result::Ok(first);
                }
            }
        };
        let first = tokio::select! {
            first = timeout(self.service.settings.head_timeout, reading) => first??,
            () = self.stopping() => return Err(io::ErrorKind::ConnectionAborted.into()),
        };
        Ok((socket.into_std()?, first))
    }

    /// Lets hyper serve a connection; the first answer may be prepared. `Some`: the stream that was asked for, and the
    /// connection to carry it.
    async fn run<Io>(
        &self,
        watched: Watched<Io>,
        peer: Option<IpAddr>,
        prepared: Option<Response<Body>>,
    ) -> Option<(Io, Stream)>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let direct = watched.direct;
        let handover = Arc::clone(&watched.handover);
        handover.prepare(prepared);
        let lifetime = Lifetime(watch::Sender::new(None));
        let mut end = lifetime.0.subscribe();
        let from_service = Arc::clone(&handover);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let service = Arc::clone(&self.service);
            let lifetime = lifetime.clone();
            let handover = Arc::clone(&from_service);
            async move {
                if let Some(response) = handover.prepared() {
                    return Ok::<_, Infallible>(response);
                }
                // What a former request of this connection set has ended with its answer.
                lifetime.0.send_if_modified(|end| end.take().is_some());
                request.extensions_mut().insert(lifetime);
                if let Some(peer) = peer {
                    request.extensions_mut().insert(Peer(peer));
                }
                let version = request.version();
                let response = service.call(request).await;
                if !direct {
                    return Ok(response);
                }
                match Stream::of(version, response) {
                    Ok(stream) => {
                        handover.give(stream);
                        // hyper is given up before it could miss the answer.
                        std::future::pending().await
                    }
                    Err(response) => Ok(response),
                }
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.service.settings.head_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(watched), service);
        let mut stopping = self.stopping.subscribe();
        let mut draining = false;
        loop {
            let deadline = *end.borrow_and_update();
            let served = poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
                Poll::Ready(result) => Poll::Ready(Err(result)),
                Poll::Pending => handover.take().map_or(Poll::Pending, |stream| Poll::Ready(Ok(stream))),
            });
            tokio::select! {
                result = served => match result {
                    Ok(stream) => return Some((connection.into_parts().io.into_inner().io, stream)),
                    Err(result) => {
                        if let Err(error) = result {
                            tracing::trace!(%error, "a connection ended early");
                        }
                        return None;
                    }
                },
                Ok(()) = end.changed() => {}
                () = over(deadline) => return None,
                _ = stopping.wait_for(|stopping| *stopping), if !draining => {
                    draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
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

/// A connection's place; dropping it makes room.
pub struct Admission(watch::Sender<usize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// An answer that is a stream, on its way from hyper to the hub.
struct Stream {
    framing: Framing,
    head: Bytes,
    session: Session,
    place: Place,
}

impl Stream {
    /// Of an answer to a request of that version, if it is a stream.
    #[expect(clippy::result_large_err, reason = "both are moved once, neither is an error")]
    fn of(version: Version, response: Response<Body>) -> Result<Self, Response<Body>> {
        let (parts, body) = response.into_parts();
        match body.into_stream() {
            Ok((session, place)) => Ok(Self::new(version, &parts, session, place)),
            Err(body) => Err(Response::from_parts(parts, body)),
        }
    }

    async fn carry(self, socket: net::TcpStream, admission: Admission) {
        let Self { framing, head, session, place } = self;
        session.carry(Wire { socket, framing, head, held: Box::new((place, admission)) }).await;
    }

    fn new(version: Version, parts: &response::Parts, session: Session, place: Place) -> Self {
        // HTTP/1.0 knows no chunks: its answer ends with the connection.
        let (framing, name) = match version {
            Version::HTTP_10 => (Framing::UntilClose, "HTTP/1.0"),
            _ => (Framing::Chunked, "HTTP/1.1"),
        };
        let mut head = format!("{name} {}\r\n", parts.status).into_bytes();
        for (name, value) in &parts.headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        // The connection ends with the stream: what else was sent on it is not read.
        let date = httpdate::HttpDate::from(SystemTime::now());
        head.extend_from_slice(format!("connection: close\r\ndate: {date}\r\n").as_bytes());
        if framing == Framing::Chunked {
            head.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        head.extend_from_slice(b"\r\n");
        Self { framing, head: head.into(), session, place }
    }
}

/// What passes between a connection and its service beside hyper: the first answer, if it is known already, and a stream,
/// which waits until all that hyper has to write is out.
#[derive(Default)]
struct Handover {
    prepared: Mutex<Option<Response<Body>>>,
    stream: Mutex<Option<Stream>>,
    /// Whether hyper has tried to write more than the connection has taken.
    is_behind: AtomicBool,
}

impl Handover {
    fn prepare(&self, response: Option<Response<Body>>) {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = response;
    }

    fn prepared(&self) -> Option<Response<Body>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn give(&self, stream: Stream) {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
    }

    fn take(&self) -> Option<Stream> {
        if self.is_behind.load(Ordering::Relaxed) {
            return None;
        }
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A connection as hyper sees it. hyper tries to write what it has before it waits, so it is known here whether something
/// of a former answer is left.
struct Watched<Io> {
    io: Io,
    /// What has been read of it already.
    read: Bytes,
    /// Whether streams leave hyper.
    direct: bool,
    handover: Arc<Handover>,
}

impl<Io> Watched<Io> {
    fn new(io: Io) -> Self {
        Self { io, read: Bytes::new(), direct: false, handover: Arc::default() }
    }

    fn saw(&self, length: usize, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let is_whole = matches!(result, Poll::Ready(Ok(written)) if written == length);
        self.handover.is_behind.store(!is_whole, Ordering::Relaxed);
        result
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Watched<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let length = self.read.len().min(buffer.remaining());
            buffer.put_slice(&self.read.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Watched<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.saw(bytes.len(), result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.saw(parts.iter().map(|part| part.len()).sum(), result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline + GRACE).await,
        None => std::future::pending().await,
    }
}
