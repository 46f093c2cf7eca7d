//! No accepted topic lies in the hub's namespace by a second, naive reading of its path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use petasos_protocol::{
    Limits,
    topic::{HubUrl, Topic},
};

fuzz_target!(|text: &str| {
    let hub = HubUrl::default();
    let Ok(topic) = Topic::parse(text, &hub, &Limits::default()) else { return };
    assert_ne!(text, "*");
    assert!(!text.chars().any(char::is_control));
    let Some(url) = topic.url() else { return };
    let path = decode(url.path());
    let reserved = path == hub.path() || path.starts_with(&format!("{}/", hub.path()));
    assert!(!reserved, "{path}");
});

/// Decodes, in one pass, the octets that may stand unescaped anywhere.
fn decode(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let octet = tail.get(..2).and_then(|digits| {
            let hex = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| hex && *first == b'%')?;
            u8::from_str_radix(text, 16).ok()
        });
        match octet {
            Some(octet) if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) => {
                decoded.push(octet);
                rest = &rest[3..];
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).expect("ASCII was decoded")
}
