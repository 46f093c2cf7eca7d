//! What the task of a connection shares with the requests that it polls, and with the shards of its streams.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::endpoint::Endpoint;

/// The endpoint of a connection and its socket. Whoever locks both locks the endpoint first.
///
/// The task of the connection and the requests that it polls lock one after the other. Only a shard that has something for a
/// stream may come between them: see [`Direct`](super::direct::Direct).
#[derive(Clone)]
pub(super) struct Shared(Arc<Connection>);

struct Connection {
    endpoint: Mutex<Endpoint>,
    /// `None`: the task has taken it, at the end.
    socket: Mutex<Option<Box<dyn Socket>>>,
}

/// What a connection reads and writes.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}

impl<Io: AsyncRead + AsyncWrite + Unpin + Send> Socket for Io {}

impl Shared {
    pub(super) fn new(endpoint: Endpoint, socket: Box<dyn Socket>) -> Self {
        Self(Arc::new(Connection { endpoint: Mutex::new(endpoint), socket: Mutex::new(Some(socket)) }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Endpoint> {
        lock(&self.0.endpoint)
    }

    /// As [`lock`](Self::lock), if that is free.
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Endpoint>> {
        self.0.endpoint.try_lock().ok()
    }

    /// Does something with the socket. `None`: it is taken.
    pub(super) fn with_socket<T>(&self, act: impl FnOnce(Pin<&mut dyn Socket>) -> T) -> Option<T> {
        lock(&self.0.socket).as_mut().map(|socket| act(Pin::new(&mut **socket)))
    }

    /// Writes what an endpoint has to send, as far as the socket takes it. Ready when that is everything; true: without an error.
    pub(super) fn poll_write(
        &self,
        endpoint: &mut Endpoint,
        cx: &mut Context<'_>,
        now: impl Fn() -> Instant,
    ) -> Poll<bool> {
        let written = self.with_socket(|socket| endpoint.outbound.poll_write(socket, cx, now));
        let Some(written) = written else { return Poll::Ready(false) };
        written.map(|result| result.map_err(|error| endpoint.lose(&error)).is_ok())
    }

    /// Writes what an endpoint has to send, at once. False: something is left, or wrong, and the task has to see to that.
    pub(super) fn try_write(&self, endpoint: &mut Endpoint, now: impl Fn() -> Instant) -> bool {
        let Ok(mut socket) = self.0.socket.try_lock() else { return false };
        let Some(socket) = &mut *socket else { return false };
        // The task is polled afterwards, and watches the socket itself.
        let mut cx = Context::from_waker(Waker::noop());
        matches!(endpoint.outbound.poll_write(Pin::new(&mut **socket), &mut cx, now), Poll::Ready(Ok(())))
    }

    pub(super) fn take_socket(&self) -> Option<Box<dyn Socket>> {
        lock(&self.0.socket).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
