//! A listening TCP socket: it accepts connections until the service closes or stops, and then waits for the open ones.

use std::{
    io,
    net::{self, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    pin::pin,
    time::Duration,
};

use mio::net::TcpListener;
use socket2::SockRef;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpSocket, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    Settings,
    connection::{
        connections::{Accepted, Connections},
        options::{self, SEND_BUFFER_BYTES},
    },
    tls::Tls,
};

/// A bound socket, not accepting yet.
pub struct Listener {
    /// Not a listener of tokio's, which would register each socket that it accepts: most of them go to the hub after one
    /// read.
    socket: AsyncFd<TcpListener>,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// Connections that may wait for the accept loop. The kernel drops further ones, so many subscribers that reconnect at once
/// must fit.
const BACKLOG: u32 = 4_096;

/// Connections that one task begins to serve. Of many that come at once, each thread of the runtime gets some.
const TOGETHER_MAX: usize = 16;

/// So few connections the accepting task begins by itself: to wake another thread for one of them costs as much as to begin it.
const AT_ONCE_MAX: usize = 2;

/// The pause after a failed accept, which mostly lacked a file descriptor: long enough not to spin, too short to be felt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Binds to the first address of `host` that can be bound; port 0 lets the system choose.
    ///
    /// # Errors
    /// If the name is unknown or no address can be bound.
    pub async fn bind(host: &str, port: u16) -> io::Result<Self> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match bind(address) {
                Ok(socket) => return Ok(Self { address: socket.get_ref().local_addr()?, socket, tls: None }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Everything that it accepts speaks TLS.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A socket that listens already, such as one that systemd or another process has passed. Its backlog stays as it is.
    ///
    /// # Errors
    /// If it is no TCP socket that listens.
    pub fn from_std(socket: net::TcpListener) -> io::Result<Self> {
        // Fails for a socket that is none of TCP.
        let address = socket.local_addr()?;
        if !SockRef::from(&socket).is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        socket.set_nonblocking(true)?;
        // Inherited by the sockets that are accepted.
        SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER_BYTES as usize)?;
        Ok(Self { socket: watch(TcpListener::from_std(socket))?, address, tls: None })
    }

    /// The same socket for another process, which accepts from the same queue.
    ///
    /// # Errors
    /// If the system has no room for a file descriptor.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.get_ref().as_fd().try_clone_to_owned()
    }

    /// Accepts and serves until the connections close or stop. What has come until then is served as well. Then waits until
    /// they stop, and for those that are open, at most `drain`.
    pub async fn serve(self, connections: Connections, drain: Duration) {
        let mut tasks = JoinSet::new();
        let mut closing = pin!(connections.closing());
        // A connection that has come before this has the default.
        inherit(self.socket.get_ref(), connections.service().settings().write_timeout);
        loop {
            tokio::select! {
                accepted = self.accept() => match accepted {
                    Ok(batch) => begin(batch, self.tls.as_ref(), &connections, &mut tasks).await,
                    Err(error) => {
                        tracing::warn!(%error, "connections cannot be accepted: raise the limit of open files");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = tasks.join_next() => {}
                () = &mut closing => break,
            }
        }
        // Closing the socket would reset what waits in its queue.
        let mut queued = queued(|| self.socket.get_ref().accept());
        loop {
            let batch = queued.by_ref().take(TOGETHER_MAX);
            let batch: Vec<_> = batch.map(|(socket, peer)| (socket.into(), peer)).collect();
            if batch.is_empty() {
                break;
            }
            begin(batch, self.tls.as_ref(), &connections, &mut tasks).await;
        }
        drop(queued);
        drop(self.socket);
        let mut stopping = pin!(connections.stopping());
        loop {
            tokio::select! {
                Some(_) = tasks.join_next() => {}
                () = &mut stopping => break,
            }
        }
        // This counts the connections that the hub writes to by itself, too.
        let _ = timeout(drain, connections.drained()).await;
        tasks.shutdown().await;
    }

    /// The connections that have come, [`TOGETHER_MAX`] at most. Waits for the first one.
    ///
    /// # Errors
    /// The system's, if no connection could be accepted.
    async fn accept(&self) -> io::Result<Vec<(net::TcpStream, SocketAddr)>> {
        let mut batch = Vec::new();
        loop {
            let mut ready = self.socket.readable().await?;
            while batch.len() < TOGETHER_MAX {
                match ready.try_io(|socket| socket.get_ref().accept()) {
                    Ok(Ok((socket, peer))) => batch.push((socket.into(), peer)),
                    Ok(Err(error)) if is_caused_by_peer(&error) => {}
                    Ok(Err(error)) if batch.is_empty() => return Err(error),
                    // If the error lasts, the next call returns it.
                    Ok(Err(_)) | Err(_) => break,
                }
            }
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }
}

/// Serves connections that have come together.
async fn begin(
    batch: Vec<(net::TcpStream, SocketAddr)>,
    tls: Option<&Tls>,
    connections: &Connections,
    tasks: &mut JoinSet<()>,
) {
    let admitted = batch.into_iter().map_while(|(socket, peer)| {
        // Closed without an answer: there is no room for one, and a browser tries again after a broken connection, but never
        // after an error status.
        Some(Accepted { socket, peer: peer.ip(), permit: connections.admit()?, tls: tls.cloned() })
    });
    let admitted: Vec<_> = admitted.collect();
    if admitted.len() <= AT_ONCE_MAX {
        connections.begin_batch(admitted, tasks).await;
    } else {
        let connections = connections.clone();
        tasks.spawn(async move { connections.serve_batch(admitted).await });
    }
}

fn bind(address: SocketAddr) -> io::Result<AsyncFd<TcpListener>> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Inherited by the sockets that are accepted.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    let socket = TcpListener::from_std(socket.listen(BACKLOG)?.into_std()?);
    watch(socket)
}

/// Waits for connections from now on.
fn watch(socket: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    inherit(&socket, Settings::default().write_timeout);
    #[expect(
        deprecated,
        reason = "its successor is unsafe, and asks for a descriptor that stays the same: a listener's does"
    )]
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Sets options that accepted sockets inherit, so that no call of the system is needed for each of them.
fn inherit(listener: &TcpListener, write_timeout: Duration) {
    let _ = options::set_tcp(&SockRef::from(listener), write_timeout);
}

/// The connections that wait, as many as the queue has room for: clients that come back at once would go on for ever. One whose
/// peer has left is skipped.
fn queued<T>(accept: impl Fn() -> io::Result<T>) -> impl Iterator<Item = T> {
    let accepted = (0..BACKLOG).map_while(move |_| match accept() {
        Ok(connection) => Some(Some(connection)),
        Err(error) => is_caused_by_peer(&error).then_some(None),
    });
    accepted.flatten()
}

/// Whether an accept failed because of its peer, so that the next one may succeed at once.
fn is_caused_by_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_connection_that_was_broken_in_the_queue_does_not_hide_those_behind_it() {
        let answers = RefCell::new(vec![
            Err(io::ErrorKind::WouldBlock),
            Ok(3),
            Err(io::ErrorKind::ConnectionReset),
            Err(io::ErrorKind::ConnectionAborted),
            Ok(0),
        ]);
        let accept = || answers.borrow_mut().pop().expect("one more").map_err(io::Error::from);
        assert_eq!(queued(accept).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(queued(|| Ok(())).count(), BACKLOG as usize, "it ends while others come");
    }

    #[tokio::test]
    async fn what_is_accepted_has_the_options_of_the_listener() {
        let listener = Listener::bind("127.0.0.1", 0).await.expect("bind");
        let mut clients = Vec::new();
        for write_timeout in [Settings::default().write_timeout, Duration::from_secs(7)] {
            inherit(listener.socket.get_ref(), write_timeout);
            #[expect(clippy::disallowed_methods, reason = "the system accepts it at once")]
            clients.push(net::TcpStream::connect(listener.address()).expect("connect"));
            let [(socket, _)] = &listener.accept().await.expect("accept")[..] else { panic!("one") };
            let socket = SockRef::from(socket);
            assert!(socket.tcp_nodelay().expect("an option"));
            assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(write_timeout));
            assert_eq!(socket.send_buffer_size().expect("an option"), 2 * SEND_BUFFER_BYTES as usize);
        }
    }
}
