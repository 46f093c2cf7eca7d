//! Any query is a subscribe request of one dialect within its limits, or refused; without compat, it is 1.0.
#![no_main]

use libfuzzer_sys::fuzz_target;
use petasos_protocol::{Dialect, Limits, request::{Form, Part, SubscribeRequest}, topic::HubUrl};

fuzz_target!(|query: &[u8]| {
    let limits = Limits::default();
    let Ok(form) = Form::parse(query, Part::Query, &limits) else { return };
    for compat in [false, true] {
        let Ok(request) = SubscribeRequest::parse(&form, &[], compat, &HubUrl::default(), &limits) else {
            continue;
        };
        assert!(compat || request.dialect == Dialect::V1);
        assert!((1..=limits.matchers_max).contains(&request.matchers.len()));
        for matcher in &request.matchers {
            assert!(!matcher.as_str().chars().any(char::is_control));
            assert!(matcher.matcher_type().is_some() || request.dialect == Dialect::Legacy);
        }
    }
});
