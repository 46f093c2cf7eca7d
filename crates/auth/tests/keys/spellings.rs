//! The content of a PEM document in every way in which people write it by mistake.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

/// The digits of a PEM document, line by line.
pub(crate) fn body(pem: &str) -> Vec<&str> {
    pem.lines().filter(|line| !line.contains('-')).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 4648, section 6, with padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digits = |part: &[u8]| {
        let mut group = [0; 8];
        group[3..3 + part.len()].copy_from_slice(part);
        let bits = u64::from_be_bytes(group);
        let digits = (8 * part.len()).div_ceil(5);
        let digit = |at: usize| char::from(ALPHABET[(bits >> (35 - 5 * at)) as usize & 31]);
        (0..8).map(|at| if at < digits { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(5).map(digits).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Every way to write the content of a PEM document, by name.
pub(crate) fn spellings(pem: &str) -> Vec<(&'static str, Vec<u8>)> {
    let lines = body(pem);
    let line = lines.concat();
    let der = STANDARD.decode(&line).expect("base64");
    let percent: String = line.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    let latin1: String = der.iter().map(|byte| char::from(*byte)).collect();
    let spaced: String =
        line.as_bytes().chunks(10).map(|part| format!("{} \t", String::from_utf8_lossy(part))).collect();
    let wrapped = |text: &str| text.as_bytes().chunks(76).collect::<Vec<_>>().join(&b"\n"[..]);
    let of_pem = STANDARD.encode(pem);
    let mut all: Vec<(&'static str, Vec<u8>)> = vec![
        ("base64, its lines", lines.join("\n").into()),
        ("base64, its lines with CRLF", lines.join("\r\n").into()),
        ("base64, one line", line.clone().into()),
        ("base64, without padding", STANDARD_NO_PAD.encode(&der).into()),
        ("base64url", URL_SAFE.encode(&der).into()),
        ("base64url, without padding", URL_SAFE_NO_PAD.encode(&der).into()),
        ("white space around", format!(" \t\n{line}\r\n\n").into()),
        ("white space within", spaced.into()),
        ("a byte order mark", format!("\u{FEFF}{line}").into()),
        ("quotes", format!("\"{line}\"").into()),
        ("bytes as Python shows them", format!("b'{line}'").into()),
        ("written line breaks", lines.join("\\n").into()),
        ("written CRLF", lines.join("\\r\\n").into()),
        ("a line break and quotes", format!("'{}\\n'", lines.join("\\n")).into()),
        ("a data URL", format!("data:application/octet-stream;base64,{line}").into()),
        ("a prefix", format!("base64:{line}").into()),
        ("an assignment", format!("PUBLIC_KEY={line}").into()),
        ("JSON", format!("{{\"x5c\": [\"{line}\"]}}").into()),
        ("YAML", format!("key: |\n  {}\n", lines.join("\n  ")).into()),
        (
            "broken armour",
            format!("----BEGIN PUBLIC KEY----\n{}\n----END PUBLIC KEY----\n", lines.join("\n")).into(),
        ),
        ("words for armour", format!("BEGIN KEY\n{}\nEND KEY", lines.join("\n")).into()),
        ("percent-encoding", percent.into()),
        ("base64 twice", STANDARD.encode(&line).into()),
        ("base64 twice, wrapped", wrapped(&STANDARD.encode(lines.join("\n")))),
        ("base64 three times", STANDARD.encode(STANDARD.encode(&line)).into()),
        ("base64 of hex", STANDARD.encode(hex(&der)).into()),
        ("base64 of the document", of_pem.clone().into()),
        ("base64 of the document, wrapped", wrapped(&of_pem)),
        ("base64url of the document", URL_SAFE_NO_PAD.encode(pem).into()),
        ("base64 of the document twice", STANDARD.encode(&of_pem).into()),
        ("base64 of the document as JSON", STANDARD.encode(format!("{:?}", pem)).into()),
        ("a data URL of the document", format!("data:application/x-pem-file;base64,{of_pem}").into()),
        ("hex", hex(&der).into()),
        ("hex in capitals", hex(&der).to_uppercase().into()),
        ("hex of the document", hex(pem.as_bytes()).into()),
        ("hex of base64", hex(line.as_bytes()).into()),
        ("base32", base32(&der).into()),
        ("base32, small letters, of the document", base32(pem.as_bytes()).to_lowercase().into()),
        ("0x", format!("0x{}", hex(&der)).into()),
        ("DER", der.clone()),
        ("DER and a line break", [&der[..], b"\n"].concat()),
        ("DER as characters", latin1.into()),
        ("UTF-16", utf16(&format!("\u{FEFF}{pem}"))),
        ("UTF-16 without a mark", utf16(&line)),
        ("base64 of UTF-16", STANDARD.encode(utf16(&format!("\u{FEFF}{pem}"))).into()),
    ];
    for (name, start, between) in [
        ("hex with colons", "", ":"),
        ("hex with spaces", "", " "),
        ("escapes", "\\x", "\\x"),
        ("an array", "0x", ", 0x"),
    ] {
        let pairs: Vec<_> = der.iter().map(|byte| format!("{byte:02X}")).collect();
        all.push((name, format!("{start}{}", pairs.join(between)).into()));
    }
    all.push(("an array of decimals", format!("{der:?}").into()));
    all
}
