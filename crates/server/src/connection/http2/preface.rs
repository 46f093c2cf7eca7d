//! The first bytes of a connection, which say whether it speaks HTTP/2 (RFC 9113, section 3.4).

/// What a client of HTTP/2 sends first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preface {
    /// The connection speaks HTTP/2.
    Http2,
    /// More bytes must come.
    Undecided,
    /// It speaks something else.
    Other,
}

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    Http1,
    Http2,
    /// Its first bytes tell.
    Undecided,
}

/// No method of HTTP/1.1 is named so (RFC 9113, section 11.7), so what begins with this is meant as HTTP/2.
const METHOD: &[u8] = b"PRI ";

impl Preface {
    /// Looks at all bytes that have come.
    pub(crate) fn from_bytes(read: &[u8]) -> Self {
        if read.starts_with(METHOD) {
            Self::Http2
        } else if METHOD.starts_with(read) {
            Self::Undecided
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_few_bytes_as_possible_decide() {
        for length in 0..=PREFACE.len() {
            let expected = if length < 4 { Preface::Undecided } else { Preface::Http2 };
            assert_eq!(Preface::from_bytes(&PREFACE[..length]), expected, "{length}");
        }
        for other in ["G", "PO", "PRX", "POST / HTTP/1.1\r\n", "PRIX", "pri ", "\x16\x03\x01"] {
            assert_eq!(Preface::from_bytes(other.as_bytes()), Preface::Other, "{other}");
        }
    }
}
