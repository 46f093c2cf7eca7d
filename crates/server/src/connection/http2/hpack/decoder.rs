//! Reads heads (RFC 7541, section 6).

use super::{
    dynamic_table::Table,
    huffman::{self, Malformed},
};

/// Reads the heads of one peer, each in its turn.
pub(crate) struct Decoder {
    table: Table,
}

/// The text of a string.
enum Text<'a> {
    Plain(&'a [u8]),
    Decoded(Vec<u8>),
}

impl Text<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Decoded(bytes) => bytes,
        }
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new() }
    }

    /// Reads a whole head, and gives away the name and the value of each field.
    ///
    /// # Errors
    /// If it breaks the rules of its compression.
    pub(crate) fn decode(
        &mut self,
        mut head: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        let mut is_first = true;
        while let [first, ..] = *head {
            if first & 0x80 != 0 {
                let (name, value) = self.table.get(integer(&mut head, 7)?).ok_or(Malformed)?;
                field(name, value);
            } else if first & 0xe0 == 0x20 {
                if !is_first || !self.table.set_max(integer(&mut head, 5)?) {
                    return Err(Malformed);
                }
                // There may be two of them.
                continue;
            } else {
                let is_added = first & 0x40 != 0;
                let index = integer(&mut head, if is_added { 6 } else { 4 })?;
                let name = match index {
                    0 => string(&mut head)?,
                    _ => Text::Decoded(self.table.get(index).ok_or(Malformed)?.0.to_vec()),
                };
                let value = string(&mut head)?;
                field(name.bytes(), value.bytes());
                if is_added {
                    self.table.add(name.bytes(), value.bytes());
                }
            }
            is_first = false;
        }
        Ok(())
    }
}

/// Takes a number whose first byte has so many bits of it (RFC 7541, section 5.1).
fn integer(head: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let prefix = (1_u8 << bits) - 1;
    let first = take(head)? & prefix;
    let mut number = usize::from(first);
    if first < prefix {
        return Ok(number);
    }
    // Nothing here needs more: 268 million.
    for shift in [0, 7, 14, 21] {
        let byte = take(head)?;
        number += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

/// Takes a string (RFC 7541, section 5.2).
fn string<'a>(head: &mut &'a [u8]) -> Result<Text<'a>, Malformed> {
    let is_coded = head.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(head, 7)?;
    let (text, rest) = head.split_at_checked(length).ok_or(Malformed)?;
    *head = rest;
    if !is_coded {
        return Ok(Text::Plain(text));
    }
    let mut decoded = Vec::with_capacity(length * 8 / 5);
    huffman::decode(text, &mut decoded)?;
    Ok(Text::Decoded(decoded))
}

fn take(head: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = head.split_first().ok_or(Malformed)?;
    *head = rest;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<_> = text.bytes().filter(|byte| *byte != b' ').collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex");
        digits.chunks(2).map(byte).collect()
    }

    fn read(decoder: &mut Decoder, head: &[u8]) -> Result<String, Malformed> {
        let mut text = String::new();
        let field = |name: &[u8], value: &[u8]| {
            text.push_str(&format!("{}: {}\n", name.escape_ascii(), value.escape_ascii()));
        };
        decoder.decode(head, field)?;
        Ok(text)
    }

    /// RFC 7541, appendix C.3 and C.4: three requests on one connection, without and with the code of strings.
    #[test]
    fn the_requests_of_the_specification() {
        let first = ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n";
        let second = format!("{first}cache-control: no-cache\n");
        let third = ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value\n";
        for heads in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let mut decoder = Decoder::new();
            for (head, expected) in heads.iter().zip([first, &second, third]) {
                assert_eq!(read(&mut decoder, &hex(head)).expect("a head"), expected);
            }
        }
    }

    #[test]
    fn older_fields_make_room_and_a_field_that_is_too_large_empties_the_table() {
        let mut decoder = Decoder::new();
        // A table of 100 bytes holds two of these.
        let add = |name: &str| [&[0x40, 1][..], name.as_bytes(), &[1, b'v']].concat();
        read(&mut decoder, &[&[0x3f, 69][..], &add("a"), &add("b"), &add("c")].concat()).expect("a head");
        assert_eq!(read(&mut decoder, &[0xbe, 0xbf]), Ok("c: v\nb: v\n".to_owned()));
        assert_eq!(read(&mut decoder, &[0xc0]), Err(Malformed));
        let large = [&[0x40, 1, b'l', 90][..], &[b'x'; 90]].concat();
        read(&mut decoder, &large).expect("a head");
        assert_eq!(read(&mut decoder, &[0xbe]), Err(Malformed));
    }

    #[test]
    fn a_head_that_breaks_rules_is_refused() {
        for broken in [
            // Numbers that nothing has; one that does not end, and one without bounds.
            &[0x80][..],
            &[0xbe],
            &[0xff],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
            // Strings that are longer than what has come.
            &[0x00, 3, b'a', b'b'],
            &[0x00, 1, b'a', 5, b'b'],
            &[0x00, 1, b'a'],
            &[0x40],
            // A code of strings that breaks off.
            &[0x00, 0x81, 0xff, 1, b'a'],
            // A table that is too large, and a change that comes late.
            &[0x3f, 0xe2, 0x1f],
            &[0x82, 0x20],
        ] {
            assert_eq!(read(&mut Decoder::new(), broken), Err(Malformed), "{broken:?}");
        }
        assert_eq!(
            read(&mut Decoder::new(), &[0x20, 0x3f, 0xe1, 0x1f, 0x82]),
            Ok(":method: GET\n".to_owned())
        );
    }
}
