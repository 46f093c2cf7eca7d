//! Field blocks: compressed heads, each in one frame or in several (RFC 9113, section 4.3).

use super::{
    frame::{self, ErrorCode, Header, flag, kind},
    hpack::decoder::Decoder,
    request::{Fields, HEAD_BYTES_MAX},
};

/// Reads the field blocks of a peer.
pub(super) struct FieldBlocks {
    decoder: Decoder,
    /// One of which further frames must come.
    open: Option<Box<Open>>,
}

struct Open {
    stream: u32,
    ends_stream: bool,
    fragments: Vec<u8>,
    frames: usize,
}

/// A field block that is whole.
pub(super) struct FieldBlock {
    pub(super) stream: u32,
    /// Nothing follows it on its stream.
    pub(super) ends_stream: bool,
    pub(super) fields: Fields,
}

/// Bytes and frames of a block as it comes. One that is longer than a head may be is read to its end, for its answer.
const FRAGMENTS_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
const FRAGMENTS_MAX: usize = 128;

/// What a block may stand for. One that is longer than a head may be is not kept, but takes time.
const EXPANDED_BYTES_MAX: usize = 4 * HEAD_BYTES_MAX;

impl FieldBlocks {
    pub(super) fn new() -> Self {
        Self { decoder: Decoder::new(), open: None }
    }

    /// Whether further frames of a block must come.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether a frame may come now: no other stands between those of a block.
    pub(super) fn allow(&self, header: Header) -> bool {
        let open = self.open.as_ref();
        open.is_none_or(|open| (header.kind, header.stream) == (kind::CONTINUATION, open.stream))
    }

    /// Takes a HEADERS frame. `None`: more of the block must come.
    ///
    /// # Errors
    /// If it breaks the rules; as in the others.
    pub(super) fn headers(
        &mut self,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<FieldBlock>, ErrorCode> {
        let mut fragment = frame::without_padding(header, payload)?;
        if header.has(flag::PRIORITY) {
            let (priority, rest) =
                fragment.split_at_checked(PRIORITY_BYTES).ok_or(ErrorCode::FrameSizeError)?;
            check_priority(header.stream, priority)?;
            fragment = rest;
        }
        let ends_stream = header.has(flag::END_STREAM);
        if header.has(flag::END_HEADERS) {
            return self.read(header.stream, ends_stream, fragment).map(Some);
        }
        let open = Open { stream: header.stream, ends_stream, fragments: fragment.to_vec(), frames: 1 };
        self.open = Some(Box::new(open));
        Ok(None)
    }

    /// Takes a CONTINUATION frame.
    pub(super) fn continuation(
        &mut self,
        header: Header,
        payload: &[u8],
    ) -> Result<Option<FieldBlock>, ErrorCode> {
        let mut open = self.open.take().ok_or(ErrorCode::ProtocolError)?;
        open.fragments.extend_from_slice(payload);
        open.frames += 1;
        if open.fragments.len() > FRAGMENTS_BYTES_MAX || open.frames > FRAGMENTS_MAX {
            return Err(ErrorCode::EnhanceYourCalm);
        }
        if header.has(flag::END_HEADERS) {
            return self.read(open.stream, open.ends_stream, &open.fragments).map(Some);
        }
        self.open = Some(open);
        Ok(None)
    }

    /// Every block is read, whatever becomes of its stream: later ones may refer to it.
    fn read(&mut self, stream: u32, ends_stream: bool, block: &[u8]) -> Result<FieldBlock, ErrorCode> {
        let mut fields = Fields::default();
        let read = self.decoder.decode(block, |name, value| fields.add(name, value));
        read.map_err(|_| ErrorCode::CompressionError)?;
        if fields.bytes() > EXPANDED_BYTES_MAX {
            return Err(ErrorCode::EnhanceYourCalm);
        }
        Ok(FieldBlock { stream, ends_stream, fields })
    }
}

/// The stream that another one comes after, and its weight.
const PRIORITY_BYTES: usize = 5;

/// Nobody looks at priorities any more. A stream that comes after itself is an error (RFC 7540, section 5.3.1), with which the
/// connection may end (RFC 9113, section 5.4.2).
pub(super) fn check_priority(stream: u32, priority: &[u8]) -> Result<(), ErrorCode> {
    let [a, b, c, d, _] = *priority else { return Err(ErrorCode::FrameSizeError) };
    let after = u32::from_be_bytes([a, b, c, d]) & (u32::MAX >> 1);
    if after == stream { Err(ErrorCode::ProtocolError) } else { Ok(()) }
}
