//! A connected stream socket of any family.

use std::{
    net,
    os::{fd::OwnedFd, unix},
};

/// A connected stream socket that does not block: of TCP, or a Unix socket.
///
/// One type is enough for both. A stream reads, writes, shuts down and waits for readiness, which are the same system calls
/// for every family, and a socket of the standard library is no more than a descriptor for them. Families differ in
/// addresses and options, and nothing here asks for those.
pub struct Socket(net::TcpStream);

impl Socket {
    pub(crate) fn into_std(self) -> net::TcpStream {
        self.0
    }
}

impl From<net::TcpStream> for Socket {
    fn from(socket: net::TcpStream) -> Self {
        Self(socket)
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
        Self(descriptor.into())
    }
}
