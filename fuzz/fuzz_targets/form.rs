//! Any body is a publish request within its limits, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use petasos_protocol::{Limits, request, topic::HubUrl};

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    if let Ok(draft) = request::publish(body, &HubUrl::default(), &limits) {
        assert!((1..=limits.topics_max).contains(&draft.topics.iter().len()));
        assert!(draft.topics.iter().all(|topic| topic.as_str().len() <= limits.topic_bytes_max));
        assert!(draft.id.is_none_or(|id| !id.as_str().starts_with('#') && id.as_str() != "earliest"));
    }
});
