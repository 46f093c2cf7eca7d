//! The bytes of a public key, from the formats in which keys are exchanged. The crypto library checks them later.

use crate::{
    Algorithm,
    der::{self, BIT_STRING, Element, INTEGER, SEQUENCE},
    pem::Document,
};

/// A public key by its kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// An `RSAPublicKey` in DER (RFC 8017, appendix A.1.1).
    Rsa(Vec<u8>),
    /// A point of a curve, uncompressed (SEC 1, section 2.3.3). Its length tells the curve.
    Point(Vec<u8>),
    /// The 32 bytes of an Ed25519 key (RFC 8032).
    Ed25519(Vec<u8>),
}

/// A curve of RFC 7518, section 6.2.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl PublicKey {
    /// The key in a PEM document. `None`: the document holds no public key that a token can be verified with.
    pub(crate) fn from_document(document: &Document) -> Option<Self> {
        let whole = Element::whole(&document.der, SEQUENCE).filter(|whole| whole.rest.is_empty())?;
        match document.label.as_str() {
            "PUBLIC KEY" => Self::from_subject_public_key_info(whole.content),
            "CERTIFICATE" => Self::from_certificate(whole.content),
            "RSA PUBLIC KEY" => Some(Self::Rsa(document.der.clone())),
            _ => None,
        }
    }

    /// The key in a `SubjectPublicKeyInfo` (RFC 5280, section 4.1), without its tag and length.
    fn from_subject_public_key_info(content: &[u8]) -> Option<Self> {
        let (algorithm, rest) = Element::algorithm(content)?;
        // The first byte counts the unused bits of the last one.
        let [0, key @ ..] = Element::whole(rest, BIT_STRING)?.content else { return None };
        match algorithm {
            RSA => Some(Self::Rsa(key.to_owned())),
            EC => Self::from_point(key.to_owned()),
            ED25519 => Self::from_ed25519(key.to_owned()),
            _ => None,
        }
    }

    /// The key in a `Certificate` (RFC 5280, section 4.1), without its tag and length. Nothing else of the certificate
    /// counts: its operator trusts the key.
    fn from_certificate(content: &[u8]) -> Option<Self> {
        let mut fields = Element::whole(content, SEQUENCE)?.content;
        if let Some(version) = Element::whole(fields, VERSION) {
            fields = version.rest;
        }
        // The serial number, the algorithm, the issuer, the validity and the subject.
        for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
            fields = Element::whole(fields, tag)?.rest;
        }
        Self::from_subject_public_key_info(Element::whole(fields, SEQUENCE)?.content)
    }

    /// An RSA key from its modulus and its exponent, both big-endian.
    pub(crate) fn from_rsa_components(modulus: &[u8], exponent: &[u8]) -> Self {
        Self::Rsa(der::write(SEQUENCE, &[integer(modulus), integer(exponent)].concat()))
    }

    /// A point from its coordinates. `None`: one has not the length that its curve asks for (RFC 7518, section 6.2.1.2).
    pub(crate) fn from_coordinates(curve: Curve, x: &[u8], y: &[u8]) -> Option<Self> {
        let bytes = curve.coordinate_bytes();
        (x.len() == bytes && y.len() == bytes).then(|| Self::Point([&[UNCOMPRESSED], x, y].concat()))
    }

    fn from_point(point: Vec<u8>) -> Option<Self> {
        (point.first() == Some(&UNCOMPRESSED) && curve(&point).is_some()).then_some(Self::Point(point))
    }

    /// An Ed25519 key. `None`: it has not 32 bytes.
    pub(crate) fn from_ed25519(key: Vec<u8>) -> Option<Self> {
        (key.len() == ED25519_BYTES).then_some(Self::Ed25519(key))
    }

    /// The algorithms that take such a key.
    pub(crate) fn algorithms(&self) -> &'static [Algorithm] {
        match self {
            Self::Rsa(_) => Algorithm::RSA,
            Self::Point(point) => match curve(point) {
                Some(Curve::P256) => &[Algorithm::ES256],
                Some(Curve::P384) => &[Algorithm::ES384],
                Some(Curve::P521) => &[Algorithm::ES512],
                None => &[],
            },
            Self::Ed25519(_) => &[Algorithm::EdDSA],
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(bytes) | Self::Point(bytes) | Self::Ed25519(bytes) => bytes,
        }
    }
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The curve of that name in a JWK.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "P-256" => Some(Self::P256),
            "P-384" => Some(Self::P384),
            "P-521" => Some(Self::P521),
            _ => None,
        }
    }

    fn coordinate_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }
}

/// The curve whose uncompressed points have that length.
fn curve(point: &[u8]) -> Option<Curve> {
    Curve::ALL.into_iter().find(|curve| point.len() == 1 + 2 * curve.coordinate_bytes())
}

/// A positive number in DER: as short as possible, with a zero in front where the first bit would be a sign.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    match bytes.first() {
        Some(..0x80) => der::write(INTEGER, bytes),
        _ => der::write(INTEGER, &[&[0], bytes].concat()),
    }
}

/// The first byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;

const ED25519_BYTES: usize = 32;

/// The explicit tag of a certificate's version.
const VERSION: u8 = 0xA0;

/// `rsaEncryption` (RFC 8017), `id-ecPublicKey` (RFC 5480), `id-Ed25519` (RFC 8410).
const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::der::{OBJECT_IDENTIFIER, write};

    fn document(label: &str, der: Vec<u8>) -> Document {
        Document { label: label.to_owned(), der }
    }

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        write(SEQUENCE, &parts.concat())
    }

    fn info(identifier: &[u8], bits: &[u8]) -> Vec<u8> {
        sequence(&[&sequence(&[&write(OBJECT_IDENTIFIER, identifier)]), &write(BIT_STRING, bits)])
    }

    #[test]
    fn a_key_is_read_by_its_algorithm() {
        let key = |identifier: &[u8], bits: &[u8]| {
            PublicKey::from_document(&document("PUBLIC KEY", info(identifier, bits)))
        };
        assert_eq!(key(RSA, &[0, 1, 2]), Some(PublicKey::Rsa(vec![1, 2])));
        let point = |bytes: usize| [&[0, 4][..], &vec![7; bytes - 1]].concat();
        for (bytes, algorithm) in [(65, Algorithm::ES256), (97, Algorithm::ES384), (133, Algorithm::ES512)] {
            let key = key(EC, &point(bytes)).expect("a point");
            assert_eq!((key.algorithms(), key.as_bytes().len()), (&[algorithm][..], bytes));
        }
        assert_eq!((key(EC, &point(64)), key(EC, &point(66))), (None, None));
        assert_eq!(key(EC, &[&[0, 3][..], &[7; 64]].concat()), None, "compressed");
        assert_eq!(key(ED25519, &[0; 33]), Some(PublicKey::Ed25519(vec![0; 32])));
        assert_eq!((key(ED25519, &[0; 32]), key(ED25519, &[0; 34])), (None, None));
        assert_eq!(key(&[0x2B, 0x65, 0x71], &[0; 58]), None, "Ed448");
        assert_eq!(key(RSA, &[1, 1, 2]), None, "unused bits");
    }

    #[test]
    fn a_certificate_is_as_good_as_the_key_in_it() {
        let key = info(ED25519, &[0; 33]);
        let empty = sequence(&[]);
        let fields = [write(INTEGER, &[1]), empty.clone(), empty.clone(), empty.clone(), empty.clone(), key];
        let version = write(VERSION, &write(INTEGER, &[2]));
        let certificate = |version: &[u8], fields: &[Vec<u8>]| {
            let body = sequence(&[version, &fields.concat()]);
            PublicKey::from_document(&document("CERTIFICATE", sequence(&[&body, &empty])))
        };
        let expected = Some(PublicKey::Ed25519(vec![0; 32]));
        assert_eq!(certificate(&version, &fields), expected);
        assert_eq!(certificate(&[], &fields), expected, "of the first version");
        assert_eq!(certificate(&version, &fields[1..]), None);
        assert_eq!(certificate(&version, &fields[..5]), None);
    }

    #[test]
    fn a_document_holds_its_key_and_nothing_else() {
        let key = info(RSA, &[0, 1, 2]);
        assert!(PublicKey::from_document(&document("PUBLIC KEY", key.clone())).is_some());
        assert!(PublicKey::from_document(&document("EC PARAMETERS", key.clone())).is_none());
        assert!(PublicKey::from_document(&document("PUBLIC KEY", [&key[..], &[0]].concat())).is_none());
        assert!(PublicKey::from_document(&document("PUBLIC KEY", key[..key.len() - 1].to_owned())).is_none());
        let rsa = PublicKey::from_document(&document("RSA PUBLIC KEY", key.clone()));
        assert_eq!(rsa, Some(PublicKey::Rsa(key)));
    }

    #[test]
    fn numbers_are_written_as_short_as_possible_and_positive() {
        assert_eq!(integer(&[0, 0, 0x7F]), [INTEGER, 1, 0x7F]);
        assert_eq!(integer(&[0x80]), [INTEGER, 2, 0, 0x80]);
        assert_eq!(integer(&[0]), [INTEGER, 1, 0]);
        assert_eq!(integer(&[]), [INTEGER, 1, 0]);
        let rsa = PublicKey::from_rsa_components(&[1, 2], &[3]);
        assert_eq!(rsa, PublicKey::Rsa(vec![SEQUENCE, 7, INTEGER, 2, 1, 2, INTEGER, 1, 3]));
        assert_eq!(rsa.algorithms(), Algorithm::RSA);
    }
}
