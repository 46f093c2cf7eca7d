//! See `petasos_protocol::fuzzing::matcher`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| petasos_protocol::fuzzing::matcher(input));
