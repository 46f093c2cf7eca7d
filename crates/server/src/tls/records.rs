//! The records of a TLS connection after its handshake (RFC 8446, section 5; RFC 5246, section 6).
//!
//! rustls shakes hands and then gives its keys away, so that a connection keeps its keys and no buffers. The ciphers are those
//! of aws-lc-rs. What else belongs to records is here: their order, new keys, alerts, and the end.

use std::io::{self, IoSlice};

use petasos_hub::Seal;
use rustls::{ExtractedSecrets, ProtocolVersion, kernel::KernelConnection, server::ServerConnectionData};

use super::{
    alert::{
        Broken, CLOSE_NOTIFY, FATAL, ILLEGAL_PARAMETER, INTERNAL_ERROR, NO_RENEGOTIATION, RECORD_OVERFLOW,
        UNEXPECTED_MESSAGE, USER_CANCELED, WARNING,
    },
    direction::{ALERT, DATA, Direction, EXPANSION_MAX, HANDSHAKE, Head, PLAIN_BYTES_MAX},
};

/// The records of one connection, in both directions.
pub(crate) struct Records {
    write: Direction,
    read: Direction,
    /// The bytes of a record that has not come whole.
    partial: Vec<u8>,
    /// Records in a row that carried no data, since something was written.
    idle: u8,
    /// The peer has ended its side, or has broken a rule.
    has_ended: bool,
    /// An alert has ended the connection: nothing may follow it (RFC 8446, section 6.2).
    is_broken: bool,
    is_13: bool,
    /// Makes the next keys.
    kernel: Box<KernelConnection<ServerConnectionData>>,
}

/// What encryption may add to the content of a record in TLS 1.3 (RFC 8446, section 5.2).
const EXPANSION_13: usize = 256;

/// Records in a row that may carry no data: new keys, warnings, empty ones. What the hub writes begins a new row.
const IDLE_MAX: u8 = 32;

/// The message that announces new keys, up to whether it asks the peer for the same (RFC 8446, section 4.6.3).
const KEY_UPDATE: [u8; 4] = [24, 0, 0, 1];

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
            is_broken: false,
            is_13: kernel.protocol_version() == ProtocolVersion::TLSv1_3,
            kernel: Box::new(kernel),
        }
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
                    // Without a key there is nothing to tell it with.
                    let _ = self.alert(FATAL, description, sealed);
                    (self.has_ended, self.is_broken) = (true, true);
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
        let Some(head) = Head::parse(received) else { return Ok(None) };
        let expansion = if self.is_13 { EXPANSION_13 } else { EXPANSION_MAX };
        if head.content_bytes > PLAIN_BYTES_MAX + expansion {
            return Err(Broken(RECORD_OVERFLOW));
        }
        // What is not encrypted comes from somebody else, or too late.
        if self.is_13 && head.kind != DATA {
            return Err(Broken(UNEXPECTED_MESSAGE));
        }
        let Some(record) = received.get_mut(..head.record_bytes()) else { return Ok(None) };
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
            true => Ok(Some(head.record_bytes())),
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

    /// Keeps nothing for reading that can be made again: a subscriber sends nothing for hours.
    pub(crate) fn rest(&mut self) {
        self.read.rest();
    }

    fn alert(&mut self, level: u8, description: u8, sealed: &mut Vec<u8>) -> Result<(), Broken> {
        self.write.seal(self.is_13, ALERT, [[level, description]].into_iter(), sealed)
    }

    /// Seals as much of `plain` as one record holds, and returns how many bytes these are.
    ///
    /// # Errors
    /// An alert has ended the connection; or the keys are used up, and the version of the protocol has no others.
    pub(crate) fn write(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
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
        // A subscriber has no data to send between its key updates.
        self.idle = 0;
        Ok(PLAIN_BYTES_MAX - room)
    }

    /// Appends the alert that nothing follows, unless another one has said so.
    pub(crate) fn close(&mut self, sealed: &mut Vec<u8>) {
        if !self.is_broken {
            // Without a key there is nothing to say it with.
            let _ = self.alert(WARNING, CLOSE_NOTIFY, sealed);
        }
    }
}

impl Seal for Records {
    fn seal(&mut self, plain: &[IoSlice<'_>], sealed: &mut Vec<u8>) -> io::Result<usize> {
        self.write(plain, sealed)
    }

    fn open(&mut self, received: &mut [u8], sealed: &mut Vec<u8>) -> io::Result<()> {
        let opened = self.receive(received, &mut |_: &[u8]| {}, sealed);
        self.rest();
        opened
    }

    fn end(&mut self, sealed: &mut Vec<u8>) {
        self.close(sealed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedCipherSuite,
        crypto::{CryptoProvider, aws_lc_rs},
        pki_types::PrivateKeyDer,
        server::UnbufferedServerConnection,
        unbuffered::{ConnectionState, UnbufferedStatus},
    };

    use super::*;
    use crate::tls::{
        alert::{BAD_RECORD_MAC, DECODE_ERROR},
        direction::{HEAD_BYTES, RECORDS_MAX, TAG_BYTES},
    };

    /// A client whose records are made here, so that it can break every rule.
    pub(crate) struct Client {
        write: Direction,
        read: Direction,
        is_13: bool,
    }

    impl Client {
        pub(crate) fn record(&mut self, kind: u8, plain: &[u8]) -> Vec<u8> {
            let mut record = Vec::new();
            self.write.seal(self.is_13, kind, [plain].into_iter(), &mut record).expect("a record");
            record
        }

        /// The types and contents of records.
        fn open(&mut self, mut sealed: &mut [u8]) -> Vec<(u8, Vec<u8>)> {
            let mut all = Vec::new();
            while !sealed.is_empty() {
                let head = Head::parse(sealed).expect("a whole head");
                let (record, rest) = sealed.split_at_mut(head.record_bytes());
                let (kind, plain) = self.read.open(self.is_13, record).expect("whole");
                all.push((kind, plain.to_vec()));
                sealed = rest;
            }
            all
        }
    }

    /// Hands are shaken by rustls on both sides.
    pub(crate) fn shake(suite: SupportedCipherSuite) -> (Client, Records) {
        let algorithm = match format!("{:?}", suite.suite()).contains("_RSA_") {
            true => &rcgen::PKCS_RSA_SHA256,
            false => &rcgen::PKCS_ECDSA_P256_SHA256,
        };
        let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a certificate");
        let provider =
            Arc::new(CryptoProvider { cipher_suites: vec![suite], ..aws_lc_rs::default_provider() });
        let versions = [suite.version()];
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let client = client.with_protocol_versions(&versions).expect("a version");
        let mut client = client.with_root_certificates(roots).with_no_client_auth();
        client.enable_secret_extraction = true;
        let server = ServerConfig::builder_with_provider(provider);
        let server = server.with_protocol_versions(&versions).expect("a version").with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut server = server.with_single_cert(vec![certificate], key).expect("a certificate");
        server.enable_secret_extraction = true;
        let name = "localhost".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::new(client), name).expect("a client");
        let mut server = UnbufferedServerConnection::new(Arc::new(server)).expect("a server");
        let mut incoming = Vec::new();
        loop {
            client.write_tls(&mut incoming).expect("in memory");
            let UnbufferedStatus { discard, state } = server.process_tls_records(&mut incoming);
            let mut sent = vec![0; 8 * 1024];
            match state.expect("no error") {
                ConnectionState::EncodeTlsData(mut message) => {
                    let length = message.encode(&mut sent).expect("room");
                    client.read_tls(&mut &sent[..length]).expect("in memory");
                    client.process_new_packets().expect("no error");
                }
                ConnectionState::TransmitTlsData(sending) => sending.done(),
                ConnectionState::BlockedHandshake => {}
                ConnectionState::WriteTraffic(_) => break,
                other => panic!("{other:?}"),
            }
            incoming.drain(..discard);
        }
        let (secrets, kernel) = server.dangerous_into_kernel_connection().expect("it is done");
        let ExtractedSecrets { tx, rx } = client.dangerous_extract_secrets().expect("it is done");
        let records = Records::new(secrets, kernel);
        (Client { write: Direction::new(tx), read: Direction::new(rx), is_13: records.is_13 }, records)
    }

    pub(crate) fn suite(is_13: bool) -> SupportedCipherSuite {
        if is_13 {
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
        } else {
            aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        }
    }

    /// What was received, how it ended, and what was answered.
    fn receive(records: &mut Records, bytes: &[u8]) -> (Vec<u8>, Result<(), io::ErrorKind>, Vec<u8>) {
        let (mut data, mut answer) = (Vec::new(), Vec::new());
        let mut bytes = bytes.to_vec();
        let result =
            records.receive(&mut bytes, &mut |part: &[u8]| data.extend_from_slice(part), &mut answer);
        (data, result.map_err(|error| error.kind()), answer)
    }

    #[test]
    fn with_every_cipher_both_sides_read_what_the_other_has_written() {
        for suite in aws_lc_rs::ALL_CIPHER_SUITES {
            let (mut client, mut records) = shake(*suite);
            for length in [0, 1, 1_000, PLAIN_BYTES_MAX] {
                let plain = vec![b'x'; length];
                let (data, result, answer) = receive(&mut records, &client.record(DATA, &plain));
                assert_eq!((data.len(), result, answer.len()), (length, Ok(()), 0), "{suite:?}");
                let mut sealed = Vec::new();
                let parts = [IoSlice::new(&plain), IoSlice::new(b"yz")];
                let taken = records.write(&parts, &mut sealed).expect("keys");
                assert_eq!(taken, (length + 2).min(PLAIN_BYTES_MAX));
                let received = client.open(&mut sealed);
                assert_eq!(received, [(DATA, [&plain[..], b"yz"].concat()[..taken].to_vec())]);
            }
        }
    }

    #[test]
    fn records_may_come_in_any_pieces() {
        for is_13 in [false, true] {
            let (mut client, mut records) = shake(suite(is_13));
            let sent: Vec<u8> =
                ["a", "bc", "def"].iter().flat_map(|text| client.record(DATA, text.as_bytes())).collect();
            let mut data = Vec::new();
            for byte in sent {
                let (part, result, _) = receive(&mut records, &[byte]);
                assert_eq!(result, Ok(()));
                data.extend(part);
            }
            assert_eq!((data, records.partial.capacity()), (b"abcdef".to_vec(), 0));
        }
    }

    #[test]
    fn both_sides_may_change_their_keys() {
        let (mut client, mut records) = shake(suite(true));
        for asks in [0, 1] {
            let message = client.record(HANDSHAKE, &[24, 0, 0, 1, asks]);
            let (_, result, mut answer) = receive(&mut records, &message);
            assert_eq!(result, Ok(()));
            let expected: &[_] = if asks == 1 { &[(HANDSHAKE, vec![24, 0, 0, 1, 0])] } else { &[] };
            assert_eq!(client.open(&mut answer), expected);
            // What is sealed with the former key is refused.
            assert_eq!((records.read.sequence, records.write.sequence), (0, u64::from(asks == 0)));
            break_with(&mut records, &client.record(DATA, b"x"), BAD_RECORD_MAC, asks == 0, &mut client);
            (client, records) = shake(suite(true));
        }
        // A key that has been used for long is changed without being asked.
        records.write.sequence = RECORDS_MAX;
        client.read.sequence = RECORDS_MAX;
        let mut sealed = Vec::new();
        records.write(&[IoSlice::new(b"x")], &mut sealed).expect("another key");
        assert_eq!(records.write.sequence, 1);
        let announced = HEAD_BYTES + 5 + 1 + TAG_BYTES;
        assert_eq!(client.open(&mut sealed[..announced]), [(HANDSHAKE, vec![24, 0, 0, 1, 0])]);
        // TLS 1.2 has no other keys.
        let (_, mut records) = shake(suite(false));
        records.write.sequence = RECORDS_MAX;
        assert!(records.write(&[IoSlice::new(b"x")], &mut sealed).is_err());
    }

    /// What comes is the end of the connection, and the client is told why, if it can read that.
    fn break_with(records: &mut Records, bytes: &[u8], description: u8, can_read: bool, client: &mut Client) {
        let (data, result, mut answer) = receive(records, bytes);
        assert_eq!((data.len(), result), (0, Err(io::ErrorKind::InvalidData)));
        if can_read {
            assert_eq!(client.open(&mut answer), [(ALERT, vec![FATAL, description])]);
        }
        let (_, result, mut answer) = receive(records, bytes);
        records.close(&mut answer);
        assert!(records.write(&[IoSlice::new(b"x")], &mut answer).is_err());
        assert_eq!((result, answer.len()), (Err(io::ErrorKind::UnexpectedEof), 0), "it says nothing more");
    }

    #[test]
    fn whoever_breaks_a_rule_is_told_which() {
        for is_13 in [false, true] {
            let (mut client, _) = shake(suite(is_13));
            let mut changed = client.record(DATA, b"x");
            *changed.last_mut().expect("a tag") ^= 1;
            let long = [23, 3, 3, 0xff, 0xff, 0];
            let short = [23, 3, 3, 0, 3, 1, 2, 3];
            let plain = [21, 3, 3, 0, 2, 1, 0];
            for (bytes, description) in [
                (&changed[..], BAD_RECORD_MAC),
                (&long, RECORD_OVERFLOW),
                (&short, if is_13 { BAD_RECORD_MAC } else { DECODE_ERROR }),
                (&plain, if is_13 { UNEXPECTED_MESSAGE } else { DECODE_ERROR }),
            ] {
                let (mut client, mut records) = shake(suite(is_13));
                break_with(&mut records, bytes, description, true, &mut client);
            }
            for (kind, plain, description) in [
                (20, &b"\x01"[..], UNEXPECTED_MESSAGE),
                (ALERT, b"", UNEXPECTED_MESSAGE),
                (DATA, &[b'x'; PLAIN_BYTES_MAX + 1], RECORD_OVERFLOW),
            ] {
                let (mut client, mut records) = shake(suite(is_13));
                let record = client.record(kind, plain);
                break_with(&mut records, &record, description, true, &mut client);
            }
        }
        // What pads a record is a part of it.
        for (bytes, result) in
            [(PLAIN_BYTES_MAX, Ok(())), (PLAIN_BYTES_MAX + 1, Err(io::ErrorKind::InvalidData))]
        {
            let (mut client, mut records) = shake(suite(true));
            let mut padded = vec![0; bytes];
            padded[..2].copy_from_slice(&[b'x', DATA]);
            assert_eq!(receive(&mut records, &client.record(0, &padded)).1, result, "{bytes}");
        }
        for (message, description) in [
            (&[24, 0, 0, 1, 2][..], ILLEGAL_PARAMETER),
            (&[24, 0, 0, 1], UNEXPECTED_MESSAGE),
            (&[1, 0, 0, 1, 0], UNEXPECTED_MESSAGE),
        ] {
            let (mut client, mut records) = shake(suite(true));
            let record = client.record(HANDSHAKE, message);
            break_with(&mut records, &record, description, true, &mut client);
        }
    }

    #[test]
    fn records_without_data_are_bounded_in_a_row() {
        for is_13 in [false, true] {
            let kinds: &[(u8, &[u8])] = match is_13 {
                true => &[(DATA, b""), (ALERT, &[WARNING, USER_CANCELED])],
                false => &[
                    (DATA, b""),
                    (ALERT, &[WARNING, USER_CANCELED]),
                    (ALERT, &[WARNING, 41]),
                    (HANDSHAKE, &[1]),
                ],
            };
            for (kind, plain) in kinds {
                let (mut client, mut records) = shake(suite(is_13));
                for _ in 0..3 {
                    for _ in 0..IDLE_MAX {
                        assert_eq!(receive(&mut records, &client.record(*kind, plain)).1, Ok(()));
                    }
                    assert_eq!(receive(&mut records, &client.record(DATA, b"x")).0, b"x");
                }
                let one_more: Vec<_> = (0..=IDLE_MAX).flat_map(|_| client.record(*kind, plain)).collect();
                assert_eq!(receive(&mut records, &one_more).1, Err(io::ErrorKind::InvalidData));
            }
        }
    }

    #[test]
    fn another_handshake_is_declined() {
        let (mut client, mut records) = shake(suite(false));
        let (_, result, mut answer) = receive(&mut records, &client.record(HANDSHAKE, &[1, 0, 0, 0]));
        assert_eq!(result, Ok(()));
        assert_eq!(client.open(&mut answer), [(ALERT, vec![WARNING, NO_RENEGOTIATION])]);
    }

    #[test]
    fn each_side_ends_by_itself() {
        for is_13 in [false, true] {
            let (mut client, mut records) = shake(suite(is_13));
            let ending =
                [client.record(DATA, b"last"), client.record(ALERT, &[WARNING, CLOSE_NOTIFY])].concat();
            let (data, result, answer) = receive(&mut records, &ending);
            assert_eq!(
                (&data[..], result, answer.len()),
                (&b"last"[..], Err(io::ErrorKind::UnexpectedEof), 0)
            );
            let mut sealed = Vec::new();
            records.write(&[IoSlice::new(b"more")], &mut sealed).expect("it may still write");
            records.close(&mut sealed);
            assert_eq!(
                client.open(&mut sealed),
                [(DATA, b"more".to_vec()), (ALERT, vec![WARNING, CLOSE_NOTIFY])]
            );
        }
    }
}
