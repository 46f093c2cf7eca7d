//! A new process takes over the listening sockets of the one that runs, so that no connection is refused in between.
//!
//! The running hub listens on a Unix socket that its user alone reaches. A hub that starts and finds it:
//!
//! | the new hub | the running hub |
//! | --- | --- |
//! | `petasos-takeover 1` | `sockets`, with the descriptors (`SCM_RIGHTS`), and what is special about its log |
//! | starts completely, and accepts | goes on |
//! | `accepting` | `leaving`, and drains its streams |
//!
//! A new hub that ends before that closes the connection, and nothing has happened. Both accept for a moment from one queue,
//! which is the kernel's, so neither has to wait for the other.

use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    process::geteuid,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// A running hub that waits for this one.
#[derive(Debug)]
pub struct Predecessor {
    connection: UnixStream,
    /// The sockets on which it accepts connections.
    pub listeners: Vec<TcpListener>,
    /// The socket on which it answers operators.
    pub admin: Option<TcpListener>,
    /// Whether it alone can have its log open.
    pub is_log_exclusive: bool,
}

/// What a hub passes to the next one.
#[derive(Debug)]
pub struct Sockets {
    /// The sockets on which it accepts connections.
    pub listeners: Vec<OwnedFd>,
    /// The socket on which it answers operators.
    pub admin: Option<OwnedFd>,
}

/// The place where a running hub waits for the next one. Dropping it removes the socket, unless a hub has taken over: that one
/// replaces it.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
    /// Where the socket is until [`Offer::publish`].
    made: PathBuf,
    /// The device and the inode of the socket: another hub may have put its own in its place.
    identity: (u64, u64),
    is_taken: bool,
}

/// What both say first. The number is the version: hubs of other versions refuse.
const GREETING: &str = "petasos-takeover 1\n";
/// Followed by the words below that hold. The socket for operators is the last one.
const SOCKETS: &str = "sockets";
const WITH_ADMIN: &str = "admin";
const EXCLUSIVE: &str = "exclusive";
const BUSY: &str = "busy\n";
const ACCEPTING: &str = "accepting\n";
const LEAVING: &str = "leaving\n";

/// The longest line.
const LINE_BYTES_MAX: usize = 64;

/// Sockets of one hub, the one for operators included; more cannot be passed. `SCM_RIGHTS` takes 253.
pub const SOCKETS_MAX: usize = 16;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long a new hub may take to start. It reads its log meanwhile.
const START_MAX: Duration = Duration::from_secs(300);

impl Predecessor {
    /// Asks the hub that listens at `path` for its sockets. `None`: there is none.
    ///
    /// # Errors
    /// If it does not answer as a hub of this version does, is being taken over already, or belongs to another user.
    pub async fn find(path: &Path) -> io::Result<Option<Self>> {
        let connection = match UnixStream::connect(path).await {
            Ok(connection) => connection,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        check_user(&connection)?;
        send(&connection, GREETING, &[]).await?;
        let (answer, descriptors) = receive(&connection, ANSWER_MAX).await?;
        if answer == BUSY {
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, "another hub is taking over already"));
        }
        let words: Vec<_> = answer.split_whitespace().collect();
        let mut listeners: Vec<_> = descriptors.into_iter().map(TcpListener::from).collect();
        let admin = if words.contains(&WITH_ADMIN) { listeners.pop() } else { None };
        if words.first() != Some(&SOCKETS) || listeners.is_empty() {
            return Err(io::Error::other("what listens there is no hub of this version"));
        }
        Ok(Some(Self { connection, listeners, admin, is_log_exclusive: words.contains(&EXCLUSIVE) }))
    }

    /// Tells it that this hub accepts connections. Returns once it has begun to leave.
    ///
    /// # Errors
    /// If it has ended meanwhile, which does no harm, or if it no longer waits for this hub: [`is_offered`] tells them apart.
    pub async fn relieve(self) -> io::Result<()> {
        send(&self.connection, ACCEPTING, &[]).await?;
        match receive(&self.connection, ANSWER_MAX).await?.0.as_str() {
            LEAVING => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Whether a hub waits at `path` for another one. A hub that ends meanwhile does not.
pub async fn is_offered(path: &Path) -> bool {
    let Ok(connection) = UnixStream::connect(path).await else { return false };
    let answer = async {
        send(&connection, GREETING, &[]).await?;
        receive(&connection, ANSWER_MAX).await
    };
    // A hub that is too busy to answer is there. The end of a hub breaks the connection.
    answer.await.map_or_else(|error| error.kind() == io::ErrorKind::TimedOut, |_| true)
}

impl Offer {
    /// Listens at another path beside `path`, where nobody asks. So everything that can fail has failed before the hub that runs
    /// is told to leave.
    ///
    /// # Errors
    /// If the path is something else than a socket, or cannot be created.
    pub fn new(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else at this path"));
        }
        let mut made = path.as_os_str().to_owned();
        made.push(format!(".{}", process::id()));
        let made = PathBuf::from(made);
        // Of a process with the same id, long ago.
        let _ = fs::remove_file(&made);
        let listener = UnixListener::bind(&made)?;
        // Until here the user is checked, too.
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(&made)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Self { listener, path: path.to_owned(), made, identity, is_taken: false })
    }

    /// Listens at the path from now on. A socket that is there already is replaced.
    ///
    /// # Errors
    /// If the system refuses to rename the socket.
    pub fn publish(&self) -> io::Result<()> {
        fs::rename(&self.made, &self.path)
    }

    /// Passes the sockets to a hub that asks for them. Returns when a hub has taken over. A hub that asks and does not start
    /// changes nothing. `is_log_exclusive`: whether this process alone can have its log open.
    pub async fn taken(mut self, sockets: &Sockets, is_log_exclusive: bool) {
        loop {
            let connection = self.accept().await;
            let session = hand_over(&connection, sockets, is_log_exclusive);
            let refuse_others = async {
                loop {
                    let other = self.accept().await;
                    // A hub that is still sending when this side closes gets an error instead of the answer.
                    let _ = receive(&other, ANSWER_MAX).await;
                    let _ = send(&other, BUSY, &[]).await;
                }
            };
            let result = tokio::select! {
                result = session => result,
                () = refuse_others => return,
            };
            match result {
                Ok(()) => {
                    self.is_taken = true;
                    return;
                }
                Err(error) => {
                    tracing::info!(%error, "a hub that asked for the sockets did not take over: this one goes on");
                }
            }
        }
    }

    async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((connection, _)) => match check_user(&connection) {
                    Ok(()) => return connection,
                    Err(error) => tracing::warn!(%error, "a takeover was refused"),
                },
                Err(error) => {
                    tracing::warn!(%error, "no takeover can be accepted");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // The next hub puts its own socket there at this very moment, and that one must not be removed.
        if self.is_taken {
            return;
        }
        let is_own = |found: fs::Metadata| (found.dev(), found.ino()) == self.identity;
        for path in [&self.made, &self.path] {
            if fs::symlink_metadata(path).is_ok_and(is_own) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Talks to one new hub until that accepts connections.
async fn hand_over(connection: &UnixStream, sockets: &Sockets, is_log_exclusive: bool) -> io::Result<()> {
    if receive(connection, ANSWER_MAX).await?.0 != GREETING {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no hub of this version"));
    }
    let Sockets { listeners, admin } = sockets;
    let words = [Some(SOCKETS), admin.as_ref().map(|_| WITH_ADMIN), is_log_exclusive.then_some(EXCLUSIVE)];
    let words: Vec<_> = words.into_iter().flatten().collect();
    let descriptors: Vec<_> = listeners.iter().chain(admin).map(AsFd::as_fd).collect();
    send(connection, &format!("{}\n", words.join(" ")), &descriptors).await?;
    tracing::info!(
        "a new hub has got the listening sockets; this one goes on until the new one accepts connections"
    );
    if receive(connection, START_MAX).await?.0 != ACCEPTING {
        return Err(io::ErrorKind::InvalidData.into());
    }
    // Even if it has ended meanwhile, it has accepted connections.
    let _ = send(connection, LEAVING, &[]).await;
    Ok(())
}

/// Whether the other side is a process of this user, or of root.
fn check_user(connection: &UnixStream) -> io::Result<()> {
    let user = connection.peer_cred()?.uid();
    match user == geteuid().as_raw() || user == 0 {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a process of another user")),
    }
}

/// Sends a line, with descriptors.
async fn send(connection: &UnixStream, line: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    // The buffer has room for some more.
    if descriptors.len() > SOCKETS_MAX {
        let problem = format!("{} sockets cannot be passed, {SOCKETS_MAX} at most", descriptors.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let sent =
            sendmsg(connection, &[IoSlice::new(line.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)?;
        // A line is far shorter than the buffer of a socket.
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    };
    let sending = connection.async_io(Interest::WRITABLE, send);
    timeout(ANSWER_MAX, sending).await?
}

/// Receives a line, and the descriptors that come with it.
async fn receive(connection: &UnixStream, patience: Duration) -> io::Result<(String, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = (Vec::new(), Vec::new());
    let receiving = async {
        while !line.ends_with(b"\n") {
            let receive = || receive_part(connection, &mut line, &mut descriptors);
            if connection.async_io(Interest::READABLE, receive).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if line.len() > LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
            }
        }
        Ok(())
    };
    timeout(patience, receiving).await??;
    Ok((String::from_utf8_lossy(&line).into_owned(), descriptors))
}

fn receive_part(
    connection: &UnixStream,
    line: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    #[cfg(any(target_os = "macos", target_os = "ios"))]
    const FLAGS: RecvFlags = RecvFlags::empty();
    #[cfg(not(any(target_os = "macos", target_os = "ios")))]
    const FLAGS: RecvFlags = RecvFlags::CMSG_CLOEXEC;
    let mut bytes = [0; LINE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(connection, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, FLAGS)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    line.extend_from_slice(&bytes[..received.bytes]);
    Ok(received.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Sockets {
        let listen = |_| OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("bind"));
        Sockets { listeners: (0..count).map(listen).collect(), admin: None }
    }

    #[tokio::test]
    async fn a_hub_that_was_taken_over_from_leaves_the_path_to_the_next_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("takeover");
        let offer = Offer::new(&path).expect("an offer");
        assert!(!path.exists() && !is_offered(&path).await, "it is not published yet");
        offer.publish().expect("renamed");
        let old = tokio::spawn(async move { offer.taken(&sockets(2), false).await });
        let next = Predecessor::find(&path).await.expect("an answer").expect("a hub");
        assert_eq!(next.listeners.len(), 2);
        assert!(is_offered(&path).await, "it answers while it waits");
        next.relieve().await.expect("it leaves");
        old.await.expect("no panic");
        assert!(path.exists() && !is_offered(&path).await);
        let offer = Offer::new(&path).expect("an offer");
        offer.publish().expect("replaced");
        drop(offer);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
    }

    #[tokio::test]
    async fn sockets_that_cannot_be_passed_are_an_error() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        for (count, fits) in [(SOCKETS_MAX, true), (SOCKETS_MAX + 1, false)] {
            let Sockets { listeners, .. } = sockets(count);
            let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
            assert_eq!(send(&one, BUSY, &descriptors).await.is_ok(), fits, "{count}");
        }
    }
}
