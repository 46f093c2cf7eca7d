//! Streams of an application in this process, which serves its clients with a server of its own.
//!
//! The application sends a request over one end of a pair of Unix sockets, and reads the answer there. If that is a stream,
//! it reads the head and decides:
//!
//! - It **passes its client**: it sends the head that the client shall get, and with it two descriptors (`SCM_RIGHTS`): the
//!   client's socket, and the other end of what its server has instead of that socket from now on. The hub writes to the
//!   client as to one of its own. What the server writes is discarded until it closes.
//! - It **keeps its client**: it sends a byte without descriptors, and reads the stream from the pair.
//! - It closes the pair, and the stream ends.
//!
//! Descriptors travel as a message, because only the kernel makes an owned descriptor of a number.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    os::unix,
    time::Duration,
};

use bytes::Bytes;
use petasos_hub::Framing;
use rustix::{
    io::fcntl_dupfd_cloexec,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use socket2::SockRef;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};

use crate::connection::{
    handover::{self, Handover},
    linger::linger,
    options,
    permits::ConnectionPermit,
};

/// What an application does with its client.
enum Decision {
    Pass(Passed),
    Keep,
}

/// A client that an application passes.
struct Passed {
    client: OwnedFd,
    /// The other end of what the application's server has instead of the client.
    server: OwnedFd,
    framing: Framing,
    head: Bytes,
}

/// How long an application may take to decide: its functions that run after each request, which may ask other servers.
const DECISION_MAX: Duration = Duration::from_secs(60);

/// The longest head that an application may send: some cookies of 4 KiB beside everything else.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The most fields of that head.
pub(crate) const FIELDS_MAX: usize = 128;

/// Descriptors below are left to the application: `select` takes no higher number.
const LOW_NUMBERS: i32 = 1_024;

/// Fields of an answer that belong to its connection, which is another one now.
const OF_THE_CONNECTION: [&str; 10] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Carries a stream for an application at the other end of the pair. Returns as soon as that is arranged.
pub(crate) async fn carry(
    stream: Handover,
    mut pair: UnixStream,
    permit: ConnectionPermit,
    write_timeout: Duration,
) {
    // The pair is empty and takes a head at once. An error means that the application does not want it any more.
    if pair.write_all(stream.head()).await.is_err() {
        return;
    }
    match timeout(DECISION_MAX, decision(&pair)).await {
        Ok(Ok(Decision::Pass(passed))) => {
            drop(pair);
            let Passed { client, server, framing, head } = passed;
            match options::set_any(&client, write_timeout) {
                Ok(stall_max) => stream.with_head(framing, head).carry(client, stall_max, permit).await,
                Err(error) => tracing::warn!(%error, "a client was passed that is no socket"),
            }
            drain(server).await;
        }
        Ok(Ok(Decision::Keep)) => {
            options::set_unix(&SockRef::from(&pair));
            if let Ok(pair) = pair.into_std() {
                stream.without_head().carry(pair, Some(write_timeout), permit).await;
            }
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(%error, "a client was passed with a head that cannot be sent");
        }
        Ok(Err(error)) => tracing::debug!(%error, "a stream was given up before it began"),
        Err(_) => {
            tracing::warn!("a stream has ended: the application did not begin to answer within a minute")
        }
    }
}

/// Waits for the application.
///
/// # Errors
/// `InvalidData`: its message cannot be understood. Others: it has closed the pair.
async fn decision(pair: &UnixStream) -> io::Result<Decision> {
    let (mut message, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        let receive = || receive(pair, &mut message, &mut descriptors);
        if pair.async_io(Interest::READABLE, receive).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if descriptors.is_empty() {
            return Ok(Decision::Keep);
        }
        if message.ends_with(b"\r\n\r\n") {
            break;
        }
        if message.len() > HEAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
        }
    }
    let [client, server] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "two descriptors belong to it"))?;
    let (framing, head) = head(&message)?;
    // Where the limit of open files leaves no high number, a low one does.
    let client = fcntl_dupfd_cloexec(&client, LOW_NUMBERS).unwrap_or(client);
    Ok(Decision::Pass(Passed { client, server, framing, head }))
}

/// Receives a part of a message, with the descriptors that come with it. Returns the number of bytes, 0 at the end.
fn receive(pair: &UnixStream, message: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    #[cfg(any(target_os = "macos", target_os = "ios"))]
    const FLAGS: RecvFlags = RecvFlags::empty();
    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
    let mut bytes = [0; 4 * 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(pair, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, FLAGS)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    message.extend_from_slice(&bytes[..received.bytes]);
    Ok(received.bytes)
}

/// The head that a client gets. Its version says how the stream is framed.
///
/// # Errors
/// `InvalidData`: it is not the head of a successful answer.
pub(crate) fn head(message: &[u8]) -> io::Result<(Framing, Bytes)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let parsing = parsed.parse(message);
    let is_whole = matches!(parsing, Ok(httparse::Status::Complete(length)) if length == message.len());
    if !is_whole || parsed.code != Some(200) {
        let problem =
            parsing.err().map_or_else(|| "it is no head of an answer".to_owned(), |error| error.to_string());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let framing = match parsed.version {
        Some(0) => Framing::UntilClose,
        _ => Framing::Chunked,
    };
    let kept = parsed
        .headers
        .iter()
        .filter(|field| !OF_THE_CONNECTION.iter().any(|name| name.eq_ignore_ascii_case(field.name)));
    Ok((framing, handover::head(framing, kept.map(|field| (field.name, field.value)))))
}

/// Discards what a server writes to a client that it has no more: closing would be an error that it logs.
async fn drain(server: OwnedFd) {
    let server = unix::net::UnixStream::from(server);
    if server.set_nonblocking(true).is_ok()
        && let Ok(mut server) = UnixStream::from_std(server)
    {
        linger(&mut server).await;
    }
}
