//! The encodings in which people write keys: base64, hexadecimal, base32, UTF-16, escapes and more.
//!
//! Each function takes a text and returns the bytes that the text stands for. All are lenient: the text may be damaged, and
//! a key must still be recognised in it. `None`: the text has not this form.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Decodes both alphabets, with and without padding. An incomplete group at the end is ignored.
pub(crate) fn from_base64(digits: &[u8]) -> Vec<u8> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const LENIENT: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
    let end = if digits.len() % 4 == 1 { digits.len() - 1 } else { digits.len() };
    let standard = digits[..end].iter().map(|digit| match digit {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    LENIENT.decode(standard.collect::<Vec<_>>()).unwrap_or_default()
}

pub(crate) fn from_hex(digits: &[u8]) -> Option<Vec<u8>> {
    // The shortest key with a structure has 44 bytes.
    if digits.len() < 2 * 32 {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some((value(pair[0])? << 4) | value(pair[1])?)).collect()
}

/// RFC 4648, section 6, in either case and without padding; bits that are left over at the end do not count.
pub(crate) fn from_base32(digits: &[u8]) -> Option<Vec<u8>> {
    // The shortest key with a structure has 44 bytes.
    if digits.len() < 44 * 8 / 5 {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(digits.len() * 5 / 8), 0_u16, 0);
    for digit in digits {
        let value = match digit {
            b'2'..=b'7' => digit - b'2' + 26,
            letter => letter.to_ascii_uppercase().checked_sub(b'A')?,
        };
        bits = (bits << 5) | u16::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// A text in UTF-16, as some shells and editors write files.
pub(crate) fn from_utf16(bytes: &[u8]) -> Option<Vec<u8>> {
    let little = bytes.starts_with(&[0xFF, 0xFE]) || bytes.get(1) == Some(&0);
    let big = bytes.starts_with(&[0xFE, 0xFF]) || bytes.first() == Some(&0);
    if !little && !big {
        return None;
    }
    let units = bytes.chunks_exact(2).map(|pair| {
        let pair = [pair[0], pair[1]];
        if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) }
    });
    let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
    Some(text.trim_start_matches('\u{FEFF}').into())
}

/// Bytes that were read as Latin-1 and stored as UTF-8: a character for each byte.
pub(crate) fn from_latin1(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok().filter(|text| !text.is_ascii())?;
    text.trim_start_matches('\u{FEFF}').chars().map(|c| u8::try_from(u32::from(c)).ok()).collect()
}

pub(crate) fn from_percent(bytes: &[u8]) -> Option<Vec<u8>> {
    unescape(bytes, b'%', |rest| Some((hex_digits(rest, 2)?, 2)))
}

/// The bytes of an array as programs write it: `[0x30, 0x2a]` or `[48, 42]`.
pub(crate) fn from_array(bytes: &[u8]) -> Option<Vec<u8>> {
    let words = bytes.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let byte = |word: &[u8]| {
        let word = str::from_utf8(word).ok()?;
        match word.strip_prefix("0x") {
            Some(digits) => u8::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        }
    };
    let array: Vec<u8> = words.map(byte).skip_while(Option::is_none).map_while(|byte| byte).collect();
    (array.len() > 1).then_some(array)
}

/// Written line breaks and the other escapes of JSON, shells and programming languages.
pub(crate) fn from_escapes(bytes: &[u8]) -> Option<Vec<u8>> {
    unescape(bytes, b'\\', |rest| match rest.first()? {
        b'n' | b'r' | b't' => Some((b'\n', 1)),
        b'x' => Some((hex_digits(&rest[1..], 2)?, 3)),
        b'u' => Some((hex_digits(&rest[1..], 4)?, 5)),
        other => Some((*other, 1)),
    })
}

/// A number below 256 from the first `count` digits.
fn hex_digits(bytes: &[u8], count: usize) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(bytes.get(..count)?).ok()?, 16).ok()
}

/// Replaces escapes, which begin with `mark`; `read` returns a byte and the length of its escape. `None`: there are
/// none.
fn unescape(bytes: &[u8], mark: u8, read: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Option<Vec<u8>> {
    let (mut out, mut at, mut any) = (Vec::new(), 0, false);
    while at < bytes.len() {
        let escape = if bytes[at] == mark { read(&bytes[at + 1..]) } else { None };
        let (byte, length) = escape.unwrap_or((bytes[at], 0));
        any |= escape.is_some();
        out.push(byte);
        at += 1 + length;
    }
    any.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_two_alphabets_and_may_be_cut_off() {
        for digits in ["-_8A", "+/8A", "-_8=", "-_8", "-_8AB"] {
            assert!(from_base64(digits.as_bytes()).starts_with(&[0xFB, 0xFF]), "{digits}");
        }
        assert_eq!(from_base64(b"AAECAwQ"), [0, 1, 2, 3, 4]);
        assert_eq!(from_base64(b"AAECA"), [0, 1, 2]);
    }

    #[test]
    fn hexadecimal_digits_are_as_many_as_the_shortest_key_has() {
        assert_eq!(from_hex(&[b'0'; 63]), None);
        assert_eq!(from_hex(&[b'0'; 64]), Some(vec![0; 32]));
        assert_eq!(from_hex("fA".repeat(32).as_bytes()), Some(vec![0xFA; 32]));
        assert_eq!(from_hex("0g".repeat(32).as_bytes()), None);
    }

    #[test]
    fn base32_digits_are_as_many_as_the_shortest_key_has() {
        assert_eq!(from_base32(&[b'A'; 69]), None);
        assert_eq!(from_base32(&[b'A'; 70]), Some(vec![0; 43]));
        // RFC 4648, section 10: "foobar".
        let digits = format!("MZXW6YTBOI{}", "A".repeat(62));
        for digits in [digits.to_lowercase(), digits] {
            let bytes = from_base32(digits.as_bytes()).expect("long enough");
            assert_eq!((&bytes[..6], bytes.len()), (&b"foobar"[..], 45));
        }
        assert_eq!(from_base32("1".repeat(80).as_bytes()), None);
        assert_eq!(from_base32("7".repeat(80).as_bytes()), Some(vec![0xFF; 50]));
    }

    #[test]
    fn utf16_has_two_orders_of_bytes_with_and_without_a_mark() {
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
        for text in ["kty", "\u{FEFF}kty"] {
            for bytes in [little(text), big(text)] {
                assert_eq!(from_utf16(&bytes).as_deref(), Some(&b"kty"[..]), "{bytes:?}");
            }
        }
        assert_eq!(from_utf16(&little("\u{FEFF}\u{E9}")).as_deref(), Some("\u{E9}".as_bytes()));
        assert_eq!(from_utf16(&big("\u{FEFF}\u{E9}")).as_deref(), Some("\u{E9}".as_bytes()));
        assert_eq!(from_utf16(b"kty"), None);
        assert_eq!(from_utf16(b""), None);
    }

    #[test]
    fn latin1_in_utf8_is_a_byte_for_each_character() {
        assert_eq!(from_latin1("0\u{82}\u{FF}".as_bytes()), Some(vec![b'0', 0x82, 0xFF]));
        assert_eq!(from_latin1("\u{FEFF}\u{E9}".as_bytes()), Some(vec![0xE9]));
        assert_eq!(from_latin1("\u{100}".as_bytes()), None);
        assert_eq!(from_latin1(b"ascii"), None);
        assert_eq!(from_latin1(&[0xFF]), None);
    }

    #[test]
    fn escapes_are_replaced() {
        assert_eq!(from_percent(b"a%2Bb%zz%2").as_deref(), Some(&b"a+b%zz%2"[..]));
        assert_eq!(from_percent(b"100 %"), None);
        assert_eq!(from_escapes(br#"\n\r\t\x41\u0042\"\/"#).as_deref(), Some(&b"\n\n\nAB\"/"[..]),);
        assert_eq!(from_escapes(br"\x4\u004").as_deref(), None);
        assert_eq!(from_escapes(br"\u0100").as_deref(), None, "not a byte");
        assert_eq!(from_escapes(b"plain"), None);
    }

    #[test]
    fn arrays_of_programs_are_bytes() {
        assert_eq!(from_array(b"[0x30, 0x2a, 255]"), Some(vec![0x30, 0x2A, 255]));
        assert_eq!(from_array(b"key = {48, 42};"), Some(vec![48, 42]));
        assert_eq!(from_array(b"48 42 256 7"), Some(vec![48, 42]));
        assert_eq!(from_array(b"[48]"), None);
        assert_eq!(from_array(b"no numbers"), None);
    }
}
