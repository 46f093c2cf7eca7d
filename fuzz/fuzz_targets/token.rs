//! Any token and any claims are read or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use petasos_protocol::{Limits, legacy, token::{Claims, Unverified, details}, topic::HubUrl};

fuzz_target!(|input: &[u8]| {
    let limits = Limits::default();
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(token) = Unverified::parse(text, &limits)
    {
        let _ = (token.claimed_issuer(), token.key_id(), token.require_access_token());
        let _ = token.verify(|_, _| Ok(()));
    }
    let Ok(claims) = Claims::from_json(input) else { return };
    let _ = claims.check_lifetime(1e9);
    let _ = claims.check_party("https://a.example", "https://hub.example/m");
    let _ = legacy::grants(&claims, true, &limits);
    if let Ok(grants) = details::grants(&claims, &HubUrl::default(), &limits) {
        assert!(grants.publish.len().max(grants.subscribe.len()) <= limits.token_matchers_max);
    }
});
