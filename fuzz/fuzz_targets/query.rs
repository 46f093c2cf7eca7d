//! See `petasos_protocol::fuzzing::query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_protocol::fuzzing::query(input));
