//! A TLS connection as bytes that are read and written.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use petasos_hub::Socket;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::records::Records;

/// A TLS connection after its handshake. It has no buffers while nothing waits. Dropping it tells the peer that nothing follows,
/// if it has taken everything before.
pub(crate) struct TlsStream(Option<Open>);

/// What a stream is until the hub has it.
struct Open {
    socket: TcpStream,
    records: Records,
    /// What the peer has sent and nobody has read.
    data: Bytes,
    /// Sealed bytes that the socket has not taken: those of one record, and alerts.
    unsent: Bytes,
    /// The peer has ended its side.
    has_ended: bool,
    is_closed: bool,
}

/// Beyond this, nothing is read: a record, and answers to records that carry no data.
const UNSENT_BYTES_MAX: usize = 32 * 1024;

/// One read of the socket.
const READ_BYTES: usize = 4 * 1024;

impl TlsStream {
    /// For a socket that has shaken hands. `received`: what has come behind the handshake.
    pub(crate) fn new(socket: TcpStream, records: Records, mut received: Vec<u8>) -> Self {
        let mut open = Open {
            socket,
            records,
            data: Bytes::new(),
            unsent: Bytes::new(),
            has_ended: false,
            is_closed: false,
        };
        if open.take_in(&mut received).is_err() {
            // Whoever reads meets the end, behind the alert.
            open.has_ended = true;
        }
        Self(Some(open))
    }

    /// The same connection for the hub, which writes to it by itself.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn into_socket(mut self) -> io::Result<Socket> {
        let Open { socket, mut records, unsent, has_ended, .. } = self.0.take().ok_or_else(gone)?;
        if has_ended {
            // The hub reads that the peer has left, though its side of the socket may still be open.
            SockRef::from(&socket).shutdown(Shutdown::Read)?;
        }
        records.rest();
        Ok(Socket::sealed(socket.into_std()?, Box::new(records), unsent))
    }

    /// Its socket; `None`: the hub has it.
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        self.0.as_ref().map(|open| &open.socket)
    }

    fn open(&mut self) -> io::Result<&mut Open> {
        self.0.as_mut().ok_or_else(gone)
    }
}

/// Nobody can meet it: the hub takes a stream by its value.
fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Open {
    fn take_in(&mut self, received: &mut [u8]) -> io::Result<()> {
        let (mut data, mut answer) = (Vec::from(std::mem::take(&mut self.data)), Vec::new());
        let result = self.records.receive(received, &mut |part| data.extend_from_slice(part), &mut answer);
        self.data = data.into();
        if !self.is_closed {
            self.add_unsent(answer);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.has_ended = true;
                Ok(())
            }
            result => result,
        }
    }

    fn add_unsent(&mut self, sealed: Vec<u8>) {
        self.unsent = match self.unsent.is_empty() {
            true => sealed.into(),
            false => [&self.unsent[..], &sealed].concat().into(),
        };
    }

    /// Ready when nothing is unsent.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.unsent.advance(written),
            }
        }
        self.unsent = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            let mut last = Vec::new();
            self.records.close(&mut last);
            self.add_unsent(last);
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            // Somebody who only reads sends what is unsent, too. A peer that makes us answer and does not read is not read.
            match self.poll_unsent(cx) {
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.unsent.len() > UNSENT_BYTES_MAX => return Poll::Pending,
                Poll::Pending | Poll::Ready(Ok(())) => {}
            }
            if !self.data.is_empty() {
                let length = self.data.len().min(buffer.remaining());
                buffer.put_slice(&self.data.split_to(length));
                if self.data.is_empty() {
                    // An empty slice would keep the buffer.
                    self.data = Bytes::new();
                }
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                return Poll::Ready(Ok(()));
            }
            let mut received = [0; READ_BYTES];
            let mut received = ReadBuf::new(&mut received);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut received))?;
            match received.filled_mut() {
                [] => self.has_ended = true,
                received => {
                    if let Err(error) = self.take_in(received) {
                        // The alert, as far as the socket takes it at once.
                        let _ = self.poll_unsent(cx);
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        let mut sealed = Vec::new();
        let taken = self.records.write(parts, &mut sealed)?;
        self.unsent = sealed.into();
        if let Poll::Ready(Err(error)) = self.poll_unsent(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        if let Some(open) = &mut self.0
            && open.unsent.is_empty()
        {
            open.close();
            // It waits for nobody.
            let _ = open.socket.try_write(&open.unsent);
        }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.open()?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(cx, &[IoSlice::new(bytes)])
    }

    /// Takes as much as one record holds.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.open()?.poll_unsent(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let open = self.open()?;
        open.close();
        ready!(open.poll_unsent(cx))?;
        Pin::new(&mut open.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpSocket},
    };

    use super::*;
    use crate::tls::records::tests::{shake, suite};

    #[tokio::test]
    async fn a_client_that_asks_for_keys_and_reads_nothing_is_not_read_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 * 1024).expect("an option");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(socket.connect(address), listener.accept());
        let (mut client, (accepted, _)) = (client.expect("connect"), accepted.expect("accept"));
        SockRef::from(&accepted).set_send_buffer_size(4 * 1024).expect("an option");
        let (_, records) = shake(suite(true));
        let mut stream = TlsStream::new(accepted, records, Vec::new());
        let open = stream.0.as_mut().expect("the hub has not got it");
        // What waits is never read by the client.
        open.unsent = vec![0; UNSENT_BYTES_MAX].into();
        while poll_fn(|cx| Poll::Ready(open.poll_unsent(cx).is_ready())).await {
            open.unsent = vec![0; UNSENT_BYTES_MAX].into();
        }
        open.unsent = vec![0; UNSENT_BYTES_MAX + 1].into();
        client.write_all(&[0; 100]).await.expect("write");
        let mut buffer = [0; 10];
        let mut buffer = ReadBuf::new(&mut buffer);
        open.socket.readable().await.expect("something has come");
        let read = poll_fn(|cx| Poll::Ready(open.poll_read(cx, &mut buffer).is_pending())).await;
        assert!(read && buffer.filled().is_empty(), "an error would say that it was read");
    }
}
