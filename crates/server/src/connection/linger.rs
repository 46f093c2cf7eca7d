//! The end of a connection whose peer may still be sending (RFC 9112, section 9.6).
//!
//! A socket that is closed with unread data resets the connection, and the reset destroys an answer that the peer has
//! not read yet. So the sending side is shut down first, and the bytes of the peer are discarded until it closes.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

/// The most bytes that are discarded: many times the longest body, so that a client that writes all of its body before it
/// reads gets its answer. Discarding them takes a hundredth of a second.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long a peer may go on sending: as long as a head may take to arrive.
const TIME_MAX: Duration = Duration::from_secs(10);

/// How long a peer may be silent. By then it has read its answer, or it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Bytes of one read.
const PART_BYTES: usize = 16 * 1024;

/// Ends a connection after its last answer. Returns when the peer has closed, was silent for too long or has sent too
/// much.
pub(crate) async fn linger(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let discard = async {
        io.shutdown().await?;
        let mut left = BYTES_MAX;
        while left > 0 {
            let read = timeout(SILENCE_MAX, poll_fn(|cx| discard(Pin::new(&mut *io), cx))).await??;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        io::Result::Ok(())
    };
    // On an error, too, the connection is over.
    let _ = timeout(TIME_MAX, discard).await;
}

fn discard(io: Pin<&mut impl AsyncRead>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    // On the stack, and not in the future: there may be many of these.
    let mut buffer = [0; PART_BYTES];
    let mut buffer = ReadBuf::new(&mut buffer);
    io.poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, duplex},
        time::{Instant, sleep},
    };

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_the_peer_closes() {
        let (mut client, mut server) = duplex(1024);
        let lingering = tokio::spawn(async move { linger(&mut server).await });
        client.write_all(&[0; 100_000]).await.expect("it reads");
        let begun = Instant::now();
        assert_eq!(client.read(&mut [0]).await.expect("an end"), 0, "the sending side is shut down");
        drop(client);
        lingering.await.expect("no panic");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_not_waited_for_long() {
        let (_client, mut server) = duplex(1024);
        let begun = Instant::now();
        linger(&mut server).await;
        assert_eq!(begun.elapsed().as_secs(), SILENCE_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_goes_on_writing_slowly_is_cut_off() {
        let (mut client, mut server) = duplex(1024);
        let writing = tokio::spawn(async move {
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        linger(&mut server).await;
        drop(server);
        assert_eq!(begun.elapsed().as_secs(), TIME_MAX.as_secs());
        writing.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_goes_on_writing_fast_is_cut_off() {
        let (mut client, mut server) = duplex(1024 * 1024);
        let writing = tokio::spawn(async move {
            let mut written = 0;
            while client.write_all(&[0; 64 * 1024]).await.is_ok() {
                written += 64 * 1024;
            }
            written
        });
        linger(&mut server).await;
        drop(server);
        let written = writing.await.expect("no panic");
        assert!((BYTES_MAX..BYTES_MAX + 2 * 1024 * 1024).contains(&written), "{written}");
    }
}
