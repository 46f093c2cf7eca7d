//! A connected stream socket of any family.

use std::{
    net,
    os::{fd::OwnedFd, unix},
};

use bytes::Bytes;

use super::seal::Seal;

/// A connected stream socket that does not block: of TCP, or a Unix socket; and what seals its bytes, if they are sealed.
///
/// One type is enough for both families. A stream reads, writes, shuts down and waits for readiness, which are the same system
/// calls for every family, and a socket of the standard library is no more than a descriptor for them. Families differ in
/// addresses and options, and nothing here asks for those.
pub struct Socket {
    pub(crate) tcp: net::TcpStream,
    pub(crate) seal: Option<(Box<dyn Seal>, Bytes)>,
}

impl Socket {
    /// A socket whose bytes are sealed. `unsent` is sealed already and goes out first.
    pub fn sealed(socket: net::TcpStream, seal: Box<dyn Seal>, unsent: Bytes) -> Self {
        Self { tcp: socket, seal: Some((seal, unsent)) }
    }
}

impl From<net::TcpStream> for Socket {
    fn from(tcp: net::TcpStream) -> Self {
        Self { tcp, seal: None }
    }
}

impl From<unix::net::UnixStream> for Socket {
    fn from(socket: unix::net::UnixStream) -> Self {
        OwnedFd::from(socket).into()
    }
}

/// The descriptor must be that of a connected stream socket. Reading and writing fail for any other.
impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Self {
        net::TcpStream::from(descriptor).into()
    }
}
