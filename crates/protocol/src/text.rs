//! The characters that topics, matchers, ids and types must not hold (section "Terminology"): C0, C1, DEL, and the Unicode
//! general category Cf. The characters of Cf are invisible, so one identifier could look like another.

use crate::Reject;

/// Refuses `value` if it holds a forbidden character; `field` is for the message.
pub(crate) fn check(field: &'static str, value: &str) -> Result<(), Reject> {
    match value.chars().find(|c| is_forbidden(*c)) {
        Some(c) => Err(Reject::CharacterForbidden { field, code: c as u32 }),
        None => Ok(()),
    }
}

fn is_forbidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    // char::is_control is the category Cc: C0, DEL and C1.
    c.is_control() || is_format(c)
}

fn is_format(c: char) -> bool {
    let code = c as u32;
    let after = FORMAT_RANGES.partition_point(|(_, last)| *last < code);
    FORMAT_RANGES.get(after).is_some_and(|(first, _)| *first <= code)
}

/// General category Cf, Unicode 17: 170 code points. A test compares it with icu_properties.
const FORMAT_RANGES: [(u32, u32); 21] = [
    (0x00AD, 0x00AD),
    (0x0600, 0x0605),
    (0x061C, 0x061C),
    (0x06DD, 0x06DD),
    (0x070F, 0x070F),
    (0x0890, 0x0891),
    (0x08E2, 0x08E2),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0001, 0xE0001),
    (0xE0020, 0xE007F),
];

#[cfg(test)]
mod tests {
    use icu_properties::{CodePointMapData, props::GeneralCategory};

    #[test]
    fn format_table_is_the_unicode_category_cf() {
        let categories = CodePointMapData::<GeneralCategory>::new();
        for c in '\0'..=char::MAX {
            let expected = categories.get(c) == GeneralCategory::Format;
            assert_eq!(super::is_format(c), expected, "U+{:04X}", c as u32);
        }
    }

    #[test]
    fn controls_are_forbidden_and_text_is_not() {
        for c in ['\0', '\t', '\n', '\r', '\u{7f}', '\u{80}', '\u{9f}', '\u{200b}', '\u{202e}', '\u{feff}'] {
            assert!(super::check("topic", &format!("a{c}b")).is_err(), "U+{:04X}", c as u32);
        }
        assert_eq!(super::check("topic", "https://example.com/é/日本/😀?a=b#c d"), Ok(()));
    }
}
