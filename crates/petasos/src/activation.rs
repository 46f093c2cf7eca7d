//! Sockets on which the service manager listens for the hub (`sd_listen_fds(3)`).
//!
//! They stay open while the hub is started again, so no connection is refused meanwhile.

use std::{env, io, net::TcpListener, process};

use listenfd::ListenFd;

/// The name (`FileDescriptorName=`) of a socket that is not for clients: the port of operators.
const ADMIN: &str = "admin";

/// The name of a socket for plain HTTP, which is sent on to TLS.
const REDIRECT: &str = "redirect";

/// The sockets that were passed to this process.
#[derive(Debug, Default)]
pub struct Activated {
    /// Those for clients.
    pub listeners: Vec<TcpListener>,
    /// The one with the name `admin`.
    pub admin: Option<TcpListener>,
    /// The one with the name `redirect`.
    pub redirect: Option<TcpListener>,
}

impl Activated {
    /// Takes the sockets. To be called once, before the process has threads: the variables that name the sockets are removed,
    /// so that no child takes them.
    ///
    /// # Errors
    /// If a socket is none of TCP that listens.
    pub fn take() -> io::Result<Self> {
        let is_meant = env::var("LISTEN_PID").is_ok_and(|id| id == process::id().to_string());
        if !is_meant {
            return Ok(Self::default());
        }
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut taken = Self::default();
        for number in 0..passed.len() {
            let name = names.next().unwrap_or_default();
            let Some(listener) = passed.take_tcp_listener(number)? else { continue };
            match name {
                ADMIN => taken.admin = Some(listener),
                REDIRECT => taken.redirect = Some(listener),
                _ => taken.listeners.push(listener),
            }
        }
        Ok(taken)
    }
}
