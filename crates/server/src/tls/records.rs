//! The records of a TLS connection after its handshake (RFC 8446, section 5; RFC 5246, section 6).
//!
//! rustls shakes hands and then gives its keys away, so that a connection keeps its keys and no buffers. The ciphers are those
//! of aws-lc-rs. What else belongs to records is here: their order, new keys, alerts, and the end.

use std::io::{self, IoSlice};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use petasos_hub::Seal;
use rustls::{
    ConnectionTrafficSecrets, ExtractedSecrets, ProtocolVersion, crypto::cipher, kernel::KernelConnection,
    server::ServerConnectionData,
};

/// The records of one connection, in both directions.
pub(crate) struct Records {
    write: Direction,
    read: Direction,
    /// The bytes of a record that has not come whole.
    partial: Vec<u8>,
    /// Records in a row that carried no data.
    idle: u8,
    has_ended: bool,
    is_13: bool,
    /// Makes the next keys.
    kernel: Box<KernelConnection<ServerConnectionData>>,
}

/// The keys of one direction, and the number of its next record.
struct Direction {
    secrets: ConnectionTrafficSecrets,
    /// The same key made ready, which takes half a kilobyte.
    ready: Option<Box<LessSafeKey>>,
    sequence: u64,
}

/// Why a connection ends: the alert that tells the peer.
#[derive(Debug)]
struct Broken(u8);

/// A record before its content: its type, a version, a length.
const HEAD_BYTES: usize = 5;

/// The content of one record.
pub(crate) const PLAIN_BYTES_MAX: usize = 16 * 1024;

/// What encryption may add to that: in TLS 1.3 one byte and a tag, in TLS 1.2 by RFC 5246, section 6.2.3.
const EXPANSION_13: usize = 256;
const EXPANSION_12: usize = 2_048;

/// The tags of all ciphers.
const TAG_BYTES: usize = 16;

/// The part of a nonce that a record of TLS 1.2 with AES carries (RFC 5288, section 3).
const EXPLICIT_BYTES: usize = 8;

/// Records in a row that may carry no data: new keys, warnings, empty ones.
const IDLE_MAX: u8 = 32;

/// Records with one key of AES-GCM. RFC 8446, section 5.5, allows 24 million large ones.
const RECORDS_MAX: u64 = 1 << 23;

/// Types of records.
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// Levels and descriptions of alerts (RFC 8446, section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const INTERNAL_ERROR: u8 = 80;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

/// The version that all records name (RFC 8446, section 5.1).
const VERSION: [u8; 2] = [3, 3];

/// The message that announces new keys, up to whether it asks the peer for the same (RFC 8446, section 4.6.3).
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
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
    fn is_used_up(&self) -> bool {
        self.is_aes() && self.sequence >= RECORDS_MAX || self.sequence == u64::MAX
    }

    /// The bytes of a nonce that stand in each record.
    fn explicit_bytes(&self, is_13: bool) -> usize {
        if !is_13 && self.is_aes() { EXPLICIT_BYTES } else { 0 }
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
    fn seal(
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
    fn open<'record>(
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

impl Records {
    /// For a connection that has shaken hands.
    pub(crate) fn new(secrets: ExtractedSecrets, kernel: KernelConnection<ServerConnectionData>) -> Self {
        let ExtractedSecrets { tx, rx } = secrets;
        Self {
            write: Direction::new(tx),
            read: Direction::new(rx),
            partial: Vec::new(),
            idle: 0,
            has_ended: false,
            is_13: kernel.protocol_version() == ProtocolVersion::TLSv1_3,
            kernel: Box::new(kernel),
        }
    }

    /// The version of the protocol.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.kernel.protocol_version()
    }

    /// Takes in bytes of the peer, gives the data of whole records to `data`, and appends what has to be answered.
    ///
    /// # Errors
    /// `UnexpectedEof`: the peer has ended its side. Any other: it has broken a rule, and `sealed` tells it.
    pub(crate) fn receive(
        &mut self,
        received: &mut [u8],
        data: &mut impl FnMut(&[u8]),
        sealed: &mut Vec<u8>,
    ) -> io::Result<()> {
        if self.partial.is_empty() {
            let done = self.receive_whole(received, data, sealed)?;
            if done < received.len() {
                self.partial = received[done..].to_vec();
            }
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(received);
        let done = self.receive_whole(&mut partial, data, sealed)?;
        if done < partial.len() {
            partial.drain(..done);
            self.partial = partial;
        }
        Ok(())
    }

    /// Returns how many bytes whole records had.
    fn receive_whole(
        &mut self,
        received: &mut [u8],
        data: &mut impl FnMut(&[u8]),
        sealed: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let mut done = 0;
        while !self.has_ended {
            match self.receive_one(&mut received[done..], data, sealed) {
                Ok(Some(length)) => done += length,
                Ok(None) => return Ok(done),
                Err(Broken(description)) => {
                    self.has_ended = true;
                    // Without a key there is nothing to tell it with.
                    let _ = self.alert(FATAL, description, sealed);
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the peer has broken a rule of TLS",
                    ));
                }
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Handles the first record, if it is whole. Returns its length.
    fn receive_one(
        &mut self,
        received: &mut [u8],
        data: &mut impl FnMut(&[u8]),
        sealed: &mut Vec<u8>,
    ) -> Result<Option<usize>, Broken> {
        let [kind, _, _, high, low, ..] = *received else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let expansion = if self.is_13 { EXPANSION_13 } else { EXPANSION_12 };
        if length > PLAIN_BYTES_MAX + expansion {
            return Err(Broken(RECORD_OVERFLOW));
        }
        // What is not encrypted comes from somebody else, or too late.
        if self.is_13 && kind != DATA {
            return Err(Broken(UNEXPECTED_MESSAGE));
        }
        let Some(record) = received.get_mut(..HEAD_BYTES + length) else { return Ok(None) };
        if self.read.is_used_up() && !self.is_13 {
            return Err(Broken(INTERNAL_ERROR));
        }
        let (kind, plain) = self.read.open(self.is_13, record)?;
        self.idle += 1;
        match (kind, plain) {
            (DATA, []) => {}
            (DATA, plain) => {
                self.idle = 0;
                data(plain);
            }
            (ALERT, [_, CLOSE_NOTIFY]) => self.has_ended = true,
            (ALERT, [_, USER_CANCELED]) => {}
            (ALERT, [WARNING, _]) if !self.is_13 => {}
            // Any other alert is the end (RFC 8446, section 6).
            (ALERT, [_, _]) => self.has_ended = true,
            (HANDSHAKE, [24, 0, 0, 1, asks]) if self.is_13 => {
                let asks = *asks;
                self.renew_keys(asks, sealed)?;
            }
            // A peer of TLS 1.2 wants to shake hands again.
            (HANDSHAKE, _) if !self.is_13 => self.alert(WARNING, NO_RENEGOTIATION, sealed)?,
            _ => return Err(Broken(UNEXPECTED_MESSAGE)),
        }
        match self.idle <= IDLE_MAX {
            true => Ok(Some(HEAD_BYTES + length)),
            false => Err(Broken(UNEXPECTED_MESSAGE)),
        }
    }

    /// The peer has new keys from here on, and perhaps asks for the same.
    fn renew_keys(&mut self, asks: u8, sealed: &mut Vec<u8>) -> Result<(), Broken> {
        if asks > 1 {
            return Err(Broken(ILLEGAL_PARAMETER));
        }
        let next = self.kernel.update_rx_secret().map_err(|_| Broken(INTERNAL_ERROR))?;
        self.read = Direction::new(next);
        if asks == 1 {
            self.renew_own(sealed)?;
        }
        Ok(())
    }

    /// Announces new keys, and uses them from here on.
    fn renew_own(&mut self, sealed: &mut Vec<u8>) -> Result<(), Broken> {
        let message = KEY_UPDATE.into_iter().chain([0]).map(|byte| [byte]);
        self.write.seal(self.is_13, HANDSHAKE, message, sealed)?;
        let next = self.kernel.update_tx_secret().map_err(|_| Broken(INTERNAL_ERROR))?;
        self.write = Direction::new(next);
        Ok(())
    }

    fn alert(&mut self, level: u8, description: u8, sealed: &mut Vec<u8>) -> Result<(), Broken> {
        self.write.seal(self.is_13, ALERT, [[level, description]].into_iter(), sealed)
    }

    /// Seals as much of `plain` as one record holds, and returns how many bytes these are.
    ///
    /// # Errors
    /// The keys are used up, and the version of the protocol has no others.
    pub(crate) fn write(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize> {
        let used_up = |_| io::Error::other("the keys of the connection are used up");
        if self.write.is_used_up() {
            if !self.is_13 {
                return Err(used_up(Broken(INTERNAL_ERROR)));
            }
            self.renew_own(sealed).map_err(used_up)?;
        }
        let mut room = PLAIN_BYTES_MAX;
        let parts = plain.iter().map(|part| {
            let part = &part[..part.len().min(room)];
            room -= part.len();
            part
        });
        self.write.seal(self.is_13, DATA, parts, sealed).map_err(used_up)?;
        Ok(PLAIN_BYTES_MAX - room)
    }

    /// Appends the alert that nothing follows.
    pub(crate) fn close(&mut self, sealed: &mut Vec<u8>) {
        // Without a key there is nothing to say it with.
        let _ = self.alert(WARNING, CLOSE_NOTIFY, sealed);
    }
}

impl Seal for Records {
    fn seal(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize> {
        self.write(plain, sealed)
    }

    fn open(&mut self, received: &mut [u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        let opened = self.receive(received, &mut |_: &[u8]| {}, sealed);
        // A subscriber sends nothing for hours.
        self.read.ready = None;
        opened
    }

    fn end(&mut self, sealed: &mut Vec<u8>) {
        self.close(sealed);
    }
}
