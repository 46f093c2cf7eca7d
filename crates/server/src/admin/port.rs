//! A listening socket for operators. It is apart from the hub's own: its peers are few, send short requests without a body, and
//! must get an answer while all connections of the hub are taken.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{self, SocketAddr},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, request::Parts};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{answer::AdminAnswer, routes::Admin};

/// A bound socket, not accepting yet.
pub struct AdminPort {
    socket: TcpListener,
    address: SocketAddr,
}

/// Connections that are served at once. A further one takes the place of the oldest that has sent no request yet, or waits. A
/// scrape takes some milliseconds.
const CONNECTIONS_MAX: usize = 32;

/// The time in which the head of a request must arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The time that a connection may last, with its one request: longer than any answer takes.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes that are buffered of one connection, of what it reads and of what it writes.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// The pause after a failed accept, which mostly lacked a file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl AdminPort {
    /// Binds to the first address of `host` that can be bound; port 0 lets the system choose.
    ///
    /// # Errors
    /// If the name is unknown or no address can be bound.
    pub async fn bind(host: &str, port: u16) -> io::Result<Self> {
        let socket = TcpListener::bind((host, port)).await?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// A socket that listens already, such as one that another process has passed.
    ///
    /// # Errors
    /// If it is no TCP socket.
    pub fn from_std(socket: net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket)?;
        Ok(Self { address: socket.local_addr()?, socket })
    }

    /// The same socket for another process.
    ///
    /// # Errors
    /// If the system has no room for a file descriptor.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and answers until it is dropped.
    pub async fn serve(self, admin: Admin) {
        let admin = Arc::new(admin);
        serve(self.socket, move |head| {
            let admin = Arc::clone(&admin);
            async move { admin.answer(head).await }
        })
        .await;
    }
}

/// Accepts connections and answers the one request of each, until it is dropped.
pub(crate) async fn serve<F>(socket: TcpListener, handler: impl Fn(Parts) -> F + Send + Sync + 'static)
where
    F: Future<Output = AdminAnswer> + Send + 'static,
{
    let handler = Arc::new(handler);
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut silent = VecDeque::<Silent>::new();
    loop {
        match socket.accept().await {
            Ok((socket, _)) => {
                silent.retain(Silent::is_silent);
                if free.available_permits() == 0
                    && let Some(oldest) = silent.pop_front()
                {
                    oldest.task.abort();
                }
                let permit = Arc::clone(&free).acquire_owned().await;
                let (handler, has_asked) = (Arc::clone(&handler), Arc::<AtomicBool>::default());
                let asks = Arc::clone(&has_asked);
                let task = tokio::spawn(async move {
                    // A time-out and an error mean the same: the peer gets no answer.
                    let _ = timeout(TIME_MAX, answer(socket, &*handler, &asks)).await;
                    drop(permit);
                });
                silent.push_back(Silent { has_asked, task: task.abort_handle() });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection without a whole head of a request.
struct Silent {
    has_asked: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Silent {
    fn is_silent(&self) -> bool {
        !self.has_asked.load(Ordering::Relaxed) && !self.task.is_finished()
    }
}

/// Answers the one request of a connection. `has_asked` becomes true when its head is there.
async fn answer<F>(
    socket: TcpStream,
    handler: &(impl Fn(Parts) -> F + Send + Sync),
    has_asked: &AtomicBool,
) -> hyper::Result<()>
where
    F: Future<Output = AdminAnswer> + Send,
{
    let service = service_fn(async |request: Request<Incoming>| {
        has_asked.store(true, Ordering::Relaxed);
        Ok::<_, Infallible>(handler(request.into_parts().0).await)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .await
}
