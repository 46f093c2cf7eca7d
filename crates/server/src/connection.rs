//! One HTTP/1.1 connection from its first byte to its last, on any stream of bytes.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};

use crate::Service;

/// All connections of one service: what they are served by, how many there may be, and how they end.
#[derive(Clone)]
pub struct Connections {
    service: Arc<Service>,
    room: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
}

/// When a connection must be over, whatever its peer does: an extension of every request.
#[derive(Clone)]
pub(crate) struct Lifetime(watch::Sender<Option<Instant>>);

impl Lifetime {
    /// Ends the connection at that time, if its stream has not done so itself.
    pub(crate) fn end_at(&self, time: Instant) {
        self.0.send_replace(Some(time));
    }
}

/// The other end of a connection: an extension of every request that comes over a network.
#[derive(Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// How long a stream's own end may take to reach a peer that does not read. A stream ends so much before its token.
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// What hyper may buffer of one connection: above the largest head we accept, far below its default of 400 KB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

impl Connections {
    /// For a service; the limit is its `connections_max`.
    pub fn new(service: Service) -> Self {
        let room = service.settings.connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            service: Arc::new(service),
            room: Arc::new(Semaphore::new(room)),
            stopping: watch::Sender::new(false),
        }
    }

    /// What serves them.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// A place for one more connection; `None`: there is none, or the service stops.
    pub fn admit(&self) -> Option<Admission> {
        if *self.stopping.borrow() {
            return None;
        }
        Arc::clone(&self.room).try_acquire_owned().ok().map(Admission)
    }

    /// Serves one connection until its peer leaves, its lifetime is over, or the service stops and its last answer is
    /// out.
    pub async fn serve(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Option<IpAddr>,
        admission: Admission,
    ) {
        let lifetime = Lifetime(watch::Sender::new(None));
        let mut end = lifetime.0.subscribe();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let service = Arc::clone(&self.service);
            let lifetime = lifetime.clone();
            async move {
                // What a former request of this connection set has ended with its answer.
                lifetime.0.send_if_modified(|end| end.take().is_some());
                request.extensions_mut().insert(lifetime);
                if let Some(peer) = peer {
                    request.extensions_mut().insert(Peer(peer));
                }
                Ok::<_, Infallible>(service.call(request).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.service.settings.head_timeout)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        let mut stopping = self.stopping.subscribe();
        let mut draining = false;
        loop {
            let deadline = *end.borrow_and_update();
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::trace!(%error, "a connection ended early");
                    }
                    break;
                }
                Ok(()) = end.changed() => {}
                () = over(deadline) => break,
                _ = stopping.wait_for(|stopping| *stopping), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
        drop(admission);
    }

    /// Ends the hub's streams and refuses new connections; those that are open end with their last answer.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        self.service.hub.stop().await;
    }

    /// Waits until the service stops.
    pub async fn stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives as long as self.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// A connection's place; dropping it makes room.
pub struct Admission(#[expect(dead_code, reason = "held for its Drop")] OwnedSemaphorePermit);

async fn over(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline + GRACE).await,
        None => std::future::pending().await,
    }
}
