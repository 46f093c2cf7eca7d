//! Elements of DER (X.690): one is read or written at a time.

/// One element. Its content may be cut off.
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// The number of bytes of the content that are cut off.
    pub(crate) missing: usize,
    /// The bytes behind the element.
    pub(crate) rest: &'a [u8],
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

impl<'a> Element<'a> {
    /// The element that the bytes begin with. Its content has fewer than 2^24 bytes.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (tag, length, rest) = match bytes {
            [tag, length @ ..=0x7F, rest @ ..] => (*tag, usize::from(*length), rest),
            [tag, 0x81, length, rest @ ..] => (*tag, usize::from(*length), rest),
            [tag, 0x82, high, low, rest @ ..] => (*tag, usize::from(u16::from_be_bytes([*high, *low])), rest),
            [tag, 0x83, high, middle, low, rest @ ..] => {
                (*tag, u32::from_be_bytes([0, *high, *middle, *low]) as usize, rest)
            }
            _ => return None,
        };
        let there = length.min(rest.len());
        Some(Self { tag, content: &rest[..there], missing: length - there, rest: &rest[there..] })
    }

    /// The same, if the element has that tag.
    pub(crate) fn tagged(bytes: &'a [u8], tag: u8) -> Option<Self> {
        Self::read(bytes).filter(|element| element.tag == tag)
    }

    /// The same, if nothing of the element is cut off.
    pub(crate) fn whole(bytes: &'a [u8], tag: u8) -> Option<Self> {
        Self::tagged(bytes, tag).filter(|element| element.missing == 0)
    }

    /// The identifier that an `AlgorithmIdentifier` (RFC 5280, section 4.1.1.2) begins with, and the bytes behind the
    /// `AlgorithmIdentifier`.
    pub(crate) fn algorithm(bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let sequence = Self::tagged(bytes, SEQUENCE)?;
        let identifier = Self::tagged(sequence.content, OBJECT_IDENTIFIER)?;
        Some((identifier.content, sequence.rest))
    }
}

/// Writes an element.
pub(crate) fn write(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut element = vec![tag];
    match length {
        [] => element.push(0),
        [short @ ..=0x7F] => element.push(*short),
        long => {
            // At most eight bytes.
            element.push(0x80 | long.len() as u8);
            element.extend_from_slice(long);
        }
    }
    element.extend_from_slice(content);
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_all_lengths_are_written_and_read() {
        for length in [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x1_0000] {
            let content = vec![7; length];
            let mut bytes = write(OCTET_STRING, &content);
            bytes.push(9);
            let element = Element::whole(&bytes, OCTET_STRING).expect("whole");
            assert_eq!((element.content, element.rest), (&content[..], &[9][..]), "{length}");
            assert!(Element::whole(&bytes, SEQUENCE).is_none());
            if length > 0 {
                let cut = &bytes[..bytes.len() - 2];
                assert_eq!(Element::read(cut).expect("its beginning").missing, 1, "{length}");
                assert!(Element::whole(cut, OCTET_STRING).is_none());
            }
        }
        assert_eq!(write(INTEGER, &[1; 0x80])[..3], [INTEGER, 0x81, 0x80]);
        assert_eq!(write(INTEGER, &[1; 0x100])[..4], [INTEGER, 0x82, 1, 0]);
    }

    #[test]
    fn what_has_no_length_is_no_element() {
        for bytes in
            [&[][..], &[SEQUENCE], &[SEQUENCE, 0x80], &[SEQUENCE, 0x81], &[SEQUENCE, 0x84, 0, 0, 0, 1, 0]]
        {
            assert!(Element::read(bytes).is_none(), "{bytes:?}");
        }
    }
}
