//! What a certificate says of itself and rustls does not tell (RFC 5280, section 4.1).
//!
//! Only for certificates that rustls has read: nothing here decides whether one is trusted.

/// A value in DER: its tag, and what is in it.
#[derive(Clone, Copy)]
struct Value<'a> {
    tag: u8,
    content: &'a [u8],
}

/// The extensions that are read, by their object identifiers.
const AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// Tags.
const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const KEY_IDENTIFIER: u8 = 0x80;
const DNS_NAME: u8 = 0x82;

/// The serial number, as its bytes in DER.
pub(crate) fn serial(certificate: &[u8]) -> Option<&[u8]> {
    signed(certificate)?.find(|value| value.tag != VERSION).map(|value| value.content)
}

/// Which key of its issuer has signed it.
pub(crate) fn authority_key(certificate: &[u8]) -> Option<&[u8]> {
    let inner = read(&mut extension(certificate, AUTHORITY_KEY)?)?;
    values(inner.content).find(|value| value.tag == KEY_IDENTIFIER).map(|value| value.content)
}

/// The first name of a host that it is for.
pub(crate) fn name(certificate: &[u8]) -> Option<&str> {
    let inner = read(&mut extension(certificate, NAMES)?)?;
    let name = values(inner.content).find(|value| value.tag == DNS_NAME)?;
    str::from_utf8(name.content).ok()
}

/// What is signed of it, value by value.
fn signed(mut certificate: &[u8]) -> Option<impl Iterator<Item = Value<'_>>> {
    let mut inner = read(&mut certificate)?.content;
    Some(values(read(&mut inner)?.content))
}

fn extension<'a>(certificate: &'a [u8], id: &[u8]) -> Option<&'a [u8]> {
    let mut all = signed(certificate)?.find(|value| value.tag == EXTENSIONS)?.content;
    values(read(&mut all)?.content).find_map(|extension| {
        let mut parts = values(extension.content);
        (parts.next()?.content == id).then_some(())?;
        // Whether it is critical may stand before the value.
        parts.find(|part| part.tag != BOOLEAN).map(|part| part.content)
    })
}

fn values(mut bytes: &[u8]) -> impl Iterator<Item = Value<'_>> {
    std::iter::from_fn(move || read(&mut bytes))
}

/// The value at the beginning. `None`: there is none, or it is not whole.
fn read<'a>(bytes: &mut &'a [u8]) -> Option<Value<'a>> {
    let [tag, first, rest @ ..] = *bytes else { return None };
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            if length.len() > 3 {
                return None;
            }
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(Value { tag: *tag, content })
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyIdMethod, KeyPair, SerialNumber,
    };

    use super::*;

    #[test]
    fn what_a_certificate_says_is_found() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_identifier_method = KeyIdMethod::PreSpecified(vec![9; 20]);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("one");
        let names = ["127.0.0.1", "hub.example", "b.example"].map(str::to_owned);
        let mut params = CertificateParams::new(names).expect("names");
        params.serial_number = Some(SerialNumber::from_slice(&[1, 2, 3, 4]));
        params.use_authority_key_identifier_extension = true;
        let own = params.signed_by(&KeyPair::generate().expect("a key"), &issuer).expect("a certificate");
        let own = own.der();
        assert_eq!(serial(own), Some(&[1, 2, 3, 4][..]));
        assert_eq!(name(own), Some("hub.example"));
        assert_eq!(authority_key(own), Some(&[9; 20][..]));
        for length in 0..own.len() {
            let part = &own[..length];
            assert_eq!((serial(part), name(part), authority_key(part)), (None, None, None), "{length}");
        }
        assert_eq!(name(issuer.der()), None);
    }
}
