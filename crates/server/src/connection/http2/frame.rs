//! Frames (RFC 9113, section 4.1), and the codes with which streams and connections end (section 7).

/// What stands before the payload of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the payload.
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// 0: the connection.
    pub(super) stream: u32,
}

pub(super) const HEADER_BYTES: usize = 9;

/// The largest payload, as the protocol has it before anything is said (section 6.5.2). The hub says nothing, and sends no larger
/// one.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// The kinds of frames.
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The flags of frames, each for some kinds.
pub(super) mod flag {
    /// Of SETTINGS and PING.
    pub(crate) const ACK: u8 = 0x1;
    /// Of DATA and HEADERS.
    pub(crate) const END_STREAM: u8 = 0x1;
    /// Of HEADERS and CONTINUATION.
    pub(crate) const END_HEADERS: u8 = 0x4;
    /// Of DATA and HEADERS.
    pub(crate) const PADDED: u8 = 0x8;
    /// Of HEADERS.
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// The settings of a connection.
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Why a stream or a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ErrorCode {
    NoError = 0,
    ProtocolError = 1,
    InternalError = 2,
    FlowControlError = 3,
    StreamClosed = 5,
    FrameSizeError = 6,
    RefusedStream = 7,
    Cancel = 8,
    CompressionError = 9,
    EnhanceYourCalm = 11,
}

impl Header {
    pub(super) fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let [high, middle, low, kind, flags, stream @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, high, middle, low]) as usize,
            kind,
            flags,
            // One bit is reserved.
            stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let [_, high, middle, low] = (self.length as u32).to_be_bytes();
        let [a, b, c, d] = self.stream.to_be_bytes();
        [high, middle, low, self.kind, self.flags, a, b, c, d]
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(super) fn append(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&Header { length: payload.len(), kind, flags, stream }.to_bytes());
    bytes.extend_from_slice(payload);
}

/// Appends the settings of the hub.
pub(super) fn append_settings(bytes: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::new();
    for (setting, value) in settings {
        payload.extend_from_slice(&setting.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    append(bytes, kind::SETTINGS, 0, 0, &payload);
}

/// Appends a field block, in as many frames as it takes.
pub(super) fn append_field_block(bytes: &mut Vec<u8>, stream: u32, block: &[u8], ends_stream: bool) {
    let mut flags = if ends_stream { flag::END_STREAM } else { 0 };
    let (mut kind, mut rest) = (kind::HEADERS, block);
    loop {
        let (part, further) = rest.split_at(rest.len().min(PAYLOAD_BYTES_MAX));
        if further.is_empty() {
            flags |= flag::END_HEADERS;
        }
        append(bytes, kind, flags, stream, part);
        if further.is_empty() {
            return;
        }
        (kind, flags, rest) = (kind::CONTINUATION, 0, further);
    }
}

/// What a frame holds without the bytes that hide its length (section 6.1).
pub(super) fn without_padding(header: Header, payload: &[u8]) -> Result<&[u8], ErrorCode> {
    if !header.has(flag::PADDED) {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(ErrorCode::FrameSizeError)?;
    let length = rest.len().checked_sub(usize::from(*padding)).ok_or(ErrorCode::ProtocolError)?;
    Ok(&rest[..length])
}

/// The number that is a frame's whole payload.
pub(super) fn number(payload: &[u8]) -> Result<u32, ErrorCode> {
    let bytes = payload.try_into().map_err(|_| ErrorCode::FrameSizeError)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Appends that a stream ends before its end.
pub(super) fn append_reset(bytes: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    append(bytes, kind::RST_STREAM, 0, stream, &(code as u32).to_be_bytes());
}

/// Appends that the peer may send more; on stream 0, on all together.
pub(super) fn append_window_update(bytes: &mut Vec<u8>, stream: u32, more: u32) {
    append(bytes, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
}

/// Appends that streams after the last one are not answered.
pub(super) fn append_goaway(bytes: &mut Vec<u8>, last: u32, code: ErrorCode) {
    let payload = [last.to_be_bytes(), (code as u32).to_be_bytes()].concat();
    append(bytes, kind::GOAWAY, 0, 0, &payload);
}
