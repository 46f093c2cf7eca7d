//! The code of strings (RFC 7541, section 5.2 and appendix B).
//!
//! It is canonical: codes of one length follow each other in the order of their symbols, and shorter codes come first. So
//! the lengths say everything.

/// The length of each symbol's code, in bits. The last symbol is the end of a string, which stands in none.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const SYMBOLS: usize = 257;
const END: u16 = 256;
const SHORTEST: usize = 5;
const LONGEST: usize = 30;

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    /// The first code after them, with zeros behind it up to 32 bits.
    end: u64,
    /// The first of them, without zeros.
    first: u32,
    /// Where their symbols begin in the order of codes.
    at: u16,
}

/// By their length.
static GROUPS: [Group; LONGEST + 1] = groups();

/// In the order of their codes.
static ORDER: [u16; SYMBOLS] = order();

const fn order() -> [u16; SYMBOLS] {
    let (mut order, mut count, mut length) = ([0; SYMBOLS], 0, SHORTEST);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                order[count] = symbol as u16;
                count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    order
}

const fn groups() -> [Group; LONGEST + 1] {
    let mut groups = [Group { end: 0, first: 0, at: 0 }; LONGEST + 1];
    let (mut code, mut at, mut length) = (0_u32, 0, SHORTEST);
    while length <= LONGEST {
        let (first, mut symbol, mut count) = (code, 0, 0);
        while symbol < SYMBOLS {
            count += (LENGTHS[symbol] as usize == length) as u32;
            symbol += 1;
        }
        code += count;
        groups[length] = Group { end: (code as u64) << (32 - length), first, at };
        at += count as u16;
        code <<= 1;
        length += 1;
    }
    groups
}

/// What breaks the rules of the compression. Its state is lost then, and the connection with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Appends what a string stands for. That is at most 8/5 of its length.
///
/// # Errors
/// If it has the symbol of its end, or ends with anything else than less than a byte of ones.
pub(super) fn decode(string: &[u8], decoded: &mut Vec<u8>) -> Result<(), Malformed> {
    // The next bits, from the highest one on.
    let (mut bits, mut count) = (0_u64, 0_usize);
    let mut rest = string.iter();
    loop {
        while count <= 32
            && let Some(byte) = rest.next()
        {
            bits |= u64::from(*byte) << (56 - count);
            count += 8;
        }
        // Ones stand for what is not there: no code but that of the end begins with as many as fill a byte.
        let ahead = (bits | u64::MAX.checked_shr(count as u32).unwrap_or(0)) >> 32;
        let found = (SHORTEST..=LONGEST).find(|length| ahead < GROUPS[*length].end).ok_or(Malformed)?;
        if found > count {
            let is_padding = count < 8 && bits == !u64::MAX.checked_shr(count as u32).unwrap_or(0);
            return if is_padding { Ok(()) } else { Err(Malformed) };
        }
        let Group { first, at, .. } = GROUPS[found];
        let symbol = ORDER[usize::from(at) + ((ahead >> (32 - found)) as u32 - first) as usize];
        if symbol == END {
            return Err(Malformed);
        }
        decoded.push(symbol as u8);
        bits <<= found;
        count -= found;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(string: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut all = Vec::new();
        decode(string, &mut all).map(|()| all)
    }

    /// As an encoder does it.
    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let place = ORDER.iter().position(|symbol| *symbol == u16::from(*byte)).expect("a symbol");
            let code = GROUPS[length].first as usize + place - usize::from(GROUPS[length].at);
            bits.extend((0..length).rev().map(|bit| (code >> bit & 1) as u8));
        }
        bits.resize(bits.len().next_multiple_of(8), 1);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
    }

    /// RFC 7541, appendix C.4 and C.6.
    #[test]
    fn the_examples_of_the_specification() {
        for (string, expected) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x64, 0x02], "302"),
            (
                &[
                    0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82, 0xae,
                    0x43, 0xd3,
                ],
                "https://www.example.com",
            ),
            (&[], ""),
        ] {
            assert_eq!(decoded(string).expect("a string"), expected.as_bytes());
            assert_eq!(encoded(expected.as_bytes()), string);
        }
    }

    #[test]
    fn every_symbol_has_a_code_and_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decoded(&encoded(&all)).expect("a string"), all);
        for symbol in 0..=255 {
            assert_eq!(decoded(&encoded(&[symbol])).expect("a string"), [symbol]);
        }
        assert_eq!(GROUPS[LONGEST].end, 1 << 32, "no code is left over");
    }

    #[test]
    fn a_string_ends_with_less_than_a_byte_of_ones() {
        // "0" has five bits of zeros.
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        for broken in
            [&[0b0000_0110][..], &[0b0000_0000], &[0b0000_0111, 0xff], &[0xff], &[0xff; 4], &[0xff, 0xfe]]
        {
            assert_eq!(decoded(broken), Err(Malformed), "{broken:?}");
        }
    }
}
