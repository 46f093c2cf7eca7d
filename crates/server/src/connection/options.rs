//! The options of the sockets that streams are written to.

use std::{io, os::fd::OwnedFd, time::Duration};

use socket2::SockRef;

/// Bytes that the kernel may hold for one peer; it doubles the figure. A stalled peer would otherwise pin 4 MB. This is
/// enough for megabytes a second over any distance.
pub(crate) const SEND_BUFFER_BYTES: u32 = 128 * 1024;

/// The same for a Unix socket. It is writable again only when three quarters are free: a peer that reads slowly must come to that
/// within the write time-out.
const UNIX_SEND_BUFFER_BYTES: u32 = 32 * 1024;

/// Sets what a TCP socket needs, or a listener whose sockets inherit it. `Some`: the system does not close the connection of a
/// peer that takes nothing, so the owner of the socket has to, after this time.
pub(crate) fn set_tcp(socket: &SockRef<'_>, write_timeout: Duration) -> Option<Duration> {
    // Events are small, and one must not wait for the next.
    let _ = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    if socket.set_tcp_user_timeout(Some(write_timeout)).is_ok() {
        return None;
    }
    Some(write_timeout)
}

/// Sets what a connected Unix socket needs.
pub(crate) fn set_unix(socket: &SockRef<'_>) {
    let _ = socket.set_send_buffer_size(UNIX_SEND_BUFFER_BYTES as usize);
}

/// Sets what a connected stream socket of another server needs, TCP or Unix. `Some`: as in [`set_tcp`].
///
/// # Errors
/// It is no socket.
pub(crate) fn set_any(descriptor: &OwnedFd, write_timeout: Duration) -> io::Result<Option<Duration>> {
    let socket = SockRef::from(descriptor);
    let is_unix = socket.local_addr()?.is_unix();
    socket.set_nonblocking(true)?;
    if is_unix {
        set_unix(&socket);
        return Ok(Some(write_timeout));
    }
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES as usize);
    Ok(set_tcp(&socket, write_timeout))
}
