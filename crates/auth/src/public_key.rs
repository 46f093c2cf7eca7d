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
