//! A port that belongs to a test.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// A port of 127.0.0.1 that nobody else gets while the value lives.
///
/// Its socket is bound and does not listen. So the kernel gives the port to no server that asks for a free one, and to
/// no client as its own. A server that is told the number can listen on it, and can do so again after it has ended: it
/// sets SO_REUSEADDR, as the socket here does. While no server listens, connections are refused.
pub struct Port(TcpSocket);

impl Port {
    pub fn hold() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        Self(socket)
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }
}
