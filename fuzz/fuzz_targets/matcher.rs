//! Matcher and topic on two lines: whatever parses can be asked about whatever topic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use petasos_protocol::{
    Limits,
    matcher::{Matcher, MatcherType},
    topic::{HubUrl, Topic},
};

fuzz_target!(|input: &str| {
    let (text, topic) = input.split_once('\n').unwrap_or((input, "https://example.com/a"));
    let (hub, limits) = (HubUrl::default(), Limits::default());
    let asked = Topic::unchecked(topic, &hub);
    let itself = Topic::unchecked(text, &hub);
    if let Ok(selector) = Matcher::selector(text, &limits) {
        assert!(selector.matches(&itself));
        selector.matches(&asked);
    }
    if let Ok(exact) = Matcher::parse(MatcherType::Exact, text, &hub, &limits) {
        assert_eq!(exact.matches(&asked), text == "*" || text == topic);
    }
    if let Ok(pattern) = Matcher::parse(MatcherType::UrlPattern, text, &hub, &limits) {
        // What is no URL reference is matched by nothing but the wildcard.
        assert!(!pattern.matches(&asked) || text == "*" || asked.url().is_some());
    }
});
