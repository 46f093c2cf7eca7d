//! What the fuzz targets of this crate assert: each function takes any input and panics if a rule does not hold for it.
//!
//! Compiled by `cargo fuzz` and by this crate's tests only, which give the functions the committed corpus.

use petasos_protocol::topic::HubUrl;

use crate::{Dsn, codec, host};

/// A name, which is also that of a folder of the corpus, and what is given its inputs.
pub type Target = (&'static str, fn(&[u8]));

/// All targets of this crate.
pub const TARGETS: &[Target] = &[("dsn", dsn), ("message", message), ("record", record)];

/// Any text is the URL of a log or is refused; nothing that stands before the hosts is shown.
pub fn dsn(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let secret = "Zq7-Xw9.Vb3";
    for text in [text.to_owned(), text.replacen("://", &format!("://user:{secret}@"), 1)] {
        let shown = match text.parse::<Dsn>() {
            Ok(dsn) => {
                let checks = [
                    crate::check(&dsn).err(),
                    dsn.host_list(1).err(),
                    dsn.login().err(),
                    dsn.lease().err(),
                    dsn.name().err(),
                ];
                format!("{dsn:?} {dsn} {checks:?}")
            }
            Err(error) => format!("{error:?} {error}"),
        };
        assert!(!shown.contains(secret) || text.matches(secret).count() > 1, "{shown}");
    }
}

/// Any frame of another process is a message or is refused; a message that is written again is the same one.
pub fn message(input: &[u8]) {
    host::fuzzing::message(input);
}

/// Any record is an update or a subscriber, or damaged; what is written again is read as the same. The checksum is made to
/// fit, since otherwise nearly every input would end there.
pub fn record(input: &[u8]) {
    let hub = HubUrl::default();
    let _ = codec::decode(input, &hub);
    let checksum = crc32fast::hash(input).to_le_bytes();
    let fitting = [&[1], &checksum[..], input].concat();
    if let Ok(update) = codec::decode(&fitting, &hub) {
        let again = codec::encode(&update);
        let update = codec::decode(&again, &hub).expect("its own record");
        assert_eq!(codec::encode(&update), again);
    }
    if let Ok(subscriptions) = codec::decode_subscriber(input) {
        let again = codec::encode_subscriber(&subscriptions);
        let subscriptions = codec::decode_subscriber(again.as_bytes()).expect("its own record");
        assert_eq!(codec::encode_subscriber(&subscriptions), again);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/corpus.rs"]
mod corpus;

#[cfg(test)]
mod tests {
    use super::{TARGETS, corpus::every_input_passes};

    #[test]
    fn every_input_of_the_corpus_passes() {
        every_input_passes(TARGETS);
    }
}
