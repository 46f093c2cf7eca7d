//! See `petasos_auth::fuzzing::key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_auth::fuzzing::key(input));
