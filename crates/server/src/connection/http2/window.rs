//! Flow control: how much content each side may send, on a stream or on all streams together (RFC 9113, section 5.2).

/// What a window has before anything is said of it (section 6.9.2).
pub(super) const INITIAL_BYTES: i32 = 65_535;

/// What a peer may send of the content of one request before it is read. Ordinary updates fit, and the largest comes at a
/// megabyte a second over 30 ms.
pub(super) const STREAM_BYTES: i32 = 32 * 1024;

/// What has been read is said to the peer when it is so much.
const UPDATE_BYTES_MIN: u32 = STREAM_BYTES as u32 / 2;

/// What the peer takes.
#[derive(Clone, Copy)]
pub(super) struct SendWindow(i32);

impl SendWindow {
    pub(super) const fn new(bytes: i32) -> Self {
        Self(bytes)
    }

    /// What may be sent. Another setting of the peer may put the window below zero.
    pub(super) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    /// Bytes are sent, of those that may be.
    pub(super) fn spend(&mut self, bytes: usize) {
        self.0 -= bytes as i32;
    }

    /// The peer takes more, or less. `None`: more than the protocol can say.
    #[must_use]
    pub(super) fn change(&mut self, bytes: i64) -> Option<()> {
        self.0 = i32::try_from(i64::from(self.0) + bytes).ok()?;
        Some(())
    }
}

/// What the peer may send.
#[derive(Clone, Copy)]
pub(super) struct ReceiveWindow {
    bytes: i32,
    /// What has been read, and the peer has not been told.
    read: u32,
}

impl ReceiveWindow {
    pub(super) const fn new(bytes: i32) -> Self {
        Self { bytes, read: 0 }
    }

    /// For all streams of a connection, of which so many may be open: more than all their windows. With less, requests that
    /// wait for room in memory would keep the content of those that have it from coming.
    pub(super) const fn of_connection(streams_max: usize) -> Self {
        Self::new(streams_max as i32 * INITIAL_BYTES + 2 * UPDATE_BYTES_MIN as i32)
    }

    /// What a peer that knows nothing of this window has to be told.
    pub(super) fn beyond_initial(self) -> u32 {
        (self.bytes - INITIAL_BYTES) as u32
    }

    /// Bytes have come. False: more than may. No bytes may always come, also while the window is below zero.
    #[must_use]
    pub(super) fn spend(&mut self, bytes: usize) -> bool {
        self.bytes -= bytes as i32;
        self.bytes >= 0 || bytes == 0
    }

    /// Bytes have been read. `Some`: so much has been read that the peer is to be told.
    pub(super) fn read(&mut self, bytes: usize) -> Option<u32> {
        self.read += bytes as u32;
        if self.read < UPDATE_BYTES_MIN {
            return None;
        }
        let read = std::mem::take(&mut self.read);
        self.bytes += read as i32;
        Some(read)
    }

    /// The peer knows of another size.
    pub(super) fn change(&mut self, bytes: i32) {
        self.bytes += bytes;
    }
}
