//! PEM documents (RFC 7468), read leniently: their line breaks may be lost or written `\n`, as happens in environment
//! variables. This file knows the encoding. What a document holds is decided elsewhere.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::key_form::holds;

/// A document: its label, such as `PUBLIC KEY`, and its content.
pub(crate) struct Document {
    pub(crate) label: String,
    pub(crate) der: Vec<u8>,
}

/// A text that begins a document and does not end it, or whose content is no base64.
#[derive(Debug)]
pub(crate) struct Malformed;

/// The first document in a text. Text in front of it is an explanation (RFC 7468, section 2). `None`: the text holds no
/// document.
pub(crate) fn find(text: &[u8]) -> Option<Result<Document, Malformed>> {
    let start = position(text, BEGIN.trim_ascii_end())?;
    Some(read(&text[start..]).ok_or(Malformed))
}

/// Whether a text holds a private key in PEM, as it is or encrypted.
pub(crate) fn holds_private_key(text: &[u8]) -> bool {
    holds(text, PRIVATE)
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// How the labels of all private keys end.
const PRIVATE: &[u8] = b"PRIVATE KEY-----";

/// The document that a text begins with.
fn read(text: &[u8]) -> Option<Document> {
    let (label, rest) = split(text.strip_prefix(BEGIN)?, b"-----")?;
    let (body, _) = split(rest, &[b"-----END ", label, b"-----"].concat())?;
    let mut digits = Vec::with_capacity(body.len());
    let mut escaped = false;
    for byte in body {
        match byte {
            b'\\' => escaped = true,
            b'n' | b'r' | b't' if escaped => escaped = false,
            b'"' | b'\'' => {}
            byte if byte.is_ascii_whitespace() => {}
            byte => {
                escaped = false;
                digits.push(*byte);
            }
        }
    }
    let label = str::from_utf8(label).ok()?.to_owned();
    Some(Document { label, der: STANDARD.decode(digits).ok()? })
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let position = position(text, at)?;
    Some((&text[..position], &text[position + at.len()..]))
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_document_is_found_behind_an_explanation() {
        let text = b"Bag Attributes\n-----BEGIN A B-----\nAAEC\nAw==\n-----END A B-----\n-----BEGIN C-----\n";
        let document = find(text).expect("a document").expect("a whole one");
        assert_eq!((document.label.as_str(), document.der.as_slice()), ("A B", &[0, 1, 2, 3][..]));
    }

    #[test]
    fn line_breaks_may_be_written_or_lost() {
        for body in ["AAEC\r\nAw==", "AAECAw==", r"\nAAEC\nAw==\n", r"\\r\\nAAEC\\tAw==", "\" AAEC' Aw=="] {
            let text = format!("-----BEGIN X-----{body}-----END X-----");
            let document = find(text.as_bytes()).expect(body).expect(body);
            assert_eq!(document.der, [0, 1, 2, 3], "{body}");
        }
        // A digit that an escape ends with is a digit where there is no escape.
        let document =
            find(b"-----BEGIN X-----\\nnrtA\\\\A\\nAAA-----END X-----").expect("there").expect("whole");
        assert_eq!(document.der, STANDARD.decode("nrtAAAAA").expect("base64"));
    }

    #[test]
    fn broken_documents_are_malformed_and_other_texts_are_none() {
        for text in [
            "-----BEGIN",
            "-----BEGINX-----AAEC-----END X-----",
            "-----BEGIN X",
            "-----BEGIN X-----AAEC",
            "-----BEGIN X-----AAEC-----END Y-----",
            "-----BEGIN X-----AA=C-----END X-----",
            "-----BEGIN X-----AAE-----END X-----",
            "-----BEGIN X-----A: b-----END X-----",
        ] {
            assert!(matches!(find(text.as_bytes()), Some(Err(Malformed))), "{text}");
        }
        for text in ["", "----BEGIN X-----", "a secret", "-----END X-----"] {
            assert!(find(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn private_keys_are_known_by_their_labels() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert!(holds_private_key(format!("x-----BEGIN {label}-----").as_bytes()), "{label}");
        }
        assert!(!holds_private_key(b"-----BEGIN PUBLIC KEY-----") && !holds_private_key(b"PRIVATE KEY----"));
    }
}
