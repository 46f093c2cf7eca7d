//! A connection that speaks HTTP/2: its requests, and its bounds in time.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use h2::{
    Reason,
    server::{Builder, Connection, Handshake},
};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};

use super::{
    exchange::Exchange,
    watched::{Watched, now},
};
use crate::{
    Settings,
    connection::{
        idle::Wait,
        permits::{ConnectionPermit, Permits},
    },
    http::{peer::Peer, service::Service},
};

/// Requests that a peer may have open at once. A page with some dozen streams fits, and a proxy that carries many clients on
/// one connection opens another: RFC 9113 asks for 100 at least, so such proxies know how to.
const STREAMS_MAX: u32 = 250;

/// What a peer may send of the content of one request before it is read. Ordinary updates fit, and the largest comes at a
/// megabyte a second over 30 ms.
const CONTENT_BYTES_MAX: u32 = 32 * 1024;

/// The same for all requests of a connection: as much as all windows together. With less, requests that wait for room in memory
/// would keep the content of those that have it from coming.
const WINDOW_BYTES: u32 = STREAMS_MAX * CONTENT_BYTES_MAX;

/// The longest head, as in HTTP/1.1.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// What the library may hold of one answer while the socket takes nothing. The rest waits in the stream, within its bounds.
const UNSENT_BYTES_MAX: usize = 16 * 1024;

/// Requests that a peer may open and reset before they are looked at: beyond, the connection ends (CVE-2023-44487). A page that is
/// left at once resets all that it has, and other pages may have streams on the same connection.
const RESETS_MAX: usize = STREAMS_MAX as usize;

/// Streams that may end by errors of the peer: beyond, the connection ends (CVE-2025-8671).
const ERRORS_MAX: usize = 256;

/// How long a connection without a request waits for the last word of its peer, who may have sent one meanwhile.
const FAREWELL: Duration = Duration::from_secs(1);

/// How the library serves. The table of the compression of heads stays at the 4 KiB of the protocol, for both directions.
pub(crate) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(CONTENT_BYTES_MAX)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buffer_size(UNSENT_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX));
    builder
}

/// What a connection needs to know.
pub(crate) struct Http2<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) permits: &'a Permits,
    pub(crate) peer: Peer,
}

/// How a connection ended.
enum End {
    /// By what the two sides have said.
    Closed,
    /// A bound was reached.
    Over,
}

impl Http2<'_> {
    /// Serves a connection to its end. `read` has been read of it already. `Some`: its peer may still be sending; with the
    /// permit, if no other connection has it.
    pub(crate) async fn run<Io>(
        self,
        builder: &Builder,
        io: Io,
        read: Bytes,
        permit: ConnectionPermit,
    ) -> Option<(Io, Option<ConnectionPermit>)>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let watched = Watched::new(io, read);
        let mut serving = Serving::new(&self, builder, watched.clone(), permit);
        let mut closing = pin!(self.permits.closing());
        let mut timer = pin!(sleep(Duration::ZERO));
        let end = poll_fn(|cx| {
            if !serving.is_leaving && closing.as_mut().poll(cx).is_ready() {
                serving.leave();
            }
            loop {
                if let Poll::Ready(end) = serving.poll(cx) {
                    return Poll::Ready(end);
                }
                let Some(deadline) = serving.deadline() else { return Poll::Pending };
                // The timer only wakes the task. It does not fire in a turn that a peer has used up by sending without a pause.
                if deadline <= now() {
                    match serving.expire() {
                        Some(end) => return Poll::Ready(end),
                        None => continue,
                    }
                }
                // It is not moved later before it has fired.
                if timer.is_elapsed() || deadline < timer.deadline().into_std() {
                    timer.as_mut().reset(deadline.into());
                }
                ready!(timer.as_mut().poll(cx));
            }
        })
        .await;
        // This drops the other share of the connection.
        let permit = serving.into_permit();
        match end {
            End::Closed => watched.into_unended().map(|io| (io, permit)),
            End::Over => None,
        }
    }
}

/// A connection that is served.
struct Serving<Io> {
    service: Arc<Service>,
    permits: Permits,
    peer: Peer,
    settings: Arc<Settings>,
    watched: Watched<Io>,
    library: Library<Io>,
    exchanges: FuturesUnordered<Exchange>,
    /// `None`: it is lent, or gone.
    permit: Option<ConnectionPermit>,
    /// Its entry among the connections without a request.
    idle: Option<Wait<ConnectionPermit>>,
    /// Since when it has had no request, and its peer has taken all answers.
    unused_since: Option<Instant>,
    /// Its entry among the connections that have begun something, or do not read their answers.
    stalled: Option<Wait<()>>,
    has_asked: bool,
    /// The peer has been told to open no more requests.
    is_leaving: bool,
}

enum Library<Io> {
    Opening(Handshake<Watched<Io>, Bytes>),
    Open(Connection<Watched<Io>, Bytes>),
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Serving<Io> {
    fn new(http2: &Http2<'_>, builder: &Builder, watched: Watched<Io>, permit: ConnectionPermit) -> Self {
        http2.service.requests().protocols.http2_opened();
        Self {
            service: Arc::clone(http2.service),
            permits: http2.permits.clone(),
            peer: http2.peer.clone(),
            settings: http2.service.settings(),
            library: Library::Opening(builder.handshake(watched.clone())),
            watched,
            exchanges: FuturesUnordered::new(),
            permit: Some(permit),
            idle: None,
            unused_since: None,
            stalled: None,
            has_asked: false,
            is_leaving: false,
        }
    }

    /// Ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            // First, so that what they send goes out together.
            while let Poll::Ready(Some(())) = self.exchanges.poll_next_unpin(cx) {}
            match &mut self.library {
                Library::Opening(opening) => match Pin::new(opening).poll(cx) {
                    Poll::Ready(Ok(mut connection)) => {
                        if self.is_leaving {
                            connection.graceful_shutdown();
                        }
                        self.library = Library::Open(connection);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(closed(&error)),
                    Poll::Pending => break,
                },
                Library::Open(connection) => match connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        if !self.is_busy() {
                            return Poll::Ready(End::Over);
                        }
                        self.has_asked = true;
                        let write_timeout = self.settings.write_timeout;
                        let exchange =
                            Exchange::new(&self.service, self.peer.clone(), write_timeout, request, respond);
                        self.exchanges.push(exchange);
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(closed(&error)),
                    Poll::Ready(None) => return Poll::Ready(End::Closed),
                    Poll::Pending => break,
                },
            }
        }
        self.poll_bounds(cx)
    }

    /// Enters or leaves the lists of connections that wait. Ready when others need what this one has.
    fn poll_bounds(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let has_requests = !self.exchanges.is_empty();
        let is_behind = self.watched.behind_since().is_some();
        if has_requests || is_behind {
            self.unused_since = None;
        } else {
            // What has begun is no request yet: a peer could begin one frame after the other.
            self.unused_since.get_or_insert_with(now);
        }
        let is_stalled = self.watched.incomplete_since().is_some() || !has_requests && is_behind;
        if is_stalled {
            let stalled = self.stalled.get_or_insert_with(|| self.permits.stalled.enter(()));
            if stalled.poll_evicted(cx).is_ready() {
                return Poll::Ready(End::Over);
            }
        } else {
            self.stalled = None;
        }
        if is_stalled || has_requests {
            return if self.is_busy() { Poll::Pending } else { Poll::Ready(End::Over) };
        }
        if self.idle.is_none() {
            let Some(permit) = self.permit.take() else { return Poll::Ready(End::Over) };
            self.idle = Some(self.permits.idle.enter(permit));
        }
        if let Some(wait) = &mut self.idle {
            ready!(wait.poll_evicted(cx));
            self.say_goodbye(cx);
            return Poll::Ready(End::Over);
        }
        Poll::Pending
    }

    /// Takes the permit back. False: another connection has it.
    fn is_busy(&mut self) -> bool {
        if let Some(wait) = self.idle.take() {
            self.permit = wait.leave();
        }
        self.permit.is_some()
    }

    /// Tells the peer which of its requests will be answered, if the socket takes it at once.
    fn say_goodbye(&mut self, cx: &mut Context<'_>) {
        if let Library::Open(connection) = &mut self.library {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            let _ = connection.poll_closed(cx);
        }
    }

    /// Tells the peer to send further requests elsewhere. Those that are on their way are answered.
    fn leave(&mut self) {
        self.is_leaving = true;
        if let Some(since) = &mut self.unused_since {
            *since = now();
        }
        if let Library::Open(connection) = &mut self.library {
            connection.graceful_shutdown();
        }
    }

    /// When something is over that may last so long.
    fn deadline(&self) -> Option<Instant> {
        let patience = match (self.is_leaving, self.has_asked) {
            (true, _) => FAREWELL,
            (false, true) => self.settings.idle_timeout,
            // No client keeps it for a next request.
            (false, false) => self.settings.head_timeout,
        };
        let unused = self.unused_since.map(|since| since + patience);
        self.peer_deadline().into_iter().chain(unused).min()
    }

    /// When the peer must have ended what it has begun, or taken something of what waits.
    fn peer_deadline(&self) -> Option<Instant> {
        let incomplete = self.watched.incomplete_since().map(|since| since + self.settings.head_timeout);
        let behind = self.watched.behind_since().map(|since| since + self.settings.write_timeout);
        incomplete.into_iter().chain(behind).min()
    }

    /// The deadline has come. `None`: the connection goes on.
    fn expire(&mut self) -> Option<End> {
        if self.is_leaving || self.peer_deadline().is_some_and(|deadline| deadline <= now()) {
            return Some(End::Over);
        }
        self.leave();
        None
    }

    /// Ends the connection.
    fn into_permit(mut self) -> Option<ConnectionPermit> {
        self.is_busy();
        self.permit.take()
    }
}

impl<Io> Drop for Serving<Io> {
    fn drop(&mut self) {
        self.service.requests().protocols.http2_closed();
    }
}

fn closed(error: &h2::Error) -> End {
    tracing::trace!(%error, "a connection of HTTP/2 ended early");
    End::Closed
}
