//! A connection to a server, with TLS or without, that waits for nothing.
//!
//! Nothing wakes up anybody in here: an event queue says when a socket has something, and its owner asks again then.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use rustls::{AlertDescription, ClientConfig, ClientConnection, pki_types::ServerName};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::target::{self, Place};

/// Opens connections to one server.
pub struct Dialer {
    address: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    sources: Sources,
}

impl Dialer {
    /// For that server.
    pub fn new(place: &Place) -> Self {
        Self { address: place.address, tls: place.tls.clone(), sources: Sources::new(place.address) }
    }

    /// A connection on its way, which the event queue knows by that token.
    ///
    /// # Errors
    /// If the system refuses it, usually for want of file descriptors.
    pub fn dial(
        &mut self,
        registry: &Registry,
        token: Token,
        receive_buffer: Option<usize>,
    ) -> io::Result<Wire> {
        let mut socket = connect(self.address, self.sources.take(), receive_buffer).map_err(explain)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let session = match &self.tls {
            Some((config, name)) => {
                let session = ClientConnection::new(Arc::clone(config), name.clone());
                let mut session = session.map_err(io::Error::other)?;
                // A request is written whole, however long it is.
                session.set_buffer_limit(None);
                Some(Box::new(session))
            }
            None => None,
        };
        Ok(Wire { socket, session, is_connected: false, drained: Drained::default() })
    }
}

/// A connection.
pub struct Wire {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
    is_connected: bool,
    drained: Drained,
}

/// Whether a socket has nothing more until the event queue tells of it. A read that fills less than it may has emptied it;
/// without that knowledge, each event takes one more call of the system.
#[derive(Debug, Default, Clone, Copy)]
struct Drained {
    is_empty: bool,
    /// Not where the peer has closed: no further event tells of that.
    is_trusted: bool,
}

impl Wire {
    /// Goes on with connecting and the handshake. Whether requests can be sent.
    ///
    /// # Errors
    /// If the server cannot be reached, or the handshake fails.
    pub fn advance(&mut self, is_writable: bool) -> io::Result<bool> {
        if !self.is_connected {
            if let Some(error) = self.socket.take_error()? {
                return Err(explain(error));
            }
            if !is_writable {
                return Ok(false);
            }
            self.is_connected = true;
        }
        let Some(session) = &mut self.session else { return Ok(true) };
        if !session.is_handshaking() {
            return Ok(true);
        }
        match session.complete_io(&mut self.socket) {
            Ok(_) => Ok(!session.is_handshaking()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => match error.get_ref().and_then(|error| error.downcast_ref()) {
                Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                    Err(io::Error::other("the server does not speak this version of HTTP"))
                }
                _ => Err(error),
            },
        }
    }

    /// Whether it has TLS, which may hold what the event queue told of before.
    pub fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the server has agreed to HTTP/2, once [`Self::advance`] is done; `None` without TLS, where nobody asks.
    pub fn has_agreed_to_http2(&self) -> Option<bool> {
        self.session.as_ref().map(|session| session.alpn_protocol() == Some(b"h2"))
    }

    /// The event queue has told that something can be read, or that the peer has closed.
    pub fn rouse(&mut self, is_closed: bool) {
        self.drained = Drained { is_empty: false, is_trusted: !is_closed };
    }

    /// The event queue tells nothing more of it.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.socket)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { socket, session, drained, .. } = self;
        let mut socket = Draining { socket, drained };
        let Some(session) = session else { return socket.read(buffer) };
        loop {
            match session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            session.read_tls(&mut socket)?;
            session.process_new_packets().map_err(io::Error::other)?;
            // What TLS answers by itself.
            match send(session, socket.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => outcome?,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return again(|| self.socket.write(bytes));
        };
        let length = session.writer().write(bytes)?;
        match send(session, &mut self.socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => outcome?,
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.session.as_mut().map_or(Ok(()), |session| send(session, &mut self.socket))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A reader of its own may have stopped before the socket was empty, and is not told that by the event queue.
        self.rouse(true);
        match self.read(buffer.initialize_unfilled()) {
            Ok(length) => {
                buffer.advance(length);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready(self.write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready(self.flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(std::net::Shutdown::Write))
    }
}

fn ready<T>(outcome: io::Result<T>) -> Poll<io::Result<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        outcome => Poll::Ready(outcome),
    }
}

/// Writes out what TLS has sealed.
fn send(session: &mut ClientConnection, socket: &mut TcpStream) -> io::Result<()> {
    while session.wants_write() {
        again(|| session.write_tls(socket))?;
    }
    Ok(())
}

/// A socket that is not asked again once it is known to be empty.
struct Draining<'a> {
    socket: &'a mut TcpStream,
    drained: &'a mut Drained,
}

impl Read for Draining<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.drained.is_empty {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = again(|| self.socket.read(buffer))?;
        self.drained.is_empty = self.drained.is_trusted && 0 < length && length < buffer.len();
        Ok(length)
    }
}

/// Once more where a signal has interrupted it.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// A connection on its way, from that source.
fn connect(
    server: SocketAddr,
    source: Option<IpAddr>,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&server.into()) {
        // EINPROGRESS, which has no kind of its own.
        Err(error) if error.raw_os_error() != Some(115) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Source addresses that no earlier run has used, since a port that has just been closed stays taken for a minute.
struct Sources {
    network: Option<u32>,
    taken: u32,
}

/// Of the 28,000 ports that an address has by default. The kernel looks for a free one by trying: with 15,000 taken, that
/// left 5,000 connects a second of 30,000.
const PORTS_OF_ADDRESS: u32 = 2_000;

impl Sources {
    /// Addresses for connections to that server: any, unless it is of this machine.
    fn new(server: SocketAddr) -> Self {
        let network = target::is_loopback_v4(server).then(|| {
            let unique = u128::from(std::process::id()) * 7_919 + crate::unique();
            (127 << 24) | ((unique % 0xfe_0000) as u32 + 0x1_0000)
        });
        Self { network, taken: 0 }
    }

    /// Where the next connection comes from; `None`: the system chooses.
    fn take(&mut self) -> Option<IpAddr> {
        let network = self.network?;
        let address = network + self.taken / PORTS_OF_ADDRESS;
        self.taken += 1;
        Some(Ipv4Addr::from(address).into())
    }
}

fn explain(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        // EMFILE
        Some(24) => io::Error::other("no more file descriptors: raise the limit (ulimit -n)"),
        _ => error,
    }
}
