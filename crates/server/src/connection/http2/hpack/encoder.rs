//! Writes heads that refer to no earlier ones (RFC 7541, section 6).

use super::static_table;

/// Appends the word that nothing will refer to earlier heads. A peer that allows less of that than the protocol by itself
/// waits for a word (RFC 7541, section 4.2).
pub(crate) fn empty_dynamic_table(head: &mut Vec<u8>) {
    head.push(0x20);
}

/// Appends a field. Its name is in lower case.
pub(crate) fn field(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    match static_table::find(name, value) {
        Some((index, true)) => return integer(head, 0x80, 7, index),
        Some((index, false)) => integer(head, 0, 4, index),
        None => {
            head.push(0);
            string(head, name.as_bytes());
        }
    }
    string(head, value);
}

fn string(head: &mut Vec<u8>, text: &[u8]) {
    integer(head, 0, 7, text.len());
    head.extend_from_slice(text);
}

/// Appends a number whose first byte has so many bits of it (RFC 7541, section 5.1).
fn integer(head: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let prefix = (1 << bits) - 1;
    if number < prefix {
        head.push(first | number as u8);
        return;
    }
    head.push(first | prefix as u8);
    let mut rest = number - prefix;
    while rest > 0x7f {
        head.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    head.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::{super::decoder::Decoder, *};

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let long = "x".repeat(40_000);
        let fields = [
            (":status", "200"),
            (":status", "500"),
            (":status", "431"),
            ("content-type", "text/event-stream"),
            ("last-event-id", "urn:uuid:1"),
            ("vary", ""),
            ("link", &long),
            (&long[..300], "y"),
        ];
        let mut head = Vec::new();
        empty_dynamic_table(&mut head);
        for (name, value) in fields {
            field(&mut head, name, value.as_bytes());
        }
        assert_eq!(head[..4], [0x20, 0x88, 0x8e, 0x08], "one byte for what has an index");
        let mut read = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        Decoder::new().decode(&head, |name, value| read.push((text(name), text(value)))).expect("a head");
        let expected: Vec<_> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(read, expected);
    }
}
