//! A listening TCP socket: the accept loop and the end.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::Connections;

/// A bound socket, not accepting yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

/// Connections that may wait for the accept loop: a reconnecting crowd must not be dropped by the kernel.
const BACKLOG: u32 = 4_096;

/// What the kernel may hold for one peer (it doubles the figure): a stalled one would otherwise pin 4 MB. Enough for
/// megabytes a second over any distance.
const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// After a failed accept, usually for want of file descriptors: long enough not to spin, short enough not to be felt.
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
                Ok(socket) => return Ok(Self { address: socket.local_addr()?, socket }),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves until the connections stop, then waits for those that are open, at most `drain`.
    pub async fn serve(self, connections: Connections, drain: Duration) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => accept(stream, peer, &connections, &mut tasks),
                    Err(error) if is_of_peer(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "connections cannot be accepted: raise the limit of open files");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = tasks.join_next() => {}
                () = connections.stopping() => break,
            }
        }
        drop(self.socket);
        // Also those that the hub writes to by itself.
        let _ = timeout(drain, connections.drained()).await;
        tasks.shutdown().await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Inherited by the sockets that are accepted.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn accept(stream: TcpStream, peer: SocketAddr, connections: &Connections, tasks: &mut JoinSet<()>) {
    // Turned away without a word: an answer would cost what there is no room for, and a browser tries again after a
    // broken connection, but never after an error status.
    let Some(admission) = connections.admit() else { return };
    // Events are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    #[cfg(target_os = "linux")]
    let _ = socket2::SockRef::from(&stream)
        .set_tcp_user_timeout(Some(connections.service().settings.write_timeout));
    let connections = connections.clone();
    tasks.spawn(async move { connections.serve_socket(stream, peer.ip(), admission).await });
}

/// Whether an accept failed for a reason of the peer's, with nothing to wait for.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
