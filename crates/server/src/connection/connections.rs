//! The connections of one service, and what happens on each of them, request after request.
//!
//! hyper reads requests and writes answers ([`hyper`](super::hyper)), and is there only while it has something to do: a
//! connection that waits for its next request is a socket and a timer. A stream on a TCP socket leaves hyper as soon as its
//! request has been answered, and the hub writes to the socket by itself from then on ([`Handover`]). A connection that
//! begins with what subscribers send never gets to hyper ([`first`]). One that speaks HTTP/2 has a task of its own to its end
//! ([`http2`](super::http2)).
//!
//! Over HTTP/1.1, a peer that shuts down its sending side still gets its answers; only a stream ends with that. A connection whose
//! peer may still be sending is closed late ([`linger`]).

use std::{
    future::poll_fn,
    io::{self, Read as _},
    net::{self, IpAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use hyper::server::conn::http1;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    task::{JoinSet, unconstrained},
    time::sleep,
};

use crate::{
    Settings,
    connection::{
        first,
        handover::Handover,
        http2::{Begin, Http2, Preface},
        hyper::{self as exchange, Exchange, Exchanged},
        linger::linger,
        options, passing,
        permits::{ConnectionPermit, Permits},
    },
    http::{answer::Answer, body::Body, peer::Peer, service::Service},
    metrics::{protocols::NAMES, samples::Samples, table::HTTP_CONNECTIONS},
    tls::{Shaken, Tls, TlsStream, shake},
};

/// All connections of one service. Clones share them.
#[derive(Clone)]
pub struct Connections {
    service: Arc<Service>,
    /// How hyper serves, once for all exchanges.
    http: Arc<http1::Builder>,
    permits: Permits,
}

impl Connections {
    /// For a service. Its settings bound the connections: `connections_max`, `idle_max`, `stalled_max`.
    pub fn new(service: Service) -> Self {
        let settings = service.settings();
        let permits = Permits::new(settings.connections_max, settings.idle_max, settings.stalled_max);
        let http = Arc::new(exchange::builder(settings.head_timeout));
        Self { service: Arc::new(service), http, permits }
    }

    /// The service that answers their requests.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// The values of all metrics: see [`Service::metrics`].
    pub async fn metrics(&self) -> Samples {
        let mut samples = self.service.metrics().await;
        let open = self.service.requests().protocols.connections(self.open() as u64);
        for (name, count) in NAMES.iter().zip(open) {
            samples.push(&HTTP_CONNECTIONS, &[name], count);
        }
        samples
    }

    /// The streams that may be open at once; 0: any number.
    pub fn streams_max(&self) -> usize {
        self.service.streams().total_max()
    }

    /// Sets how many connections may be open at once from now on, and how many streams; 0 streams: any number. What is open
    /// stays open.
    pub fn set_bounds(&self, connections_max: usize, streams_max: usize) {
        self.permits.set_max(connections_max);
        self.service.streams().set_total_max(streams_max);
    }

    /// Puts other settings into force, for requests that begin later; the bounds of streams and connections at once. What is
    /// open stays open. `head_timeout`, `idle_max`, `stalled_max`, `write_timeout` and `direct` stay as they were.
    pub fn set_settings(&self, settings: Settings) {
        let former = self.service.settings();
        self.permits.set_max(settings.connections_max);
        self.service.set_settings(Settings {
            head_timeout: former.head_timeout,
            idle_max: former.idle_max,
            stalled_max: former.stalled_max,
            write_timeout: former.write_timeout,
            direct: former.direct,
            ..settings
        });
    }

    /// The connections that are open.
    pub fn open(&self) -> usize {
        self.permits.open()
    }

    /// A permit for one more connection. If as many are open as may be, the connection that has waited longest for a
    /// request is closed. `None`: all are busy, or the service stops.
    pub fn admit(&self) -> Option<ConnectionPermit> {
        self.permits.admit()
    }

    /// Serves one connection on any stream of bytes until its peer leaves, its lifetime is over, or the service stops and
    /// its last answer is out.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Option<IpAddr>,
        permit: ConnectionPermit,
    ) {
        let peer = Peer { address: peer, ..Peer::default() };
        let begin = self.begin_undecided();
        let served =
            Served { io, peer, permit: Some(permit), direct: false, begin, watch: |_, max| Some(max) };
        self.serve_connection(served, Bytes::new(), None).await;
    }

    /// Serves one connection of an application in this process, over a pair of sockets. If the last answer on it is a stream,
    /// its head is written to the pair, and the application decides within a minute: it sends the head that its client shall
    /// get and two descriptors (`SCM_RIGHTS`), of the client's socket, to which the hub then writes by itself, and of a socket
    /// that is read until it ends; or it sends a byte without descriptors, and the stream follows on the pair.
    pub async fn serve_application(&self, pair: UnixStream, permit: ConnectionPermit) {
        let (peer, begin) = (Peer::default(), Begin::Http1);
        let watch = |_: &UnixStream, max| Some(max);
        let served = Served { io: pair, peer, permit: Some(permit), direct: true, begin, watch };
        if let Some((pair, permit, stream)) = self.serve_connection(served, Bytes::new(), None).await {
            passing::carry(*stream, pair, permit, self.service.settings().write_timeout).await;
        }
    }

    /// Serves connections that have come together, each on a TCP socket that does not block. Returns when each has ended or
    /// the hub writes to it by itself ([`Settings::direct`](crate::Settings::direct)).
    pub(crate) async fn serve_batch(&self, batch: Vec<Accepted>) {
        let mut waiting = JoinSet::new();
        self.begin_batch(batch, &mut waiting).await;
        while waiting.join_next().await.is_some() {}
    }

    /// Begins to serve connections that have come together. It does not wait: those that go on become tasks of `going_on`.
    pub(crate) async fn begin_batch(&self, batch: Vec<Accepted>, going_on: &mut JoinSet<()>) {
        let begin = |accepted| {
            let connections = self.clone();
            async move { connections.begin(accepted).await }
        };
        // The box of a future, some kilobytes, is used again for the next one.
        let mut spare = None;
        for accepted in batch {
            let future = begin(accepted);
            let mut beginning = match spare.take() {
                None => Box::pin(future),
                Some(mut spare) => {
                    Pin::set(&mut spare, future);
                    spare
                }
            };
            // What subscribers send is usually there already, and then nothing is waited for: no task is needed.
            let begun = poll_fn(|cx| {
                // The accepting task polls this, and must not end by a panic. The program's hook has reported it.
                Poll::Ready(catch_unwind(AssertUnwindSafe(|| beginning.as_mut().poll(cx))))
            });
            let Ok(begun) = begun.await else { continue };
            match begun {
                Poll::Ready(rest) => {
                    if let Some(rest) = rest {
                        drop(going_on.spawn(rest));
                    }
                    spare = Some(beginning);
                }
                Poll::Pending => drop(going_on.spawn(async move {
                    // The larger of the two is gone when the other begins.
                    if let Some(rest) = beginning.await {
                        rest.await;
                    }
                })),
            }
        }
    }

    /// Answers the first request of a connection, if its bytes are there already and plain. `Some`: the connection goes
    /// on.
    async fn begin(&self, accepted: Accepted) -> Option<Rest> {
        let Accepted { socket, peer, permit, tls } = accepted;
        let direct = self.service.settings().direct;
        if let Some(tls) = tls {
            // A box for the handshake and one for what follows, as in `serve_connection`.
            let shaking = Box::pin(self.clone().shake_hands(socket, tls, peer, permit));
            return Some(Box::pin(async move {
                let Some(serving) = shaking.await else { return };
                if let Some((io, permit, stream)) = serving.await
                    && let Ok(socket) = io.into_socket()
                {
                    Box::pin(stream.carry(socket, None, permit)).await;
                }
            }));
        }
        let (mut read, mut prepared) = (Bytes::new(), None);
        // An error means that the peer has left.
        if direct && let Some(first) = first::read(|buffer| (&socket).read(buffer)).ok()? {
            if let Some(request) = first::plain(&first) {
                let version = request.version();
                match self.service.answer(request, peer.into()).await {
                    Answer::Stream(opening) => {
                        Handover::new(version, opening).carry(socket, None, permit).await;
                        return None;
                    }
                    Answer::Whole(response) => prepared = Some(response),
                }
            }
            read = first;
        }
        // An error means that the system cannot watch the socket.
        let io = TcpStream::from_std(socket).ok()?;
        let begin = self.begin_undecided();
        let watch = |io: &TcpStream, max| options::set_tcp(&SockRef::from(io), max);
        let served = Served { io, peer: peer.into(), permit: Some(permit), direct, begin, watch };
        let serving = Box::pin(self.serve_connection(served, read, prepared));
        Some(Box::pin(async move {
            if let Some((io, permit, stream)) = serving.await
                && let Ok(socket) = io.into_std()
            {
                // Boxed: it seldom comes to that, and the others are smaller without it.
                Box::pin(stream.carry(socket, None, permit)).await;
            }
        }))
    }

    /// Shakes hands, which may take as long as the head of a request. Returns what serves the connection then; `None`: it is over.
    async fn shake_hands(
        self,
        socket: net::TcpStream,
        tls: Tls,
        peer: IpAddr,
        permit: ConnectionPermit,
    ) -> Option<Serving<TlsStream>> {
        let settings = self.service.settings();
        // An error means that the system cannot watch the socket.
        let socket = TcpStream::from_std(socket).ok()?;
        let mut stalled = self.permits.stalled.enter(());
        let shaken = tokio::select! {
            shaken = Box::pin(shake(socket, &tls, settings.http2)) => shaken,
            () = stalled.evicted() => Err(io::Error::other("others shake hands since, too")),
            () = self.permits.stopping() => return None,
            () = sleep(settings.head_timeout) => Err(io::ErrorKind::TimedOut.into()),
        };
        drop(stalled);
        let handshakes = &self.service.requests().handshakes;
        let (io, certificate, begin) = match shaken {
            Ok(Some(Shaken { stream, version, is_http2, is_resumed, certificate })) => {
                handshakes.completed(version, is_resumed);
                let begin = match is_http2 {
                    Some(true) => Begin::Http2,
                    Some(false) => Begin::Http1,
                    // RFC 9113 asks for ALPN. A client without it says as clearly what it speaks.
                    None => self.begin_undecided(),
                };
                (stream, certificate.map(Arc::new), begin)
            }
            Ok(None) => return None,
            Err(error) => {
                tracing::debug!(%peer, %error, "a connection ended before its handshake of TLS");
                handshakes.failed();
                return None;
            }
        };
        let peer = Peer { address: Some(peer), certificate };
        let watch = |io: &TlsStream, max| options::set_tcp(&SockRef::from(io.socket()?), max);
        let served = Served { io, peer, permit: Some(permit), direct: settings.direct, begin, watch };
        Some(Box::pin(self.serve_connection(served, Bytes::new(), None)))
    }

    /// Serves a connection, whatever it speaks. `read` holds the bytes that were read before; `prepared` the first answer,
    /// if it is known already. `Some`: the last answer is a stream; with the connection to carry it.
    fn serve_connection<Io>(
        &self,
        served: Served<Io>,
        read: Bytes,
        prepared: Option<Response<Body>>,
    ) -> impl Future<Output = Option<Carried<Io>>> + Send + use<Io>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connections = self.clone();
        // Each part is in a box, which is gone when the next one begins. One future would keep room for all of them for as long
        // as the connection is open.
        let requests = Box::pin(self.clone().serve_requests(served, read, prepared));
        async move {
            match requests.await? {
                Onward::Stream(io, permit, stream) => return Some((io, permit, stream)),
                Onward::Http2(io, read, peer, permit, stall_max) => {
                    let Connections { service, permits, .. } = &connections;
                    let http2 = Http2 { service, permits, peer, stall_max };
                    if let Some((io, Some(permit))) = Box::pin(http2.run(Box::new(io), read, permit)).await {
                        Box::pin(connections.linger(io, permit)).await;
                    }
                }
            }
            None
        }
    }

    /// Serves request after request of HTTP/1.1. `None`: the connection is over.
    async fn serve_requests<Io>(
        self,
        served: Served<Io>,
        mut read: Bytes,
        mut prepared: Option<Response<Body>>,
    ) -> Option<Onward<Io>>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Served { mut io, peer, mut permit, direct, mut begin, watch } = served;
        // A connection that has sent nothing yet has no client that keeps it for a next request.
        let mut patience = self.service.settings().head_timeout;
        let mut is_first = read.is_empty();
        loop {
            if read.is_empty() {
                read = self.next(&mut io, &mut permit, patience).await?;
            }
            // It is asked once, and not about what follows a request.
            let begin = std::mem::replace(&mut begin, Begin::Http1);
            if begin != Begin::Http1 && prepared.is_none() {
                if begin == Begin::Undecided {
                    read = Box::pin(self.read_on(&mut io, read)).await?;
                }
                if begin == Begin::Http2 || Preface::from_bytes(&read) == Preface::Http2 {
                    // What it has inherited may be older than the settings.
                    let stall_max = watch(&io, self.service.settings().write_timeout);
                    return Some(Onward::Http2(io, read, peer, permit?, stall_max));
                }
            }
            if direct
                && std::mem::take(&mut is_first)
                && let Some(request) = first::plain(&read)
            {
                let version = request.version();
                match Box::pin(self.service.answer(request, peer.clone())).await {
                    Answer::Stream(opening) => {
                        let stream = Box::new(Handover::new(version, opening));
                        return Some(Onward::Stream(io, permit?, stream));
                    }
                    Answer::Whole(response) => prepared = Some(response),
                }
            }
            // Boxed, so that a connection that waits is small.
            let exchange =
                Exchange { service: &self.service, permits: &self.permits, peer: peer.clone(), direct };
            let exchanged = Box::pin(exchange.run(&self.http, io, read, prepared.take())).await;
            match exchanged {
                Exchanged::Idle(idle) => (io, read) = (idle.io, without_breaks(idle.read)),
                Exchanged::Stream(io, stream) => return Some(Onward::Stream(io, permit?, Box::new(stream))),
                Exchanged::Ended(ended) => {
                    if let (Some(ended), Some(permit)) = (ended, permit)
                        && ended.is_unread
                    {
                        self.linger(ended.io, permit).await;
                    }
                    return None;
                }
            }
            patience = self.service.settings().idle_timeout;
        }
    }

    /// Closes a connection whose peer may still be sending. The peer has its answers, so another connection may take the permit.
    async fn linger(&self, mut io: impl AsyncRead + AsyncWrite + Unpin, permit: ConnectionPermit) {
        let mut wait = self.permits.idle.enter(permit);
        tokio::select! {
            () = linger(&mut io) => {}
            () = wait.evicted() => {}
        }
    }

    /// How a connection begins whose peer has not said what it speaks.
    fn begin_undecided(&self) -> Begin {
        if self.service.settings().http2 { Begin::Undecided } else { Begin::Http1 }
    }

    /// Reads until it is clear whether the connection speaks HTTP/2. `None`: the connection is over, as in
    /// [`next`](Self::next).
    async fn read_on<Io: AsyncRead + Unpin>(&self, io: &mut Io, read: Bytes) -> Option<Bytes> {
        if Preface::from_bytes(&read) != Preface::Undecided {
            return Some(read);
        }
        let mut stalled = self.permits.stalled.enter(());
        let mut all = Vec::from(read);
        let decide = async {
            while Preface::from_bytes(&all) == Preface::Undecided {
                // Without one, hyper meets the end, too.
                let Ok(more) = poll_fn(|cx| poll_bytes(Pin::new(io), cx)).await else { break };
                all.extend_from_slice(&more);
            }
        };
        tokio::select! {
            () = decide => Some(all.into()),
            () = stalled.evicted() => None,
            () = self.permits.stopping() => None,
            () = sleep(self.service.settings().head_timeout) => None,
        }
    }

    /// Waits for the first bytes of the next request. `None`: the connection is over, because its peer has left, no
    /// bytes came in time, another connection needs its permit, or the service stops.
    async fn next<Io: AsyncRead + Unpin>(
        &self,
        io: &mut Io,
        permit: &mut Option<ConnectionPermit>,
        patience: Duration,
    ) -> Option<Bytes> {
        let mut wait = self.permits.idle.enter(permit.take()?);
        let read = tokio::select! {
            biased;
            read = poll_fn(|cx| poll_request(Pin::new(io), cx)) => read.ok(),
            () = wait.evicted() => None,
            () = self.permits.stopping() => None,
            // A peer that goes on sending line breaks uses up what a task may do in one turn.
            () = unconstrained(sleep(patience)) => None,
        };
        *permit = wait.leave();
        read.filter(|_| permit.is_some())
    }

    /// Accepts no further connection. Open ones go on, and each ends with its next answer, so that its peer opens the next one
    /// elsewhere. Connections that wait for a request stay, since closing them could cut off a request that is on its way.
    pub fn close(&self) {
        self.permits.close();
    }

    /// Refuses new connections and ends those that wait for a request. Others end with their last answer. The hub goes on.
    pub fn finish(&self) {
        self.permits.stop();
    }

    /// Ends the hub's streams and refuses new connections. Open connections end with their last answer.
    pub async fn stop(&self) {
        self.finish();
        self.service.hub().stop().await;
    }

    /// Waits until no connection is accepted any more.
    pub(crate) async fn closing(&self) {
        self.permits.closing().await;
    }

    /// Waits until the service stops.
    pub async fn stopping(&self) {
        self.permits.stopping().await;
    }

    /// Waits until no connection is open.
    pub async fn drained(&self) {
        self.permits.drained().await;
    }
}

/// A connection that has been accepted, on a socket that does not block.
pub(crate) struct Accepted {
    pub(crate) socket: net::TcpStream,
    pub(crate) peer: IpAddr,
    pub(crate) permit: ConnectionPermit,
    /// What it speaks below HTTP; `None`: nothing.
    pub(crate) tls: Option<Tls>,
}

/// The rest of the work for a connection.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Serves a connection, up to a stream that is the last on it.
type Serving<Io> = Pin<Box<dyn Future<Output = Option<Carried<Io>>> + Send>>;

/// A stream, and the connection to carry it.
type Carried<Io> = (Io, ConnectionPermit, Box<Handover>);

/// A connection that is served.
struct Served<Io> {
    io: Io,
    peer: Peer,
    /// `None` after an eviction: another connection has it.
    permit: Option<ConnectionPermit>,
    /// Whether streams leave hyper.
    direct: bool,
    /// What it speaks.
    begin: Begin,
    /// Has the system close it once its peer takes nothing for that long. `Some`: the system does not.
    watch: fn(&Io, Duration) -> Option<Duration>,
}

/// What follows the requests of a connection.
enum Onward<Io> {
    /// A stream, which leaves hyper.
    Stream(Io, ConnectionPermit, Box<Handover>),
    /// It speaks HTTP/2, as the bytes say that have been read. Last: see [`Http2::stall_max`].
    Http2(Io, Bytes, Peer, ConnectionPermit, Option<Duration>),
}

/// Bytes of the first read of a request. Most heads fit.
const READ_BYTES: usize = 4 * 1024;

/// The first bytes of a request.
///
/// # Errors
/// The connection's; its end is one, too.
fn poll_request(mut io: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    loop {
        let request = without_breaks(std::task::ready!(poll_bytes(io.as_mut(), cx))?);
        if !request.is_empty() {
            return Poll::Ready(Ok(request));
        }
    }
}

/// The bytes that one read gives.
///
/// # Errors
/// The connection's; its end is one, too.
fn poll_bytes(io: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    // On the stack, and not in the future: there may be many of these.
    let mut buffer = [0; READ_BYTES];
    let mut buffer = ReadBuf::new(&mut buffer);
    std::task::ready!(io.poll_read(cx, &mut buffer))?;
    Poll::Ready(match buffer.filled() {
        [] => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(Bytes::copy_from_slice(read)),
    })
}

/// Some clients send a line break after a body: it begins no request (RFC 9112, section 2.2).
fn without_breaks(mut read: Bytes) -> Bytes {
    let breaks = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    read.split_off(breaks)
}
