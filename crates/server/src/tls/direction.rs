//! One direction of a connection: its key, and the records that are sealed and opened with it.

use std::ops::RangeInclusive;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, crypto::cipher};

use super::alert::{
    BAD_RECORD_MAC, Broken, DECODE_ERROR, INTERNAL_ERROR, RECORD_OVERFLOW, UNEXPECTED_MESSAGE,
};

/// The keys of one direction, and the number of its next record.
pub(crate) struct Direction {
    secrets: ConnectionTrafficSecrets,
    /// The same key made ready, which takes half a kilobyte.
    ready: Option<Box<LessSafeKey>>,
    pub(crate) sequence: u64,
}

/// A record before its content: its type, a version, a length.
pub(crate) const HEAD_BYTES: usize = 5;

/// What the head of a record says. Nothing is checked.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    /// The bytes that follow the head.
    pub(crate) content_bytes: usize,
}

/// The content of one record.
pub(crate) const PLAIN_BYTES_MAX: usize = 16 * 1024;

/// What encryption may add to that in TLS 1.2 (RFC 5246, section 6.2.3). TLS 1.3 allows less.
pub(crate) const EXPANSION_MAX: usize = 2_048;

/// The tags of all ciphers.
pub(crate) const TAG_BYTES: usize = 16;

/// The part of a nonce that a record of TLS 1.2 with AES carries (RFC 5288, section 3).
const EXPLICIT_BYTES: usize = 8;

/// Records with one key of AES-GCM. RFC 8446, section 5.5, allows 24 million large ones.
pub(crate) const RECORDS_MAX: u64 = 1 << 23;

/// Types of records.
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;
pub(crate) const KINDS: RangeInclusive<u8> = 20..=DATA;

/// The version that all records name (RFC 8446, section 5.1).
const VERSION: [u8; 2] = [3, 3];

impl Head {
    /// The head that these bytes begin with, if it is whole.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let [kind, _, _, high, low, ..] = *bytes else { return None };
        Some(Self { kind, content_bytes: usize::from(u16::from_be_bytes([high, low])) })
    }

    /// The bytes of the whole record.
    pub(crate) fn record_bytes(self) -> usize {
        HEAD_BYTES + self.content_bytes
    }
}

impl Direction {
    pub(crate) fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        Self { secrets, ready: None, sequence }
    }

    fn iv(&self) -> Result<&cipher::Iv, Broken> {
        match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { iv, .. }
            | ConnectionTrafficSecrets::Aes256Gcm { iv, .. }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { iv, .. } => Ok(iv),
            _ => Err(Broken(INTERNAL_ERROR)),
        }
    }

    fn is_aes(&self) -> bool {
        !matches!(self.secrets, ConnectionTrafficSecrets::Chacha20Poly1305 { .. })
    }

    /// Whether the key may be used no more.
    pub(crate) fn is_used_up(&self) -> bool {
        self.is_aes() && self.sequence >= RECORDS_MAX || self.sequence == u64::MAX
    }

    /// The bytes of a nonce that stand in each record.
    fn explicit_bytes(&self, is_13: bool) -> usize {
        if !is_13 && self.is_aes() { EXPLICIT_BYTES } else { 0 }
    }

    /// Forgets what can be made again: nothing is expected for long.
    pub(crate) fn rest(&mut self) {
        self.ready = None;
    }

    fn key(&mut self) -> Result<&LessSafeKey, Broken> {
        if self.ready.is_none() {
            let (algorithm, key) = match &self.secrets {
                ConnectionTrafficSecrets::Aes128Gcm { key, .. } => (&AES_128_GCM, key),
                ConnectionTrafficSecrets::Aes256Gcm { key, .. } => (&AES_256_GCM, key),
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, .. } => (&CHACHA20_POLY1305, key),
                _ => return Err(Broken(INTERNAL_ERROR)),
            };
            let key = UnboundKey::new(algorithm, key.as_ref()).map_err(|_| Broken(INTERNAL_ERROR))?;
            self.ready = Some(Box::new(LessSafeKey::new(key)));
        }
        self.ready.as_deref().ok_or(Broken(INTERNAL_ERROR))
    }

    /// What is authenticated beside the content.
    fn additional(
        &self,
        is_13: bool,
        kind: u8,
        head: [u8; HEAD_BYTES],
        plain_bytes: usize,
    ) -> ([u8; 13], usize) {
        let mut bytes = [0; 13];
        if is_13 {
            bytes[..HEAD_BYTES].copy_from_slice(&head);
            return (bytes, HEAD_BYTES);
        }
        bytes[..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8] = kind;
        bytes[9..11].copy_from_slice(&VERSION);
        bytes[11..].copy_from_slice(&(plain_bytes as u16).to_be_bytes());
        (bytes, 13)
    }

    /// Appends a record. `plain` is no longer than [`PLAIN_BYTES_MAX`].
    pub(crate) fn seal(
        &mut self,
        is_13: bool,
        kind: u8,
        plain: impl Iterator<Item = impl AsRef<[u8]>>,
        sealed: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        let nonce = cipher::Nonce::new(self.iv()?, self.sequence).0;
        let explicit = self.explicit_bytes(is_13);
        let begin = sealed.len();
        sealed.extend_from_slice(&[0; HEAD_BYTES]);
        sealed.extend_from_slice(&nonce[nonce.len() - explicit..]);
        let content = sealed.len();
        plain.for_each(|part| sealed.extend_from_slice(part.as_ref()));
        let plain_bytes = sealed.len() - content;
        if is_13 {
            sealed.push(kind);
        }
        let length = (sealed.len() + TAG_BYTES - begin - HEAD_BYTES) as u16;
        let [high, low] = length.to_be_bytes();
        let head = [if is_13 { DATA } else { kind }, VERSION[0], VERSION[1], high, low];
        sealed[begin..begin + HEAD_BYTES].copy_from_slice(&head);
        let (additional, additional_bytes) = self.additional(is_13, kind, head, plain_bytes);
        let additional = Aad::from(&additional[..additional_bytes]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key()?.seal_in_place_separate_tag(nonce, additional, &mut sealed[content..]);
        sealed.extend_from_slice(tag.map_err(|_| Broken(INTERNAL_ERROR))?.as_ref());
        self.sequence += 1;
        Ok(())
    }

    /// Decrypts a whole record in its place. Returns its type and its content.
    pub(crate) fn open<'record>(
        &mut self,
        is_13: bool,
        record: &'record mut [u8],
    ) -> Result<(u8, &'record [u8]), Broken> {
        let (head, body) = record.split_at_mut(HEAD_BYTES);
        let head = [head[0], head[1], head[2], head[3], head[4]];
        let explicit = self.explicit_bytes(is_13);
        let plain_bytes = body.len().checked_sub(explicit + TAG_BYTES).ok_or(Broken(if is_13 {
            BAD_RECORD_MAC
        } else {
            DECODE_ERROR
        }))?;
        let mut nonce = cipher::Nonce::new(self.iv()?, self.sequence).0;
        let (given, body) = body.split_at_mut(explicit);
        let implicit = nonce.len() - explicit;
        if explicit > 0 {
            nonce[..implicit].copy_from_slice(&self.iv()?.as_ref()[..implicit]);
            nonce[implicit..].copy_from_slice(given);
        }
        let (additional, additional_bytes) = self.additional(is_13, head[0], head, plain_bytes);
        let additional = Aad::from(&additional[..additional_bytes]);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.key()?.open_in_place(nonce, additional, body);
        let mut plain: &[u8] = opened.map_err(|_| Broken(BAD_RECORD_MAC))?;
        self.sequence += 1;
        let mut kind = head[0];
        if is_13 {
            // With its type and what pads it (RFC 8446, section 5.4).
            if plain.len() > PLAIN_BYTES_MAX + 1 {
                return Err(Broken(RECORD_OVERFLOW));
            }
            // The type is the last byte that is not zero: what follows pads the record.
            let end = plain.iter().rposition(|byte| *byte != 0).ok_or(Broken(UNEXPECTED_MESSAGE))?;
            kind = plain[end];
            plain = &plain[..end];
        }
        if plain.len() > PLAIN_BYTES_MAX {
            return Err(Broken(RECORD_OVERFLOW));
        }
        Ok((kind, plain))
    }
}
